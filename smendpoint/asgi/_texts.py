"""OpenAI's completions for containers with other formats: an exact translation, or a refusal."""

from __future__ import annotations

import json
import time
import uuid
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from smendpoint._core.http.body import ResponseBody
from smendpoint.asgi._failures import Failure
from smendpoint.asgi._frames import DONE
from smendpoint.errors import HandlerError
from smendpoint.handlers._chat_answers import check_messages

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smendpoint._calls.async_stream import AsyncStream
    from smendpoint.async_endpoint import AsyncEndpoint
    from smendpoint.handlers._chat_answers import ChatChunk, ChatCompletion
    from smendpoint.handlers.base import Usage

# Fields that do not affect an answer.
_IGNORED = frozenset(
    {
        *("metadata", "model", "prompt_cache_key", "safety_identifier", "service_tier", "store", "stream"),
        *("stream_options", "user"),
    }
)
# Fields that these containers do not have, with the values that have no effect.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "function_call": (),
    "functions": ([],),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "presence_penalty": (0,),
    "reasoning_effort": (),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": (),
}
_OLD_JUMPSTART = ("jumpstart-flan-t5", "jumpstart-gpt-j", "jumpstart-bloomz")
# Finish reasons of TGI and LMI in OpenAI's words. OpenAI's streams must have one, so "stop" stands for a missing one.
_REASONS = {None: "stop", "eos_token": "stop", "stop_sequence": "stop"}


def _translate(format: str, request: dict[str, Any], own: tuple[str, ...]) -> dict[str, Any]:
    """Return the container's parameters for a request's fields; fields that are not OpenAI's are passed on unchanged.

    Args:
        own: the fields that are read elsewhere.

    Raises:
        Failure: the container has no exact equivalent.
    """
    parameters: dict[str, Any] = {}
    for name, value in request.items():
        if name in own or name in _IGNORED or name == "stop" or value is None:
            continue
        if name == "frequency_penalty" and format == "tgi":
            if value:
                parameters[name] = value
        elif name in _NEUTRAL:
            if not any(value == other and (value is False) is (other is False) for other in _NEUTRAL[name]):
                raise Failure(400, f"The container of this model has nothing like {name!r}.", param=name)
        elif name in ("max_tokens", "max_completion_tokens"):
            if format in _OLD_JUMPSTART:
                raise Failure(
                    400, f"The container of this model has nothing like {name!r}: its own is 'max_length'.", param=name
                )
            parameters["max_new_tokens"] = value
        elif name == "temperature":
            if not isinstance(value, (int, float)) or isinstance(value, bool) or value < 0:
                raise Failure(400, "'temperature' must be a number of at least 0.", param=name)
            # These containers choose the most likely token unless told to sample, and refuse the temperature 0.
            parameters.update({"do_sample": True, "temperature": value} if value else {"do_sample": False})
        elif name != "top_p" or value != 1:  # TGI refuses 1, which changes nothing
            parameters[name] = value
    return parameters


def _stops(request: dict[str, Any]) -> list[str]:
    stop = request.get("stop")
    stops = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(stops, list) or not all(isinstance(item, str) and item for item in stops):
        raise Failure(400, "'stop' must be a text, or a list of texts.", param="stop")
    return stops


