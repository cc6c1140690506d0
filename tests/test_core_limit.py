"""The concurrency limit: each rule and each constant, without a server."""

from __future__ import annotations

import copy
import math
import pickle
from random import Random
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smendpoint import AdaptiveConcurrency, ConfigurationError
from smendpoint._core.call import limit as rule
from smendpoint._core.call import plateau
from smendpoint._core.call.limit import Limit
from smendpoint._core.call.load import Outcome

MIDDLE = 0.5  # chance that gives each jitter its middle, and rounds down what is given back


def make_limit(
    initial: int = 4, minimum: int = 1, maximum: int = 1000, *, chance: float = MIDDLE, **options: Any
) -> Limit:
    return Limit(AdaptiveConcurrency(initial, minimum, maximum), lambda: chance, **options)


def fill(limit: Limit, now: float) -> int:
    """Start as many calls as may start, and give their number."""
    before = limit.running
    while limit.try_start(now):
        pass
    return limit.running - before


def run_round(limit: Limit, now: float, took: float = 0.1) -> float:
    """Start what may start, and let all of it succeed one after another; give the time after it."""
    fill(limit, now)
    now += took
    for _ in range(limit.running):
        limit.finished("ok", now - took, now)
    return now


def refuse_down(limit: Limit, now: float, running: int) -> float:
    """Let an endpoint refuse all but so many calls; give the time after it."""
    fill(limit, now)
    while limit.running > running:
        limit.finished("refused", now, now + 0.002)
    return now + 0.002


def grow(limit: Limit, now: float) -> float:
    """Run rounds until the limit has grown; give the time after it."""
    before = limit.limit
    while limit.limit == before:
        now = run_round(limit, now)
    return now


def waits_between_refused_probes(limit: Limit, now: float, probes: int) -> list[float]:
    """Refuse each probe by silence, and give the seconds until the next may start."""
    waits = []
    for _ in range(probes):
        assert limit.try_start(now)
        limit.finished("refused", now, now)
        limit.running = int(limit.limit)  # whatever was given back has ended
        woken = limit.wake(now)
        assert woken is not None
        waits.append(woken - now)
        now = woken
    return waits


