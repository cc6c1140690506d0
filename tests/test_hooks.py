"""Hooks are told facts about a request and its answer, in both twins and both lanes, and never content."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest
from twins import NAME, Twin, TwinEndpoint, direct_twin, twin  # noqa: F401

from smendpoint import (
    AutoHandler,
    CallHooks,
    CallInfo,
    ChatHandler,
    EmbeddingsHandler,
    Endpoint,
    HandlerError,
    JSONHandler,
    OpenAICompletionsHandler,
    TextGenerationHandler,
    TextHandler,
    errors,
)
from smendpoint.emulator import Emulator, ModelReply, ModelRequest
from smendpoint.handlers import OutputDetails, Usage

TOOL = {"type": "function", "function": {"name": "secret_tool", "parameters": {"temperature": 1}}}


class Recorder(CallHooks):
    """Keeps each call that is over, and the names of all hooks that were called."""

    def __init__(self) -> None:
        self.calls: list[CallInfo] = []
        self.heard: list[str] = []

    def call_started(self, call: CallInfo) -> None:
        self.heard.append("call_started")
        assert (call.usage, call.finish_reason, call.response_model, call.response_id) == (None, None, None, None)

    def first_byte(self, call: CallInfo) -> None:
        self.heard.append("first_byte")

    def first_chunk(self, call: CallInfo) -> None:
        self.heard.append("first_chunk")

    def call_finished(self, call: CallInfo, error: BaseException | None) -> None:
        self.heard.append("call_finished")
        self.calls.append(call)


class Chunks(Recorder):
    """Hears of each chunk too."""

    def chunk(self, call: CallInfo) -> None:
        self.heard.append("chunk")


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def endpoint_of(twin: Twin, emulator: Emulator, hooks: Any, handler: Any = None, **options: Any) -> TwinEndpoint:  # noqa: F811
    return twin.endpoint(emulator.url, hooks=hooks, content_handler=handler, **options)


def facts(call: CallInfo) -> tuple[Any, ...]:
    return call.usage, call.finish_reason, call.response_model


# requests


@pytest.mark.parametrize("operation", ["invoke", "stream"])
def test_hooks_are_told_of_a_chat_and_of_its_answer(twin: Twin, recorder: Recorder, operation: str) -> None:  # noqa: F811
    with Emulator("vllm") as emulator, endpoint_of(twin, emulator, recorder, ChatHandler()) as endpoint:
        endpoint.call(operation, "Hello", model="my-adapter", max_tokens=3, temperature=0.5, stop="###")
        [call] = recorder.calls
        assert (call.server_address, call.server_port) == ("127.0.0.1", emulator.port)
    assert (call.task, call.model, call.streaming) == ("chat", "my-adapter", operation == "stream")
    assert call.parameters == {"max_tokens": 3, "temperature": 0.5, "stop": ("###",)}
    assert isinstance(call.usage, Usage)
    assert call.usage.completion_tokens == 3
    assert (call.finish_reason, call.response_model) == ("length", "my-adapter")
    assert isinstance(call.response_id, str)


@pytest.mark.parametrize("operation", ["invoke", "stream"])
def test_hooks_are_told_of_each_containers_answer(direct_twin: Twin, operation: str) -> None:  # noqa: F811
    for personality, handler, tokens in (
        ("tgi", TextGenerationHandler(details=True), 2),
        ("lmi", TextGenerationHandler(details=True), 2),
        ("lmi_sse", TextGenerationHandler(details=True), 2),
        ("vllm", OpenAICompletionsHandler(), 2),
    ):
        recorder = Recorder()
        name = "max_tokens" if personality == "vllm" else "max_new_tokens"
        with (
            Emulator(personality) as emulator,
            endpoint_of(direct_twin, emulator, recorder, handler, model_kwargs={name: tokens}) as endpoint,
        ):
            endpoint.call(operation, "Hello")
        [call] = recorder.calls
        assert (call.task, call.model, call.parameters) == ("text_completion", NAME, {name: tokens})
        assert call.usage is not None, personality
        assert (call.usage.completion_tokens, call.finish_reason) == (tokens, "length"), personality


def test_hooks_are_told_of_embeddings(twin: Twin, recorder: Recorder) -> None:  # noqa: F811
    answer = {"model": "m", "id": "e-1", "data": [{"index": 0, "embedding": [1.0]}], "usage": {"prompt_tokens": 3}}
    with Emulator(lambda _: ModelReply(json.dumps(answer))) as emulator:
        handler = EmbeddingsHandler("openai")
        with endpoint_of(twin, emulator, recorder, handler) as endpoint:
            assert endpoint.invoke(["Hello"], dimensions=1, encoding_format="float") == [[1.0]]
    [call] = recorder.calls
    assert (call.task, call.parameters) == ("embeddings", {"dimensions": 1, "encoding_format": "float"})
    assert (call.usage, call.response_model, call.response_id) == (Usage(3), "m", "e-1")


def test_vectors_without_more_have_no_details(direct_twin: Twin, recorder: Recorder) -> None:  # noqa: F811
    with Emulator("tei") as emulator, endpoint_of(direct_twin, emulator, recorder, EmbeddingsHandler()) as endpoint:
        endpoint.invoke(["Hello"])
    assert facts(recorder.calls[0]) == (None, None, None)


def test_each_call_of_a_map_is_told(twin: Twin, recorder: Recorder) -> None:  # noqa: F811
    with Emulator("vllm") as emulator, endpoint_of(twin, emulator, recorder, ChatHandler()) as endpoint:
        list(endpoint.map(["a", "b"], max_concurrency=2, max_tokens=1))
    assert [(call.task, dict(call.parameters), call.finish_reason) for call in recorder.calls] == [
        ("chat", {"max_tokens": 1}, "length")
    ] * 2


def test_the_calls_of_a_session_are_told(direct_twin: Twin, recorder: Recorder) -> None:  # noqa: F811
    def model(request: ModelRequest) -> ModelReply:
        return ModelReply(request.body.upper(), close_session=b"CLOSE" in request.body)

    with Emulator(model) as emulator, endpoint_of(direct_twin, emulator, recorder, TextHandler()) as endpoint:
        session = endpoint.endpoint.session()
        direct_twin.run(session.open())
        direct_twin.run(session.invoke("x"))
        direct_twin.run(session.aclose() if direct_twin.asynchronous else session.close())
    assert [(call.task, call.model, call.parameters) for call in recorder.calls] == [(None, NAME, {})] * 3


class Stored:
    """A client of Amazon S3 that forgets what it is given. Its answers can be awaited."""

    def put_object(self, **object: Any) -> Any:
        return self

    def get_object(self, **where: Any) -> Any: ...

    def __await__(self) -> Iterator[None]:
        return iter(())


@pytest.mark.parametrize("upload_to", [None, "s3://bucket/in"])
def test_a_submission_is_told(twin: Twin, recorder: Recorder, upload_to: str | None) -> None:  # noqa: F811
    handler = ChatHandler()
    with (
        Emulator("vllm") as emulator,
        endpoint_of(twin, emulator, recorder, handler, s3_client=Stored()) as endpoint,
    ):
        twin.run(endpoint.endpoint.submit("Hello", upload_to=upload_to, max_tokens=4))
    [call] = recorder.calls
    assert (call.operation, call.task, call.parameters) == ("InvokeEndpointAsync", "chat", {"max_tokens": 4})
    assert facts(call) == (None, None, None)


@pytest.mark.parametrize(
    ("handler", "value", "task"),
    [
        (AutoHandler(), "Hello", "text_completion"),
        (AutoHandler(prompt_format="messages"), "Hello", "chat"),
        (AutoHandler(), [{"role": "user", "content": "Hello"}], "chat"),
        (JSONHandler(), {"messages": []}, None),
    ],
)
def test_the_task_is_the_handlers(direct_twin: Twin, recorder: Recorder, handler: Any, value: Any, task: Any) -> None:  # noqa: F811
    with Emulator(lambda _: ModelReply('{"generated_text": "x"}')) as emulator:
        with endpoint_of(direct_twin, emulator, recorder, handler) as endpoint:
            endpoint.invoke(value)
    assert recorder.calls[0].task == task


def test_no_parameter_can_carry_content_to_hooks(direct_twin: Twin, recorder: Recorder) -> None:  # noqa: F811
    given: dict[str, Any] = {
        "messages": [{"role": "user", "content": "secret"}],
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": "secret_tool"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "secret"}},
        "guided_json": {"secret": 1},
        "logit_bias": {"17": 1},
        "user": "secret",
        "metadata": {"secret": "secret"},
        "chat_template": "secret",
        "prompt": "secret",
        "documents": ["secret"],
        "model": ["secret"],
        "temperature": "secret",
        "max_tokens": {"secret": 1},
        "encoding_format": "secret",
        "reasoning_effort": ["secret"],
        "stop_sequences": [{"secret": 1}],
        "stop": [],
        "n": None,
        "top_p": 0.25,
        "seed": 7,
        "logprobs": True,
        "stop_strings": "###",
    }
    with Emulator(lambda _: ModelReply("{}")) as emulator:
        with endpoint_of(direct_twin, emulator, recorder, JSONHandler()) as endpoint:
            endpoint.invoke({}, parameters=given)
    [call] = recorder.calls
    assert call.parameters == {"top_p": 0.25, "seed": 7, "logprobs": True, "stop_strings": ("###",)}
    assert call.model == NAME
    for name in CallInfo.__slots__:
        assert "secret" not in repr(getattr(call, name))


def test_a_handler_may_say_where_the_parameters_are(twin: Twin, recorder: Recorder) -> None:  # noqa: F811
    class Envelope(JSONHandler):
        task = "ranking"

        def request_parameters(self, prompt: Any, model_kwargs: dict[str, Any]) -> Any:
            return {**model_kwargs, **prompt["parameters"]}

        def read_details(self, output: Any) -> OutputDetails:
            return OutputDetails("end", None, None, "m-1", "r-1")

    with Emulator(lambda _: ModelReply("{}")) as emulator:
        with endpoint_of(twin, emulator, recorder, Envelope()) as endpoint:
            endpoint.invoke({"parameters": {"model": "m", "top_k": 4, "query": "secret"}}, top_p=0.5)
    [call] = recorder.calls
    assert (call.task, call.model, call.parameters) == ("ranking", "m", {"top_p": 0.5, "top_k": 4})
    assert (call.finish_reason, call.response_model, call.response_id) == ("end", "m-1", "r-1")


def test_a_handler_that_fails_at_it_leaves_the_call_alone(direct_twin: Twin, recorder: Recorder) -> None:  # noqa: F811
    class Broken(JSONHandler):
        def request_parameters(self, prompt: Any, model_kwargs: dict[str, Any]) -> Any:
            raise KeyError("canary")

        def read_details(self, output: Any) -> OutputDetails:
            raise HandlerError("no details")

    with Emulator(lambda _: ModelReply("{}")) as emulator:
        with endpoint_of(direct_twin, emulator, recorder, Broken()) as endpoint:
            assert endpoint.invoke({}) == {}
    [call] = recorder.calls
    assert (call.model, call.parameters, call.usage) == (NAME, {}, None)


# answers


def test_an_answer_is_parsed_once_for_its_output_and_its_details(
    direct_twin: Twin,  # noqa: F811
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from smendpoint.handlers import _json

    parsed: list[str] = []

    def parse(text: str) -> Any:
        parsed.append(text)
        return json.loads(text)

    with Emulator("vllm") as emulator, endpoint_of(direct_twin, emulator, recorder, ChatHandler()) as endpoint:
        monkeypatch.setattr(_json, "parse_json", parse)
        response = endpoint.send("Hello", max_tokens=2)
        assert len(parsed) == 1
        assert response.usage == recorder.calls[0].usage is not None
        assert type(response.body) is bytes


def test_hooks_are_told_the_token_counts_of_an_output_that_does_not_fit(twin: Twin, recorder: Recorder) -> None:  # noqa: F811
    answer = {"model": "m", "choices": [{"delta": {}}], "usage": {"completion_tokens": 9}}
    with Emulator(lambda _: ModelReply(json.dumps(answer))) as emulator:
        with endpoint_of(twin, emulator, recorder, ChatHandler()) as endpoint, pytest.raises(HandlerError):
            endpoint.invoke("Hello")
    assert facts(recorder.calls[0]) == (Usage(None, 9), None, "m")


def test_hooks_are_told_of_a_stream_that_a_stop_sequence_ends(twin: Twin, recorder: Recorder) -> None:  # noqa: F811
    with Emulator("vllm") as emulator, endpoint_of(twin, emulator, recorder, ChatHandler()) as endpoint:
        whole = endpoint.invoke("Hello").text
        endpoint.collect("Hello", stop=whole.split()[1])
    assert recorder.calls[1].finish_reason == "stop"


def test_a_failed_stream_tells_what_is_known(twin: Twin, recorder: Recorder) -> None:  # noqa: F811
    with Emulator("vllm") as emulator, endpoint_of(twin, emulator, recorder, ChatHandler()) as endpoint:
        emulator.inject("reset_mid_stream")
        with pytest.raises(errors.StreamError):
            endpoint.collect("Hello")
    [call] = recorder.calls
    assert (call.finish_reason, call.usage) == (None, None)


# chunks


@pytest.mark.parametrize("hooks", [Recorder(), Chunks()], ids=["without", "with"])
def test_the_first_chunk_and_each_chunk_of_a_stream_are_told(twin: Twin, hooks: Recorder) -> None:  # noqa: F811
    hooks.heard.clear()
    with Emulator("tgi") as emulator, endpoint_of(twin, emulator, hooks) as endpoint:
        chunks = endpoint.collect("Hello", max_new_tokens=4)
        endpoint.invoke("Hello")
    assert len(chunks) == 4
    each = ["chunk"] * 4 if isinstance(hooks, Chunks) else []
    ends = ["call_started", "first_byte", "first_chunk", *each, "call_finished"]
    assert hooks.heard == [*ends, "call_started", "first_byte", "call_finished"]


def test_a_stream_without_chunks_has_no_first_one(twin: Twin, recorder: Recorder) -> None:  # noqa: F811
    with Emulator("tgi") as emulator, endpoint_of(twin, emulator, recorder) as endpoint:
        with endpoint.stream("Hello"):
            pass  # it is left before its first chunk is read
        emulator.inject("status_400_ValidationError")
        with pytest.raises(errors.ValidationError):
            endpoint.collect("Hello")
    assert recorder.heard.count("call_finished") == 2
    assert "first_chunk" not in recorder.heard


def test_a_chunk_hook_that_raises_changes_nothing(direct_twin: Twin, caplog: pytest.LogCaptureFixture) -> None:  # noqa: F811
    class Broken(CallHooks):
        def chunk(self, call: CallInfo) -> None:
            raise KeyError("canary")

    with Emulator("tgi") as emulator, endpoint_of(direct_twin, emulator, Broken()) as endpoint:
        assert len(endpoint.collect("Hello", max_new_tokens=2)) == 2
    assert [record.getMessage() for record in caplog.records] == ["hook chunk raised KeyError"] * 2


def test_a_debug_log_tells_the_first_chunk_and_not_each(
    direct_twin: Twin,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", "smendpoint.call")
    for hooks in (None, Chunks()):
        caplog.clear()
        with Emulator("tgi") as emulator, endpoint_of(direct_twin, emulator, hooks) as endpoint:
            endpoint.collect("Hello", max_new_tokens=2)
        steps = [record.getMessage().partition(":")[0] for record in caplog.records]
        assert steps == ["call started", "attempt started", "first byte", "first chunk", "call finished"]


# several


class Counting(CallHooks):
    """Counts the hooks of each call in the call's context."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.ends: list[Any] = []

    def call_started(self, call: CallInfo) -> None:
        assert call.context is None
        call.context = self.kind(1)

    def call_finished(self, call: CallInfo, error: BaseException | None) -> None:
        self.ends.append(call.context)


