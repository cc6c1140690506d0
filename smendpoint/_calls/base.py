"""`CallerBase`: from an input to a request, and from an answer to an output, without waiting."""

from __future__ import annotations

import os
import sys
import weakref
from _thread import allocate_lock  # for a quick cold start: see `_core`
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._calls.arguments import (
    check_beside_client,
    checked_handler,
    checked_limit,
    checked_mapping,
    model_parameters,
)
from smendpoint._core.aws.operations import (
    RequestHead,
    request_head,
)
from smendpoint._core.aws.renderer import CallRequest
from smendpoint._core.call.flow import CallDefaults, CallState
from smendpoint._core.call.hooks import CallInfo, Watcher, hooks_of
from smendpoint._core.call.retry import RetryPolicy, RetryQuota
from smendpoint._core.call.timing import Timeout
from smendpoint._core.http.body import ObservedBody, ResponseBody
from smendpoint._transport.deadline import SYSTEM_CLOCK
from smendpoint._typing import Chunk, Erased, In, Out

if TYPE_CHECKING:
    from smendpoint._aws import Identity, Target
    from smendpoint._calls.pipeline import Pipeline
    from smendpoint._core.aws.operations import Operation
    from smendpoint._core.aws.response import RawResponse
    from smendpoint._core.call.hooks import CallHooks
    from smendpoint._core.call.limit import AdaptiveConcurrency
    from smendpoint._core.call.slots import Slot
    from smendpoint._core.call.timing import Clock
    from smendpoint._transport import AsyncTransport, Transport
    from smendpoint.handlers.base import ContentHandler, StreamDecoder


# The options that are request members of every call.
MEMBER_OPTIONS = {"inference_component_name": "InferenceComponentName", "target": "RoutingTargetName"}


