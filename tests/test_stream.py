"""`_calls.stream`: a blocking stream that is left early, closed by other threads, or interrupted."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest
from feeding import encode_part
from garbage import collect
from inside import pool_of
from servers import PATIENCE, STREAM_HEAD, Peer, Server, bare_environment, make_endpoint, stream_chunk  # noqa: F401
from test_streams import Diary, lines

from smendpoint import Stream, errors
from smendpoint.emulator import Emulator
from smendpoint.errors import ConfigurationError, SmendpointError, StreamError

pytestmark = pytest.mark.usefixtures("bare_environment")


class Stalled:
    """An endpoint whose streams give two chunks, and then nothing more until they are closed."""

    def __init__(self, **options: Any) -> None:
        self.gone = threading.Event()
        self.server = Server(self._serve)
        self.options = options

    def _serve(self, peer: Peer) -> None:
        peer.request()
        peer.send(STREAM_HEAD + b"".join(stream_chunk(line.encode()) for line in lines("one", "two")))
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


@pytest.mark.parametrize("how", ["with", "collected", "collected in a cycle", "collected in an older cycle"])
def test_a_stream_that_is_left_early_frees_its_connection_at_once(how: str) -> None:
    with Stalled() as stalled:
        held: list[Any] = [stalled.stream()]
        if "cycle" in how:
            held.append(held)
        if "older" in how:
            gc.collect(0)  # the youngest generation is finalized first: the socket before the stream
        if how == "with":
            with held[0] as stream:
                assert next(stream) == "one"
        else:
            next(held[0])
            del held
            collect()
        assert stalled.is_released()


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


def test_a_second_thread_that_reads_one_stream_is_refused() -> None:
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


def test_a_stream_that_is_closed_just_as_its_answer_begins_frees_the_connection() -> None:
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
    """Gives or raises `outcome`, and closes the stream before, as another thread would."""

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
def test_bytes_that_arrive_after_a_stream_was_closed_change_nothing(outcome: Any) -> None:
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


def test_later_reads_raise_the_error_of_a_failed_look_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_stream_that_another_thread_closes_just_before_it_opens_is_closed() -> None:
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
