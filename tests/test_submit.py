"""Asynchronous inference in both twins and both lanes, with the objects in moto's Amazon S3."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aws_standins import clear_environment
from clocks import FakeClock
from members import require_member
from object_store import BUCKET, KEYS, ObjectStore, store  # noqa: F401
from servers import Peer, Server
from twins import Twin, TwinEndpoint, direct_twin, twin  # noqa: F401

from smendpoint import AsyncInferenceHandle, Endpoint, InferenceHandle, JSONHandler, TextHandler, errors
from smendpoint._core.aws.operations import MAX_ASYNC_BODY
from smendpoint.emulator import Emulator, ModelReply, ModelRequest

OUTPUT = f"s3://{BUCKET}/out"
FAILURE_TEXT = 'Received server error (507) from primary with message "CUDA out of memory".'
FINE = f"s3://{BUCKET}/fine.out"
NOWHERE = f"s3://{BUCKET}/nowhere.out"


def shout(asked: ModelRequest) -> ModelReply:
    """A model that answers in capitals, and fails on request."""
    if asked.body == b"fail":
        return ModelReply(FAILURE_TEXT, status=500)
    return ModelReply(asked.body.upper())


class WorkClock(FakeClock):
    """Sleeping lasts until the model has done its work."""

    def __init__(self, emulator: Emulator) -> None:
        super().__init__()
        self.emulator = emulator

    def sleep(self, seconds: float, wake: threading.Event | None = None) -> None:
        super().sleep(seconds)
        self.emulator.idle()


class Bench:
    """An emulator that stores its answers in S3, and endpoints that find them there."""

    def __init__(self, twin: Twin, store: ObjectStore, emulator: Emulator) -> None:  # noqa: F811
        self.twin = twin
        self.store = store
        self.emulator = emulator
        self._clients: list[Any] = []

    def endpoint(self, **options: Any) -> TwinEndpoint:
        """An endpoint; in the client lane with an ``s3_client=``."""
        options.setdefault("content_handler", TextHandler())
        options.setdefault("clock", WorkClock(self.emulator))
        if self.twin.lane == "client":
            require_member("InvokeEndpointAsync", "Body")
        if self.twin.lane == "client" and "s3_client" not in options:
            options["s3_client"] = self.s3_client()
        return self.twin.endpoint(self.emulator.url, **options)

    def s3_client(self) -> Any:
        """A client for S3 of the twin's kind."""
        if self.twin.asynchronous:
            from aiobotocore.session import AioSession

            made = self.twin.run(
                AioSession().create_client("s3", region_name="us-west-2", endpoint_url=self.store.url, **KEYS)
            )
        else:
            made = self.store.new_client()
        self._clients.append(made)
        return made

    def submit(self, endpoint: TwinEndpoint, *value: Any, **arguments: Any) -> Any:
        return self.twin.run(endpoint.endpoint.submit(*value, **arguments))

    def result(self, handle: Any, timeout: float | None = None) -> Any:
        return self.twin.run(handle.result(timeout))

    def done(self, handle: Any) -> bool:
        answer: bool = self.twin.run(handle.done())
        return answer

    def handle(self, endpoint: TwinEndpoint, *place: Any, **options: Any) -> Any:
        """A handle made from its locations."""
        kind: Any = AsyncInferenceHandle if self.twin.asynchronous else InferenceHandle
        return kind(endpoint.endpoint, *place, **options)

    def close(self) -> None:
        for client in self._clients:
            self.twin.run(client.close())


