"""Measurements of an endpoint: figures, loads on virtual time, prompts, and sweeps."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from async_loops import Run as RunLoop
from async_loops import make_endpoint, run  # noqa: F401
from clocks import VirtualTime, run_virtual, virtual_time
from hypothesis import given
from hypothesis import strategies as st
from servers import bare_environment  # noqa: F401

from smendpoint import AsyncEndpoint, ChatHandler, RetryPolicy, errors
from smendpoint.bench import Load, Prompt, Record, Run, Sweep, measure, prompts, sweep
from smendpoint.bench import _run as running
from smendpoint.bench._inputs import read_prompts
from smendpoint.bench._load import FAILURE_PAUSE_SECONDS, arrivals, drive
from smendpoint.bench._records import figure, summary
from smendpoint.emulator import Emulator, ModelReply, ModelRequest
from smendpoint.emulator._load import Slots

pytestmark = pytest.mark.usefixtures("bare_environment")

Ask = Callable[[Prompt, float], Awaitable[Record]]


# -- figures


def record(due: float = 0.0, *pieces: float, ended: float | None = None, **known: Any) -> Record:
    """Give the record of a stream."""
    return Record(due, due, pieces, pieces[-1] if ended is None else ended, **known)


@given(st.lists(st.floats(0.001, 1000.0), min_size=1, max_size=60))
def test_the_statistics_of_a_metric_are_numpy_s(seconds: list[float]) -> None:
    found = summary([record(1.0, ended=1.0 + value) for value in seconds], {})
    values = 1e3 * ((1.0 + np.array(seconds)) - 1.0)
    assert found["mean_e2el_ms"] == pytest.approx(np.mean(values))
    assert found["std_e2el_ms"] == pytest.approx(np.std(values), abs=1e-6)
    for name, share in (("median", 50), ("p90", 90), ("p99", 99)):
        assert found[f"{name}_e2el_ms"] == pytest.approx(np.percentile(values, share))


def test_the_times_of_a_stream_are_counted_from_the_moment_it_was_due() -> None:
    one = Record(due=10.0, sent=11.0, pieces=(12.0, 12.5, 14.0), ended=15.0, output_tokens=5)
    found = summary([one], {})
    assert found["mean_ttft_ms"] == 2000.0
    assert found["mean_tpot_ms"] == 500.0  # two seconds for the four tokens after the first
    assert found["mean_itl_ms"] == 1000.0
    assert found["mean_e2el_ms"] == 5000.0
    assert found["duration"] == 5.0


def test_a_stream_that_comes_in_one_piece_has_no_time_for_each_token() -> None:
    at_once = record(0.0, 2.0, output_tokens=100)  # something on the way has kept it until its end
    found = summary([at_once, record(0.0, 1.0, 2.0, output_tokens=11)], {"tpot": 50.0})
    assert (found["mean_tpot_ms"], found["p99_tpot_ms"]) == (100.0, 100.0)
    assert summary([at_once], {})["mean_tpot_ms"] is None


def test_throughput_counts_answered_requests_and_their_tokens_in_the_run_s_time() -> None:
    good = [record(0.0, 1.0, 2.0, input_tokens=10, output_tokens=4), record(1.0, 2.0, ended=4.0, output_tokens=6)]
    found = summary([*good, record(0.0, 1.0, output_tokens=99, error="ModelError")], {})
    assert (found["completed"], found["failed"], found["duration"]) == (2, 1, 4.0)
    assert found["request_throughput"] == 0.5
    assert found["output_throughput"] == 2.5
    assert found["total_token_throughput"] == 5.0
    assert (found["total_input_tokens"], found["total_output_tokens"]) == (10, 10)


@pytest.mark.parametrize(
    ("counts", "source", "tokens"),
    [((3, 3), "model", 6), ((None, None), "chunks", 4), ((3, None), "mixed", 5)],
)
def test_tokens_that_the_model_did_not_count_are_pieces_and_the_report_says_so(
    counts: tuple[int | None, ...], source: str, tokens: int
) -> None:
    found = summary([record(0.0, 1.0, 2.0, output_tokens=count) for count in counts], {})
    assert (found["token_counts"], found["total_output_tokens"]) == (source, tokens)


def test_whole_answers_without_token_counts_have_no_source_of_them() -> None:
    found = summary([record(ended=1.0, streamed=False)], {})
    assert (found["token_counts"], found["total_output_tokens"]) == (None, 0)
    assert found["mean_ttft_ms"] is found["mean_tpot_ms"] is found["mean_itl_ms"] is None


def test_a_run_without_requests_has_figures_without_times() -> None:
    found = summary([], {"ttft": 1.0})
    assert (found["completed"], found["duration"], found["request_throughput"]) == (0, 0.0, 0.0)
    assert found["request_goodput"] == 0.0
    assert found["median_e2el_ms"] is None


def test_goodput_counts_the_requests_that_met_every_goal() -> None:
    fast = record(0.0, 0.1, 0.2, ended=4.0, output_tokens=2)
    late = record(0.0, 0.6, 0.7, ended=1.0, output_tokens=2)
    slow = record(0.0, 0.1, 0.9, ended=1.0, output_tokens=2)
    single = record(0.0, 0.1, ended=0.2, output_tokens=1)  # has no time for each further token
    failed = record(0.0, 0.1, error="ModelError")
    empty = record(ended=0.1, output_tokens=0)  # a stream that had no output is not a quick answer
    found = summary([fast, late, slow, single, failed, empty], {"ttft": 500.0, "tpot": 200.0})
    assert found["request_goodput"] == 2 / 4.0
    assert summary([fast], {})["request_goodput"] is None


def test_errors_are_counted_by_their_kind() -> None:
    names = ["ThrottlingError", "ThrottlingError", "ModelNotReadyError", "StreamTruncatedError", "ConnectError"]
    found = summary([record(ended=1.0, error=name) for name in names], {})
    assert (found["throttled"], found["cold_starts"], found["truncated_streams"]) == (2, 1, 1)
    assert found["errors"] == {
        "ConnectError": 1,
        "ModelNotReadyError": 1,
        "StreamTruncatedError": 1,
        "ThrottlingError": 2,
    }


# -- loads


def served_by(capacity: int, times: list[float], queue: int | None = None) -> Ask:
    """Ask the emulator's model of a load: so many servers, and a queue in the order of arrival."""
    slots = Slots(threading.Condition(), capacity, 0.0, queue)

    async def ask(prompt: Prompt, due: float) -> Record:
        now = asyncio.get_running_loop().time
        sent = now()
        at_end: list[Callable[[], object]] = []
        if not await slots.take("one", at_end):
            return Record(due, sent, (), now(), error="ThrottlingError")
        await asyncio.sleep(times[prompt.input])
        at_end[0]()
        return Record(due, sent, (), now())

    return ask


