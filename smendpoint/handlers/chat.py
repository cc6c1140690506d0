"""The handlers that take messages: chats with typed answers, and the texts of any text or chat model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args, overload

from smendpoint.errors import ConfigurationError, HandlerError
from smendpoint.handlers._answers import TEXT_FORMATS, answer_text, shapes_of
from smendpoint.handlers._chat_answers import ChatCompletion, ChatInput, check_messages, read_completion, refusal_text
from smendpoint.handlers._shapes import read_answer
from smendpoint.handlers.text import STREAM_WITH_USAGE, ModelHandler, TextModelHandler

if TYPE_CHECKING:
    from typing import Generic, TypeVar

    from smendpoint._container_errors import JSONValue
    from smendpoint._core.http.body import ResponseBody
    from smendpoint.handlers._chatstream import ChatStreamDecoder
    from smendpoint.handlers._json import ErrorsOption
    from smendpoint.handlers._typed import OutputType, SchemaField

    Answer = TypeVar("Answer")

__all__ = ["AutoHandler", "ChatHandler", "JumpStartChatHandler", "PromptFormat", "image_part"]

PromptFormat: TypeAlias = Literal["inputs", "prompt", "messages", "text_inputs", "text_input"]


class _ChatHandler(ModelHandler[ChatInput]):
    """The base of the chat handlers: reads their answers."""

    __slots__ = ()

    task: str = "chat"
    stop_parameter: str | None = "stop"

    _expected = (
        'the answer of a chat model: "choices" with a "message" (in a stream a "delta"), or "generation", or a '
        'conversation in "generated_text", with "role" and with "content" or "tool_calls"'
    )

    def stream_decoder(self) -> ChatStreamDecoder:
        """Return a decoder of a stream's chunks; its ``completion`` is the answer that they form."""
        from smendpoint.handlers._chatstream import ChatStreamDecoder

        return ChatStreamDecoder(type(self).__name__, self._expected, require_end=self.require_end, errors=self.errors)

    def _completion(self, output: ResponseBody) -> ChatCompletion:
        return read_answer(output, read_completion, type(self).__name__, self._expected, self.errors)


