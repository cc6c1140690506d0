"""The emulator itself: the handle that tests and programs hold."""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING

from smendpoint.emulator._async_inference import AsyncInference, AsyncLoad, AsyncStore
from smendpoint.emulator._auth import Credentials
from smendpoint.emulator._endpoints import Endpoints
from smendpoint.emulator._hosts import Hosts
from smendpoint.emulator._listener import Listener
from smendpoint.emulator._load import Count, EndpointLoad, Seconds, Slots
from smendpoint.emulator._model_mapping import Models
from smendpoint.emulator._reply import PIECE_SIZE
from smendpoint.emulator._route import ReceivedRequest
from smendpoint.emulator._service import Limits, Service
from smendpoint.emulator._state import State
from smendpoint.emulator._thread import LoopThread
from smendpoint.emulator.models import AnyModel
from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Emulator"]

MAX_BODY = 26_214_400
"""The largest accepted request body, in bytes: the size that the service was seen to accept."""

REQUEST_TIMEOUT = 60.0
"""How long a request may take to arrive, in seconds: as long as the service waits for a model."""

KEEP_REQUESTS = 1000
KEEP_BYTES = 256 * 1024 * 1024

_REACHED_AT = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "localhost"}


class Emulator(Endpoints):
    """The SageMaker runtime on this machine: a real server on a real socket, for tests and for working offline.

    It runs in a daemon thread, between ``start()`` and ``stop()`` or inside ``with``; it can be started again.

    Args:
        models: the models by endpoint name, or one model for every name. A model is a callable, or the name of one of
            the ``PERSONALITIES``; one of bidirectional streams is a coroutine function that takes a
            `ModelConversation`. By default a stand-in answers for every endpoint: it picks the best sentence of the
            context in the prompt.
        region: the region that signatures must have.
        credentials: if given, every request must be signed with them.
        host: the address to listen on.
        port: the port; 0 lets the system choose.
        ssl_context: a server-side context; with it, the emulator uses https. Bidirectional streams over TLS need ALPN:
            ``ssl_context.set_alpn_protocols(["h2", "http/1.1"])``.
        piece_size: the most bytes of each piece of a streamed answer; ``None`` sends the model's own parts.
        max_workers: how many models run at once in threads.
        capacity: how many requests an endpoint works on at once: its number of slots. A stream holds its slot until its
            end. Further requests are refused with 429 ``ThrottlingException``; ``None`` for any number. A mapping from
            endpoint names to numbers limits only these endpoints. Asynchronous inference does not take a slot, because
            the service has a queue for it. Neither does a bidirectional stream.
        latency: how long a request holds its slot before the model runs, in seconds. A mapping applies to its names.
        queue: how many requests wait for a slot of an endpoint, in their order, before further ones are refused;
            ``None`` for any number. A mapping applies to its names.
        max_body: the largest request body in bytes; a larger one is answered with 413.
        request_timeout: how long a request may take from its first byte to its last, in seconds; after that it is
            answered with 408. ``None`` for no limit.
        keep_requests: how many of the latest requests ``requests`` holds; ``None`` for all.
        keep_bytes: how many bytes those requests may have; beyond that, earlier ones are dropped. Also how many bytes
            ``objects`` may have; beyond that, S3's PUT is answered with 507, and an asynchronous call with 400.
            ``None`` for any number.
        allowed_hosts: the host names by which it may be called, in addition to addresses, names without a dot
            (``localhost``, a service of Docker Compose), names under ``localhost`` and ``internal``, ``host``, and this
            machine's own name. ``".example.com"`` allows all names with that end, ``"*"`` every name. A request for
            another host is answered with 421, because it may come from a web page (DNS rebinding).
        clock: returns the server's time in seconds since the epoch.
        async_output: the prefix of the locations of asynchronous answers.
        async_store: called with location, answer and whether the model succeeded, for each asynchronous answer; without
            it, the answers are in ``objects``.
        async_load: returns the input of an asynchronous call from its location; without it, ``objects`` has the input.

    Attributes:
        descriptions: members of ``DescribeEndpoint``'s answer by endpoint name, which replace those of an endpoint in
            service; ``None`` if the caller is not allowed to call it.
        components: the inference components by endpoint name: members of the description of each, which replace those
            of a component with a copy in service.
        objects: the objects in the S3 stand-in at ``url + "/s3"`` (path style), by ``s3://bucket/key``.
    """

    def __init__(
        self,
        models: Mapping[str, AnyModel] | AnyModel | None = None,
        *,
        region: str = "us-east-1",
        credentials: Credentials | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        piece_size: int | None = PIECE_SIZE,
        max_workers: int = 32,
        capacity: Count = None,
        latency: Seconds = 0.0,
        queue: Count = 0,
        max_body: int = MAX_BODY,
        request_timeout: float | None = REQUEST_TIMEOUT,
        keep_requests: int | None = KEEP_REQUESTS,
        keep_bytes: int | None = KEEP_BYTES,
        allowed_hosts: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
        async_output: str = "s3://smendpoint-emulator/async",
        async_store: AsyncStore | None = None,
        async_load: AsyncLoad | None = None,
    ) -> None:
        if piece_size is not None and piece_size < 1:
            raise ConfigurationError(f"piece_size must be at least 1, or None, not {piece_size!r}")
        if request_timeout is not None and not request_timeout > 0:
            raise ConfigurationError(f"request_timeout must be more than 0, or None, not {request_timeout!r}")
        for name, value in (("keep_requests", keep_requests), ("keep_bytes", keep_bytes)):
            if value is not None and value < 0:
                raise ConfigurationError(f"{name} must be at least 0, or None, not {value!r}")
        self.host = host
        self._region = region
        self._credentials = credentials
        self._scheme = "http" if ssl_context is None else "https"
        self._max_workers = max_workers
        self._state = State(keep_requests, keep_bytes)
        self._slots = Slots(self._state.changed, capacity, latency, queue)
        self.objects: dict[str, bytes] = {}
        self._models = Models(models)
        self._made_with = dict(self._models)
        max_objects = math.inf if keep_bytes is None else keep_bytes
        hosts = Hosts(allowed_hosts, host, socket.gethostname())
        self._service = Service(
            self._state,
            Limits(max_body, request_timeout, max_objects, hosts),
            self._models,
            self.objects,
            AsyncInference(self._state, self.objects, output=async_output, store=async_store, load=async_load),
            self._slots,
            region=region,
            credentials=credentials,
            piece_size=piece_size,
            clock=clock,
        )
        self.descriptions = self._service.control.descriptions
        self.components = self._service.control.components
        self._thread: LoopThread | None = None
        self._listener = Listener(self._service, host=host, port=port, ssl_context=ssl_context)

    # -- start and stop

    def start(self) -> Self:
        """Start serving, if possible on the previous port; return when connections are accepted.

        Raises:
            ConfigurationError: It is already running, or no thread can be started.
            OSError: The port cannot be opened.
        """
        if self._thread is not None:
            raise ConfigurationError("this emulator is already running")
        self._thread = LoopThread(self._max_workers)
        try:
            self._thread.call(self._listener.open())
            if self._state.refuses():
                self._thread.call(self._listener.refuse())
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Close every connection and end the thread; do nothing when it is not running."""
        if self._thread is None:
            return
        self._thread.call(self._shut())
        self._thread.end()
        self._thread = None

    def reset(self) -> None:
        """Return to the original state, at the same address: for the next test.

        Connections close, asynchronous calls are cancelled, requests, objects, sessions and faults are forgotten,
        counters restart at zero, and models, capacity, latency and queue have their original values.
        """
        if self._thread is None:
            self._forget()
        else:
            self._thread.call(self._start_over())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def _start_over(self) -> None:
        await self._listener.drop_connections()
        await self._service.async_inference.close()
        self._forget()
        await self._listener.accept()

    def _forget(self) -> None:
        self._state.forget()
        self._slots.forget()
        self._service.sessions.clear()
        self._service.control.clear()
        self.objects.clear()
        self.models = self._made_with

    async def _shut(self) -> None:
        await self._listener.close()
        await self._service.async_inference.close()
        # The tasks that are left are unfinished handshakes.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.get_running_loop().shutdown_asyncgens()

    # -- its address and models

    @property
    def running(self) -> bool:
        """Whether it has been started and not stopped since."""
        return self._thread is not None

    @property
    def port(self) -> int:
        """The port that it listens on; the same after a restart, unless another program has taken it."""
        return self._listener.port

    @property
    def url(self) -> str:
        """The URL to pass as ``endpoint_url``."""
        host = _REACHED_AT.get(self.host, self.host)  # an address that means "everywhere" cannot be called
        host = f"[{host}]" if ":" in host else host
        return f"{self._scheme}://{host}:{self.port}"

    @property
    def models(self) -> MutableMapping[str, AnyModel]:
        """The models by endpoint name; they can be changed while it runs, one by one or as a whole.

        Setting something that is not a model raises a `ConfigurationError`.
        """
        return self._models

    @models.setter
    def models(self, models: Mapping[str, AnyModel]) -> None:
        self._models.replace(models)

    # -- load

    @property
    def capacity(self) -> Count:
        """How many requests an endpoint works on at once; it can be changed while the emulator runs.

        More capacity admits requests from the queue. With less, running requests keep their slots.
        """
        return self._slots.capacity

    @capacity.setter
    def capacity(self, capacity: Count) -> None:
        self._set_load(capacity, self.latency, self.queue)

    @property
    def latency(self) -> Seconds:
        """How long a request holds its slot in addition to the model's time; a change applies to new slots."""
        return self._slots.latency

    @latency.setter
    def latency(self, latency: Seconds) -> None:
        self._set_load(self.capacity, latency, self.queue)

    @property
    def queue(self) -> Count:
        """How many requests wait for a slot of an endpoint; a change applies to new requests."""
        return self._slots.queue

    @queue.setter
    def queue(self, queue: Count) -> None:
        self._set_load(self.capacity, self.latency, queue)

    def _set_load(self, capacity: Count, latency: Seconds, queue: Count) -> None:
        async def in_the_loop() -> None:
            self._slots.set(capacity, latency, queue)

        if self._thread is None:
            self._slots.set(capacity, latency, queue)
        else:
            self._thread.call(in_the_loop())

    @property
    def load(self) -> Mapping[str, EndpointLoad]:
        """The load on each endpoint, as a new dictionary: endpoint name to `EndpointLoad`.

        A name that was never called has a load of zeros.
        """
        return self._slots.snapshot()

    # -- faults

    def inject(self, fault: str, *, times: int | None = None, endpoint_name: str | None = None) -> None:
        """Play a fault for the next requests.

        Several injected faults queue up: a request gets the first one that applies to it and is not used up.

        Args:
            fault: a name in ``FAULTS``, with numbers filled in.
            times: the number of requests; ``None`` for all until ``clear_faults()``.
            endpoint_name: the only endpoint to affect.

        Raises:
            ConfigurationError: There is no such fault, or it cannot be limited like this.
        """
        if self._state.inject(fault, times, endpoint_name).refuses and self._thread is not None:
            self._thread.call(self._listener.refuse())

    def clear_faults(self) -> None:
        """Stop playing faults."""
        self._state.clear()
        if self._thread is not None:
            self._thread.call(self._listener.accept())

    # -- its requests and connections

    @property
    def requests(self) -> list[ReceivedRequest]:
        """The complete requests that arrived, in order, as a new list: the latest ``keep_requests`` of them."""
        return self._state.snapshot()

    @property
    def total_requests(self) -> int:
        """How many complete requests have arrived, including those that are no longer kept."""
        return self._state.total_requests

    @property
    def sessions(self) -> dict[str, str]:
        """The open stateful sessions, as a new dictionary: id to endpoint name."""
        return self._service.sessions.open()

    @property
    def open_connections(self) -> int:
        """How many connections are open now, from the server's view."""
        return self._state.open_connections

    @property
    def total_connections(self) -> int:
        """How many connections there have been."""
        return self._state.total_connections

    @property
    def active_requests(self) -> int:
        """How many requests are being served at this moment, including asynchronous ones until they are done."""
        return self._state.active

    @property
    def stalled(self) -> int:
        """How many responses hang in a stall at this moment."""
        return self._state.stalled

    def wait_for(self, predicate: Callable[[Emulator], bool], timeout: float = 10.0) -> None:
        """Wait until ``predicate(self)`` is true; it is called again whenever a counter changes.

        Args:
            predicate: the function to call; it must not block.
            timeout: the longest wait, in seconds.

        Raises:
            TimeoutError: It was not true in time.
        """
        if not self._state.wait_for(lambda: predicate(self), timeout):
            raise TimeoutError(
                f"not true after {timeout} s: {self.open_connections} open connections of {self.total_connections},"
                f" {self.total_requests} requests"
            )

    def idle(self, timeout: float = 10.0) -> None:
        """Wait until no request is being served.

        Raises:
            TimeoutError: One still is after ``timeout`` seconds.
        """
        self.wait_for(lambda emulator: emulator.active_requests == 0, timeout)

    def disconnected(self, timeout: float = 10.0) -> None:
        """Wait until no connection is open.

        Raises:
            TimeoutError: One still is after ``timeout`` seconds.
        """
        self.wait_for(lambda emulator: emulator.open_connections == 0, timeout)