class TestConfiguration:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"initial": 0}, "initial must be a whole number of at least 1, not 0"),
            ({"minimum": True}, "minimum must be a whole number of at least 1, not True"),
            ({"maximum": 8.0}, r"maximum must be a whole number of at least 1, not 8\.0"),
            ({"initial": 300}, "300 is not from 1 to 256"),
            ({"initial": 1, "minimum": 2}, "1 is not from 2 to 256"),
            ({"refused": [""]}, "refused must have non-empty texts, or statuses from 400 to 599, not ''"),
            ({"refused": 399}, "statuses from 400 to 599, not 399"),
            ({"refused": [503, 600]}, "statuses from 400 to 599, not 600"),
            ({"refused": [True]}, "statuses from 400 to 599, not True"),
            ({"refused": None}, "statuses from 400 to 599, not None"),
            ({"refused": [b"full"]}, "statuses from 400 to 599, not b'full'"),
        ],
    )
    def test_a_value_that_cannot_be_meant_is_refused(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            AdaptiveConcurrency(**arguments)

    @pytest.mark.parametrize(
        ("refused", "kept"),
        [("queue is full", ("queue is full",)), (503, (503,)), (["full", 503], ("full", 503)), (iter([400]), (400,))],
    )
    def test_one_marker_or_several_are_kept_as_a_tuple(self, refused: Any, kept: tuple[str | int, ...]) -> None:
        assert AdaptiveConcurrency(refused=refused).refused == kept

    def test_it_is_a_value(self) -> None:
        config = AdaptiveConcurrency(8, 2, 32, refused=["full", 503])
        assert repr(config) == "AdaptiveConcurrency(initial=8, minimum=2, maximum=32, refused=('full', 503))"
        assert config == AdaptiveConcurrency(initial=8, minimum=2, maximum=32, refused=("full", 503))
        assert config != AdaptiveConcurrency(8, 2, 32)
        assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config
        with pytest.raises(AttributeError, match="AdaptiveConcurrency cannot be changed"):
            config.initial = 1


class TestSlots:
    def test_as_many_calls_start_as_the_limit_has(self) -> None:
        assert fill(make_limit(initial=6), 0.0) == 6

    @pytest.mark.parametrize("outcome", get_args(Outcome))
    def test_every_outcome_frees_its_slot(self, outcome: Outcome) -> None:
        limit = make_limit()
        assert limit.try_start(0.0)
        limit.finished(outcome, 0.0, 1.0)
        assert limit.running == 0

    def test_failures_do_not_move_the_limit(self) -> None:
        limit = make_limit(initial=16)
        for count in range(500):
            assert limit.try_start(float(count))
            limit.finished("failed", float(count), count + 0.01)
        assert limit.limit == 16
        assert limit.wake(500.0) is None

    def test_the_owner_may_heal_the_count(self) -> None:
        limit = make_limit(initial=4)
        assert fill(limit, 0.0) == 4
        limit.running = 1
        assert fill(limit, 0.0) == 3


class TestSlowStart:
    def test_the_limit_doubles_once_half_of_a_round_has_succeeded(self) -> None:
        limit = make_limit(initial=8)
        assert fill(limit, 0.0) == 8
        for answered in range(4):
            assert limit.limit == 8, answered
            limit.finished("ok", 0.0, 0.1)
        assert limit.limit == 16

    def test_answers_to_calls_of_an_earlier_round_do_not_count(self) -> None:
        limit = make_limit(initial=8)
        fill(limit, 0.0)
        for _ in range(8):
            limit.finished("ok", 0.0, 0.1)
        assert limit.limit == 16

    def test_it_stops_at_the_maximum(self) -> None:
        limit, now = make_limit(initial=4, maximum=11), 0.0
        for _ in range(5):
            now = run_round(limit, now)
        assert limit.limit == 11

    def test_a_limit_that_is_not_used_up_does_not_grow(self) -> None:
        limit = make_limit(initial=8)
        for second in range(3600):
            assert limit.try_start(float(second))
            limit.finished("ok", float(second), second + 0.5)
        assert limit.limit == 8

    @pytest.mark.parametrize("outcome", ["refused", "slow"])
    def test_a_refusal_or_a_time_out_ends_it(self, outcome: Outcome) -> None:
        limit = make_limit(initial=64)
        fill(limit, 0.0)
        for _ in range(56):
            limit.finished(outcome, 0.0, 0.002)
        before = limit.limit
        now = 1.0
        limit.running = 0
        for _ in range(3):
            now = grow(limit, now)
        assert limit.limit - before == rule.FIRST_STEP * 7


class TestSilence:
    def test_a_call_that_was_not_refused_for_some_time_was_accepted(self) -> None:
        limit = make_limit(initial=1)
        assert fill(limit, 0.0) == 1
        assert limit.wake(0.0) == rule.START_SILENCE_SECONDS
        assert not limit.try_start(rule.START_SILENCE_SECONDS - 1e-6)
        assert fill(limit, rule.START_SILENCE_SECONDS) == 1

    def test_after_slow_start_that_time_is_longer(self) -> None:
        limit = make_limit(initial=8)
        now = refuse_down(limit, 0.0, 4)
        now += 100
        assert fill(limit, now)
        assert limit.wake(now) == now + rule.SILENCE_SECONDS

    def test_silence_is_longer_where_refusals_take_long(self) -> None:
        limit = make_limit(initial=1)
        fill(limit, 0.0)
        limit.finished("refused", 0.0, 0.5)  # forgiven
        assert fill(limit, 100.0) == 1
        assert limit.wake(100.0) == 100 + rule.SILENCE_ROUND_TRIPS * 0.5

    def test_idle_time_is_not_silence(self) -> None:
        limit = make_limit(initial=4)
        for now in (0.0, 3600.0):
            assert fill(limit, now) == 4
            assert limit.wake(now) == now + rule.START_SILENCE_SECONDS
            for _ in range(4):
                limit.finished("failed", now, now)

    def test_silence_alone_reaches_64_calls_in_less_than_two_seconds_and_goes_no_further(self) -> None:
        limit, now = make_limit(initial=1), 0.0
        while now < 2.0:
            fill(limit, now)
            now += 0.01
        assert limit.running == rule.SILENCE_MAX
        assert limit.wake(now) is None

    @pytest.mark.parametrize("initial", [3, 5, 63])
    def test_the_last_growth_by_silence_ends_exactly_there(self, initial: int) -> None:
        limit, now = make_limit(initial=initial), 0.0
        while now < 3.0:
            fill(limit, now)
            now += 0.25
        assert limit.limit == rule.SILENCE_MAX

    def test_an_endpoint_that_has_refused_is_probed_beyond_that_by_silence(self) -> None:
        limit = make_limit(initial=200)
        now = refuse_down(limit, 0.0, 100)
        for _ in range(1000):
            now += 0.1
            fill(limit, now)
        assert limit.limit > 110

    @pytest.mark.parametrize(
        ("round_trip", "waits"),
        [
            (0.1, [rule.PROBE_SECONDS] * 5),
            (3.0, [2.0, 4.0, 6.0, 6.0, 6.0]),
            (100.0, [2.0, 4.0, 8.0, rule.PROBE_MAX_SECONDS, rule.PROBE_MAX_SECONDS]),
        ],
    )
    def test_probes_by_silence_become_rarer_while_they_are_refused(self, round_trip: float, waits: list[float]) -> None:
        limit = make_limit(initial=20)
        fill(limit, 0.0)
        limit.finished("ok", -round_trip, 0.0)
        refuse_down(limit, 0.0, 2)
        assert waits_between_refused_probes(limit, 1000.0, 5) == waits

    def test_probes_are_frequent_again_once_more_calls_run_than_when_one_was_refused(self) -> None:
        limit = make_limit(initial=20)
        fill(limit, 0.0)
        limit.finished("ok", -100.0, 0.0)
        refuse_down(limit, 0.0, 2)
        waits_between_refused_probes(limit, 1000.0, 5)
        for now in (2000.0, 2001.0, 2002.0, 2003.0):
            assert fill(limit, now)
        assert waits_between_refused_probes(limit, 3000.0, 2) == [rule.PROBE_SECONDS, 2 * rule.PROBE_SECONDS]

    @pytest.mark.parametrize(("chance", "wait"), [(0.0, 0.75), (0.5, 1.0)])
    def test_processes_that_were_refused_together_do_not_probe_together(self, chance: float, wait: float) -> None:
        limit = make_limit(initial=2, chance=chance)
        fill(limit, 0.0)
        limit.running = 3
        limit.finished("refused", 0.0, 0.0)
        assert limit.wake(0.0) == wait * rule.PROBE_SECONDS

    def test_growth_by_silence_is_a_whole_call_at_least(self) -> None:
        limit = make_limit(initial=20)
        now = refuse_down(limit, 0.0, 10)
        while limit.running > limit.limit:
            limit.finished("failed", 0.0, now)
        woken = limit.wake(now)
        assert woken is not None
        assert limit.try_start(woken)

    def test_calls_beyond_a_limit_that_was_cut_are_not_taken_as_accepted(self) -> None:
        limit = make_limit(initial=20)
        fill(limit, 0.0)
        limit.finished("unsure", 0.0, 0.1)
        assert limit.running > limit.limit
        assert limit.wake(0.1) is None


class TestRefusals:
    def test_a_burst_of_refusals_is_one_step_down_to_what_still_runs(self) -> None:
        limit = make_limit(initial=64)
        assert fill(limit, 0.0) == 64
        for _ in range(56):
            limit.finished("refused", 0.0, 0.002)
        assert limit.running == 8
        assert limit.limit == 8

    def test_late_refusals_of_an_old_round_take_nothing_more_than_what_does_not_run(self) -> None:
        limit = make_limit(initial=64)
        fill(limit, 0.0)
        for count in range(20):
            limit.finished("refused", 0.0, 0.002 + count * 1e-4)
        assert limit.limit == 44

    def test_one_stray_refusal_is_forgiven_and_successes_earn_the_next(self) -> None:
        limit = make_limit(initial=16)
        fill(limit, 0.0)
        limit.finished("refused", 0.0, 0.002)
        assert limit.limit == 16
        for _ in range(math.ceil(1 / rule.FORGIVEN_PER_SUCCESS)):
            limit.finished("ok", 0.0, 0.1)
        limit.finished("refused", 0.0, 0.1)
        assert limit.limit == 16
        limit.finished("refused", 0.0, 0.1)
        assert limit.limit == int(rule.KEPT_SHARE * limit.running)

    def test_no_more_than_one_is_ever_forgiven(self) -> None:
        limit = make_limit(initial=16)
        fill(limit, 0.0)
        for _ in range(5):
            limit.finished("ok", 0.0, 0.1)
        for _ in range(2):
            limit.finished("refused", 0.0, 0.1)
        assert limit.limit == int(rule.KEPT_SHARE * limit.running)

    def test_the_minimum_holds(self) -> None:
        limit = make_limit(initial=16, minimum=5)
        refuse_down(limit, 0.0, 0)
        assert limit.limit == 5

    def test_steps_double_with_each_round_that_was_not_refused(self) -> None:
        limit = make_limit(initial=64)
        now, limits = refuse_down(limit, 0.0, 16) + 1.0, []
        limit.running = 0
        for _ in range(4):
            now = grow(limit, now)
            limits.append(limit.limit - 16)
        assert limits == [rule.FIRST_STEP * (2**rounds - 1) for rounds in (1, 2, 3, 4)]

    @pytest.mark.parametrize(("chance", "kept"), [(0.0, 15.0), (0.99, 14.0)])
    def test_a_refusal_gives_a_share_back_once_a_round_trip(self, chance: float, kept: float) -> None:
        limit = make_limit(initial=16, chance=chance)
        fill(limit, 0.0)
        limit.finished("ok", -1.0, 0.0)  # the round trip of a success is 1 s
        limit.running = 18
        for _ in range(2):
            limit.finished("refused", 0.0, 0.002)
        assert limit.limit == kept
        assert int(16 * rule.KEPT_SHARE) == 14  # 14.88 is rounded at random
        limit.running = 30
        limit.finished("refused", 0.0, 0.9)
        assert limit.limit == kept
        limit.running = 30
        limit.finished("refused", 0.0, 1.1)
        assert limit.limit < kept

    def test_a_small_limit_gives_nothing_back(self) -> None:
        limit = make_limit(initial=rule.GIVES_BACK_FROM, chance=0.99)
        fill(limit, 0.0)
        limit.finished("ok", -1.0, 0.0)
        for _ in range(2):
            limit.running = rule.GIVES_BACK_FROM
            limit.finished("refused", 0.0, 0.002)
        assert limit.limit == rule.GIVES_BACK_FROM - 1
        for second in range(5):
            limit.running = rule.GIVES_BACK_FROM
            limit.finished("refused", 10.0 * second, 10.0 * second + 0.002)
        assert limit.limit == rule.GIVES_BACK_FROM - 1

    def test_nothing_is_given_back_before_the_first_success(self) -> None:
        limit = make_limit(initial=16)
        fill(limit, 0.0)
        for _ in range(4):
            limit.finished("refused", 0.0, 0.002)
        assert limit.limit == 12

    @pytest.mark.parametrize(("chance", "factor"), [(0.0, 0.5), (0.5, 1.0)])
    def test_a_refused_call_goes_again_after_about_the_round_trip_of_a_refusal(
        self, chance: float, factor: float
    ) -> None:
        limit = make_limit(chance=chance)
        fill(limit, 0.0)
        limit.finished("refused", 0.0, 0.2)
        assert limit.refusal_delay() == pytest.approx(0.2 * factor)
        limit.finished("refused", 0.2, 0.21)
        assert limit.refusal_delay() == pytest.approx(0.18 * factor)

    def test_a_refused_call_never_goes_again_at_once(self) -> None:
        limit = make_limit(chance=0.0)
        fill(limit, 0.0)
        limit.finished("refused", 0.0, 0.0)
        assert limit.refusal_delay() > 0


class TestPauses:
    def test_a_refusal_with_nothing_running_lets_nothing_start_for_a_round_trip(self) -> None:
        limit = make_limit()
        assert limit.try_start(0.0)
        limit.finished("refused", 0.0, 0.2)
        assert not limit.try_start(0.2)
        assert limit.wake(0.2) == pytest.approx(0.4)
        assert not limit.try_start(0.39)
        assert limit.try_start(0.41)

    def test_a_refusal_while_others_run_is_no_reason_to_pause(self) -> None:
        limit = make_limit()
        fill(limit, 0.0)
        limit.finished("refused", 0.0, 0.2)
        assert limit.try_start(0.2)

    def test_pauses_grow_by_a_share_up_to_the_longest(self) -> None:
        limit, now, pauses = make_limit(), 0.0, []
        for _ in range(30):
            assert limit.try_start(now)
            limit.finished("refused", now, now + 0.01)
            pauses.append((limit.wake(now + 0.01) or math.nan) - now - 0.01)
            now = (limit.wake(now + 0.01) or math.nan) + 1e-9
        assert pauses[:3] == pytest.approx([0.01, 0.01 * rule.PAUSE_GROWTH, 0.01 * rule.PAUSE_GROWTH**2])
        assert pauses[-1] == pytest.approx(rule.PAUSE_MAX_SECONDS)

    def test_a_success_pulls_the_pause_towards_a_part_of_its_round_trip(self) -> None:
        limit = make_limit()
        for second in range(30):
            limit.running = 1
            limit.finished("refused", 10.0 * second, 10.0 * second + 0.01)
        limit.running = 1
        limit.finished("ok", 999.9, 1000.0)  # a round trip of 0.1 s: the pause of 1 s goes to 0.025 s
        limit.running = 1
        limit.finished("refused", 2000.0, 2000.01)
        pulled = rule.PAUSE_MAX_SECONDS ** (1 - rule.PAUSE_PULL) * (0.1 * rule.PAUSE_ROUND_TRIPS) ** rule.PAUSE_PULL
        assert (limit.wake(2000.01) or math.nan) - 2000.01 == pytest.approx(rule.PAUSE_GROWTH * pulled)

    def test_all_is_refused_for_ten_seconds_without_a_busy_loop(self) -> None:
        limit, now, tries = make_limit(), 0.0, 0
        while now < 10.0:
            if limit.try_start(now):
                tries += 1
                limit.finished("refused", now, now + 0.002)
            now = max(now + 0.002, limit.wake(now + 0.002) or 0.0)
        assert 10 <= tries < 200


class TestColdStarts:
    def test_one_call_at_a_time_probes_an_endpoint_that_is_not_ready(self) -> None:
        limit = make_limit(initial=8)
        fill(limit, 0.0)
        limit.finished("cold", 0.0, 0.01)
        assert limit.wake(0.01) is None  # seven run: one of them will say more
        for _ in range(7):
            limit.finished("cold", 0.0, 0.01)
        assert limit.wake(0.01) == pytest.approx(0.01 + rule.COLD_PAUSE_SECONDS)
        assert fill(limit, 0.02) == 0
        assert fill(limit, 2.0) == 1
        assert limit.wake(2.0) is None
        assert fill(limit, 1000.0) == 0  # a probe that takes long is not taken as accepted

    def test_pauses_between_probes_grow_up_to_the_longest(self) -> None:
        limit, now, pauses = make_limit(), 0.0, []
        for _ in range(20):
            assert limit.try_start(now)
            limit.finished("cold", now, now)
            woken = limit.wake(now)
            assert woken is not None
            pauses.append(woken - now)
            now = woken
        assert pauses[:2] == pytest.approx([rule.COLD_PAUSE_SECONDS, rule.COLD_PAUSE_SECONDS * rule.PAUSE_GROWTH])
        assert pauses[-1] == pytest.approx(rule.COLD_PAUSE_MAX_SECONDS)

    def test_a_success_ends_it_with_the_limit_as_it_was(self) -> None:
        limit = make_limit(initial=8)
        fill(limit, 0.0)
        for _ in range(8):
            limit.finished("cold", 0.0, 0.01)
        assert limit.try_start(2.0)
        limit.finished("ok", 2.0, 60.0)
        assert limit.limit == 8
        assert fill(limit, 60.0) == 8
        assert limit.wake(60.0) == 60.0 + rule.START_SILENCE_SECONDS

    def test_answers_from_before_it_are_not_samples(self) -> None:
        limit = make_limit(initial=8)
        fill(limit, 0.0)
        limit.finished("cold", 0.0, 0.01)
        for _ in range(7):
            limit.finished("ok", 0.0, 0.1)
        assert limit.limit == 8


class TestTimeOuts:
    @pytest.mark.parametrize(("outcome", "share"), [("slow", rule.SLOW_SHARE), ("unsure", rule.UNSURE_SHARE)])
    def test_it_cuts_the_limit_at_most_once_a_round_trip(self, outcome: Outcome, share: float) -> None:
        limit = make_limit(initial=100)
        fill(limit, 0.0)
        for _ in range(90):
            limit.finished(outcome, 0.0, 70.0)
        assert limit.limit == 100 * share
        assert limit.try_start(80.0)
        limit.finished(outcome, 80.0, 150.0)
        assert limit.limit == 100 * share * share

    @pytest.mark.parametrize("outcome", ["slow", "unsure"])
    def test_the_minimum_holds(self, outcome: Outcome) -> None:
        limit = make_limit(initial=4, minimum=3)
        for second in range(100):
            assert limit.try_start(float(second))
            limit.finished(outcome, float(second), second + 0.5)
        assert limit.limit == 3

    def test_silence_is_not_acceptance_after_a_time_out(self) -> None:
        limit = make_limit(initial=4)
        fill(limit, 0.0)
        limit.finished("slow", 0.0, 0.1)
        while limit.running > limit.limit:
            limit.finished("failed", 0.0, 0.1)
        assert limit.wake(0.1) is None
        assert fill(limit, 3600.0) == 0

    def test_rounds_raise_the_limit_again(self) -> None:
        limit = make_limit(initial=64)
        fill(limit, 0.0)
        limit.finished("slow", 0.0, 60.0)
        limit.running, now = 0, 60.0
        for _ in range(7):
            now = grow(limit, now)
        assert limit.limit == 32 + rule.FIRST_STEP * 127


class TestWithoutPlateau:
    """A limit that was given as a plain number."""

    def test_it_begins_at_the_number_and_comes_back_to_it(self) -> None:
        limit = make_limit(initial=32, maximum=32, plateau=False)
        now = refuse_down(limit, 0.0, 8) + 1.0
        limit.running = 0
        while limit.limit < 32:
            now = grow(limit, now)
        assert limit.limit == 32

    def test_latency_that_grows_in_proportion_does_not_stop_growth(self) -> None:
        limit, now = make_limit(initial=1, plateau=False), 0.0
        for _ in range(7):
            now = run_round(limit, now, took=limit.limit)
        assert limit.limit == 128

    def test_it_never_looks_down(self) -> None:
        limit, now = make_limit(initial=32, maximum=32, plateau=False), 0.0
        for _ in range(200):
            now = run_round(limit, now)
            assert limit.limit == 32


class TestPlateau:
    def test_latency_that_grows_in_proportion_stops_the_doubling_and_starts_a_look_down(self) -> None:
        limit, now, limits = make_limit(initial=16), 0.0, []
        for _ in range(3):  # 16 workers: more calls only wait longer
            now = run_round(limit, now, took=max(16, limit.limit) / 16)
            limits.append(limit.limit)
        assert limits == [32, 16, 16 * plateau.LOOK_DOWN_SHARE]

    def test_steps_after_a_queue_was_seen_are_a_share_of_the_limit(self) -> None:
        limit, now = make_limit(initial=16), 0.0
        for _ in range(2):
            now = run_round(limit, now, took=max(16, limit.limit) / 16)
        while limit.limit <= 16:
            now = run_round(limit, now)
        assert limit.limit == 16 + 16 * rule.STEP_SHARE

    def test_latency_that_does_not_grow_lets_it_double(self) -> None:
        limit, now = make_limit(initial=16), 0.0
        for _ in range(5):
            now = run_round(limit, now)
        assert limit.limit == 512

    def test_a_stream_is_judged_by_its_first_chunk(self) -> None:
        limit, now = make_limit(initial=16), 0.0
        for _ in range(5):
            fill(limit, now)
            for _ in range(limit.running):
                limit.finished("ok", now, now + limit.limit, took=0.1)
            now += 1000.0
        assert limit.limit == 512

    def test_silence_is_not_acceptance_where_calls_queue(self) -> None:
        limit, now = make_limit(initial=16), 0.0
        for _ in range(8):
            now = run_round(limit, now, took=max(16, limit.limit) / 16)
        fill(limit, now)
        assert limit.wake(now) is None

    def test_silence_is_not_acceptance_while_it_looks_down(self) -> None:
        limit = make_limit(initial=16, maximum=16)
        now = refuse_down(limit, 0.0, 12) + 100.0
        limit.running = 0
        for _ in range(100):
            now = run_round(limit, now)
            if limit.limit < 12:
                break
        assert limit.limit == pytest.approx(16 * plateau.LOOK_DOWN_SHARE)
        fill(limit, now)
        assert limit.wake(now) is None


def measured(samples: int, latency: float, *, spread: float = 0.0) -> plateau.Round:
    """Make a round with so many latencies, half of them above and half of them below."""
    round_ = plateau.Round(0.0)
    for index in range(samples):
        round_.add(math.log(latency) + (spread if index % 2 else -spread))
    return round_


class TestComparisonOfRounds:
    def test_a_round_has_the_mean_and_the_variance_of_its_logarithms(self) -> None:
        assert measured(10, 2.0, spread=0.3).mean == pytest.approx(math.log(2.0))
        assert measured(10, 2.0, spread=0.3).variance == pytest.approx(0.09 * 10 / 9)
        assert measured(10, 2.0).variance == pytest.approx(0.0)

    @pytest.mark.parametrize(
        ("elasticity", "limit"),  # of the latency: with 0 nothing waits, with 1 all of the rest waits
        [(0.0, None), (1 - plateau.LEAST_GAIN - 0.02, None), (1 - plateau.LEAST_GAIN + 0.02, 16.0), (1.0, 16.0)],
    )
    def test_more_load_must_bring_a_share_of_more_work(self, elasticity: float, limit: float | None) -> None:
        test = plateau.Plateau()
        assert test.judge(16.0, measured(16, 1.0), slow_start=True) == (None, False)
        assert test.judge(32.0, measured(32, 2.0**elasticity), slow_start=True) == (limit, limit is not None)

    @pytest.mark.parametrize(("errors", "queue"), [(plateau.STANDARD_ERRORS - 0.1, False), (1.6, True)])
    def test_a_difference_within_the_noise_does_not_count(self, errors: float, queue: bool) -> None:
        test = plateau.Plateau()
        test.judge(16.0, measured(1000, 1.0, spread=0.5), slow_start=True)
        noise = math.sqrt(0.25 * 2 / 1000)
        latency = math.exp((1 - plateau.LEAST_GAIN) * math.log(2) + errors * noise)
        assert test.judge(32.0, measured(1000, latency, spread=0.5), slow_start=True)[1] is queue

    @pytest.mark.parametrize(("samples", "queue"), [(plateau.LEAST_SAMPLES - 1, False), (plateau.LEAST_SAMPLES, True)])
    @pytest.mark.parametrize("few", ["anchor", "latest"])
    def test_rounds_with_few_answers_are_not_compared(self, samples: int, queue: bool, few: str) -> None:
        test = plateau.Plateau()
        test.judge(16.0, measured(samples if few == "anchor" else 100, 1.0), slow_start=True)
        latest = measured(samples if few == "latest" else 100, 4.0)
        assert test.judge(32.0, latest, slow_start=True)[1] is queue

    def test_limits_that_are_close_are_not_compared(self) -> None:
        test = plateau.Plateau()
        test.judge(16.0, measured(16, 1.0), slow_start=True)
        assert test.judge(19.0, measured(19, 4.0), slow_start=True) == (None, False)

    def test_a_round_that_was_worth_it_is_the_next_anchor(self) -> None:
        test = plateau.Plateau()
        test.judge(16.0, measured(16, 1.0), slow_start=True)
        test.judge(32.0, measured(32, 1.0), slow_start=True)
        assert test.judge(64.0, measured(64, 2.0), slow_start=True) == (32.0, True)

    def test_it_goes_back_by_half_at_most(self) -> None:
        test = plateau.Plateau()
        test.judge(16.0, measured(100, 1.0), slow_start=False)
        back = 100.0 * plateau.GO_BACK_SHARE
        assert test.judge(100.0, measured(100, 100.0), slow_start=False) == (back, True)

    def test_it_looks_down_after_some_rounds_and_comes_back_where_calls_get_no_faster(self) -> None:
        test, looks = plateau.Plateau(), []
        for number in range(300):
            limit, queue = test.judge(20.0, measured(64, 1.0), slow_start=False)
            assert not queue
            if test.looking_down:
                assert limit == 20.0 * plateau.LOOK_DOWN_SHARE
                assert test.samples_needed(limit) == plateau.LOOK_DOWN_SAMPLES
                assert test.judge(limit, measured(64, 1.0), slow_start=False) == (20.0, False)
                looks.append(number + 1 - sum(looks))
        assert looks == [
            plateau.LOOK_DOWN_ROUNDS,
            16,
            32,
            plateau.LOOK_DOWN_MAX_ROUNDS,
            plateau.LOOK_DOWN_MAX_ROUNDS,
            64,
        ]

    def test_it_stays_down_and_looks_further_where_calls_get_faster_in_proportion(self) -> None:
        test, limit, latency, seen = plateau.Plateau(), 100.0, 100.0, []
        for _ in range(plateau.LOOK_DOWN_ROUNDS + 4):
            following, queue = test.judge(limit, measured(100, latency), slow_start=False)
            if following is not None:
                limit = following
                latency = max(30.0, limit)  # 30 workers
                seen.append((round(limit), queue))
        assert seen[:4] == [(60, False), (36, True), (22, True), (36, False)]

    def test_it_looks_down_with_two_calls_at_least(self) -> None:
        test = plateau.Plateau()
        for _ in range(100):
            assert test.judge(1.5, measured(8, 1.0), slow_start=False) == (None, False)

    def test_it_does_not_look_down_while_the_limit_doubles(self) -> None:
        test = plateau.Plateau()
        for _ in range(100):
            assert test.judge(16.0, measured(8, 1.0), slow_start=True) == (None, False)

    def test_a_look_down_is_compared_with_a_round_of_enough_answers(self) -> None:
        test = plateau.Plateau()
        assert test.samples_needed(1.0) == 4
        for _ in range(plateau.LOOK_DOWN_ROUNDS - 1):
            test.judge(2.0, measured(4, 1.0), slow_start=False)
        assert test.samples_needed(2.0) == plateau.LEAST_SAMPLES
        assert test.judge(2.0, measured(7, 1.0), slow_start=False) == (None, False)
        assert test.judge(2.0, measured(8, 1.0), slow_start=False)[0] == 2.0 * plateau.LOOK_DOWN_SHARE

    def test_a_refusal_ends_the_look_down(self) -> None:
        test = plateau.Plateau()
        for _ in range(plateau.LOOK_DOWN_ROUNDS):
            test.judge(20.0, measured(64, 1.0), slow_start=False)
        assert test.looking_down
        test.reset()
        assert not test.looking_down


OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.001, 0.1, 10.0]),  # seconds that pass
        st.one_of(st.none(), st.sampled_from(OUTCOMES)),  # a call that ends so, or none
        st.integers(0, 1000),  # which of those that run
        st.booleans(),  # whether calls wait to start
    ),
    max_size=200,
)


