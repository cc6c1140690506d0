"""LangChain's chain that answers questions from documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from smendpoint import prompts
from smendpoint.errors import ConfigurationError, PromptError
from smendpoint.langchain._base import in_thread, refuse
from smendpoint.prompts import quoted
from smendpoint.qa import DEFAULT_PROMPT, StuffDocumentsQA, SupportsInvoke

__all__ = ["StuffDocumentsChain", "load_qa_chain"]


class StuffDocumentsChain:
    """Answers questions from documents, with LangChain's methods; :func:`load_qa_chain` makes it.

    Attributes:
        input_key: the input with the documents, ``"input_documents"``.
        output_key: the output with the answer, ``"output_text"``.
        qa: the object that builds the prompts and makes the calls.
    """

    __slots__ = ("_question_key", "qa")

    input_key = "input_documents"
    output_key = "output_text"

    def __init__(self, qa: StuffDocumentsQA[SupportsInvoke[Any, Any], Any], *, question_key: str = "question") -> None:
        self.qa = qa
        self._question_key = question_key

    @property
    def input_keys(self) -> list[str]:
        """The names of the inputs."""
        return [self.input_key, self._question_key, *self.qa.extra_variables]

    @property
    def output_keys(self) -> list[str]:
        """The names of the outputs."""
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
                As in LangChain, inputs without a field in the prompt are only returned with the answer.
            config: settings of LangChain's callbacks and tracing; none may be set.
            return_only_outputs: whether to return the answer without the inputs.

        Returns:
            The inputs, and the answer as ``"output_text"``.

        Raises:
            PromptError: an input is missing or not valid.
            SmendpointError: as for ``Endpoint.invoke``.
        """
        question, documents, variables = self._read(input, config, unknown)
        answer = self.qa.answer(question, documents, prompt_variables=variables)
        if hasattr(answer, "__await__"):
            answer.close()  # nothing was sent; Python need not warn that it was never awaited
            raise ConfigurationError("invoke cannot await this model's answer: await ainvoke of the chain instead")
        return {**({} if return_only_outputs else input), self.output_key: answer}

    async def ainvoke(
        self,
        input: Mapping[str, Any],
        config: Mapping[str, Any] | None = None,
        *,
        return_only_outputs: bool = False,
        **unknown: None,
    ) -> dict[str, Any]:
        """Answer a question; see :meth:`invoke`. The model's ``ainvoke`` is awaited, or its ``invoke`` in a thread."""
        question, documents, variables = self._read(input, config, unknown)
        prompt = self.qa.stuff(question, documents, prompt_variables=variables).prompt
        model: Any = self.qa.endpoint
        if hasattr(model, "ainvoke"):
            answer = await model.ainvoke(prompt)
        else:
            answer = await in_thread(lambda: model.invoke(prompt))
            if hasattr(answer, "__await__"):
                answer = await answer
        return {**({} if return_only_outputs else input), self.output_key: answer}

    def _read(self, input: Mapping[str, Any], config: Mapping[str, Any] | None, unknown: Mapping[str, Any]) -> Any:
        """Check the inputs; return the question, the documents and the values for other fields of the prompt."""
        refuse("a config of this chain", config or {})
        refuse("this chain", unknown)
        if not isinstance(cast("object", input), Mapping):
            raise PromptError(f"the chain needs a mapping with {quoted(self.input_keys)}, not {type(input).__name__}")
        missing = [key for key in self.input_keys if key not in input]
        if missing:
            raise PromptError(f"the chain needs {quoted(self.input_keys)}; missing: {quoted(missing)}")
        return input[self._question_key], input[self.input_key], {name: input[name] for name in self.qa.extra_variables}

    def __call__(
        self, inputs: Mapping[str, Any], return_only_outputs: bool = False, callbacks: None = None, **unknown: None
    ) -> dict[str, Any]:
        """Answer a question; see :meth:`invoke`."""
        return self.invoke(inputs, return_only_outputs=return_only_outputs, callbacks=callbacks, **unknown)

    async def acall(
        self, inputs: Mapping[str, Any], return_only_outputs: bool = False, callbacks: None = None, **unknown: None
    ) -> dict[str, Any]:
        """Answer a question; see :meth:`ainvoke`."""
        return await self.ainvoke(inputs, return_only_outputs=return_only_outputs, callbacks=callbacks, **unknown)

    def run(self, *args: Mapping[str, Any], **kwargs: Any) -> Any:
        """Answer a question and return only the answer.

        Args:
            *args: the inputs as one mapping,
            **kwargs: or each as a keyword.
        """
        return self.invoke(_run_inputs(args, kwargs))[self.output_key]

    async def arun(self, *args: Mapping[str, Any], **kwargs: Any) -> Any:
        """Answer a question and return only the answer; see :meth:`run`."""
        return (await self.ainvoke(_run_inputs(args, kwargs)))[self.output_key]


def _run_inputs(args: tuple[Mapping[str, Any], ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    if len(args) + bool(kwargs) != 1:
        raise PromptError("run takes its inputs as one mapping or as keywords")
    return args[0] if args else kwargs


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
        verbose: must be false: prompts are never printed. ``chain.qa.stuff(question, documents)`` returns the prompt.
        callback_manager: must be ``None``.
        prompt: the template, with a field for the documents and one for the question.
        document_prompt: the template for each document.
        document_variable_name: the field of ``prompt`` for the documents.
        document_separator: the text between two documents.
        allow_no_documents: also ask when there is no document.

    Raises:
        PromptError: a template is not valid.
        ConfigurationError: another chain type, or an argument that would have no effect here.
    """
    if chain_type != "stuff":
        raise ConfigurationError(f"chain_type must be 'stuff', not {chain_type!r}: one question is one call here")
    refuse("load_qa_chain", {"verbose": verbose, "callback_manager": callback_manager, **unknown})
    template = prompts.PromptTemplate(prompt) if isinstance(prompt, str) else prompt or DEFAULT_PROMPT
    # LangChain's chain takes any fields of its prompt: a single other field is the question, whatever its name.
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
