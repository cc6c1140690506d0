"""Messages in, a typed answer out: OpenAI's chat format, and JumpStart's Llama 2 chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from smendpoint.errors import HandlerError
from smendpoint.handlers._answers import answer_details
from smendpoint.handlers._chat_answers import ChatChunk, ChatCompletion, ToolCall, ToolCallDelta, read_completion
from smendpoint.handlers._json import check_errors, decode_json, encode_json
from smendpoint.handlers._shapes import read_answer

if TYPE_CHECKING:
    from smendpoint._core.aws.response import ResponseBody
    from smendpoint.handlers._chatstream import ChatStreamDecoder
    from smendpoint.handlers._json import ErrorsOption
    from smendpoint.handlers.base import OutputDetails

__all__ = [
    "ChatChunk",
    "ChatCompletion",
    "ChatHandler",
    "ChatInput",
    "JumpStartChatHandler",
    "ToolCall",
    "ToolCallDelta",
    "check_messages",
    "image_part",
]

ChatInput: TypeAlias = "str | Sequence[Mapping[str, Any]]"
"""Messages, oldest first, each a mapping with ``role`` and ``content``; or a ``str``: one message of the user."""


class _ChatHandler:
    """What the chat handlers have in common: how answers are read."""

    __slots__ = ("errors", "require_end")

    content_type = "application/json"
    accepts = "application/json"
    stop_parameter: str | None = "stop"

    _expected = (
        'the answer of a chat model: "choices" with a "message" (in a stream a "delta"), or "generation", or a '
        'conversation in "generated_text", with "role" and with "content" or "tool_calls"'
    )

    def __init__(self, *, require_end: bool = True, errors: ErrorsOption = "strict") -> None:
        self.require_end = require_end
        check_errors(errors)
        self.errors: ErrorsOption = errors

    def transform_output(self, output: ResponseBody) -> ChatCompletion:
        """Give a whole answer; the first, where the model was asked for several (all are in ``raw``).

        Raises:
            HandlerError: the answer has another shape; the message shows its keys and names the handler that fits.
            ModelOutputError: the container reports an error in a successful answer.
        """
        return read_answer(output, read_completion, type(self).__name__, self._expected, self.errors)

    def read_details(self, output: ResponseBody) -> OutputDetails:
        """Give the finish reason, the token counts and the details (log-probabilities ...) of a whole answer."""
        return answer_details(decode_json(output, type(self).__name__, self.errors))

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

    def transform_input(self, prompt: ChatInput, model_kwargs: dict[str, Any]) -> bytes:
        """Give the request of a whole answer."""
        return encode_json({"messages": check_messages(prompt), **model_kwargs})

    def transform_stream_input(self, prompt: ChatInput, model_kwargs: dict[str, Any]) -> bytes:
        """Give the request of a stream."""
        options = {"stream": True, "stream_options": {"include_usage": True}}
        return encode_json({"messages": check_messages(prompt), **options, **model_kwargs})


class JumpStartChatHandler(_ChatHandler):
    """JumpStart's Llama 2 chat: ``{"inputs": [messages], "parameters": model_kwargs}`` in, a `ChatCompletion` out.

    The endpoint also needs the custom attribute ``accept_eula=true``, which is a request header and not the handler's:
    ``Endpoint(..., endpoint_kwargs={"CustomAttributes": "accept_eula=true"})``.

    Args:
        require_end: whether a stream that ends without the end of its format (see "The end of a stream") is an error.
        errors: what becomes of half a character, whole and in a stream: an error, or U+FFFD with ``"replace"``.
    """

    __slots__ = ()

    def transform_input(self, prompt: ChatInput, model_kwargs: dict[str, Any]) -> bytes:
        """Give the request."""
        return encode_json({"inputs": [check_messages(prompt)], "parameters": model_kwargs})

    def transform_stream_input(self, prompt: ChatInput, model_kwargs: dict[str, Any]) -> bytes:
        """Give the request of a stream."""
        return encode_json({"inputs": [check_messages(prompt)], "parameters": model_kwargs, "stream": True})


def check_messages(prompt: object) -> list[dict[str, Any]]:
    """Give the messages of an input, checked as far as every container agrees.

    Args:
        prompt: messages, or a ``str`` that becomes one message of the user.

    Raises:
        HandlerError: it is neither; the message says which message does not fit and why, not what is in it.
    """
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    if not isinstance(prompt, Sequence) or isinstance(prompt, (bytes, bytearray)):
        raise HandlerError(f"A chat takes a str or a sequence of messages, not {type(cast('Any', prompt)).__name__}.")
    messages = cast("Sequence[object]", prompt)
    if not messages:
        raise HandlerError("A chat needs at least one message.")
    return [_message(message, number) for number, message in enumerate(messages)]


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


def _message(message: object, number: int) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise HandlerError(f"Message {number} must be a mapping with role and content, not {type(message).__name__}.")
    fields: dict[str, Any] = dict(cast("Mapping[str, Any]", message))
    if not isinstance(fields.get("role"), str):
        raise HandlerError(f"Message {number} has no role (a str such as 'system', 'user' or 'assistant').")
    content: Any = fields.get("content")
    if isinstance(content, (list, tuple)):
        for index, part in enumerate(cast("Sequence[object]", content)):
            kind = cast("Mapping[str, Any]", part).get("type") if isinstance(part, Mapping) else None
            if not isinstance(kind, str):
                raise HandlerError(
                    f"Part {index} of message {number} has no type (a str such as 'text' or 'image_url')."
                )
    elif content is not None and not isinstance(content, str):
        raise HandlerError(
            f"The content of message {number} must be a str or a list of parts, not {type(content).__name__}."
        )
    elif content is None and fields["role"] != "assistant":
        # An assistant's message may have tool calls instead.
        raise HandlerError(f"Message {number} ({fields['role']!r}) has no content.")
    return fields
