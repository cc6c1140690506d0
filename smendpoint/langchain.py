"""LangChain's names for the same things, so that a program written for LangChain runs with new import lines.

``SagemakerEndpoint``, ``LLMContentHandler``, ``PromptTemplate``, ``Document`` and ``load_qa_chain`` take the arguments
of their namesakes in LangChain, and nothing of LangChain is needed. What would have no effect here (callbacks, tracing,
memory, chain types other than ``"stuff"``) is refused, never ignored. All of it waits for the answer; for asyncio there
is :class:`~smendpoint.StuffDocumentsQA` over an :class:`~smendpoint.AsyncEndpoint`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

from smendpoint import prompts
from smendpoint.endpoint import Endpoint
from smendpoint.errors import ConfigurationError, HandlerError, PromptError
from smendpoint.prompts import Document
from smendpoint.qa import DEFAULT_PROMPT, StuffDocumentsQA, SupportsInvoke

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from smendpoint._core.response import ResponseBody
    from smendpoint._stream import Stream
    from smendpoint.handlers.base import ContentHandler

__all__ = [
    "ContentHandlerBase",
    "Document",
    "Generation",
    "LLMContentHandler",
    "LLMResult",
    "PromptTemplate",
    "SagemakerEndpoint",
    "StuffDocumentsChain",
    "load_qa_chain",
]

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")

# Arguments of LangChain's that do nothing as long as they ask for nothing.
_HARMLESS = {
    *("cache", "callback_manager", "callbacks", "configurable", "custom_get_token_ids", "include_run_info", "memory"),
    *("metadata", "name", "rate_limiter", "run_id", "run_name", "tags", "verbose"),
}


class ContentHandlerBase(ABC, Generic[InputT, OutputT]):
    """A base class for content handlers that take ``InputT`` and give ``OutputT``.

    Attributes:
        content_type: the media type of what :meth:`transform_input` gives.
        accepts: the media type that :meth:`transform_output` reads.
    """

    content_type: str = "text/plain"
    accepts: str = "text/plain"

    @abstractmethod
    def transform_input(self, prompt: InputT, model_kwargs: dict[str, Any]) -> bytes:
        """Give the request body for one prompt and the model parameters of this call."""

    @abstractmethod
    def transform_output(self, output: ResponseBody) -> OutputT:
        """Give the output for a response body: ``bytes`` that also have ``read()``."""


class LLMContentHandler(ContentHandlerBase[str, str]):
    """The base class of content handlers for text models."""


class PromptTemplate(prompts.PromptTemplate):
    """:class:`smendpoint.PromptTemplate` with the arguments of LangChain's.

    Args:
        template: the text with ``{name}`` fields.
        input_variables: the names of the fields; checked against the template, found there by default.
        partial_variables: values for some fields, filled in now.
        template_format: ``"f-string"``; the other formats of LangChain's run code or know no limits, and are refused.
        validate_template: has no effect, since every template is validated.

    Raises:
        PromptError: the text is no template, or ``input_variables`` are not its fields.
    """

    __slots__ = ()

    def __init__(
        self,
        template: str,
        input_variables: Iterable[str] | None = None,
        *,
        partial_variables: Mapping[str, object] | None = None,
        template_format: str = "f-string",
        validate_template: bool = False,
        **unknown: None,
    ) -> None:
        _refuse("PromptTemplate", unknown)
        if template_format != "f-string":
            raise PromptError(f"template_format must be 'f-string', not {template_format!r}")
        super().__init__(template)
        if partial_variables:
            filled = self.partial(**partial_variables)
            self._assign(filled._template, filled._parts, filled._fields, filled._partial)
        fields = self.input_variables
        given = fields if input_variables is None else tuple(input_variables)
        if set(given) != set(fields):
            raise PromptError(
                f"input_variables are {_names(given)}, but the fields of the template are {_names(fields)}"
            )

    @classmethod
    def from_template(
        cls,
        template: str,
        *,
        template_format: str = "f-string",
        partial_variables: Mapping[str, object] | None = None,
    ) -> PromptTemplate:
        """Make a template whose ``input_variables`` are found in the text."""
        return cls(template, partial_variables=partial_variables, template_format=template_format)


class Generation(NamedTuple):
    """One answer of :meth:`SagemakerEndpoint.generate`.

    Attributes:
        text: the answer.
    """

    text: str


class LLMResult(NamedTuple):
    """What :meth:`SagemakerEndpoint.generate` gives.

    Attributes:
        generations: for each prompt, a list with its one answer.
    """

    generations: list[list[Generation]]


class SagemakerEndpoint:
    """A text model on a SageMaker endpoint, called in LangChain's way.

    Args:
        endpoint_name: the endpoint's name.
        client: a boto3 ``sagemaker-runtime`` client. As in LangChain, it is then used as it is, and ``region_name``
            and ``credentials_profile_name`` are not looked at.
        region_name: the AWS region; by default what the AWS configuration says.
        credentials_profile_name: a profile of the AWS config files; by default the usual chain of credentials.
        content_handler: makes requests from prompts and texts from answers; by default for text generation.
        model_kwargs: parameters for the model, sent with every call; a call's own win.
        endpoint_kwargs: request members for every call in the AWS spelling.
        streaming: whether :meth:`invoke` uses the streaming operation, and joins what it sends.

    Raises:
        ConfigurationError: an argument does not fit, or would have no effect here.
    """

    __slots__ = ("_endpoint", "_streaming")

    def __init__(
        self,
        *,
        endpoint_name: str,
        client: Any = None,
        region_name: str | None = None,
        credentials_profile_name: str | None = None,
        content_handler: ContentHandler[str, str] | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        endpoint_kwargs: Mapping[str, object] | None = None,
        streaming: bool = False,
        **unknown: None,
    ) -> None:
        _refuse("SagemakerEndpoint", unknown)
        where: dict[str, Any] = {"client": client}
        if client is None:
            # LangChain's default for the region is an empty string.
            where = {"region_name": region_name or None, "credentials_profile_name": credentials_profile_name}
        made: Any = Endpoint(
            endpoint_name,
            content_handler=cast("Any", content_handler),
            model_kwargs=model_kwargs,
            endpoint_kwargs=endpoint_kwargs,
            **where,
        )
        self._endpoint: Endpoint[str, str, str] = made
        self._streaming = streaming

    @property
    def endpoint(self) -> Endpoint[str, str, str]:
        """The endpoint that is called."""
        return self._endpoint

    def invoke(
        self, input: str, config: Mapping[str, Any] | None = None, *, stop: Sequence[str] | None = None, **kwargs: Any
    ) -> str:
        """Give the model's answer to a prompt.

        Args:
            input: the prompt: a text, or an object with ``to_string()`` such as LangChain's prompt values.
            config: what LangChain's callbacks and tracing would be told; nothing may be set.
            stop: texts at which the answer ends.
            **kwargs: parameters for the model.

        Raises:
            SmendpointError: as for ``Endpoint.invoke`` and ``Endpoint.stream``.
        """
        _refuse("a config of SagemakerEndpoint", config or {})
        prompt = _prompt(input)
        if not self._streaming:
            return self._endpoint.invoke(prompt, stop=stop, **_model_kwargs(kwargs))
        with self._endpoint.stream(prompt, stop=stop, **_model_kwargs(kwargs)) as chunks:
            parts: list[Any] = list(chunks)
        if not all(isinstance(part, str) for part in parts):
            raise HandlerError("streaming=True needs a content handler whose chunks are text")
        return "".join(parts)

    def __call__(self, prompt: str, stop: Sequence[str] | None = None, **kwargs: Any) -> str:
        """Give the model's answer to a prompt; see :meth:`invoke`."""
        return self.invoke(prompt, stop=stop, **kwargs)

    def stream(
        self, input: str, config: Mapping[str, Any] | None = None, *, stop: Sequence[str] | None = None, **kwargs: Any
    ) -> Stream[str]:
        """Give the model's answer as it arrives; arguments as for :meth:`invoke`."""
        _refuse("a config of SagemakerEndpoint", config or {})
        return self._endpoint.stream(_prompt(input), stop=stop, **_model_kwargs(kwargs))

    def generate(self, prompts: Sequence[str], stop: Sequence[str] | None = None, **kwargs: Any) -> LLMResult:
        """Give the model's answers to several prompts, one after the other.

        Args:
            prompts: the prompts.
            stop: texts at which each answer ends.
            **kwargs: parameters for the model.
        """
        if isinstance(prompts, str):
            raise PromptError("prompts must be a list of texts, not one text")
        return LLMResult([[Generation(self.invoke(prompt, stop=stop, **kwargs))] for prompt in prompts])

    def close(self) -> None:
        """Close the connections that are open."""
        self._endpoint.close()

    def __repr__(self) -> str:
        return f"SagemakerEndpoint(endpoint_name={self._endpoint.endpoint_name!r})"