class _Completion(ABC):
    """A request to continue a prompt or a conversation.

    Raises:
        Failure: the container cannot do this.
    """

    prefix = ""
    field = ""
    object = chunk_object = ""

    def __init__(
        self, model: str, endpoint: AsyncEndpoint[Any, Any, Any], format: str, request: dict[str, Any]
    ) -> None:
        self._endpoint = endpoint
        self._input = self._read_input(request)
        self._stop = _stops(request)
        self._parameters = _translate(format, request, (self.field,))
        options = request.get("stream_options")
        self._wants_usage = isinstance(options, dict) and options.get("include_usage") is True
        self._envelope = {"id": self.prefix + uuid.uuid4().hex, "created": int(time.time()), "model": model}

    @abstractmethod
    def _read_input(self, request: dict[str, Any]) -> Any: ...

    @abstractmethod
    def _choice(self, output: Any) -> dict[str, Any]: ...

    @abstractmethod
    def _piece(self, chunk: Any) -> dict[str, Any] | None: ...

    async def answer(self) -> bytes:
        response = await self._endpoint.send(self._input, stop=self._stop, parameters=self._parameters)
        reason = response.finish_reason
        if (
            self._stop
            and self._endpoint.content_handler.transform_output(ResponseBody(response.body)) != response.output
        ):
            reason = "stop"  # cut here
        choice = {"index": 0, **self._choice(response.output), "finish_reason": _REASONS.get(reason, reason)}
        answer = {**self._envelope, "object": self.object, "choices": [choice]}
        usage = _counts(response.usage)
        return _json({**answer, "usage": usage} if usage else answer)

    def stream(self) -> AsyncStream[Any, Any]:
        return self._endpoint.stream(self._input, stop=self._stop, parameters=self._parameters)

    def render(self, chunk: Any) -> bytes:
        piece = self._piece(chunk)
        return b"" if piece is None else self._event({**piece, "index": 0, "finish_reason": None})

    def end(self, stream: AsyncStream[Any, Any]) -> bytes:
        reason = stream.finish_reason
        last = self._event({**self._last, "index": 0, "finish_reason": _REASONS.get(reason, reason)})
        usage = _counts(stream.usage)
        if self._wants_usage and usage:
            counted = {**self._envelope, "object": self.chunk_object, "choices": [], "usage": usage}
            last += b"data: " + _json(counted) + b"\n\n"
        return last + DONE

    _last: ClassVar[Mapping[str, Any]] = {}

    def _event(self, choice: dict[str, Any]) -> bytes:
        return b"data: " + _json({**self._envelope, "object": self.chunk_object, "choices": [choice]}) + b"\n\n"


class Text(_Completion):
    """A request to continue a prompt."""

    prefix = "cmpl-"
    field = "prompt"
    object = chunk_object = "text_completion"
    _last: ClassVar[Mapping[str, Any]] = {"text": "", "logprobs": None}

    def _read_input(self, request: dict[str, Any]) -> str:
        prompt = request.get("prompt")
        if isinstance(prompt, list) and len(prompt) == 1:
            prompt = prompt[0]
        if not isinstance(prompt, str):
            raise Failure(400, "The container of this model takes one text as 'prompt'.", param="prompt")
        return prompt

    def _choice(self, output: str) -> dict[str, Any]:
        return {"text": output, "logprobs": None}

    def _piece(self, chunk: str) -> dict[str, Any]:
        return {"text": chunk, "logprobs": None}


class Chat(_Completion):
    """A request to continue a conversation."""

    prefix = "chatcmpl-"
    field = "messages"
    object = "chat.completion"
    chunk_object = "chat.completion.chunk"
    _last: ClassVar[Mapping[str, Any]] = {"delta": {}, "logprobs": None}

    def _read_input(self, request: dict[str, Any]) -> Any:
        messages = request.get("messages")
        try:
            if isinstance(messages, list):
                return check_messages(messages)
            said = "'messages' must be a list of messages."
        except HandlerError as error:
            said = error.message
        raise Failure(400, said, param="messages")

    def _choice(self, output: ChatCompletion) -> dict[str, Any]:
        return {"message": output.to_message(), "logprobs": None}

    def _piece(self, chunk: ChatChunk) -> dict[str, Any] | None:
        if not chunk.text:
            return None
        return {"delta": {"role": "assistant", "content": chunk.text}, "logprobs": None}


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _counts(usage: Usage | None) -> dict[str, int | None] | None:
    """Return the token counts; `None` if one is not known."""
    return None if usage is None or None in usage else usage._asdict()