def driven(load: Load, ask: Ask, some: Iterator[Prompt] | None = None, time: VirtualTime | None = None) -> list[Record]:
    """Drive a load on virtual time."""
    records: list[Record] = []

    async def main() -> None:
        await drive(load, map(Prompt, itertools.count()) if some is None else some, ask, records.append)

    run_virtual(main(), time)
    return records


@pytest.mark.parametrize(("servers", "rate"), [(1, 0.7), (4, 3.6), (8, 9.0)])
def test_the_percentiles_of_an_open_loop_are_those_of_a_simulated_queue(servers: int, rate: float) -> None:
    chance = random.Random(7)
    times = [chance.expovariate(1.0) for _ in range(2000)]
    load = Load(rate=rate, count=len(times), seed=3)
    found = summary(driven(load, served_by(servers, times)), {})

    free = [0.0] * servers  # the recursion of Kiefer and Wolfowitz: when each server is free again
    waits = []
    for arrival, time in zip(arrivals(load), times, strict=False):
        ended = max(arrival, heapq.heappop(free)) + time
        heapq.heappush(free, ended)
        waits.append(1e3 * (ended - arrival))
    for name, share in (("median", 50), ("p90", 90), ("p99", 99)):
        assert found[f"{name}_e2el_ms"] == pytest.approx(np.percentile(waits, share), abs=1e-3)
    assert found["mean_e2el_ms"] == pytest.approx(np.mean(waits), abs=1e-3)


