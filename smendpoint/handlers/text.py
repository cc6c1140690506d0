"""Text in, text out: the default handler, and those for OpenAI completions and JumpStart's text models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, get_args

from smendpoint._typing import Erased
from smendpoint.errors import ConfigurationError, HandlerError
from smendpoint.handlers._answers import answer_details, answer_text, kinds_of, shapes_of
from smendpoint.handlers._json import check_errors, decode_json, encode_json
from smendpoint.handlers._shapes import read_answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smendpoint._container_errors import JSONValue
    from smendpoint._core.http.body import ResponseBody
    from smendpoint.handlers._json import ErrorsOption
    from smendpoint.handlers._textstream import TextStreamDecoder
    from smendpoint.handlers.base import OutputDetails

__all__ = [
    "STREAM_WITH_USAGE",
    "JumpStartFamily",
    "JumpStartTextHandler",
    "ModelHandler",
    "OpenAICompletionsHandler",
    "TextGenerationHandler",
    "TextModelHandler",
]

JumpStartFamily: TypeAlias = Literal["llama-2", "llama-3", "flan-t5", "gpt-j", "bloomz"]
Prompt = TypeVar("Prompt")

STREAM_WITH_USAGE: Mapping[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
"""The fields that ask a container with OpenAI's interface for a stream, and for the token counts at its end."""


class ModelHandler(Erased[Prompt]):
    """The base of the handlers of generating models: JSON in both directions, and the options of their streams."""

    __slots__ = ("errors", "require_end")

    content_type = "application/json"
    accepts = "application/json"

    # The fields that ask for a stream. Those of the request, including the caller's parameters, take precedence.
    _stream_fields: Mapping[str, Any] = {"stream": True}
    # The answers that the handler reads, as a noun phrase for messages.
    _expected = ""

    def __init__(self, *, require_end: bool = True, errors: ErrorsOption = "strict") -> None:
        self.require_end = require_end
        check_errors(errors)
        self.errors: ErrorsOption = errors

    def transform_input(self, prompt: Prompt, model_kwargs: dict[str, Any]) -> bytes:
        """Return the request of a whole answer."""
        return encode_json(self._request(prompt, model_kwargs))

    def transform_stream_input(self, prompt: Prompt, model_kwargs: dict[str, Any]) -> bytes:
        """Return the request of a stream."""
        request = self._request(prompt, model_kwargs)  # its input stays first
        for name, value in self._stream_fields.items():
            request.setdefault(name, value)
        return encode_json(request)

    def read_details(self, output: ResponseBody) -> OutputDetails:
        """Return the finish reason, the token counts and the details (log-probabilities ...) of a whole answer."""
        return answer_details(decode_json(output, type(self).__name__, self.errors))

    def _request(self, prompt: Prompt, model_kwargs: dict[str, Any]) -> dict[str, Any]:
        raise AssertionError  # pragma: no cover  # every handler has its own


class TextModelHandler(ModelHandler[Prompt]):
    """The base of the handlers that give the text of an answer, and the pieces of a streamed one."""

    __slots__ = ()

    task: str = "text_completion"

    # The kinds of answers that the handler reads, keys of `TEXT_FORMATS`.
    _kinds: frozenset[str] = frozenset()
    _keeps_tokens = False
    _plain_text = False  # whether a stream may be plain text

    def transform_output(self, output: ResponseBody) -> str:
        """Return the text of a whole answer; the first one, if several were requested.

        Raises:
            HandlerError: the answer has another shape; the message shows its keys and names the handler that fits.
            ModelOutputError: the container reports an error in a successful answer.
        """
        return read_answer(output, self._find_text, type(self).__name__, self._expected, self.errors)

    def stream_decoder(self) -> TextStreamDecoder:
        """Return a decoder of this model's stream: server-sent events or JSON lines, whichever arrives."""
        from smendpoint.handlers._textstream import TextStreamDecoder

        return TextStreamDecoder(
            type(self).__name__,
            self._kinds,
            self._expected,
            require_end=self.require_end,
            errors=self.errors,
            keep_tokens=self._keeps_tokens,
            plain_text=self._plain_text,
        )

    def _find_text(self, value: JSONValue) -> str | None:
        found = answer_text(value)
        return found[1] if found is not None and found[0] in self._kinds else None

    def _check_text(self, prompt: object) -> str:
        if not isinstance(prompt, str):
            raise HandlerError(
                f"{type(self).__name__} sends a str, but this input is of type {type(prompt).__name__}. "
                "Use ChatHandler for messages, and JSONHandler for any other JSON."
            )
        return prompt


