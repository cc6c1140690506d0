"""`_calls.base`: arguments, requests, outputs, limits and hooks."""

from __future__ import annotations

import io
import logging
import sys
import threading
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from botocore.config import Config
from clocks import FakeClock
from inside import transport_of
from servers import PATIENCE, bare_environment, make_endpoint  # noqa: F401

from smendpoint import CallHooks, Endpoint, RetryPolicy, Timeout, errors
from smendpoint._calls import base as _call
from smendpoint._calls.arguments import stop_sequences
from smendpoint._calls.base import new_invocation_id
from smendpoint._core.aws.operations import INVOKE_ENDPOINT, INVOKE_ENDPOINT_STREAM
from smendpoint._core.http.body import ResponseBody
from smendpoint.emulator import Emulator
from smendpoint.errors import ConfigurationError, HandlerError, ModelOutputError, SmendpointError
from smendpoint.handlers import BytesHandler, TextGenerationHandler

pytestmark = pytest.mark.usefixtures("bare_environment")


class Handler:
    """A content handler with no more than LangChain's have."""

    content_type: Any = "text/plain"
    accepts: Any = "text/plain"

    def transform_input(self, prompt: Any, model_kwargs: dict[str, Any]) -> Any:
        self.kwargs = model_kwargs
        return str(prompt).encode()

    def transform_output(self, output: Any) -> Any:
        return output.read().decode()


class Text(NamedTuple):
    text: str

    def replace_text(self, text: str) -> Text:
        return Text(text)


class Unfit:
    """An object that fits no option. It prints without its address: a test's name must not change between runs."""

    def __repr__(self) -> str:
        return "Unfit()"


def request(endpoint: Any, value: Any = "x", stop: tuple[str, ...] = (), **options: Any) -> Any:
    streaming = options.pop("streaming", False)
    operation = INVOKE_ENDPOINT_STREAM if streaming else INVOKE_ENDPOINT
    kwargs = options.pop("endpoint_kwargs", None)
    return endpoint._request(operation, value, stop, None, kwargs, options)[0]


# arguments


@pytest.mark.parametrize(
    "options",
    [
        {"content_handler": Unfit()},
        {"content_handler": BytesHandler},
        {"content_handler": "handler"},
        {"model_kwargs": ["temperature"]},
        {"model_kwargs": {1: 2}},
        {"endpoint_kwargs": "TargetVariant"},
        {"max_connections": 0},
        {"max_connections": True},
        {"max_connections": "3"},
        {"max_connections": 2.0},
        {"timeout": 0},
        {"timeout": "10"},
        {"timeout": float("nan")},
        {"retry": 3},
        {"retry": {"max_attempts": 3}},
        {"client": Unfit()},
    ],
    ids=str,
)
def test_an_argument_that_does_not_fit_is_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Endpoint("my-llm", **options)


def test_the_error_for_an_incomplete_handler_names_the_missing_attributes() -> None:
    class Half:
        content_type = "text/plain"
        transform_input = print

    with pytest.raises(ConfigurationError, match="with accepts, transform_output"):
        Endpoint("my-llm", content_handler=Half())  # type: ignore[call-overload]  # that is the test
    with pytest.raises(ConfigurationError, match="an instance, not a class"):
        Endpoint("my-llm", content_handler=BytesHandler)  # type: ignore[call-overload]  # that is the test


@pytest.mark.parametrize(
    "name", ["region_name", "credentials_profile_name", "endpoint_url", "aws_access_key_id", "allow_plain_http"]
)
def test_a_client_excludes_the_options_that_say_who_calls_and_where(name: str) -> None:
    from unittest.mock import MagicMock

    value: Any = "http://127.0.0.1" if name == "endpoint_url" else "us-east-1"
    extra = {"aws_secret_access_key": "secret"} if name == "aws_access_key_id" else {}
    with pytest.raises(ConfigurationError, match=f"client= already decides who calls and where: leave out .*{name}"):
        Endpoint("my-llm", client=MagicMock(), **{name: value}, **extra)


