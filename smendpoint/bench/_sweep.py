"""A sweep: closed loops of more and more clients, to find out how many calls an endpoint takes at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from smendpoint.bench._load import Load
from smendpoint.bench._records import figure
from smendpoint.bench._run import Run, measure
from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from typing_extensions import Self

    from smendpoint.async_endpoint import AsyncEndpoint
    from smendpoint.bench._inputs import Prompt

MAX_REFINEMENTS = 4
"""How many more loads a sweep tries between the given ones."""

REQUESTS_PER_CLIENT = 10
"""Requests per client in a load of a sweep, if neither a count nor a duration is given."""

LEAST_REQUESTS = 20
"""The fewest requests in such a load."""

# If the knee is at this share of the largest load or above, it may be beyond it. If the fewest clients have this share
# of the highest throughput or more, they may have been too many.
_END = 0.9

# With more than this many times the throughput of the knee, the endpoint takes more calls at once, but each is slower.
_MORE = 1.2


class Sweep(NamedTuple):
    """Several loads, and the number of calls beyond which more clients do not help.

    Attributes:
        runs: the measurements, from the fewest clients to the most.
        knee: how many calls at once the endpoint takes; ``None`` if nothing was answered, or if even the fewest clients
            may
            have been too many: a sweep that begins with 1 always has a knee.
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
        """Describe the result, with the throughput that was measured there."""
        answered, knee = _answered(self.runs), self.knee
        if not answered:
            return "No request was answered: how many calls it takes at once is not known."
        if knee is None:
            fewest = _clients(answered[0])
            return f"How many calls it takes at once is not known, perhaps fewer than {fewest}: begin with 1."
        best = max(answered, key=_throughput)
        most = f"{figure(_throughput(best))} requests/s"
        if self.beyond:
            clients = max(map(_clients, self.runs))
            return f"It takes {clients} call{'s' * (clients > 1)} at once, perhaps more: {most}."
        there = min(answered, key=lambda run: abs(_clients(run) - knee))
        if _throughput(best) <= _MORE * _throughput(there):
            return f"It takes about {knee} at once: {most}. More at once wait or are refused."
        slower = best.report["median_e2el_ms"] / there.report["median_e2el_ms"]
        if slower <= 1:
            return f"It takes about {knee} at once, but the loads contradict each other: measure more requests."
        return (
            f"It takes about {knee} at once: {figure(_throughput(there))} requests/s. With {_clients(best)} at once"
            f" there are {most}, and each takes {slower:.1f} times as long."
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

    The knee is where two lines cross: the throughput that each further client would add if it did not slow down the
        others, and the highest throughput (the asymptotic bounds of Denning and Buzen, "The Operational Analysis of
        Queueing Network Models", 1978). It is a speed-up: the highest throughput, divided by that of one client alone.

    Args:
        endpoint: as for `measure`.
        prompts: as for `measure`; enough for all loads.
        concurrencies: numbers of clients. Begin with 1, so that each call has the endpoint to itself.
        count: requests in each load; by default 10 for each client, and at least 20.
        duration: seconds in which each load sends requests.
        after: called with the measurements of each load.
        options: the other arguments of `measure`.

    Raises:
        ConfigurationError: there is no number of clients, or an argument of `measure` is not valid.
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
    """Return the number of clients at which the lines of a sweep cross; ``None`` if they do not show it."""
    answered = _answered(runs)
    if not answered:
        return None
    fewest = _clients(answered[0])
    # If the fewest clients have nearly all the throughput, they may have had to wait for each other.
    speed_up = max(map(_steady, answered)) / _steady(answered[0])
    return max(1, round(fewest * speed_up)) if fewest == 1 or _END * speed_up > 1 else None


def _steady(run: Run) -> float:
    """Return the throughput while all clients had a request: without the end of a load, when fewer do."""
    began = min([record.due for record in run.records])
    last = max([record.due for record in run.records])
    done = sum([not record.error and record.ended <= last for record in run.records])
    return done / (last - began) if done and last > began else _throughput(run)


def _between(runs: dict[int, Run]) -> int | None:
    """Return the number of clients that would show most about the knee; ``None`` if those tried are near it."""
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
    return [run for run in runs if _throughput(run)]


def _throughput(run: Run) -> float:
    found: float = run.report["request_throughput"]
    return found


def _clients(run: Run) -> int:
    assert run.load.concurrency is not None
    return run.load.concurrency