class TextGenerationHandler(TextModelHandler[str]):
    """The default handler: ``{"inputs": prompt, "parameters": model_kwargs}`` in, the generated text out.

    For text-generation-inference (TGI), the Hugging Face inference toolkit (text generation, summarization,
    translation), DJL LMI in all its variants, JumpStart's Llama models, and every container that follows them. A stream
    may be server-sent events or JSON lines; special tokens are hidden. The Hugging Face toolkit's text begins with the
    prompt, unless ``return_full_text=False``; for a conversation it is the assistant's last message.

    Args:
        details: ask the container for details (``"details": true``), and keep the tokens of a stream with their
            log-probabilities: they are in ``details["tokens"]`` at the end.
        stop_parameter: the parameter for stop sequences: ``"stop"`` for TGI and LMI, ``"stop_sequences"`` for older
            LMI. With ``None`` they are not sent to the model (Hugging Face pipelines refuse unknown parameters), but
            the output still ends at them.
        require_end: whether a stream that ends without the end of its format (see "The end of a stream") is an error.
        errors: how half a character is handled, in whole answers and streams: an error, or U+FFFD with ``"replace"``.
    """

    __slots__ = ("_keeps_tokens", "stop_parameter")

    _kinds = kinds_of("TextGenerationHandler")
    _expected = f'an object or a list with {shapes_of(_kinds)} or, in a stream, "token"'

    def __init__(
        self,
        *,
        details: bool = False,
        stop_parameter: str | None = "stop",
        require_end: bool = True,
        errors: ErrorsOption = "strict",
    ) -> None:
        super().__init__(require_end=require_end, errors=errors)
        self._keeps_tokens = details
        self.stop_parameter = stop_parameter

    def _request(self, prompt: str, model_kwargs: dict[str, Any]) -> dict[str, Any]:
        parameters = {"details": True, **model_kwargs} if self._keeps_tokens else model_kwargs
        return {"inputs": self._check_text(prompt), "parameters": parameters}


class OpenAICompletionsHandler(TextModelHandler[str]):
    """OpenAI text completions: ``{"prompt": prompt, **model_kwargs}`` in, the text of the first choice out.

    For vLLM, SGLang, TGI and LMI. A stream also requests the token counts (``stream_options``), unless a parameter says
    otherwise.

    Args:
        require_end: whether a stream that ends without the end of its format (see "The end of a stream") is an error.
        errors: how half a character is handled, in whole answers and streams: an error, or U+FFFD with ``"replace"``.
    """

    __slots__ = ()

    stop_parameter: str | None = "stop"
    _kinds = kinds_of("OpenAICompletionsHandler")
    _expected = shapes_of(_kinds)
    _stream_fields = STREAM_WITH_USAGE

    def _request(self, prompt: str, model_kwargs: dict[str, Any]) -> dict[str, Any]:
        return {"prompt": self._check_text(prompt), **model_kwargs}


class JumpStartTextHandler(TextModelHandler[str]):
    """JumpStart's text models, old and new, each in its own format.

    Llama 2 also needs the custom attribute ``accept_eula=true``, which is a request header and not the handler's:
    ``Endpoint(..., endpoint_kwargs={"CustomAttributes": "accept_eula=true"})``.

    Args:
        family: ``"llama-2"`` and ``"llama-3"`` take ``{"inputs", "parameters"}``; ``"flan-t5"``, ``"gpt-j"`` and
            ``"bloomz"`` (2022 and 2023) take ``{"text_inputs", **parameters}``, have no place for stop sequences, and
            do not stream.
        require_end: whether a stream that ends without the end of its format (see "The end of a stream") is an error.
        errors: how half a character is handled, in whole answers and streams: an error, or U+FFFD with ``"replace"``.
    """

    __slots__ = ("_stream_fields", "family", "stop_parameter")

    _kinds = kinds_of("JumpStartTextHandler")
    _expected = shapes_of(_kinds)

    def __init__(self, family: JumpStartFamily, *, require_end: bool = True, errors: ErrorsOption = "strict") -> None:
        super().__init__(require_end=require_end, errors=errors)
        families = get_args(JumpStartFamily)
        if family not in families:
            raise ConfigurationError(f"family must be one of {', '.join(families)}, not {family!r}")
        self.family = family
        is_llama = family.startswith("llama")
        self.stop_parameter = "stop" if is_llama else None
        self._stream_fields = {"stream": True} if is_llama else {}

    def _request(self, prompt: str, model_kwargs: dict[str, Any]) -> dict[str, Any]:
        if self.stop_parameter is None:
            return {"text_inputs": self._check_text(prompt), **model_kwargs}
        return {"inputs": self._check_text(prompt), "parameters": model_kwargs}