class StuffDocumentsChain:
    """Answers questions from documents, called in LangChain's way; :func:`load_qa_chain` makes it.

    Attributes:
        input_key: the input with the documents, ``"input_documents"``.
        output_key: the output with the answer, ``"output_text"``.
        qa: what does the work.
    """

    __slots__ = ("_question_key", "qa")

    input_key = "input_documents"
    output_key = "output_text"

    def __init__(self, qa: StuffDocumentsQA[SupportsInvoke[Any, Any], Any], *, question_key: str = "question") -> None:
        self.qa = qa
        self._question_key = question_key

    @property
    def input_keys(self) -> list[str]:
        """The inputs that are needed."""
        return [self.input_key, self._question_key, *self.qa.extra_variables]

    @property
    def output_keys(self) -> list[str]:
        """The outputs that are given."""
        return [self.output_key]

    def invoke(
        self,
        input: Mapping[str, Any],
        config: Mapping[str, Any] | None = None,
        *,
        return_only_outputs: bool = False,
        **unknown: None,
    ) -> dict[str, Any]:
        """Answer a question.

        Args:
            input: ``{"input_documents": documents, "question": question}``, and values for other fields of the prompt.
                As in LangChain, inputs that the prompt has no field for only come back with the answer.
            config: what LangChain's callbacks and tracing would be told; nothing may be set.
            return_only_outputs: whether to leave the inputs out of what is returned.

        Returns:
            The inputs, and the answer as ``"output_text"``.

        Raises:
            PromptError: an input is missing, or does not fit.
            SmendpointError: as for ``Endpoint.invoke``.
        """
        _refuse("a config of this chain", config or {})
        _refuse("this chain", unknown)
        if not isinstance(cast("object", input), Mapping):
            raise PromptError(f"the chain needs a mapping with {_names(self.input_keys)}, not {type(input).__name__}")
        missing = [key for key in self.input_keys if key not in input]
        if missing:
            raise PromptError(f"the chain needs {_names(self.input_keys)}; missing: {_names(missing)}")
        answer = self.qa.answer(
            input[self._question_key],
            input[self.input_key],
            prompt_variables={name: input[name] for name in self.qa.extra_variables},
        )
        if hasattr(answer, "__await__"):
            answer.close()  # nothing was sent; and Python does not warn that nobody awaited it
            raise ConfigurationError("this chain cannot await: use StuffDocumentsQA over an AsyncEndpoint")
        return {**({} if return_only_outputs else input), self.output_key: answer}

    def __call__(
        self, inputs: Mapping[str, Any], return_only_outputs: bool = False, callbacks: None = None, **unknown: None
    ) -> dict[str, Any]:
        """Answer a question; see :meth:`invoke`."""
        _refuse("this chain", {"callbacks": callbacks, **unknown})
        return self.invoke(inputs, return_only_outputs=return_only_outputs)

    def run(self, *args: Mapping[str, Any], **kwargs: Any) -> Any:
        """Answer a question and give the answer alone.

        Args:
            *args: the inputs as one mapping,
            **kwargs: or each as a keyword.
        """
        if len(args) + bool(kwargs) != 1:
            raise PromptError("run takes its inputs as one mapping or as keywords")
        return self.invoke(args[0] if args else kwargs)[self.output_key]