@pytest.fixture
def pair() -> tuple[Counting, Counting]:
    return Counting(int), Counting(str)


@pytest.mark.parametrize("several", [list, tuple])
def test_several_objects_are_notified_each_with_a_context_of_its_own(
    twin: Twin,  # noqa: F811
    pair: tuple[Counting, Counting],
    several: Any,
) -> None:
    with Emulator("tgi") as emulator, endpoint_of(twin, emulator, several(pair)) as endpoint:
        endpoint.invoke("Hello")
    assert [hooks.ends for hooks in pair] == [[1], ["1"]]


def test_no_hooks_at_all_may_be_an_empty_list(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator("tgi") as emulator, endpoint_of(direct_twin, emulator, []) as endpoint:
        assert endpoint.invoke("Hello")


def test_each_of_several_objects_is_checked(direct_twin: Twin) -> None:  # noqa: F811
    with pytest.raises(errors.ConfigurationError, match="an instance, not the class Recorder"):
        direct_twin.endpoint("https://127.0.0.1", hooks=[Counting(int), Recorder])


@pytest.mark.parametrize(
    ("url", "server"),
    [
        (None, (None, None)),
        ("https://runtime.example", ("runtime.example", 443)),
        ("http://runtime.example", ("runtime.example", 80)),
    ],
)
def test_a_client_says_which_server_it_calls(recorder: Recorder, url: str | None, server: tuple[Any, Any]) -> None:
    client = MagicMock()
    client.meta.endpoint_url = url
    client.invoke_endpoint.side_effect = KeyError("canary")
    with Endpoint(NAME, client=client, hooks=recorder) as endpoint, pytest.raises(KeyError):
        endpoint.invoke("Hello")
    [call] = recorder.calls
    assert (call.server_address, call.server_port) == server
