"""`_calls.stream`: a stream ends well only if it came whole, and lets its connection go however it ends."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest
from clocks import FakeClock
from feeding import encode_part
from inside import pool_of
from servers import (
    PATIENCE,
    Peer,
    Server,
    bare_environment,  # noqa: F401
    fast,
    make_endpoint,
)

from smendpoint import CallHooks, RetryPolicy, Stream, errors
from smendpoint.emulator import Emulator, ModelReply
from smendpoint.errors import (
    AccessDeniedError,
    ConfigurationError,
    DeadlineExceededError,
    HandlerError,
    ModelStreamError,
    ReadTimeoutError,
    SmendpointError,
    StreamError,
    StreamTruncatedError,
)
from smendpoint.handlers import BytesHandler

pytestmark = pytest.mark.usefixtures("bare_environment")

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\nTransfer-Encoding: chunked\r\n\r\n"


def lines(*texts: str) -> list[str]:
    return [f'{{"generated_text": "{text}"}}\n' for text in texts]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Diary(CallHooks):
    def __init__(self) -> None:
        self.entries: list[Any] = []

    def first_byte(self, call: Any) -> None:
        self.entries.append("first_byte")

    def call_finished(self, call: Any, error: BaseException | None) -> None:
        self.entries.append(error)


class Stalled:
    """An endpoint whose streams give two chunks, and then nothing more until they are let go."""

    def __init__(self, **options: Any) -> None:
        self.gone = threading.Event()
        self.server = Server(self._serve)
        self.options = options

    def _serve(self, peer: Peer) -> None:
        peer.request()
        peer.send(HEAD + b"".join(chunk(encode_part(line.encode())) for line in lines("one", "two")))
        peer.gone()
        self.gone.set()

    def __enter__(self) -> Any:
        self.server.__enter__()
        self.endpoint = make_endpoint(self.server.url, **self.options)
        return self

    def stream(self) -> Stream[Any]:
        return self.endpoint.stream("Hello")

    def __exit__(self, *exc_info: object) -> None:
        self.endpoint.close()
        self.server.__exit__()

    def is_released(self) -> bool:
        assert self.gone.wait(PATIENCE)
        return pool_of(self.endpoint).busy == 0


def test_a_whole_stream_gives_its_chunks_and_its_connection_back() -> None:
    hooks = Diary()
    with Emulator(lambda _: lines("a", "b", "c")) as emulator, make_endpoint(emulator.url, hooks=hooks) as endpoint:
        with endpoint.stream("Hello") as stream:
            assert list(stream) == ["a", "b", "c"]
            assert list(stream) == []  # the end stays the end
        assert list(endpoint.stream("Hello")) == ["a", "b", "c"]
        assert emulator.total_connections == 1
    assert hooks.entries == ["first_byte", None] * 2


def test_what_a_stream_knows_beside_its_chunks() -> None:
    clock = FakeClock()

    def model(_: object) -> ModelReply:
        return ModelReply(lines("a", "b"), content_type="application/jsonlines", custom_attributes="trace=1")

    with Emulator(model) as emulator, make_endpoint(emulator.url, clock=clock) as endpoint:
        stream = endpoint.stream("Hello")
        assert repr(stream) == "Stream(new, request_id=None, attempts=0)"
        assert (stream.attempts, stream.elapsed, stream.time_to_first_chunk) == (0, 0.0, None)
        with stream:
            assert repr(stream).startswith("Stream(open, request_id='")
            assert (stream.content_type, stream.custom_attributes) == ("application/jsonlines", "trace=1")
            assert stream.request_id is not None
            clock.passed += 1.0
            next(stream)
            clock.passed += 1.0
            assert (stream.elapsed, stream.time_to_first_chunk, stream.attempts) == (2.0, 1.0, 1)
            list(stream)
        clock.passed += 1.0
        assert stream.elapsed == 2.0
        assert (stream.finish_reason, stream.usage, stream.details) == (None, None, None)
        assert stream.decoder is stream._pipeline.decoder
        assert repr(stream).startswith("Stream(closed, ")


def test_a_request_is_sent_when_the_stream_is_first_needed() -> None:
    with Emulator() as emulator, make_endpoint(emulator.url) as endpoint:
        stream = endpoint.stream("Hello")
        assert emulator.total_connections == 0
        assert iter(stream) is stream
        next(stream)
        assert len(emulator.requests) == 1


def test_leaving_with_lets_the_connection_go_at_once() -> None:
    with Stalled() as stalled:
        with stalled.stream() as stream:
            for got in stream:
                assert got == "one"
                break
        assert stalled.is_released()


def test_closing_lets_the_connection_go_at_once_and_twice_is_once() -> None:
    hooks = Diary()
    with Stalled(hooks=hooks) as stalled:
        stream = stalled.stream()
        next(stream)
        stream.close()
        stream.close()
        assert stalled.is_released()
        assert hooks.entries == ["first_byte", None]


def test_a_stream_that_is_forgotten_lets_its_connection_go() -> None:
    with Stalled() as stalled:
        stream = stalled.stream()
        next(stream)
        del stream
        gc.collect()
        assert stalled.is_released()


@pytest.mark.parametrize("older", [False, True], ids=["same age", "stream older"])
def test_a_stream_in_a_cycle_of_references_lets_its_connection_go_when_that_is_collected(older: bool) -> None:
    with Stalled() as stalled:
        cycle: list[Any] = [stalled.stream()]
        cycle.append(cycle)
        if older:
            gc.collect(0)  # what is in the youngest generation is finalized first: the socket before the stream
        next(cycle[0])
        del cycle
        gc.collect()
        assert stalled.is_released()


def test_a_stream_that_was_closed_before_its_end_says_so_to_who_asks_again() -> None:
    with Stalled() as stalled:
        stream = stalled.stream()
        assert next(stream) == "one"
        stream.close()
        for _ in range(2):
            with pytest.raises(StreamError, match="closed before its end: ask the endpoint for a new one") as caught:
                next(stream)
        assert caught.value.received == ("one", "two")
        assert (caught.value.endpoint_name, caught.value.attempts) == ("my-llm", 1)


def test_a_stream_that_was_closed_before_it_was_opened_sends_nothing() -> None:
    hooks = Diary()
    with Emulator() as emulator, make_endpoint(emulator.url, hooks=hooks) as endpoint:
        stream = endpoint.stream("Hello")
        stream.close()
        with pytest.raises(StreamError, match="closed before its end"):
            next(stream)
        stream.__enter__()
        assert emulator.total_connections == 0
    assert hooks.entries == []


def close_from_another_thread(stream: Any, when: threading.Event) -> threading.Thread:
    def run() -> None:
        assert when.wait(PATIENCE)
        stream.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_stream_can_be_closed_while_another_thread_waits_for_its_next_chunk() -> None:
    with Stalled() as stalled:
        stream = stalled.stream()
        assert [next(stream), next(stream)] == ["one", "two"]
        waiting = threading.Event()
        connection = stream._source._held
        receive = connection.receive

        class Watched:
            abort = connection.abort
            close = connection.close
            place = connection.place

            def receive(self, *arguments: Any) -> Any:
                waiting.set()
                return receive(*arguments)

        stream._source._held = Watched()
        thread = close_from_another_thread(stream, waiting)
        with pytest.raises(StreamError, match="closed before its end"):
            next(stream)
        thread.join(PATIENCE)
        assert stalled.is_released()


def test_a_stream_that_two_threads_read_at_once_says_so() -> None:
    with Stalled() as stalled, stalled.stream() as stream:
        next(stream)
        next(stream)
        connection: Any = stream._source._held
        arrives = connection._arrives

        def meanwhile(milliseconds: float) -> object:
            connection._arrives = arrives
            with pytest.raises(errors.TransportError, match="only one may read it"):
                stream._source.read()  # as another thread would
            stream.close()
            return arrives(milliseconds)

        connection._arrives = meanwhile
        with pytest.raises(StreamError, match="closed before its end"):
            next(stream)


def test_a_stream_can_be_closed_while_another_thread_waits_for_its_answer() -> None:
    hooks = Diary()
    with Emulator() as emulator, make_endpoint(emulator.url, hooks=hooks) as endpoint:
        emulator.inject("stall_before_headers")
        stream = endpoint.stream("Hello")
        asked = threading.Event()
        thread = close_from_another_thread(stream, asked)
        watcher = threading.Thread(target=lambda: (emulator.wait_for(lambda it: len(it.requests) == 1), asked.set()))
        watcher.start()
        with pytest.raises(StreamError, match="closed before its end"):
            next(stream)
        for each in (thread, watcher):
            each.join(PATIENCE)
        emulator.disconnected()
        assert pool_of(endpoint).busy == 0
    (end,) = hooks.entries
    assert not isinstance(end, SmendpointError)


def test_a_stream_that_is_closed_just_as_its_answer_begins_lets_it_go() -> None:
    class Closing(Diary):
        def first_byte(self, call: Any) -> None:
            stream._cancellation = type(stream._cancellation)()  # too late to stop the call
            stream.close()

    hooks = Closing()
    with Emulator() as emulator, make_endpoint(emulator.url, hooks=hooks) as endpoint:
        stream = endpoint.stream("Hello")
        with pytest.raises(StreamError, match="closed before its end"):
            next(stream)
        emulator.disconnected()
        assert pool_of(endpoint).busy == 0
    assert hooks.entries == [None]


class Source:
    """Reads what it is told to, and closes the stream meanwhile as another thread would."""

    def __init__(self, stream: Any, outcome: Any) -> None:
        self.stream = stream
        self.outcome = outcome

    def read(self) -> bytes:
        self.stream.close()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        assert isinstance(self.outcome, bytes)
        return self.outcome

    def close(self) -> None:
        pass


@pytest.mark.parametrize("outcome", [b"", encode_part(b"late"), errors.TransportError("lost"), OSError("foreign")])
def test_what_arrives_after_a_stream_was_closed_changes_nothing(outcome: Any) -> None:
    with Stalled() as stalled:
        with stalled.stream() as stream:
            source, stream._source = stream._source, Source(stream, outcome)
            with pytest.raises((StreamError, OSError)):
                next(stream)
            with pytest.raises(StreamError, match="closed before its end"):
                next(stream)
        source.close()


def test_an_interrupt_while_reading_closes_the_stream() -> None:
    hooks = Diary()
    interrupt = KeyboardInterrupt()
    with Stalled(hooks=hooks) as stalled:
        stream = stalled.stream()
        next(stream)
        next(stream)

        def receive(*_: Any) -> bytes:
            raise interrupt

        connection = stream._source._held
        stream._source._held = type("Interrupted", (), {"receive": receive, "abort": receive})()
        stream._source._held.abort = connection.abort
        stream._source._held.close = connection.close
        stream._source._held.place = connection.place
        with pytest.raises(KeyboardInterrupt):
            next(stream)
        assert stalled.is_released()
    assert hooks.entries == ["first_byte", interrupt]


@pytest.mark.parametrize("fault", ["fin_mid_frame", "reset_mid_stream", "no_terminator", "frame_cut_clean_end"])
def test_a_stream_that_was_cut_is_no_whole_one(fault: str) -> None:
    hooks = Diary()
    with (
        Emulator(lambda _: lines("a", "b", "c"), piece_size=None) as emulator,
        make_endpoint(emulator.url, hooks=hooks) as endpoint,
    ):
        emulator.inject(fault)
        stream = endpoint.stream("Hello")
        got: list[str] = []
        with pytest.raises(StreamTruncatedError) as caught:
            got.extend(iter(lambda: next(stream), None))
        assert caught.value.received == tuple(got) or fault == "no_terminator"
        assert (caught.value.endpoint_name, caught.value.attempts) == ("my-llm", 1)
        with pytest.raises(StreamTruncatedError) as again:
            next(stream)
        assert again.value is caught.value  # who asks again is told the same
        if fault != "frame_cut_clean_end":  # to HTTP, that one is whole
            emulator.disconnected()
        assert pool_of(endpoint).busy == 0
        assert len(emulator.requests) == 1
    assert hooks.entries == ["first_byte", caught.value]


def test_silence_in_a_stream_is_a_read_timeout_that_keeps_what_came() -> None:
    with Stalled(timeout=fast(read=0.3)) as stalled:
        with pytest.raises(ReadTimeoutError) as caught:
            list(stalled.stream())
        assert caught.value.received == ("one", "two")
        assert stalled.is_released()


def test_the_total_time_ends_a_stream_that_keeps_what_came() -> None:
    with Stalled(timeout=fast(total=0.5)) as stalled:
        with pytest.raises(DeadlineExceededError) as caught:
            list(stalled.stream())
        assert caught.value.received == ("one", "two")
        assert stalled.is_released()


def test_pieces_before_broken_http_are_handed_on() -> None:
    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(HEAD + chunk(encode_part(b"one")) + b"xyz\r\n")
        peer.gone()

    with Server(serve) as server, make_endpoint(server.url, content_handler=BytesHandler()) as endpoint:
        with pytest.raises(StreamTruncatedError) as caught:
            list(endpoint.stream(b""))
        assert caught.value.received == (b"one",)
        assert isinstance(caught.value.__cause__, errors.ProtocolError)


def test_an_error_that_the_service_reports_keeps_what_came() -> None:
    with Emulator(lambda _: lines("a", "b"), piece_size=None) as emulator, make_endpoint(emulator.url) as endpoint:
        emulator.inject("exception_known")
        with pytest.raises(ModelStreamError) as caught:
            list(endpoint.stream("Hello"))
        assert caught.value.received == ("a", "b")[: len(caught.value.received)]
        emulator.disconnected()


def test_a_stop_sequence_ends_a_stream_and_what_would_follow_is_not_asked_for() -> None:
    with Stalled() as stalled:
        with stalled.endpoint.stream("Hello", stop=["wo"]) as stream:
            assert "".join(stream) == "onet"
            assert stream.finish_reason == "stop"
        assert stalled.is_released()


class Texts(BytesHandler):
    """Gives what comes as text."""

    def stream_decoder(self) -> Any:
        return self

    def transform_input(self, prompt: Any, model_kwargs: dict[str, Any]) -> bytes:
        return b""

    def feed(self, data: bytes) -> list[str]:
        return [data.decode()]

    def finish(self) -> list[str]:
        return []


def test_an_error_after_a_stop_sequence_is_no_longer_part_of_the_answer() -> None:
    with Emulator(lambda _: lines("a", "STOP", "c"), piece_size=None) as emulator:
        with make_endpoint(emulator.url) as endpoint:
            emulator.inject("exception_known")
            emulator.inject("fin_mid_frame")
            assert "".join(endpoint.stream("Hello", stop="a")) == ""
            emulator.disconnected()


def test_a_failure_before_the_answer_begins_is_told_again_to_who_asks_again() -> None:
    with Emulator() as emulator, make_endpoint(emulator.url) as endpoint:
        emulator.inject("status_403_AccessDeniedException")
        stream = endpoint.stream("Hello")
        for _ in range(2):
            with pytest.raises(AccessDeniedError) as caught:
                next(stream)
        assert caught.value.received == ()
        assert stream.elapsed >= 0.0
        assert len(emulator.requests) == 1


def test_a_failure_to_look_up_where_to_is_told_again_to_who_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "https://proxy.example")
    stream = make_endpoint("http://127.0.0.1:1").stream("Hello")
    for _ in range(2):
        with pytest.raises(ConfigurationError) as caught:
            next(stream)
    assert caught.value.endpoint_name == "my-llm"
    assert stream.elapsed == 0.0


def test_an_interrupt_before_the_answer_begins_is_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with Emulator() as emulator, make_endpoint(emulator.url) as endpoint:
        stream = endpoint.stream("Hello")
        monkeypatch.setattr(endpoint._caller, "run", interrupt)
        with pytest.raises(KeyboardInterrupt):
            next(stream)
        with pytest.raises(StreamError, match="closed before its end"):
            next(stream)


def test_nothing_is_sent_again_after_the_first_byte_of_a_stream() -> None:
    with Emulator() as emulator, make_endpoint(emulator.url, retry=RetryPolicy(max_attempts=5)) as endpoint:
        emulator.inject("reset_mid_stream")
        with pytest.raises(StreamTruncatedError):
            list(endpoint.stream("Hello"))
        assert len(emulator.requests) == 1


def test_a_decoder_that_fails_is_told_with_what_came() -> None:
    class Failing(Texts):
        def feed(self, data: bytes) -> list[str]:
            if data != b"one":
                raise ValueError("not mine")
            return [data.decode()]

    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(HEAD + chunk(encode_part(b"one")))
        first.wait(PATIENCE)
        peer.send(chunk(encode_part(b"two")))
        peer.gone()

    first = threading.Event()
    with Server(serve) as server, make_endpoint(server.url, content_handler=Failing()) as endpoint:
        stream: Any = endpoint.stream("")
        assert next(stream) == "one"
        first.set()
        with pytest.raises(HandlerError, match="stream decoder raised ValueError: see the cause") as caught:
            next(stream)
        assert caught.value.received == ("one",)
        assert isinstance(caught.value.__cause__, ValueError)


def test_a_stream_that_another_thread_closes_just_before_it_opens_says_so() -> None:
    class ClosedBefore(Stream[str]):
        __slots__ = ()

        def _ensure_open(self) -> None:
            self.close()
            super()._ensure_open()

    with make_endpoint("http://127.0.0.1:1") as endpoint:
        stream: Any = endpoint.stream("Hello")
        stream.__class__ = ClosedBefore
        with pytest.raises(StreamError, match="closed before its end"):
            next(stream)
