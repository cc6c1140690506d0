"""`OpenAIApp` under a real server, asked by the ``openai`` package and by raw requests."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from typing import Any

import pytest
from serving import ANSWER, MESSAGES, app_for, ask, connect, read_all, served

from smendpoint import AsyncEndpoint, Endpoint, RetryPolicy, errors
from smendpoint.asgi import OpenAIApp, ServedModel
from smendpoint.asgi._failures import failure_of
from smendpoint.asgi._reply import Reply, until_disconnect
from smendpoint.emulator import Emulator, ModelReply, ModelRequest
from smendpoint.errors import ConfigurationError

openai = pytest.importorskip("openai", reason="the openai package is not installed")

CHAT = "/v1/chat/completions"
ONCE = RetryPolicy(max_attempts=1, cold_start_timeout=0, throttle_timeout=0)


@pytest.fixture
def vllm() -> Iterator[Emulator]:
    with Emulator({"vllm": "vllm"}) as emulator:
        yield emulator


def client(port: int, **options: Any) -> Any:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, **options)


def chat(model: str = "vllm", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": MESSAGES, **fields}


# -- containers that speak OpenAI


def test_the_openai_package_chats_whole_and_streamed(vllm: Emulator) -> None:
    with served(app_for(vllm, "vllm")) as port, client(port) as openai_client:
        whole = openai_client.chat.completions.create(**chat())
        assert whole.choices[0].message.content == ANSWER
        assert whole.usage.total_tokens > 0
        with openai_client.chat.completions.create(
            **chat(), stream=True, stream_options={"include_usage": True}
        ) as stream:
            chunks = list(stream)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER
        assert chunks[-1].usage == whole.usage
        assert [model.id for model in openai_client.models.list()] == ["vllm"]
        assert openai_client.models.retrieve("vllm").id == "vllm"
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            openai_client.models.retrieve("other")


def test_the_asynchronous_openai_package_chats_whole_and_streamed(vllm: Emulator) -> None:
    async def talk(port: int) -> None:
        url = f"http://127.0.0.1:{port}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as caller:
            whole = await caller.chat.completions.create(**chat())
            assert whole.choices[0].message.content == ANSWER
            text = ""
            async with await caller.chat.completions.create(**chat(), stream=True) as stream:
                async for chunk in stream:
                    text += chunk.choices[0].delta.content or ""
            assert text == ANSWER

    with served(app_for(vllm, "vllm")) as port:
        asyncio.run(talk(port))


def test_a_request_goes_to_its_container_as_it_is_and_the_answer_comes_back_as_it_is() -> None:
    def model(request: ModelRequest) -> bytes:
        return b'{"got": %s, "of": 1.50}' % json.dumps(request.body.decode()).encode()

    body = b'{ "model":"m",  "unknown": [1.50, "\\u00e9"] }'
    with Emulator({"m": model}) as emulator, served(app_for(emulator, "m")) as port:
        for path in (CHAT, "/v1/completions", "/v1/embeddings"):
            with closing(connect(port, path, body)) as connection:
                status, head, rest = read_all(connection)
            assert status == 200
            assert "content-type: application/json" in head
            assert rest == b'{"got": %s, "of": 1.50}' % json.dumps(body.decode()).encode()
        assert {request.headers["content-type"] for request in emulator.requests} == {"application/json"}


def test_a_model_may_have_another_name_for_its_container_and_parameters_of_its_endpoint() -> None:
    def model(request: ModelRequest) -> bytes:
        return b'{"got": %s}' % request.body

    with Emulator({"m": model}) as emulator:
        endpoint = emulator.async_endpoint("m", model_kwargs={"seed": 7, "top_k": 1})
        app = OpenAIApp({"m": ServedModel(endpoint, model="")})
        with served(app) as port:
            status, _, answer = ask(port, CHAT, {"model": "m", "top_k": 2})
    assert status == 200
    assert answer["got"] == {"seed": 7, "top_k": 2, "model": ""}


def test_tool_calls_come_through_whole_and_streamed(vllm: Emulator) -> None:
    tools = [
        {
            "type": "function",
            "function": {"name": "look", "parameters": {"type": "object", "properties": {"where": {}}}},
        }
    ]
    with served(app_for(vllm, "vllm")) as port, client(port) as caller:
        whole = caller.chat.completions.create(**chat(tools=tools, tool_choice="required"))
        call = whole.choices[0].message.tool_calls[0]
        assert call.function.name == "look"
        with caller.chat.completions.create(**chat(tools=tools, tool_choice="required", stream=True)) as stream:
            deltas = [chunk.choices[0].delta for chunk in stream if chunk.choices]
        pieces = [piece.function.arguments for delta in deltas for piece in delta.tool_calls or ()]
        assert "".join(piece or "" for piece in pieces) == call.function.arguments


def test_openai_embeddings_come_through(vllm: Emulator) -> None:
    def model(request: ModelRequest) -> str:
        data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
        return json.dumps({"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 1}})

    with Emulator({"m": model}) as emulator, served(app_for(emulator, "m")) as port, client(port) as caller:
        assert caller.embeddings.create(model="m", input="text", encoding_format="float").data[0].embedding == [
            0.5,
            0.25,
        ]


# -- errors


def test_each_error_of_a_call_has_its_status_and_openais_shape() -> None:
    answers = {
        "bad": ModelReply(
            b'{"error": {"message": "no such role", "type": "BadRequestError", "code": 400}}', status=400
        ),
        "flat": ModelReply(b'{"object": "error", "message": "too long", "type": "Bad", "code": 40}', status=422),
        "text": ModelReply(b"no", status=404),
        "broken": ModelReply(b'{"error": {"message": "out of memory", "code": 500}}', status=500),
        "busy": ModelReply(b'{"error": "overloaded", "error_type": "overloaded"}', status=429),
        "away": ModelReply(b"{}", status=503),
        "inside": ModelReply(b'{"error": {"message": "bad token", "code": 400}}'),
        "failed": ModelReply(b'{"error": "oops"}'),
        "plain": ModelReply(b"this is not JSON"),
        "number": ModelReply(b"17"),
    }

    def model(request: ModelRequest) -> ModelReply:
        return answers[request.endpoint_name]

    expected = {
        "bad": (400, "BadRequestError", 400, "no such role"),
        "flat": (422, "Bad", 40, "too long"),
        "text": (404, "invalid_request_error", None, "The model's container answered with an error."),
        "broken": (502, "server_error", 500, "out of memory"),
        "busy": (429, "overloaded", "rate_limit_exceeded", "overloaded"),
        "away": (503, "server_error", "service_unavailable", "The model's container answered with an error."),
        "inside": (400, "invalid_request_error", 400, "bad token"),
        "failed": (502, "server_error", None, "oops"),
        "plain": (502, "server_error", "bad_upstream_answer", "The model's answer cannot be read."),
        "number": (200, None, None, None),
    }
    with Emulator(dict.fromkeys(answers, model)) as emulator:
        app = OpenAIApp({name: emulator.async_endpoint(name, retry=ONCE) for name in answers})
        with served(app) as port:
            for name, (status, kind, code, message) in expected.items():
                found, head, answer = ask(port, CHAT, {"model": name})
                assert found == status, (name, answer)
                if kind is not None:
                    error = answer["error"]
                    assert error.keys() == {"message", "type", "param", "code"}
                    assert (error["type"], error["code"], error["message"]) == (kind, code, message), name
                assert ("retry-after" in head) is (status in (429, 503))


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("status_429_ThrottlingException", 429, "rate_limit_exceeded"),
        ("status_429_ModelNotReadyException", 503, "model_not_ready"),
        ("status_503_ServiceUnavailable", 503, "service_unavailable"),
        ("reset_before_headers", 502, "upstream_error"),
        ("refuse", 502, "upstream_unreachable"),
        ("status_403_AccessDeniedException", 500, "server_misconfigured"),
    ],
)
def test_each_failure_of_the_service_has_its_status(
    vllm: Emulator, fault: str, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    vllm.inject(fault)
    with served(app_for(vllm, "vllm", retry=ONCE)) as port:
        for body in (chat(), chat(stream=True)):
            found, head, answer = ask(port, CHAT, body)
            assert (found, answer["error"]["code"]) == (status, code)
            assert ("retry-after" in head) is (status in (429, 503))
    # The log names what failed, and nothing of a prompt.
    assert ("answered with" in caplog.text) is (status >= 500)
    assert "Peter" not in caplog.text


def test_silence_is_a_504(vllm: Emulator) -> None:
    vllm.inject("stall_before_headers")
    with served(app_for(vllm, "vllm", timeout=0.1)) as port, client(port) as caller:
        with pytest.raises(openai.InternalServerError) as caught:
            caller.chat.completions.create(**chat())
        assert caught.value.status_code == 504
        assert caught.value.code == "timeout"


def test_an_endpoint_that_does_not_exist_is_a_404(vllm: Emulator) -> None:
    with served(app_for(vllm, "nowhere")) as port:
        status, _, answer = ask(port, CHAT, chat("nowhere"))
    assert (status, answer["error"]["code"]) == (404, "model_not_found")
    assert "1111" not in answer["error"]["message"]


def test_requests_that_do_not_fit_are_refused_before_any_call(vllm: Emulator) -> None:
    with served(app_for(vllm, "vllm", max_body=2_000)) as port:
        for body, status, message in (
            (b"{", 400, "not JSON"),
            (b"[" * 1_500, 400, "not JSON"),
            (b"[]", 400, "JSON object"),
            (b"{}", 400, "provide a model"),
            ({"model": ["vllm"]}, 404, "does not exist"),
            (chat("other"), 404, "'other' does not exist"),
            (chat(stream="yes"), 400, "'stream'"),
            (b" " * 3_000, 413, "2000 bytes"),
        ):
            found, _, answer = ask(port, CHAT, body)
            assert found == status, message
            assert message in answer["error"]["message"]
            assert answer["error"]["type"] == "invalid_request_error"
        assert ask(port, CHAT, b"{}", Content_Type="text/plain")[0] == 415
        status, head, answer = ask(port, CHAT, method="GET")
        assert (status, answer["error"]["code"]) == (405, "method_not_supported")
        assert "allow: post" in head
        status, _, answer = ask(port, "/v2/anything", method="GET")
        assert (status, answer["error"]["code"]) == (404, "unknown_url")
    assert vllm.total_requests == 0


def chunked(port: int, *pieces: bytes) -> int:
    with closing(connect(port, CHAT, Content_Length="", Transfer_Encoding="chunked")) as connection:
        for piece in pieces:
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        if not pieces or pieces[-1]:
            connection.shutdown(1)
        # Not to the end: a server that has refused a body does not read its rest, which resets the connection then.
        with http.client.HTTPResponse(connection) as response:
            response.begin()
            return response.status


def test_a_body_that_comes_in_chunks_is_read_up_to_the_limit(vllm: Emulator) -> None:
    body = json.dumps(chat()).encode()
    with served(app_for(vllm, "vllm", max_body=2_000)) as port:
        assert chunked(port, body[:20], body[20:], b"") == 200
        assert chunked(port, b"{" + b" " * 1_500, b" " * 1_500, b"") == 413
        assert chunked(port, b" " * 3_000, b"") == 413


@pytest.mark.parametrize(
    ("pieces", "leaves", "status"),
    [
        ([b"{", b"}"], False, 400),
        ([b" " * 1_500, b" " * 1_500], False, 413),
        ([b" " * 3_000], False, 413),
        ([b"{"], True, None),
        ([], True, None),
    ],
)
def test_a_body_is_read_as_the_server_hands_it_on(pieces: list[bytes], leaves: bool, status: int | None) -> None:
    # A server joins the pieces that come together, so over a socket chance says which of these it hands on.
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    if leaves:
        messages.append({"type": "http.disconnect"})
    else:
        messages[-1]["more_body"] = False
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": headers, "query_string": b""}
    asyncio.run(OpenAIApp({"m": "m"}, region_name="us-west-2", max_body=2_000)(scope, receive, send))
    assert [message["status"] for message in sent if "status" in message] == ([] if status is None else [status])


def test_a_server_that_drains_is_not_healthy_and_still_answers(vllm: Emulator) -> None:
    app = app_for(vllm, "vllm")
    with served(app) as port:
        app.draining = True
        status, head, answer = ask(port, "/healthz", method="GET")
        assert (status, answer) == (503, {"status": "draining"})
        assert "connection: close" in head
        assert ask(port, CHAT, chat())[0] == 200


# -- keys, hosts


def test_a_key_is_asked_for_everywhere_but_at_healthz(vllm: Emulator) -> None:
    with served(app_for(vllm, "vllm", api_key=["first", "second"])) as port:
        for given in ("", "Bearer third", "Basic first", "Bearer ", "Bearer \xe9"):
            status, head, answer = ask(port, CHAT, chat(), Authorization=given)
            assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
            assert "www-authenticate: bearer" in head
        assert ask(port, "/v1/models", method="GET")[0] == 401
        assert ask(port, "/v1/models/vllm", method="GET")[0] == 401
        assert ask(port, "/healthz", method="GET")[::2] == (200, {"status": "ok"})
        for key in ("first", "second"):
            assert ask(port, CHAT, chat(), Authorization=f"Bearer {key}")[0] == 200


def test_only_the_allowed_hosts_are_served(vllm: Emulator) -> None:
    with served(app_for(vllm, "vllm", allowed_hosts=["localhost", "127.0.0.1"])) as port:
        for host, status in (("localhost", 200), (f"LOCALHOST:{port}", 200), ("evil.example:80", 421), ("evil", 421)):
            assert ask(port, CHAT, chat(), Host=host)[0] == status


def test_the_allowed_host_may_be_one(vllm: Emulator) -> None:
    with served(app_for(vllm, "vllm", allowed_hosts="localhost")) as port:
        assert [ask(port, CHAT, chat(), Host=host)[0] for host in ("localhost", "evil")] == [200, 421]


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        ({}, {}, "no model"),
        ({"m": "m"}, {"keep_alive": 0}, "keep_alive"),
        ({"m": "m"}, {"api_key": ""}, "api_key"),
        ({"m": "m"}, {"api_key": []}, "api_key"),
        ({"m": "m"}, {"api_key": ["\xe9"]}, "api_key"),
        ({"m": "m"}, {"api_key": [1]}, "api_key"),
        ({"m": "m"}, {"max_body": 0}, "max_body"),
        ({"m": None}, {}, "model 'm' must have an endpoint's name, or an AsyncEndpoint, not NoneType"),
        ({"m": Endpoint("m")}, {}, "not Endpoint"),
        ({"m": ServedModel("m", "gguf")}, {}, "format"),
        ({"m": ServedModel("m", "tgi", "x")}, {}, "a model's name needs a container"),
        ({"m": "a b"}, {}, "endpoint"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(models: Any, options: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        OpenAIApp(models, **options)


def test_its_repr_shows_models_and_no_key() -> None:
    assert repr(OpenAIApp({"m": "m"}, api_key="secret")) == "OpenAIApp('m')"


# -- streams that fail


@pytest.mark.parametrize("fault", ["reset_mid_stream", "no_terminator", "chunk_size_bad"])
def test_a_stream_that_is_cut_ends_with_an_error_event_and_no_proper_end(vllm: Emulator, fault: str) -> None:
    vllm.inject(fault)
    with served(app_for(vllm, "vllm")) as port:
        with closing(connect(port, CHAT, chat(stream=True))) as connection:
            status, _, rest = read_all(connection)
        if status == 200:
            assert rest.count(b'data: {"error":') == 1
            assert b"[DONE]" not in rest
            assert not rest.endswith(b"0\r\n\r\n")
        else:  # it was cut before its first event
            assert status == 502
        with client(port) as caller, pytest.raises(openai.APIError):
            list(caller.chat.completions.create(**chat(), stream=True))


def test_a_failure_before_the_first_event_has_a_status_and_one_after_it_is_an_event() -> None:
    async def model(request: ModelRequest) -> AsyncIterator[bytes]:
        if request.endpoint_name == "late":
            yield b'data: {"choices": [{"index": 0, "delta": {"content": "error?"}}]}\n\n'
        yield b'data: {"error": {"message": "out of memory", "type": "Oops", "code": 400}}\n\n'

    with Emulator({"early": model, "late": model}) as emulator:
        app = OpenAIApp({name: emulator.async_endpoint(name) for name in ("early", "late")})
        with served(app) as port, client(port) as caller:
            with pytest.raises(openai.BadRequestError, match="out of memory"):
                caller.chat.completions.create(**chat("early"), stream=True)
            with pytest.raises(openai.APIError, match="out of memory"):
                list(caller.chat.completions.create(**chat("late"), stream=True))


def test_a_client_waits_for_a_cold_start_with_comments() -> None:
    ready = threading.Event()

    def model(request: ModelRequest) -> Iterator[bytes]:
        assert ready.wait(20)
        yield b'data: {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]}\n\n'

    with (
        Emulator({"m": model}) as emulator,
        served(app_for(emulator, "m", keep_alive=0.01)) as port,
        closing(connect(port, CHAT, chat("m", stream=True))) as connection,
    ):
        received = b""
        while received.count(b": the model has not answered yet\n\n") < 2:
            received += connection.recv(4096)
        ready.set()
        while data := connection.recv(4096):
            received += data
    assert received.endswith(b"0\r\n\r\n")
    assert b"data: [DONE]\n\n" in received
    assert b"paused" not in received


def test_comments_in_the_middle_of_an_answer_say_that_the_model_has_paused() -> None:
    go_on = threading.Event()

    def model(request: ModelRequest) -> Iterator[bytes]:
        yield EVENT % b"x"
        assert go_on.wait(20)
        yield b"data: [DONE]\n\n"

    with (
        Emulator({"m": model}) as emulator,
        served(app_for(emulator, "m", keep_alive=0.01)) as port,
        closing(connect(port, CHAT, chat("m", stream=True))) as connection,
    ):
        received = b""
        while received.count(b": the model has paused\n\n") < 2:
            received += connection.recv(4096)
        go_on.set()
        received += b"".join(iter(lambda: connection.recv(4096), b""))
    said = received.partition(b'"content": "x"')[2]
    assert b"not answered" not in said
    assert said.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def test_a_failure_after_a_comment_is_an_event(vllm: Emulator) -> None:
    vllm.inject("stall_before_headers")
    with (
        served(app_for(vllm, "vllm", keep_alive=0.01, timeout=0.3)) as port,
        closing(connect(port, CHAT, chat(stream=True))) as connection,
    ):
        status, head, rest = read_all(connection)
    assert status == 200
    assert "text/event-stream" in head
    assert "x-accel-buffering: no" in head  # nginx would wait for more events
    assert b'"code":"timeout"' in rest
    assert not rest.endswith(b"0\r\n\r\n")


# -- clients that leave


@pytest.mark.parametrize("streaming", [False, True])
def test_a_client_that_leaves_ends_its_call(streaming: bool) -> None:
    began, left = threading.Event(), threading.Event()

    def model(request: ModelRequest) -> Iterator[bytes]:
        if streaming:
            yield b'data: {"choices": [{"index": 0, "delta": {"content": "x"}}]}\n\n'
        began.set()
        assert request.disconnected.wait(20)
        left.set()
        yield b""

    with Emulator({"m": model}) as emulator, served(app_for(emulator, "m")) as port:
        connection = connect(port, CHAT, chat("m", stream=streaming))
        if streaming:
            assert connection.recv(4096)
        assert began.wait(20)
        connection.close()
        assert left.wait(20)
        emulator.idle()


def test_a_client_that_leaves_while_it_sends_is_forgotten(vllm: Emulator) -> None:
    with served(app_for(vllm, "vllm")) as port:
        connection = connect(port, CHAT, b"{", Content_Length="100")
        connection.close()
        assert ask(port, CHAT, chat())[0] == 200
    assert vllm.total_requests == 1


EVENT = b'data: {"choices": [{"index": 0, "delta": {"content": "%s"}}]}\n\n'


@pytest.fixture
def many_sockets() -> Iterator[None]:
    """All the sockets that the system lets this process have."""
    resource = pytest.importorskip("resource", reason="this system has no such limit")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("many_sockets")
def test_five_hundred_streams_at_once_come_whole() -> None:
    streams, events, event = 500, 5, EVENT % b"x"
    go: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def model(request: ModelRequest) -> AsyncIterator[bytes]:
        if not go:
            go.append((asyncio.get_running_loop(), asyncio.Event()))
        yield event
        await go[0][1].wait()
        for _ in range(events):
            yield event
        yield b"data: [DONE]\n\n"

    async def read(port: int, begun: asyncio.Semaphore) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = json.dumps(chat("m", stream=True)).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        first = await reader.readuntil(event)
        begun.release()
        rest = await reader.read()
        writer.close()
        return first + rest

    async def all_of_them(port: int, emulator: Emulator) -> None:
        begun = asyncio.Semaphore(0)
        tasks = [asyncio.ensure_future(read(port, begun)) for _ in range(streams)]
        for _ in range(streams):
            await begun.acquire()
        assert emulator.active_requests == streams
        loop, event_to_go = go[0]
        loop.call_soon_threadsafe(event_to_go.set)
        for received in await asyncio.gather(*tasks):
            assert received.count(event) == 1 + events
            assert received.endswith(b"0\r\n\r\n")
            assert b"data: [DONE]\n\n" in received

    with Emulator({"m": model}) as emulator:
        with served(app_for(emulator, "m", concurrency=streams)) as port:
            asyncio.run(all_of_them(port, emulator))


def test_a_long_stream_takes_flat_memory() -> None:
    event = EVENT % (b"x" * 5_000)

    def model(request: ModelRequest) -> Iterator[bytes]:
        for _ in range(2_000):
            yield event
        yield b"data: [DONE]\n\n"

    with Emulator({"m": model}, piece_size=None) as emulator, served(app_for(emulator, "m")) as port:
        tracemalloc.start()
        try:
            size = 0
            with closing(connect(port, CHAT, chat("m", stream=True))) as connection:
                while data := connection.recv(65_536):
                    size += len(data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert size > 2_000 * len(event)
    assert peak < size / 4


# -- single parts


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.ValidationError(400, "ValidationError", "1 validation error", None), 400, "validation_error"),
        (errors.ModelStreamError("late", error_code="ModelInvocationTimeExceeded"), 504, "timeout"),
        (errors.ServiceError(413, "X", "too large", None), 413, "request_too_large"),
        (errors.ModelOutputError("bad", code=600), 502, 600),
        (errors.SmendpointError("anything"), 502, "upstream_error"),
    ],
)
def test_an_error_becomes_a_failure_of_its_own(
    error: errors.SmendpointError, status: int, code: str | int | None
) -> None:
    failure = failure_of(error)
    assert (failure.status, failure.error["code"]) == (status, code)


def test_an_error_of_the_application_itself_is_a_500(vllm: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("smendpoint.asgi._formats.Backend.ask", broken)
    with served(app_for(vllm, "vllm")) as port:
        status, _, answer = ask(port, CHAT, chat())
    assert (status, answer["error"]["message"]) == (500, "The server failed.")


def test_a_body_that_does_not_come_in_time_is_a_408(vllm: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smendpoint.asgi._app.BODY_SECONDS", 0.01)
    with served(app_for(vllm, "vllm")) as port:
        with closing(connect(port, CHAT, b"{", Content_Length="100")) as connection:
            assert read_all(connection)[0] == 408


def test_a_component_stands_behind_the_name_of_its_endpoint(vllm: Emulator) -> None:
    where = {"endpoint_url": vllm.url, "region_name": "us-east-1", "aws_access_key_id": "AKIDEXAMPLE"}
    app = OpenAIApp({"adapter": "vllm:adapter-1"}, aws_secret_access_key="secret", **where)
    with served(app) as port:
        assert ask(port, CHAT, chat("adapter"))[0] == 200
    assert vllm.requests[0].inference_component == "adapter-1"


def test_connections_of_a_client_that_was_given_stay_open(vllm: Emulator) -> None:
    async def close() -> None:
        endpoint = AsyncEndpoint("vllm", client=Client())
        app = OpenAIApp({"vllm": endpoint})
        await app.aclose()
        assert not closed

    closed: list[None] = []

    class Client:
        async def close(self) -> None:
            closed.append(None)

        async def invoke_endpoint(self) -> None:
            raise AssertionError

        invoke_endpoint_with_response_stream = invoke_endpoint

    asyncio.run(close())


def test_only_silence_gets_a_comment_and_only_a_disconnect_ends_the_wait() -> None:
    async def run() -> list[bytes]:
        sent: list[bytes] = []
        slept = asyncio.Queue[None]()

        async def send(message: Any) -> None:
            if "body" in message:
                sent.append(message["body"])

        async def sleep(_seconds: float) -> None:
            await slept.get()

        reply = Reply(send, 1.0, sleep)
        keeping = asyncio.ensure_future(reply._keep_alive_until_cancelled())
        await reply._write(b"data: 1\n\n")
        for _ in range(2):  # the first time, something has just been sent
            slept.put_nowait(None)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            sent.append(b"-")
        keeping.cancel()
        return sent

    assert asyncio.run(run()) == [b"data: 1\n\n", b"-", b": the model has not answered yet\n\n", b"-"]

    async def wait() -> list[str]:
        messages = iter([{"type": "http.request"}, {"type": "http.disconnect"}])
        said: list[str] = []

        async def receive() -> Any:
            return next(messages)

        async def work() -> None:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                said.append("cancelled")
                raise

        await until_disconnect(receive, work())
        return said

    assert asyncio.run(wait()) == ["cancelled"]