def test_an_endpoint_shows_its_name_and_handler() -> None:
    handler = Handler()
    endpoint = Endpoint("my-llm", content_handler=handler)
    assert endpoint.endpoint_name == "my-llm"
    assert endpoint.content_handler is handler
    assert repr(endpoint) == "Endpoint('my-llm', content_handler=Handler)"
    assert isinstance(Endpoint("my-llm").content_handler, TextGenerationHandler)


@pytest.mark.parametrize(("options", "concurrency"), [({}, 8), ({"max_connections": 3}, 3)])
def test_no_more_calls_run_at_once_than_there_may_be_connections(options: Any, concurrency: int) -> None:
    assert Endpoint("my-llm", **options)._check_map([], 8, None, {})[0].cap == concurrency


@pytest.mark.parametrize(
    ("stop", "sequences"),
    [(None, ()), ("END", ("END",)), (["a", "b"], ("a", "b")), ((), ()), (iter(["a"]), ("a",))],
)
def test_stop_is_one_string_or_several(stop: Any, sequences: tuple[str, ...]) -> None:
    assert stop_sequences(stop) == sequences


@pytest.mark.parametrize("stop", ["", [""], [1], b"END", [b"END"], [None], 7])
def test_a_stop_sequence_that_is_not_a_text_is_refused(stop: Any) -> None:
    with pytest.raises(ConfigurationError, match="stop"):
        stop_sequences(stop)


def test_an_invocation_id_is_a_random_uuid() -> None:
    import uuid

    ids = [uuid.UUID(new_invocation_id()) for _ in range(100)]
    assert len(set(ids)) == 100
    assert {each.version for each in ids} == {4}
    assert {each.variant for each in ids} == {uuid.RFC_4122}


# requests


def test_a_calls_parameters_win_over_the_endpoints() -> None:
    handler = Handler()
    endpoint = Endpoint("my-llm", content_handler=handler, model_kwargs={"a": 1, "b": 2})
    request(endpoint, b=3, c=4)
    assert handler.kwargs == {"a": 1, "b": 3, "c": 4}
    handler.kwargs.clear()  # the handler may change its own copy
    request(endpoint)
    assert handler.kwargs == {"a": 1, "b": 2}


def test_the_model_gets_stop_sequences_if_its_format_has_a_place_for_them() -> None:
    handler: Any = Handler()
    request(Endpoint("my-llm", content_handler=handler), stop=("END",))
    assert handler.kwargs == {}
    handler.stop_parameter = "until"
    endpoint = Endpoint("my-llm", content_handler=handler)
    request(endpoint, stop=("END",))
    assert handler.kwargs == {"until": ["END"]}
    request(endpoint, stop=("END",), until=["mine"])
    assert handler.kwargs == {"until": ["mine"]}
    request(endpoint)
    assert handler.kwargs == {}


def test_a_calls_members_win_over_the_endpoints() -> None:
    endpoint = Endpoint(
        "my-llm",
        inference_component_name="part",
        endpoint_kwargs={"TargetVariant": "blue", "CustomAttributes": "a=1", "Accept": None},
    )
    made = request(endpoint, endpoint_kwargs={"TargetVariant": "green", "CustomAttributes": None})
    assert made.members == {
        "ContentType": "application/json",
        "InferenceComponentName": "part",
        "TargetVariant": "green",
    }
    assert request(endpoint).members["TargetVariant"] == "blue"


def test_the_members_of_every_call_are_made_once() -> None:
    endpoint = Endpoint("my-llm")
    assert request(endpoint).head is request(endpoint).head
    assert request(endpoint).head is not request(endpoint, streaming=True).head
    assert request(endpoint, endpoint_kwargs={"TargetVariant": "x"}).head is not request(endpoint).head


