"""The state that connections share with the threads that watch them: counters, received requests, faults."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from smendpoint.emulator._fault import NO_FAULT
from smendpoint.emulator._route import Kind, ReceivedRequest
from smendpoint.emulator.faults import Fault, find_fault
from smendpoint.errors import ConfigurationError


@dataclass
class _Injection:
    fault: Fault
    times: int | None
    endpoint_name: str | None

    def wants(self, kind: Kind, endpoint_name: str) -> bool:
        return kind in self.fault.operations and self.endpoint_name in (None, endpoint_name)


class State:
    """Counters, received requests and injected faults, under one condition that is notified of every change.

    Args:
        keep_requests: how many of the latest received requests are kept; ``None`` for all.
        keep_bytes: how many bytes those may have; ``None`` for any number.
    """

    def __init__(self, keep_requests: int | None = None, keep_bytes: int | None = None) -> None:
        self.changed = threading.Condition()
        self.open_connections = 0
        self.total_connections = 0
        self.active = 0
        self.stalled = 0
        self.total_requests = 0
        self._requests: deque[ReceivedRequest] = deque()
        self._keep_requests = math.inf if keep_requests is None else keep_requests
        self._keep_bytes = math.inf if keep_bytes is None else keep_bytes
        self._bytes = 0
        self._injections: list[_Injection] = []

    def opened(self) -> int:
        """Count a new connection and give its number."""
        with self.changed:
            self.total_connections += 1
            self.count(connections=+1)
            return self.total_connections

    def count(self, *, connections: int = 0, active: int = 0, stalled: int = 0) -> None:
        """Count connections, requests and stalled responses that begin, or with negative numbers those that end."""
        with self.changed:
            self.open_connections += connections
            self.active += active
            self.stalled += stalled
            self.changed.notify_all()

    def received(self, request: ReceivedRequest) -> None:
        with self.changed:
            self.total_requests += 1
            self._requests.append(request)
            self._bytes += _size(request)
            # The latest one is kept, however large it is.
            while len(self._requests) > (self._keep_requests if self._bytes <= self._keep_bytes else 1):
                self._bytes -= _size(self._requests.popleft())
            self.changed.notify_all()

    def snapshot(self) -> list[ReceivedRequest]:
        with self.changed:
            return list(self._requests)

    def forget(self) -> None:
        """Forget every request and fault, and count connections and requests from zero again."""
        with self.changed:
            self._requests.clear()
            self._injections.clear()
            self._bytes = self.total_requests = self.total_connections = 0
            self.changed.notify_all()

    def inject(self, name: str, times: int | None, endpoint_name: str | None) -> Fault:
        fault = find_fault(name)
        if times is not None and (times < 1 or fault.times is not None):
            raise ConfigurationError(
                f"times must be at least 1, and cannot be used with a fault that counts itself: {name!r} with {times}"
            )
        if fault.refuses and (times is not None or endpoint_name is not None):
            raise ConfigurationError(f"{name!r} affects all connections: it takes neither times nor endpoint_name")
        with self.changed:
            self._injections.append(_Injection(fault, fault.times if times is None else times, endpoint_name))
        return fault

    def clear(self) -> None:
        with self.changed:
            self._injections.clear()

    def choose(self, kind: Kind, endpoint_name: str) -> Fault:
        """Choose the fault for the next request: the first injected one that applies, or `NO_FAULT`."""
        with self.changed:
            for injection in self._injections:
                if injection.wants(kind, endpoint_name):
                    if injection.times is not None:
                        injection.times -= 1
                        if not injection.times:
                            self._injections.remove(injection)
                    return injection.fault
        return NO_FAULT

    def refuses(self) -> bool:
        """Whether a fault refuses every connection."""
        with self.changed:
            return any(injection.fault.refuses for injection in self._injections)

    def wait_for(self, predicate: Callable[[], bool], timeout: float) -> bool:
        with self.changed:
            return self.changed.wait_for(predicate, timeout)


def _size(request: ReceivedRequest) -> int:
    """Return the approximate size of a request in bytes."""
    return len(request.body) + len(request.target) + sum(len(name) + len(value) for name, value in request.header_list)
