"""Answer a question from documents: put all of them into one prompt and send it to an endpoint."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Mapping
from operator import index
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, overload

from smendpoint.errors import ConfigurationError, PromptError
from smendpoint.prompts import ChatPromptTemplate, Message, PromptTemplate, is_collection, quoted, read_document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["DEFAULT_PROMPT", "HasPageContent", "StuffDocumentsQA", "StuffedPrompt", "SupportsInvoke", "SupportsStream"]

DEFAULT_PROMPT = PromptTemplate(
    "Answer the question from the text below and from nothing else. "
    "If the text does not hold the answer, say that you do not know.\n\n"
    "{context}\n\n"
    "Question: {question}\n"
    "Answer:"
)
"""The default ``prompt`` of a :class:`StuffDocumentsQA`."""

Input_contra = TypeVar("Input_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)
Endpoint_co = TypeVar("Endpoint_co", covariant=True)
Prompt_co = TypeVar("Prompt_co", covariant=True)
Result = TypeVar("Result")


class HasPageContent(Protocol):
    """A document of any library: it has ``page_content``, and perhaps ``metadata``."""

    @property
    def page_content(self) -> str:
        """The text."""
        ...


class SupportsInvoke(Protocol[Input_contra, Result_co]):
    """The type that :meth:`StuffDocumentsQA.answer` needs: ``Endpoint``, ``AsyncEndpoint`` or a similar class."""

    def invoke(self, input: Input_contra, /, *args: Any, **kwargs: Any) -> Result_co:
        """Answer one input."""
        ...


class SupportsStream(Protocol[Input_contra, Result_co]):
    """The type that :meth:`StuffDocumentsQA.stream` needs."""

    def stream(self, input: Input_contra, /, *args: Any, **kwargs: Any) -> Result_co:
        """Answer one input as a stream."""
        ...


# Type checkers compare the endpoint's input with the prompt at the constructor, not at each question.
TextEndpoint = TypeVar("TextEndpoint", bound=SupportsInvoke[str, Any])
ChatEndpoint = TypeVar("ChatEndpoint", bound=SupportsInvoke[list[Message], Any])


class StuffedPrompt(Generic[Prompt_co]):
    """A finished prompt, with the documents that it uses and those that did not fit.

    Attributes:
        prompt: the input for the endpoint: a text, or a list of messages.
        used: the documents in the prompt, in order, as they were passed in.
        dropped: the documents left out because they did not fit ``max_prompt_tokens``, in order.
        tokens: the number of tokens of ``prompt``, from ``count_tokens``; ``None`` without a limit.
    """

    __slots__ = ("dropped", "prompt", "tokens", "used")

    def __init__(
        self, prompt: Prompt_co, used: Iterable[Any], dropped: Iterable[Any] = (), tokens: int | None = None
    ) -> None:
        self.prompt = prompt
        self.used = tuple(used)
        self.dropped = tuple(dropped)
        self.tokens = tokens

    def __repr__(self) -> str:
        # The prompt and the documents may be private: they are not shown.
        counted = "" if self.tokens is None else f", {self.tokens} tokens"
        return f"<StuffedPrompt: {len(self.used)} documents used, {len(self.dropped)} dropped{counted}>"


class StuffDocumentsQA(Generic[Endpoint_co, Prompt_co]):
    """Answers questions from documents, with one call for each question.

    One class serves both twins. :meth:`answer` returns the result of the endpoint's ``invoke``: await it with an
    ``AsyncEndpoint``. :meth:`stream` returns the result of its ``stream``.

    Args:
        endpoint: an ``Endpoint``, an ``AsyncEndpoint``, or anything with ``invoke`` (and ``stream``).
        prompt: a template with the fields ``{context}`` and ``{question}``; or ``(role, template)`` pairs or message
            dicts (or a ``ChatPromptTemplate``) that have them, for an endpoint that takes messages.
        document_prompt: a template for each document, with ``{page_content}`` and any keys of its metadata.
        document_separator: the text between two documents.
        document_variable_name: the field of ``prompt`` for the documents.
        question_variable_name: the field of ``prompt`` for the question.
        max_prompt_tokens: how many tokens the prompt may have; needs ``count_tokens``.
        count_tokens: returns the number of tokens of a prompt. It is called with the endpoint's exact input, a text or
            a list of messages: once for each question, and about log2(documents) more times if documents are dropped.
        overflow: what to do with a longer prompt: ``"error"`` raises; ``"drop"`` leaves out whole documents from the
            end, as few as possible. :attr:`StuffedPrompt.dropped` has them; the log ``smendpoint.qa`` has their number.
        allow_no_documents: also ask when there is no document (or when dropping leaves none).

    Raises:
        PromptError: a template is not valid, or has no field for the documents or for the question.
        ConfigurationError: another argument is not valid.
    """

    @overload
    def __init__(
        self: StuffDocumentsQA[TextEndpoint, str],
        endpoint: TextEndpoint,
        *,
        prompt: str | PromptTemplate = ...,
        document_prompt: str | PromptTemplate = ...,
        document_separator: str = ...,
        document_variable_name: str = ...,
        question_variable_name: str = ...,
        max_prompt_tokens: int | None = ...,
        count_tokens: Callable[[str], int] | None = ...,
        overflow: Literal["error", "drop"] = ...,
        allow_no_documents: bool = ...,
    ) -> None: ...
    @overload
    def __init__(
        self: StuffDocumentsQA[ChatEndpoint, list[Message]],
        endpoint: ChatEndpoint,
        *,
        prompt: ChatPromptTemplate | Sequence[tuple[str, str | PromptTemplate] | Mapping[str, Any]],
        document_prompt: str | PromptTemplate = ...,
        document_separator: str = ...,
        document_variable_name: str = ...,
        question_variable_name: str = ...,
        max_prompt_tokens: int | None = ...,
        count_tokens: Callable[[list[Message]], int] | None = ...,
        overflow: Literal["error", "drop"] = ...,
        allow_no_documents: bool = ...,
    ) -> None: ...
    def __init__(
        self,
        endpoint: Any,
        *,
        prompt: Any = DEFAULT_PROMPT,
        document_prompt: Any = "{page_content}",
        document_separator: Any = "\n\n",
        document_variable_name: str = "context",
        question_variable_name: str = "question",
        max_prompt_tokens: Any = None,
        count_tokens: Any = None,
        overflow: str = "error",
        allow_no_documents: bool = False,
    ) -> None:
        if not callable(getattr(endpoint, "invoke", None)):
            raise ConfigurationError(f"an endpoint must have an invoke method, {type(endpoint).__name__} has none")
        if not isinstance(document_separator, str):
            raise ConfigurationError(f"document_separator must be str, not {type(document_separator).__name__}")
        if overflow not in ("error", "drop"):
            raise ConfigurationError("overflow must be 'error' or 'drop'")
        _check_budget(max_prompt_tokens, count_tokens)
        self._endpoint: Endpoint_co = endpoint
        self._prompt = _as_prompt(prompt)
        template = document_prompt if isinstance(document_prompt, PromptTemplate) else PromptTemplate(document_prompt)
        if not template.input_variables:
            raise PromptError("document_prompt has no field: every document would read the same")
        self._document_prompt = template
        self._document_separator = document_separator
        self._document_variable_name = document_variable_name
        self._question_variable_name = question_variable_name
        self._max_prompt_tokens: int | None = max_prompt_tokens
        self._count_tokens = count_tokens
        self._overflow = overflow
        self._allow_no_documents = allow_no_documents
        # A prompt without the question or the documents would cost money for a useless answer.
        if document_variable_name == question_variable_name:
            raise PromptError(f"the documents and the question cannot both go into {document_variable_name!r}")
        fields = self._prompt.input_variables
        for name, what in ((document_variable_name, "documents"), (question_variable_name, "question")):
            if name not in fields:
                raise PromptError(f"the prompt has no field {'{' + name + '}'} for the {what}; it has {quoted(fields)}")

    @property
    def endpoint(self) -> Endpoint_co:
        """The endpoint that answers."""
        return self._endpoint

    @property
    def prompt(self) -> PromptTemplate | ChatPromptTemplate:
        """The template of the prompt."""
        return self._prompt

    @property
    def extra_variables(self) -> tuple[str, ...]:
        """The other fields of the prompt; each call must pass ``prompt_variables`` for them."""
        own = (self._document_variable_name, self._question_variable_name)
        return tuple([name for name in self._prompt.input_variables if name not in own])

    def answer(
        self: StuffDocumentsQA[SupportsInvoke[Any, Result], Any],
        question: str,
        documents: Iterable[str | Mapping[str, Any] | HasPageContent],
        *,
        prompt_variables: Mapping[str, object] | None = None,
        **invoke_kwargs: Any,
    ) -> Result:
        """Ask the endpoint.

        Args:
            question: the question.
            documents: the texts to answer from; see :meth:`stuff`.
            prompt_variables: values for the other fields of the prompt.
            **invoke_kwargs: for the endpoint's ``invoke``: model parameters, ``stop``, ``timeout`` and the like.

        Returns:
            The result of the endpoint's ``invoke``: the answer or, with an ``AsyncEndpoint``, an awaitable of it.

        Raises:
            PromptError: the prompt cannot be built, or it is too long; raised before the call, also with an
                ``AsyncEndpoint``.
            ConfigurationError: a keyword is an option of this class or of the endpoint.
        """
        return self._ask(self._endpoint.invoke, question, documents, prompt_variables, invoke_kwargs)

    def stream(
        self: StuffDocumentsQA[SupportsStream[Any, Result], Any],
        question: str,
        documents: Iterable[str | Mapping[str, Any] | HasPageContent],
        *,
        prompt_variables: Mapping[str, object] | None = None,
        **stream_kwargs: Any,
    ) -> Result:
        """Ask the endpoint and stream the answer.

        Args:
            question, documents, prompt_variables: as for :meth:`answer`.
            **stream_kwargs: for the endpoint's ``stream``: model parameters, ``stop``, ``timeout`` and the like.

        Returns:
            The result of the endpoint's ``stream``: a ``Stream`` or an ``AsyncStream``.

        Raises:
            ConfigurationError: the endpoint cannot stream. Others as for :meth:`answer`.
        """
        if not callable(getattr(self._endpoint, "stream", None)):
            raise ConfigurationError(f"{type(self._endpoint).__name__} has no stream method")
        return self._ask(self._endpoint.stream, question, documents, prompt_variables, stream_kwargs)

    def _ask(
        self, method: Callable[..., Result], question: str, documents: Any, variables: Any, keywords: dict[str, Any]
    ) -> Result:
        for name in _OPTIONS.intersection(keywords):
            raise ConfigurationError(
                f"{name} cannot be given with a question: give it to StuffDocumentsQA(..., {name}=...). "
                f"If the model has a parameter of that name, send it with parameters={{{name!r}: ...}}"
            )
        prompt = self.stuff(question, documents, prompt_variables=variables).prompt
        try:
            return method(prompt, **keywords)
        except BaseException:
            keywords.clear()  # it may hold a call's members, and several frames refer to it
            raise

    def stuff(
        self,
        question: str,
        documents: Iterable[str | Mapping[str, Any] | HasPageContent],
        *,
        prompt_variables: Mapping[str, object] | None = None,
    ) -> StuffedPrompt[Prompt_co]:
        """Build the prompt without calling the endpoint.

        Args:
            question: the question.
            documents: the texts to answer from, the most important first. Each is a ``str``, a
                :class:`~smendpoint.Document`, any other object with ``page_content`` (and ``metadata``), or a mapping
                with these keys; a mapping's other entries are metadata too.
            prompt_variables: values for the other fields of the prompt.

        Returns:
            The prompt with the documents that are in it, and those that were dropped.

        Raises:
            PromptError: there is no document, an item is not a document or lacks metadata that ``document_prompt``
                uses, a field has no value, or the prompt is too long. The message says by how many tokens.
        """
        items = _listed(documents)
        if not items and not self._allow_no_documents:
            raise PromptError("there is no document to answer from; allow_no_documents=True asks anyway")
        texts = [self._document_text(number, item) for number, item in enumerate(items)]
        values: dict[str, object] = dict(prompt_variables or {})
        for name in (self._document_variable_name, self._question_variable_name):
            if name in values:
                raise PromptError(f"{name!r} is already filled in: it cannot be one of prompt_variables")
        values[self._question_variable_name] = question

        def build(used: int) -> Any:
            values[self._document_variable_name] = self._document_separator.join(texts[:used])
            return self._prompt.format(**values)

        return self._fit(items, build)

    def _document_text(self, number: int, item: Any) -> str:
        label = f"documents[{number}]"
        content, metadata = read_document(item, label)
        needed = self._document_prompt.input_variables
        missing = [name for name in needed if name != "page_content" and name not in metadata]
        if missing:
            has = quoted(metadata, "nothing")
            raise PromptError(f"document_prompt needs {quoted(missing)}, but the metadata of {label} has {has}")
        # The content is the document's own text, even if its metadata has a key of that name.
        values = {name: content if name == "page_content" else metadata[name] for name in needed}
        try:
            return self._document_prompt.format(**values)
        except PromptError as error:
            raise PromptError(f"{label}: {error}") from error.__cause__

    def _fit(self, items: list[Any], build: Callable[[int], Any]) -> StuffedPrompt[Any]:
        """Build the prompt with as many documents as fit."""
        limit, everything = self._max_prompt_tokens, len(items)
        if limit is None:
            return StuffedPrompt(build(everything), items)
        tried: dict[int, StuffedPrompt[Any]] = {}

        def count(used: int) -> int:
            prompt = build(used)
            tokens = self._count(prompt)
            tried[used] = StuffedPrompt(prompt, items[:used], items[used:], tokens)
            return tokens

        if count(everything) <= limit:
            return tried[everything]
        if self._overflow == "error":
            raise _too_long(tried[everything], limit, "pass fewer or shorter documents, or overflow='drop'")
        # The number of tokens grows with the number of documents: a binary search finds the most that fit. Each
        # candidate is counted as a whole, since the token counts of parts do not add up.
        least = 0 if self._allow_no_documents else 1
        fitting = bisect_right(range(least, everything), limit, key=count)
        if not fitting:
            raise _too_long(tried[least], limit, "there is nothing more to drop")
        best = tried[least + fitting - 1]
        logging = sys.modules.get("logging")  # a program that has not imported it has no handler
        if logging is not None:
            # The caller of `answer` does not get the `StuffedPrompt`, so the log has the counts, without any text.
            message = "left out %d of %d documents to stay within %d tokens"
            logging.getLogger("smendpoint.qa").info(message, len(best.dropped), len(items), limit)
        return best

    def _count(self, prompt: Any) -> int:
        try:
            counted = self._count_tokens(prompt)
        except Exception as error:
            raise PromptError(f"count_tokens failed with {type(error).__name__}") from error
        try:
            return index(counted)
        except TypeError:
            raise PromptError(f"count_tokens must return a number of tokens, not {type(counted).__name__}") from None


_OPTIONS = frozenset(vars(StuffDocumentsQA)["__init__"].__kwdefaults__)


def _too_long(stuffed: StuffedPrompt[Any], limit: int, cure: str) -> PromptError:
    documents, tokens = len(stuffed.used), stuffed.tokens or 0
    plural = "" if documents == 1 else "s"
    return PromptError(
        f"the prompt with {documents} document{plural} has {tokens} tokens, "
        f"{tokens - limit} more than max_prompt_tokens={limit}: {cure}"
    )


def _check_budget(max_prompt_tokens: Any, count_tokens: Any) -> None:
    if (max_prompt_tokens is None) != (count_tokens is None):
        raise ConfigurationError("max_prompt_tokens and count_tokens go together: pass both or neither")
    if max_prompt_tokens is None:
        return
    if not isinstance(max_prompt_tokens, int) or isinstance(max_prompt_tokens, bool) or max_prompt_tokens < 1:
        raise ConfigurationError("max_prompt_tokens must be a whole number above 0")
    if not callable(count_tokens):
        raise ConfigurationError(f"count_tokens must be a function, not {type(count_tokens).__name__}")


def _as_prompt(prompt: Any) -> PromptTemplate | ChatPromptTemplate:
    if isinstance(prompt, (PromptTemplate, ChatPromptTemplate)):
        return prompt
    if isinstance(prompt, str):
        return PromptTemplate(prompt)
    if is_collection(prompt):
        return ChatPromptTemplate(prompt)
    raise PromptError(f"prompt must be a template or (role, template) pairs, not {type(prompt).__name__}")


def _listed(documents: Any) -> list[Any]:
    # A single document may be iterable as well: a text has characters, a mapping has keys.
    if not is_collection(documents) or hasattr(documents, "page_content"):
        raise PromptError(f"documents must be a list of documents, not one {type(documents).__name__}")
    return list(documents)