def bench_for(twin: Twin, store: ObjectStore, monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[Bench]:  # noqa: F811
    clear_environment(monkeypatch, home)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", store.url)
    with Emulator(shout, async_output=OUTPUT, async_store=store.put, async_load=store.get) as emulator:
        made = Bench(twin, store, emulator)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def bench(
    twin: Twin,  # noqa: F811
    store: ObjectStore,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Bench]:
    yield from bench_for(twin, store, monkeypatch, tmp_path)


@pytest.fixture
def direct_bench(
    direct_twin: Twin,  # noqa: F811
    store: ObjectStore,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Bench]:
    yield from bench_for(direct_twin, store, monkeypatch, tmp_path)


# -- requests and outputs


def test_a_small_input_is_sent_along_and_its_output_is_waited_for(bench: Bench) -> None:
    with bench.endpoint() as endpoint:
        handle = bench.submit(endpoint, "hello")
        assert bench.result(handle, 60) == "HELLO"
        assert bench.emulator.requests[-1].operation == "InvokeEndpointAsync"
        assert bench.emulator.requests[-1].body == b"hello"


def test_a_handle_has_the_locations_and_ids_of_its_request(bench: Bench) -> None:
    with bench.endpoint() as endpoint:
        handle = bench.submit(endpoint, "hello", inference_id="order-7", filename="answer")
        assert handle.inference_id == "order-7"
        assert handle.output_location == f"{OUTPUT}/answer.out"
        assert handle.failure_location == f"{OUTPUT}/answer-error.out"
        assert handle.request_id
        bench.result(handle)


def test_the_service_s_own_id_is_known_too(bench: Bench) -> None:
    with bench.endpoint() as endpoint:
        handle = bench.submit(endpoint, "hello")
        assert len(handle.inference_id) == 36
        bench.result(handle)


def test_every_option_becomes_its_request_member(bench: Bench) -> None:
    with bench.endpoint(endpoint_kwargs={"CustomAttributes": "all"}) as endpoint:
        handle = bench.submit(
            endpoint,
            "hello",
            inference_id="i",
            request_ttl_seconds=60,
            invocation_timeout_seconds=5,
            output_path_extension="deep/er",
            filename="name",
            endpoint_kwargs={"CustomAttributes": "mine", "InferenceId": "beaten"},
        )
        prefix = "x-amzn-sagemaker-"
        sent = {
            name.removeprefix(prefix): value
            for name, value in bench.emulator.requests[-1].headers.items()
            if name.startswith(prefix)
        }
        assert sent == {
            "content-type": "text/plain",
            "accept": sent["accept"],
            "inference-id": "i",
            "requestttlseconds": "60",
            "invocationtimeoutseconds": "5",
            "s3outputpathextension": "deep/er",
            "filename": "name",
            "custom-attributes": "mine",
        }
        assert handle.output_location == f"{OUTPUT}/deep/er/name.out"
        bench.result(handle)


def test_model_kwargs_reach_the_handler_as_in_any_call(direct_bench: Bench) -> None:
    with direct_bench.endpoint(content_handler=None, model_kwargs={"temperature": 0.5, "top_k": 3}) as endpoint:
        direct_bench.submit(endpoint, "hello", top_k=4, stop=["."])
        sent = json.loads(direct_bench.emulator.requests[-1].body)
        assert sent == {"inputs": "hello", "parameters": {"temperature": 0.5, "top_k": 4, "stop": ["."]}}
        direct_bench.emulator.idle()


def test_an_input_of_any_size_can_be_uploaded_under_a_key_of_its_own(bench: Bench) -> None:
    large = "x" * (MAX_ASYNC_BODY + 1)
    with bench.endpoint() as endpoint:
        before = set(bench.store.keys("in/"))
        handles = [bench.submit(endpoint, large, upload_to=f"s3://{BUCKET}/in/") for _ in range(2)]
        uploaded = set(bench.store.keys("in/")) - before
        assert len(uploaded) == 2
        assert all(key.count("/") == 1 for key in uploaded)
        assert [bench.result(handle, 60) for handle in handles] == [large.upper()] * 2
        assert bench.emulator.requests[-1].body == b""
        kept = bench.store.client.head_object(Bucket=BUCKET, Key=uploaded.pop())
        assert kept["ContentType"] == "text/plain"


def test_an_upload_without_a_content_type_is_kept_as_s3_keeps_such_objects(direct_bench: Bench) -> None:
    with direct_bench.endpoint() as endpoint:
        before = set(direct_bench.store.keys("untyped/"))
        direct_bench.submit(endpoint, "x", upload_to=f"s3://{BUCKET}/untyped", endpoint_kwargs={"ContentType": None})
        (key,) = set(direct_bench.store.keys("untyped/")) - before
        assert "x-amzn-sagemaker-content-type" not in direct_bench.emulator.requests[-1].headers
        kept = direct_bench.store.client.head_object(Bucket=BUCKET, Key=key)
        assert kept["ContentType"] == "binary/octet-stream"
        direct_bench.emulator.idle()


def test_an_input_that_is_there_already_needs_no_body(bench: Bench) -> None:
    location = f"s3://{BUCKET}/given/input.txt"
    bench.store.put(location, b"from the bucket")
    with bench.endpoint() as endpoint:
        assert bench.result(bench.submit(endpoint, input_location=location), 60) == "FROM THE BUCKET"
        by_member = bench.submit(endpoint, endpoint_kwargs={"InputLocation": location})
        assert bench.result(by_member, 60) == "FROM THE BUCKET"


def test_the_largest_body_is_sent_along_and_one_byte_more_is_refused_with_the_cure(bench: Bench) -> None:
    with bench.endpoint() as endpoint:
        handle = bench.submit(endpoint, "x" * MAX_ASYNC_BODY)
        with pytest.raises(errors.ConfigurationError, match=r"128,001 bytes.*upload_to=") as caught:
            bench.submit(endpoint, "x" * (MAX_ASYNC_BODY + 1))
        assert caught.value.endpoint_name == "my-llm"
        assert len(bench.emulator.requests) == 1
        bench.result(handle)


def test_a_body_beyond_the_limit_of_real_time_inference_gives_no_warning(direct_bench: Bench) -> None:
    with direct_bench.endpoint() as endpoint:
        handle = direct_bench.submit(endpoint, "x" * 6_300_000, upload_to=f"s3://{BUCKET}/large")
        assert len(direct_bench.result(handle, 60)) == 6_300_000


def test_the_output_ends_at_a_stop_sequence(direct_bench: Bench) -> None:
    with direct_bench.endpoint() as endpoint:
        handle = direct_bench.submit(endpoint, "one. two", stop=".")
        assert direct_bench.result(handle, 60) == "ONE"


# -- waiting


def test_done_looks_once_and_the_result_is_fetched_once(bench: Bench) -> None:
    location = f"s3://{BUCKET}/later-{bench.twin.id}.out"
    with bench.endpoint() as endpoint:
        handle = bench.handle(endpoint, location, f"s3://{BUCKET}/later-error.out")
        assert not bench.done(handle)
        assert "not done" in repr(handle)
        bench.store.put(location, b"text")
        assert bench.done(handle)
        bench.store.client.delete_object(Bucket=BUCKET, Key=location.rpartition("/")[2])
        assert bench.done(handle)
        first = bench.result(handle)
        assert first == "text"
        assert bench.result(handle) is first
        assert repr(handle).count("text") == 0


def test_the_pauses_between_looks_come_from_the_clock(bench: Bench) -> None:
    with bench.endpoint() as endpoint:
        handle = bench.handle(endpoint, NOWHERE)
        with pytest.raises(errors.DeadlineExceededError, match=r"no answer after 3 s.*'my-llm'"):
            bench.result(handle, 3)
        clock = endpoint.endpoint._caller.clock
        assert clock.slept == pytest.approx([0.5, 0.75, 1.125, 0.625])


def test_after_the_deadline_the_wait_can_go_on(direct_bench: Bench) -> None:
    location = f"s3://{BUCKET}/slow-{direct_bench.twin.id}.out"
    with direct_bench.endpoint() as endpoint:
        handle = direct_bench.handle(endpoint, location)
        with pytest.raises(errors.DeadlineExceededError):
            direct_bench.result(handle, 0)
        direct_bench.store.put(location, b"at last")
        assert direct_bench.result(handle, 0) == "at last"


# -- failures


def test_the_failure_of_the_model_is_an_error_with_the_report_of_the_service(bench: Bench) -> None:
    with bench.endpoint() as endpoint:
        handle = bench.submit(endpoint, "fail", filename=f"failed-{bench.twin.id}")
        with pytest.raises(errors.ModelError, match=r"asynchronous inference failed.*-error.out") as caught:
            bench.result(handle, 60)
        assert caught.value.original_message == FAILURE_TEXT
        assert caught.value.original_status_code == 507
        assert caught.value.status == 424
        assert caught.value.request_id == handle.request_id
        assert caught.value.endpoint_name == "my-llm"
        assert "CUDA" not in str(caught.value)
        assert bench.done(handle)
        assert "failed" in repr(handle)
        with pytest.raises(errors.ModelError) as again:
            bench.result(handle)
        assert again.value is not caught.value


@pytest.mark.parametrize("text", [b"no status", b"Received server error (x07) from", b"\xff\xfe error (5\xb2", b""])
def test_a_failure_may_say_anything(direct_bench: Bench, text: bytes) -> None:
    location = f"s3://{BUCKET}/odd-error.out"
    direct_bench.store.put(location, text)
    with direct_bench.endpoint() as endpoint:
        handle = direct_bench.handle(endpoint, NOWHERE, location)
        with pytest.raises(errors.ModelError) as caught:
            direct_bench.result(handle)
        assert caught.value.original_status_code is None
        assert caught.value.original_message == text.decode("utf-8", "replace")


def test_an_output_that_the_handler_cannot_read_is_a_handler_error(direct_bench: Bench) -> None:
    direct_bench.store.put(f"s3://{BUCKET}/bad.out", b"no json")
    with direct_bench.endpoint(content_handler=JSONHandler()) as endpoint:
        handle = direct_bench.handle(endpoint, f"s3://{BUCKET}/bad.out")
        with pytest.raises(errors.HandlerError) as caught:
            direct_bench.result(handle)
        assert caught.value.endpoint_name == "my-llm"


def test_a_bucket_that_does_not_exist_is_an_error_at_once(bench: Bench) -> None:
    with bench.endpoint() as endpoint:
        for look in (bench.done, bench.result):
            with pytest.raises(errors.ServiceError, match="NoSuchBucket") as caught:
                look(bench.handle(endpoint, "s3://no-such-bucket/a.out"))
            assert caught.value.endpoint_name == "my-llm"
        with pytest.raises(errors.ServiceError, match="NoSuchBucket") as caught:
            bench.submit(endpoint, "hello", upload_to="s3://no-such-bucket/in")
        assert caught.value.endpoint_name == "my-llm"
        assert bench.emulator.requests == []


def test_a_location_outside_s3_is_refused_when_it_is_read(direct_bench: Bench) -> None:
    with direct_bench.endpoint() as endpoint:
        handle = direct_bench.handle(endpoint, "https://bucket/key")
        with pytest.raises(errors.ConfigurationError, match="s3://bucket/key"):
            direct_bench.result(handle)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either an input or input_location"),
        ({"input": "x", "input_location": FINE}, "either an input or input_location"),
        ({"input_location": FINE, "upload_to": "s3://b/in"}, "upload_to cannot be used"),
        ({"input_location": FINE, "top_k": 1}, "top_k cannot be used"),
        ({"input": "x", "upload_to": "bucket/in"}, "s3://bucket/key"),
        ({"input": "x", "upload_to": "s3://"}, "s3://bucket/key"),
        (
            {"input": "x", "upload_to": Path("bucket/in")},
            "upload_to must be 's3://bucket/prefix', not (Posix|Windows)Path",
        ),
        ({"input": "x", "request_ttl_seconds": 59}, "RequestTTLSeconds"),
        ({"input": "x", "filename": "a" * 33}, "Filename"),
        ({"input": "x", "endpoint_kwargs": {"TargetVariant": "blue"}}, "no member 'TargetVariant'"),
        ({"input": "x", "endpoint_kwargs": 5}, "endpoint_kwargs must be a mapping"),
        ({"input": "x", "stop": ""}, "stop sequence"),
    ],
)
def test_an_argument_that_does_not_fit_is_refused_before_anything_is_sent(
    direct_bench: Bench, arguments: dict[str, Any], message: str
) -> None:
    given = [arguments["input"]] if "input" in arguments else []
    rest = {name: value for name, value in arguments.items() if name != "input"}
    with direct_bench.endpoint() as endpoint:
        with pytest.raises(errors.ConfigurationError, match=message) as caught:
            direct_bench.submit(endpoint, *given, **rest)
        assert caught.value.endpoint_name == "my-llm"
        assert direct_bench.emulator.requests == []


