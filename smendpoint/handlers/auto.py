"""The handler for those who do not know, or do not want to know, which container is behind the endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from smendpoint.errors import ConfigurationError, HandlerError
from smendpoint.handlers._answers import TEXT_FORMATS, answer_details, answer_text, shapes_of
from smendpoint.handlers._chat_answers import read_completion
from smendpoint.handlers._json import check_errors, decode_json, encode_json
from smendpoint.handlers._shapes import raise_for_error, unknown_shape
from smendpoint.handlers.chat import check_messages

if TYPE_CHECKING:
    from smendpoint._core.aws.response import ResponseBody
    from smendpoint.handlers._json import ErrorsOption
    from smendpoint.handlers._textstream import TextStreamDecoder
    from smendpoint.handlers.base import OutputDetails
    from smendpoint.handlers.chat import ChatInput

__all__ = ["AutoHandler", "PromptFormat"]

PromptFormat: TypeAlias = Literal["inputs", "prompt", "messages", "text_inputs", "text_input"]

_KINDS = frozenset(TEXT_FORMATS)
_EXPECTED = f"the answer of a text or chat model: {shapes_of(_KINDS)}"


class AutoHandler:
    """Text or messages in, text out, whatever shape the answer has.

    Reads what TGI, the Hugging Face toolkit, LMI, vLLM, SGLang, Triton and JumpStart's models answer to a prompt or to
    messages: whole, as JSON, or streamed, as server-sent events, JSON lines or plain text. A request cannot be
    recognised, it must be chosen: messages are sent as ``{"messages": [...]}``, and ``prompt_format`` says how a
    ``str`` is. Only text is given: for tool calls, reasoning and the like take `ChatHandler`.

    Args:
        prompt_format: how a ``str`` is sent: ``"inputs"`` as ``{"inputs", "parameters"}`` (TGI, Hugging Face, LMI),
            ``"prompt"`` as ``{"prompt", **parameters}`` (OpenAI completions), ``"messages"`` as a message of the user,
            ``"text_inputs"`` as ``{"text_inputs", **parameters}`` (JumpStart's models of 2022), ``"text_input"`` as
            ``{"text_input", **parameters}`` (Triton's generate extension).
        stop_parameter: the parameter that carries stop sequences; ``None`` does not tell the model. JumpStart's models
            of 2022 know none, and refuse what they do not know.
        require_end: whether a stream that ends without the end of its format (see "The end of a stream") is an error.
        errors: what becomes of half a character, whole and in a stream: an error, or U+FFFD with ``"replace"``.
    """

    __slots__ = ("errors", "prompt_format", "require_end", "stop_parameter")

    content_type = "application/json"
    accepts = "application/json"

    def __init__(
        self,
        *,
        prompt_format: PromptFormat = "inputs",
        stop_parameter: str | None = "stop",
        require_end: bool = True,
        errors: ErrorsOption = "strict",
    ) -> None:
        formats = get_args(PromptFormat)
        if prompt_format not in formats:
            raise ConfigurationError(f"prompt_format must be one of {', '.join(formats)}, not {prompt_format!r}")
        self.prompt_format = prompt_format
        self.stop_parameter = stop_parameter
        self.require_end = require_end
        check_errors(errors)
        self.errors: ErrorsOption = errors

    def transform_input(self, prompt: ChatInput, model_kwargs: dict[str, Any]) -> bytes:
        """Give the request of a whole answer."""
        return encode_json(self._request(prompt, model_kwargs))

    def transform_stream_input(self, prompt: ChatInput, model_kwargs: dict[str, Any]) -> bytes:
        """Give the request of a stream."""
        return encode_json({"stream": True, **self._request(prompt, model_kwargs)})

    def transform_output(self, output: ResponseBody) -> str:
        """Give the text of a whole answer.

        Raises:
            HandlerError: the answer has no text, or a shape that no text model is known to give.
            ModelOutputError: the container reports an error in a successful answer.
        """
        value = decode_json(output, "AutoHandler", self.errors)
        raise_for_error(value)
        found = answer_text(value)
        if found is None and isinstance(value, str):
            return value
        chat = read_completion(value) if found is None or not found[1] else None
        if chat is not None and chat.tool_calls:
            raise HandlerError(
                'AutoHandler gives text, and this answer has no "content" but only tool calls. ChatHandler reads it.'
            )
        if chat is not None:
            return chat.text
        if found is None:
            raise unknown_shape(value, "AutoHandler", _EXPECTED)
        return found[1]

    def read_details(self, output: ResponseBody) -> OutputDetails:
        """Give the finish reason, the token counts and the details of a whole answer."""
        return answer_details(decode_json(output, "AutoHandler", self.errors))

    def stream_decoder(self) -> TextStreamDecoder:
        """Give a decoder that recognises the stream."""
        from smendpoint.handlers._textstream import TextStreamDecoder

        return TextStreamDecoder(
            "AutoHandler", _KINDS, _EXPECTED, require_end=self.require_end, errors=self.errors, plain_text=True
        )

    def _request(self, prompt: ChatInput, model_kwargs: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(prompt, str) or self.prompt_format == "messages":
            return {"messages": check_messages(prompt), **model_kwargs}
        if self.prompt_format == "inputs":
            return {"inputs": prompt, "parameters": model_kwargs}
        return {self.prompt_format: prompt, **model_kwargs}
