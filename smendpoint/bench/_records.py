"""Measurements of single requests, and the figures of many, with the names of vLLM's ``bench serve``."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GOALS = ("ttft", "tpot", "e2el")
METRICS = ("ttft", "tpot", "itl", "e2el")
PERCENTILES = {"median": 50, "p90": 90, "p99": 99}


class Record(NamedTuple):
    """One request. Its times are seconds on the clock of the event loop.

    Attributes:
        due: when it should have been sent: in an open loop the moment of its arrival, even if the client did not keep
            up.
        sent: when it was sent.
        pieces: when each piece of a stream's output arrived; empty for a whole answer.
        ended: when the answer ended.
        input_tokens: tokens of the prompt, as counted by the model; ``None`` if it did not count.
        output_tokens: tokens of the answer, as counted by the model; ``None`` if it did not count.
        streamed: whether the answer was a stream.
        error: the class of the error; empty if there is none.
    """

    due: float
    sent: float
    pieces: tuple[float, ...]
    ended: float
    input_tokens: int | None = None
    output_tokens: int | None = None
    streamed: bool = True
    error: str = ""

    @property
    def tokens(self) -> int:
        """The tokens of the answer, or the pieces of a stream whose tokens the model did not count."""
        return len(self.pieces) if self.output_tokens is None else self.output_tokens

    @property
    def ttft(self) -> tuple[float, ...]:
        """Seconds from the due time to a stream's first piece of output; empty if there is none."""
        return tuple([piece - self.due for piece in self.pieces[:1]])

    @property
    def tpot(self) -> tuple[float, ...]:
        """Seconds for each output token after the first; empty if there is one token, or one piece of a stream."""
        if self.tokens < 2 or len(self.pieces) < 2:
            return ()
        return ((self.pieces[-1] - self.pieces[0]) / (self.tokens - 1),)

    @property
    def itl(self) -> tuple[float, ...]:
        """Seconds between consecutive pieces of output."""
        return tuple([after - before for before, after in zip(self.pieces, self.pieces[1:], strict=False)])

    @property
    def e2el(self) -> tuple[float, ...]:
        """Seconds from the due time to the end of the answer."""
        return (self.ended - self.due,)

    def meets(self, goals: Mapping[str, float]) -> bool:
        """Return whether it was answered, and none of its times exceeds its goal, in milliseconds.

        A stream without output does not meet any goal.
        """
        if self.error or (self.streamed and not self.pieces):
            return False
        return all(1e3 * value <= most for name, most in goals.items() for value in getattr(self, name))


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return a percentile of sorted numbers, interpolated between two of them, as NumPy does by default."""
    place = (len(ordered) - 1) * share / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def figure(value: float | None) -> str:
    """Format a figure with at least three digits, down to thousandths; ``-`` for none."""
    if value is None:
        return "-"
    if value < 0.001:
        return "0.00"
    return f"{value:#.3g}" if value < 99.95 else f"{value:,.0f}"


def summary(records: Sequence[Record], goals: Mapping[str, float]) -> dict[str, Any]:
    """Return the figures of a run.

    Args:
        records: its requests, without those of the warm-up.
        goals: milliseconds by the name of a metric; empty for none.
    """
    good = [record for record in records if not record.error]
    errors = Counter([record.error for record in records if record.error])
    seconds = max([r.ended for r in records], default=0.0) - min([r.due for r in records], default=0.0)
    inputs = sum([record.input_tokens or 0 for record in good])
    outputs = sum([record.tokens for record in good])

    def rate(number: int) -> float:
        return number / seconds if seconds > 0 else 0.0

    found: dict[str, Any] = {
        "duration": seconds,
        "completed": len(good),
        "failed": len(records) - len(good),
        "total_input_tokens": inputs,
        "total_output_tokens": outputs,
        "token_counts": _source(good),
        "request_throughput": rate(len(good)),
        "output_throughput": rate(outputs),
        "total_token_throughput": rate(inputs + outputs),
        "request_goodput": rate(sum([record.meets(goals) for record in good])) if goals else None,
    }
    for name in METRICS:
        found |= _statistics(name, sorted([1e3 * value for record in good for value in getattr(record, name)]))
    return {
        **found,
        "throttled": errors["ThrottlingError"],
        "cold_starts": errors["ModelNotReadyError"],
        "truncated_streams": errors["StreamTruncatedError"],
        "errors": dict(sorted(errors.items())),
    }


def _source(good: Sequence[Record]) -> str | None:
    """Return the source of the counts of output tokens."""
    sources = {
        "model" if record.output_tokens is not None else "chunks" if record.streamed else None for record in good
    }
    return "mixed" if len(sources) > 1 else next(iter(sources), None)


def _statistics(name: str, ordered: list[float]) -> dict[str, float | None]:
    if not ordered:
        return {f"{label}_{name}_ms": None for label in ("mean", "std", *PERCENTILES)}
    mean = math.fsum(ordered) / len(ordered)
    deviation = math.sqrt(math.fsum([(value - mean) ** 2 for value in ordered]) / len(ordered))
    shares = {label: percentile(ordered, share) for label, share in PERCENTILES.items()}
    return {f"{label}_{name}_ms": value for label, value in {"mean": mean, "std": deviation, **shares}.items()}