def test_a_handler_may_speak_of_streams_in_its_own_way() -> None:
    class Streaming(Handler):
        stream_accepts = "text/event-stream"

        def transform_stream_input(self, prompt: Any, model_kwargs: dict[str, Any]) -> bytes:
            return b"stream it"

    endpoint = Endpoint("my-llm", content_handler=Streaming())
    assert request(endpoint).body == b"x"
    assert request(endpoint).members["Accept"] == "text/plain"
    streamed = request(endpoint, streaming=True)
    assert (streamed.body, streamed.members["Accept"]) == (b"stream it", "text/event-stream")
    assert request(Endpoint("my-llm", content_handler=Handler()), streaming=True).body == b"x"


@pytest.mark.parametrize(
    "body",
    [
        *(b"bytes", bytearray(b"bytes"), memoryview(b"bytes"), type("B", (bytes,), {})(b"bytes")),
        *("bytes", io.BytesIO(b"bytes"), io.StringIO("bytes"), ResponseBody(b"bytes")),
    ],
)
def test_a_handler_may_give_any_kind_of_bytes_a_text_or_a_file(body: Any) -> None:
    handler: Any = Handler()
    handler.transform_input = lambda prompt, model_kwargs: body
    made = request(Endpoint("my-llm", content_handler=handler)).body
    assert made == b"bytes"
    assert type(made) is bytes


def test_a_file_is_sent_from_where_it_stands() -> None:
    handler: Any = Handler()
    file = io.StringIO("no ☃")
    file.seek(3)
    handler.transform_input = lambda prompt, model_kwargs: file
    assert request(Endpoint("my-llm", content_handler=handler)).body == "☃".encode()


def test_a_body_that_cannot_be_read_or_encoded_is_an_error_of_the_handler() -> None:
    handler: Any = Handler()
    closed = io.BytesIO(b"secret")
    closed.close()
    for body, said in ((closed, "a file that cannot be read: ValueError"), ("\ud800", "cannot be written as UTF-8")):
        handler.transform_input = lambda prompt, model_kwargs, body=body: body
        with pytest.raises(HandlerError, match=said) as caught:
            request(Endpoint("my-llm", content_handler=handler))
        assert caught.value.endpoint_name == "my-llm"


@pytest.mark.parametrize("body", [None, 7, {"a": 1}])
def test_a_body_that_is_not_bytes_is_an_error_of_the_handler(body: Any) -> None:
    handler: Any = Handler()
    handler.transform_input = lambda prompt, model_kwargs: body
    with pytest.raises(HandlerError, match=f"must return bytes, a str or a file, not {type(body).__name__}") as caught:
        request(Endpoint("my-llm", content_handler=handler))
    assert caught.value.endpoint_name == "my-llm"


def fails(*_: Any, **__: Any) -> Any:
    raise LookupError("secret prompt")


def test_an_exception_of_a_handler_for_an_input_is_the_cause_of_ours() -> None:
    handler: Any = Handler()
    handler.transform_input = fails
    with pytest.raises(HandlerError, match="Handler could not transform the input: LookupError; see the") as caught:
        request(Endpoint("my-llm", content_handler=handler))
    assert isinstance(caught.value.__cause__, LookupError)
    assert "secret" not in str(caught.value)
    with pytest.raises(HandlerError, match="sends a str") as ours:
        request(Endpoint("my-llm"), value=7)
    assert ours.value.endpoint_name == "my-llm"


def test_content_types_that_cannot_be_read_are_an_error_of_the_handler() -> None:
    class Unreadable(Handler):
        content_type = property(lambda self: fails() if hasattr(self, "made") else "text/plain")

    handler: Any = Unreadable()
    endpoint = Endpoint("my-llm", content_handler=handler)
    handler.made = True
    with pytest.raises(HandlerError, match="could not name its content types: LookupError"):
        request(endpoint)


@pytest.mark.parametrize("name", ["content_type", "accepts"])
@pytest.mark.parametrize("value", [["a/b"], 7, "a\r\nb"])
def test_a_content_type_that_a_header_cannot_carry_is_refused(name: str, value: Any) -> None:
    handler: Any = Handler()
    setattr(handler, name, value)
    with pytest.raises(ConfigurationError) as caught:
        request(Endpoint("my-llm", content_handler=handler))
    assert caught.value.endpoint_name == "my-llm"


