"""The stream decoder of the handlers that return text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smendpoint.errors import HandlerError, StreamDecodeError
from smendpoint.handlers._answers import answer_details, answer_text, content_text, first_object, generation_details
from smendpoint.handlers._shapes import raise_for_error, unknown_shape
from smendpoint.handlers._streams import DetailedDecoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smendpoint._container_errors import JSONValue
    from smendpoint.handlers._json import ErrorsOption


class TextStreamDecoder(DetailedDecoder[str]):
    """Decodes the pieces of a generated text. It hides special tokens, and a whole text that repeats the pieces.

    Args:
        kinds: the kinds of answers that it reads, keys of `TEXT_FORMATS`.
        keep_tokens: keep the token objects of TGI and LMI for ``details["tokens"]``.
        plain_text: whether it also reads a stream of plain text.
    """

    __slots__ = ("_kinds", "_plain_text", "_reads_tokens", "_tokens")

    def __init__(
        self,
        handler: str,
        kinds: frozenset[str],
        expected: str,
        *,
        require_end: bool = True,
        errors: ErrorsOption = "strict",
        keep_tokens: bool = False,
        plain_text: bool = False,
    ) -> None:
        super().__init__(handler, expected, require_end=require_end, errors=errors)
        self._kinds = kinds
        self._reads_tokens = "generated_text" in kinds
        self._plain_text = plain_text
        self._tokens: list[JSONValue] | None = [] if keep_tokens else None

    @property
    def details(self) -> dict[str, Any] | None:
        """The other facts from the model, unchanged; also ``"tokens"``, if they are kept."""
        details = super().details
        return {**(details or {}), "tokens": self._tokens} if self._tokens else details

    def complete(self, chunks: Sequence[str], finish_reason: str | None = None) -> str:
        """Return the text that chunks make."""
        return "".join(chunks)

    def _read(self, value: JSONValue, chunks: list[str]) -> None:
        if isinstance(value, dict):
            token = value.get("token")
            if isinstance(token, dict) and self._reads_tokens and not value.get("error"):
                self._read_token(value, token, chunks)
                return
            raise_for_error(value)
            choices = value.get("choices")
            if isinstance(choices, list):
                if self._read_choices(value, choices, chunks):
                    return
            elif self._has_no_news(value):
                return
        elif self._read_each(value, chunks):
            return
        else:
            raise_for_error(value)
        self._read_answer(value, chunks)

    def _read_token(self, value: dict[str, JSONValue], token: dict[str, JSONValue], chunks: list[str]) -> None:
        self._kind, self._item = "token", value
        details = value.get("details")
        special = token.get("special") or token.get("special_token")
        if special or details is not None:  # the last token may be an error
            raise_for_error(value)
            if special and special is not True:
                raise HandlerError('Whether a "token" is "special" is neither true nor false.')
            if isinstance(details, dict):
                self._note(generation_details(details))
        if self._tokens is not None:
            self._tokens.append(token)
        if special:
            return
        text = token.get("text", "")  # older LMI leaves it out if it is empty
        if not isinstance(text, str):
            raise unknown_shape(value, self._handler, self._expected)
        if text.isascii() and not self._halves.held:
            if text:
                chunks.append(text)
        else:
            self._add(text, chunks)

    def _add(self, text: str | None, chunks: list[str]) -> None:
        """Append a piece of the text; keep half a character at its end for the next piece."""
        try:
            text = self._halves.join(text or "")
        except StreamDecodeError as error:
            chunks += error.received
            raise
        if text:
            chunks.append(text)

    def _flush(self, chunks: list[str]) -> None:
        text = self._halves.end()
        if text:
            chunks.append(text)

    def _read_choices(self, value: dict[str, JSONValue], choices: list[JSONValue], chunks: list[str]) -> bool:
        """Read a chunk in OpenAI's format; return whether this decoder reads it."""
        if not self._kinds & {"chat", "completion"}:
            return False
        choice = self._first_choice(value, choices)
        if choice is None:
            return True
        delta = choice.get("delta")
        content: JSONValue = None
        if isinstance(delta, dict) and "chat" in self._kinds:
            if delta.get("tool_calls"):
                raise HandlerError(
                    f"{self._handler} returns text, but this stream has tool calls. ChatHandler reads it."
                )
            content = delta.get("content")
        elif "text" in choice and "completion" in self._kinds:
            content = choice["text"]
        elif delta is not None or choice.keys() & {"message", "text"}:
            return False
        text = content_text(content)
        if text is None and content is not None:
            return False
        self._kind, self._item = "chunk", value
        self._add(text, chunks)
        return True

    def _read_answer(self, value: JSONValue, chunks: list[str]) -> None:
        """Read an item with a text that is not a token: a piece of the text, or the whole."""
        found = answer_text(value)
        if found is None or found[0] not in self._kinds:
            raise unknown_shape(value, self._handler, self._expected)
        self._note(answer_details(value))
        kind, text = found
        if isinstance(value, dict) and value.get("token") is not None:
            raise HandlerError('The "token" of the stream is not an object.')
        repeats = self._item is not None and self._kind in ("token", "chunk") and kind == "generated_text"
        self._kind, self._item = kind, first_object(value) or {}
        if not repeats:
            self._add(text, chunks)

    def _read_text(self, text: str, chunks: list[str]) -> None:
        if not self._plain_text:
            super()._read_text(text, chunks)
            return
        self._kind, self._item = "text", {}
        chunks.append(text)
