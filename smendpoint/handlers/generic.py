"""The handlers for any model: JSON, text, and unchanged bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from smendpoint.errors import HandlerError
from smendpoint.handlers._json import check_errors, decode_json, encode_json, is_bytes, raw_body

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smendpoint._core.http.body import ResponseBody
    from smendpoint.handlers._json import ErrorsOption
    from smendpoint.handlers.base import StreamDecoder

__all__ = ["BytesHandler", "JSONHandler", "TextHandler"]


class JSONHandler:
    """JSON in, JSON out: the input is any value that ``json`` can write, and the output is the parsed answer.

    Model parameters need an input that is a mapping: they are added to it, and its own keys take precedence. Bytes,
    such as those of an image or a sound, are sent unchanged with the given media type. A stream may be server-sent
    events or JSON lines; each value in it is a chunk.

    Args:
        content_type: the media type of the input, such as ``"image/png"`` or ``"audio/wav"`` for bytes.
        accepts: the media type to request.
        errors: how half a character is handled, in whole answers and streams: an error, or U+FFFD with ``"replace"``.
    """

    __slots__ = ("accepts", "content_type", "errors")

    stop_parameter: str | None = None

    def __init__(
        self,
        *,
        content_type: str = "application/json",
        accepts: str = "application/json",
        errors: ErrorsOption = "strict",
    ) -> None:
        self.content_type = content_type
        self.accepts = accepts
        check_errors(errors)
        self.errors: ErrorsOption = errors

    def transform_input(self, prompt: Any, model_kwargs: dict[str, Any]) -> bytes:
        """Return the input as JSON, with the model parameters in it; give bytes unchanged."""
        if is_bytes(prompt):
            return raw_body("JSONHandler", prompt, model_kwargs, self.content_type)
        if not model_kwargs:
            return encode_json(prompt)
        if not isinstance(prompt, dict):
            raise HandlerError(
                f"JSONHandler adds model parameters ({', '.join(sorted(model_kwargs))}) to an input that is a dict, "
                f"but this one is of type {type(prompt).__name__}: put them into the input yourself."
            )
        given = cast("Mapping[str, Any]", prompt)
        return encode_json({**given, **{name: value for name, value in model_kwargs.items() if name not in given}})

    def transform_output(self, output: ResponseBody) -> Any:
        """Return the parsed answer.

        Raises:
            HandlerError: the answer is not JSON.
        """
        return decode_json(output, "JSONHandler", self.errors)

    def stream_decoder(self) -> StreamDecoder[Any]:
        """Return a decoder that recognises server-sent events and JSON lines."""
        from smendpoint.handlers._streams import JSONItemDecoder

        return JSONItemDecoder("JSONHandler", self.errors)


class BytesHandler:
    """Bytes in, bytes out, unchanged. A ``str`` is sent as UTF-8. A stream's chunks are its pieces as they arrive.

    Args:
        content_type: the media type of the input.
        accepts: the media type to request; any by default.
    """

    __slots__ = ("accepts", "content_type")

    stop_parameter: str | None = None

    def __init__(self, *, content_type: str = "application/octet-stream", accepts: str = "*/*") -> None:
        self.content_type = content_type
        self.accepts = accepts

    def transform_input(self, prompt: bytes | bytearray | memoryview[int] | str, model_kwargs: dict[str, Any]) -> bytes:
        """Return the input's bytes; there is no place for model parameters."""
        return raw_body("BytesHandler", prompt, model_kwargs)

    def transform_output(self, output: ResponseBody) -> bytes:
        """Return the answer as plain bytes."""
        return bytes(output)

    def stream_decoder(self) -> StreamDecoder[bytes]:
        """Return a decoder that returns each piece unchanged."""
        return _PieceDecoder()


class TextHandler:
    """Text in, text out, in UTF-8. A stream's chunks are its pieces as they arrive, never half a character.

    Args:
        content_type: the media type of the input.
        accepts: the media type to request.
    """

    __slots__ = ("accepts", "content_type")

    stop_parameter: str | None = None

    def __init__(self, *, content_type: str = "text/plain", accepts: str = "text/plain") -> None:
        self.content_type = content_type
        self.accepts = accepts

    def transform_input(self, prompt: str, model_kwargs: dict[str, Any]) -> bytes:
        """Return the input in UTF-8; there is no place for model parameters."""
        return raw_body("TextHandler", prompt, model_kwargs)

    def transform_output(self, output: ResponseBody) -> str:
        """Return the answer's text.

        Raises:
            HandlerError: the answer is not UTF-8.
        """
        try:
            return output.decode()
        except UnicodeDecodeError as error:
            raise HandlerError(
                f"TextHandler expects UTF-8, but the answer of {len(output)} bytes is not: "
                f"{error.reason} at byte {error.start}. BytesHandler reads it unchanged."
            ) from None

    def stream_decoder(self) -> StreamDecoder[str]:
        """Return an incremental UTF-8 decoder."""
        from smendpoint._core.decode.lines import TextDecoder

        return TextDecoder()


class _PieceDecoder:
    __slots__ = ()

    def feed(self, data: bytes) -> list[bytes]:
        return [bytes(data)] if data else []

    def finish(self) -> list[bytes]:
        return []
