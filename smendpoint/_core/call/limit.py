"""The concurrency limit: how many calls to an endpoint are in flight at once, measured while they run.

A refusal costs only a round trip, and it is itself the measurement: after a refusal, the limit is the number of calls
that the endpoint still runs for us. Without refusals the limit grows: it doubles at first (slow start), later in steps
that double with every round. A *round* is a period with one limit; it ends with as many answers as the limit. If calls
take long, silence counts as acceptance, because refusals come at once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from smendpoint._core.call.plateau import Plateau, Round
from smendpoint._core.frozen import Frozen
from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from smendpoint._core.call.load import Outcome

__all__ = ["AdaptiveConcurrency", "Limit"]

# Growth: the first step after a refusal, in calls. A step doubles with every round that was not refused.
FIRST_STEP = 0.25
# If the latency showed a queue, steps begin at this share of the limit: nothing is refused there.
STEP_SHARE = 0.125
# A call that was not refused for this many seconds, or for this many round trips of a refusal, was accepted. In slow
# start the shorter time counts: a refusal that comes later costs a round trip, but a slow start delays every short job.
SILENCE_SECONDS = 0.25
START_SILENCE_SECONDS = 0.02
SILENCE_ROUND_TRIPS = 4
# Silence alone raises the limit up to this many calls: an endpoint that has refused nothing may be queueing.
SILENCE_MAX = 64
# Seconds between probes that rely on silence. They double with each refused round, up to this many round trips of a
# success, and at most to the last number.
PROBE_SECONDS = 1.0
PROBE_ROUND_TRIPS = 2
PROBE_MAX_SECONDS = 16.0
# One refusal is forgiven, so that chance does not lower the limit; each success earns this share of the next one.
FORGIVEN_PER_SUCCESS = 0.3
# The share of the limit that is kept at a refusal, once per round trip: processes that share nothing balance each other
# by what they give up. A smaller limit gives up nothing.
KEPT_SHARE = 0.93
GIVES_BACK_FROM = 3
# The pause after a refusal while none of our calls is running: it grows by this factor up to this many seconds. A
# success moves it, by this share of the way on a logarithmic scale, toward this part of a success's round trip.
PAUSE_GROWTH = 1.3
PAUSE_MAX_SECONDS = 1.0
PAUSE_PULL = 0.25
PAUSE_ROUND_TRIPS = 0.25
# The pause between probes of an endpoint that is not ready. It grows like the one above.
COLD_PAUSE_SECONDS = 1.0
COLD_PAUSE_MAX_SECONDS = 5.0
# The share of the limit that is kept after a timeout, and after an error that load may have caused.
SLOW_SHARE = 0.5
UNSURE_SHARE = 0.9
# The shortest plausible round trip of a refusal, in seconds: refused calls are never sent again at once.
_LEAST_SECONDS = 0.0001
# The weights of a new round trip of a success, and of the older one of a refusal.
_SUCCESS_WEIGHT = 0.1
_REFUSAL_DECAY = 0.9


class AdaptiveConcurrency(Frozen):
    """Find out, from an endpoint's answers, how many calls it can take at once.

    The limit begins at `initial`. It grows while the endpoint accepts the calls. When the endpoint refuses one because
    of load, the limit falls to the number of calls that it runs. A refused call waits for a moment and is sent again,
    which does not count as an attempt.

    Args:
        initial: the number of calls in flight at first.
        minimum: the limit is never below this number of calls.
        maximum: the limit is never above this number of calls. Set it if latency matters more than throughput: a
        container that queues never refuses, and more calls only wait longer.
        refused: further signs, in the container's errors, that the model did not run because of load: a text that is
        part of the error's text, type or code, or the container's status (400 to 599).

    Raises:
        ConfigurationError: a number is not a whole number of at least 1, `initial` is not between `minimum` and
        `maximum`, or `refused` has something other than texts and statuses.
    """

    __slots__ = _fields = ("initial", "minimum", "maximum", "refused")

    initial: int
    minimum: int
    maximum: int
    refused: tuple[str | int, ...]

    def __init__(
        self,
        initial: int = 4,
        minimum: int = 1,
        maximum: int = 256,
        *,
        refused: Iterable[str | int] | str | int = (),
    ) -> None:
        for name, value in (("initial", initial), ("minimum", minimum), ("maximum", maximum)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigurationError(f"{name} must be a whole number of at least 1, not {value!r}")
        if not minimum <= initial <= maximum:
            raise ConfigurationError(
                f"initial must be from minimum to maximum: {initial} is not from {minimum} to {maximum}"
            )
        self._assign(initial, minimum, maximum, _markers(refused))

    def __repr__(self) -> str:
        return f"AdaptiveConcurrency({', '.join([f'{name}={getattr(self, name)!r}' for name in self._fields])})"


def _markers(refused: Any) -> tuple[str | int, ...]:
    try:
        markers = (refused,) if isinstance(refused, (str, int)) else tuple(refused)
    except TypeError:
        markers = (refused,)  # neither one marker nor several: an error below
    for marker in markers:
        text = isinstance(marker, str) and bool(marker.strip())
        status = isinstance(marker, int) and not isinstance(marker, bool) and 400 <= marker <= 599
        if not text and not status:
            raise ConfigurationError(f"refused must have non-empty texts, or statuses from 400 to 599, not {marker!r}")
    return markers


class Limit:
    """Decide whether one more call may start, from the outcomes of earlier calls.

    It has no clock and no lock: `now` is any monotonic number of seconds, and the owner calls it from one thread at a
    time. A call counts as running from a `try_start` that returned `True` until its `finished`.

    Args:
        config: the initial limit and its bounds.
        random: returns a number in [0, 1) each time.
        plateau: whether to use latency too, to find the capacity of a container that queues.

    Attributes:
        limit: the number of calls that may run at once; its whole part counts.
        running: the number of running calls. The owner may assign it, if an interrupt has falsified it.
    """

    __slots__ = (
        "_ceiling",
        "_cold",
        "_credit",
        "_cut_at",
        "_given_back_at",
        "_grows_at",
        "_maximum",
        "_minimum",
        "_pause",
        "_paused_until",
        "_plateau",
        "_probe_wait",
        "_queues",
        "_random",
        "_refusal_round_trip",
        "_refused",
        "_refused_since_growth",
        "_round",
        "_round_trip",
        "_slow_start",
        "_step",
        "limit",
        "running",
    )

    def __init__(self, config: AdaptiveConcurrency, random: Callable[[], float], *, plateau: bool = True) -> None:
        self.limit = float(config.initial)
        self.running = 0
        self._minimum, self._maximum = float(config.minimum), float(config.maximum)
        self._random = random
        self._plateau = Plateau() if plateau else None
        # Whether this endpoint was seen to refuse, to queue, or not to be ready.
        self._refused = self._queues = self._cold = False
        # Growth.
        self._slow_start = True
        self._step = FIRST_STEP
        self._round = Round(-math.inf)
        # Growth by silence: the moment of the next growth, its wait after a refusal, and the number of calls that were
        # running at the latest refusal.
        self._grows_at = -math.inf
        self._probe_wait = PROBE_SECONDS
        self._refused_since_growth = False
        self._ceiling = 0
        # Refusals and cuts.
        self._credit = 1.0
        self._given_back_at = self._cut_at = -math.inf
        self._pause = 0.0
        self._paused_until = -math.inf
        # Seconds from start to end: smoothed for successes, a recent maximum for refusals.
        self._round_trip = math.inf
        self._refusal_round_trip = _LEAST_SECONDS

    def try_start(self, now: float) -> bool:
        """Return whether one more call may start. If so, it counts as running."""
        if now < self._paused_until:
            return False
        if self._full():
            self._round.limited = True
            if not self._silence_counts() or now < self._grows_at:
                return False
            self._grow_by_silence(now)
        if self.running == 0:
            self._await_silence(now)
        self.running += 1
        return True

    def wake(self, now: float) -> float | None:
        """Return the moment from which `try_start` is `True` although no call finished; `None` if there is none."""
        if not self._full():
            return self._paused_until if now < self._paused_until else None
        return max(self._grows_at, self._paused_until, now) if self._silence_counts() else None

    def finished(self, outcome: Outcome, started: float, now: float, took: float | None = None) -> None:
        """Count the end of a call that `try_start` let start.

        Args:
            outcome: ``"ok"``; ``"refused"``: refused because of load, the model did not run; ``"cold"``: the endpoint
                is not ready; ``"slow"``: a timeout; ``"unsure"``: an error that load may have caused; ``"failed"``: an
                error that says nothing about load.
            started: when the call started.
            now: when it ended.
            took: its latency in seconds, if that is not ``now - started``: a stream's time to its first chunk.
        """
        self.running -= 1
        if outcome == "ok":
            self._succeed(started, now, now - started if took is None else took)
        elif outcome == "refused":
            self._refuse(started, now)
        elif outcome == "cold":
            self._wait_until_ready(started, now)
        elif outcome == "slow":
            self._slow_start, self._queues = False, True
            self._cut(SLOW_SHARE, started, now)
        elif outcome == "unsure":
            self._cut(UNSURE_SHARE, started, now)

    def refusal_delay(self) -> float:
        """Return the seconds after which a refused call may be sent again: about one round trip of a refusal."""
        return self._refusal_round_trip * self._jitter(0.5)

    def _jitter(self, spread: float) -> float:
        """Give a random factor, from ``1 - spread`` to ``1 + spread``."""
        return 1 - spread + 2 * spread * self._random()

    def _full(self) -> bool:
        return self.running >= (1 if self._cold else int(self.limit))

    def _begin_round(self, now: float) -> None:
        self._round = Round(now)

    # Growth

    def _silence_counts(self) -> bool:
        """Return whether silent calls count as accepted, so that one more may start."""
        if self._cold or self._queues or self.running > int(self.limit):
            return False
        if self._plateau is not None and self._plateau.looking_down:
            return False
        growing = self._slow_start or self._refused or self._step >= 1
        return growing and self.limit < self._silence_maximum()

    def _silence_maximum(self) -> float:
        return self._maximum if self._refused else min(SILENCE_MAX, self._maximum)

    def _grow_by_silence(self, now: float) -> None:
        if not self._refused_since_growth and self.limit > self._ceiling + 1:
            self._probe_wait = PROBE_SECONDS  # the endpoint runs more calls than when it refused: probe quickly again
        self._step = max(1.0, self._step)
        self._grow(now, self._silence_maximum())

    def _grow(self, now: float, maximum: float) -> None:
        step = self.limit if self._slow_start else min(self._step, self.limit)
        self.limit = min(maximum, self.limit + step)
        if not self._slow_start:
            self._step = 2 * step
        self._refused_since_growth = False
        self._await_silence(now)
        self._begin_round(now)

    def _await_silence(self, now: float) -> None:
        silence = START_SILENCE_SECONDS if self._slow_start else SILENCE_SECONDS
        silence = max(silence, SILENCE_ROUND_TRIPS * self._refusal_round_trip)
        self._grows_at = max(self._grows_at, now + silence)

    def _succeed(self, started: float, now: float, took: float) -> None:
        if self._cold:
            self._cold, self._pause, self._paused_until = False, 0.0, now
            self._await_silence(now)
        round_trip = now - started
        if self._round_trip < math.inf:
            round_trip = self._round_trip + _SUCCESS_WEIGHT * (round_trip - self._round_trip)
        self._round_trip = round_trip
        self._credit = min(1.0, self._credit + FORGIVEN_PER_SUCCESS)
        if self._pause:
            target = max(self._refusal_round_trip, min(PAUSE_MAX_SECONDS, PAUSE_ROUND_TRIPS * round_trip))
            self._pause = min(PAUSE_MAX_SECONDS, self._pause ** (1 - PAUSE_PULL) * target**PAUSE_PULL)
        if started >= self._round.began:  # calls of an earlier round say nothing about this limit
            self._round.add(math.log(max(took, _LEAST_SECONDS)))
            if self._round.samples >= self._samples_needed():
                self._end_round(now)

    def _samples_needed(self) -> float:
        if self._slow_start:
            return self.limit / 2
        return self.limit if self._plateau is None else self._plateau.samples_needed(self.limit)

    def _end_round(self, now: float) -> None:
        if not self._round.limited and self.running + 1 < int(self.limit):
            return self._begin_round(now)  # the limit was not reached: there is nothing to learn
        limit, queue = None, False
        if self._plateau is not None:
            limit, queue = self._plateau.judge(self.limit, self._round, slow_start=self._slow_start)
        if queue:
            self._slow_start, self._queues = False, True
        if limit is None:
            return self._grow(now, self._maximum)
        self.limit = max(self._minimum, limit)
        self._step = max(FIRST_STEP, STEP_SHARE * self.limit)
        return self._begin_round(now)

    # Refusals, timeouts and cold starts

    def _refuse(self, started: float, now: float) -> None:
        self._refused = self._refused_since_growth = True
        round_trip = max(now - started, _LEAST_SECONDS)
        self._refusal_round_trip = max(_REFUSAL_DECAY * self._refusal_round_trip, round_trip)
        if self.running == 0:  # calls come too fast, or other clients take all of the capacity
            self._lengthen_pause(now, round_trip, PAUSE_MAX_SECONDS)
        self._grows_at = max(self._grows_at, now + self._probe_wait * self._jitter(0.25))
        if self._credit >= 1:
            self._credit -= 1
            return
        if started >= self._round.began:  # the first of this round
            self._begin_round(now)
            self._ceiling = self.running
            most = max(PROBE_SECONDS, min(PROBE_MAX_SECONDS, PROBE_ROUND_TRIPS * self._round_trip))
            self._probe_wait = min(2 * self._probe_wait, most)
        self.limit = max(self._minimum, min(self.limit, float(self.running)))
        if self.limit >= GIVES_BACK_FROM and now - self._given_back_at > self._round_trip:
            self._given_back_at = now
            kept = KEPT_SHARE * self.limit
            # Rounded at random: otherwise a share of a small limit would never, or always, be a whole call.
            self.limit = max(self._minimum, float(int(kept) + (self._random() < kept % 1)))
        self._slow_start = self._queues = False
        self._step = FIRST_STEP
        if self._plateau is not None:
            self._plateau.reset()

    def _lengthen_pause(self, now: float, least: float, most: float) -> None:
        """Let nothing start for a moment."""
        self._pause = min(most, max(PAUSE_GROWTH * self._pause, least))
        self._paused_until = now + self._pause * self._jitter(0.5)

    def _wait_until_ready(self, started: float, now: float) -> None:
        if not self._cold or started >= self._round.began:  # several that started together count once
            self._cold = True
            self._begin_round(now)
            self._lengthen_pause(now, COLD_PAUSE_SECONDS, COLD_PAUSE_MAX_SECONDS)

    def _cut(self, share: float, started: float, now: float) -> None:
        """Lower the limit, unless the call started before the latest cut: earlier calls say nothing new."""
        if started >= self._cut_at:
            self._cut_at = now
            self.limit = max(self._minimum, share * self.limit)
            self._step = FIRST_STEP
            self._begin_round(now)
