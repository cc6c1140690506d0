"""One test body for both twins and both lanes: endpoints whose every method returns, whether it waits or is awaited.

A test asks for a fixture::

    from twins import Twin

    def test_something(twin: Twin) -> None:
        with Emulator() as emulator, twin.endpoint(emulator.url) as endpoint:
            assert endpoint.invoke("Hello") == ...

and runs four times: ``sync-direct``, ``sync-client``, ``async-direct``, ``async-client``. `direct_twin` and
`client_twin` are the same for one lane, and `caller` is the direct lane on each kind of event loop. The asynchronous
ones run on an event loop of their own, which runs only inside a method. When the fixture closes, it checks that nothing
is left on the loop: no task, and no exception that nobody saw.
"""

from __future__ import annotations

import asyncio
import datetime
import functools
import itertools
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Literal

import pytest
from servers import InThread
from typing_extensions import Self

from smendpoint import AsyncEndpoint, BytesHandler, Endpoint, RetryPolicy, Timeout

REGION = "us-west-2"
ACCESS_KEY = "AKIDEXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
NAME = "my-llm"
# Seconds that are only ever waited for when a test fails, so long that a busy machine does not reach them.
PATIENCE = 20.0

Lane = Literal["direct", "client"]
IDS = ("sync-direct", "sync-client", "async-direct", "async-client")


class Twin:
    """One of the twins, in one of the lanes.

    Attributes:
        id: such as ``"async-client"``.
        asynchronous: whether this is `AsyncEndpoint`.
        lane: ``"direct"`` for the library's own connections, ``"client"`` for a botocore or aiobotocore client's.
        loop: which the asynchronous twin runs on.
        problems: what went wrong on the event loop without anybody to tell.
    """

    def __init__(self, id: str) -> None:
        kind, _, lane = id.partition("-")
        self.id = id
        self.asynchronous = kind == "async"
        self.lane: Lane = "client" if lane == "client" else "direct"
        self.problems: list[dict[str, Any]] = []
        self._endpoints: list[TwinEndpoint] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        if self.asynchronous:
            self.loop = asyncio.new_event_loop()
            self.loop.set_exception_handler(lambda _, context: self.problems.append(context))

    def endpoint(
        self,
        url: str,
        name: str = NAME,
        *,
        timeout: float | Timeout = PATIENCE,
        made_by: tuple[Any, Any] = (Endpoint, AsyncEndpoint),
        client_retries: int = 0,
        renewing: bool = False,
        aws_access_key_id: str = ACCESS_KEY,
        aws_secret_access_key: str = SECRET_KEY,
        aws_session_token: str | None = None,
        **options: Any,
    ) -> TwinEndpoint:
        """An endpoint; in the client lane with a client of its own, which is closed with it.

        Args:
            url: of the server to call.
            name: the endpoint's name.
            timeout: of the endpoint, and of the client where there is one.
            made_by: the class of the endpoint and its twin's; those of a router or a gateway make one of these.
            client_retries: how often a client tries again by itself.
            renewing: whether the direct lane has credentials that can be renewed, from a session; its keys differ from
                those below.
            aws_access_key_id: what is signed with, in either lane.
            aws_secret_access_key: what is signed with, in either lane.
            aws_session_token: what is signed with, in either lane.
            **options: as for `Endpoint`; in the client lane without `retry` and `max_connections`, which are the
                client's.
        """
        limits = Timeout.of(timeout)
        keys: dict[str, Any] = {
            "region_name": REGION,
            "endpoint_url": url,
            "aws_access_key_id": aws_access_key_id,
            "aws_secret_access_key": aws_secret_access_key,
            "aws_session_token": aws_session_token,
        }
        make = made_by[self.asynchronous]
        if self.lane == "direct":
            if renewing:
                keys = {"region_name": REGION, "endpoint_url": url, "session": renewing_session()}
            made = TwinEndpoint(self, make(name, timeout=limits, **{**keys, **options}), None)
        else:
            client = self._client(make._invoke.service.name, limits, client_retries, keys)
            options = {name: value for name, value in options.items() if name not in ("retry", "max_connections")}
            made = TwinEndpoint(self, make(name, timeout=limits, client=client, **options), client)
        self._endpoints.append(made)
        return made

    def _client(self, service: str, limits: Timeout, retries: int, keys: dict[str, Any]) -> Any:
        settings = {
            "connect_timeout": limits.connect,
            "read_timeout": limits.read,
            "retries": {"total_max_attempts": retries + 1, "mode": "standard"},
        }
        if keys["endpoint_url"].startswith("http:"):
            keys["verify"] = False  # certificates that nobody asks for take 30 ms to read
        if not self.asynchronous:
            from botocore.config import Config

            need_service(_session(), service)
            return _session().create_client(service, config=Config(**settings), **keys)
        from aiobotocore.config import AioConfig

        need_service(_aio_session(), service)
        return self.run(_aio_session().create_client(service, config=AioConfig(**settings), **keys))

    def run(self, awaitable: Any) -> Any:
        """Await an awaitable or enter an async context manager; give the synchronous twin's value as it is."""
        if self.loop is None:
            return awaitable
        entering = getattr(awaitable, "__aenter__", None)
        return self.loop.run_until_complete(_wait_for(awaitable if entering is None else entering()))

    def wait(self, event: threading.Event) -> None:
        """Wait for an event; the event loop runs meanwhile."""
        assert self.run(event.wait(PATIENCE) if self.loop is None else asyncio.to_thread(event.wait, PATIENCE))

    def settle(self) -> None:
        """Let callbacks run that are due."""
        if self.loop is not None:
            for _ in range(3):
                self.loop.run_until_complete(asyncio.sleep(0))

    def close_endpoints(self) -> None:
        """Close every endpoint, with its client."""
        for endpoint in self._endpoints:
            endpoint.close()

    def close(self) -> None:
        """Close every endpoint and the event loop, on which nothing may be left."""
        self.close_endpoints()
        if self.loop is None:
            return
        self.settle()
        left = asyncio.all_tasks(self.loop)
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        assert left == set()
        assert self.problems == []


