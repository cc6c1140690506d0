"""Endpoints from outside: made without a trace, checked before a byte leaves, called, copied."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest
from clocks import FakeClock
from inside import transport_of
from servers import bare_environment, make_endpoint  # noqa: F401
from twins import Twin, direct_twin  # noqa: F401

from smendpoint import AsyncEndpoint, CallHooks, CallInfo, Endpoint, RetryPolicy, Timeout
from smendpoint._core.aws.sigv4 import Credentials
from smendpoint._transport.aio.transport import AsyncDirectTransport
from smendpoint._transport.blocking.transport import DirectTransport
from smendpoint.emulator import Emulator, ModelReply, ModelRequest
from smendpoint.errors import ConfigurationError, ServiceError
from smendpoint.handlers import BytesHandler, TextGenerationHandler

pytestmark = pytest.mark.usefixtures("bare_environment")

KEY = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


# made without a trace


def test_an_endpoint_is_made_without_files_sockets_threads_and_event_loops() -> None:
    """With any options. It runs in an interpreter of its own, after the imports."""
    program = """
        import sys, threading
        sys.dont_write_bytecode = True
        from smendpoint import AsyncEndpoint, Endpoint, RetryPolicy, Timeout
        from smendpoint.handlers import ChatHandler
        seen = []
        ChatHandler()
        sys.addaudithook(lambda event, args: seen.append((event, args)) if event.startswith(WATCHED) else None)
        for kind in (Endpoint, AsyncEndpoint):
            kind("my-llm")
            kind("my-llm", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
            kind("my-llm", credentials_profile_name="nowhere", endpoint_url="https://nowhere.invalid")
            kind("my-llm", role_arn="arn:aws:iam::123456789012:role/r", external_id="x", region_name="us-east-1")
            kind("my-llm", content_handler=ChatHandler(), timeout=Timeout(total=1.0), retry=RetryPolicy())
            stream = kind("my-llm", endpoint_kwargs={"TargetVariant": "blue"}).stream("Hello")
            results = kind("my-llm").map(["Hello"], max_concurrency=3)
        seen = [entry for entry in seen if not loading(entry)]
        assert seen == [], seen
        assert threading.active_count() == 1
        assert "botocore" not in sys.modules
    """
    helpers = """
        WATCHED = ("open", "os.", "socket.", "subprocess.", "urllib.")

        def loading(entry):  # a module that is imported when it is needed
            event, args = entry
            return event in ("open", "os.listdir") and str(args[0]).endswith((".py", ".pyc", "__pycache__")) or (
                event == "os.listdir"
            )
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(helpers) + textwrap.dedent(program)], check=True)


def test_an_environment_that_is_wrong_is_noticed_at_the_first_call(
    direct_twin: Twin,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    kind = AsyncEndpoint if direct_twin.asynchronous else Endpoint
    endpoint: Any = kind("my-llm", aws_access_key_id=KEY, aws_secret_access_key=SECRET)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="region") as caught:
            direct_twin.run(endpoint.invoke("Hello"))
        assert caught.value.endpoint_name == "my-llm"
        assert caught.value.attempts == 0


# checked before a byte leaves

NAMES = ["", ".", "..", "a/b", "a b", "-a", "a-", "a" * 64, "a\0b", "a\r\nb", "ä", "\u0661", "a_b", None, 7, b"a"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_no_endpoint_has_is_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError):
        Endpoint(name)


@pytest.mark.parametrize("region", ["", "x@evil.com:443/#", "us east 1", "us-east-1\r\n", "us_east_1", "ü", 7])
def test_a_region_that_is_not_a_name_is_refused(region: Any) -> None:
    with pytest.raises(ConfigurationError):
        Endpoint("my-llm", region_name=region)


