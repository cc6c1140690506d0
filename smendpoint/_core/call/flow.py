"""One call, from the first attempt to the answer, as a generator that does no I/O.

`call_flow` yields the steps that it needs (`Send`, `Sleep`, `NeedCredentials`), and receives their outcomes. Two
drivers perform them, one with blocking calls and one with ``await``. `retry` decides what follows a failed attempt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from smendpoint import errors
from smendpoint._core.aws.response import RawResponse, no_such_endpoint, service_error
from smendpoint._core.call import retry as rules
from smendpoint._core.call.hiding import forget_locals
from smendpoint._core.call.hooks import log_cold_start
from smendpoint._core.call.timing import deadline_exceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from smendpoint._core.aws.sigv4 import Credentials
    from smendpoint._core.call.hooks import Watcher
    from smendpoint._core.call.timing import Clock, Timeout

    class CredentialSource(Protocol):
        """Where the flow finds credentials without waiting."""

        def current(self) -> Credentials | None:
            """Return credentials that are valid now; `None` if they must be loaded first."""

        def distrust(self, rejected: Credentials) -> None:
            """Take that the service did not accept these credentials, and that others must be loaded first."""

        def refresh_due(self) -> bool:
            """Return whether the caller should load new ones in the background."""
            ...

    class Slot(Protocol):
        """A call's slot among the calls in flight: the part of `slots.Slot` that a flow uses."""

        def take(self) -> bool:
            """Queue for it, for the next attempt; return whether the call has it at once."""
            ...

        def wait(self, call: CallState) -> Generator[Any, Any, None]:
            """Wait until the call has it."""
            ...

        def accepted(self, call: CallState, answer: Any) -> bool:
            """Give it back if a successful answer is whole; return whether the call has succeeded."""
            ...

        def refused(self, call: CallState, failure: errors.EndpointError, headers: Mapping[str, str]) -> bool:
            """Give it back after a failure; return whether that was a refusal and the call has queued again."""
            ...

        def refused_inside(self, call: CallState, output: object, headers: Mapping[str, str]) -> bool:
            """Give it back if a success is a refusal; return whether it is and the call has queued again."""
            ...

        def started(self) -> None:
            """Note that a stream has its first chunk."""
            ...

        def end(self, error: BaseException | None) -> None:
            """Give it back, wherever the call ends."""
            ...


class Send:
    """Send one attempt and return its answer, a `RawResponse` or the head of a stream; or raise a `TransportError`."""

    __slots__ = ("attempt", "credentials", "deadline", "extra", "max_attempts", "started", "timestamp")

    def __init__(
        self,
        attempt: int,
        max_attempts: int,
        credentials: Credentials | None,
        timestamp: float,
        deadline: float | None,
        started: Callable[[int, Mapping[str, str]], None] | None,
    ) -> None:
        self.attempt = attempt
        self.max_attempts = max_attempts
        self.credentials = credentials
        self.timestamp = timestamp
        self.deadline = deadline
        self.started = started
        self.extra = 0  # how often the transport tried again by itself; it sets this

    def begun(self, status: int, headers: Mapping[str, str]) -> None:
        """Report the head of the answer. A transport calls this before it passes anything on.

        Raises:
            ProtocolError: the answer is a success that was not requested.
        """
        if self.started is not None:
            self.started(status, headers)
        if "content-encoding" in headers or status > 205:
            from smendpoint._core.http.unexpected import not_asked_for

            error = not_asked_for(status, headers)
            if error is not None:
                raise error


