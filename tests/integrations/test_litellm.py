"""SageMaker endpoints as models of LiteLLM's, called by LiteLLM."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from page_examples import FENCE, ROOT
from paused import PausedModel

from smendpoint import RetryPolicy, SmendpointError
from smendpoint.emulator import Emulator, ModelReply
from smendpoint.handlers import AutoHandler

litellm = pytest.importorskip("litellm")

from smendpoint.integrations.litellm import SageMakerLLM  # noqa: E402  # it needs LiteLLM

ASKED = [{"role": "user", "content": "Peter stayed for 3 days. Question: How long did Peter stay?"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "nights",
            "parameters": {"type": "object", "properties": {"guest": {"type": "string"}}, "required": ["guest"]},
        },
    }
]
MODEL = "smendpoint/my-llm"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    handler = SageMakerLLM(retry=RetryPolicy(max_attempts=1))
    monkeypatch.setattr(litellm, "custom_provider_map", [{"provider": "smendpoint", "custom_handler": handler}])
    with Emulator("vllm", region="us-west-2") as emulator:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", emulator.url)
        yield emulator
        handler.close()


@pytest.fixture(params=["blocking", "asyncio"])
def complete(request: pytest.FixtureRequest) -> Any:
    """LiteLLM's two ways to ask for a chat; a stream is a list of its chunks."""

    def blocking(**call: Any) -> Any:
        answer = litellm.completion(MODEL, **{"messages": ASKED, **call})
        return list(answer) if call.get("stream") else answer

    async def awaited(**call: Any) -> Any:
        answer = await litellm.acompletion(MODEL, **{"messages": ASKED, **call})
        return [chunk async for chunk in answer] if call.get("stream") else answer

    return blocking if request.param == "blocking" else lambda **call: asyncio.run(awaited(**call))


def sent(service: Emulator) -> Any:
    return json.loads(service.requests[-1].body)


def test_a_chat_is_answered_as_the_container_answered_it(complete: Any, service: Emulator) -> None:
    answer = complete(temperature=0.5, max_tokens=40)
    (choice,) = answer.choices
    assert (choice.message.content, choice.finish_reason) == ("Peter stayed for 3 days.", "stop")
    assert (answer.id, answer.usage.completion_tokens) == ("chatcmpl-1", 5)
    assert sent(service) == {"messages": ASKED, "temperature": 0.5, "max_tokens": 40}


def test_a_stream_has_texts_then_the_reason_then_the_token_counts(complete: Any, service: Emulator) -> None:
    chunks = complete(stream=True, stream_options={"include_usage": True})
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert "".join(text or "" for text in texts) == "Peter stayed for 3 days."
    assert len(texts) > 3
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert [reason for reason in reasons if reason] == ["stop"]
    assert chunks[-1].usage.total_tokens == 16


def test_a_tool_call_arrives_whole_and_in_pieces(complete: Any, service: Emulator) -> None:
    (call,) = complete(tools=TOOLS).choices[0].message.tool_calls
    chunks = complete(tools=TOOLS, stream=True)
    rebuilt = litellm.stream_chunk_builder(chunks, messages=ASKED).choices[0]
    assert rebuilt.message.tool_calls[0].function.model_dump() == call.function.model_dump()
    assert rebuilt.finish_reason == "tool_calls"


def test_reasoning_is_given_apart_from_the_text(complete: Any, service: Emulator) -> None:
    thinking = {"enable_thinking": True}
    whole = complete(chat_template_kwargs=thinking).choices[0].message.reasoning_content
    chunks = complete(chat_template_kwargs=thinking, stream=True)
    pieces = [getattr(chunk.choices[0].delta, "reasoning_content", None) for chunk in chunks if chunk.choices]
    assert "".join(piece or "" for piece in pieces) == whole != ""


def test_a_schema_shapes_the_answer(complete: Any, service: Emulator) -> None:
    schema = {"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "stay", "schema": schema}}
    assert complete(response_format=wanted).choices[0].message.content == '{"days":0}'


def test_several_answers_are_all_there(complete: Any) -> None:
    two = {
        "choices": [
            {"index": index, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            for index, text in enumerate(("One.", "Two."))
        ]
    }
    with answering(lambda _request: json.dumps(two)):
        assert [choice.message.content for choice in complete(n=2).choices] == ["One.", "Two."]


@contextmanager
def answering(model: Any, **options: Any) -> Iterator[Emulator]:
    """Have LiteLLM call an emulator with a model of its own."""
    kept = litellm.custom_provider_map
    with Emulator(model, region="us-west-2") as emulator:
        handler = SageMakerLLM(retry=RetryPolicy(max_attempts=1), endpoint_url=emulator.url, **options)
        litellm.custom_provider_map = [{"provider": "smendpoint", "custom_handler": handler}]
        try:
            yield emulator
        finally:
            litellm.custom_provider_map = kept
            handler.close()


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("status_400_ThrottlingException", "RateLimitError"),
        ("status_403_AccessDeniedException", "PermissionDeniedError"),
        ("status_400_ValidationError", "BadRequestError"),
        ("status_503_ServiceUnavailable", "ServiceUnavailableError"),
        ("reset_before_headers", "APIConnectionError"),
        ("stall_before_headers", "Timeout"),
        ("html_200", "InternalServerError"),
    ],
)
def test_a_failure_is_the_error_by_which_litellm_decides(
    fault: str, kind: str, complete: Any, service: Emulator
) -> None:
    service.inject(fault, times=1)
    with pytest.raises(getattr(litellm, kind)) as caught:
        complete(timeout=0.3)
    assert isinstance(caught.value.__cause__, SmendpointError)


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (400, "This model's maximum context length is 4096 tokens.", "ContextWindowExceededError"),
        (404, "The model does not exist.", "NotFoundError"),
        (422, "temperature must be positive", "UnprocessableEntityError"),
        (429, "Model is overloaded", "RateLimitError"),
        (401, "no", "BadRequestError"),
        (507, "CUDA out of memory", "InternalServerError"),
    ],
)
def test_an_error_of_the_container_keeps_its_status(status: int, said: str, kind: str, complete: Any) -> None:
    body = json.dumps({"error": {"message": said, "type": "error", "code": status}})
    with answering(lambda _request: ModelReply(body, status=status)):
        with pytest.raises(getattr(litellm, kind), match=said.replace(".", r"\.")):
            complete()