MEMBERS: list[tuple[str, Any]] = [
    ("ContentType", "a\r\nX-Injected: 1"),
    ("ContentType", "a\0b"),
    ("ContentType", "é"),
    ("ContentType", "x" * 1025),
    ("ContentType", ""),
    ("ContentType", 7),
    ("Accept", "a\nb"),
    ("CustomAttributes", "x" * 1025),
    ("CustomAttributes", "line\nbreak"),
    ("TargetModel", ""),
    ("TargetVariant", "blue\u00e9"),
    ("TargetContainerHostname", "a" * 64),
    ("InferenceId", ""),
    ("InferenceId", "x" * 65),
    ("EnableExplanations", "x" * 65),
    ("InferenceComponentName", "a" * 64),
    ("SessionId", "NEW\x00SESSION"),
    ("SessionId", "x" * 257),
    ("PrefixAwareId", "x" * 65),
    ("InputLocation", "s3://bucket/key"),
    ("RequestTTLSeconds", 60),
    ("Body", b"x"),
    ("EndpointName", "other"),
    ("Unknown", "x"),
    ("contenttype", "a/b"),
]


@pytest.mark.parametrize(("member", "value"), MEMBERS)
def test_a_member_that_does_not_fit_is_refused_before_a_byte_leaves(member: str, value: Any) -> None:
    with Emulator() as emulator, make_endpoint(emulator.url) as endpoint:
        with pytest.raises(ConfigurationError, match=member) as caught:
            endpoint.invoke("Hello", endpoint_kwargs={member: value})
        assert caught.value.endpoint_name == "my-llm"
        with pytest.raises(ConfigurationError):
            endpoint.send("Hello", endpoint_kwargs={member: value})
        with pytest.raises(ConfigurationError):
            list(endpoint.map(["Hello"], max_concurrency=1, endpoint_kwargs={member: value}))
        assert emulator.total_connections == 0


@pytest.mark.parametrize("member", ["TargetModel", "EnableExplanations"])
def test_a_member_that_a_stream_cannot_have_is_refused_before_a_byte_leaves(member: str) -> None:
    with Emulator() as emulator, make_endpoint(emulator.url) as endpoint:
        with pytest.raises(ConfigurationError, match=member):
            endpoint.stream("Hello", endpoint_kwargs={member: "x"})
        assert emulator.total_connections == 0


@pytest.mark.parametrize("kwargs", [["TargetVariant"], "TargetVariant", 7, {1: "x"}])
def test_members_that_are_not_a_mapping_are_refused(kwargs: Any) -> None:
    with make_endpoint("http://127.0.0.1:1") as endpoint, pytest.raises(ConfigurationError, match="endpoint_kwargs"):
        endpoint.invoke("Hello", endpoint_kwargs=kwargs)


@pytest.mark.parametrize("stop", ["", [""], [1], b"x"])
def test_a_stop_sequence_that_is_not_a_text_is_refused_before_a_byte_leaves(stop: Any) -> None:
    with Emulator() as emulator, make_endpoint(emulator.url) as endpoint:
        for use in (endpoint.invoke, endpoint.send, endpoint.stream):
            with pytest.raises(ConfigurationError, match="stop"):
                use("Hello", stop=stop)
        assert emulator.total_connections == 0


# calls


