"""Messages in, a typed answer out: OpenAI's chat format, and JumpStart's Llama 2 chat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smendpoint.handlers._chat_answers import ChatCompletion, ChatInput, check_messages, read_completion
from smendpoint.handlers._shapes import read_answer
from smendpoint.handlers.text import STREAM_WITH_USAGE, ModelHandler

if TYPE_CHECKING:
    from smendpoint._core.aws.response import ResponseBody
    from smendpoint.handlers._chatstream import ChatStreamDecoder

__all__ = ["ChatHandler", "JumpStartChatHandler", "image_part"]


class _ChatHandler(ModelHandler[ChatInput]):
    """The base of the chat handlers: reads their answers."""

    __slots__ = ()

    stop_parameter: str | None = "stop"

    _expected = (
        'the answer of a chat model: "choices" with a "message" (in a stream a "delta"), or "generation", or a '
        'conversation in "generated_text", with "role" and with "content" or "tool_calls"'
    )

    def transform_output(self, output: ResponseBody) -> ChatCompletion:
        """Give a whole answer; the first, where the model was asked for several (all are in ``raw``).

        Raises:
            HandlerError: the answer has another shape; the message shows its keys and names the handler that fits.
            ModelOutputError: the container reports an error in a successful answer.
        """
        return read_answer(output, read_completion, type(self).__name__, self._expected, self.errors)

    def stream_decoder(self) -> ChatStreamDecoder:
        """Give a decoder of a stream's chunks; its ``completion`` is the answer that they make."""
        from smendpoint.handlers._chatstream import ChatStreamDecoder

        return ChatStreamDecoder(type(self).__name__, self._expected, require_end=self.require_end, errors=self.errors)


class ChatHandler(_ChatHandler):
    """OpenAI's chat completions: ``{"messages": [...], **model_kwargs}`` in, a `ChatCompletion` out.

    For vLLM, SGLang, TGI and LMI. Every field of the format is a model parameter: ``tools``, ``tool_choice``,
    ``response_format``, ``max_tokens``, ``model`` ... A stream also asks for the token counts (``stream_options``),
    unless told otherwise.

    Args:
        require_end: whether a stream that ends without the end of its format (see "The end of a stream") is an error.
        errors: what becomes of half a character, whole and in a stream: an error, or U+FFFD with ``"replace"``.
    """

    __slots__ = ()

    _stream_fields = STREAM_WITH_USAGE

    def _request(self, prompt: ChatInput, model_kwargs: dict[str, Any]) -> dict[str, Any]:
        return {"messages": check_messages(prompt), **model_kwargs}


class JumpStartChatHandler(_ChatHandler):
    """JumpStart's Llama 2 chat: ``{"inputs": [messages], "parameters": model_kwargs}`` in, a `ChatCompletion` out.

    The endpoint also needs the custom attribute ``accept_eula=true``, which is a request header and not the handler's:
    ``Endpoint(..., endpoint_kwargs={"CustomAttributes": "accept_eula=true"})``.

    Args:
        require_end: whether a stream that ends without the end of its format (see "The end of a stream") is an error.
        errors: what becomes of half a character, whole and in a stream: an error, or U+FFFD with ``"replace"``.
    """

    __slots__ = ()

    def _request(self, prompt: ChatInput, model_kwargs: dict[str, Any]) -> dict[str, Any]:
        return {"inputs": [check_messages(prompt)], "parameters": model_kwargs}


def image_part(image: bytes | str, *, media_type: str = "image/png", detail: str | None = None) -> dict[str, Any]:
    """Give the part of a message's ``content`` that is an image.

    Args:
        image: its bytes, which travel inside the message, or its URL, which the container must be able to reach.
        media_type: of the bytes.
        detail: ``"low"``, ``"high"`` or ``"auto"``, for the models that know it.
    """
    if isinstance(image, bytes):
        from base64 import b64encode

        image = f"data:{media_type};base64,{b64encode(image).decode()}"
    url: dict[str, Any] = {"url": image}
    if detail is not None:
        url["detail"] = detail
    return {"type": "image_url", "image_url": url}
