"""A stream or a conversation that another thread closes, at each line in turn that the reading thread runs."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers import PATIENCE, make_endpoint

import smendpoint
from smendpoint import CallHooks, CallInfo, Conversation, Endpoint, Stream
from smendpoint.emulator import Emulator
from smendpoint.emulator.models import ModelConversation
from smendpoint.errors import StreamError
from smendpoint.handlers import BytesHandler

pytestmark = pytest.mark.usefixtures("bare_environment")

PACKAGE = Path(smendpoint.__file__).parent
# The code that two threads share: what the others do is between calls of these, or not visible outside.
SHARED = tuple(str(PACKAGE / name) for name in ("_calls", "_transport"))
# A reader may hold the lock that closing needs. So long does it wait for another thread that closes, in seconds.
MOMENT = 0.002


class Ends(CallHooks):
    """Counts the calls that have begun and not ended."""

    def __init__(self) -> None:
        self.open = 0

    def call_started(self, call: CallInfo) -> None:
        self.open += 1

    def call_finished(self, call: CallInfo, error: BaseException | None) -> None:
        self.open -= 1


class Closer:
    """Runs an operation in a thread, and closes from another one just before the n-th line."""

    def __init__(self, number: int, close: Callable[[], object]) -> None:
        self.left = number
        self.closing = threading.Thread(target=self._closing)
        self.closed = False
        self.outcome: Any = None
        self._close = close

    def _closing(self) -> None:
        self._close()
        self.closed = True

    def _trace(self, frame: Any, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(SHARED):
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                self.closing.start()
                self.closing.join(MOMENT)
        return self._trace

    def during(self, operation: Callable[[], object]) -> bool:
        """Whether it closed during the operation, whose outcome is then in `outcome`."""
        thread = threading.Thread(target=self._run, args=[operation])
        thread.start()
        thread.join(PATIENCE)
        if self.left > 0:
            return False
        self.closing.join(PATIENCE)
        assert self.closed
        return True

    def _run(self, operation: Callable[[], object]) -> None:
        sys.settrace(self._trace)
        try:
            self.outcome = operation()
        except BaseException as error:
            self.outcome = error
        finally:
            sys.settrace(None)


async def echo(conversation: ModelConversation) -> None:
    async for part in conversation:
        await conversation.send(part.data)


def new_stream(endpoint: Endpoint[Any, Any, Any]) -> tuple[Stream[Any], Callable[[], object]]:
    stream = endpoint.stream(b"Hello")
    return stream, lambda: b"".join(stream)


def new_conversation(endpoint: Endpoint[Any, Any, Any]) -> tuple[Conversation, Callable[[], object]]:
    conversation = endpoint.converse()

    def talk() -> bytes:
        conversation.send(b"Hello Hello")
        conversation.end_input()
        return b"".join(part.data for part in conversation)

    return conversation, talk


@pytest.mark.parametrize(
    ("new", "model"),
    [(new_stream, lambda request: [request.body, b" ", request.body]), (new_conversation, echo)],
    ids=["stream", "conversation"],
)
def test_a_close_at_any_line_of_the_reader_is_an_end_and_leaves_nothing_behind(new: Any, model: Any) -> None:
    hooks = Ends()
    with Emulator(model) as emulator:
        with make_endpoint(emulator.url, content_handler=BytesHandler(), hooks=hooks) as endpoint:
            for number in itertools.count(1):
                opened, operation = new(endpoint)
                closer = Closer(number, opened.close)
                closed = closer.during(operation)
                opened.close()
                assert hooks.open == 0
                if isinstance(closer.outcome, StreamError):
                    assert closed
                    assert "was closed before its end" in str(closer.outcome)
                else:
                    assert closer.outcome == b"Hello Hello"
                if not closed:
                    break
        emulator.disconnected()
    assert number > 100