def test_a_large_body_is_warned_about_where_it_is_sent() -> None:
    endpoint = make_endpoint("http://127.0.0.1:1", content_handler=BytesHandler())
    with pytest.warns(
        UserWarning, match=r"has 6,291,457 bytes, more than the 6,291,456 that SageMaker.s API allows; above 26,214,400"
    ) as caught:
        request(endpoint, b"x" * 6_291_457)
    assert len(caught) == 1
    with Emulator(lambda _: b"") as emulator, make_endpoint(emulator.url, content_handler=BytesHandler()) as endpoint:
        with pytest.warns(UserWarning, match="6,291,457") as caught:
            endpoint.invoke(b"x" * 6_291_457)
        assert caught[0].filename == __file__


# outputs


def answered(body: bytes, handler: Any, **options: Any) -> Any:
    with Emulator(lambda _: body) as emulator, make_endpoint(emulator.url, content_handler=handler) as endpoint:
        return endpoint.invoke("Hello", **options)


def test_an_exception_of_a_handler_for_an_output_is_the_cause_of_ours() -> None:
    handler: Any = Handler()
    handler.transform_output = fails
    with pytest.raises(HandlerError, match="could not transform the output: LookupError") as caught:
        answered(b"x", handler)
    assert isinstance(caught.value.__cause__, LookupError)
    assert (caught.value.endpoint_name, caught.value.attempts) == ("my-llm", 1)


def test_an_error_that_the_model_reports_in_its_answer_is_named() -> None:
    with pytest.raises(ModelOutputError) as caught:
        answered(b'{"error": "overloaded", "error_type": "overloaded"}', TextGenerationHandler())
    assert (caught.value.endpoint_name, caught.value.attempts) == ("my-llm", 1)


def test_an_output_ends_before_a_stop_sequence() -> None:
    assert answered(b"one END two", Handler(), stop="END") == "one "
    typed: Any = Handler()
    typed.transform_output = lambda output: Text(output.decode())
    assert answered(b"one END two", typed, stop="END") == Text("one ")
    with pytest.raises(HandlerError, match="stop= needs text"):
        answered(b"one END two", BytesHandlerOf(), stop="END")


class BytesHandlerOf(Handler):
    def transform_output(self, output: Any) -> Any:
        return bytes(output)


def test_a_stream_decoder_that_cannot_be_made_is_the_handlers_fault() -> None:
    handler: Any = Handler()
    handler.stream_decoder = fails
    endpoint = Endpoint("my-llm", content_handler=handler)
    with pytest.raises(HandlerError, match="could not make a stream decoder: LookupError") as caught:
        endpoint.stream("x")
    assert caught.value.endpoint_name == "my-llm"

    def refuse() -> Any:
        raise HandlerError("no streams here")

    handler.stream_decoder = refuse
    with pytest.raises(HandlerError, match="no streams here") as ours:
        endpoint.stream("x")
    assert ours.value.endpoint_name == "my-llm"


def test_a_handler_without_a_stream_decoder_gets_a_streams_lines() -> None:
    with Emulator(lambda _: ["one\ntw", "o\n\nthree"]) as emulator:
        with make_endpoint(emulator.url, content_handler=Handler()) as endpoint:
            assert list(endpoint.stream("x")) == ["one", "two", "three"]


# limits


def settled(**options: Any) -> Any:
    with Emulator() as emulator, make_endpoint(emulator.url, **options) as endpoint:
        endpoint.invoke("Hello")
        return endpoint._caller._defaults


def test_limits_come_from_the_arguments_first_and_then_from_a_config() -> None:
    config = Config(connect_timeout=3, read_timeout=4, retries={"total_max_attempts": 7})
    terms = settled(config=config, timeout=None)
    assert (terms.timeout, terms.policy) == (Timeout(3.0, 4.0), RetryPolicy(max_attempts=7))
    terms = settled(config=config, timeout=Timeout(total=60.0), retry=RetryPolicy(max_attempts=2))
    assert (terms.timeout, terms.policy) == (Timeout(total=60.0), RetryPolicy(max_attempts=2))
    terms = settled(timeout=None)
    assert (terms.timeout, terms.policy) == (Timeout(), RetryPolicy())
    assert settled(timeout=5).timeout == Timeout(5.0, 5.0)


