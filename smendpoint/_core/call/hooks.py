"""Hooks: an endpoint reports its calls to them, for metrics and traces."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from smendpoint._core.aws.response import request_id
from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smendpoint.errors import ServiceError, SmendpointError


class CallInfo:
    """One call, as hooks see it. It never holds what was sent, what came back, or a secret.

    Attributes:
        endpoint_name: the endpoint that is called.
        operation: the service's name for the operation, such as ``"InvokeEndpoint"``.
        invocation_id: the id that all attempts of the call carry as ``amz-sdk-invocation-id``.
        attempts: how many requests have been sent so far.
        status: the HTTP status of the current attempt's answer; ``None`` as long as there is none.
        request_id: AWS's id of that answer; ``None`` as long as there is none.
        elapsed: seconds since the call started, brought up to date before each hook.
        concurrency_limit: how many calls may be in flight now, brought up to date before each hook; ``None`` where
            their number is not limited.
        context: yours: a place to keep a span or a timer between the hooks of one call.
    """

    __slots__ = (
        "attempts",
        "concurrency_limit",
        "context",
        "elapsed",
        "endpoint_name",
        "invocation_id",
        "operation",
        "request_id",
        "status",
    )

    def __init__(self, endpoint_name: str, operation: str, invocation_id: str) -> None:
        self.endpoint_name = endpoint_name
        self.operation = operation
        self.invocation_id = invocation_id
        self.attempts = 0
        self.status: int | None = None
        self.request_id: str | None = None
        self.elapsed = 0.0
        self.concurrency_limit: int | None = None
        self.context: Any = None


class CallHooks:
    """Subclass it, override what you need, and pass an instance as ``hooks=``.

    Hooks run inside the call, in its thread or task, so they must be quick and must not block. An exception of a hook
    is logged under ``smendpoint.hooks`` and changes nothing for the call.
    """

    def call_started(self, call: CallInfo) -> None:
        """A call begins; nothing has been sent."""

    def attempt_started(self, call: CallInfo) -> None:
        """Request number ``call.attempts`` is about to be sent."""

    def attempt_failed(self, call: CallInfo, error: SmendpointError, delay: float | None) -> None:
        """An attempt failed. `delay` is the wait in seconds before the next one; `None` if there is none.

        A cold start is a `ModelNotReadyError` with a `delay`: the call goes on waiting, perhaps for minutes.
        """

    def first_byte(self, call: CallInfo) -> None:
        """The answer's head has arrived."""

    def call_finished(self, call: CallInfo, error: BaseException | None) -> None:
        """The call is over: with `error`, or well. A stream's call is over when the stream is, or when it is closed.

        `error` is not a `SmendpointError` where the call was cancelled or interrupted.
        """


def cold_start_reason(error: ServiceError) -> str:
    """Say why a model is not ready, without showing any of the call's data."""
    reason = "its inference component is scaled to zero" if error.status == 400 else "it is still being loaded"
    return f"the model is not ready, {reason} ({error.code or error.status})"


def log_cold_start(endpoint_name: str, error: ServiceError, elapsed: float, delay: float, budget: float) -> None:
    """Log that a call waits, perhaps for minutes, and why. Unless logging is imported, nothing can listen."""
    logging: Any = sys.modules.get("logging")
    if logging is not None:
        logging.getLogger("smendpoint.call").info(
            "endpoint %s: %s; %.1f s have passed, next attempt in %.1f s, giving up %.0f s after the call's start",
            endpoint_name,
            cold_start_reason(error),
            elapsed,
            delay,
            budget,
        )


# From this similarity on, a name counts as a misspelt hook, as "on_call_start" does. The hooks' names are less alike.
_ALMOST = 0.78


def checked_hooks(hooks: Any) -> Any:
    """Check `hooks`, and return them.

    Raises:
        ConfigurationError: they are a class, have no hook at all, or a method whose name is almost a hook's.
    """
    if hooks is None:
        return None
    if isinstance(hooks, type):
        raise ConfigurationError(f"hooks must be an instance, not the class {hooks.__name__}: write {hooks.__name__}()")
    known = [name for name in vars(CallHooks) if not name.startswith("_")]
    kind = type(hooks)
    # A method of CallHooks itself is a hook that was not overridden.
    own = {name for base in kind.__mro__ if base not in (CallHooks, object) for name in vars(base)}
    if "__getattr__" in own or isinstance(kind.__getattribute__, type(checked_hooks)):
        return hooks  # it has any attribute, as a mock has
    own.update(getattr(hooks, "__dict__", ()))
    for name in sorted(name for name in own.difference(known) if not name.startswith("_")):
        from difflib import get_close_matches

        meant = get_close_matches(name, known, n=1, cutoff=_ALMOST)
        if meant and callable(getattr(hooks, name, None)):
            raise ConfigurationError(
                f"hooks: {kind.__name__}.{name} is not a hook and would never be called; is {meant[0]} meant? "
                f"The hooks are {', '.join(known)}"
            )
    if not any(callable(getattr(hooks, name, None)) for name in own.intersection(known)):
        raise ConfigurationError(f"hooks: {kind.__name__} has none of the hooks {', '.join(known)}")
    return hooks


class Watcher:
    """Reports what happens to one call to its hooks and to logging."""

    __slots__ = ("_clock", "_hooks", "_limiter", "_log", "_started", "info")

    def __init__(self, info: CallInfo, hooks: CallHooks | None, log: Any, monotonic: Any, limiter: Any = None) -> None:
        self.info = info
        self._hooks = hooks
        self._log = log
        self._clock = monotonic
        self._started = monotonic()
        self._limiter = limiter

    def start_attempt(self, number: int) -> None:
        """Report that attempt `number` begins."""
        self.info.attempts = number
        self.info.status = self.info.request_id = None
        self.notify("attempt_started")

    def first_byte(self, status: int, headers: Mapping[str, str]) -> None:
        """Report that the answer to the current attempt begins."""
        self.info.status = status
        self.info.request_id = request_id(headers)
        self.notify("first_byte")

    def notify(self, hook: str, *arguments: Any) -> None:
        """Call the hook named `hook`, and write a debug record."""
        info = self.info
        info.elapsed = self._clock() - self._started
        if self._limiter is not None:
            info.concurrency_limit = self._limiter.limit
        if self._log is not None:
            self._log.debug(
                "%s: %s of endpoint %s, invocation %s, attempt %d, status %s, request id %s, %.3f s%s",
                hook.replace("_", " "),
                info.operation,
                info.endpoint_name,
                info.invocation_id,
                info.attempts,
                info.status,
                info.request_id,
                info.elapsed,
                "".join(f", {type(argument).__name__}" for argument in arguments if isinstance(argument, Exception)),
            )
        if self._hooks is not None:
            try:
                method = getattr(self._hooks, hook, None)  # an object that is not a CallHooks may lack some
                if method is not None:
                    method(info, *arguments)
            except Exception as error:  # a hook must not change the call
                import logging

                logging.getLogger("smendpoint.hooks").warning("hook %s raised %s", hook, type(error).__name__)