def load_qa_chain(
    llm: SupportsInvoke[Any, Any],
    chain_type: str = "stuff",
    verbose: bool | None = None,
    callback_manager: None = None,
    *,
    prompt: prompts.PromptTemplate | prompts.ChatPromptTemplate | str | None = None,
    document_prompt: str | prompts.PromptTemplate = "{page_content}",
    document_variable_name: str = "context",
    document_separator: str = "\n\n",
    allow_no_documents: bool = False,
    **unknown: None,
) -> StuffDocumentsChain:
    """Make a chain that answers questions from documents with one call.

    Args:
        llm: a :class:`SagemakerEndpoint`, an :class:`~smendpoint.Endpoint`, or anything with ``invoke``.
        chain_type: ``"stuff"``: all documents go into one prompt.
        verbose: must be false: prompts are never printed. ``chain.qa.stuff(question, documents)`` gives the prompt.
        callback_manager: must be ``None``.
        prompt: the template, with a field for the documents and one for the question.
        document_prompt: the template for each document.
        document_variable_name: the field of ``prompt`` for the documents.
        document_separator: what stands between two documents.
        allow_no_documents: also ask when there is no document.

    Raises:
        PromptError: a template does not fit.
        ConfigurationError: another chain type, or an argument that would have no effect here.
    """
    if chain_type != "stuff":
        raise ConfigurationError(f"chain_type must be 'stuff', not {chain_type!r}: one question is one call here")
    _refuse("load_qa_chain", {"verbose": verbose, "callback_manager": callback_manager, **unknown})
    template = prompts.PromptTemplate(prompt) if isinstance(prompt, str) else prompt or DEFAULT_PROMPT
    # LangChain's chain takes whatever its prompt needs: a lone other field is the question, whatever it is called.
    others = [name for name in template.input_variables if name != document_variable_name]
    question_key = others[0] if len(others) == 1 else "question"
    qa: StuffDocumentsQA[SupportsInvoke[Any, Any], Any] = StuffDocumentsQA(
        llm,
        prompt=cast("Any", template),
        document_prompt=document_prompt,
        document_separator=document_separator,
        document_variable_name=document_variable_name,
        question_variable_name=question_key,
        allow_no_documents=allow_no_documents,
    )
    return StuffDocumentsChain(qa, question_key=question_key)


def _refuse(what: str, unknown: Mapping[str, object]) -> None:
    asked = [name for name, value in unknown.items() if value or name not in _HARMLESS]
    if asked:
        raise ConfigurationError(f"{what} has no {_names(asked)}: it would have no effect in smendpoint")


def _model_kwargs(kwargs: dict[str, Any]) -> dict[str, Any]:
    # These would otherwise reach the model as parameters.
    for name in ("callbacks", "run_manager"):
        if kwargs.pop(name, None):
            _refuse("SagemakerEndpoint", {name: True})
    return kwargs


def _prompt(value: Any) -> str:
    text = value.to_string() if hasattr(value, "to_string") else value
    if not isinstance(text, str):
        raise PromptError(f"a prompt must be text, not {type(value).__name__}")
    return text


def _names(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
