"""`GenAIHooks`: spans and metrics of calls, with the names of OpenTelemetry's conventions for generative AI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smendpoint._core.call.hooks import CallHooks
from smendpoint._version import __version__
from smendpoint.integrations._observed import ADVISED_SECONDS, framework

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from smendpoint._core.call.hooks import CallInfo
    from smendpoint.errors import SmendpointError

__all__ = ["GenAIHooks"]

# The bounds that the conventions recommend for token counts.
_TOKENS = tuple(4**power for power in range(14))
# A submission of asynchronous inference ends long before its model has answered, so it is not a chat.
_WITHOUT_TASK = {"InvokeEndpointAsync": "invoke_endpoint_async"}
_UNKNOWN_TASK = "invoke_endpoint"

# The containers' names for a parameter, by its attribute, whole numbers first.
_WHOLE = {
    "gen_ai.request.max_tokens": (
        *("max_tokens", "max_completion_tokens", "max_new_tokens", "max_output_tokens", "maxTokens"),
        "max_tokens_to_sample",
    ),
    "gen_ai.request.seed": ("seed", "random_seed"),
    "gen_ai.request.choice.count": ("n", "num_return_sequences", "num_generations", "numResults"),
    "gen_ai.embeddings.dimension.count": ("dimensions",),
}
_REAL = {
    "gen_ai.request.temperature": ("temperature",),
    "gen_ai.request.top_p": ("top_p", "topP", "p"),
    "gen_ai.request.top_k": ("top_k", "topK", "k"),
    "gen_ai.request.frequency_penalty": ("frequency_penalty",),
    "gen_ai.request.presence_penalty": ("presence_penalty",),
}
_STOPS = ("stop", "stop_sequences", "stopSequences", "stop_strings")


class GenAIHooks(CallHooks):
    """Hooks that make a span and metrics for each call. One object serves any number of endpoints, threads and tasks.

    The span lasts from the call's start to the end of its answer or stream, and covers all attempts; each failed
    attempt is an event. Its parent is the current span of the caller, also in the threads and tasks of a ``map``.
    Prompts, answers and error messages are not recorded.

    The metrics are ``gen_ai.client.operation.duration``, ``gen_ai.client.token.usage`` and
    ``gen_ai.client.operation.time_to_first_chunk``.

    Args:
        tracer_provider: makes the spans; by default OpenTelemetry's global one.
        meter_provider: makes the metrics; by default OpenTelemetry's global one.

    Raises:
        ConfigurationError: opentelemetry-api is not installed.
    """

    def __init__(
        self, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        self._providers = tracer_provider, meter_provider
        self._trace = framework("opentelemetry.trace", "opentelemetry")
        self._tracer = self._trace.get_tracer("smendpoint", __version__, tracer_provider)
        meter = framework("opentelemetry.metrics", "opentelemetry").get_meter("smendpoint", __version__, meter_provider)

        def histogram(name: str, unit: str, text: str, bounds: tuple[float, ...]) -> Any:
            return meter.create_histogram(name, unit, text, explicit_bucket_boundaries_advisory=bounds)

        self._duration = histogram(
            "gen_ai.client.operation.duration", "s", "Duration of a call with all its attempts.", ADVISED_SECONDS
        )
        self._tokens = histogram(
            "gen_ai.client.token.usage", "{token}", "Input and output tokens that the model counted.", _TOKENS
        )
        self._first_chunk = histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            "s",
            "Time from the start of a stream to its first chunk.",
            ADVISED_SECONDS,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._providers

    def call_started(self, call: CallInfo) -> None:
        """Start the span."""
        common = _common_attributes(call)
        span = self._tracer.start_span(
            f"{common['gen_ai.operation.name']} {call.model}",
            kind=self._trace.SpanKind.CLIENT,
            attributes={**common, **_request_attributes(call)},
        )
        call.context = _Observed(span, common)

    def attempt_failed(self, call: CallInfo, error: SmendpointError, delay: float | None) -> None:
        """Add an event to the span."""
        known = {
            "error.type": type(error).__qualname__,
            "http.response.status_code": call.status,
            "aws.request_id": call.request_id,
            "http.request.resend_count": call.attempts - 1,
        }
        call.context.span.add_event("smendpoint.attempt_failed", _present(known))

    def first_chunk(self, call: CallInfo) -> None:
        """Note the time."""
        call.context.first_chunk = call.elapsed

    def call_finished(self, call: CallInfo, error: BaseException | None) -> None:
        """End the span, and record the metrics."""
        observed: _Observed = call.context
        span, common = observed.span, observed.attributes
        usage = call.usage
        known = {
            "gen_ai.response.id": call.response_id,
            "gen_ai.response.model": call.response_model,
            "gen_ai.response.finish_reasons": call.finish_reason and (call.finish_reason,),
            "gen_ai.response.time_to_first_chunk": observed.first_chunk,
            "gen_ai.usage.input_tokens": usage and usage.prompt_tokens,
            "gen_ai.usage.output_tokens": usage and usage.completion_tokens,
            "aws.request_id": call.request_id,
        }
        span.set_attributes(_present(known))
        if call.response_model is not None:
            common["gen_ai.response.model"] = call.response_model
        outcome = dict(common)
        if error is not None:
            outcome["error.type"] = type(error).__qualname__
            span.set_attribute("error.type", outcome["error.type"])
            span.set_status(self._trace.StatusCode.ERROR)
        context = self._trace.set_span_in_context(span)  # for exemplars
        self._duration.record(call.elapsed, outcome, context)
        if observed.first_chunk is not None:
            self._first_chunk.record(observed.first_chunk, common, context)
        for kind in ("input", "output"):
            count = known[f"gen_ai.usage.{kind}_tokens"]
            if count is not None:
                self._tokens.record(count, {**common, "gen_ai.token.type": kind}, context)
        span.end()


class _Observed:
    """The span of a call, and the data for its metrics."""

    __slots__ = ("attributes", "first_chunk", "span")

    def __init__(self, span: Any, attributes: dict[str, Any]) -> None:
        self.span = span
        self.attributes = attributes
        self.first_chunk: float | None = None


def _common_attributes(call: CallInfo) -> dict[str, Any]:
    """Give the attributes that the span and the metrics of a call share."""
    known = {
        "gen_ai.operation.name": _WITHOUT_TASK.get(call.operation) or call.task or _UNKNOWN_TASK,
        "gen_ai.provider.name": "aws.sagemaker",
        "gen_ai.request.model": call.model,
        "server.address": call.server_address,
        "server.port": call.server_port,
    }
    return _present(known)


def _request_attributes(call: CallInfo) -> dict[str, Any]:
    """Give the attributes of the request's parameters."""
    found: dict[str, Any] = {"gen_ai.request.stream": call.streaming}
    given = call.parameters
    for names, types, kind in ((_WHOLE, (int,), int), (_REAL, (int, float), float)):
        for attribute, spellings in names.items():
            value = next((given[name] for name in spellings if name in given), None)
            if isinstance(value, types) and not isinstance(value, bool):
                found[attribute] = kind(value)
    if found.get("gen_ai.request.choice.count") == 1:  # the conventions want it only for other numbers
        del found["gen_ai.request.choice.count"]
    for name in _STOPS:
        if name in given:
            found["gen_ai.request.stop_sequences"] = given[name]
    if "encoding_format" in given:
        found["gen_ai.request.encoding_formats"] = (given["encoding_format"],)
    return found


def _present(attributes: dict[str, Any]) -> dict[str, Any]:
    """Give the attributes that have a value."""
    return {name: value for name, value in attributes.items() if value is not None}
