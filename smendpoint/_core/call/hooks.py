"""Hooks: objects to which an endpoint reports its calls, for metrics and traces."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from smendpoint._core.aws.response import request_id
from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from smendpoint._core.call.usage import Usage
    from smendpoint.errors import ServiceError, SmendpointError


class CallInfo:
    """One call, as reported to hooks. It never holds a prompt, an output, or a secret.

    Attributes:
        endpoint_name: the endpoint that is called.
        operation: the service's name for the operation, such as ``"InvokeEndpoint"``.
        invocation_id: the id that all attempts of the call send as ``amz-sdk-invocation-id``.
        task: the model's task, from the content handler: ``"chat"``, ``"text_completion"``, ``"embeddings"``, or the
            word of your own handler; ``None`` if it has none.
        model: the request's parameter ``model``, or else the endpoint's name.
        parameters: the request's parameters whose names are known not to hold content: numbers and truth values
            (``max_tokens``, ``temperature`` ...), a few words (``encoding_format``), and stop sequences, as a tuple.
            Never messages, prompts, tools or schemas.
        streaming: whether the answer is a stream.
        server_address: the host that is called; ``None`` if a client does not tell.
        server_port: its TCP port.
        attempts: how many requests have been sent so far.
        status: the HTTP status of the current attempt's answer; ``None`` before there is one.
        request_id: AWS's id of that answer; ``None`` before there is one.
        elapsed: seconds since the call started, updated before each hook.
        concurrency_limit: how many calls may be in flight now, updated before each hook; ``None`` if their number is
            not limited.
        usage: the model's token counts. This and the next three attributes are known at ``call_finished``, and ``None``
            if the model did not give them, or the content handler does not read them.
        finish_reason: why the model stopped, in its container's word; ``"stop"`` if ``stop=`` ended a stream.
        response_model: the model's name in the answer.
        response_id: the container's id of the answer.
        context: yours: a place to keep a span or a timer between the hooks of one call. If ``hooks=`` is several
            objects, each has its own.
    """

    __slots__ = (
        "attempts",
        "concurrency_limit",
        "context",
        "elapsed",
        "endpoint_name",
        "finish_reason",
        "invocation_id",
        "model",
        "operation",
        "parameters",
        "request_id",
        "response_id",
        "response_model",
        "server_address",
        "server_port",
        "status",
        "streaming",
        "task",
        "usage",
    )

    def __init__(self, endpoint_name: str, operation: str, invocation_id: str) -> None:
        self.endpoint_name = endpoint_name
        self.operation = operation
        self.invocation_id = invocation_id
        self.task: str | None = None
        self.model = endpoint_name
        self.parameters: Mapping[str, Any] = {}
        self.streaming = False
        self.server_address: str | None = None
        self.server_port: int | None = None
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.response_model: str | None = None
        self.response_id: str | None = None
        self.attempts = 0
        self.status: int | None = None
        self.request_id: str | None = None
        self.elapsed = 0.0
        self.concurrency_limit: int | None = None
        self.context: Any = None


class CallHooks:
    """Subclass it, override what you need, and pass an instance as ``hooks=``.

    Hooks run inside the call, in its thread or task, so they must be quick and must not block. An exception in a hook
    is logged to ``smendpoint.hooks`` and does not affect the call.
    """

    def call_started(self, call: CallInfo) -> None:
        """A call begins; nothing has been sent."""

    def attempt_started(self, call: CallInfo) -> None:
        """Request number ``call.attempts`` is about to be sent."""

    def attempt_failed(self, call: CallInfo, error: SmendpointError, delay: float | None) -> None:
        """An attempt failed. `delay` is the wait in seconds before the next one; `None` if there is none.

        A cold start is a `ModelNotReadyError` with a `delay`: the call keeps waiting, perhaps for minutes.
        """

    def first_byte(self, call: CallInfo) -> None:
        """The answer's head has arrived."""

    def first_chunk(self, call: CallInfo) -> None:
        """The first chunk of a stream has arrived. A whole answer has no chunks."""

    def chunk(self, call: CallInfo) -> None:
        """A chunk of a stream has arrived, including the first. This is called for each, so it must be very quick."""

    def call_finished(self, call: CallInfo, error: BaseException | None) -> None:
        """The call is over, with `error` or successfully. A stream's call is over when the stream ends or is closed.

        `error` is not a `SmendpointError` if the call was cancelled or interrupted.
        """


