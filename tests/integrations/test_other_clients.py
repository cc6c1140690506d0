"""The first page's statements about the clients of LangChain and LiteLLM hold for the versions that are installed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from smendpoint import StreamTruncatedError
from smendpoint.emulator import Emulator

litellm = pytest.importorskip("litellm")
pytest.importorskip("langchain_aws")

from langchain_aws import SagemakerEndpoint  # noqa: E402  # it needs langchain-aws
from langchain_aws.llms.sagemaker_endpoint import LLMContentHandler  # noqa: E402

PROMPT = "Peter stayed for 3 days. Question: How long did Peter stay?"


class Handler(LLMContentHandler):
    """Sends a prompt, and gives each line of the stream as it is."""

    content_type = accepts = "application/json"

    def transform_input(self, prompt: str, model_kwargs: dict[str, Any]) -> bytes:
        return json.dumps({"inputs": prompt, "parameters": model_kwargs, "stream": True}).encode()

    def transform_output(self, output: Any) -> str:
        return bytes(output).decode()


def through_langchain(url: str) -> str:
    model = SagemakerEndpoint(
        endpoint_name="my-llm", region_name="us-west-2", endpoint_url=url, content_handler=Handler(), streaming=True
    )
    return "".join(model.stream(PROMPT))


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
    with emulator.endpoint("my-llm") as endpoint, pytest.raises(StreamTruncatedError, match="cut inside a frame"):
        list(endpoint.stream(PROMPT))