def bytes_endpoint(twin: Twin, url: str, **options: Any) -> TwinEndpoint:
    """An endpoint that takes and gives bytes, and sends a request once."""
    return twin.endpoint(url, **{"content_handler": BytesHandler(), "retry": RetryPolicy(max_attempts=1), **options})


class TwinEndpoint:
    """An endpoint of either twin, without ``await``.

    Attributes:
        twin: which one.
        endpoint: the `Endpoint` or `AsyncEndpoint` itself.
        client: the client under it; `None` in the direct lane.
    """

    def __init__(self, twin: Twin, endpoint: Any, client: Any) -> None:
        self.twin = twin
        self.endpoint = endpoint
        self.client = client
        self._open = True

    def invoke(self, value: Any, /, **arguments: Any) -> Any:
        """`Endpoint.invoke`."""
        return self.twin.run(self.endpoint.invoke(value, **arguments))

    def send(self, value: Any, /, **arguments: Any) -> Any:
        """`Endpoint.send`."""
        return self.twin.run(self.endpoint.send(value, **arguments))

    def stream(self, value: Any, /, **arguments: Any) -> TwinStream:
        """`Endpoint.stream`."""
        return TwinStream(self.twin, self.endpoint.stream(value, **arguments))

    def converse(self, **arguments: Any) -> TwinConversation:
        """`Endpoint.converse`."""
        return TwinConversation(self.twin, self.endpoint.converse(**arguments))

    def collect(self, value: Any, /, **arguments: Any) -> list[Any]:
        """All chunks of a stream."""
        with self.stream(value, **arguments) as stream:
            return list(stream)

    def call(self, operation: str, value: Any, /, **arguments: Any) -> Any:
        """Call `invoke` for the operation ``"invoke"``, `collect` for ``"stream"``."""
        return (self.invoke if operation == "invoke" else self.collect)(value, **arguments)

    def map(self, inputs: Iterable[Any], **arguments: Any) -> Iterator[Any]:
        """`Endpoint.map`."""
        return TwinIterator(self.twin, self.endpoint.map(inputs, **arguments))

    def close(self) -> None:
        """Close the endpoint, and then its client."""
        if not self._open:
            return
        self._open = False
        self.twin.run(self.endpoint.aclose() if self.twin.asynchronous else self.endpoint.close())
        if self.client is not None:
            self.twin.run(self.client.close())
        self.twin.settle()

    def __enter__(self) -> TwinEndpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TwinIterator(Iterator[Any]):
    """An iterator of either kind."""

    def __init__(self, twin: Twin, iterator: Any) -> None:
        self.twin = twin
        self.iterator = iterator

    def __next__(self) -> Any:
        if not self.twin.asynchronous:
            return next(self.iterator)
        try:
            return self.twin.run(self.iterator.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        """Leave it early."""
        self.twin.run(self.iterator.aclose() if self.twin.asynchronous else self.iterator.close())


class TwinStream(TwinIterator):
    """A `Stream` or `AsyncStream`; ``iterator`` is the stream itself, with its attributes."""

    def __enter__(self) -> Self:
        if self.twin.asynchronous:
            self.twin.run(self.iterator.__aenter__())
        else:
            self.iterator.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TwinConversation(TwinStream):
    """A `Conversation` or `AsyncConversation`; ``iterator`` is the conversation itself, with its attributes."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leave = self.iterator.__aexit__ if self.twin.asynchronous else self.iterator.__exit__
        self.twin.run(leave(kind, error, trace))

    def open(self) -> TwinConversation:
        """`Conversation.open`."""
        assert self.twin.run(self.iterator.open()) is self.iterator
        return self

    def send(self, data: Any, **arguments: Any) -> None:
        """`Conversation.send`."""
        self.twin.run(self.iterator.send(data, **arguments))

    def end_input(self) -> None:
        """`Conversation.end_input`."""
        self.twin.run(self.iterator.end_input())

    def beside(self, method: str, *arguments: Any, ended: threading.Event | None = None) -> Beside:
        """Call a method in a thread or a task of its own: ``"next"``, ``"list"``, ``"send"``, ``"open"``...

        Args:
            method: what is called.
            *arguments: for the method.
            ended: set when the call has ended.
        """
        talk = self.iterator
        if self.twin.asynchronous:
            calls = {"next": talk.__anext__, "list": functools.partial(_listed, talk)}
        else:
            calls = {"next": talk.__next__, "list": functools.partial(list, talk)}
        call = functools.partial(calls.get(method) or getattr(talk, method), *arguments)
        return Beside(self.twin, call, threading.Event() if ended is None else ended)


class Beside:
    """A call in a thread or a task of its own: it begins at once, and goes on while the test does other things."""

    def __init__(self, twin: Twin, call: Callable[[], Any], ended: threading.Event) -> None:
        self._twin = twin
        if twin.loop is None:
            self._work: Any = InThread(functools.partial(_then_set, call, ended))
        else:
            self._work = twin.loop.create_task(_wait_for(call()))
            self._work.add_done_callback(lambda _: ended.set())
            twin.settle()

    def outcome(self) -> Any:
        """Wait for its end; give its result, or the exception that it raised."""
        if isinstance(self._work, InThread):
            return self._work.outcome()
        (outcome,) = self._twin.run(asyncio.wait_for(asyncio.gather(self._work, return_exceptions=True), PATIENCE))
        return outcome


def _then_set(call: Callable[[], Any], ended: threading.Event) -> Any:
    try:
        return call()
    finally:
        ended.set()


async def _listed(iterator: Any) -> list[Any]:
    return [item async for item in iterator]


async def _wait_for(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def renewing_session() -> Any:
    """A botocore session whose credentials are others after each renewal, and good for an hour."""
    from botocore.credentials import RefreshableCredentials
    from botocore.session import Session

    numbers = itertools.count(1)

    def renew() -> dict[str, str]:
        until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
        number = next(numbers)
        return {
            "access_key": ACCESS_KEY,
            "secret_key": f"{SECRET_KEY}{number}",
            "token": f"token{number}",
            "expiry_time": until.isoformat(),
        }

    session = Session()
    session.register_component("data_loader", _session().get_component("data_loader"))
    session._credentials = RefreshableCredentials.create_from_metadata(renew(), renew, "test")
    return session


@functools.cache
def _session() -> Any:
    """One for all clients: it keeps the service's model, which takes long to read."""
    import botocore.session

    return botocore.session.Session()


def need_service(session: Any, service: str) -> None:
    """Skip the test if the session's botocore does not know a service."""
    if service not in session.get_available_services():
        pytest.skip(f"the installed botocore does not know {service}")


@functools.cache
def _aio_session() -> Any:
    import aiobotocore.session

    return aiobotocore.session.AioSession()


def _twin(id: str) -> Iterator[Twin]:
    if id == "async-client":
        pytest.importorskip("aiobotocore")
    made = Twin(id)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(params=IDS)
def twin(request: pytest.FixtureRequest) -> Iterator[Twin]:
    """Each twin in each lane."""
    yield from _twin(request.param)


@pytest.fixture(params=[id for id in IDS if id.endswith("direct")])
def direct_twin(request: pytest.FixtureRequest) -> Iterator[Twin]:
    """Each twin in the direct lane."""
    yield from _twin(request.param)


@pytest.fixture(params=[id for id in IDS if id.endswith("client")])
def client_twin(request: pytest.FixtureRequest) -> Iterator[Twin]:
    """Each twin in the client lane."""
    yield from _twin(request.param)