def test_arrivals_are_a_poisson_process_that_a_seed_repeats() -> None:
    moments = list(itertools.islice(arrivals(Load(rate=5.0, seed=1)), 20_001))
    assert moments[0] == 0.0
    gaps = np.diff(moments)
    assert np.mean(gaps) == pytest.approx(0.2, rel=0.03)
    assert np.std(gaps) == pytest.approx(0.2, rel=0.05)  # as long as their mean: exponential
    assert moments == list(itertools.islice(arrivals(Load(rate=5.0, seed=1)), 20_001))
    assert moments[1] != next(itertools.islice(arrivals(Load(rate=5.0, seed=2)), 1, None))


def test_a_client_that_is_late_does_not_hide_the_wait() -> None:
    async def ask(prompt: Prompt, due: float) -> Record:
        time.now += 2.0  # the program is busy, so no request is sent in time
        return Record(due, time.now - 2.0, (), time.now)

    time = VirtualTime()
    records = driven(Load(rate=10.0, count=5, seed=1), ask, time=time)
    assert [one.due for one in records] == list(itertools.islice(arrivals(Load(rate=10.0, seed=1)), 5))
    assert records[-1].e2el[0] > 8.0
    assert Run(Load(rate=10.0, count=5), records=records).report["p99_send_lag_ms"] > 5_000.0
    assert Run(Load(rate=10.0, count=5)).report["p99_send_lag_ms"] is None


def test_an_endless_rate_sends_all_requests_at_once() -> None:
    records = driven(Load(rate=math.inf, count=6), served_by(2, [1.0] * 6))
    assert {one.due for one in records} == {0.0}
    assert [one.ended for one in records] == pytest.approx([1.0, 1.0, 2.0, 2.0, 3.0, 3.0])


def test_a_closed_loop_has_so_many_requests_under_way() -> None:
    records = driven(Load(concurrency=3, count=9), served_by(100, [1.0] * 9))
    assert Counter(round(one.due) for one in records) == {0: 3, 1: 3, 2: 3}


def test_a_duration_ends_the_sending_and_not_the_answers() -> None:
    closed = driven(Load(concurrency=2, duration=2.5), served_by(100, [1.0] * 99))
    assert [round(one.ended) for one in closed] == [1, 1, 2, 2, 3, 3]
    opened = driven(Load(rate=4.0, duration=5.0), served_by(100, [1.0] * 99))
    moments = itertools.takewhile(lambda moment: moment < 5.0, arrivals(Load(rate=4.0)))
    assert [one.due for one in opened] == list(moments)


@pytest.mark.parametrize("load", [Load(concurrency=4, count=10), Load(rate=3.0, count=10)])
def test_a_load_ends_early_where_there_are_no_more_prompts(load: Load) -> None:
    assert len(driven(load, served_by(100, [1.0] * 99), iter([Prompt(0), Prompt(1)]))) == 2


def test_a_client_of_a_closed_loop_pauses_after_a_failure() -> None:
    records = driven(Load(concurrency=2, count=12), served_by(1, [1.0] * 12, queue=0))
    refused = [one.sent for one in records if one.error]
    assert np.diff(refused) == pytest.approx(FAILURE_PAUSE_SECONDS, abs=1e-6)


@pytest.mark.parametrize("load", [Load(concurrency=3, count=10), Load(rate=2.0, count=10)])
def test_an_exception_of_a_request_ends_the_load_and_cancels_the_others(load: Load) -> None:
    cancelled = []

    async def ask(prompt: Prompt, due: float) -> Record:
        try:
            await asyncio.sleep(5.0 if prompt.input else 1.0)
        except asyncio.CancelledError:
            cancelled.append(prompt.input)
            raise
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        driven(load, ask)
    assert cancelled


@pytest.mark.parametrize("rate", [math.inf, 1e9])
def test_a_rate_beyond_what_the_client_can_send_lets_requests_end(rate: float) -> None:
    sent = []

    async def ask(prompt: Prompt, due: float) -> Record:
        sent.append(prompt)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        driven(Load(rate=rate, count=10_000), ask)
    assert len(sent) < 5


def test_the_first_of_two_exceptions_is_raised() -> None:
    async def ask(prompt: Prompt, due: float) -> Record:
        raise [ZeroDivisionError, KeyError][prompt.input]

    with pytest.raises(ZeroDivisionError):
        driven(Load(concurrency=2, count=2), ask)


