"""LangChain's text model on a SageMaker endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast, overload

from smendpoint.errors import ConfigurationError, HandlerError, PromptError
from smendpoint.langchain._base import Model, in_thread, refuse
from smendpoint.prompts import is_collection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from typing_extensions import Unpack

    from smendpoint._calls.stream import Stream
    from smendpoint.handlers.base import ContentHandler
    from smendpoint.langchain._base import ModelOptions

__all__ = ["Generation", "LLMResult", "SagemakerEndpoint"]


class Generation(NamedTuple):
    """One answer of :meth:`SagemakerEndpoint.generate`.

    Attributes:
        text: the answer.
    """

    text: str


class LLMResult(NamedTuple):
    """The result of :meth:`SagemakerEndpoint.generate`.

    Attributes:
        generations: for each prompt, a list with its one answer.
    """

    generations: list[list[Generation]]


class SagemakerEndpoint(Model[str, str]):
    """A text model on a SageMaker endpoint, with LangChain's methods.

    Await the methods that begin with ``a``: they use separate connections for asyncio, or threads if there is a
    ``client``.

    Args:
        endpoint_name: the endpoint's name.
        content_handler: makes requests from prompts and texts from answers; by default for text generation.
        streaming: whether :meth:`invoke` uses the streaming operation, and joins the chunks.
        **options: every other argument of :class:`~smendpoint.Endpoint`, such as ``region_name``,
            ``credentials_profile_name``, ``model_kwargs``, ``endpoint_kwargs``, ``inference_component_name``,
            ``endpoint_url`` or ``timeout``; ``None`` is the same as leaving it out. Keys may be pydantic's
            ``SecretStr``. With ``client``, a boto3 ``sagemaker-runtime`` client, the region, the profile, keys,
            ``endpoint_url`` and ``config`` are ignored, as in LangChain.

    Raises:
        ConfigurationError: an argument is not valid, or would have no effect here.
    """

    __slots__ = ("_streaming",)

    def __init__(
        self,
        *,
        endpoint_name: str,
        content_handler: ContentHandler[str, str] | None = None,
        streaming: bool | None = False,
        **options: Unpack[ModelOptions],
    ) -> None:
        super().__init__(endpoint_name, content_handler, cast("Any", options))
        self._streaming = bool(streaming)

    def invoke(
        self, input: str, config: Mapping[str, Any] | None = None, *, stop: Sequence[str] | None = None, **kwargs: Any
    ) -> str:
        """Return the model's answer to a prompt.

        Args:
            input: the prompt: a text, or an object with ``to_string()`` such as LangChain's prompt values.
            config: settings of LangChain's callbacks and tracing; none may be set.
            stop: texts at which the answer ends.
            **kwargs: parameters for the model.

        Raises:
            SmendpointError: as for ``Endpoint.invoke`` and ``Endpoint.stream``.
        """
        if not self._streaming:
            _no_config(config)
            return self._endpoint.invoke(_prompt(input), stop=stop, **_model_kwargs(kwargs))
        with self.stream(input, config, stop=stop, **kwargs) as chunks:
            return _joined(list(chunks))

    async def ainvoke(
        self, input: str, config: Mapping[str, Any] | None = None, *, stop: Sequence[str] | None = None, **kwargs: Any
    ) -> str:
        """Give the model's answer to a prompt; see :meth:`invoke`."""
        endpoint = self._asynchronous()
        if endpoint is None:
            return await in_thread(lambda: self.invoke(input, config, stop=stop, **kwargs))
        _no_config(config)
        if not self._streaming:
            return await endpoint.invoke(_prompt(input), stop=stop, **_model_kwargs(kwargs))
        async with endpoint.stream(_prompt(input), stop=stop, **_model_kwargs(kwargs)) as chunks:
            return _joined([chunk async for chunk in chunks])

    def __call__(self, prompt: str, stop: Sequence[str] | None = None, **kwargs: Any) -> str:
        """Give the model's answer to a prompt; see :meth:`invoke`."""
        return self.invoke(prompt, stop=stop, **kwargs)

    def stream(
        self, input: str, config: Mapping[str, Any] | None = None, *, stop: Sequence[str] | None = None, **kwargs: Any
    ) -> Stream[str]:
        """Give the model's answer as it arrives; arguments as for :meth:`invoke`."""
        _no_config(config)
        return self._endpoint.stream(_prompt(input), stop=stop, **_model_kwargs(kwargs))

    def astream(
        self, input: str, config: Mapping[str, Any] | None = None, *, stop: Sequence[str] | None = None, **kwargs: Any
    ) -> AsyncIterator[str]:
        """Give the model's answer as it arrives; arguments as for :meth:`invoke`."""
        endpoint = self._asynchronous()
        if endpoint is None:
            return _from_threads(self.stream(input, config, stop=stop, **kwargs))
        _no_config(config)
        return endpoint.stream(_prompt(input), stop=stop, **_model_kwargs(kwargs))

    @overload
    def batch(
        self, inputs: Sequence[str], config: Any = None, *, return_exceptions: Literal[False] = False, **kwargs: Any
    ) -> list[str]: ...
    @overload
    def batch(
        self, inputs: Sequence[str], config: Any = None, *, return_exceptions: bool, **kwargs: Any
    ) -> list[str | Exception]: ...
    def batch(
        self,
        inputs: Sequence[str],
        config: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Give the model's answers to several prompts, in order.

        Args:
            inputs: the prompts, as for :meth:`invoke`.
            config: only ``max_concurrency`` may be set: the most calls in flight at once. Without it, the batch finds
                out how many the endpoint can take. With ``streaming`` the calls are made one after the other. If each
                prompt has a config, the first one counts.
            return_exceptions: whether a call's error takes the place of its answer, or is raised.
            **kwargs: ``stop``, and parameters for the model.

        Raises:
            SmendpointError: as for :meth:`invoke`.
        """
        prompts, limit = _batch(inputs, config)
        if not self._streaming:
            options = _batch_options(return_exceptions, kwargs)
            return list(self._endpoint.map(prompts, max_concurrency=limit, **options))
        answers: list[Any] = []
        for prompt in prompts:
            try:
                answers.append(self.invoke(prompt, **kwargs))
            except Exception as error:
                if not return_exceptions:
                    raise
                answers.append(error)
        return answers

    @overload
    async def abatch(
        self, inputs: Sequence[str], config: Any = None, *, return_exceptions: Literal[False] = False, **kwargs: Any
    ) -> list[str]: ...
    @overload
    async def abatch(
        self, inputs: Sequence[str], config: Any = None, *, return_exceptions: bool, **kwargs: Any
    ) -> list[str | Exception]: ...
    async def abatch(
        self,
        inputs: Sequence[str],
        config: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Give the model's answers to several prompts, in order; see :meth:`batch`."""
        endpoint = self._asynchronous()
        if endpoint is None:
            return await in_thread(lambda: self.batch(inputs, config, return_exceptions=return_exceptions, **kwargs))
        prompts, limit = _batch(inputs, config)
        if not self._streaming:
            options = _batch_options(return_exceptions, kwargs)
            return [answer async for answer in endpoint.map(prompts, max_concurrency=limit, **options)]
        answers: list[Any] = []
        for prompt in prompts:
            try:
                answers.append(await self.ainvoke(prompt, **kwargs))
            except Exception as error:
                if not return_exceptions:
                    raise
                answers.append(error)
        return answers

    def generate(self, prompts: Sequence[str], stop: Sequence[str] | None = None, **kwargs: Any) -> LLMResult:
        """Give the model's answers to several prompts, one after the other.

        Args:
            prompts: the prompts.
            stop: texts at which each answer ends.
            **kwargs: parameters for the model.
        """
        return LLMResult([[Generation(self.invoke(prompt, stop=stop, **kwargs))] for prompt in _listed(prompts)])

    async def agenerate(self, prompts: Sequence[str], stop: Sequence[str] | None = None, **kwargs: Any) -> LLMResult:
        """Give the model's answers to several prompts, one after the other; see :meth:`generate`."""
        return LLMResult([[Generation(await self.ainvoke(prompt, stop=stop, **kwargs))] for prompt in _listed(prompts)])


def _no_config(config: Mapping[str, Any] | None) -> None:
    refuse("a config of SagemakerEndpoint", config or {})


def _model_kwargs(kwargs: dict[str, Any]) -> dict[str, Any]:
    # These would otherwise reach the model as parameters.
    for name in ("callbacks", "run_manager"):
        if kwargs.pop(name, None):
            refuse("SagemakerEndpoint", {name: True})
    if "streaming" in kwargs:
        raise ConfigurationError(
            "streaming cannot be given to a call, only to the constructor: SagemakerEndpoint(..., streaming=...). "
            "If the model has a parameter of that name, send it with parameters={'streaming': ...}"
        )
    return kwargs


def _prompt(value: Any) -> str:
    text = value.to_string() if hasattr(value, "to_string") else value
    if not isinstance(text, str):
        raise PromptError(f"a prompt must be text, not {type(value).__name__}")
    return text


def _listed(prompts: Any) -> list[Any]:
    if not is_collection(prompts):
        raise PromptError(f"prompts must be a list of texts, not one {type(prompts).__name__}")
    return list(prompts)


def _batch_options(return_exceptions: bool, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the keywords of `map`. LangChain's batch has an error for each prompt, whatever the error is."""
    return {"return_exceptions": return_exceptions, "stop_on_fatal": False, **_model_kwargs(kwargs)}


def _batch(inputs: Any, config: Any) -> tuple[list[str], int | None]:
    """Return the prompts of a batch, and how many may be in flight at once; `None` to find out."""
    configs = [config or {}] if config is None or isinstance(config, Mapping) else list(config)
    for one in configs:
        _no_config({name: value for name, value in (one or {}).items() if name != "max_concurrency"})
    limit: int | None = (configs[0] or {}).get("max_concurrency") if configs else None
    return [_prompt(value) for value in _listed(inputs)], limit


def _joined(parts: list[Any]) -> str:
    if not all(isinstance(part, str) for part in parts):
        raise HandlerError("streaming=True needs a content handler whose chunks are text")
    return "".join(parts)


async def _from_threads(stream: Stream[str]) -> AsyncIterator[str]:
    """Yield the chunks of a blocking stream; wait for each in a thread."""
    end: Any = object()
    try:
        while (chunk := await in_thread(lambda: next(stream, end))) is not end:
            yield chunk
    finally:
        stream.close()
