"""LangChain's templates, handlers and chain: the same arguments, inputs and outputs; no effect means refusal."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from typing import Any

import pytest

from smendpoint import prompts
from smendpoint.errors import ConfigurationError, PromptError
from smendpoint.langchain import (
    ContentHandlerBase,
    Document,
    LLMContentHandler,
    PromptTemplate,
    StuffDocumentsChain,
    load_qa_chain,
)


class Model:
    """A model that answers with the prompt."""

    def invoke(self, prompt: str, **kwargs: Any) -> str:
        return f"<{prompt}>"


# Content handlers


def test_a_content_handler_has_langchains_defaults() -> None:
    assert (LLMContentHandler.content_type, LLMContentHandler.accepts) == ("text/plain", "text/plain")
    assert issubclass(LLMContentHandler, ContentHandlerBase)


def test_a_content_handler_that_lacks_a_method_cannot_be_made() -> None:
    class Half(LLMContentHandler):
        def transform_input(self, prompt: str, model_kwargs: dict[str, Any]) -> bytes:
            return b""

    with pytest.raises(TypeError, match="transform_output"):
        Half()  # type: ignore[abstract]  # the refusal is what is tested


# Templates


def test_input_variables_may_be_given_in_any_order_or_not_at_all() -> None:
    assert PromptTemplate(template="{a}{b}", input_variables=["b", "a"]).format(a=1, b=2) == "12"
    assert PromptTemplate(template="{a}{b}").input_variables == ("a", "b")
    assert PromptTemplate.from_template("{a}{b}", partial_variables={"a": 1}).format(b=2) == "12"


@pytest.mark.parametrize("variables", [["a"], ["a", "b", "c"], ["a", "c"], []])
def test_input_variables_that_are_not_the_fields_are_refused(variables: list[str]) -> None:
    with pytest.raises(PromptError, match=r"^input_variables are .*, but the fields of the template are 'a', 'b'$"):
        PromptTemplate(template="{a}{b}", input_variables=variables)


def test_partial_variables_are_filled_in_and_no_input_variables() -> None:
    prompt = PromptTemplate(template="{a}{b}", input_variables=["b"], partial_variables={"a": "{b}"})
    assert prompt.format(b="2") == "{b}2"
    assert prompt == prompts.PromptTemplate("{a}{b}").partial(a="{b}")
    with pytest.raises(PromptError, match="unknown: 'c'"):
        PromptTemplate(template="{a}", partial_variables={"c": "1"})


def test_other_template_formats_are_refused() -> None:
    PromptTemplate(template="{a}", template_format="f-string", validate_template=True)
    for name in ("jinja2", "mustache"):
        with pytest.raises(PromptError, match=f"must be 'f-string', not '{name}'"):
            PromptTemplate(template="{a}", template_format=name)
    unknown: Any = {"output_parser": print}
    with pytest.raises(ConfigurationError, match="PromptTemplate has no 'output_parser'"):
        PromptTemplate(template="{a}", **unknown)


def test_a_template_survives_pickling_and_copying() -> None:
    prompt = PromptTemplate(template="{a}{b}", input_variables=["b"], partial_variables={"a": "1"})
    for twin in (pickle.loads(pickle.dumps(prompt)), copy.deepcopy(prompt), prompt.partial()):
        assert type(twin) is PromptTemplate
        assert twin == prompt
        assert hash(twin) == hash(prompt)
        assert twin.format(b=2) == "12"


# Chains

DOCUMENTS = [Document(page_content="a"), Document(page_content="b", metadata={"page": 2})]
INPUTS: dict[str, Any] = {"input_documents": DOCUMENTS, "question": "q"}
SHORT = PromptTemplate(template="{context}|{question}", input_variables=["context", "question"])


def test_a_chain_answers_with_its_inputs_and_output_text() -> None:
    chain = load_qa_chain(Model(), chain_type="stuff", prompt=SHORT)
    assert isinstance(chain, StuffDocumentsChain)
    assert chain.input_keys == ["input_documents", "question"]
    assert chain.output_keys == ["output_text"]
    expected = {**INPUTS, "output_text": "<a\n\nb|q>"}
    assert chain(INPUTS) == chain.invoke(INPUTS) == chain(inputs=INPUTS, return_only_outputs=False) == expected


def test_return_only_outputs_leaves_the_inputs_out() -> None:
    chain = load_qa_chain(Model(), prompt=SHORT)
    expected = {"output_text": "<a\n\nb|q>"}
    assert chain(INPUTS, return_only_outputs=True) == chain(INPUTS, True) == expected
    assert chain.invoke(INPUTS, return_only_outputs=True) == expected


def test_run_gives_the_answer_alone() -> None:
    chain = load_qa_chain(Model(), prompt=SHORT)
    assert chain.run(INPUTS) == chain.run(**INPUTS) == chain.run(input_documents=DOCUMENTS, question="q")
    assert chain.run(INPUTS) == "<a\n\nb|q>"
    for args, kwargs in (((), {}), ((INPUTS, INPUTS), {}), ((INPUTS,), INPUTS)):
        with pytest.raises(PromptError, match="one mapping or as keywords"):
            chain.run(*args, **kwargs)


def test_a_chain_without_a_prompt_has_one() -> None:
    chain = load_qa_chain(Model())
    answer = chain.run(INPUTS)
    assert "a\n\nb" in answer
    assert "Question: q" in answer
    assert chain.qa.stuff("q", DOCUMENTS).used == tuple(DOCUMENTS)


def test_a_chain_takes_langchains_options_for_documents() -> None:
    chain = load_qa_chain(
        Model(),
        prompt=PromptTemplate(template="{text}?{question}"),
        document_variable_name="text",
        document_prompt=PromptTemplate(template="[{page_content}]"),
        document_separator="+",
    )
    assert chain.run(INPUTS) == "<[a]+[b]?q>"


def test_a_lone_other_field_of_the_prompt_is_the_question() -> None:
    chain = load_qa_chain(Model(), prompt="{context}|{query}")
    assert chain.input_keys == ["input_documents", "query"]
    assert chain.run(input_documents=["a"], query="q") == "<a|q>"


def test_other_fields_of_the_prompt_are_inputs_and_other_inputs_come_back() -> None:
    chain = load_qa_chain(Model(), prompt=PromptTemplate(template="{context}|{question}|{language}"))
    assert chain.input_keys == ["input_documents", "question", "language"]
    inputs = {**INPUTS, "language": "Korean", "trace": 7}
    assert chain(inputs) == {**inputs, "output_text": "<a\n\nb|q|Korean>"}
    with pytest.raises(PromptError, match="missing: 'language'"):
        chain(INPUTS)


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ({"question": "q"}, "the chain needs 'input_documents', 'question'; missing: 'input_documents'$"),
        ({"input_documents": ["a"]}, "missing: 'question'"),
        ("q", "needs a mapping with 'input_documents', 'question', not str"),
        ({"input_documents": [], "question": "q"}, "no document to answer from"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs: Any, problem: str) -> None:
    with pytest.raises(PromptError, match=problem):
        load_qa_chain(Model())(inputs)


def test_no_documents_may_be_allowed() -> None:
    chain = load_qa_chain(Model(), prompt=SHORT, allow_no_documents=True)
    assert chain.run(input_documents=[], question="q") == "<|q>"


def test_messages_can_be_asked_for_where_the_model_takes_them() -> None:
    class Chat:
        def invoke(self, messages: list[dict[str, Any]]) -> str:
            return str(messages[0]["role"])

    chain = load_qa_chain(Chat(), prompt=prompts.ChatPromptTemplate([("user", "{context}{question}")]))
    assert chain.run(INPUTS) == "user"


@pytest.mark.parametrize("chain_type", ["map_reduce", "refine", "map_rerank", "", None])
def test_other_chain_types_are_refused(chain_type: Any) -> None:
    with pytest.raises(ConfigurationError, match="chain_type must be 'stuff', not"):
        load_qa_chain(Model(), chain_type=chain_type)


@pytest.mark.parametrize("name", ["verbose", "callback_manager", "callbacks", "memory", "token_max", "promt"])
def test_a_chain_option_that_would_have_no_effect_is_refused(name: str) -> None:
    options: dict[str, Any] = {name: True}
    with pytest.raises(ConfigurationError, match=f"load_qa_chain has no '{name}'"):
        load_qa_chain(Model(), **options)


def test_a_chain_option_that_asks_for_nothing_is_accepted() -> None:
    load_qa_chain(Model(), verbose=False, callback_manager=None, callbacks=None, memory=None)
    load_qa_chain(Model(), "stuff", None)


def test_callbacks_of_one_call_are_refused() -> None:
    chain: Any = load_qa_chain(Model())
    with pytest.raises(ConfigurationError, match="this chain has no 'callbacks'"):
        chain(INPUTS, callbacks=[print])
    with pytest.raises(ConfigurationError, match="this chain has no 'tags'"):
        chain(INPUTS, tags=["x"])
    with pytest.raises(ConfigurationError, match="config of this chain has no 'callbacks'"):
        chain.invoke(INPUTS, {"callbacks": [print]})
    with pytest.raises(ConfigurationError, match="this chain has no 'include_run_info'"):
        chain.invoke(INPUTS, include_run_info=True)


def test_a_prompt_that_loses_the_question_is_refused() -> None:
    with pytest.raises(PromptError, match=r"no field \{question\}"):
        load_qa_chain(Model(), prompt=PromptTemplate(template="{context}"))


def test_an_async_endpoint_is_refused_when_asked_without_leaving_a_coroutine_behind() -> None:
    class Async:
        async def invoke(self, prompt: str) -> str:
            return prompt

    with pytest.raises(ConfigurationError, match="await ainvoke of the chain"):
        load_qa_chain(Async())(INPUTS)


def test_inputs_are_left_as_they_were() -> None:
    inputs: Mapping[str, Any] = {"input_documents": ["a"], "question": "q"}
    load_qa_chain(Model())(inputs)
    assert inputs == {"input_documents": ["a"], "question": "q"}
