"""The ready-made hooks for OpenTelemetry, in both twins and both lanes, with exporters in memory."""

from __future__ import annotations

import asyncio
import pickle
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from clocks import FakeClock
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import aws_attributes, gen_ai_attributes, http_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes import error_attributes, server_attributes
from opentelemetry.trace import SpanKind, StatusCode
from paused import Started
from twins import NAME, Twin, TwinEndpoint, direct_twin, twin  # noqa: F401

from smendpoint import (
    AsyncEndpoint,
    ChatHandler,
    EmbeddingsHandler,
    JSONHandler,
    OpenAICompletionsHandler,
    errors,
)
from smendpoint.emulator import Emulator, ModelReply
from smendpoint.integrations.opentelemetry import GenAIHooks

SECRET = "secret"


class Telemetry:
    """Hooks, with the spans and the metrics that they have made."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider([self._reader])
        self.hooks = GenAIHooks(tracer_provider=self.tracers, meter_provider=self.meters)
        self.tracer = self.tracers.get_tracer("test")

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    @property
    def metrics(self) -> dict[str, Any]:
        """All metrics, by name."""
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def points(self, name: str) -> list[Any]:
        return list(self.metrics[name].data.data_points)


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    made = Telemetry()
    yield made
    made.tracers.shutdown()
    made.meters.shutdown()


def chat(twin: Twin, emulator: Emulator, telemetry: Telemetry, **options: Any) -> TwinEndpoint:  # noqa: F811
    return twin.endpoint(emulator.url, **{"content_handler": ChatHandler(), "hooks": telemetry.hooks, **options})


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


@pytest.mark.parametrize("operation", ["invoke", "stream"])
def test_a_call_is_a_span_with_the_attributes_of_the_conventions(
    twin: Twin,  # noqa: F811
    telemetry: Telemetry,
    operation: str,
) -> None:
    with Emulator("vllm") as emulator, chat(twin, emulator, telemetry) as endpoint:
        endpoint.call(
            operation,
            "Hello",
            model="m",
            max_tokens=3,
            temperature=1,
            top_p=0.5,
            top_k=4,
            frequency_penalty=0.25,
            presence_penalty=0.75,
            seed=7,
            n=1,
            stop=["###"],
            user=SECRET,
        )
        port = emulator.port
    [span] = telemetry.spans
    assert (span.name, span.kind, span.status.status_code) == ("chat m", SpanKind.CLIENT, StatusCode.UNSET)
    found = attributes(span)
    assert found.pop("gen_ai.usage.input_tokens") > 0
    assert isinstance(found.pop("gen_ai.response.id"), str)
    assert isinstance(found.pop("aws.request_id"), str)
    if operation == "stream":
        assert 0 < found.pop("gen_ai.response.time_to_first_chunk") < 60
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "aws.sagemaker",
        "gen_ai.request.model": "m",
        "gen_ai.request.stream": operation == "stream",
        "gen_ai.request.max_tokens": 3,
        "gen_ai.request.temperature": 1.0,
        "gen_ai.request.top_p": 0.5,
        "gen_ai.request.top_k": 4.0,
        "gen_ai.request.frequency_penalty": 0.25,
        "gen_ai.request.presence_penalty": 0.75,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ("###",),
        "gen_ai.response.model": "m",
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.usage.output_tokens": 3,
        "server.address": "127.0.0.1",
        "server.port": port,
    }


@pytest.mark.parametrize("operation", ["invoke", "stream"])
def test_a_call_is_measured(twin: Twin, telemetry: Telemetry, operation: str) -> None:  # noqa: F811
    with Emulator("vllm") as emulator, chat(twin, emulator, telemetry) as endpoint:
        endpoint.call(operation, "Hello", max_tokens=3)
        common = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "aws.sagemaker",
            "gen_ai.request.model": NAME,
            "server.address": "127.0.0.1",
            "server.port": emulator.port,
        }
    [duration] = telemetry.points("gen_ai.client.operation.duration")
    common["gen_ai.response.model"] = duration.attributes["gen_ai.response.model"]
    assert duration.attributes == common
    bounds = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
    assert (duration.count, tuple(duration.explicit_bounds)) == (1, bounds)
    tokens = {point.attributes["gen_ai.token.type"]: point for point in telemetry.points("gen_ai.client.token.usage")}
    assert (tokens["output"].sum, tokens["input"].sum > 0) == (3, True)
    assert tokens["output"].attributes == {**common, "gen_ai.token.type": "output"}
    assert tuple(tokens["input"].explicit_bounds) == tuple(4**power for power in range(14))
    if operation == "stream":
        [first] = telemetry.points("gen_ai.client.operation.time_to_first_chunk")
        assert (first.count, first.attributes, tuple(first.explicit_bounds)) == (1, common, bounds)
    else:
        assert "gen_ai.client.operation.time_to_first_chunk" not in telemetry.metrics
    assert {metric.name: metric.unit for metric in telemetry.metrics.values()}.items() <= {
        ("gen_ai.client.operation.duration", "s"),
        ("gen_ai.client.token.usage", "{token}"),
        ("gen_ai.client.operation.time_to_first_chunk", "s"),
    }


def test_every_name_is_one_of_the_conventions(direct_twin: Twin, telemetry: Telemetry) -> None:  # noqa: F811
    known = {
        value
        for module in (aws_attributes, gen_ai_attributes, http_attributes, error_attributes, server_attributes)
        for name, value in vars(module).items()
        if name.isupper()
    }
    answer = '{"model": "m", "data": [{"index": 0, "embedding": [1.0]}], "usage": {"prompt_tokens": 3}}'
    with Emulator({NAME: "vllm", "vectors": lambda _: ModelReply(answer)}) as emulator:
        emulator.inject("throttle_then_ok_1")
        with chat(direct_twin, emulator, telemetry, clock=FakeClock()) as endpoint:
            endpoint.collect("Hello", max_tokens=2, n=2, temperature=0.5, seed=1, stop="###")
        handler = EmbeddingsHandler("openai")
        with chat(direct_twin, emulator, telemetry, name="vectors", content_handler=handler) as endpoint:
            endpoint.invoke(["Hello"], dimensions=1, encoding_format="float")
        emulator.inject("status_400_ValidationError")
        with pytest.raises(errors.ValidationError), chat(direct_twin, emulator, telemetry) as endpoint:
            endpoint.invoke("Hello")
    used = {name for span in telemetry.spans for name in attributes(span)}
    used |= {name for span in telemetry.spans for event in span.events for name in event.attributes or {}}
    assert "gen_ai.request.choice.count" in used
    assert used - known == set()
    metrics = {value for name, value in vars(gen_ai_metrics).items() if name.isupper()}
    assert telemetry.metrics.keys() <= metrics
    for metric in telemetry.metrics.values():
        for point in metric.data.data_points:
            assert point.attributes.keys() <= known


def test_embeddings_are_a_span_of_their_own_kind(twin: Twin, telemetry: Telemetry) -> None:  # noqa: F811
    answer = '{"model": "m", "data": [{"index": 0, "embedding": [1.0]}], "usage": {"prompt_tokens": 3}}'
    with Emulator(lambda _: ModelReply(answer)) as emulator:
        with chat(twin, emulator, telemetry, content_handler=EmbeddingsHandler("openai")) as endpoint:
            endpoint.invoke(["Hello"], dimensions=1, encoding_format="float")
    [span] = telemetry.spans
    found = attributes(span)
    assert span.name == f"embeddings {NAME}"
    assert (found["gen_ai.embeddings.dimension.count"], found["gen_ai.request.encoding_formats"]) == (1, ("float",))
    assert (found["gen_ai.usage.input_tokens"], found["gen_ai.response.model"]) == (3, "m")
    assert "gen_ai.usage.output_tokens" not in found
    [tokens] = telemetry.points("gen_ai.client.token.usage")
    assert tokens.attributes["gen_ai.token.type"] == "input"


@pytest.mark.parametrize(
    ("handler", "value", "name"),
    [
        (OpenAICompletionsHandler(), "Hello", f"text_completion {NAME}"),
        (JSONHandler(), {"prompt": "Hello"}, f"invoke_endpoint {NAME}"),
    ],
)
def test_the_operation_is_the_task_of_the_handler(
    direct_twin: Twin,  # noqa: F811
    telemetry: Telemetry,
    handler: Any,
    value: Any,
    name: str,
) -> None:
    with Emulator("vllm") as emulator, chat(direct_twin, emulator, telemetry, content_handler=handler) as endpoint:
        endpoint.invoke(value)
    assert [span.name for span in telemetry.spans] == [name]


def test_a_submission_is_an_operation_of_its_own(direct_twin: Twin, telemetry: Telemetry) -> None:  # noqa: F811
    with Emulator("vllm") as emulator, chat(direct_twin, emulator, telemetry) as endpoint:
        direct_twin.run(endpoint.endpoint.submit("Hello"))
    assert [span.name for span in telemetry.spans] == [f"invoke_endpoint_async {NAME}"]


def test_a_parameter_of_another_type_is_left_out(direct_twin: Twin, telemetry: Telemetry) -> None:  # noqa: F811
    with Emulator(lambda _: ModelReply("{}")) as emulator:
        with chat(direct_twin, emulator, telemetry, content_handler=JSONHandler()) as endpoint:
            endpoint.invoke({}, max_tokens=0.5, temperature=True)
    [span] = telemetry.spans
    assert not attributes(span).keys() & {"gen_ai.request.max_tokens", "gen_ai.request.temperature"}


# failures


def test_one_span_covers_all_attempts_and_has_an_event_for_each_that_failed(
    direct_twin: Twin,  # noqa: F811
    telemetry: Telemetry,
) -> None:
    with Emulator("vllm") as emulator:
        emulator.inject("throttle_then_ok_2")
        with chat(direct_twin, emulator, telemetry, clock=FakeClock()) as endpoint:
            endpoint.invoke("Hello")
    [span] = telemetry.spans
    assert span.status.status_code == StatusCode.UNSET
    assert "error.type" not in attributes(span)
    seen = [dict(event.attributes or {}) for event in span.events]
    assert {event.name for event in span.events} == {"smendpoint.attempt_failed"}
    assert len({event.pop("aws.request_id") for event in seen}) == 2
    common = {"error.type": "ThrottlingError", "http.response.status_code": 429}
    assert seen == [{**common, "http.request.resend_count": count} for count in (0, 1)]


@pytest.mark.parametrize("operation", ["invoke", "stream"])
def test_a_failed_call_has_the_type_of_its_error_and_no_message(
    twin: Twin,  # noqa: F811
    telemetry: Telemetry,
    operation: str,
) -> None:
    with Emulator("vllm") as emulator, chat(twin, emulator, telemetry) as endpoint:
        emulator.inject("status_400_ValidationError")
        with pytest.raises(errors.ValidationError):
            endpoint.call(operation, "Hello")
    [span] = telemetry.spans
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    assert attributes(span)["error.type"] == "ValidationError"
    [duration] = telemetry.points("gen_ai.client.operation.duration")
    assert duration.attributes["error.type"] == "ValidationError"
    assert "gen_ai.client.token.usage" not in telemetry.metrics


def test_a_stream_that_is_cut_is_an_error_with_its_first_chunk(twin: Twin, telemetry: Telemetry) -> None:  # noqa: F811
    with Emulator("vllm") as emulator, chat(twin, emulator, telemetry) as endpoint:
        emulator.inject("reset_mid_stream")
        with pytest.raises(errors.StreamError):
            endpoint.collect("Hello")
    [span] = telemetry.spans
    assert attributes(span)["error.type"] == "StreamTruncatedError"


def test_a_cancelled_call_ends_its_span(telemetry: Telemetry) -> None:
    async def cancel(url: str) -> None:
        started = Started()
        keys = {"region_name": "us-west-2", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
        async with AsyncEndpoint(NAME, endpoint_url=url, hooks=[telemetry.hooks, started], **keys) as endpoint:
            task = asyncio.ensure_future(endpoint.invoke("Hello"))
            await started.event.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with Emulator("vllm") as emulator:
        emulator.inject("stall_before_headers")
        asyncio.run(cancel(emulator.url))
    [span] = telemetry.spans
    assert attributes(span)["error.type"] == "CancelledError"
    [duration] = telemetry.points("gen_ai.client.operation.duration")
    assert duration.attributes["error.type"] == "CancelledError"


def test_a_stream_that_is_left_early_is_not_an_error(twin: Twin, telemetry: Telemetry) -> None:  # noqa: F811
    with Emulator("vllm") as emulator, chat(twin, emulator, telemetry) as endpoint:
        with endpoint.stream("Hello") as stream:
            next(stream)
    [span] = telemetry.spans
    assert span.status.status_code == StatusCode.UNSET
    assert "gen_ai.response.time_to_first_chunk" in attributes(span)


# content and context


@pytest.mark.parametrize("operation", ["invoke", "stream"])
def test_no_content_is_recorded(direct_twin: Twin, telemetry: Telemetry, operation: str) -> None:  # noqa: F811
    with Emulator("vllm") as emulator, chat(direct_twin, emulator, telemetry) as endpoint:
        tool = {"type": "function", "function": {"name": SECRET, "parameters": {}}}
        endpoint.call(operation, f"{SECRET} {SECRET}", tools=[tool], user=SECRET, metadata={SECRET: SECRET})
        emulator.inject("status_400_ValidationError")
        with pytest.raises(errors.ValidationError):
            endpoint.call(operation, SECRET)
    for span in telemetry.spans:
        assert SECRET not in span.to_json()
    assert SECRET not in repr(telemetry.metrics)


@pytest.mark.parametrize("operation", ["invoke", "stream"])
def test_the_parent_is_the_current_span_of_the_caller(twin: Twin, telemetry: Telemetry, operation: str) -> None:  # noqa: F811
    with Emulator("vllm") as emulator, chat(twin, emulator, telemetry) as endpoint:
        with telemetry.tracer.start_as_current_span("caller") as caller:
            endpoint.call(operation, "Hello")
            assert trace.get_current_span() is caller
        endpoint.call(operation, "Hello")
    child, _, alone = telemetry.spans
    assert child.parent is not None
    assert child.parent.span_id == caller.get_span_context().span_id
    assert alone.parent is None


@pytest.mark.parametrize("concurrency", [None, 2])
def test_the_calls_of_a_map_have_the_caller_of_the_map_as_parent(
    twin: Twin,  # noqa: F811
    telemetry: Telemetry,
    concurrency: int | None,
) -> None:
    with Emulator("vllm") as emulator, chat(twin, emulator, telemetry, concurrency=concurrency) as endpoint:
        with telemetry.tracer.start_as_current_span("caller") as caller:
            list(endpoint.map(["a", "b", "c", "d"], max_concurrency=2))
    parents = {span.parent and span.parent.span_id for span in telemetry.spans if span.name != "caller"}
    assert parents == {caller.get_span_context().span_id}
    assert len(telemetry.spans) == 5


def test_two_maps_that_share_a_limit_keep_their_parents(telemetry: Telemetry) -> None:
    async def ask(url: str) -> None:
        keys = {"region_name": "us-west-2", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
        async with AsyncEndpoint(
            NAME, endpoint_url=url, content_handler=ChatHandler(), hooks=telemetry.hooks, concurrency=1, **keys
        ) as endpoint:

            async def caller(name: str) -> None:
                with telemetry.tracer.start_as_current_span(name):
                    async for _ in endpoint.map([name] * 3, model=name):
                        pass

            await asyncio.gather(caller("first"), caller("second"))

    with Emulator("vllm") as emulator:
        asyncio.run(ask(emulator.url))
    by_id = {span.context.span_id: span.name for span in telemetry.spans if span.context is not None}
    calls = [(span.name, by_id[span.parent.span_id]) for span in telemetry.spans if span.parent is not None]
    assert sorted(calls) == [("chat first", "first")] * 3 + [("chat second", "second")] * 3


# construction


def test_without_providers_the_global_ones_are_used_and_do_nothing(direct_twin: Twin) -> None:  # noqa: F811
    hooks = pickle.loads(pickle.dumps(GenAIHooks()))
    with Emulator("tgi") as emulator, direct_twin.endpoint(emulator.url, hooks=hooks) as endpoint:
        assert endpoint.collect("Hello")


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(errors.ConfigurationError, match=r"pip install 'smendpoint\[opentelemetry\]'"):
        GenAIHooks()