def test_attempts_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "5")
    assert settled().policy == RetryPolicy(max_attempts=5)


def test_several_first_calls_at_a_time_share_one_quota() -> None:
    with Emulator() as emulator, make_endpoint(emulator.url) as endpoint:
        barrier = threading.Barrier(4)
        agreed: list[Any] = []
        prepare = transport_of(endpoint).resolve

        def together() -> Any:
            target = prepare()
            barrier.wait(PATIENCE)
            return target

        transport_of(endpoint).resolve = together
        start = endpoint._caller.start
        threads = [threading.Thread(target=lambda: agreed.append(start(request(endpoint)).defaults)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert len(agreed) == 4
        assert len(set(map(id, agreed))) == 1


def test_in_a_forked_child_every_endpoint_starts_afresh() -> None:
    """It calls the hook of a child, in this process."""
    with Emulator() as emulator, make_endpoint(emulator.url) as endpoint:
        endpoint.invoke("Hello")
        assert endpoint._caller._defaults is not None
        _call._after_fork_in_child()
        assert endpoint._caller._defaults is None
        endpoint.invoke("Hello")
        assert emulator.total_connections == 2


# hooks


def test_hooks_are_called_from_the_start_of_a_call_to_its_end() -> None:
    heard: list[Any] = []

    class Hooks(CallHooks):
        def call_started(self, call: Any) -> None:
            heard.append((call.operation, call.endpoint_name, call.attempts))

        def attempt_failed(self, call: Any, error: SmendpointError, delay: float | None) -> None:
            heard.append((type(error), delay))

        def call_finished(self, call: Any, error: BaseException | None) -> None:
            heard.append((call.attempts, call.status, error))

    with Emulator() as emulator, make_endpoint(emulator.url, hooks=Hooks(), clock=FakeClock()) as endpoint:
        emulator.inject("throttle_then_ok_1")
        endpoint.invoke("Hello")
    assert heard == [("InvokeEndpoint", "my-llm", 0), (errors.ThrottlingError, 1.0), (2, 200, None)]


def test_hooks_get_the_error_of_a_call() -> None:
    heard: list[BaseException | None] = []

    class Hooks(CallHooks):
        def call_finished(self, call: Any, error: BaseException | None) -> None:
            heard.append(error)

    handler: Any = Handler()
    handler.transform_output = fails
    with Emulator() as emulator:
        with make_endpoint(emulator.url, hooks=Hooks(), content_handler=handler) as endpoint:
            with pytest.raises(HandlerError) as output:
                endpoint.invoke('{"inputs": "x"}')
            emulator.inject("status_400_ValidationError")
            with pytest.raises(errors.ValidationError) as refused:
                endpoint.invoke("x")
    assert heard == [output.value, refused.value]


def test_a_call_is_logged_where_someone_listens(caplog: pytest.LogCaptureFixture) -> None:
    with Emulator() as emulator, make_endpoint(emulator.url) as endpoint:
        endpoint.invoke("first secret")
        assert caplog.records == []
        with caplog.at_level(logging.DEBUG, logger="smendpoint.call"):
            endpoint.invoke("second secret")
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0].startswith("call started: InvokeEndpoint of endpoint my-llm")
    assert messages[-1].startswith("call finished")
    assert "secret" not in "".join(messages)


def test_without_logging_imported_nothing_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint: Any = make_endpoint("http://127.0.0.1:1")
    with monkeypatch.context() as without:
        without.delitem(sys.modules, "logging")
        endpoint._caller.transport = SimpleNamespace(credentials=None, forget=lambda: None)
        terms = endpoint._caller._make_defaults(None)
        assert endpoint._caller.new_call(request(endpoint), terms, 0.0).watcher is None
    assert endpoint._caller._log is None