def cold_start_reason(error: ServiceError) -> str:
    """Return why a model is not ready, without showing any of the call's data."""
    reason = "its inference component is scaled to zero" if error.status == 400 else "it is still being loaded"
    return f"the model is not ready, {reason} ({error.code or error.status})"


def log_cold_start(endpoint_name: str, error: ServiceError, elapsed: float, delay: float, budget: float) -> None:
    """Log that a call waits, perhaps for minutes, and why. If logging is not imported, nothing can listen."""
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


# From this similarity on, a name counts as a misspelled hook, such as "on_chunk". The hooks' names are less similar.
_ALMOST = 0.76


def checked_hooks(hooks: Any) -> Any:
    """Check `hooks`, and return them.

    Raises:
        ConfigurationError: they are a class, have no hook at all, or have a method whose name is almost a hook's.
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
        return hooks  # it has any attribute, like a mock
    own.update(getattr(hooks, "__dict__", ()))
    for name in sorted(name for name in own.difference(known) if not name.startswith("_")):
        from difflib import get_close_matches

        meant = get_close_matches(name, known, n=1, cutoff=_ALMOST)
        if meant and callable(getattr(hooks, name, None)):
            raise ConfigurationError(
                f"hooks: {kind.__name__}.{name} is not a hook and would never be called; did you mean {meant[0]}? "
                f"The hooks are {', '.join(known)}"
            )
    if not any(callable(getattr(hooks, name, None)) for name in own.intersection(known)):
        raise ConfigurationError(f"hooks: {kind.__name__} has none of the hooks {', '.join(known)}")
    return hooks


def hooks_of(hooks: Any) -> tuple[Any, ...]:
    """Check ``hooks=``, one object or several, and return them all."""
    several = hooks if isinstance(hooks, (list, tuple)) else (hooks,)
    return tuple(checked_hooks(one) for one in several if one is not None)


class Watcher:
    """Reports the steps of one call to its hooks and to logging.

    Args:
        info: the call, as reported to hooks.
        hooks: all hooks to notify.
        log: gets a debug record for each step except chunks; ``None`` for no records.
        monotonic: returns the time.
        started: when the call began, before its region and credentials were looked up.
        limiter: knows how many calls may be in flight; ``None`` if their number is not limited.
    """

    __slots__ = ("_clock", "_contexts", "_finished", "_hooks", "_limiter", "_log", "_started", "info")

    def __init__(
        self, info: CallInfo, hooks: Sequence[Any], log: Any, monotonic: Any, started: float, limiter: Any = None
    ) -> None:
        self.info = info
        self._hooks = hooks
        self._contexts: list[Any] = [None] * len(hooks)
        self._log = log
        self._clock = monotonic
        self._started = started
        self._limiter = limiter
        self._finished = False

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

    def finish(self, error: BaseException | None) -> None:
        """Report the end of the call, once: two threads may end a stream at the same moment."""
        finished, self._finished = self._finished, True
        if not finished:
            self.notify("call_finished", error)

    def wants_chunks(self) -> bool:
        """Whether there are hooks that override ``chunk``."""
        methods = [getattr(hooks, "chunk", None) for hooks in self._hooks]
        return any(method and getattr(method, "__func__", None) is not CallHooks.chunk for method in methods)

    def notify(self, hook: str, *arguments: Any) -> None:
        """Call the hook named `hook`, and write a debug record."""
        info = self.info
        info.elapsed = self._clock() - self._started
        if self._limiter is not None:
            info.concurrency_limit = self._limiter.limit
        if self._log is not None and hook != "chunk":
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
        for place, hooks in enumerate(self._hooks):
            info.context = self._contexts[place]
            try:
                method = getattr(hooks, hook, None)  # an object that is not a CallHooks may lack some
                if method is not None:
                    method(info, *arguments)
            except Exception as error:  # a hook must not change the call
                import logging

                logging.getLogger("smendpoint.hooks").warning("hook %s raised %s", hook, type(error).__name__)
            self._contexts[place] = info.context
