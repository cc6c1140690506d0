"""`PrometheusHooks`: metrics of calls for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from smendpoint._core.call.hooks import CallHooks
from smendpoint.integrations._observed import ADVISED_SECONDS, error_type, framework

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prometheus_client import CollectorRegistry

    from smendpoint._core.call.hooks import CallInfo
    from smendpoint.errors import SmendpointError

__all__ = ["PrometheusHooks"]

# Seconds: the bounds of the conventions, and two more for calls that wait until a model is loaded.
_BUCKETS = (*ADVISED_SECONDS, 163.84, 327.68)


class _Metrics:
    """The metrics of one registry, under one namespace."""

    def __init__(self, registry: Any, namespace: str, buckets: tuple[float, ...]) -> None:
        client = framework("prometheus_client", "prometheus")
        call = ["endpoint", "operation"]

        def named(kind: Any, name: str, text: str, labels: list[str], **options: Any) -> Any:
            return kind(name, text, labels, namespace=namespace, registry=registry, **options)

        def seconds(name: str, text: str, labels: list[str]) -> Any:
            return named(client.Histogram, name, text, labels, buckets=buckets)

        self.duration = seconds("call_duration_seconds", "Seconds for a whole call.", [*call, "outcome"])
        self.first_byte = seconds("first_byte_seconds", "Seconds from a call's start to the first byte.", call)
        self.first_chunk = seconds("first_chunk_seconds", "Seconds from a stream's start to its first chunk.", call)
        self.retries = named(client.Counter, "retries", "Attempts that followed a failed one.", ["endpoint", "reason"])
        self.tokens = named(client.Counter, "tokens", "Tokens that models counted.", ["endpoint", "type"])
        self.in_flight = named(
            client.Gauge, "calls_in_flight", "Calls that are not over.", call, multiprocess_mode="livesum"
        )
        self.limit = named(
            client.Gauge,
            "concurrency_limit",
            "Calls that may be in flight at once; absent where their number is not limited.",
            ["endpoint"],
            multiprocess_mode="livesum",
        )


_known: WeakKeyDictionary[Any, dict[Any, _Metrics]] = WeakKeyDictionary()


class PrometheusHooks(CallHooks):
    """Hooks that keep metrics for Prometheus. One object serves any number of endpoints, threads and tasks.

    The labels have few values: an endpoint's name, one of three operations, the name of an error class of this package.
    A model's name is not a label, because the users of your program may choose it. An outcome is ``"ok"``, the name of
    an error class, ``"other"``, or ``"cancelled"``.

    Objects with the same registry, namespace and buckets share their metrics, so each endpoint may have its own.

    Args:
        registry: a ``prometheus_client.CollectorRegistry``; by default ``prometheus_client.REGISTRY``.
        namespace: the first word of each metric's name.
        buckets: the upper bounds of the histograms in seconds. By default those that OpenTelemetry's conventions for
            generative AI recommend, and two more, for calls that wait until a model is loaded.

    Raises:
        ConfigurationError: prometheus-client is not installed.
        ValueError: the registry has another metric of the same name.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        namespace: str = "smendpoint",
        buckets: Sequence[float] = _BUCKETS,
    ) -> None:
        self._options = registry, namespace, tuple(buckets)
        if registry is None:
            registry = framework("prometheus_client", "prometheus").REGISTRY
        metrics = _known.setdefault(registry, {})
        key = self._options[1:]
        if key not in metrics:
            metrics[key] = _Metrics(registry, *key)
        self._metrics = metrics[key]

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, self._options

    def call_started(self, call: CallInfo) -> None:
        """Count the call as one in flight."""
        call.context = self._metrics.in_flight.labels(call.endpoint_name, call.operation)
        call.context.inc()
        self._note_limit(call)

    def attempt_failed(self, call: CallInfo, error: SmendpointError, delay: float | None) -> None:
        """Count a retry, if there is one."""
        if delay is not None:
            self._metrics.retries.labels(call.endpoint_name, error_type(error)).inc()
        self._note_limit(call)

    def first_byte(self, call: CallInfo) -> None:
        """Observe the time to the first byte."""
        self._metrics.first_byte.labels(call.endpoint_name, call.operation).observe(call.elapsed)

    def first_chunk(self, call: CallInfo) -> None:
        """Observe the time to the first chunk."""
        self._metrics.first_chunk.labels(call.endpoint_name, call.operation).observe(call.elapsed)

    def call_finished(self, call: CallInfo, error: BaseException | None) -> None:
        """Observe the time of the whole call, and count its tokens."""
        metrics = self._metrics
        call.context.dec()
        outcome = "ok" if error is None else error_type(error)
        metrics.duration.labels(call.endpoint_name, call.operation, outcome).observe(call.elapsed)
        if call.usage is not None:
            for kind, count in (("input", call.usage.prompt_tokens), ("output", call.usage.completion_tokens)):
                if count is not None:
                    metrics.tokens.labels(call.endpoint_name, kind).inc(count)
        self._note_limit(call)

    def _note_limit(self, call: CallInfo) -> None:
        if call.concurrency_limit is not None:
            self._metrics.limit.labels(call.endpoint_name).set(call.concurrency_limit)


def _rebuilt(registry: Any, namespace: str, buckets: tuple[float, ...]) -> PrometheusHooks:
    return PrometheusHooks(registry, namespace=namespace, buckets=buckets)
