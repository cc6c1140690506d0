"""Question answering: the endpoint, the prompt, refusals and the budget of tokens."""

from __future__ import annotations

import asyncio
import json
import pickle
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smendpoint.async_endpoint import AsyncEndpoint
from smendpoint.emulator import Emulator
from smendpoint.endpoint import Endpoint
from smendpoint.errors import ConfigurationError, PromptError
from smendpoint.prompts import ChatPromptTemplate, Document, Message, PromptTemplate
from smendpoint.qa import DEFAULT_PROMPT, StuffDocumentsQA, StuffedPrompt

SHORT = "{context}|{question}"


class Echo:
    """An endpoint that answers with its arguments."""

    def invoke(self, prompt: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        return prompt, kwargs

    def stream(self, prompt: Any, **kwargs: Any) -> Iterator[Any]:
        return iter([prompt, kwargs])


class AsyncEcho:
    """The same for asyncio."""

    async def invoke(self, prompt: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        return prompt, kwargs

    def stream(self, prompt: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async def chunks() -> AsyncIterator[Any]:
            yield prompt
            yield kwargs

        return chunks()


class Plain:
    """The smallest endpoint: an invoke method of one argument."""

    def invoke(self, prompt: str) -> str:
        return prompt


class Found:
    """A document as another library might have it."""

    def __init__(self, page_content: Any, metadata: Any) -> None:
        self.page_content = page_content
        self.metadata = metadata


def stuff(documents: Any, **options: Any) -> StuffedPrompt[Any]:
    return StuffDocumentsQA(Echo(), **{"prompt": SHORT, **options}).stuff("q", documents)


# The endpoint


def test_an_endpoint_is_asked_once_with_the_stuffed_prompt_and_the_model_parameters() -> None:
    qa = StuffDocumentsQA(Echo(), prompt=SHORT)
    assert qa.answer("q", ["a", "b"], temperature=0.5, stop=["x"]) == ("a\n\nb|q", {"temperature": 0.5, "stop": ["x"]})
    assert isinstance(qa.endpoint, Echo)
    assert qa.prompt == PromptTemplate(SHORT)


def test_anything_with_an_invoke_method_of_one_argument_can_be_asked() -> None:
    assert StuffDocumentsQA(Plain(), prompt=SHORT).answer("q", ["a"]) == "a|q"


def test_over_an_async_endpoint_the_answer_is_the_awaitable_that_invoke_gave() -> None:
    qa = StuffDocumentsQA(AsyncEcho(), prompt=SHORT)

    async def ask() -> tuple[Any, dict[str, Any]]:
        return await qa.answer("q", ["a"], temperature=0.5)

    assert asyncio.run(ask()) == ("a|q", {"temperature": 0.5})


def test_over_an_async_endpoint_a_bad_prompt_raises_before_anything_is_awaited() -> None:
    qa: Any = StuffDocumentsQA(AsyncEcho())
    with pytest.raises(PromptError, match="no document"):
        qa.answer("q", [])


def test_stream_gives_what_the_stream_of_the_endpoint_gave() -> None:
    assert list(StuffDocumentsQA(Echo(), prompt=SHORT).stream("q", ["a"], n=1)) == ["a|q", {"n": 1}]

    async def ask() -> list[Any]:
        return [chunk async for chunk in StuffDocumentsQA(AsyncEcho(), prompt=SHORT).stream("q", ["a"], n=1)]

    assert asyncio.run(ask()) == ["a|q", {"n": 1}]


def test_an_endpoint_without_stream_is_a_clear_error_of_stream_alone() -> None:
    qa: Any = StuffDocumentsQA(Plain())
    with pytest.raises(ConfigurationError, match="Plain has no stream method"):
        qa.stream("q", ["a"])


@pytest.mark.parametrize("endpoint", [None, "my-llm", object()])
def test_an_endpoint_must_have_an_invoke_method(endpoint: Any) -> None:
    with pytest.raises(ConfigurationError, match="must have an invoke method"):
        StuffDocumentsQA(endpoint)


def test_a_question_answerer_survives_pickling() -> None:
    qa = pickle.loads(pickle.dumps(StuffDocumentsQA(Echo(), prompt=SHORT, document_separator="+")))
    assert qa.stuff("q", ["a", "b"]).prompt == "a+b|q"


STAY: list[Any] = ["Peter went home.", Document("Elizabeth was in hospital for 3 days.")]
QUESTION = "How long was Elizabeth in hospital?"


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "thing")
    with Emulator() as emulator:
        yield emulator


def blocking(url: str) -> tuple[str, list[str]]:
    with Endpoint("my-llm", endpoint_url=url, region_name="us-east-1") as endpoint:
        qa = StuffDocumentsQA(endpoint)
        answer = qa.answer(QUESTION, STAY, temperature=0.5)
        with qa.stream(QUESTION, STAY, temperature=0.5) as stream:
            return answer, list(stream)


async def awaited(url: str) -> tuple[str, list[str]]:
    async with AsyncEndpoint("my-llm", endpoint_url=url, region_name="us-east-1") as endpoint:
        qa = StuffDocumentsQA(endpoint)
        answer = await qa.answer(QUESTION, STAY, temperature=0.5)
        async with qa.stream(QUESTION, STAY, temperature=0.5) as stream:
            return answer, [chunk async for chunk in stream]


@pytest.mark.parametrize("ask", [blocking, lambda url: asyncio.run(awaited(url))], ids=["sync", "async"])
def test_a_real_endpoint_answers_and_streams(emulator: Emulator, ask: Callable[[str], tuple[str, list[str]]]) -> None:
    answer, chunks = ask(emulator.url)
    assert "3 days" in answer
    assert "3 days" in "".join(chunks)
    operations = [request.operation for request in emulator.requests]
    assert operations == ["InvokeEndpoint", "InvokeEndpointWithResponseStream"]
    prompt = DEFAULT_PROMPT.format(context=f"{STAY[0]}\n\n{STAY[1].page_content}", question=QUESTION)
    for request in emulator.requests:
        body = json.loads(request.body)
        assert (body["inputs"], body["parameters"]) == (prompt, {"temperature": 0.5})


# The prompt


def test_the_default_prompt_holds_documents_and_question() -> None:
    prompt = StuffDocumentsQA(Echo()).stuff("How long?", ["One.", "Two."]).prompt
    assert prompt == DEFAULT_PROMPT.format(context="One.\n\nTwo.", question="How long?")
    assert "One.\n\nTwo." in prompt
    assert prompt.endswith("Question: How long?\nAnswer:")


def test_role_and_template_pairs_build_messages() -> None:
    expected = [{"role": "system", "content": "Use a."}, {"role": "user", "content": "q"}]
    pairs = [("system", "Use {context}."), ("user", "{question}")]
    assert stuff(["a"], prompt=pairs).prompt == expected
    assert stuff(["a"], prompt=ChatPromptTemplate(pairs)).prompt == expected


@pytest.mark.parametrize(
    "documents",
    [
        ["a", "b"],
        ("a", "b"),
        [Document("a"), Document("b", {"page": 1})],
        [{"page_content": "a"}, {"page_content": "b", "metadata": {"page": 1}, "id": "7"}],
        [Found("a", None), Found("b", {"page": 1})],
        ["a", Document("b")],
    ],
)
def test_every_kind_of_document_gives_its_text(documents: Any) -> None:
    stuffed = stuff(documents)
    assert stuffed.prompt == "a\n\nb|q"
    assert stuffed.used == tuple(documents)
    assert stuffed.dropped == ()
    assert stuffed.tokens is None


def test_documents_may_be_any_iterable() -> None:
    assert stuff(name for name in ("a", "b")).prompt == "a\n\nb|q"


@pytest.mark.parametrize(
    "document",
    [
        Document("a", {"page": 4}),
        {"page_content": "a", "page": 4},
        {"page_content": "a", "page": 5, "metadata": {"page": 4}},
        Found("a", {"page": 4}),
    ],
)
def test_the_document_prompt_may_use_metadata(document: Any) -> None:
    assert stuff([document], document_prompt="{page_content} (p. {page})").prompt == "a (p. 4)|q"
    assert stuff([document], document_prompt=PromptTemplate("{page}")).prompt == "4|q"


def test_metadata_named_page_content_does_not_replace_the_content() -> None:
    metadata = {"page_content": "forged", "page": 1}
    documents = [
        Document("real", metadata),
        Found("real", metadata),
        {"page_content": "real", "metadata": metadata},
    ]
    for document in documents:
        assert stuff([document], document_prompt="{page}:{page_content}").prompt == "1:real|q"


@given(st.text(), st.text(), st.text())
def test_content_metadata_and_question_are_never_read_as_templates(content: str, page: str, question: str) -> None:
    qa = StuffDocumentsQA(Echo(), prompt="<{context}|{question}>", document_prompt="{page_content}/{page}")
    stuffed = qa.stuff(question, [Document(content, {"page": page})])
    assert stuffed.prompt == f"<{content}/{page}|{question}>"


def test_separator_and_field_names_can_be_chosen() -> None:
    qa = StuffDocumentsQA(
        Echo(),
        prompt="{text}?{query}",
        document_separator="+",
        document_variable_name="text",
        question_variable_name="query",
    )
    assert qa.stuff("q", ["a", "b"]).prompt == "a+b?q"


def test_other_fields_of_the_prompt_are_filled_in_for_each_call() -> None:
    qa = StuffDocumentsQA(Echo(), prompt=SHORT + "|{language}")
    assert qa.extra_variables == ("language",)
    assert qa.stuff("q", ["a"], prompt_variables={"language": "Korean"}).prompt == "a|q|Korean"
    assert qa.answer("q", ["a"], prompt_variables={"language": "Korean"}, n=1) == ("a|q|Korean", {"n": 1})
    assert next(qa.stream("q", ["a"], prompt_variables={"language": "Korean"})) == "a|q|Korean"
    with pytest.raises(PromptError, match="missing: 'language'"):
        qa.stuff("q", ["a"])
    with pytest.raises(PromptError, match="unknown: 'tone'"):
        qa.stuff("q", ["a"], prompt_variables={"language": "Korean", "tone": "kind"})


@pytest.mark.parametrize("name", ["context", "question"])
def test_other_fields_cannot_replace_the_documents_or_the_question(name: str) -> None:
    with pytest.raises(PromptError, match=f"'{name}' is already filled in"):
        StuffDocumentsQA(Echo()).stuff("q", ["a"], prompt_variables={name: "forged"})


# Refusals


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"prompt": "{question}"}, r"no field \{context\} for the documents; it has 'question'"),
        ({"prompt": "{context}"}, r"no field \{question\} for the question; it has 'context'"),
        ({"prompt": "plain"}, r"no field \{context\} for the documents; it has none"),
        ({"prompt": [("user", "{context}")]}, r"no field \{question\}"),
        ({"prompt": PromptTemplate(SHORT).partial(question="q")}, r"no field \{question\}"),
        ({"prompt": SHORT, "question_variable_name": "context"}, "cannot both go into 'context'"),
        ({"prompt": "{"}, "unmatched"),
        ({"prompt": 1}, r"prompt must be a template or \(role, template\) pairs, not int"),
        ({"prompt": None}, "not NoneType"),
        ({"prompt": {"user": SHORT}}, "not dict"),
        ({"document_prompt": "plain"}, "document_prompt has no field"),
        ({"document_prompt": "{page.number}"}, "bad field"),
        ({"document_prompt": 1}, "must be str, not int"),
    ],
)
def test_a_template_that_would_lose_something_is_refused_when_made(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(PromptError, match=problem):
        StuffDocumentsQA(Echo(), **options)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"document_separator": None}, "document_separator must be str, not NoneType"),
        ({"overflow": "cut"}, "overflow must be 'error' or 'drop'"),
        ({"max_prompt_tokens": 5}, "go together"),
        ({"count_tokens": len}, "go together"),
        ({"max_prompt_tokens": 0, "count_tokens": len}, "above 0"),
        ({"max_prompt_tokens": True, "count_tokens": len}, "above 0"),
        ({"max_prompt_tokens": 1.5, "count_tokens": len}, "above 0"),
        ({"max_prompt_tokens": 5, "count_tokens": 5}, "must be a function, not int"),
    ],
)
def test_an_argument_that_does_not_fit_is_refused_when_made(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        StuffDocumentsQA(Echo(), **options)


@pytest.mark.parametrize(
    ("documents", "problem"),
    [
        ("text", "documents must be a list of documents, not one str"),
        (b"text", "not one bytes"),
        ({"page_content": "text"}, "not one dict"),
        (Document("text"), "not one Document"),
        (None, "not one NoneType"),
        (["a", None], r"documents\[1\] has no page_content: it is NoneType"),
        ([b"a"], r"documents\[0\] has no page_content: it is bytes"),
        ([{"text": "private"}], r"documents\[0\] has no 'page_content', but 'text'$"),
        ([{}], r"documents\[0\] has no 'page_content', but nothing"),
        ([{"page_content": 1}], r"the page_content of documents\[0\] must be str, not int"),
        ([Found(None, {})], r"the page_content of documents\[0\] must be str, not NoneType"),
        ([Found("a", "private")], r"the metadata of documents\[0\] must be a mapping, not str"),
    ],
)
def test_anything_but_a_list_of_documents_is_refused(documents: Any, problem: str) -> None:
    with pytest.raises(PromptError, match=problem) as caught:
        stuff(documents)
    assert "private" not in repr(caught.value)


def test_an_iterable_that_is_itself_a_document_is_one_document() -> None:
    class Pages(Found):
        def __iter__(self) -> Iterator[str]:
            return iter(["page"])

    with pytest.raises(PromptError, match="not one Pages"):
        stuff(Pages("a", {}))


def test_missing_metadata_is_named_with_what_there_is() -> None:
    documents = [Document("a", {"page": 1}), Document("b", {"source": "x", "lines": 2})]
    with pytest.raises(PromptError, match=r"needs 'page', but the metadata of documents\[1\] has 'source', 'lines'$"):
        stuff(documents, document_prompt="{page_content}{page}")
    with pytest.raises(PromptError, match=r"documents\[0\] has nothing"):
        stuff(["a"], document_prompt="{page_content}{page}")


def test_metadata_that_cannot_be_text_is_named_by_its_document() -> None:
    with pytest.raises(PromptError, match=r"documents\[0\]: the value of 'page' must be text, not NoneType"):
        stuff([Document("a", {"page": None})], document_prompt="{page_content}{page}")


def test_no_documents_is_an_error_unless_allowed() -> None:
    with pytest.raises(PromptError, match="no document to answer from; allow_no_documents=True"):
        stuff([])
    assert stuff([], allow_no_documents=True).prompt == "|q"


@pytest.mark.parametrize("question", [None, b"q"])
def test_a_question_that_is_not_a_text_is_refused(question: Any) -> None:
    with pytest.raises(PromptError, match="the value of 'question' must be text"):
        StuffDocumentsQA(Echo()).stuff(question, ["a"])


# The budget


def test_a_prompt_within_the_budget_is_counted_once() -> None:
    calls: list[str] = []

    def count(prompt: str) -> int:
        calls.append(prompt)
        return len(prompt)

    stuffed = stuff(["a", "b"], max_prompt_tokens=6, count_tokens=count)
    assert (stuffed.prompt, stuffed.tokens, calls) == ("a\n\nb|q", 6, ["a\n\nb|q"])


def test_a_prompt_over_the_budget_is_an_error_that_says_by_how_much() -> None:
    expected = (
        "the prompt with 2 documents has 6 tokens, 1 more than max_prompt_tokens=5: "
        "pass fewer or shorter documents, or overflow='drop'"
    )
    with pytest.raises(PromptError, match=f"^{re.escape(expected)}$"):
        stuff(["a", "b"], max_prompt_tokens=5, count_tokens=len)


def test_dropping_leaves_out_whole_documents_from_the_end_and_says_which() -> None:
    documents = [Document("aaa"), Document("bbb"), Document("c"), Document("d")]
    stuffed = stuff(documents, max_prompt_tokens=10, count_tokens=len, overflow="drop")
    assert stuffed.prompt == "aaa\n\nbbb|q"
    assert stuffed.tokens == 10
    assert [document.page_content for document in stuffed.used] == ["aaa", "bbb"]
    assert [document.page_content for document in stuffed.dropped] == ["c", "d"]
    assert stuffed.dropped[0] is documents[2]
    assert repr(stuffed) == "<StuffedPrompt: 2 documents used, 2 dropped, 10 tokens>"
    assert repr(stuff(documents)) == "<StuffedPrompt: 4 documents used, 0 dropped>"


def test_dropping_is_logged_in_numbers_only(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    qa = StuffDocumentsQA(Echo(), prompt=SHORT, max_prompt_tokens=3, count_tokens=len, overflow="drop")
    with caplog.at_level("INFO", logger="smendpoint.qa"):
        qa.answer("q", ["a", "private", "private"])
    assert caplog.messages == ["left out 2 of 3 documents to stay within 3 tokens"]
    monkeypatch.delitem(sys.modules, "logging")
    assert qa.answer("q", ["a", "b"])[0] == "a|q"
    assert "logging" not in sys.modules


@given(st.lists(st.text("ab", max_size=9), min_size=1, max_size=12), st.integers(1, 60))
def test_dropping_keeps_as_many_documents_as_fit_with_few_counts(documents: list[str], limit: int) -> None:
    calls = 0

    def count(prompt: str) -> int:
        nonlocal calls
        calls += 1
        return len(prompt)

    fitting = [used for used in range(1, len(documents) + 1) if len("\n\n".join(documents[:used])) + len("|q") <= limit]
    try:
        stuffed = stuff(documents, max_prompt_tokens=limit, count_tokens=count, overflow="drop")
    except PromptError:
        assert not fitting
    else:
        assert len(stuffed.used) == max(fitting)
        assert (*stuffed.used, *stuffed.dropped) == tuple(documents)
        assert stuffed.tokens == len(stuffed.prompt) <= limit
    assert calls <= 1 + len(documents).bit_length()


@pytest.mark.parametrize("documents", [["aaaa"], ["aaaa", "b"], ["aaaa", "b", "c", "d"]])
def test_a_first_document_that_does_not_fit_is_an_error_unless_none_is_allowed(documents: list[str]) -> None:
    options: dict[str, Any] = {"max_prompt_tokens": 3, "count_tokens": len, "overflow": "drop"}
    with pytest.raises(PromptError, match=r"with 1 document has 6 tokens, 3 more than max_prompt_tokens=3: there is"):
        stuff(documents, **options)
    stuffed = stuff(documents, allow_no_documents=True, **options)
    assert (stuffed.prompt, stuffed.used, stuffed.dropped) == ("|q", (), tuple(documents))


@pytest.mark.parametrize("documents", [[], ["a"], ["a", "b", "c"]])
def test_a_question_alone_that_does_not_fit_is_an_error(documents: list[str]) -> None:
    options: dict[str, Any] = {"max_prompt_tokens": 1, "count_tokens": len, "overflow": "drop"}
    with pytest.raises(PromptError, match="with 0 documents has 2 tokens, 1 more than"):
        stuff(documents, allow_no_documents=True, **options)


def test_messages_are_counted_as_they_are_sent() -> None:
    counted: list[list[Message]] = []

    def count(messages: list[Message]) -> int:
        counted.append(messages)
        return sum(len(message["content"]) for message in messages)

    stuffed = StuffDocumentsQA(
        Echo(),
        prompt=[("system", "{context}"), ("user", "{question}")],
        max_prompt_tokens=2,
        count_tokens=count,
        overflow="drop",
    ).stuff("q", ["a", "b"])
    assert stuffed.prompt == [{"role": "system", "content": "a"}, {"role": "user", "content": "q"}]
    assert stuffed.tokens == 2
    assert len(counted) == 2


def test_count_tokens_must_return_a_number() -> None:
    tokenize: Any = str.split
    with pytest.raises(PromptError, match="count_tokens must return a number of tokens, not list"):
        stuff(["a"], max_prompt_tokens=5, count_tokens=tokenize)


def test_a_failure_while_counting_is_a_prompt_error_with_its_cause() -> None:
    def count(prompt: str) -> int:
        raise RuntimeError("no tokenizer")

    with pytest.raises(PromptError, match="count_tokens failed with RuntimeError") as caught:
        stuff(["a"], max_prompt_tokens=5, count_tokens=count)
    assert isinstance(caught.value.__cause__, RuntimeError)
