"""SageMaker endpoints as models of LlamaIndex's, in its own engines and agents."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from paused import PausedModel

from smendpoint import ConfigurationError, CredentialsError, HandlerError, StreamTruncatedError
from smendpoint.emulator import Emulator
from smendpoint.handlers import AutoHandler, EmbeddingsHandler

pytest.importorskip("llama_index.core")

from llama_index.core import Document, PromptTemplate, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from smendpoint.integrations.llama_index import SageMakerEmbedding, SageMakerLLM

QUESTION = "Peter stayed for 3 days. Question: How long did Peter stay?"
ASKED = [ChatMessage(role="user", content=QUESTION)]
ANSWER = "Peter stayed for 3 days."


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    models = {"my-llm": "vllm", "my-embeddings": "tei", "my-text": "tgi"}
    with Emulator(models, region="us-west-2") as emulator:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", emulator.url)
        yield emulator


@pytest.fixture
def model(service: Emulator) -> Iterator[SageMakerLLM]:
    made = SageMakerLLM("my-llm", region_name="us-west-2")
    yield made
    made.close()


def nights(guest: str) -> str:
    """Say how long a guest stays."""
    return "3 nights"


def sent(service: Emulator) -> Any:
    return json.loads(service.requests[-1].body)


def test_chats_and_completions_are_answered_in_all_eight_ways(model: SageMakerLLM) -> None:
    async def awaited() -> list[str]:
        said = [
            (await model.achat(ASKED)).message.content or "",
            (await model.acomplete(QUESTION)).text,
            [part async for part in await model.astream_chat(ASKED)][-1].message.content or "",
            [part async for part in await model.astream_complete(QUESTION)][-1].text,
        ]
        await model.aclose()
        return said

    said = [
        model.chat(ASKED).message.content,
        model.complete(QUESTION).text,
        [*model.stream_chat(ASKED)][-1].message.content,
        [*model.stream_complete(QUESTION)][-1].text,
        *asyncio.run(awaited()),
    ]
    assert said == [ANSWER] * 8


def test_a_stream_grows_and_ends_with_the_token_counts(model: SageMakerLLM) -> None:
    parts = [*model.stream_chat(ASKED)]
    assert "".join(part.delta or "" for part in parts) == ANSWER
    assert [part.message.content for part in parts if part.delta][:2] == ["Peter", "Peter stayed"]
    assert parts[-1].additional_kwargs["completion_tokens"] == 5
    assert parts[-1].additional_kwargs["finish_reason"] == "stop"


def test_parameters_are_the_models_then_those_of_the_call(service: Emulator) -> None:
    model = SageMakerLLM("my-llm", temperature=0.5, max_tokens=40, model_kwargs={"top_k": 3, "seed": 1})
    model.chat(ASKED, seed=2, stop=["\n"])
    model.close()
    assert {name: value for name, value in sent(service).items() if name != "messages"} == {
        "temperature": 0.5,
        "max_tokens": 40,
        "top_k": 3,
        "seed": 2,
        "stop": ["\n"],
    }
    assert (model.metadata.num_output, model.metadata.model_name) == (40, "my-llm")


def test_messages_of_every_kind_are_sent(model: SageMakerLLM, service: Emulator) -> None:
    call = ToolCallBlock(tool_call_id="call-1", tool_name="nights", tool_kwargs={"guest": "Peter"})
    model.chat(
        [
            ChatMessage(role="system", content="Be brief."),
            ChatMessage(role="user", blocks=[TextBlock(text=QUESTION), ImageBlock(image=b"\x89PNG")]),
            ChatMessage(role="assistant", blocks=[ThinkingBlock(content="Hm."), call]),
            ChatMessage(role="tool", content="3 nights", additional_kwargs={"tool_call_id": "call-1"}),
            ChatMessage(role="user", blocks=[TextBlock(text="Look."), ImageBlock(url="https://example.com/a.png")]),
        ]
    )
    system, user, assistant, tool, last = sent(service)["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert [part["type"] for part in user["content"]] == ["text", "image_url"]
    assert user["content"][1]["image_url"]["url"].endswith(";base64,iVBORw==")
    assert assistant["tool_calls"][0]["function"] == {"name": "nights", "arguments": '{"guest": "Peter"}'}
    assert tool == {"role": "tool", "content": "3 nights", "tool_call_id": "call-1"}
    assert last["content"][1]["image_url"]["url"] == "https://example.com/a.png"


def test_a_block_that_no_container_takes_is_refused(model: SageMakerLLM, service: Emulator) -> None:
    with pytest.raises(HandlerError, match="AudioBlock"):
        model.chat([ChatMessage(role="user", blocks=[AudioBlock(audio=b"x", format="wav")])])
    assert not service.requests


def test_reasoning_is_a_block_of_its_own(model: SageMakerLLM) -> None:
    thinking = {"chat_template_kwargs": {"enable_thinking": True}}
    block, _ = model.chat(ASKED, **thinking).message.blocks
    assert isinstance(block, ThinkingBlock)
    parts = [*model.stream_chat(ASKED, **thinking)]
    assert "".join(part.additional_kwargs.get("thinking_delta", "") for part in parts) == block.content
    assert parts[-1].message.blocks[0] == block


def test_tools_are_called_and_selected(model: SageMakerLLM) -> None:
    tool = FunctionTool.from_defaults(nights)
    response = model.chat_with_tools([tool], QUESTION, tool_required=True)
    (selected,) = model.get_tool_calls_from_response(response)
    assert (selected.tool_name, selected.tool_kwargs) == ("nights", {"guest": QUESTION})
    assert model.predict_and_call([tool], QUESTION).response == "3 nights"
    with pytest.raises(ValueError, match="calls no tool"):
        model.get_tool_calls_from_response(model.chat(ASKED))


def test_a_prediction_has_the_fields_of_a_class(model: SageMakerLLM) -> None:
    class Stay(BaseModel):
        """How long a guest stayed."""

        guest: str
        days: int

    assert model.as_structured_llm(Stay).complete(QUESTION).raw == Stay(guest=QUESTION, days=0)


def test_a_streamed_prediction_ends_with_the_object(model: SageMakerLLM, service: Emulator) -> None:
    class Stay(BaseModel):
        """How long a guest stayed."""

        guest: str
        days: int

    asked = PromptTemplate("{question}")

    async def awaited() -> list[Any]:
        parts = [part async for part in await model.astream_structured_predict(Stay, asked, question=QUESTION)]
        await model.aclose()
        return parts

    assert [*model.stream_structured_predict(Stay, asked, question=QUESTION)][-1] == Stay(guest=QUESTION, days=0)
    assert asyncio.run(awaited())[-1] == Stay(guest=QUESTION, days=0)
    assert sent(service)["tool_choice"] == "auto"  # LlamaIndex gives None


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("nights", {"type": "function", "function": {"name": "nights"}}),
        ("none", "none"),
        ({"type": "function", "function": {"name": "nights"}}, {"type": "function", "function": {"name": "nights"}}),
        (None, "required"),
    ],
)
def test_a_tool_may_be_chosen_by_its_name(given: Any, asked: Any, model: SageMakerLLM, service: Emulator) -> None:
    model.chat_with_tools([FunctionTool.from_defaults(nights)], QUESTION, tool_required=True, tool_choice=given)
    assert sent(service)["tool_choice"] == asked


@pytest.mark.parametrize("streaming", [True, False])
def test_an_agent_calls_its_tool_and_answers(streaming: bool, model: SageMakerLLM) -> None:
    async def run() -> str:
        agent = FunctionAgent(tools=[nights], llm=model, streaming=streaming)
        said = str(await agent.run(QUESTION))
        await model.aclose()
        return said

    assert asyncio.run(run()) == "3 nights"


def test_a_query_engine_answers_from_documents(model: SageMakerLLM) -> None:
    documents = [Document(text="Peter stayed for 3 days."), Document(text="Elizabeth stayed for a week.")]
    embedding = SageMakerEmbedding("my-embeddings")
    index = VectorStoreIndex.from_documents(documents, embed_model=embedding)
    assert str(index.as_query_engine(llm=model).query("How long did Peter stay?")) == ANSWER
    streamed: Any = index.as_query_engine(llm=model, streaming=True).query("How long did Peter stay?")
    assert "".join(streamed.response_gen) == ANSWER
    embedding.close()


def test_embeddings_come_in_batches_in_both_ways(service: Emulator) -> None:
    embedding = SageMakerEmbedding("my-embeddings", embed_batch_size=2)

    async def awaited() -> Any:
        vectors = await embedding.aget_text_embedding_batch(["a", "b", "c"])
        one = await embedding.aget_query_embedding("a")
        return vectors, one

    vectors = embedding.get_text_embedding_batch(["a", "b", "c"])
    assert [json.loads(request.body)["inputs"] for request in service.requests] == [["a", "b"], ["c"]]
    assert asyncio.run(awaited()) == (vectors, vectors[0])
    assert embedding.get_query_embedding("b") == embedding.get_text_embedding("b") == vectors[1]
    assert embedding.to_dict()["model_name"] == "my-embeddings"
    asyncio.run(embedding.aclose())


def test_other_containers_are_chosen_by_their_handlers(service: Emulator) -> None:
    model = SageMakerLLM("my-text", content_handler=AutoHandler(), is_function_calling_model=False)
    assert model.complete(QUESTION).text == ANSWER
    assert [*model.stream_chat(ASKED)][-1].message.content == ANSWER
    assert not model.metadata.is_function_calling_model
    model.close()
    embedding = SageMakerEmbedding("my-llm", content_handler=EmbeddingsHandler("openai"))
    assert len(embedding.get_text_embedding("a")) > 1
    embedding.close()


def test_a_stream_that_is_cut_is_an_error_of_this_package(model: SageMakerLLM, service: Emulator) -> None:
    service.inject("fin_mid_frame", times=1)
    with pytest.raises(StreamTruncatedError):
        list(model.stream_chat(ASKED))


def test_a_stream_that_is_left_ends_the_call_upstream() -> None:
    paused = PausedModel()
    with Emulator(paused, region="us-west-2") as emulator:
        model = SageMakerLLM("my-llm", endpoint_url=emulator.url)
        parts = model.stream_chat(ASKED)
        assert next(parts).delta == "Peter"
        parts.close()
        emulator.disconnected()
        paused.go_on.set()
        model.close()


def test_a_wrong_argument_is_refused_and_no_secret_is_shown(service: Emulator) -> None:
    with pytest.raises((ConfigurationError, TypeError)):
        SageMakerLLM("my-llm", regoin_name="us-west-2")
    secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    model = SageMakerLLM("my-llm", aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key=secret)
    assert secret not in repr(model) + str(model.to_dict()) + model.json()
    model.close()


@pytest.mark.parametrize("model_class", [SageMakerLLM, SageMakerEmbedding])
def test_a_pickle_has_no_key_and_never_calls_under_another_identity(model_class: Any, service: Emulator) -> None:
    secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEOTHER"
    model = model_class("my-llm", aws_access_key_id="AKIDOTHER", aws_secret_access_key=secret)
    pickled = pickle.dumps(model)
    assert secret.encode() not in pickled
    ask = "complete" if model_class is SageMakerLLM else "get_text_embedding"
    with pytest.raises(CredentialsError, match="pickle"):
        getattr(pickle.loads(pickled), ask)(QUESTION)
    assert not service.requests


def test_a_pickled_model_calls_the_same_endpoint_in_both_ways(service: Emulator) -> None:
    made = SageMakerLLM("my-text", content_handler=AutoHandler(), inference_component_name="adapter-1", max_tokens=9)
    model = pickle.loads(pickle.dumps(made))

    async def awaited() -> str:
        said = (await model.acomplete(QUESTION)).text
        await model.aclose()
        return str(said)

    assert model.complete(QUESTION).text == asyncio.run(awaited()) == ANSWER
    assert [request.inference_component for request in service.requests] == ["adapter-1"] * 2
    assert sent(service)["max_tokens"] == 9


class Client:
    """Stands for a client of boto3."""

    def invoke_endpoint(self, **request: Any) -> Any: ...
    def invoke_endpoint_with_response_stream(self, **request: Any) -> Any: ...


def test_a_model_on_a_client_that_blocks_refuses_to_be_awaited() -> None:
    with pytest.raises(ConfigurationError, match="a blocking client, so it cannot be awaited"):
        asyncio.run(SageMakerLLM("my-llm", client=Client()).achat(ASKED))


def test_a_model_on_a_given_client_refuses_to_be_pickled() -> None:
    with pytest.raises(ConfigurationError, match="client= cannot be pickled"):
        pickle.dumps(SageMakerLLM("my-llm", client=Client()))
