"""LangChain's chat model, text model and embeddings on SageMaker endpoints. Needs langchain-core."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from langchain_core.language_models import BaseChatModel, LangSmithParams
from langchain_core.messages import AIMessageChunk
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass

from smendpoint._calls.pipeline import cut_at_stop
from smendpoint.errors import ConfigurationError
from smendpoint.handlers import ChatCompletion, ChatHandler
from smendpoint.handlers._chat_answers import read_completion
from smendpoint.integrations._langchain_base import CONFIG, GeneratingModel
from smendpoint.integrations._langchain_messages import from_chunk, from_output, metadata_of, to_openai, usage_of
from smendpoint.integrations._langchain_text import SageMakerEmbeddings, SageMakerLLM

if TYPE_CHECKING:
    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
    from langchain_core.language_models import LanguageModelInput
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.tools import BaseTool

    from smendpoint._calls.response import Response
    from smendpoint._calls.stream import StreamBase
    from smendpoint.handlers.base import ContentHandler

__all__ = ["ChatSageMaker", "SageMakerEmbeddings", "SageMakerLLM"]

Method = Literal["json_schema", "function_calling", "json_mode"]
Shape = TypeVar("Shape")


class ChatSageMaker(GeneratingModel, BaseChatModel):
    """A chat model on a SageMaker endpoint: tools, structured output, streams, usage, and native asyncio.

    For containers with OpenAI's interface (vLLM, SGLang, TGI, LMI). Every field of that interface can be passed to
    ``invoke`` and the like, to ``bind``, or in ``model_kwargs``. The model takes all arguments of `Endpoint`, or an
    existing endpoint as ``endpoint``.

    Errors are those of this package: a stream that breaks raises a `StreamError`, whose ``received`` has its chunks.

    Raises:
        ConfigurationError: an argument is not valid for an endpoint.
            pydantic.ValidationError: an argument is not known, or has the wrong type.
    """

    model_config = CONFIG

    n: int | None = None
    """How many answers ``generate`` returns for each prompt; ``invoke`` returns the first. A stream has one."""

    @property
    def _llm_type(self) -> str:
        return "amazon_sagemaker_chat"

    def _default_handler(self) -> ContentHandler[Any, Any]:
        return ChatHandler()

    def _own_parameters(self) -> dict[str, Any]:
        return super()._own_parameters() | ({} if self.n is None else {"n": self.n})

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params.update(self._traced(stop, kwargs))
        return params

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call = self._call(stop, kwargs)
        return _result(self._twins.blocking().send(to_openai(messages), **call), call["stop"])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        endpoint = self._twins.awaited()
        if endpoint is None:  # a blocking client: in a thread
            return await super()._agenerate(messages, stop, run_manager, **kwargs)
        call = self._call(stop, kwargs)
        return _result(await endpoint.send(to_openai(messages), **call), call["stop"])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with self._twins.blocking().stream(to_openai(messages), **self._stream_call(stop, kwargs)) as stream:
            for chunk in stream:
                message = from_chunk(chunk)
                if message is not None:
                    made = ChatGenerationChunk(message=message)
                    if run_manager is not None:
                        run_manager.on_llm_new_token(made.text, chunk=made)
                    yield made
        yield _end(stream)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        endpoint = self._twins.awaited()
        if endpoint is None:  # a blocking client: in threads
            async for made in super()._astream(messages, stop, run_manager, **kwargs):
                yield made
            return
        async with endpoint.stream(to_openai(messages), **self._stream_call(stop, kwargs)) as stream:
            async for chunk in stream:
                message = from_chunk(chunk)
                if message is not None:
                    made = ChatGenerationChunk(message=message)
                    if run_manager is not None:
                        await run_manager.on_llm_new_token(made.text, chunk=made)
                    yield made
        yield _end(stream)

    def _stream_call(self, stop: list[str] | None, given: dict[str, Any]) -> dict[str, Any]:
        call = self._call(stop, given)
        if call.get("n") not in (None, 1):
            raise ConfigurationError("a stream has one answer: leave out n, or do not stream")
        return call

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: dict[str, Any] | str | bool | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return this model with tools that it may call.

        Args:
            tools: functions, pydantic classes, LangChain's tools, or schemas.
            tool_choice: ``"auto"`` lets the model decide; ``"any"``, ``"required"`` or ``True`` make it call one;
                ``"none"`` or ``False`` prevent that; the name of a tool makes it call that tool. A mapping is sent
                unchanged.
            strict: whether the container enforces the tool's schema for the arguments, if it supports that option.
            **kwargs: further parameters for the model, such as ``parallel_tool_calls``.

        Raises:
            ConfigurationError: ``tool_choice`` is not among the tools.
        """
        functions = [convert_to_openai_tool(tool, strict=strict) for tool in tools]
        if tool_choice is not None:
            kwargs["tool_choice"] = _choice(tool_choice, [tool["function"]["name"] for tool in functions])
        return self.bind(tools=functions, **kwargs)

    @overload
    def with_structured_output(
        self,
        schema: type[Shape],
        *,
        method: Method = "json_schema",
        include_raw: Literal[False] = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Shape]: ...
    @overload
    def with_structured_output(
        self,
        schema: dict[str, Any] | type | None = None,
        *,
        method: Method = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]: ...
    def with_structured_output(
        self,
        schema: dict[str, Any] | type | None = None,
        *,
        method: Method = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Return this model with structured answers.

        Args:
            schema: a pydantic class, whose objects are the answers; or a ``TypedDict``, a JSON schema or a function
                schema, for mappings that are not checked.
            method: with ``"json_schema"`` the container enforces the schema while it generates (``response_format``);
                with ``"function_calling"`` the model calls a function with these arguments; ``"json_mode"`` only
                requests JSON, and the prompt must describe it.
            include_raw: return a mapping of ``raw``, ``parsed`` and ``parsing_error``, instead of raising that error.
            strict: as for `bind_tools`; with ``"json_schema"``, sent with the schema.
            **kwargs: further parameters for the model.

        Raises:
            ConfigurationError: the method is not known, or the schema is missing.
        """
        if method not in ("json_schema", "function_calling", "json_mode"):
            raise ConfigurationError(f"method must be json_schema, function_calling or json_mode, not {method!r}")
        if schema is None and method != "json_mode":
            raise ConfigurationError(f"the method {method!r} needs a schema")
        if isinstance(schema, dict) and schema.keys().isdisjoint(("name", "title", "toolSpec", "function")):
            schema = {"title": "answer", **schema}  # LangChain makes the name of a function from it
        traced = {
            "kwargs": {"method": method, "strict": strict},
            "schema": schema or {"title": "JSON", "type": "object"},
        }
        kwargs["ls_structured_output_format"] = traced
        of_class: Any = schema if isinstance(schema, type) and is_basemodel_subclass(schema) else None
        parser: Any = JsonOutputParser() if of_class is None else PydanticOutputParser(pydantic_object=of_class)
        if method == "json_mode" or schema is None:
            model: Runnable[Any, Any] = self.bind(response_format={"type": "json_object"}, **kwargs)
        elif method == "json_schema":
            model = self.bind(response_format=_response_format(schema, strict), **kwargs)
        else:
            name = convert_to_openai_tool(schema)["function"]["name"]
            model = self.bind_tools([schema], tool_choice=name, strict=strict, **kwargs)
            if of_class is None:
                parser = JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)
            else:
                parser = PydanticToolsParser(tools=[of_class], first_tool_only=True)
        if not include_raw:
            structured: Runnable[LanguageModelInput, Any] = model | parser
            return structured
        parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
        failed = RunnablePassthrough.assign(parsed=lambda _: None)
        return RunnableMap(raw=model) | parsed.with_fallbacks([failed], exception_key="parsing_error")


def _result(answer: Response[Any], stop: Sequence[str] | None) -> ChatResult:
    """Make the result of an answer: one generation for each of its choices."""
    output = answer.output
    outputs = [output]
    if isinstance(output, ChatCompletion) and output.raw is not None:
        raw, choices = output.raw, output.raw.get("choices")
        for choice in choices[1:] if isinstance(choices, list) else ():
            other = read_completion({**raw, "choices": [choice]})
            if other is not None:
                # the counts are those of all choices together
                outputs.append(cut_at_stop(other._replace(usage=None), stop or ()))
    made: list[ChatGeneration] = []
    for one in outputs:
        message = from_output(one)
        if answer.request_id is not None:
            message.response_metadata["request_id"] = answer.request_id
        reason = message.response_metadata.get("finish_reason")
        made.append(ChatGeneration(message=message, generation_info={"finish_reason": reason}))
    known = outputs[0].raw or {} if isinstance(outputs[0], ChatCompletion) else {}
    about = {"token_usage": known.get("usage"), "model_name": known.get("model")}
    return ChatResult(generations=made, llm_output={name: value for name, value in about.items() if value is not None})


def _end(stream: StreamBase[Any, Any]) -> ChatGenerationChunk:
    """Make the last chunk of a stream, with the counts and the other facts known at its end."""
    completion = getattr(stream.decoder, "completion", None)
    raw = completion.raw or {} if isinstance(completion, ChatCompletion) else {}
    message = AIMessageChunk(
        content="",
        usage_metadata=usage_of(stream.usage, raw),
        response_metadata=metadata_of(raw, stream.finish_reason, request_id=stream.request_id),
        chunk_position="last",
    )
    return ChatGenerationChunk(message=message, generation_info={"finish_reason": stream.finish_reason})


def _choice(tool_choice: dict[str, Any] | str | bool, names: list[str]) -> dict[str, Any] | str:
    """Give OpenAI's ``tool_choice``."""
    if isinstance(tool_choice, dict):
        return tool_choice
    words = {"auto": "auto", "any": "required", "required": "required", "none": "none", True: "required", False: "none"}
    if tool_choice in names:
        return {"type": "function", "function": {"name": tool_choice}}
    if tool_choice not in words:
        raise ConfigurationError(f"tool_choice {tool_choice!r} is not among the tools: {', '.join(names)}")
    return words[tool_choice]


def _response_format(schema: dict[str, Any] | type, strict: bool | None) -> dict[str, Any]:
    function = convert_to_openai_tool(schema, strict=strict)["function"]
    wanted = {"name": function["name"], "schema": convert_to_json_schema(schema, strict=strict)}
    if strict is not None:
        wanted["strict"] = strict
    return {"type": "json_schema", "json_schema": wanted}
