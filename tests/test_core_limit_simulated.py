"""The concurrency limit against simulated endpoints: how much of what they could do gets done.

``SMENDPOINT_SIMULATIONS=all`` runs each scenario from each first guess and with more seeds, and holds the figures of
all runs together. Otherwise each scenario is run once, with the first guess that is next in turn.
"""

from __future__ import annotations

import math
import os

import pytest
from load_simulation import (
    CHANGING,
    COMPARED,
    FAULTY,
    SHORT,
    Result,
    Scenario,
    Schedule,
    Workers,
    exponential,
    simulate,
)

ALL = os.environ.get("SMENDPOINT_SIMULATIONS") == "all"
SCENARIOS = [*COMPARED, *SHORT, *FAULTY]
SEEDS = (101, 102) if ALL else (101,)
RUNS = [
    (scenario, initial, seed)
    for number, scenario in enumerate(SCENARIOS)
    for seed in SEEDS
    for initial in (scenario.initials if ALL else scenario.initials[number % len(scenario.initials) :][:1])
]
results: dict[tuple[str, int, int], Result] = {}


def run(scenario: Scenario, initial: int, seed: int) -> Result:
    key = (scenario.name, initial, seed)
    if key not in results:
        results[key] = simulate(scenario, initial, seed)
    return results[key]


@pytest.mark.parametrize(("scenario", "initial", "seed"), RUNS, ids=lambda value: getattr(value, "name", str(value)))
def test_a_scenario_comes_out_as_well_as_it_says(scenario: Scenario, initial: int, seed: int) -> None:
    result = run(scenario, initial, seed)
    assert result.goodput >= scenario.goodput
    assert result.fairness <= scenario.fairness
    assert result.refusals <= scenario.refusals
    for client in result.clients:
        assert client.limit.running == client.in_flight
        if scenario in SHORT:  # nothing is lost, and nothing is left
            assert len(client.successes) == scenario.jobs
            assert client.in_flight == 0


@pytest.mark.skipif(not ALL, reason="one run of each scenario has no distribution; SMENDPOINT_SIMULATIONS=all")
def test_all_runs_together_are_no_worse_than_the_best_rule_that_was_compared() -> None:
    goodput = [
        min(1.0, run(scenario, initial, seed).goodput)
        for scenario in COMPARED
        for initial in scenario.initials
        for seed in SEEDS
    ]
    below = sum(share < 0.9 for share in goodput)
    mean = math.exp(sum(math.log(share) for share in goodput) / len(goodput))
    print(f"{len(goodput)} runs, {below} below 90 %, geometric mean {mean:.3f}, worst {min(goodput):.2f}")
    assert len(goodput) == 198
    assert below <= 16
    assert mean >= 0.945


def test_a_cold_endpoint_is_probed_by_one_call_at_a_time() -> None:
    scenario = Scenario("cold", lambda: Workers(8, ready=59.99), exponential(0.2), 0.2, 0.005, 60, 0)
    (client,) = simulate(scenario, 4, 1).clients
    assert client.peak == 4  # those that started before the first answer
    assert 10 <= client.refusals <= 40  # in a minute


def test_calls_that_hang_are_not_taken_as_accepted_for_ever() -> None:
    scenario = Scenario("hangs", lambda: Workers(8, hangs=(0, 600)), exponential(1), 1, 0.01, 600, 0, patience=60)
    (client,) = simulate(scenario, 4, 1).clients
    assert client.peak <= 64
    assert client.limit.limit == 1


def test_a_schedule_gives_the_number_of_each_time_and_their_integral() -> None:
    schedule = Schedule(8, (10, 2), (20, 16))
    assert [schedule(now) for now in (0, 9.9, 10, 19.9, 20, 99)] == [8, 8, 2, 2, 16, 16]
    assert schedule.integral(5, 25) == 5 * 8 + 10 * 2 + 5 * 16
    assert schedule.integral(0, 10, lambda value: value * value) == 640


@pytest.mark.parametrize("seed", [1, 2])
def test_a_simulation_gives_the_same_again_for_the_same_seed(seed: int) -> None:
    first, second = (simulate(CHANGING[1], 4, seed) for _ in range(2))
    assert (first.goodput, first.refusals, first.events) == (second.goodput, second.refusals, second.events)