def test_every_way_to_call_gives_the_output(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator() as emulator:
        endpoint = direct_twin.endpoint(emulator.url)
        whole = endpoint.invoke("Hello")
        assert direct_twin.run(endpoint.endpoint("Hello")) == endpoint.send("Hello").output == whole
        assert "".join(endpoint.collect("Hello")) == whole
        assert list(endpoint.map(["Hello"], max_concurrency=1)) == [whole]


def echo(request: ModelRequest) -> bytes:
    return b"answer to " + request.body


@pytest.mark.parametrize("ordered", [True, False])
def test_a_map_gives_an_output_for_each_input(direct_twin: Twin, ordered: bool) -> None:  # noqa: F811
    inputs = [b"%d" % number for number in range(40)]
    with Emulator(echo) as emulator:
        endpoint = direct_twin.endpoint(emulator.url, content_handler=BytesHandler(), max_connections=3)
        outputs = list(endpoint.map(inputs, max_concurrency=8, ordered=ordered))
        expected = [b"answer to " + value for value in inputs]
        assert outputs == expected if ordered else sorted(outputs) == sorted(expected)
        assert emulator.total_connections <= 3


def test_a_map_reads_no_more_inputs_ahead_than_there_may_be_connections(direct_twin: Twin) -> None:  # noqa: F811
    read: list[bytes] = []

    def inputs() -> Iterator[bytes]:
        for _ in range(100):
            read.append(b"x")
            yield b"x"

    with Emulator(echo) as emulator:
        endpoint = direct_twin.endpoint(emulator.url, content_handler=BytesHandler(), max_connections=2)
        outputs: Any = endpoint.map(inputs(), max_concurrency=50, ordered=False)
        next(outputs)
        # Two calls, an input that waits for a slot, and what had given its slot back just before it was over.
        assert len(read) <= 2 + 1 + 2
        outputs.close()


def test_a_map_takes_the_arguments_of_a_call(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator() as emulator:
        endpoint = direct_twin.endpoint(emulator.url)
        options = {"stop": ["model"], "endpoint_kwargs": {"CustomAttributes": "a=1"}, "temperature": 0.5}
        assert list(endpoint.map(["Hello"], max_concurrency=1, **options)) == ["The stand-in "]
        (request,) = emulator.requests
        assert request.headers["x-amzn-sagemaker-custom-attributes"] == "a=1"
        assert b'"temperature":0.5' in request.body.replace(b" ", b"")


def test_the_error_of_a_call_can_take_the_place_of_its_output(direct_twin: Twin) -> None:  # noqa: F811
    def model(request: ModelRequest) -> bytes:
        if request.body == b"bad":
            raise ValueError("no")
        return request.body

    with Emulator(model) as emulator:
        endpoint = direct_twin.endpoint(emulator.url, content_handler=BytesHandler())
        good, bad = endpoint.map([b"good", b"bad"], max_concurrency=2, return_exceptions=True)
        assert good == b"good"
        assert isinstance(bad, ServiceError)
        assert (bad.status, bad.endpoint_name) == (424, "my-llm")
        with pytest.raises(ServiceError):
            list(endpoint.map([b"bad"], max_concurrency=2))


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "3"])
@pytest.mark.parametrize("kind", [Endpoint, AsyncEndpoint])
def test_a_concurrency_that_is_not_a_number_of_calls_is_refused_at_once(kind: Any, value: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_concurrency"):
        kind("my-llm").map([], max_concurrency=value)


def test_every_member_arrives_where_it_belongs() -> None:
    members = {
        "ContentType": "a/b",
        "Accept": "c/d",
        "CustomAttributes": "trace=1",
        "TargetModel": "model.tar.gz",
        "TargetVariant": "blue",
        "TargetContainerHostname": "second",
        "InferenceId": "id 1",
        "EnableExplanations": "`true`",
        "InferenceComponentName": "part-1",
        "PrefixAwareId": "prefix",
    }
    credentials = Credentials(KEY, SECRET)
    with Emulator(lambda _: b"", credentials=credentials) as emulator:
        with make_endpoint(emulator.url, content_handler=BytesHandler(), endpoint_kwargs=members) as endpoint:
            endpoint.invoke(b"")
        (request,) = emulator.requests
    names = {
        "content-type": "a/b",
        "accept": "c/d",
        "custom-attributes": "trace=1",
        "target-model": "model.tar.gz",
        "target-variant": "blue",
        "target-container-hostname": "second",
        "inference-id": "id 1",
        "enable-explanations": "`true`",
        "inference-component": "part-1",
        "prefix-aware-id": "prefix",
    }
    for name, value in names.items():
        header = name if name in ("content-type", "accept") else f"x-amzn-sagemaker-{name}"
        assert request.headers[header] == value
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["amz-sdk-request"] == "attempt=1; max=3"
    assert request.headers["user-agent"].startswith("smendpoint/")
    assert "transfer-encoding" not in request.headers


def test_hooks_and_responses_count_the_look_for_credentials_as_part_of_a_call(
    direct_twin: Twin,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, seen = FakeClock(), list[float]()

    class Seen(CallHooks):
        def call_started(self, call: CallInfo) -> None:
            seen.append(call.elapsed)

    def look(transport: Any) -> Any:
        clock.passed += 2.0
        return blocking(transport)

    async def look_async(transport: Any) -> Any:
        clock.passed += 2.0
        return await awaited(transport)

    blocking, awaited = DirectTransport.resolve, AsyncDirectTransport.resolve
    monkeypatch.setattr(DirectTransport, "resolve", look)
    monkeypatch.setattr(AsyncDirectTransport, "resolve", look_async)
    with Emulator() as emulator:
        response = direct_twin.endpoint(emulator.url, clock=clock, hooks=Seen()).send("Hello")
    assert len(seen) == 1
    assert seen[0] == response.elapsed >= 2.0


def test_a_response_has_what_came_with_the_answer(direct_twin: Twin) -> None:  # noqa: F811
    def model(_: ModelRequest) -> ModelReply:
        return ModelReply(b'[{"generated_text": "fine"}]', custom_attributes="trace=1")

    with Emulator(model) as emulator:
        emulator.inject("throttle_then_ok_1")
        response = direct_twin.endpoint(emulator.url, clock=FakeClock()).send("Hello")
    assert (response.output, response.attempts, response.elapsed) == ("fine", 2, 1.0)
    assert (response.content_type, response.custom_attributes) == ("application/json", "trace=1")
    assert response.body == b'[{"generated_text": "fine"}]'
    assert response.request_id


def test_all_attempts_of_a_call_carry_one_invocation_id() -> None:
    with Emulator() as emulator, make_endpoint(emulator.url, clock=FakeClock()) as endpoint:
        emulator.inject("throttle_then_ok_2")
        endpoint.invoke("Hello")
        endpoint.invoke("Hello")
        ids = [request.headers["amz-sdk-invocation-id"] for request in emulator.requests]
        assert len(set(ids[:3])) == 1
        assert ids[3] != ids[0]
        attempts = [request.headers["amz-sdk-request"] for request in emulator.requests]
        assert attempts == ["attempt=1; max=3", "attempt=2; max=3", "attempt=3; max=3", "attempt=1; max=3"]


def test_with_closes(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator() as emulator:
        made = direct_twin.endpoint(emulator.url)
        direct_twin.run(made.endpoint.__aenter__() if direct_twin.asynchronous else made.endpoint.__enter__())
        made.invoke("Hello")
        assert emulator.open_connections == 1
        leave = made.endpoint.__aexit__ if direct_twin.asynchronous else made.endpoint.__exit__
        direct_twin.run(leave(None, None, None))
        direct_twin.settle()
        emulator.disconnected()
        with pytest.raises(ConfigurationError, match=r"the endpoint is closed: make a new one \[endpoint 'my-llm'\]"):
            made.invoke("Hello")


def test_an_endpoint_that_was_never_used_can_be_closed(direct_twin: Twin) -> None:  # noqa: F811
    direct_twin.endpoint("http://127.0.0.1:1").close()


# portable


def test_secrets_are_not_shown() -> None:
    endpoint = make_endpoint("http://127.0.0.1:1", aws_session_token="a-session-token")
    shown = repr(endpoint) + repr(endpoint._caller.identity) + repr(vars(endpoint))
    assert SECRET not in shown
    assert "a-session-token" not in shown


@pytest.mark.parametrize("kind", [Endpoint, AsyncEndpoint])
def test_settings_travel_and_connections_do_not(kind: Any) -> None:
    endpoint = kind(
        "my-llm",
        region_name="us-east-1",
        content_handler=TextGenerationHandler(details=True),
        timeout=Timeout(1.0, 2.0, 3.0),
        retry=RetryPolicy(max_attempts=7),
        max_connections=5,
        inference_component_name="part",
        endpoint_kwargs={"TargetVariant": "blue"},
    )
    for travelled in (pickle.loads(pickle.dumps(endpoint)), copy.copy(endpoint), copy.deepcopy(endpoint)):
        assert type(travelled) is kind
        assert travelled.endpoint_name == "my-llm"
        assert (travelled._caller.timeout, travelled._caller.policy) == (
            endpoint._caller.timeout,
            endpoint._caller.policy,
        )
        assert travelled._caller.members == endpoint._caller.members
        assert transport_of(travelled) is not transport_of(endpoint)
        assert transport_of(travelled).max_connections == 5
