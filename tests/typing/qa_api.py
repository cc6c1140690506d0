"""The types of prompts and question answering as users meet them: type-checked, never run."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from typing import Any

if sys.version_info >= (3, 11):
    from typing import assert_type
else:
    from typing_extensions import assert_type

from smendpoint import AsyncEndpoint, AsyncStream, Endpoint, Stream
from smendpoint.langchain import (
    LLMContentHandler,
    SagemakerEndpoint,
    SagemakerEndpointEmbeddings,
    load_qa_chain,
)
from smendpoint.langchain import PromptTemplate as LangChainPromptTemplate
from smendpoint.prompts import ChatPromptTemplate, Document, Message, PromptTemplate
from smendpoint.qa import StuffDocumentsQA, StuffedPrompt


class Text:
    def invoke(self, prompt: str, /, *, stop: str | None = None, **model_kwargs: Any) -> str:
        return prompt

    def stream(self, prompt: str, /, **model_kwargs: Any) -> Iterator[str]:
        return iter(prompt)


class AsyncText:
    async def invoke(self, prompt: str, /, **model_kwargs: Any) -> str:
        return prompt

    def stream(self, prompt: str, /, **model_kwargs: Any) -> AsyncIterator[str]:
        raise RuntimeError


class Chat:
    def invoke(self, messages: Sequence[Message], /, **model_kwargs: Any) -> int:
        return len(messages)


class Plain:
    def invoke(self, prompt: str) -> bytes:
        return prompt.encode()


class Found:
    """A document of another library."""

    def __init__(self, page_content: str) -> None:
        self.page_content = page_content


def templates() -> None:
    prompt = PromptTemplate("{context}{question}")
    assert_type(prompt.input_variables, tuple[str, ...])
    assert_type(prompt.format(context="", question=1), str)
    assert_type(prompt.partial(context=""), PromptTemplate)
    chat = ChatPromptTemplate([("system", "{context}"), ("user", prompt)])
    assert_type(chat.format(context="", question=""), list[Message])
    assert_type(chat.partial(context=""), ChatPromptTemplate)
    facade = LangChainPromptTemplate(template="{a}", input_variables=["a"])
    assert_type(facade.partial(a="1"), LangChainPromptTemplate)


def the_answer_is_what_invoke_gives() -> None:
    qa = StuffDocumentsQA(Text(), prompt="{context}{question}")
    assert_type(qa.answer("q", ["a"], stop="x", temperature=0.1), str)
    assert_type(qa.stream("q", ["a"]), Iterator[str])
    assert_type(qa.stuff("q", ["a"]), StuffedPrompt[str])
    assert_type(qa.stuff("q", ["a"]).prompt, str)
    assert_type(qa.endpoint, Text)
    assert_type(StuffDocumentsQA(Plain()).answer("q", [Found("a")]), bytes)
    qa.answer("q", ["a", Document("b"), {"page_content": "c"}, Found("d")])


async def over_asyncio_it_is_awaited() -> None:
    qa = StuffDocumentsQA(AsyncText(), max_prompt_tokens=5, count_tokens=len, overflow="drop")
    answer: Awaitable[str] = qa.answer("q", ["a"])
    assert_type(await answer, str)
    assert_type(await qa.answer("q", ["a"]), str)
    assert_type(qa.stream("q", ["a"]), AsyncIterator[str])


def over_an_endpoint() -> None:
    qa = StuffDocumentsQA(Endpoint("e"))
    assert_type(qa.answer("q", ["a"], stop=["x"], endpoint_kwargs={"TargetVariant": "blue"}, temperature=0.1), str)
    assert_type(qa.answer("q", ["a"], timeout=5), str)
    assert_type(qa.stream("q", ["a"]), Stream[str])


async def over_an_async_endpoint() -> None:
    qa = StuffDocumentsQA(AsyncEndpoint("e"))
    assert_type(await qa.answer("q", ["a"], stop=["x"], temperature=0.1), str)
    assert_type(qa.stream("q", ["a"]), AsyncStream[str])


def pairs_of_role_and_template_ask_with_messages() -> None:
    qa = StuffDocumentsQA(Chat(), prompt=[("system", "{context}"), ("user", PromptTemplate("{question}"))])
    assert_type(qa.answer("q", ["a"]), int)
    assert_type(qa.stuff("q", ["a"]).prompt, list[Message])
    assert_type(StuffDocumentsQA(Chat(), prompt=ChatPromptTemplate([])).answer("q", ["a"]), int)


def mistakes() -> None:
    StuffDocumentsQA(Chat())  # type: ignore[type-var]  # a text for a model that takes messages
    StuffDocumentsQA(Text(), prompt=[("user", "{question}")])  # type: ignore[type-var]  # messages for one of text
    StuffDocumentsQA(Plain()).stream("q", ["a"])  # type: ignore[misc]  # it has no stream
    StuffDocumentsQA(Text(), overflow="cut")  # type: ignore[call-overload]  # no such way
    StuffDocumentsQA(Text(), count_tokens=str.split)  # type: ignore[arg-type]  # a list is not a number
    StuffDocumentsQA(Text()).answer("q", [1])  # type: ignore[list-item]  # no document
    SagemakerEndpoint(endpoint_name="e", callbacks=[print])  # type: ignore[arg-type]  # would have no effect


class Handler(LLMContentHandler):
    """Annotated as LangChain's documentation does it."""

    def transform_input(self, prompt: str, model_kwargs: dict[str, Any]) -> bytes:
        return prompt.encode()

    def transform_output(self, output: bytes) -> str:
        return output.decode()


def langchains_names() -> None:
    llm = SagemakerEndpoint(endpoint_name="e", content_handler=Handler(), callbacks=None)
    assert_type(llm("p"), str)
    assert_type(llm.invoke("p", stop=["x"]), str)
    assert_type(StuffDocumentsQA(llm).answer("q", ["a"]), str)
    assert_type(llm.batch(["p"]), list[str])
    assert_type(llm.batch(["p"], return_exceptions=True), list[str | Exception])
    SagemakerEndpoint(endpoint_name="e", region_name="", timeout=5, verbose=False)
    SagemakerEndpoint(endpoint_name="e", streeming=True)  # type: ignore[call-arg]  # no such argument
    assert_type(SagemakerEndpointEmbeddings(endpoint_name="e").embed_query("p"), list[float])
    assert_type(load_qa_chain(llm).invoke({"input_documents": [], "question": "q"}), dict[str, Any])