class ChatHandler(_ChatHandler):
    """OpenAI's chat completions: ``{"messages": [...], **model_kwargs}`` in, a `ChatCompletion` out.

    For vLLM, SGLang, TGI and LMI. Every field of the format is a model parameter: ``tools``, ``tool_choice``,
    ``response_format``, ``max_tokens``, ``model`` ... A stream also requests the token counts (``stream_options``),
    unless a parameter says otherwise.

    With ``output_type``, the output is an object of that type: its JSON schema is sent as ``response_format``, and the
    text of the answer becomes the object. A stream's chunks stay the same, and its ``completion`` is the object.

    Args:
        output_type: the class of the outputs: a pydantic model (any class with ``model_json_schema`` and
            ``model_validate_json``), a dataclass, or a ``TypedDict``; by default `ChatCompletion`.
        schema_field: the field of ``response_format`` that holds the schema: ``"json_schema"`` for vLLM, SGLang and
            LMI, as in OpenAI's API; ``"value"`` for TGI.
        require_end: whether a stream that ends without the end of its format (see "The end of a stream") is an error.
        errors: how half a character is handled, in whole answers and streams: an error, or U+FFFD with ``"replace"``.

    Raises:
        ConfigurationError: a field of ``output_type`` cannot be expressed in a schema; the message names it.
    """

    __slots__ = ("_output_type",)

    _stream_fields = STREAM_WITH_USAGE

    if TYPE_CHECKING:  # one class at run time; for type checkers a second one, with the type of the outputs
        _output_type: OutputType | None

        @overload
        def __new__(cls, *, require_end: bool = ..., errors: ErrorsOption = ...) -> ChatHandler: ...
        @overload
        def __new__(
            cls,
            *,
            output_type: type[Answer],
            schema_field: SchemaField = ...,
            require_end: bool = ...,
            errors: ErrorsOption = ...,
        ) -> TypedChatHandler[Answer]: ...
        def __new__(cls, **options: Any) -> Any: ...  # pyright: ignore[reportInconsistentConstructor]  # as above

    else:

        def __init__(
            self,
            *,
            output_type: type[Any] | None = None,
            schema_field: SchemaField = "json_schema",
            require_end: bool = True,
            errors: ErrorsOption = "strict",
        ) -> None:
            super().__init__(require_end=require_end, errors=errors)
            self._output_type = None
            if output_type is None:
                if schema_field != "json_schema":
                    raise ConfigurationError("schema_field needs output_type: it names the field for its schema")
            else:
                from smendpoint.handlers._typed import OutputType

                self._output_type = OutputType(output_type, schema_field, errors == "replace")

    def transform_output(self, output: ResponseBody) -> ChatCompletion:
        """Return a whole answer; the first one, if several were requested (all are in ``raw``).

        Raises:
            HandlerError: the answer has another shape; the message shows its keys and names the handler that fits.
            ModelOutputError: the container reports an error in a successful answer; or the answer does not fit the
                ``output_type``: the error has its ``text`` and ``finish_reason``.
        """
        completion = self._completion(output)
        if self._output_type is not None:
            made: Any = self._output_type.read(completion, refusal_text(completion.raw))
            return made  # type: ignore[no-any-return]  # of a `TypedChatHandler`
        return completion

    def stream_decoder(self) -> ChatStreamDecoder:
        """Return a decoder of a stream's chunks; its ``completion`` is the answer that they form."""
        if self._output_type is None:
            return super().stream_decoder()
        from smendpoint.handlers._typedstream import TypedStreamDecoder

        name = type(self).__name__
        return TypedStreamDecoder(
            self._output_type, name, self._expected, require_end=self.require_end, errors=self.errors
        )

    def _request(self, prompt: ChatInput, model_kwargs: dict[str, Any]) -> dict[str, Any]:
        if self._output_type is None:
            return {"messages": check_messages(prompt), **model_kwargs}
        self._output_type.check(model_kwargs)
        wanted = self._output_type.response_format
        return {"messages": check_messages(prompt), "response_format": wanted, **model_kwargs}


if TYPE_CHECKING:

    class TypedChatHandler(ChatHandler, Generic[Answer]):
        """A `ChatHandler` with an ``output_type``, as type checkers see it."""

        def __init__(  # pyright: ignore[reportInconsistentConstructor]  # as above
            self,
            *,
            output_type: type[Answer],
            schema_field: SchemaField = ...,
            require_end: bool = ...,
            errors: ErrorsOption = ...,
        ) -> None: ...

        # No object is both: each is made as one or the other.
        def transform_output(self, output: ResponseBody) -> Answer: ...  # type: ignore[override]  # pyright: ignore


class JumpStartChatHandler(_ChatHandler):
    """JumpStart's Llama 2 chat: ``{"inputs": [messages], "parameters": model_kwargs}`` in, a `ChatCompletion` out.

    The endpoint also needs the custom attribute ``accept_eula=true``, which is a request header and not the handler's:
    ``Endpoint(..., endpoint_kwargs={"CustomAttributes": "accept_eula=true"})``.

    Args:
        require_end: whether a stream that ends without the end of its format (see "The end of a stream") is an error.
        errors: how half a character is handled, in whole answers and streams: an error, or U+FFFD with ``"replace"``.
    """

    __slots__ = ()

    def transform_output(self, output: ResponseBody) -> ChatCompletion:
        """Return a whole answer; the first one, if several were requested (all are in ``raw``).

        Raises:
            HandlerError: the answer has another shape; the message shows its keys and names the handler that fits.
            ModelOutputError: the container reports an error in a successful answer.
        """
        return self._completion(output)

    def _request(self, prompt: ChatInput, model_kwargs: dict[str, Any]) -> dict[str, Any]:
        return {"inputs": [check_messages(prompt)], "parameters": model_kwargs}