class Sleep:
    """Wait for `seconds`."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class NeedCredentials:
    """Load credentials; the service did not accept `rejected`."""

    __slots__ = ("deadline", "rejected")

    def __init__(self, deadline: float | None, rejected: Credentials | None = None) -> None:
        self.deadline = deadline
        self.rejected = rejected


class NeedSlot:
    """Wait until a requested slot is granted; the outcome is false if the deadline passed first."""

    __slots__ = ("deadline", "slot")

    def __init__(self, slot: Any, deadline: float | None) -> None:
        self.slot = slot
        self.deadline = deadline


class CallDefaults:
    """The settings and the state that all calls of one endpoint share.

    Args:
        endpoint_name: the endpoint's name, for errors.
        policy: when to try again; `None` if the transport has its own retries.
        quota: limits the retries of all calls together.
        timeout: the timeout of each call without its own; only `total` matters here.
        credentials: their source; `None` if the transport signs by itself.
        clock: the source of time and random numbers.
        origin: describes, for errors, where calls go and as whom, and the sources of both.
        server: the host and the port that are called, if they are known; for hooks.
    """

    __slots__ = ("clock", "credentials", "endpoint_name", "origin", "policy", "quota", "server", "skew", "timeout")

    def __init__(
        self,
        *,
        endpoint_name: str,
        policy: rules.RetryPolicy | None,
        quota: rules.RetryQuota,
        timeout: Timeout,
        credentials: CredentialSource | None,
        clock: Clock,
        origin: Callable[[], str] | None = None,
        server: tuple[str, int] | None = None,
    ) -> None:
        self.endpoint_name = endpoint_name
        self.origin = origin
        self.server = server
        self.policy = policy
        self.quota = quota
        self.timeout = timeout
        self.credentials = credentials
        self.clock = clock
        self.skew = 0.0  # how far the service's clock is ahead of ours, in seconds


class CallState:
    """One call while it runs.

    Args:
        defaults: the defaults of its endpoint.
        watcher: reports the call; `None` if there are neither hooks nor a log.
        started: when the call began, on the clock's `monotonic`.
        accept: the requested media type; `None` for any.
        timeout: the call's own; `None` for that of the defaults.
        slot: its slot among the calls in flight; `None` if their number is not limited.
    """

    __slots__ = (
        "accept",
        "attempts",
        "credentials",
        "deadline",
        "decisions",
        "defaults",
        "refusals",
        "slot",
        "started",
        "timeout",
        "watcher",
    )

    def __init__(
        self,
        defaults: CallDefaults,
        watcher: Watcher | None,
        started: float,
        accept: object = None,
        timeout: Timeout | None = None,
        slot: Slot | None = None,
    ) -> None:
        self.defaults = defaults
        self.accept = accept
        self.watcher = watcher
        self.attempts = 0
        self.credentials: Credentials | None = None  # that sign the latest attempt
        self.decisions: list[rules.Decision] = []  # after its failures; a stream that is sent again keeps them
        self.refusals = 0  # attempts that were refused because of load, whose number is not limited
        self.slot = slot
        self.started = started
        self.timeout = defaults.timeout if timeout is None else timeout
        total = self.timeout.total
        self.deadline = None if total is None else started + total

    @property
    def elapsed(self) -> float:
        """Seconds since the call began."""
        return self.defaults.clock.monotonic() - self.started

    def add_context(self, error: errors.SmendpointError) -> errors.SmendpointError:
        """Add the endpoint and the attempt to `error`, and return it."""
        error.endpoint_name = self.defaults.endpoint_name
        error.attempts = self.attempts
        return error

    def finish(self, error: BaseException | None) -> None:
        """End the call. No frame in the traceback of `error` keeps a secret."""
        if self.slot is not None:
            self.slot.end(error)
        if error is not None:
            forget_locals(error)
        if self.watcher is not None:
            self.watcher.finish(error)


def call_flow(call: CallState) -> Generator[Any, Any, Any]:
    """Run one call: credentials, attempts, retries. Returns the answer with a status below 300.

    Yields:
        `Send`, `Sleep` and `NeedCredentials` steps; each must receive its outcome, or the error that it raised.

    Raises:
        EndpointError: the call failed; the error has the endpoint's name and the number of attempts.
        CredentialsError: there are no credentials to sign with.
    """
    defaults, watcher = call.defaults, call.watcher
    policy, clock = defaults.policy, defaults.clock
    max_attempts = 1 if policy is None else policy.max_attempts
    earlier = call.decisions
    known = len(earlier)
    skew: float | None = None  # this call's correction of the clock; if the call succeeds, the endpoint keeps it
    headers: Mapping[str, str]
    started = None
    if watcher is not None:
        started = watcher.first_byte
        if not call.attempts:
            watcher.notify("call_started")
    while True:
        if call.slot is not None and not call.slot.take():
            yield from call.slot.wait(call)
        credentials = None
        if defaults.credentials is not None:
            credentials = defaults.credentials.current()
            if credentials is None:
                credentials = yield from _load(call)
        call.credentials = credentials
        call.attempts += 1
        if watcher is not None:
            watcher.start_attempt(call.attempts)
        used = defaults.skew if skew is None else skew
        step = Send(
            call.attempts - call.refusals, max_attempts, credentials, clock.time() + used, call.deadline, started
        )
        try:
            answer = yield step
        except errors.EndpointError as error:
            call.attempts += step.extra
            failure, headers = error, {}
        except errors.SmendpointError as error:
            # There was no attempt: the endpoint is closed, certificates cannot be read, or a client has no credentials.
            error.endpoint_name = defaults.endpoint_name
            raise
        else:
            call.attempts += step.extra
            if 200 <= answer.status < 300:
                if call.slot is not None and not call.slot.accepted(call, answer):
                    continue
                defaults.quota.release(rules.refund(earlier[known:]) if earlier else rules.NO_RETRY_INCREMENT)
                if skew is not None:
                    defaults.skew = skew
                return answer
            assert isinstance(answer, RawResponse)  # a transport reads the body of an answer that is not a success
            failure, headers = service_error(answer, now=clock.time()), answer.headers
        _note(call, failure)
        if call.slot is None or not call.slot.refused(call, failure, headers):
            decision = _decide(call, failure, earlier, headers, credentials is not None, used)
            earlier.append(decision)
            skew = yield from _follow(call, decision, failure, credentials, skew)


def _follow(
    call: CallState,
    decision: rules.Decision,
    failure: errors.EndpointError,
    credentials: Credentials | None,
    skew: float | None,
) -> Generator[Any, Any, float | None]:
    """Prepare the next attempt. Return how far the service's clock is assumed to be ahead of ours."""
    if decision.action == "refresh":
        if (yield from _load(call, credentials)) == credentials:
            raise failure  # the source has no others
    elif decision.action == "correct":
        return decision.skew
    elif decision.seconds:
        yield Sleep(decision.seconds)
    return skew