def test_the_call_itself_fails_as_any_call_does(bench: Bench) -> None:
    bench.emulator.inject("status_400_ValidationError")
    with bench.endpoint() as endpoint, pytest.raises(errors.ValidationError):
        bench.submit(endpoint, "hello")


def accepted(body: bytes, *headers: str) -> Callable[[Peer], None]:
    head = "".join(f"{header}\r\n" for header in headers)
    answer = f"HTTP/1.1 202 Accepted\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body

    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(answer)
        peer.gone()

    return serve


@pytest.mark.parametrize("body", [b"", b"[]", b"5", b'{"InferenceId": 5}', b"{}", b"no json", b"\xff"])
def test_an_answer_without_an_id_is_an_answer(direct_twin: Twin, body: bytes) -> None:  # noqa: F811
    with (
        Server(accepted(body, f"X-Amzn-SageMaker-OutputLocation: {FINE}")) as server,
        direct_twin.endpoint(server.url) as endpoint,
    ):
        handle = direct_twin.run(endpoint.endpoint.submit("hello"))
        assert (handle.output_location, handle.failure_location, handle.inference_id) == (FINE, None, None)
        assert handle.request_id is None


def test_an_answer_without_a_location_is_an_error(direct_twin: Twin) -> None:  # noqa: F811
    with (
        Server(accepted(b"{}")) as server,
        direct_twin.endpoint(server.url) as endpoint,
        pytest.raises(errors.ProtocolError, match=r"without saying where.*'my-llm', 1 attempt"),
    ):
        direct_twin.run(endpoint.endpoint.submit("hello"))


