"""The answers of containers with OpenAI's interface: passed on unchanged, but checked for completeness."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from smendpoint._core.decode.lines import MAX_ITEM
from smendpoint._core.decode.push import PushDecoder
from smendpoint._core.json import parse_json
from smendpoint.errors import SmendpointError, StreamDecodeError, StreamTruncatedError
from smendpoint.handlers._answers import ENDS, answer_details, may_have_usage, reason_of, usage_of
from smendpoint.handlers._json import decode_json
from smendpoint.handlers._shapes import raise_for_error
from smendpoint.handlers.base import OutputDetails

if TYPE_CHECKING:
    from smendpoint._container_errors import JSONValue
    from smendpoint._core.http.body import ResponseBody
    from smendpoint.handlers.base import Usage

DONE = b"data: [DONE]\n\n"
_MEMBER = re.compile(rb'"(?:finish_reason":\s*"|usage":\s*\{|message":\s*\{|index":\s*[1-9])').search


def _notable(data: bytes) -> bool:
    """Return whether events show signs that one is more than a piece of the first choice's text.

    Inside a JSON string each quote has a backslash before it, so generated text does not contain the signs with quotes;
    a false alarm by the others only costs a look. Three searches are faster than one for all.
    """
    return b"error" in data or b"[DONE]" in data or _MEMBER(data) is not None


class PassingHandler:
    """Sends a request's bytes unchanged, and returns those of the answer; for a stream, whole events.

    Errors that the container reports inside a successful answer are raised.
    """

    __slots__ = ()

    content_type = "application/json"
    accepts = "application/json"
    stream_accepts = "text/event-stream, application/json"
    stop_parameter: str | None = None

    def transform_input(self, prompt: bytes, model_kwargs: dict[str, Any]) -> bytes:
        """Return the request unchanged, except that parameters of the endpoint are added if the request lacks them."""
        if not model_kwargs:
            return prompt
        return json.dumps({**model_kwargs, **json.loads(prompt)}, separators=(",", ":")).encode()

    def transform_output(self, output: ResponseBody) -> bytes:
        """Return the answer unchanged.

        Raises:
            HandlerError: it is not JSON.
            ModelOutputError: the container reports an error in a successful answer.
        """
        if not output.startswith(b"{") or output.find(b"error") >= 0:
            raise_for_error(decode_json(output, "serve"))
        return bytes(output)

    def read_details(self, output: ResponseBody) -> OutputDetails:
        """Return the finish reason and the token counts, for hooks."""
        if not may_have_usage(output):
            return OutputDetails()
        return answer_details(decode_json(output, "serve"))

    def stream_decoder(self) -> EventPasser:
        """Return a decoder whose chunks are the bytes of whole events."""
        return EventPasser()


class EventPasser(PushDecoder):
    """Returns the bytes of whole server-sent events unchanged, and knows whether the stream ended properly.

    JSON lines become events. ``[DONE]`` comes last, once the stream has ended properly, whether or not the container
    sent it. Only events that may be more than a piece of text are parsed.

    Attributes:
        finish_reason: why the model stopped, once it has given the reason.
        usage: the token counts, once it has given them.
    """

    __slots__ = ("_begun", "_done", "_lines", "_over", "_tail", "finish_reason", "usage")

    max_received = 0  # events that are passed on are not kept

    def __init__(self) -> None:
        super().__init__()
        self._tail = bytearray()  # the start of an event whose end has not arrived
        self._lines: bool | None = None  # whether these are JSON lines; `None` before the first byte
        self._done = False  # [DONE] has arrived
        self._begun = {"0"}  # the indices of choices: of the first and those that came, of those with a finish reason
        self._over: set[str] = set()
        self.finish_reason: str | None = None
        self.usage: Usage | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes and return the events that they complete, in one piece."""
        if self._failure is not None:
            self._check()
        if self._done:
            return []
        plain = self._lines is False and not self._tail and data.endswith(b"\n\n") and b"\r" not in data
        if plain and not _notable(data):
            return [data]  # true of nearly all
        if self._tail:
            self._tail += data
            if b"\n" not in data and b"\r" not in data:  # in the middle of an event, however large
                return self._keep(self._tail, [])
            data = bytes(self._tail)
        if self._lines is None:
            data = data.lstrip()
            if not data:
                return []
            self._lines = data[:1] == b"{"
        if b"\r" in data:
            data = _with_line_feeds(data)
        end = b"\n" if self._lines else b"\n\n"
        size = len(data) if data.endswith(end) else data.rfind(end) + len(end) if end in data else 0
        return self._keep(data[size:], self._read(data[:size]) if size else [])

    def _keep(self, tail: bytes | bytearray, events: list[bytes]) -> list[bytes]:
        """Keep the start of the next event, and return the events before it."""
        self._tail = tail if isinstance(tail, bytearray) else bytearray(tail)
        if len(self._tail) > MAX_ITEM and self._failure is None:
            self._failure = StreamDecodeError(f"a server-sent event is larger than {MAX_ITEM} bytes")
        return self._deliver(events)

    def finish(self) -> list[bytes]:
        """Take the end of the bytes, and return the rest of the events, with ``[DONE]``.

        Raises:
            StreamTruncatedError: there is neither ``[DONE]`` nor a finish reason for each choice.
        """
        events: list[bytes] = []
        self.finish_into(events)
        return events

    def finish_into(self, chunks: list[bytes]) -> None:
        """Do the same as `finish`, but append the events to the caller's list: a failure does not lose them."""
        self._check()
        tail, whole = bytes(self._tail.strip()), True
        if tail and not self._done:
            try:
                event = self._note(b"data: " + tail if self._lines else tail)
            except StreamDecodeError:
                whole = False
            else:
                chunks += [event + b"\n\n"] if event else []
        if not whole or not (self._done or self._begun <= self._over):
            raise StreamTruncatedError(
                f"the stream ended before the model's answer did: {ENDS['chunk'].mark} is missing"
            )
        chunks.append(DONE)

    def _read(self, data: bytes) -> list[bytes]:
        """Return whole events, or whole JSON lines as events, after a look at those that may be more than text."""
        if self._lines:
            data = b"".join([b"data: %s\n\n" % line for line in data.split(b"\n") if line.strip()])
        if not _notable(data):
            return [data] if data else []
        events: list[bytes] = []
        for event in data.split(b"\n\n"):
            if _notable(event):
                try:
                    event = self._note(event)
                except SmendpointError as error:
                    self._failure = error
                    break
                if self._done:
                    break
            if event:
                events.append(event + b"\n\n")
        return [b"".join(events)] if events else []

    def _note(self, event: bytes) -> bytes:
        """Note the facts in an event besides its text, and return it; a whole answer is returned as a chunk."""
        texts = [line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")]
        text = b"\n".join(texts)
        if text == b"[DONE]":
            self._done = True
            return b""
        if not text:
            return event  # a comment
        try:
            value: JSONValue = parse_json(text.decode())
        except ValueError:
            raise StreamDecodeError("a server-sent event of the stream is not JSON") from None
        raise_for_error(value)
        choices = value.get("choices") if isinstance(value, dict) else None
        if not isinstance(value, dict) or not isinstance(choices, list):
            return event
        self.usage = usage_of(value.get("usage")) or self.usage
        whole = False
        for choice in choices:
            if isinstance(choice, dict):
                reason = reason_of(choice.get("finish_reason"))
                self.finish_reason = reason or self.finish_reason
                is_whole = _become_delta(choice)
                (self._over if reason or is_whole else self._begun).add(str(choice.get("index") or 0))
                whole = is_whole or whole
        if not whole:
            return event
        value["object"] = "chat.completion.chunk"
        return b"data: " + json.dumps(value, separators=(",", ":")).encode()


def _with_line_feeds(data: bytes) -> bytes:
    """Return bytes whose lines end with LF. A CR at the very end may be half a line end."""
    rest = b"\r" if data.endswith(b"\r") else b""
    return data[: len(data) - len(rest)].replace(b"\r\n", b"\n").replace(b"\r", b"\n") + rest


def _become_delta(choice: dict[str, Any]) -> bool:
    """Turn a whole message, from a container that does not stream, into a delta; return whether it was one."""
    message = choice.pop("message", None)
    if not isinstance(message, dict):
        return False
    for index, call in enumerate(message.get("tool_calls") or ()):
        if isinstance(call, dict):
            call.setdefault("index", index)
    choice["delta"] = message
    return True