class AutoHandler(TextModelHandler[ChatInput]):
    """Text or messages in, text out, for an answer of any known shape.

    It reads the answers of TGI, the Hugging Face toolkit, LMI, vLLM, SGLang, Triton and JumpStart's models to a prompt
    or to messages: whole, as JSON, or streamed, as server-sent events, JSON lines or plain text. The format of requests
    cannot be recognised: messages are sent as ``{"messages": [...]}``, and ``prompt_format`` says how a ``str`` is
    sent. The output is only text: use `ChatHandler` for tool calls, reasoning and the like.

    Args:
        prompt_format: how a ``str`` is sent: ``"inputs"`` as ``{"inputs", "parameters"}`` (TGI, Hugging Face, LMI),
            ``"prompt"`` as ``{"prompt", **parameters}`` (OpenAI completions), ``"messages"`` as a user message,
            ``"text_inputs"`` as ``{"text_inputs", **parameters}`` (JumpStart's models of 2022), ``"text_input"`` as
            ``{"text_input", **parameters}`` (Triton's generate extension).
        stop_parameter: the parameter for stop sequences; with ``None`` they are not sent to the model. JumpStart's
            models of 2022 have no such parameter, and refuse unknown ones.
        require_end: whether a stream that ends without the end of its format (see "The end of a stream") is an error.
        errors: how half a character is handled, in whole answers and streams: an error, or U+FFFD with ``"replace"``.
    """

    __slots__ = ("prompt_format", "stop_parameter", "task")

    _kinds = frozenset(TEXT_FORMATS)
    _expected = f"the answer of a text or chat model: {shapes_of(_kinds)}"
    _plain_text = True

    def __init__(
        self,
        *,
        prompt_format: PromptFormat = "inputs",
        stop_parameter: str | None = "stop",
        require_end: bool = True,
        errors: ErrorsOption = "strict",
    ) -> None:
        super().__init__(require_end=require_end, errors=errors)
        formats = get_args(PromptFormat)
        if prompt_format not in formats:
            raise ConfigurationError(f"prompt_format must be one of {', '.join(formats)}, not {prompt_format!r}")
        self.prompt_format = prompt_format
        self.task = "chat" if prompt_format == "messages" else "text_completion"
        self.stop_parameter = stop_parameter

    def _find_text(self, value: JSONValue) -> str | None:
        found = answer_text(value)
        if found is None and isinstance(value, str):
            return value
        if found is not None and found[1]:
            return found[1]
        chat = read_completion(value)
        if chat is not None and chat.tool_calls:
            raise HandlerError(
                'AutoHandler returns text, but this answer has only tool calls and no "content". ChatHandler reads it.'
            )
        if chat is not None:
            return chat.text
        return None if found is None else found[1]

    def _request(self, prompt: ChatInput, model_kwargs: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(prompt, str) or self.prompt_format == "messages":
            return {"messages": check_messages(prompt), **model_kwargs}
        if self.prompt_format == "inputs":
            return {"inputs": prompt, "parameters": model_kwargs}
        return {self.prompt_format: prompt, **model_kwargs}


def image_part(image: bytes | str, *, media_type: str = "image/png", detail: str | None = None) -> dict[str, Any]:
    """Make the part of a message's ``content`` for an image.

    Args:
        image: its bytes, which are sent in the message, or its URL, which the container must be able to reach.
        media_type: the media type of the bytes.
        detail: ``"low"``, ``"high"`` or ``"auto"``, for models that support it.
    """
    if isinstance(image, bytes):
        from base64 import b64encode

        image = f"data:{media_type};base64,{b64encode(image).decode()}"
    url: dict[str, Any] = {"url": image}
    if detail is not None:
        url["detail"] = detail
    return {"type": "image_url", "image_url": url}
