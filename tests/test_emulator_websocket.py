"""``forward("ws://...")``: a real WebSocket server behind the emulator."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from garbage import collect
from h2_client import H2Client
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from smendpoint.emulator import Emulator, ModelConversation, forward
from smendpoint.errors import ConfigurationError

PATIENCE = 20.0  # seconds; only ever waited for when a test fails


@contextlib.contextmanager
def container(handler: Callable[[ServerConnection], None]) -> Iterator[int]:
    """Run a container, and give its port."""
    with serve(handler, "127.0.0.1", 0, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def talking(handler: Callable[[ServerConnection], None], **members: str) -> Iterator[H2Client]:
    """A conversation with a container behind an emulator."""
    with container(handler) as port, Emulator(forward(f"ws://127.0.0.1:{port}")) as emulator:
        with H2Client((emulator.host, emulator.port)) as talk:
            headers = {f"x-amzn-sagemaker-{name.replace('_', '-')}": value for name, value in members.items()}
            yield talk.open(headers=headers)
        emulator.disconnected()


def echo(socket: ServerConnection) -> None:
    for message in socket:
        socket.send(message)


def seen(talk: H2Client) -> tuple[bytes, str, str]:
    event = talk.next()
    return event.payload, event.headers["DataType"], event.headers["CompletionState"]


def test_text_and_bytes_go_both_ways_in_frames_of_their_type() -> None:
    with talking(echo) as talk:
        assert seen(talk.send("é")) == ("é".encode(), "UTF8", "COMPLETE")
        assert seen(talk.send(b"\xff" * 200_000)) == (b"\xff" * 200_000, "BINARY", "COMPLETE")
        assert seen(talk.send(b"")) == (b"", "BINARY", "COMPLETE")
        talk.end_input().until_end()
        assert (talk.status, talk.ended) == (200, "end")


def test_partial_parts_are_handed_on_as_fragments_at_once() -> None:
    def fragments(socket: ServerConnection) -> None:
        for number, fragment in enumerate(socket.recv_streaming()):
            assert isinstance(fragment, str)
            socket.send(f"{number}: {fragment}")

    with talking(fragments) as talk:
        talk.send("a", partial=True)
        assert talk.next().payload == b"0: a"  # before the message is whole
        assert talk.send("b", partial=True).next().payload == b"1: b"
        assert talk.send("c").next().payload == b"2: c"


def test_fragments_of_the_container_are_partial_parts_at_once() -> None:
    go = threading.Event()

    def pieces() -> Iterator[str]:
        yield "a"
        go.wait(PATIENCE)
        yield "b"

    def answer(socket: ServerConnection) -> None:
        socket.send(pieces())
        socket.send([b"c", b"d"])

    with talking(answer) as talk:
        assert seen(talk) == (b"a", "UTF8", "PARTIAL")
        go.set()
        talk.until_end()
        assert talk.events[-1].headers["CompletionState"] == "COMPLETE"
        assert b"".join(talk.payloads) == b"bcd"
        assert [one.headers["DataType"] for one in talk.events if one.payload] == ["UTF8", "BINARY", "BINARY"]


def test_the_container_s_path_and_query_are_those_that_the_client_asks_for() -> None:
    asked: list[tuple[str, str | None]] = []

    def note(socket: ServerConnection) -> None:
        assert socket.request is not None
        asked.append((socket.request.path, socket.request.headers.get("x-amzn-sagemaker-target-variant")))

    with talking(note) as talk:
        talk.until_end()
    with talking(
        note, model_invocation_path="v1/listen", model_query_string="a=1&b=%20", target_variant="Blue"
    ) as talk:
        talk.until_end()
    assert asked == [("/invocations-bidirectional-stream", None), ("/v1/listen?a=1&b=%20", "Blue")]


def test_the_container_s_close_ends_the_answer_although_the_client_goes_on() -> None:
    def hello(socket: ServerConnection) -> None:
        socket.send("hello")
        socket.close()

    with talking(hello) as talk:
        talk.until_end()
        assert (talk.status, talk.ended, talk.payloads) == (200, "end", [b"hello"])


def test_the_end_of_the_input_closes_the_websocket() -> None:
    codes: list[int | None] = []

    def wait(socket: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            socket.recv()
        codes.append(socket.close_code)

    with talking(wait) as talk:
        talk.end_input().until_end()
        assert (talk.status, talk.ended) == (200, "end")
    assert codes == [1000]


def test_the_container_learns_that_the_client_has_gone() -> None:
    gone = threading.Event()

    def wait(socket: ServerConnection) -> None:
        socket.send("hello")
        with contextlib.suppress(ConnectionClosed):
            socket.recv()
        gone.set()

    with talking(wait) as talk:
        talk.next()
        talk.socket.close()
        assert gone.wait(PATIENCE)


def failure(talk: H2Client) -> str:
    """The message of a failure before the first part."""
    talk.until_end()
    assert talk.error[:2] == (424, "ModelError")
    return str(json.loads(talk.body)["OriginalMessage"])


def test_a_close_with_an_error_is_an_error() -> None:
    def broken(socket: ServerConnection) -> None:
        socket.close(1011, "out of memory")

    with talking(broken) as talk:
        assert "1011 (internal error) out of memory" in failure(talk)


def test_a_connection_that_ends_without_a_close_is_an_error() -> None:
    def cut(socket: ServerConnection) -> None:
        socket.send("hello")
        socket.socket.shutdown(2)

    with talking(cut) as talk:
        talk.until_end()
        hello, broken = talk.events
        assert (hello.payload, broken.exception) == (b"hello", "ModelStreamError")


def test_parts_of_one_message_with_two_types_are_an_error() -> None:
    with talking(echo) as talk:
        talk.send("a", partial=True).send(b"b")
        assert "must have the same type" in failure(talk)


def test_parts_that_come_after_the_container_s_close_are_dropped() -> None:
    def hello(socket: ServerConnection) -> None:
        socket.send("x" * 200_000)
        socket.close()

    with talking(hello) as talk:
        talk.acknowledges = False
        while len(talk.body) < 65_535:  # the answer waits for the client, and the close behind it
            talk.pump()
        talk.send("late").send("later").end_input()
        talk.acknowledges = True
        talk.h2.acknowledge_received_data(65_535, talk.stream)
        talk.flush()
        talk.until_end()
        assert (talk.ended, [len(payload) for payload in talk.payloads]) == ("end", [200_000])


def test_a_container_that_is_no_websocket_server_is_a_model_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with Emulator(forward(f"ws://127.0.0.1:{server.getsockname()[1]}")) as emulator:
            with H2Client((emulator.host, emulator.port)) as talk:
                assert "HTTP 404" in failure(talk.open())
        thread.join()


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1", "ws://[::1]:1"])
def test_a_container_that_cannot_be_reached_is_a_model_error(url: str) -> None:
    with Emulator(forward(url)) as emulator, H2Client((emulator.host, emulator.port)) as talk:
        assert "OSError" in failure(talk.open()) or "ConnectionRefusedError" in failure(talk)


def test_a_container_that_does_not_accept_in_time_is_a_model_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with Emulator(forward(f"ws://127.0.0.1:{server.getsockname()[1]}", timeout=0.01)) as emulator:
            with H2Client((emulator.host, emulator.port)) as talk:
                assert "TimeoutError: the container did not accept the WebSocket within 0.01 s" in failure(talk.open())


@pytest.mark.parametrize("turns", range(5))
def test_a_model_that_is_cancelled_twice_closes_its_connection(turns: int) -> None:
    """As when a client leaves just before the emulator stops. The second comes some turns of the loop later."""
    accepted, ended = threading.Event(), threading.Event()

    def listen(socket: ServerConnection) -> None:
        accepted.set()
        with pytest.raises(ConnectionClosed):
            socket.recv(PATIENCE)
        ended.set()

    async def converse(port: int) -> None:
        async def nothing(*_: object) -> None:
            await asyncio.get_running_loop().create_future()

        conversation = ModelConversation(
            receive=nothing,
            reply=nothing,
            endpoint_name="my-voice",
            path="",
            query="",
            target_variant="",
            headers={},
            disconnected=threading.Event(),
        )
        model: Any = forward(f"ws://127.0.0.1:{port}")
        task = asyncio.ensure_future(model(conversation))
        await asyncio.to_thread(accepted.wait, PATIENCE)
        task.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})

    with container(listen) as port:
        asyncio.run(converse(port))
        assert ended.wait(PATIENCE)
    collect()  # a connection that was left open would be an error here


def test_without_the_package_websockets_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets.client", None)
    with Emulator(forward("ws://127.0.0.1:1")) as emulator, H2Client((emulator.host, emulator.port)) as talk:
        assert "pip install 'smendpoint[emulator]'" in failure(talk.open())


@pytest.mark.parametrize("url", ["wss://127.0.0.1:1", "ws://", "ws://127.0.0.1/path", "ws://127.0.0.1:x"])
def test_a_url_that_is_not_that_of_a_container_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="takes the URL of a container"):
        forward(url)