def test_messages_that_are_refused_before_anything_is_sent_are_a_bad_request(complete: Any, service: Emulator) -> None:
    with pytest.raises(litellm.BadRequestError):
        complete(messages=[])
    assert not service.requests


def test_an_endpoint_that_does_not_exist_is_not_found(complete: Any) -> None:
    with answering({"another": "vllm"}):
        with pytest.raises(litellm.NotFoundError):
            complete()


def test_a_stream_that_is_cut_is_an_error(complete: Any, service: Emulator) -> None:
    service.inject("fin_mid_frame", times=1)
    with pytest.raises(litellm.exceptions.MidStreamFallbackError) as caught:  # it makes LiteLLM's router go on
        complete(stream=True)
    assert isinstance(caught.value.original_exception, litellm.APIConnectionError)


def test_what_the_page_says_about_the_proxy_is_loaded_as_the_proxy_does_and_answers(
    service: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    yaml = pytest.importorskip("yaml")
    from litellm.proxy.types_utils.utils import get_instance_fn  # by which the proxy finds a `custom_handler`

    section = (ROOT / "docs" / "how-to" / "litellm.md").read_text().partition("## In LiteLLM's proxy")[2]
    files = {language: text for language, _, text in FENCE.findall(section) if language in ("yaml", "python")}
    (tmp_path / "config.yaml").write_text(files["yaml"])
    (tmp_path / "handlers.py").write_text(files["python"])
    config = yaml.safe_load(files["yaml"])
    (provider,) = config["litellm_settings"]["custom_provider_map"]
    handler = get_instance_fn(provider["custom_handler"], config_file_path=str(tmp_path / "config.yaml"))
    monkeypatch.setattr(litellm, "custom_provider_map", [{**provider, "custom_handler": handler}])

    async def ask() -> list[str]:
        router = litellm.Router(model_list=config["model_list"])
        whole = await router.acompletion("my-llm", ASKED)
        pieces = [chunk async for chunk in await router.acompletion("my-llm", ASKED, stream=True)]
        await handler.aclose()
        said = [chunk.choices[0].delta.content or "" for chunk in pieces]
        return [whole.choices[0].message.content, "".join(said)]

    assert asyncio.run(ask()) == ["Peter stayed for 3 days."] * 2


def test_a_stream_that_is_left_ends_the_call_upstream() -> None:
    paused = PausedModel()
    with answering(paused) as emulator:

        async def leave() -> None:
            async def read() -> None:
                async for chunk in await litellm.acompletion(MODEL, ASKED, stream=True):
                    seen.append(chunk)
                    began.set()

            seen: list[Any] = []
            began = asyncio.Event()
            reading = asyncio.ensure_future(read())
            await began.wait()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await asyncio.get_running_loop().run_in_executor(None, emulator.disconnected)

        asyncio.run(leave())
        paused.go_on.set()


@pytest.mark.parametrize("ask", ["embedding", "aembedding"])
def test_embeddings_come_with_their_token_counts(ask: str, service: Emulator) -> None:
    call: Any = getattr(litellm, ask)
    made = call("smendpoint/my-embeddings", ["one text", "two"])
    answer = asyncio.run(made) if ask == "aembedding" else made
    assert [row["index"] for row in answer.data] == [0, 1]
    assert len(answer.data[0]["embedding"]) == len(answer.data[1]["embedding"]) > 1
    assert answer.usage.prompt_tokens == 3
    assert sent(service) == {"input": ["one text", "two"]}


def test_litellms_names_choose_the_endpoint(service: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    call: dict[str, Any] = {
        "api_base": service.url,
        "aws_access_key_id": "AKIDEXAMPLE",
        "aws_region_name": "us-west-2",
        "aws_secret_access_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        "extra_body": {"n": 1},
    }
    for _ in range(2):
        litellm.completion("smendpoint/my-llm:adapter-1", ASKED, **call)
    first, second = service.requests
    assert first.inference_component == "adapter-1"
    assert "/us-west-2/sagemaker/" in first.headers["authorization"]
    assert sent(service) == {"messages": ASKED, "n": 1}
    assert service.total_connections == 1
    assert second.endpoint_name == "my-llm"


def test_a_container_of_another_kind_is_chosen_by_its_handler(complete: Any) -> None:
    with answering("tgi", content_handler=AutoHandler()):
        assert complete().choices[0].message.content == "Peter stayed for 3 days."
        assert "".join(c.choices[0].delta.content or "" for c in complete(stream=True)) == "Peter stayed for 3 days."
