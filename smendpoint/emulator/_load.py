"""The load on each endpoint: how many requests it works on at once, how many wait, how many it refuses."""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias, TypeVar

from smendpoint.errors import ConfigurationError

T = TypeVar("T")

Count: TypeAlias = "int | Mapping[str, int | None] | None"
"""A number for every endpoint, or one for each endpoint name; ``None`` for any number."""

Seconds: TypeAlias = "float | Mapping[str, float]"
"""A time in seconds for every endpoint, or one for each endpoint name."""

MAX_KNOWN_ENDPOINTS = 10_000
"""How many endpoints are counted, because a client may call any number of names. The oldest idle one is dropped."""


class EndpointLoad(NamedTuple):
    """The load on one endpoint at one moment; counted since the emulator was made or reset.

    Attributes:
        running: how many requests hold a slot now.
        queued: how many requests wait for a slot now.
        peak: the most requests that ever held a slot at once.
        served: how many requests had a slot and gave it back, whether or not the client waited for the answer.
        refused: how many requests found neither a slot nor a position in the queue.
    """

    running: int = 0
    queued: int = 0
    peak: int = 0
    served: int = 0
    refused: int = 0


class _Loads(dict[str, EndpointLoad]):
    """The load by endpoint name; an endpoint that was never called has none."""

    def __missing__(self, name: str) -> EndpointLoad:
        return EndpointLoad()


@dataclass
class _Endpoint:
    running: int = 0
    peak: int = 0
    served: int = 0
    refused: int = 0
    waiters: deque[asyncio.Event] = field(default_factory=deque[asyncio.Event])

    @property
    def idle(self) -> bool:
        return not self.running and not self.waiters

    def load(self) -> EndpointLoad:
        return EndpointLoad(self.running, len(self.waiters), self.peak, self.served, self.refused)


class Slots:
    """The slots of each endpoint. Once the emulator runs, everything except `snapshot` is only for its loop.

    Args:
        changed: notified of every change.
        capacity: how many requests may hold a slot of an endpoint at once.
        latency: how long a request holds its slot in addition to the model's own time.
        queue: how many requests may wait for a slot of an endpoint.

    Raises:
        ConfigurationError: One of them is not a valid number.
    """

    def __init__(self, changed: threading.Condition, capacity: Count, latency: Seconds, queue: Count) -> None:
        self._changed = changed
        self._endpoints: dict[str, _Endpoint] = {}
        self.set(capacity, latency, queue)
        self._made_with = (self.capacity, self.latency, self.queue)

    def set(self, capacity: Count, latency: Seconds, queue: Count) -> None:
        """Change the settings for new requests and for those that wait."""
        settings = _each(capacity, _count("capacity")), _each(latency, _seconds), _each(queue, _count("queue"))
        self.capacity, self.latency, self.queue = settings
        with self._changing():
            for name, endpoint in self._endpoints.items():
                self._hand_on(name, endpoint)

    def forget(self) -> None:
        """Count from zero again, with the original settings; there must be no request in progress."""
        with self._changing():
            self._endpoints.clear()
            self.capacity, self.latency, self.queue = self._made_with

    def snapshot(self) -> dict[str, EndpointLoad]:
        """Return the load on each endpoint that was called, as a new dictionary."""
        with self._changed:
            return _Loads((name, endpoint.load()) for name, endpoint in self._endpoints.items())

    async def take(self, name: str, at_end: list[Callable[[], object]]) -> bool:
        """Take a slot, wait for one in the queue, or return ``False``: the request is refused.

        Return after the latency has also passed. ``at_end`` gets the function that gives the slot back.
        """
        endpoint = self._endpoints.get(name) or self._add(name)
        if endpoint.running < _of(self.capacity, name, None):
            with self._changed:
                self._start(endpoint)
                self._changed.notify_all()
        elif len(endpoint.waiters) < _of(self.queue, name, 0):
            await self._wait(name, endpoint)
        else:
            with self._changing():
                endpoint.refused += 1
            return False
        at_end.append(lambda: self._give_back(name, endpoint))
        latency = _of(self.latency, name, 0.0)
        if latency:
            await asyncio.sleep(latency)
        return True

    def _add(self, name: str) -> _Endpoint:
        with self._changing():
            if len(self._endpoints) >= MAX_KNOWN_ENDPOINTS:
                self._endpoints.pop(next((known for known, one in self._endpoints.items() if one.idle), ""), None)
            return self._endpoints.setdefault(name, _Endpoint())

    async def _wait(self, name: str, endpoint: _Endpoint) -> None:
        waiter = asyncio.Event()
        with self._changing():
            endpoint.waiters.append(waiter)
        try:
            await waiter.wait()
        except asyncio.CancelledError:  # the client has gone
            if waiter.is_set():
                self._give_back(name, endpoint)
            else:
                with self._changing():
                    endpoint.waiters.remove(waiter)
            raise

    def _hand_on(self, name: str, endpoint: _Endpoint) -> None:
        """Return the free slots to the requests that have waited longest."""
        capacity = _of(self.capacity, name, None)
        while endpoint.waiters and endpoint.running < capacity:
            self._start(endpoint)
            endpoint.waiters.popleft().set()

    def _start(self, endpoint: _Endpoint) -> None:
        endpoint.running += 1
        endpoint.peak = max(endpoint.peak, endpoint.running)

    def _give_back(self, name: str, endpoint: _Endpoint) -> None:
        with self._changed:
            endpoint.running -= 1
            endpoint.served += 1
            if endpoint.waiters:
                self._hand_on(name, endpoint)
            self._changed.notify_all()

    @contextmanager
    def _changing(self) -> Generator[None]:
        with self._changed:
            yield
            self._changed.notify_all()


def _of(setting: Any, name: str, default: float | None) -> float:
    """Return a setting's number for an endpoint."""
    number = setting.get(name, default) if isinstance(setting, MappingProxyType) else setting
    return math.inf if number is None else number


def _each(setting: T | Mapping[str, T], check: Callable[[T], T]) -> T | Mapping[str, T]:
    """Return a setting with every number checked; a mapping as an immutable copy."""
    if isinstance(setting, Mapping):
        return MappingProxyType({name: check(number) for name, number in setting.items()})
    return check(setting)


def _count(option: str) -> Callable[[int | None], int | None]:
    def check(number: int | None) -> int | None:
        if number is not None and not (isinstance(number, int) and number >= 0):
            raise ConfigurationError(f"{option} must be a whole number of at least 0, or None, not {number!r}")
        return number

    return check


def _seconds(number: float) -> float:
    if not (isinstance(number, (int, float)) and 0 <= number < math.inf):
        raise ConfigurationError(f"latency must be a number of seconds of at least 0, not {number!r}")
    return number