@given(STEPS, st.integers(0, 1000), st.integers(1, 40), st.integers(1, 3), st.integers(1, 100), st.booleans())
def test_whatever_happens_the_count_balances_and_the_promises_are_kept(
    steps: list[tuple[float, Outcome | None, int, bool]],
    seed: int,
    initial: int,
    minimum: int,
    maximum: int,
    plateau: bool,
) -> None:
    initial = max(initial, minimum)
    config = AdaptiveConcurrency(initial, minimum, max(initial, maximum))
    limit = Limit(config, Random(seed).random, plateau=plateau)
    running: list[float] = []
    now = 0.0
    for seconds, outcome, which, waiting in steps:
        now += seconds
        if outcome is not None and running:
            limit.finished(outcome, running.pop(which % len(running)), now, 0.05 if which % 2 else None)
        while waiting and limit.try_start(now):
            running.append(now)
            assert len(running) <= config.maximum, "it never ends"
        assert limit.running == len(running)
        assert config.minimum <= limit.limit <= config.maximum
        assert limit.refusal_delay() > 0
        if waiting:
            woken = limit.wake(now)
            assert running or woken is not None, "nothing runs, and nothing would wake a call that waits"
            if woken is not None:
                assert woken > now, "a busy loop"
                assert copy.deepcopy(limit).try_start(woken), "what wake() promises, try_start() keeps"


@pytest.mark.parametrize("outcomes", [("ok", "ok", "failed", "refused"), ("ok", *OUTCOMES)], ids=["four", "all"])
@pytest.mark.parametrize("plateau", [True, False])
def test_the_count_balances_over_many_calls(outcomes: tuple[Outcome, ...], plateau: bool) -> None:
    random = Random(1)
    limit = Limit(AdaptiveConcurrency(8, 1, 100), random.random, plateau=plateau)
    running: list[float] = []
    for millisecond in range(20_000):
        now = millisecond / 1000
        if limit.try_start(now):
            running.append(now)
        if running and random.random() < 0.6:
            limit.finished(random.choice(outcomes), running.pop(random.randrange(len(running))), now)
        assert limit.running == len(running)
        assert 1 <= limit.limit <= 100
