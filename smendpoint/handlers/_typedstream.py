"""The stream decoder of a chat handler with an output type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smendpoint.handlers._chat_answers import refusal_text
from smendpoint.handlers._chatstream import ChatStreamDecoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smendpoint._container_errors import JSONValue
    from smendpoint.handlers._chat_answers import ChatChunk
    from smendpoint.handlers._json import ErrorsOption
    from smendpoint.handlers._typed import OutputType


class TypedStreamDecoder(ChatStreamDecoder):
    """Decodes the chunks of a chat answer, which together form an object of the output type.

    ``completion`` is still the whole answer, with its text, token counts and reasoning.
    """

    __slots__ = ("_refusal", "_type")

    def __init__(
        self, output_type: OutputType, handler: str, expected: str, *, require_end: bool, errors: ErrorsOption
    ) -> None:
        super().__init__(handler, expected, require_end=require_end, errors=errors)
        self._type = output_type
        self._refusal = ""

    def complete(self, chunks: Sequence[ChatChunk], finish_reason: str | None = None) -> Any:
        """Return the object that the chunks form.

        Raises:
            ModelOutputError: they do not form one, or not yet.
        """
        return self._type.read(super().complete(chunks, finish_reason), self._refusal, chunks)

    def _read(self, value: JSONValue, chunks: list[ChatChunk]) -> None:
        self._refusal += refusal_text(value)
        super()._read(value, chunks)
