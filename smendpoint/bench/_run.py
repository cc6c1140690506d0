"""A run: one load on an endpoint."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from smendpoint._core.call.fatal import is_fatal
from smendpoint.bench._load import Load, drive
from smendpoint.bench._records import GOALS, Record, percentile, summary
from smendpoint.errors import ConfigurationError, SmendpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from smendpoint.async_endpoint import AsyncEndpoint
    from smendpoint.bench._inputs import Prompt

LAG_INTERVAL_SECONDS = 0.05
"""Seconds between two measurements of how late the event loop is."""


@dataclass(eq=False)
class Run:
    """The measurements under one load.

    Attributes:
        load: the load.
        goals: milliseconds by the name of a metric, for the goodput; empty for none.
        records: each request that is over, in the order in which they ended. It grows while the load is running.
        lags: seconds by which the event loop was late at each measurement.
        failures: the first error of each class, by its name, including those of the warm-up.
    """

    load: Load
    goals: Mapping[str, float] = field(default_factory=dict[str, float])
    records: list[Record] = field(default_factory=list[Record])
    lags: list[float] = field(default_factory=list[float])
    failures: dict[str, SmendpointError] = field(default_factory=dict[str, SmendpointError])
    _report: dict[str, Any] = field(default_factory=dict[str, Any], init=False, repr=False)
    _reported: int | None = field(default=None, init=False, repr=False)

    @property
    def report(self) -> dict[str, Any]:
        """The figures of the requests that are over, by the names in the reference of ``smendpoint bench``."""
        if self._reported != len(self.records):
            self._reported = len(self.records)
            sent_late = sorted([record.sent - record.due for record in self.records])
            self._report = {
                "max_concurrency": self.load.concurrency,
                "request_rate": "inf" if self.load.rate == math.inf else self.load.rate,  # JSON has no infinity
                **summary(self.records, self.goals),
                "p99_send_lag_ms": 1e3 * percentile(sent_late, 99) if sent_late else None,
                "p99_client_lag_ms": 1e3 * _lag_of_the_latest_hundredth(self.lags) if self.lags else None,
                "max_client_lag_ms": 1e3 * max(self.lags) if self.lags else None,
            }
        return self._report


def _lag_of_the_latest_hundredth(lags: Sequence[float]) -> float:
    """Return the 99th percentile of the lag over time; a measurement counts for all the time since the previous one."""
    rest = (sum(lags) + len(lags) * LAG_INTERVAL_SECONDS) / 100
    late = sorted(lags)
    while (rest := rest - late[-1] - LAG_INTERVAL_SECONDS) > 0:
        late.pop()
    return late[-1]


async def ask(
    endpoint: AsyncEndpoint[Any, Any, Any],
    prompt: Prompt,
    due: float,
    *,
    stream: bool,
    stop: Sequence[str] | None,
    failures: dict[str, SmendpointError],
) -> Record:
    """Make one call, and measure it.

    The class of its error is part of the record, and the first error of each class is kept. An error that every later
    call would raise as well is raised.
    """
    now = asyncio.get_running_loop().time
    sent, pieces, error, usage = now(), list[float](), "", None
    options: dict[str, Any] = {"stop": stop, "parameters": dict(prompt.parameters)}
    try:
        if stream:
            async with endpoint.stream(prompt.input, **options) as chunks:
                async for chunk in chunks:
                    if str(chunk) or getattr(chunk, "reasoning", "") or getattr(chunk, "tool_calls", ()):
                        pieces.append(now())
            usage = chunks.usage
        else:
            usage = (await endpoint.send(prompt.input, **options)).usage
    except SmendpointError as failure:
        if is_fatal(failure):
            raise
        error = type(failure).__name__
        failures.setdefault(error, failure)
    tokens = (None, None) if usage is None else (usage.prompt_tokens, usage.completion_tokens)
    return Record(due, sent, tuple(pieces), now(), *tokens, streamed=stream, error=error)


async def measure(
    endpoint: AsyncEndpoint[Any, Any, Any],
    prompts: Iterable[Prompt],
    load: Load,
    *,
    warmup: int = 0,
    goals: Mapping[str, float] | None = None,
    stream: bool = True,
    stop: Sequence[str] | None = None,
    before: Callable[[Run], object] = lambda _run: None,
) -> Run:
    """Put a load on an endpoint, and measure it.

    Make the endpoint with ``retry=RetryPolicy(max_attempts=1, cold_start_timeout=0)`` and without ``concurrency``:
    otherwise the measurements include retries and waits of the client.

    Args:
        endpoint: the endpoint. It stays open.
        prompts: the inputs. If an iterator ends early, so does the run.
        load: how requests are sent.
        warmup: how many requests are sent before the load, in the same way, without measuring them.
        goals: milliseconds by ``"ttft"``, ``"tpot"`` or ``"e2el"``, for the goodput. The first two need streams.
        stream: whether the answers are streamed.
        stop: stop sequences.
        before: called with the run before its first request. Its `records` grow from then on, and are kept if an error
            or a cancellation ends the load.

    Raises:
        ConfigurationError: the load, the warm-up, the goals or the endpoint's options are not valid.
        SmendpointError: the first error that every call would raise: no such endpoint, access denied, no credentials.
    """
    load.check()
    run = Run(load, goals or {})
    _check_goals(run.goals, stream)
    if not isinstance(warmup, int) or warmup < 0:
        raise ConfigurationError(f"warmup must be a whole number, at least 0, not {warmup!r}")
    inputs = iter(prompts)

    async def one(prompt: Prompt, due: float) -> Record:
        return await ask(endpoint, prompt, due, stream=stream, stop=stop, failures=run.failures)

    before(run)
    if warmup:
        await drive(replace(load, count=warmup, duration=None), inputs, one, lambda _record: None)
    watch = asyncio.ensure_future(_watch(run.lags))
    try:
        await drive(load, inputs, one, run.records.append)
    finally:
        watch.cancel()
        await asyncio.wait([watch])
    return run


def _check_goals(goals: Mapping[str, float], stream: bool) -> None:
    for name, most in goals.items():
        if name not in GOALS or not most > 0:
            raise ConfigurationError(f"goals are milliseconds of {', '.join(GOALS)}, not {name}:{most!r}")
        if name != "e2el" and not stream:
            raise ConfigurationError(f"a goal of {name} needs streams: a whole answer has only e2el")


async def _watch(lags: list[float]) -> None:
    """Note how late the event loop is, because this adds to the measured times."""
    loop = asyncio.get_running_loop()
    while True:
        wanted = loop.time() + LAG_INTERVAL_SECONDS
        try:
            await asyncio.sleep(LAG_INTERVAL_SECONDS)
        finally:
            lags.append(max(0.0, loop.time() - wanted))