def test_cancelling_a_load_cancels_its_requests() -> None:
    records: list[Record] = []

    async def main() -> None:
        load = drive(
            Load(concurrency=3, count=9), map(Prompt, itertools.count()), served_by(9, [2.0] * 9), records.append
        )
        task = asyncio.ensure_future(load)
        await asyncio.sleep(3.0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    run_virtual(main())
    assert len(records) == 3


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (Load(count=1), "one of concurrency and rate"),
        (Load(concurrency=1, rate=1.0, count=1), "one of concurrency and rate"),
        (Load(concurrency=0, count=1), "concurrency must be a whole number above 0, not 0"),
        (Load(concurrency=1.5, count=1), "concurrency must be a whole number above 0, not 1.5"),  # type: ignore[arg-type]
        (Load(concurrency=1, count=2.0), "count must be a whole number above 0, not 2.0"),  # type: ignore[arg-type]
        (Load(rate=math.nan, count=1), "rate must be a number above 0, not nan"),
        (Load(rate="5", count=1), "rate must be a number above 0, not '5'"),  # type: ignore[arg-type]
        (Load(concurrency=1, duration=-1.0), "duration must be a number above 0"),
        (Load(concurrency=1), "a count or a duration"),
        (Load(rate=math.inf, duration=1.0), "with all requests at once, it takes a count"),
    ],
)
def test_a_load_that_does_not_fit_is_refused(load: Load, message: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=message):
        load.check()


# -- prompts


def test_prompts_are_so_long_and_never_alike_and_a_seed_repeats_them() -> None:
    made = list(itertools.islice(prompts(20, seed=1), 50))
    assert {len(one.input.split()) for one in made} == {20}
    assert len({one.input.split()[0] for one in made}) == 50
    assert made == list(itertools.islice(prompts(20, seed=1), 50))
    assert made != list(itertools.islice(prompts(20, seed=2), 50))
    assert next(prompts(1)).input == "1"