# -- pickled handles


def test_a_pickled_handle_finds_its_output_elsewhere(direct_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name.upper(), value)
    with direct_bench.endpoint(clock=None, aws_access_key_id=None, aws_secret_access_key=None) as endpoint:
        handle = direct_bench.submit(endpoint, "one. two", stop=".", inference_id="id")
        direct_bench.emulator.idle()
        data = pickle.dumps(handle)
    assert not [name for name, value in KEYS.items() if value.encode() in data]
    travelled = pickle.loads(data)
    assert travelled.inference_id == "id"
    assert travelled.request_id == handle.request_id
    try:
        assert direct_bench.result(travelled, 0) == "ONE"
    finally:
        other = travelled._caller
        direct_bench.twin.run(other.close())


def test_an_endpoint_with_an_s3_client_cannot_be_pickled(bench: Bench) -> None:
    with bench.endpoint(s3_client=bench.s3_client()) as endpoint:
        given = "client" if bench.twin.lane == "client" else "s3_client"
        with pytest.raises(errors.ConfigurationError, match=f"made with {given}= cannot be pickled"):
            pickle.dumps(bench.handle(endpoint, FINE))


# -- the S3 client


def test_a_given_s3_client_is_used_and_stays_open(bench: Bench) -> None:
    bench.store.put(FINE, b"fine")
    given = bench.s3_client()
    for _ in range(2):
        with bench.endpoint(s3_client=given) as endpoint:
            assert bench.result(bench.handle(endpoint, FINE)) == "fine"