class CallerBase(Erased[In, Out, Chunk]):
    """Makes calls to one endpoint, router or gateway: the half of `Caller` and `AsyncCaller` that does not wait.

    It owns the endpoint's name, the content handler, the transport, and the limits of every call. Endpoints, streams,
    sessions and handles each have one.

    Args:
        name: the name of what is called.
        identity: the service, and the options that say who calls, and where.
        settings: the constructor's other options.

    Raises:
        ConfigurationError: an option is not valid.
    """

    asynchronous = False
    transport: Transport | AsyncTransport
    closed = False
    share: Any = None  # with endpoints of the same configuration: see `share`
    _defaults: CallDefaults | None = None  # made by the first call
    _storage: Any = None  # reads and writes objects of asynchronous inference; made on first use

    def __init__(self, name: str, identity: Identity, settings: dict[str, Any]) -> None:
        self.name = identity.service.checked_name(name)
        self.identity = identity
        self.settings = settings
        self.handler: ContentHandler[In, Out] = checked_handler(settings["content_handler"])
        self.model_kwargs = checked_mapping("model_kwargs", settings["model_kwargs"])
        self.members = checked_mapping("endpoint_kwargs", settings["endpoint_kwargs"])
        for option, member in MEMBER_OPTIONS.items():
            if settings.get(option) is not None:
                self.members = {member: settings[option], **self.members}
        self.clock: Clock = settings["clock"] or SYSTEM_CLOCK
        self.hooks: tuple[CallHooks, ...] = hooks_of(settings["hooks"])
        max_connections = checked_limit("max_connections", settings["max_connections"])
        self.max_response_bytes = checked_limit("max_response_bytes", settings["max_response_bytes"])
        self.client, self.s3_client = settings["client"], settings["s3_client"]
        if self.s3_client is not None:
            from smendpoint._transport.s3 import check_s3_client

            check_s3_client(self.s3_client, asynchronous=self.asynchronous)
        if self.client is not None:
            check_beside_client(identity, settings)
        timeout, policy = settings["timeout"], settings["retry"]
        silence = identity.service.read_timeout
        if timeout is None:
            self.timeout = Timeout() if silence is None else Timeout(read=silence)
        else:
            self.timeout = Timeout.of(timeout)
        self.policy = RetryPolicy() if policy is None else policy
        if not isinstance(self.policy, RetryPolicy):
            raise errors.ConfigurationError(f"retry must be a RetryPolicy, not {type(policy).__name__}")
        self._log: Any = None
        # For each operation, of its last request without members of its own: the content types, the members, the head.
        self._heads: dict[Operation, tuple[tuple[Any, Any], dict[str, object], RequestHead]] = {}
        self.transport = self._make_transport(max_connections)
        self.limiter: Any = None if settings["concurrency"] is None else self.make_limiter(settings["concurrency"])
        _callers.add(self)

    if TYPE_CHECKING:

        def _make_transport(self, max_connections: int | None) -> Any: ...
        def _new_limiter(self, concurrency: AdaptiveConcurrency | int) -> Any: ...

    def make_limiter(self, concurrency: AdaptiveConcurrency | int) -> Any:
        """Make what limits the calls in flight: those of this endpoint, or of one `map`."""
        from smendpoint._core.call.limit import AdaptiveConcurrency

        if not isinstance(concurrency, AdaptiveConcurrency):
            checked_limit("concurrency", concurrency)
        limiter = self._new_limiter(concurrency)
        limiter.at_most(self.transport.max_connections)
        return limiter

    def __reduce__(self) -> tuple[Any, ...]:
        given = "client" if self.client is not None else "s3_client" if self.s3_client is not None else None
        if given is not None:
            raise errors.ConfigurationError(
                f"an endpoint made with {given}= cannot be pickled, because a client cannot: "
                "make it in the process that uses it, or pass region_name and the like instead"
            )
        return rebuilt, (type(self), self.name, self.identity, self.settings)

    @property
    def limits(self) -> tuple[object, ...]:
        """The options that apply to all calls together, except those that say who calls and where."""
        shared = ("timeout", "retry", "max_connections", "concurrency")
        return self.members, *[self.settings[name] for name in shared]

    def _make_defaults(self, target: Target | None, slot: Slot | None = None) -> CallDefaults:
        """Decide what all calls share: the arguments take precedence over botocore's configuration. The first call has
        `slot`.
        """
        timeout, policy = self.timeout, self.policy
        if target is not None:
            if self.settings["timeout"] is None:
                timeout = target.limits.timeout(timeout)
            if self.settings["retry"] is None and target.limits.max_attempts is not None:
                policy = RetryPolicy(max_attempts=target.limits.max_attempts)
        defaults = CallDefaults(
            endpoint_name=self.name,
            policy=policy if self.client is None else None,
            quota=RetryQuota(allocate_lock()),
            timeout=timeout,
            credentials=self.transport.credentials,
            clock=self.clock,
            origin=getattr(target or self.transport, "origin", None),
            server=getattr(target or self.transport, "server", None),
        )
        limiter: Any = self.limiter if slot is None else slot.limiter
        if limiter is not None:  # only now is it known how many connections botocore's configuration allows
            limiter.at_most(self.transport.max_connections)
        # Concurrent first calls share the defaults of one of them: its quota, and its correction of the clock.
        self._defaults = found = vars(self.share or self).setdefault("_defaults", defaults)
        return found  # type: ignore[no-any-return]  # it was put in just above

    def forget(self) -> None:
        """Start afresh in the child of a fork: connections and locks belong to the parent."""
        vars(self).pop("_defaults", None)
        vars(self).pop("_storage", None)
        if self.share is not None:
            self.share.forget()
        if self.limiter is not None:
            self.limiter.forget()
        self.transport.forget()

    def request(
        self,
        operation: Operation,
        body: bytes,
        endpoint_kwargs: Mapping[str, object] | None,
        timeout: Timeout | None = None,
    ) -> CallRequest:
        """Make and check the request that sends `body`."""
        handler, streaming = self.handler, operation.streaming
        try:
            types = handler.content_type, (streaming and getattr(handler, "stream_accepts", None)) or handler.accepts
        except Exception as error:
            raise self._handler_failed("name its content types", error) from error
        known = self._heads.get(operation)
        if known is None or known[0] != types or endpoint_kwargs:
            own = checked_mapping("endpoint_kwargs", endpoint_kwargs)
            members: dict[str, object] = {"ContentType": types[0], "Accept": types[1], **self.members}
            members |= {"CustomerIdentityToken": self.identity.customer_identity_token, **own}
            members = {name: value for name, value in members.items() if value is not None}
            try:
                known = types, members, request_head(operation, self.name, members)
            except errors.ConfigurationError as error:
                error.endpoint_name = self.name
                raise
            if not endpoint_kwargs:
                self._heads[operation] = known
        _, members, head = known
        most = None if streaming else self.max_response_bytes
        return CallRequest(operation, self.name, members, head, body, new_invocation_id(), timeout, most)

    def observe(self, request: CallRequest, value: Any, stop: Sequence[str], model_kwargs: dict[str, Any]) -> None:
        """Note in `request` the facts for hooks, if there are any hooks."""
        if self.hooks:
            from smendpoint._calls.observed import observed_request

            given = {**self.model_kwargs, **model_parameters(model_kwargs, self.name)}
            request.observed = observed_request(self.handler, self.name, value, stop, given)

    def body(self, value: Any, stop: Sequence[str], model_kwargs: dict[str, Any], *, streaming: bool = False) -> bytes:
        """Have the content handler make a body from an input."""
        handler, parameters = self.handler, {**self.model_kwargs, **model_parameters(model_kwargs, self.name)}
        if stop:
            name = getattr(handler, "stop_parameter", None)
            if name is not None:
                parameters.setdefault(name, list(stop))
        transform: Any = getattr(handler, "transform_stream_input", None) if streaming else None
        try:
            body = (transform or handler.transform_input)(value, parameters)
        except errors.SmendpointError as error:
            error.endpoint_name = self.name
            raise
        except Exception as error:
            raise self._handler_failed("transform the input", error) from error
        return body if type(body) is bytes else self._as_bytes(body)

    def call_timeout(self, timeout: float | Timeout) -> Timeout:
        """Make the `Timeout` of one call. A number does not set the total: the endpoint's applies."""
        if isinstance(timeout, Timeout):
            return timeout
        limits = Timeout.of(timeout)
        return Timeout(limits.connect, limits.read, self.timeout.total)

    def _as_bytes(self, body: Any) -> bytes:
        """Convert another kind of body to `bytes`: other bytes, a text, or a file, which is read from its position."""
        given = f"{type(self.handler).__name__}.transform_input"
        if hasattr(body, "read") and not isinstance(body, bytes):
            try:
                body = body.read()
            except Exception as error:
                raise errors.HandlerError(
                    f"{given} returned a file that cannot be read: {type(error).__name__}; see the cause",
                    endpoint_name=self.name,
                ) from error
        if isinstance(body, str):
            from smendpoint.handlers._json import encode_text

            try:
                return encode_text(body)
            except errors.HandlerError as error:
                error.endpoint_name = self.name
                raise
        if isinstance(body, (bytes, bytearray, memoryview)):
            return bytes(body)
        raise errors.HandlerError(
            f"{given} must return bytes, a str or a file, not {type(body).__name__}", endpoint_name=self.name
        )

    def new_call(
        self, request: CallRequest, defaults: CallDefaults, started: float, slot: Slot | None = None
    ) -> CallState:
        """Make the state of a new call; without a given slot, with one of the endpoint's own limit."""
        watcher = None
        # Asynchronous inference has a queue of its own, and a conversation may last for hours.
        if slot is None and self.limiter is not None and not (request.operation.queued or request.operation.conversing):
            slot = self.limiter.slot()
        log = self._log or self._find_log()
        if log is not None and not log.isEnabledFor(DEBUG):
            log = None
        if log is not None or self.hooks:
            info = CallInfo(self.name, request.operation.name, request.invocation_id)
            info.streaming = request.streaming
            if request.observed is not None:
                info.task, info.model, info.parameters = request.observed
            if defaults.server is not None:
                info.server_address, info.server_port = defaults.server
            watcher = Watcher(info, self.hooks, log, self.clock.monotonic, started, slot and slot.limiter)
        return CallState(defaults, watcher, started, request.members.get("Accept"), request.timeout, slot)

    def _find_log(self) -> Any:
        logging: Any = sys.modules.get("logging")  # if it is not imported, nothing can listen
        if logging is not None:
            self._log = logging.getLogger("smendpoint.call")
        return self._log

    def decode(self, body: ResponseBody, stop: Sequence[str]) -> Out:
        """Have the handler make an output from an answer's body, and cut it at a stop sequence."""
        try:
            output: Out = self.handler.transform_output(body)
            if stop:
                from smendpoint._calls.pipeline import cut_at_stop

                output = cut_at_stop(output, stop)
            return output
        except errors.SmendpointError:
            raise
        except Exception as error:
            raise self._handler_failed("transform the output", error) from error

    def output(self, call: CallState, answer: RawResponse, stop: Sequence[str]) -> Out:
        """Make an output from an answer, which ends the call."""
        try:
            if "html" in answer.headers.get("content-type", "").lower():
                from smendpoint._core.http.unexpected import refuse_page

                refuse_page(answer.headers, answer.body, call.accept)
            # The answer's own body is replaced, so that a large one is held once.
            if not self.hooks:
                answer.body = body = ResponseBody(answer.body)
                output = self.decode(body, stop)
            else:
                from smendpoint._calls.observed import note_answer

                assert call.watcher is not None
                answer.body = observed = ObservedBody(answer.body)
                try:
                    output = self.decode(observed, stop)
                finally:  # an output that is refused has used its tokens too
                    note_answer(call.watcher.info, self.handler, observed)
        except errors.SmendpointError as error:
            if isinstance(error, errors.HandlerError):
                from smendpoint.handlers._ignored import say_ignored

                say_ignored(error, answer.headers, call.accept, self.handler, streamed=False)
            call.finish(call.add_context(error))
            raise
        call.finish(None)
        return output

    def _handler_failed(self, deed: str, error: Exception) -> errors.HandlerError:
        """Make the error for an exception that the handler raised."""
        return errors.HandlerError(
            f"{type(self.handler).__name__} could not {deed}: {type(error).__name__}; see the cause",
            endpoint_name=self.name,
        )

    def _no_s3_client(self) -> errors.ConfigurationError:
        """Make the error for an endpoint with ``client=`` that has to reach Amazon S3."""
        return errors.ConfigurationError(
            "an endpoint made with client= does not know the credentials for Amazon S3: pass s3_client= too",
            endpoint_name=self.name,
        )

    def pipeline(self, stop: Sequence[str]) -> Pipeline[Chunk]:
        """Make the pipeline that turns the bytes of one stream into chunks."""
        factory: Any = getattr(self.handler, "stream_decoder", None)
        decoder: StreamDecoder[Any]
        try:
            if factory is None:
                from smendpoint.handlers.base import line_decoder

                decoder = line_decoder(self.handler)
            else:
                decoder = factory()
        except errors.SmendpointError as error:
            error.endpoint_name = self.name
            raise
        except Exception as error:
            raise self._handler_failed("make a stream decoder", error) from error
        from smendpoint._calls.pipeline import Pipeline

        return Pipeline(decoder, stop)


def rebuilt(cls: Any, name: str, identity: Identity, settings: dict[str, Any], *, share: bool = True) -> Any:
    """Make a caller that was pickled or copied."""
    caller = cls(name, identity, settings)
    if share:
        from smendpoint._calls.share import join

        join(caller)
    return caller


DEBUG = 10  # `logging.DEBUG`, without importing `logging`


def new_invocation_id() -> str:
    """Make a random id in the form of a version 4 UUID, like those that the AWS SDKs send with every call."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


_callers: weakref.WeakSet[CallerBase[Any, Any, Any]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    failure = None
    for caller in list(_callers):
        try:
            caller.forget()
        except Exception as error:  # the others must still forget the parent's connections
            failure = error
    if failure is not None:
        raise failure


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows does not fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