def test_the_lines_of_a_text_file_are_prompts(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes(b'One {\r\n\n{"prompt": 1}\n')
    assert read_prompts(str(path)) == [Prompt("One {"), Prompt('{"prompt": 1}')]


@pytest.mark.parametrize(("name", "content"), [("a.txt", b"One"), ("a.jsonl", b'"One"')])
def test_a_byte_order_mark_is_not_a_part_of_the_first_prompt(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf" + content)
    assert read_prompts(str(path)) == [Prompt("One")]


def test_a_file_of_json_lines_has_inputs_and_parameters(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        '"Hello"\n{"prompt": "a", "parameters": {"seed": 1}}\n{"messages": []}\n["x"]\n{"text": "b"}\n{"input": "c"}\n'
    )
    assert read_prompts(str(path)) == [
        Prompt("Hello"),
        Prompt("a", {"seed": 1}),
        Prompt([]),
        Prompt(["x"]),
        Prompt("b"),
        Prompt("c"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the prompts"),
        (b"\xff", "cannot read the prompts"),
        (b" \n", "there is no prompt"),
        (b"1\n\n{\n", "line 3 of .* is not JSON"),
        (b'{"question": "a"}\n', "line 1 .* must have input, prompt, text or messages"),
        (b'{"input": "a", "parameters": 1}\n', "parameters must be an object"),
    ],
)
def test_a_file_without_prompts_is_refused(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(errors.ConfigurationError, match=message):
        read_prompts(str(path))


# -- runs


def endpoint(emulator: Emulator, **options: Any) -> AsyncEndpoint[Any, Any, Any]:
    return make_endpoint(emulator.url, retry=RetryPolicy(max_attempts=1, cold_start_timeout=0), **options)


SIX = Load(concurrency=2, count=6)


async def measured(emulator: Emulator, load: Load = SIX, **options: Any) -> Run:
    handler = {"content_handler": options.pop("handler")} if "handler" in options else {}
    async with endpoint(emulator, **handler) as one:
        return await measure(one, prompts(12), load, **options)


def test_a_stream_is_measured_piece_by_piece_with_the_model_s_own_counts(run: RunLoop) -> None:  # noqa: F811
    with Emulator("vllm") as emulator:
        done = run(measured(emulator, handler=ChatHandler(), warmup=3, goals={"ttft": 60_000.0}))
        assert len(emulator.requests) == 9
    assert (done.report["completed"], done.report["failed"], done.report["token_counts"]) == (6, 0, "model")
    assert done.report["total_input_tokens"] == 6 * 12
    assert done.report["request_goodput"] == done.report["request_throughput"]
    for one in done.records:
        assert one.due <= one.sent <= one.pieces[0] <= one.pieces[-1] <= one.ended
        assert len(one.pieces) > 1


def test_a_whole_answer_is_measured_by_its_end(run: RunLoop) -> None:  # noqa: F811
    with Emulator("vllm") as emulator:
        done = run(measured(emulator, handler=ChatHandler(), stream=False))
    assert done.report["completed"] == 6
    assert done.report["output_throughput"] > 0
    assert done.report["mean_ttft_ms"] is None


def reasoning(request: ModelRequest) -> Iterator[bytes]:
    """Stream a reasoning, and no text."""
    yield b'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}\n\n'
    yield b'data: {"choices": [{"index": 0, "delta": {"reasoning_content": "Hm."}}]}\n\n'
    yield b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'


def test_only_chunks_with_output_are_pieces_and_reasoning_is_output(run: RunLoop) -> None:  # noqa: F811
    with Emulator(reasoning) as emulator:
        done = run(measured(emulator, Load(concurrency=1, count=1), handler=ChatHandler()))
    assert len(done.records[0].pieces) == 1
    assert done.report["token_counts"] == "chunks"


@pytest.mark.parametrize(
    ("fault", "field", "name"),
    [
        ("throttle_then_ok_2", "throttled", "ThrottlingError"),
        ("not_ready_then_ok_2", "cold_starts", "ModelNotReadyError"),
        ("fin_mid_frame", "truncated_streams", "StreamTruncatedError"),
    ],
)
def test_a_failure_is_counted_and_not_tried_again(fault: str, field: str, name: str, run: RunLoop) -> None:  # noqa: F811
    with Emulator("tgi") as emulator:
        times = None if "then" in fault else 2
        emulator.inject(fault, times=times)
        done = run(measured(emulator))
        assert len(emulator.requests) == 6
    assert (done.report["completed"], done.report["failed"]) == (4, 2)
    assert done.report[field] == 2
    assert done.report["errors"] == {name: 2}
    assert isinstance(done.failures[name], getattr(errors, name))


def test_an_error_that_every_call_would_meet_ends_the_run(run: RunLoop) -> None:  # noqa: F811
    with Emulator({"another": "tgi"}) as emulator, pytest.raises(errors.ValidationError, match="not found"):
        run(measured(emulator, Load(rate=1000.0, count=1_000_000)))


def test_what_was_measured_before_such_an_error_is_kept(run: RunLoop) -> None:  # noqa: F811
    begun: list[Run] = []
    asked = itertools.count(1)

    def model(request: ModelRequest) -> bytes:
        if next(asked) == 4:
            emulator.models = {"another": "tgi"}
        return b'[{"generated_text": "Yes"}]'

    with Emulator({"my-llm": model}) as emulator, pytest.raises(errors.ValidationError, match="not found"):
        run(measured(emulator, Load(concurrency=1, count=9), stream=False, before=begun.append))
    (cut,) = begun
    assert cut.report["completed"] == len(cut.records) == 4


def test_the_report_of_a_load_that_is_under_way_grows(run: RunLoop) -> None:  # noqa: F811
    begun: list[Run] = []
    seen: list[int] = []

    def model(request: ModelRequest) -> bytes:
        seen.append(begun[0].report["completed"])
        return b'[{"generated_text": "Yes"}]'

    with Emulator(model) as emulator:
        run(measured(emulator, Load(concurrency=1, count=3), stream=False, before=begun.append))
    assert [*seen, begun[0].report["completed"]] == [0, 1, 2, 3]


def test_a_prompt_s_own_parameters_and_stop_sequences_are_sent(run: RunLoop) -> None:  # noqa: F811
    seen: list[bytes] = []

    def model(request: ModelRequest) -> ModelReply:
        seen.append(request.body)
        return ModelReply(b'[{"generated_text": "One. Two."}]')

    async def main(emulator: Emulator) -> None:
        async with endpoint(emulator) as one:
            some = [Prompt("Count!", {"temperature": 0.5})]
            await measure(one, some, Load(concurrency=1, count=5), stream=False, stop=["Two"])

    with Emulator(model) as emulator:
        run(main(emulator))
    assert len(seen) == 1
    assert b'"temperature":0.5' in seen[0].replace(b" ", b"")
    assert b"Two" in seen[0]


@pytest.mark.parametrize(
    ("goals", "stream", "message"),
    [
        ({"itl": 5.0}, True, "goals are milliseconds of ttft, tpot, e2el, not itl"),
        ({"ttft": 0.0}, True, "not ttft:0.0"),
        ({"ttft": 5.0}, False, "a goal of ttft needs streams"),
    ],
)
def test_goals_that_do_not_fit_are_refused(goals: dict[str, float], stream: bool, message: str) -> None:
    one = make_endpoint("http://127.0.0.1:9")
    with pytest.raises(errors.ConfigurationError, match=message):
        run_virtual(measure(one, prompts(), Load(concurrency=1, count=1), goals=goals, stream=stream))


@pytest.mark.parametrize("warmup", [-1, 2.5])
def test_a_warm_up_that_does_not_fit_is_refused(warmup: Any) -> None:
    one = make_endpoint("http://127.0.0.1:9")
    with pytest.raises(errors.ConfigurationError, match=f"warmup must be a whole number, at least 0, not {warmup}"):
        run_virtual(measure(one, prompts(), Load(concurrency=1, count=1), warmup=warmup))


def test_a_goal_for_whole_answers_needs_no_stream(run: RunLoop) -> None:  # noqa: F811
    with Emulator("tgi") as emulator:
        done = run(measured(emulator, stream=False, goals={"e2el": 60_000.0}))
    assert done.report["request_goodput"] > 0


def stalled(*stalls: tuple[float, float], during: float) -> dict[str, Any]:
    """Give the report of a run whose event loop stops at such moments, each for so many seconds."""
    time = VirtualTime()

    async def stall(moment: float, seconds: float) -> None:
        await asyncio.sleep(moment)
        time.now += seconds

    async def main() -> Run:
        tasks = [asyncio.ensure_future(stall(*one)) for one in stalls]
        try:
            return await measure(make_endpoint("http://127.0.0.1:9"), prompts(1), Load(concurrency=1, duration=during))
        finally:
            await asyncio.wait(tasks)

    return run_virtual(main(), time).report


def test_the_report_says_how_late_the_client_s_own_loop_was(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_queue(monkeypatch, 8, None)
    found = stalled((3.01, 1.0), during=20.0)  # a twentieth of the time, though a single look in 400
    assert found["p99_client_lag_ms"] == found["max_client_lag_ms"] == pytest.approx(960.0, abs=50.0)
    found = stalled((3.01, 1.0), (7.01, 0.1), (8.01, 0.1), during=200.0)
    assert found["max_client_lag_ms"] == pytest.approx(960.0, abs=50.0)
    assert found["p99_client_lag_ms"] < 1.0


def test_a_stall_at_the_end_of_a_run_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_queue(monkeypatch, 8, None)
    assert stalled((19.9, 30.0), during=20.0)["max_client_lag_ms"] > 29_000.0


@pytest.mark.parametrize("load", [Load(concurrency=2, count=8), Load(rate=1.0, count=8)])
def test_the_warm_up_is_a_load_of_the_same_kind(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[float] = []

    async def ask(_endpoint: object, _prompt: Prompt, due: float, **_options: object) -> Record:
        sent.append(due)
        await asyncio.sleep(2.0)
        return Record(due, due, (), due + 2.0)

    monkeypatch.setattr(running, "ask", ask)
    done = run_virtual(measure(make_endpoint("http://127.0.0.1:9"), prompts(1), load, warmup=6))
    gaps = np.diff(sent[:6])
    assert len(done.records) == 8
    assert gaps == pytest.approx(np.diff([record.due for record in done.records[:6]]))
    assert max(gaps) > 0.5
    assert sent[6] >= sent[5] + 2.0 - 1e-6  # the load begins when the warm-up is over


# -- sweeps


def on_a_queue(monkeypatch: pytest.MonkeyPatch, capacity: int, queue: int | None, seed: int | None = None) -> None:
    """Let `measure` ask a simulated endpoint, whose answers take half a second, or at random as long on average."""
    chance = random.Random(seed)
    times = [0.5 if seed is None else chance.expovariate(2.0) for _ in range(20_000)]
    served, numbers = served_by(capacity, times, queue), itertools.count()

    async def ask(_endpoint: object, _prompt: Prompt, due: float, **_options: object) -> Record:
        return await served(Prompt(next(numbers)), due)

    monkeypatch.setattr(running, "ask", ask)


async def swept(*concurrencies: int, **options: Any) -> Sweep:
    return await sweep(make_endpoint("http://127.0.0.1:9"), prompts(1), concurrencies, **options)


def tried(found: Sweep) -> list[int | None]:
    return [one.load.concurrency for one in found.runs]


@pytest.mark.parametrize("queue", [0, 4, None])
@pytest.mark.parametrize("concurrencies", [(1, 2, 4, 8, 16, 32), (1, 4, 64), (1, 64), (32, 1, 5), (2, 6, 12)])
def test_a_sweep_finds_how_many_calls_an_endpoint_takes_at_once(
    concurrencies: tuple[int, ...], queue: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_queue(monkeypatch, 8, queue)
    found = run_virtual(swept(*concurrencies))
    assert found.knee in (7, 8, 9)
    assert f"It takes about {found.knee} at once: 1" in found.sentence()
    assert tried(found) == sorted(set(tried(found)), key=lambda clients: clients or 0)


@pytest.mark.parametrize("seed", range(2))
def test_a_sweep_finds_it_with_answers_of_random_length(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_queue(monkeypatch, 8, None, seed)
    found = run_virtual(swept(1, 4, 16, count=600))
    assert found.knee in (7, 8, 9)


def test_a_sweep_tries_numbers_between_those_that_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_queue(monkeypatch, 8, None)
    begun: list[Run] = []
    ended: list[Run] = []
    found = run_virtual(swept(1, 4, 32, before=begun.append, after=ended.append))
    assert 8 in tried(found)
    assert begun == ended
    assert [one.load.concurrency for one in begun][:3] == [1, 4, 32]
    assert [one.load.count for one in begun][:3] == [20, 40, 320]


def batching(monkeypatch: pytest.MonkeyPatch, alone: float, more: float) -> None:
    """Let `measure` ask a server that works on any number at once, each of which makes the others slower."""
    running_now = 0

    async def ask(_endpoint: object, _prompt: Prompt, due: float, **_options: object) -> Record:
        nonlocal running_now
        running_now += 1
        await asyncio.sleep(alone + more * running_now)
        running_now -= 1
        return Record(due, due, (), asyncio.get_running_loop().time())

    monkeypatch.setattr(running, "ask", ask)


def test_of_a_server_that_batches_a_sweep_says_the_throughput_at_the_knee_and_the_price_of_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batching(monkeypatch, 0.45, 0.05)
    found = run_virtual(swept(1, 2, 4, 8, 16, 32, 64, duration=60.0))
    # So many answers in a second: n / (0.45 + 0.05 n). That of 64 is eight times that of one.
    by_clients = {one.load.concurrency: one.report for one in found.runs}
    assert found.knee in (8, 9)
    there, most = by_clients[found.knee], by_clients[64]
    times = most["median_e2el_ms"] / there["median_e2el_ms"]
    assert there["request_throughput"] == pytest.approx(found.knee / (0.45 + 0.05 * found.knee), rel=0.1)
    assert found.sentence() == (
        f"It takes about {found.knee} at once: {there['request_throughput']:#.3g} requests/s. With 64 at once there are"
        f" {most['request_throughput']:#.3g} requests/s, and each takes {times:.1f} times as long."
    )


def test_loads_that_contradict_each_other_have_no_price_of_more() -> None:
    def of(clients: int, seconds: float) -> Run:
        count = 10 * clients
        ended = [record(seconds * (index // clients), ended=seconds * (index // clients + 1)) for index in range(count)]
        return Run(Load(concurrency=clients, count=count), records=ended)

    # Something has held up the load of three: with eight, each request was quicker.
    found = Sweep.of([of(1, 1.0), of(3, 4.0), of(8, 2.5)])
    assert found.sentence() == "It takes about 3 at once, but the loads contradict each other: measure more requests."


def test_a_single_client_is_one_call_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_queue(monkeypatch, 8, None)
    assert run_virtual(swept(1)).sentence() == "It takes 1 call at once, perhaps more: 2.00 requests/s."


def test_a_sentence_writes_thousands_of_requests_as_the_table_does() -> None:
    ended = [record(index / 2048, ended=(index + 1) / 2048) for index in range(2048)]
    found = Sweep.of([Run(Load(concurrency=1, count=2048), records=ended)])
    assert found.sentence() == "It takes 1 call at once, perhaps more: 2,048 requests/s."


def test_figures_have_three_digits_or_more() -> None:
    numbers = (None, 0.0, 0.0004, 0.004, 0.01667, 0.5, 9.99, 9.996, 31.44, 99.96, 12345.6)
    shown = ["-", "0.00", "0.00", "0.00400", "0.0167", "0.500", "9.99", "10.0", "31.4", "100", "12,346"]
    assert [figure(value) for value in numbers] == shown


def test_a_sweep_that_ends_too_early_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_queue(monkeypatch, 64, None)
    found = run_virtual(swept(1, 4, 8, duration=10.0))
    assert tried(found) == [1, 4, 8]
    assert found.beyond
    assert found.sentence() == "It takes 8 calls at once, perhaps more: 16.0 requests/s."


@pytest.mark.parametrize("queue", [0, None])
@pytest.mark.parametrize("concurrencies", [(16,), (16, 32), (9, 64)])
def test_a_sweep_that_begins_beyond_the_knee_does_not_know_it(
    concurrencies: tuple[int, ...], queue: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_queue(monkeypatch, 8, queue)
    found = run_virtual(swept(*concurrencies))
    assert (found.knee, found.beyond) == (None, False)
    assert found.sentence() == (
        f"How many calls it takes at once is not known, perhaps fewer than {concurrencies[0]}: begin with 1."
    )


def test_answers_that_took_no_time_by_a_coarse_clock_say_nothing() -> None:
    at_once = Run(Load(concurrency=1, count=2), records=[record(ended=0.0), record(ended=0.0)])
    assert Sweep.of([at_once]).knee is None
    later = Run(Load(concurrency=1, count=2), records=[record(ended=0.0), record(ended=1.0)])
    assert Sweep.of([later]).knee == 1


def test_a_sweep_without_answers_knows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_queue(monkeypatch, 0, 0)
    found = run_virtual(swept(1, 2))
    assert (found.knee, found.beyond) == (None, False)
    assert found.sentence() == "No request was answered: how many calls it takes at once is not known."


def test_a_load_without_answers_does_not_count() -> None:
    def one(clients: int, *some: Record) -> Run:
        return Run(Load(concurrency=clients, count=len(some)), records=list(some))

    failed = record(ended=1.0, error="ModelError")
    # Two clients have four answers in a second, and eight have eight.
    runs = one(8, *[record(ended=1.0)] * 8), one(1, failed), one(2, *[record(ended=0.5)] * 2)
    assert Sweep.of(runs).knee == 4


def test_the_end_of_a_load_where_clients_have_nothing_to_do_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_queue(monkeypatch, 8, None)
    found = run_virtual(swept(1, 8, 9, count=9))  # at the end of the second load one client has a request
    assert found.knee == 8


def test_a_sweep_needs_numbers_of_clients() -> None:
    with pytest.raises(errors.ConfigurationError, match="takes numbers of clients"):
        run_virtual(swept())


@pytest.mark.parametrize("queue", [0, 100])
def test_a_sweep_of_an_emulator_with_a_capacity_of_8_says_8(queue: int) -> None:
    async def model(request: ModelRequest) -> bytes:
        return b'[{"generated_text": "Yes"}]'

    async def main(emulator: Emulator) -> Sweep:
        async with endpoint(emulator) as one:
            return await sweep(one, prompts(4), [1, 4, 16], count=40, warmup=2, stream=False)

    with virtual_time(), Emulator(model, capacity=8, latency=0.3, queue=queue) as emulator:
        found = asyncio.run(main(emulator))
        assert emulator.load["my-llm"].peak == 8
    assert found.knee in (7, 8, 9)
    assert f"It takes about {found.knee} at once: " in found.sentence()
