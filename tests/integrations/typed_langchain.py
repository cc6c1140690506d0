"""The types that a user of LangChain's classes gets: mypy reads this file, and nothing runs it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk
from pydantic import BaseModel
from typing_extensions import assert_type

from smendpoint import AsyncEndpoint, ChatHandler, RetryPolicy
from smendpoint.integrations.langchain import ChatSageMaker, SageMakerEmbeddings, SageMakerLLM


class Person(BaseModel):
    name: str


async def use() -> None:
    chat = ChatSageMaker(endpoint_name="chat", temperature=0, timeout=5, retry=RetryPolicy(), concurrency=8)
    assert_type(chat.invoke("Hello"), AIMessage)
    assert_type(await chat.bind_tools([]).ainvoke("Hello"), AIMessage)
    assert_type(chat.with_structured_output(Person).invoke("Hello"), Person)
    assert_type(chat.with_structured_output(Person, include_raw=True).invoke("Hello"), Any)
    assert_type(chat.with_structured_output({"type": "object"}).invoke("Hello"), Any)
    with ChatSageMaker(endpoint=AsyncEndpoint("chat", content_handler=ChatHandler())) as given:
        assert_type(given, ChatSageMaker)
        assert_type(given.stream("Hello"), Iterator[AIMessageChunk])
    text = SageMakerLLM(endpoint_name="text", max_tokens=5, stop=["."])
    assert_type(text.batch(["Hello"]), list[str])
    async with SageMakerEmbeddings(endpoint_name="vectors", batch_size=8) as vectors:
        assert_type(await vectors.aembed_query("Hello"), list[float])
    ChatSageMaker(endpoint_nam="chat")  # type: ignore[call-arg]  # a misspelt argument
