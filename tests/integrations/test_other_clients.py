"""The first page's statements about the clients of LangChain and LiteLLM hold for the versions that are installed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from garbage import collect_until

from smendpoint import StreamTruncatedError
from smendpoint.emulator import Emulator, ModelRequest

litellm = pytest.importorskip("litellm")
pytest.importorskip("langchain_aws")

from botocore.config import Config  # noqa: E402  # langchain-aws brings it
from botocore.exceptions import ReadTimeoutError as BotocoreReadTimeout  # noqa: E402
from langchain_aws import SagemakerEndpoint  # noqa: E402
from langchain_aws.chat_models.sagemaker_endpoint import (  # noqa: E402
    ChatModelContentHandler,
    ChatSagemakerEndpoint,
)
from langchain_aws.llms.sagemaker_endpoint import LLMContentHandler  # noqa: E402

CHUNK = (
    b'data: {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "my-llm",'
    b' "choices": [{"index": 0, "delta": {"content": "Peter "}, "finish_reason": null}]}\n\n'
)
PROMPT = "Peter stayed for 3 days. Question: How long did Peter stay?"


class Handler(LLMContentHandler):
    """Sends a prompt, and gives each line of the stream as it is."""

    content_type = accepts = "application/json"

    def transform_input(self, prompt: str, model_kwargs: dict[str, Any]) -> bytes:
        return json.dumps({"inputs": prompt, "parameters": model_kwargs, "stream": True}).encode()

    def transform_output(self, output: Any) -> str:
        return bytes(output).decode()


def langchain_model(url: str, **options: Any) -> Any:
    return SagemakerEndpoint(
        endpoint_name="my-llm", region_name="us-west-2", endpoint_url=url, content_handler=Handler(), **options
    )


def through_langchain(url: str) -> str:
    return "".join(langchain_model(url, streaming=True).stream(PROMPT))


def through_litellm(url: str) -> str:
    """Ask for a stream; give its text, if it ends as a whole answer does."""
    chunks = list(
        litellm.completion(
            "sagemaker/my-llm",
            [{"role": "user", "content": PROMPT}],
            stream=True,
            sagemaker_base_url=f"{url}/endpoints/my-llm/invocations-response-stream",
        )
    )
    assert chunks[-1].choices[0].finish_reason == "stop"
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


@pytest.mark.parametrize("read", [through_langchain, through_litellm])
def test_a_stream_that_ends_inside_a_frame_looks_complete_to_others_and_is_an_error_here(
    read: Any, emulator: Emulator
) -> None:
    assert "days." in read(emulator.url)
    emulator.inject("frame_cut_clean_end")
    assert "days." not in read(emulator.url)
    with emulator.endpoint("my-llm") as endpoint, pytest.raises(StreamTruncatedError, match="cut off inside a frame"):
        list(endpoint.stream(PROMPT))


def test_after_a_silence_langchain_has_the_model_run_again_and_litellm_does_not(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _seconds: None))
    emulator.inject("stall_before_headers")
    with pytest.raises(BotocoreReadTimeout):
        langchain_model(emulator.url, config=Config(read_timeout=0.05)).invoke(PROMPT)
    runs = len(emulator.requests)
    assert runs > 1
    with pytest.raises(litellm.Timeout):
        litellm.completion(
            "sagemaker_chat/my-llm",
            [{"role": "user", "content": PROMPT}],
            timeout=0.05,
            sagemaker_base_url=f"{emulator.url}/endpoints/my-llm/invocations",
        )
    assert len(emulator.requests) == runs + 1


async def langchain_chunks(url: str) -> Any:
    return langchain_model(url, streaming=True).astream(PROMPT)


async def litellm_chunks(url: str) -> Any:
    return await litellm.acompletion(
        "sagemaker_chat/my-llm",
        [{"role": "user", "content": PROMPT}],
        stream=True,
        sagemaker_base_url=f"{url}/endpoints/my-llm/invocations-response-stream",
    )


@pytest.mark.parametrize("chunks", [langchain_chunks, litellm_chunks])
def test_the_connection_of_a_cancelled_stream_is_closed_at_last(chunks: Any) -> None:
    def slow(request: ModelRequest) -> Iterator[bytes]:
        while not request.disconnected.wait(0.02):
            yield CHUNK

    async def main(emulator: Emulator) -> None:
        first = asyncio.Event()

        async def read() -> None:
            async for _ in await chunks(emulator.url):
                first.set()

        task = asyncio.create_task(read())
        await first.wait()
        task.cancel()
        await asyncio.wait({task})
        del task
        # LangChain reads in a thread, which ends with the next chunk; what it read from is garbage then.
        await asyncio.to_thread(lambda: collect_until(lambda: emulator.open_connections == 0))

    with Emulator({"my-llm": slow}, region="us-west-2", piece_size=None) as emulator:
        asyncio.run(main(emulator))


def test_langchain_s_chat_model_has_no_structured_output() -> None:
    class ChatHandler(Handler, ChatModelContentHandler):
        """Any handler."""

    model: Any = ChatSagemakerEndpoint(endpoint_name="my-llm", region_name="us-west-2", content_handler=ChatHandler())
    with pytest.raises(NotImplementedError):
        model.with_structured_output({"title": "Review", "type": "object", "properties": {}})
