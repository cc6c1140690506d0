"""Parts of a call that a test waits for, and lets go on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

from smendpoint import CallHooks, CallInfo
from smendpoint.emulator import ModelRequest

OPENAI = b'data: {"choices":[{"index":0,"delta":{"content":"Peter"},"finish_reason":null}]}\n\n'
TGI = b'data:{"token":{"id":1,"text":"Peter","special":false},"generated_text":null}\n\n'


class PausedModel:
    """Gives one word, and the rest once the test lets it.

    Args:
        first: the event with the word.
        rest: what comes after it.
    """

    def __init__(self, first: bytes = OPENAI, *rest: bytes) -> None:
        self.go_on = threading.Event()
        self._first = first
        self._rest = rest

    def __call__(self, _request: ModelRequest) -> Iterator[bytes]:
        yield self._first
        self.go_on.wait(20)
        yield from self._rest


class Started(CallHooks):
    """Says when a request is about to be sent."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    def attempt_started(self, call: CallInfo) -> None:
        self.event.set()