def test_with_a_client_and_without_an_s3_client_only_the_use_of_s3_is_refused(twin: Twin, store: ObjectStore) -> None:  # noqa: F811
    require_member("InvokeEndpointAsync", "Body")
    if twin.lane == "direct":
        pytest.skip("the direct lane makes its own client")
    with Emulator(shout) as emulator, twin.endpoint(emulator.url, content_handler=TextHandler()) as endpoint:
        handle = twin.run(endpoint.endpoint.submit("hello"))
        for call in (lambda: handle.result(0), lambda: endpoint.endpoint.submit("x", upload_to="s3://b/in")):
            with pytest.raises(errors.ConfigurationError, match="pass s3_client= too") as caught:
                twin.run(call())
            assert caught.value.endpoint_name == "my-llm"


def test_one_s3_client_serves_all_handles_of_an_endpoint(direct_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    direct_bench.store.put(FINE, b"fine")
    with direct_bench.endpoint() as endpoint:
        handles = [direct_bench.handle(endpoint, FINE) for _ in range(3)]
        assert [direct_bench.result(handle) for handle in handles] == ["fine"] * 3
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")  # a second client would call it
        assert direct_bench.result(direct_bench.handle(endpoint, FINE)) == "fine"


@pytest.mark.parametrize("needed_before", [True, False])
def test_after_closing_s3_is_not_used(direct_bench: Bench, needed_before: bool) -> None:
    direct_bench.store.put(FINE, b"fine")
    endpoint = direct_bench.endpoint()
    if needed_before:
        assert direct_bench.result(direct_bench.handle(endpoint, FINE)) == "fine"
    handle = direct_bench.handle(endpoint, FINE)
    endpoint.close()
    with pytest.raises(errors.ConfigurationError, match="the endpoint is closed"):
        direct_bench.result(handle)


def test_closing_an_endpoint_whose_s3_client_was_never_needed_does_nothing(direct_bench: Bench) -> None:
    with direct_bench.endpoint() as endpoint, pytest.raises(errors.ConfigurationError):
        direct_bench.result(direct_bench.handle(endpoint, "no location"))


def test_an_s3_that_cannot_be_reached_is_an_error_and_the_next_try_makes_a_new_start(
    direct_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.config import Config

    direct_bench.store.put(FINE, b"fine")
    config = Config(retries={"total_max_attempts": 1, "mode": "standard"})
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    with direct_bench.endpoint(config=config) as endpoint:
        with pytest.raises(errors.ConnectError) as caught:
            direct_bench.result(direct_bench.handle(endpoint, FINE))
        assert caught.value.endpoint_name == "my-llm"
        with pytest.raises(errors.ConnectError):
            direct_bench.submit(endpoint, "hello", upload_to=f"s3://{BUCKET}/in")
    assert config.retries == {"total_max_attempts": 1, "mode": "standard"}


def test_without_a_region_s3_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clear_environment(monkeypatch, tmp_path)
    with Endpoint("my-llm") as endpoint, pytest.raises(errors.ConfigurationError, match="no AWS region") as caught:
        InferenceHandle(endpoint, FINE).result(0)
    assert caught.value.endpoint_name == "my-llm"


def test_threads_share_one_s3_client(direct_bench: Bench) -> None:
    if direct_bench.twin.asynchronous:
        pytest.skip("tasks share it: see the next test")
    direct_bench.store.put(FINE, b"fine")
    found: list[str] = []
    with direct_bench.endpoint() as endpoint:
        threads = [
            threading.Thread(target=lambda: found.append(direct_bench.result(direct_bench.handle(endpoint, FINE))))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == ["fine"] * 4


def test_tasks_share_one_s3_client_and_cancelling_one_does_not_affect_the_rest(direct_bench: Bench) -> None:
    if not direct_bench.twin.asynchronous:
        pytest.skip("threads cannot be cancelled")
    direct_bench.store.put(FINE, b"fine")

    async def work(endpoint: Any) -> list[Any]:
        tasks = [asyncio.ensure_future(AsyncInferenceHandle(endpoint, FINE).result()) for _ in range(4)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    with direct_bench.endpoint() as endpoint:
        first, *others = direct_bench.twin.run(work(endpoint.endpoint))
        assert isinstance(first, asyncio.CancelledError)
        assert others == ["fine"] * 3
