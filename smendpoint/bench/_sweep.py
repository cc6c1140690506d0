"""A sweep: closed loops of more and more clients, which find out how many calls an endpoint takes at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from smendpoint.bench._load import Load
from smendpoint.bench._run import Run, measure
from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from typing_extensions import Self

    from smendpoint.async_endpoint import AsyncEndpoint
    from smendpoint.bench._inputs import Prompt

MAX_REFINEMENTS = 4
"""How many more loads a sweep tries between those that it was given."""

REQUESTS_PER_CLIENT = 10
"""Requests of each client in a load of a sweep, where neither a count nor a duration is given."""

LEAST_REQUESTS = 20
"""The least requests in such a load."""

# From this share of the largest load on, the knee may as well be beyond it.
_END = 0.9

# More throughput than so many times that of the knee: the endpoint takes more calls at once, and works more slowly.
_MORE = 1.2


class Sweep(NamedTuple):
    """Several loads, and the number of calls at which more clients stop to help.

    Attributes:
        runs: what was measured, from the fewest clients to the most.
        knee: how many calls at once the endpoint takes; ``None`` where nothing was answered.
    """

    runs: Sequence[Run]
    knee: int | None

    @classmethod
    def of(cls, runs: Iterable[Run]) -> Self:
        """Find the knee of closed loops with different numbers of clients."""
        ordered = sorted(runs, key=_clients)
        return cls(ordered, _knee(ordered))

    @property
    def beyond(self) -> bool:
        """Whether the knee may be beyond the largest load."""
        return self.knee is not None and self.knee >= _END * max(map(_clients, self.runs))

    def sentence(self) -> str:
        """Say what was found, with the throughput that was measured there."""
        if self.knee is None:
            return "No request was answered: how many calls it takes at once is not known."
        answered, knee = _answered(self.runs), self.knee
        best = max(answered, key=_throughput)
        most = f"{_throughput(best):.3g} requests/s"
        if self.beyond:
            clients = max(map(_clients, self.runs))
            return f"It takes {clients} call{'s' * (clients > 1)} at once, perhaps more: {most}."
        there = min(answered, key=lambda run: abs(_clients(run) - knee))
        if _throughput(best) <= _MORE * _throughput(there):
            return f"It takes about {knee} at once: {most}. More at once wait or are refused."
        slower = best.report["median_e2el_ms"] / there.report["median_e2el_ms"]
        return (
            f"It takes about {knee} at once: {_throughput(there):.3g} requests/s. With {_clients(best)} at once there"
            f" are {most}, and each takes {slower:.2g} times as long."
        )


async def sweep(
    endpoint: AsyncEndpoint[Any, Any, Any],
    prompts: Iterable[Prompt],
    concurrencies: Iterable[int],
    *,
    count: int | None = None,
    duration: float | None = None,
    after: Callable[[Run], object] = lambda _run: None,
    **options: Any,
) -> Sweep:
    """Measure closed loops, from the fewest clients to the most, then some between them, and find the knee.

    The knee is where two lines cross: the throughput that each further client would add if it did not disturb the
    others, and the most throughput that there is (the asymptotic bounds of Denning and Buzen, "The Operational Analysis
    of Queueing Network Models", 1978). It is a speed-up: the most throughput, divided by that of one client alone.

    Args:
        endpoint: as for `measure`.
        prompts: as for `measure`; enough for all loads.
        concurrencies: numbers of clients. Begin with 1, where each call has the endpoint for itself.
        count: requests in each load; by default 10 for each client, and at least 20.
        duration: seconds in which each load sends requests.
        after: is called with what was measured under each load.
        options: the further arguments of `measure`.

    Raises:
        ConfigurationError: there is no number of clients, or an argument of `measure` does not fit.
        SmendpointError: as for `measure`.
    """
    numbers = sorted(set(concurrencies))
    if not numbers:
        raise ConfigurationError("a sweep takes numbers of clients")
    runs: dict[int, Run] = {}
    inputs = iter(prompts)

    async def run(clients: int) -> None:
        requests = count
        if count is None and duration is None:
            requests = max(LEAST_REQUESTS, REQUESTS_PER_CLIENT * clients)
        load = Load(concurrency=clients, count=requests, duration=duration)
        runs[clients] = await measure(endpoint, inputs, load, **options)
        after(runs[clients])

    for clients in numbers:
        await run(clients)
    for _ in range(MAX_REFINEMENTS):
        between = _between(runs)
        if between is None:
            break
        await run(between)
    return Sweep.of(runs.values())


def _knee(runs: Sequence[Run]) -> int | None:
    """Give the number of clients at which the lines of a sweep cross; ``None`` where nothing was answered."""
    answered = _answered(runs)
    if not answered:
        return None
    alone = _steady(answered[0]) / _clients(answered[0])
    return max(1, round(max(map(_steady, answered)) / alone))


def _steady(run: Run) -> float:
    """Give the throughput while all clients had a request: the end of a load, where fewer and fewer do, is left out."""
    began = min([record.due for record in run.records])
    last = max([record.due for record in run.records])
    done = sum([not record.error and record.ended <= last for record in run.records])
    return done / (last - began) if done else _throughput(run)


def _between(runs: dict[int, Run]) -> int | None:
    """Give the number of clients that says most about the knee; ``None`` where those that were tried are near it."""
    found = Sweep.of(runs.values()).knee
    above = [clients for clients in runs if found is not None and clients > found]
    below = [clients for clients in runs if found is not None and clients <= found]
    if found is None or not above or not below:
        return None
    low, high = max(below), min(above)
    if low < found:
        return found
    return round(math.sqrt(low * high)) if high - low > max(1, low // 4) else None


def _answered(runs: Iterable[Run]) -> list[Run]:
    return [run for run in runs if run.report["completed"]]


def _throughput(run: Run) -> float:
    found: float = run.report["request_throughput"]
    return found


def _clients(run: Run) -> int:
    assert run.load.concurrency is not None
    return run.load.concurrency