def _note(call: CallState, failure: errors.EndpointError) -> None:
    """Note an attempt's failure, and complete its message."""
    if call.watcher is not None and isinstance(failure, errors.ServiceError):
        call.watcher.info.status, call.watcher.info.request_id = failure.status, failure.request_id
    call.add_context(failure)
    origin = call.defaults.origin
    if origin is not None and isinstance(failure, errors.ServiceError) and no_such_endpoint(failure):
        failure.message = f"{failure.message} | Hint: {origin()}"


def _decide(
    call: CallState,
    failure: errors.EndpointError,
    earlier: list[rules.Decision],
    headers: Mapping[str, str],
    signed: bool,
    skew: float,
) -> rules.Decision:
    """Decide how the call continues after `failure`, and report that. Raise the failure if it does not."""
    defaults, watcher, policy, clock = call.defaults, call.watcher, call.defaults.policy, call.defaults.clock
    if policy is None:
        raise failure
    decision = rules.decide(
        failure,
        policy,
        earlier,
        headers=headers,
        signed=signed,
        now=clock.time(),
        skew=skew,
        elapsed=call.elapsed,
        left=None if call.deadline is None else call.deadline - clock.monotonic(),
        random=clock.random(),
    )
    if decision.cost and not defaults.quota.acquire(decision.cost):
        failure.quota_spent = True
        decision = rules.Decision("final")
    if watcher is not None:
        forget_locals(failure)
        watcher.notify("attempt_failed", failure, decision.seconds)
    if decision.action == "late":
        sent = getattr(failure, "request_sent", True)
        answered = isinstance(failure, errors.ServiceError)
        raise call.add_context(deadline_exceeded(call.timeout, request_sent=sent, answered=answered)) from failure
    if decision.seconds is None:
        raise failure
    if isinstance(failure, errors.ModelNotReadyError):
        log_cold_start(defaults.endpoint_name, failure, call.elapsed, decision.seconds, policy.cold_start_timeout)
    return decision


def _load(call: CallState, rejected: Credentials | None = None) -> Generator[Any, Any, Credentials]:
    try:
        credentials: Credentials = yield NeedCredentials(call.deadline, rejected)
    except errors.SmendpointError as error:
        raise call.add_context(error) from error.__cause__
    return credentials
