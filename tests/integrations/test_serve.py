"""Frameworks' own clients of OpenAI's API through `OpenAIApp`, in front of the emulator, under uvicorn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from web import served

from smendpoint import RetryPolicy
from smendpoint.asgi import OpenAIApp
from smendpoint.emulator import Emulator

QUESTION = "Peter stayed for 3 days. Question: How long did Peter stay?"
ANSWER = "Peter stayed for 3 days."


@pytest.fixture
def service() -> Iterator[Emulator]:
    with Emulator({"my-llm": "vllm"}, region="us-west-2") as emulator:
        yield emulator


@pytest.fixture
def url(service: Emulator) -> Iterator[str]:
    retry = RetryPolicy(max_attempts=1, throttle_timeout=0, cold_start_timeout=0)
    endpoint = service.async_endpoint("my-llm", retry=retry)
    with served(OpenAIApp({"my-llm": endpoint})) as root:
        yield f"{root}/v1"


def test_litellm_chats_streams_calls_tools_and_embeds(url: str) -> None:
    litellm = pytest.importorskip("litellm")
    where = {"api_base": url, "api_key": "unused"}
    asked = [{"role": "user", "content": QUESTION}]
    assert litellm.completion("openai/my-llm", asked, **where).choices[0].message.content == ANSWER
    chunks = litellm.completion("openai/my-llm", asked, stream=True, **where)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
    tool = {"type": "function", "function": {"name": "nights", "parameters": {"type": "object", "properties": {}}}}
    (call,) = litellm.completion("openai/my-llm", asked, tools=[tool], **where).choices[0].message.tool_calls
    assert call.function.name == "nights"
    vectors = litellm.embedding("openai/my-llm", ["a", "b"], encoding_format="float", **where)
    assert len(vectors.data) == 2

    async def awaited() -> Any:
        return await litellm.acompletion("openai/my-llm", asked, **where)

    assert asyncio.run(awaited()).choices[0].message.content == ANSWER


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("status_400_ValidationError", "BadRequestError"),
        ("status_400_ThrottlingException", "RateLimitError"),
        ("status_503_ServiceUnavailable", "ServiceUnavailableError"),
    ],
)
def test_litellm_gets_the_errors_that_it_knows(fault: str, kind: str, url: str, service: Emulator) -> None:
    litellm = pytest.importorskip("litellm")
    service.inject(fault, times=9)
    with pytest.raises(getattr(litellm, kind)):
        litellm.completion(
            "openai/my-llm",
            [{"role": "user", "content": QUESTION}],
            api_base=url,
            api_key="unused",
            max_retries=0,
        )


def test_litellm_gets_a_stream_that_is_cut_before_its_first_words_as_a_bad_gateway(url: str, service: Emulator) -> None:
    litellm = pytest.importorskip("litellm")
    service.inject("fin_mid_frame", times=1)
    asked = [{"role": "user", "content": QUESTION}]
    with pytest.raises(litellm.BadGatewayError, match="The model's answer was cut off before its end") as caught:
        litellm.completion("openai/my-llm", asked, stream=True, api_base=url, api_key="unused", max_retries=0)
    assert caught.value.status_code == 502


def test_litellm_gives_the_words_of_a_stream_that_is_cut_and_then_an_error(url: str, service: Emulator) -> None:
    litellm = pytest.importorskip("litellm")
    event = b'data: {"choices": [{"index": 0, "delta": {"content": "Peter stayed"}}]}\n\n'
    service.models["my-llm"] = lambda _request: iter([event])
    asked = [{"role": "user", "content": QUESTION}]
    chunks = litellm.completion("openai/my-llm", asked, stream=True, api_base=url, api_key="unused", max_retries=0)
    assert next(chunks).choices[0].delta.content == "Peter stayed"
    with pytest.raises(litellm.exceptions.MidStreamFallbackError) as caught:
        list(chunks)
    assert isinstance(caught.value.original_exception, litellm.APIConnectionError)
    assert "The model's answer was cut off before its end." in str(caught.value.original_exception)


def test_an_agent_of_pydantic_ai_answers_streams_and_calls_tools(url: str) -> None:
    pytest.importorskip("pydantic_ai")
    from openai import AsyncOpenAI
    from pydantic_ai import Agent
    from pydantic_ai.exceptions import ModelHTTPError
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    async def run() -> list[Any]:
        async with AsyncOpenAI(base_url=url, api_key="unused", max_retries=0) as client:
            model = OpenAIChatModel("my-llm", provider=OpenAIProvider(openai_client=client))
            agent = Agent(model)
            said: list[Any] = [(await agent.run(QUESTION)).output]
            async with agent.run_stream(QUESTION) as answer:
                said.append("".join([piece async for piece in answer.stream_text(delta=True)]))
            hotel = Agent(model)

            @hotel.tool_plain
            def nights(guest: str) -> str:
                """Look up how long a guest stays."""
                return "3 nights"

            said.append((await hotel.run(QUESTION)).output)
            missing = Agent(OpenAIChatModel("no-such-model", provider=OpenAIProvider(openai_client=client)))
            with pytest.raises(ModelHTTPError) as caught:
                await missing.run(QUESTION)
            said.append(caught.value.status_code)
        return said

    assert asyncio.run(run()) == [ANSWER, ANSWER, "3 nights", 404]
