"""The ready-made hooks for Prometheus, in both twins and both lanes."""

from __future__ import annotations

import asyncio
import pickle
import sys
from typing import Any

import pytest
from clocks import FakeClock
from paused import Started
from prometheus_client import REGISTRY, CollectorRegistry, Counter, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from twins import NAME, Twin, TwinEndpoint, direct_twin, twin  # noqa: F401

from smendpoint import AsyncEndpoint, ChatHandler, EmbeddingsHandler, errors
from smendpoint.emulator import Emulator, ModelReply
from smendpoint.integrations.prometheus import PrometheusHooks

CALL = {"endpoint": NAME, "operation": "InvokeEndpoint"}
STREAM = {"endpoint": NAME, "operation": "InvokeEndpointWithResponseStream"}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def chat(twin: Twin, emulator: Emulator, registry: Any, **options: Any) -> TwinEndpoint:  # noqa: F811
    return twin.endpoint(emulator.url, content_handler=ChatHandler(), hooks=PrometheusHooks(registry), **options)


def scraped(registry: CollectorRegistry) -> dict[tuple[Any, ...], float]:
    """Give all samples of a scrape but those of buckets and times."""
    return {
        (sample.name.removeprefix("smendpoint_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_created", "_sum"))
    }


def test_a_whole_call_and_a_stream_are_measured(twin: Twin, registry: CollectorRegistry) -> None:  # noqa: F811
    with Emulator("vllm") as emulator, chat(twin, emulator, registry) as endpoint:
        prompt_tokens = endpoint.send("Hello", max_tokens=3).usage.prompt_tokens
        endpoint.collect("Hello", max_tokens=4)
    whole, stream = CALL.values(), STREAM.values()
    assert scraped(registry) == {
        ("call_duration_seconds_count", *whole, "ok"): 1,
        ("call_duration_seconds_count", *stream, "ok"): 1,
        ("calls_in_flight", *whole): 0,
        ("calls_in_flight", *stream): 0,
        ("first_byte_seconds_count", *whole): 1,
        ("first_byte_seconds_count", *stream): 1,
        ("first_chunk_seconds_count", *stream): 1,
        ("tokens_total", NAME, "input"): 2 * prompt_tokens,
        ("tokens_total", NAME, "output"): 7,
    }


def test_only_the_token_counts_that_the_model_gives_are_counted(direct_twin: Twin, registry: CollectorRegistry) -> None:  # noqa: F811
    answer = '{"data": [{"index": 0, "embedding": [1.0]}], "usage": {"prompt_tokens": 3}}'
    handler, hooks = EmbeddingsHandler("openai"), PrometheusHooks(registry)
    with Emulator(lambda _: ModelReply(answer)) as emulator:
        with direct_twin.endpoint(emulator.url, content_handler=handler, hooks=hooks) as endpoint:
            endpoint.invoke(["Hello"])
    tokens = {key: count for key, count in scraped(registry).items() if key[0] == "tokens_total"}
    assert tokens == {("tokens_total", NAME, "input"): 3}


def test_a_call_that_is_under_way_is_in_flight(twin: Twin, registry: CollectorRegistry) -> None:  # noqa: F811
    with Emulator("vllm") as emulator, chat(twin, emulator, registry) as endpoint:
        with endpoint.stream("Hello"):
            assert registry.get_sample_value("smendpoint_calls_in_flight", STREAM) == 1
    assert registry.get_sample_value("smendpoint_calls_in_flight", STREAM) == 0


def test_retries_are_counted_by_their_reason(direct_twin: Twin, registry: CollectorRegistry) -> None:  # noqa: F811
    with Emulator("vllm") as emulator:
        emulator.inject("throttle_then_ok_2")
        with chat(direct_twin, emulator, registry, clock=FakeClock()) as endpoint:
            endpoint.invoke("Hello")
    labels = {"endpoint": NAME, "reason": "ThrottlingError"}
    assert registry.get_sample_value("smendpoint_retries_total", labels) == 2


def test_an_outcome_is_an_error_class_of_this_package(twin: Twin, registry: CollectorRegistry) -> None:  # noqa: F811
    with Emulator("vllm") as emulator, chat(twin, emulator, registry) as endpoint:
        emulator.inject("status_400_ValidationError")
        with pytest.raises(errors.ValidationError):
            endpoint.invoke("Hello")
    labels = {**CALL, "outcome": "ValidationError"}
    assert registry.get_sample_value("smendpoint_call_duration_seconds_count", labels) == 1


def test_the_limit_of_calls_in_flight_is_known(direct_twin: Twin, registry: CollectorRegistry) -> None:  # noqa: F811
    with Emulator("vllm") as emulator, chat(direct_twin, emulator, registry, concurrency=3) as endpoint:
        endpoint.invoke("Hello")
    assert registry.get_sample_value("smendpoint_concurrency_limit", {"endpoint": NAME}) == 3


def test_a_cancelled_call_is_neither_in_flight_nor_an_error(registry: CollectorRegistry) -> None:
    async def cancel(url: str) -> None:
        started = Started()
        keys = {"region_name": "us-west-2", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
        hooks = [PrometheusHooks(registry), started]
        async with AsyncEndpoint(NAME, endpoint_url=url, hooks=hooks, **keys) as endpoint:
            task = asyncio.ensure_future(endpoint.invoke("Hello"))
            await started.event.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with Emulator("vllm") as emulator:
        emulator.inject("stall_before_headers")
        asyncio.run(cancel(emulator.url))
    assert registry.get_sample_value("smendpoint_calls_in_flight", CALL) == 0
    labels = {**CALL, "outcome": "cancelled"}
    assert registry.get_sample_value("smendpoint_call_duration_seconds_count", labels) == 1


def test_another_error_has_a_label_of_its_own() -> None:
    from smendpoint.integrations._observed import error_type

    class Mine(errors.ThrottlingError):
        pass

    assert error_type(Mine(429)) == "ThrottlingError"
    assert error_type(KeyError()) == "other"


def test_objects_of_one_registry_share_their_metrics(direct_twin: Twin, registry: CollectorRegistry) -> None:  # noqa: F811
    with Emulator("vllm") as emulator:
        for _ in range(2):
            with chat(direct_twin, emulator, registry) as endpoint:
                endpoint.invoke("Hello")
    labels = {**CALL, "outcome": "ok"}
    assert registry.get_sample_value("smendpoint_call_duration_seconds_count", labels) == 2


def test_namespace_and_buckets_are_the_callers(direct_twin: Twin, registry: CollectorRegistry) -> None:  # noqa: F811
    hooks = PrometheusHooks(registry, namespace="mine", buckets=[1, 2])
    with Emulator("tgi") as emulator, direct_twin.endpoint(emulator.url, hooks=hooks) as endpoint:
        endpoint.invoke("Hello")
    bounds = {
        sample.labels["le"]
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "mine_call_duration_seconds_bucket"
    }
    assert bounds == {"1.0", "2.0", "+Inf"}


def test_a_metric_of_the_same_name_is_not_overwritten(registry: CollectorRegistry) -> None:
    Counter("smendpoint_retries", "Of another.", registry=registry)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        PrometheusHooks(registry)


def test_the_hooks_go_along_with_a_pickled_endpoint() -> None:
    pickled = pickle.dumps(PrometheusHooks(namespace="pickled"))
    assert isinstance(pickle.loads(pickled), PrometheusHooks)
    assert "pickled_retries" in {family.name for family in REGISTRY.collect()}


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(errors.ConfigurationError, match=r"pip install 'smendpoint\[prometheus\]'"):
        PrometheusHooks()
