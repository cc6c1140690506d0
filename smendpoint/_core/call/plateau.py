"""The plateau test: whether more calls at once bring more work done, or only longer queues.

A container that queues never refuses. Its capacity shows only in the latency: once all of its workers are busy, twice
the calls take twice the time. The test compares the mean logarithm of the latency of two rounds with different limits.
Without a queue it does not depend on the limit (elasticity 0), with a full queue it grows in proportion (elasticity 1).
"""

from __future__ import annotations

import math

# More load is worthwhile if 1 % more of it brings at least this many percent more work done.
LEAST_GAIN = 0.2
# How many standard errors a difference must have to count.
STANDARD_ERRORS = 1.5
# Two rounds are compared from this many samples each on; looking down takes more, because its mistakes are expensive.
LEAST_SAMPLES = 8
LOOK_DOWN_SAMPLES = 64
# Rounds between two looks down; the number doubles, up to the second one, while looking down finds no queue.
LOOK_DOWN_ROUNDS = 8
LOOK_DOWN_MAX_ROUNDS = 64
# The share of the limit at which a look down measures.
LOOK_DOWN_SHARE = 0.6
# The smallest share of the limit to go back to at once.
GO_BACK_SHARE = 0.5
# Limits closer than this, as a logarithm, are not compared: the noise is larger than the difference.
_LEAST_DISTANCE = 0.2
# The smallest number of samples with a variance worth having, and the weight of a new variance.
_VARIANCE_SAMPLES = 4
_VARIANCE_WEIGHT = 0.2


class Round:
    """The latencies of the calls that started in one round, a period with one limit."""

    __slots__ = ("began", "limited", "samples", "squares", "sum")

    def __init__(self, began: float) -> None:
        self.began = began
        self.limited = False  # whether the limit, and not a lack of work, held calls back
        self.samples = 0
        self.sum = self.squares = 0.0

    def add(self, log_latency: float) -> None:
        """Add the logarithm of one latency."""
        self.samples += 1
        self.sum += log_latency
        self.squares += log_latency * log_latency

    @property
    def mean(self) -> float:
        """The mean logarithm of the latency."""
        return self.sum / self.samples

    @property
    def variance(self) -> float:
        """The variance of the logarithm of the latency."""
        mean = self.mean
        return max(0.0, self.squares / self.samples - mean * mean) * self.samples / (self.samples - 1)


class Plateau:
    """Compare rounds, and decide the next limit.

    An earlier round is the *anchor*. While the limit grows, the test checks whether the latency grew in proportion
    since
    the anchor: then the limit returns to the anchor's, but by half at most, because an old anchor may be far below the
    capacity. Now and then the test *looks down*: a round at a lower limit shows whether calls get faster in proportion,
    in which case everything above was queue.
    """

    __slots__ = ("_anchor", "_interval", "_looked_from", "_rounds", "_variance")

    def __init__(self) -> None:
        self._variance: float | None = None
        self.reset()

    def reset(self) -> None:
        """Forget the anchor: the server refused, so the limit is known without this test."""
        self._anchor: tuple[float, Round] | None = None
        self._looked_from: float | None = None
        self._rounds = 0
        self._interval = LOOK_DOWN_ROUNDS

    @property
    def looking_down(self) -> bool:
        """Whether the limit is temporarily low, to measure."""
        return self._looked_from is not None

    def samples_needed(self, limit: float) -> float:
        """Give the number of samples that end a round."""
        if self.looking_down:
            return max(LOOK_DOWN_SAMPLES, limit)
        looks_next = self._rounds + 1 >= self._interval  # and will be compared with that round
        return max(LEAST_SAMPLES if looks_next else _VARIANCE_SAMPLES, limit)

    def judge(self, limit: float, measured: Round, *, slow_start: bool) -> tuple[float | None, bool]:
        """Decide what follows a round.

        Returns:
            The next limit, or `None` if it may grow; and whether a queue was seen.
        """
        self._rounds += 1
        if measured.samples >= _VARIANCE_SAMPLES:
            self._update_variance(measured.variance)
        distance, surplus, error = self._compare(limit, measured)
        if self._looked_from is not None:
            return self._end_look(self._looked_from, limit, measured, queue=surplus < -error)
        if self._anchor is None or error == math.inf:
            self._anchor = (limit, measured)
        elif distance > _LEAST_DISTANCE and abs(surplus) > STANDARD_ERRORS * error:
            if surplus > 0:
                if slow_start:
                    self._rounds = self._interval  # the limit had doubled: look below it at once
                back = max(self._anchor[0], GO_BACK_SHARE * limit)
                self._anchor = None
                return back, True
            self._anchor = (limit, measured)
        if not slow_start and self._rounds >= self._interval and limit >= 2 and measured.samples >= LEAST_SAMPLES:
            return self._look_down(limit, measured), False
        return None, False

    def _update_variance(self, variance: float) -> None:
        old = self._variance
        self._variance = variance if old is None else old + _VARIANCE_WEIGHT * (variance - old)

    def _compare(self, limit: float, measured: Round) -> tuple[float, float, float]:
        """Compare with the anchor, all as logarithms.

        Returns:
            How far the limit is above the anchor's; how far the latency is above the cost that is worth that limit; and
            the standard error of that, infinite if there are too few samples.
        """
        if self._anchor is None or self._variance is None:
            return 0.0, 0.0, math.inf
        anchor_limit, anchor = self._anchor
        if min(measured.samples, anchor.samples) < LEAST_SAMPLES:
            return 0.0, 0.0, math.inf
        distance = math.log(limit / anchor_limit)
        error = math.sqrt(self._variance * (1 / measured.samples + 1 / anchor.samples))
        return distance, measured.mean - anchor.mean - (1 - LEAST_GAIN) * distance, error

    def _look_down(self, limit: float, measured: Round) -> float:
        self._rounds = 0
        self._anchor, self._looked_from = (limit, measured), limit
        return limit * LOOK_DOWN_SHARE

    def _end_look(self, looked_from: float, limit: float, measured: Round, *, queue: bool) -> tuple[float, bool]:
        self._looked_from = None
        if queue:  # calls got faster in proportion: stay down, and look further
            self._interval = LOOK_DOWN_ROUNDS
            return self._look_down(limit, measured) if limit >= 2 else limit, True
        self._anchor, self._rounds = None, 0
        self._interval = min(2 * self._interval, LOOK_DOWN_MAX_ROUNDS)
        return looked_from, False
