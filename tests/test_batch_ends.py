"""How a batch ends: at once, early, by an error or an interrupt; and what it says while it runs."""
# ruff: noqa: F401, F811 (fixtures are imported)

from __future__ import annotations

import asyncio
import json
import os
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from servers import bare_environment
from test_batch_run import ROWS, Model, doubled, emulator, endpoint, lines, model, outputs, run
from twins import NAME, Twin, TwinEndpoint

from smendpoint import (
    AccessDeniedError,
    AdaptiveConcurrency,
    BytesHandler,
    ConfigurationError,
    JSONHandler,
    LedgerError,
    ModelNotReadyError,
    RetryPolicy,
    ThrottlingError,
    TooManyErrorsError,
    ValidationError,
    batch,
)
from smendpoint.batch import Progress, Summary
from smendpoint.batch._ledger import Ledger
from smendpoint.emulator import Credentials, Emulator, ModelRequest

pytestmark = pytest.mark.usefixtures("bare_environment")


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[Progress]:
    """Where a `progress` puts what it is told; it is told after every row."""
    monkeypatch.setattr("smendpoint.batch._job.PROGRESS_SECONDS", 0.0)
    return []


# -- errors that end a run before anything is sent


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ([], {}, "the source has no rows"),
        (iter(()), {}, "the source has no rows"),
        (ROWS, {"batch_rows": 0}, "batch_rows must be a whole number of at least 1"),
        (ROWS, {"max_concurrency": 0}, "max_concurrency must be a whole number of at least 1"),
        (ROWS, {"max_errors": -1}, "max_errors must be a whole number of rows, or a share such as '5%', not -1"),
        (ROWS, {"max_errors": "101%"}, "not '101%'"),
        (ROWS, {"max_errors": "many"}, "not 'many'"),
        (ROWS, {"max_errors": True}, "not True"),
        (ROWS, {"max_errors": 0.05}, "not 0.05"),
        (ROWS, {"format": "xml"}, "format must be one of"),
        (ROWS, {"region_name": "us-east-1"}, "region_name cannot be given to a call"),
        (ROWS, {"stop": 5}, "stop must be a string or several"),
        (ROWS, {"timeout": -1}, "must be"),
        ({"n": 1}, {}, "type dict"),
        ("nothing.jsonl", {}, "cannot read nothing.jsonl: No such file or directory"),
    ],
)
def test_what_does_not_fit_is_an_error_before_anything_is_sent(
    endpoint: TwinEndpoint, ledger: Path, emulator: Emulator, source: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        run(endpoint, source, ledger, **options)
    assert emulator.total_requests == 0
    assert not ledger.exists()


def test_the_output_must_be_in_a_folder_that_is_there(
    endpoint: TwinEndpoint, tmp_path: Path, emulator: Emulator
) -> None:
    with pytest.raises(LedgerError, match="No such file or directory"):
        run(endpoint, ROWS, tmp_path / "nowhere" / "ledger.jsonl")
    assert emulator.total_requests == 0


def test_the_input_cannot_be_the_output(endpoint: TwinEndpoint, tmp_path: Path, emulator: Emulator) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"n": 1}\n')
    with pytest.raises(ConfigurationError, match="is the input: choose another output"):
        run(endpoint, path, path)
    assert path.read_text() == '{"n": 1}\n'
    assert emulator.total_requests == 0


def test_two_runs_do_not_share_a_ledger(endpoint: TwinEndpoint, ledger: Path, emulator: Emulator) -> None:
    caught: list[LedgerError] = []

    def rows() -> Iterator[Any]:
        yield ROWS[0]
        try:
            Ledger(ledger)
        except LedgerError as error:
            caught.append(error)

    run(endpoint, rows(), ledger)
    assert "another process is writing to the ledger" in str(caught[0])


def test_each_twin_names_the_function_of_the_other(direct_twin: Twin, endpoint: TwinEndpoint, ledger: Path) -> None:
    wrong: Any = batch.run if direct_twin.asynchronous else batch.arun  # takes the other kind of endpoint
    other = Twin("sync-direct" if direct_twin.asynchronous else "async-direct")
    with pytest.raises(ConfigurationError, match=f"use {'run' if other.asynchronous else 'arun'}"):
        other.run(wrong(endpoint.endpoint, ROWS, ledger))
    other.close()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_an_output_that_is_not_a_file_cannot_be_ordered(
    endpoint: TwinEndpoint, tmp_path: Path, emulator: Emulator
) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(ConfigurationError, match=r"only a file can be ordered, and .*pipe is not a file"):
        run(endpoint, ROWS, path, ordered=True)
    os.close(reader)
    assert emulator.total_requests == 0


# -- errors of the source


def test_a_source_that_fails_ends_the_run_after_the_calls_that_are_under_way(
    endpoint: TwinEndpoint, ledger: Path
) -> None:
    def rows() -> Iterator[Any]:
        yield from ROWS[:5]
        raise LookupError("the sixth row")

    with pytest.raises(LookupError, match="the sixth row"):
        run(endpoint, rows(), ledger, ordered=True)
    assert outputs(ledger) == doubled(ROWS[:5])


def test_an_input_that_has_changed_is_an_error_that_names_the_row(endpoint: TwinEndpoint, ledger: Path) -> None:
    run(endpoint, ROWS[:3], ledger)
    with pytest.raises(ConfigurationError, match="the input of the id '1'"):
        run(endpoint, [ROWS[0], {"n": 100}, ROWS[2]], ledger)
    assert outputs(ledger) == doubled(ROWS[:3])


# -- too many errors


@pytest.mark.parametrize("most", [2, "2"])
def test_a_run_stops_when_more_rows_have_failed_than_may(
    endpoint: TwinEndpoint, ledger: Path, model: Model, most: Any
) -> None:
    model.broken = {1, 3, 5}
    with pytest.raises(TooManyErrorsError, match=r"more rows failed than max_errors='?2'? allows; [\d,]+ rows were"):
        run(endpoint, ROWS, ledger, max_errors=most, max_concurrency=1, ordered=True)
    assert [line["id"] for line in lines(ledger)] == [str(number) for number in range(len(model.asked))]
    assert 6 <= len(model.asked) <= 8  # not the rest
    model.broken.clear()
    assert run(endpoint, ROWS, ledger, max_errors=0, retry_failed=True).succeeded


def test_as_many_errors_as_may_be_do_not_stop_a_run(endpoint: TwinEndpoint, ledger: Path, model: Model) -> None:
    model.broken = {1, 3}
    assert run(endpoint, ROWS, ledger, max_errors=2).failed == 2


def test_a_share_of_errors_counts_from_100_rows_on(endpoint: TwinEndpoint, ledger: Path, model: Model) -> None:
    rows = [{"n": number} for number in range(300)]
    model.broken = set(range(10)) | {150}
    assert run(endpoint, rows[:99], ledger, max_errors="5%").failed == 10
    with pytest.raises(TooManyErrorsError, match="max_errors='5%'"):
        run(endpoint, rows, ledger, max_errors="5%", retry_failed=True, max_concurrency=1)
    assert len(model.asked) < 300


# -- failures that every row would meet


def test_an_endpoint_that_is_not_there_ends_the_run_at_once(direct_twin: Twin, ledger: Path) -> None:
    with Emulator({"other": Model()}) as emulator:
        with direct_twin.endpoint(emulator.url, content_handler=JSONHandler()) as endpoint:
            with pytest.raises(
                ValidationError, match=r"0 rows were answered and 0 failed, which .* keeps: run it again"
            ):
                run(endpoint, ROWS * 1000, ledger)
        assert emulator.total_requests < 20
    assert ledger.read_text() == ""


def test_credentials_that_are_refused_end_the_run_at_once(direct_twin: Twin, ledger: Path, model: Model) -> None:
    with Emulator(model, credentials=Credentials("other", "secret")) as emulator:
        with direct_twin.endpoint(emulator.url, content_handler=JSONHandler()) as endpoint:
            with pytest.raises(AccessDeniedError, match="run it again to continue with the rest"):
                run(endpoint, ROWS, ledger)
    assert model.asked == []
    assert ledger.read_text() == ""


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("status_429_ThrottlingException", ThrottlingError), ("status_429_ModelNotReadyException", ModelNotReadyError)],
)
def test_an_endpoint_that_is_given_up_ends_the_run(
    direct_twin: Twin, emulator: Emulator, ledger: Path, fault: str, kind: type[Exception]
) -> None:
    emulator.inject(fault)
    policy = RetryPolicy(throttle_timeout=0.01, cold_start_timeout=0.0)
    with direct_twin.endpoint(emulator.url, content_handler=JSONHandler(), retry=policy) as endpoint:
        with pytest.raises(kind, match="run it again to continue with the rest"):
            run(endpoint, ROWS, ledger)
        assert ledger.read_text() == ""
        emulator.clear_faults()
        assert run(endpoint, ROWS, ledger).done == 20


# -- interrupts


class Stopped(Exception):
    """An error that a `progress` raises to end a run."""


def test_a_run_that_is_broken_off_has_kept_what_was_answered_and_nothing_of_what_was_under_way(
    direct_twin: Twin, ledger: Path, reports: list[Progress]
) -> None:
    def model(request: ModelRequest) -> bytes:
        if json.loads(request.body)["n"] >= 5:
            request.disconnected.wait()
        return request.body

    def stop(progress: Progress) -> None:
        if progress.done == 5:
            raise Stopped

    with Emulator(model) as emulator:
        with direct_twin.endpoint(emulator.url, content_handler=JSONHandler()) as endpoint, pytest.raises(Stopped):
            run(endpoint, ROWS, ledger, progress=stop)
        emulator.disconnected()
        emulator.models = {NAME: lambda request: request.body}
        asked = emulator.total_requests
        assert outputs(ledger) == {str(row["n"]): row for row in ROWS[:5]}
        with direct_twin.endpoint(emulator.url, content_handler=JSONHandler()) as endpoint:
            assert run(endpoint, ROWS, ledger).skipped == 5
        assert emulator.total_requests == asked + 15


def test_a_task_that_is_cancelled_keeps_what_was_answered(ledger: Path, reports: list[Progress]) -> None:
    twin = Twin("async-direct")

    async def main(emulator: Emulator) -> None:
        def cancel(progress: Progress) -> None:
            if progress.done == 5:
                task.cancel()

        async with twin.endpoint(emulator.url, content_handler=JSONHandler()).endpoint as endpoint:
            task = asyncio.create_task(batch.arun(endpoint, ROWS, ledger, progress=cancel, max_concurrency=1))
            with pytest.raises(asyncio.CancelledError):
                await task

    with Emulator(Model()) as emulator:
        twin.run(main(emulator))
        twin.close()
    assert 5 <= len(lines(ledger)) <= 7


def test_a_disk_that_is_full_ends_the_run(endpoint: TwinEndpoint) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs a device that is always full")
    with pytest.raises(LedgerError, match="No space left on device"):
        run(endpoint, ROWS, "/dev/full")


# -- progress


def test_progress_is_told_while_the_run_goes_on_and_at_its_end(
    endpoint: TwinEndpoint, ledger: Path, model: Model, reports: list[Progress]
) -> None:
    model.broken = {7}
    summary = run(endpoint, ROWS, ledger, progress=reports.append)
    assert isinstance(summary, Summary)
    assert len(reports) >= 40  # a row that is read, a row that is answered
    assert {report.total for report in reports} == {20}
    last = reports[-1]
    assert type(last) is Progress
    assert (last.rows, last.done, last.failed) == (20, 19, 1)
    assert last.left == 0
    assert last.rate == pytest.approx(20 / last.elapsed)
    assert last.concurrency is not None
    assert last.refusals == 0


def test_progress_is_told_ten_times_a_second_at_most(endpoint: TwinEndpoint, ledger: Path) -> None:
    reports: list[Progress] = []
    run(endpoint, ROWS, ledger, progress=reports.append)
    assert all(later.elapsed - earlier.elapsed >= 0.1 for earlier, later in pairwise(reports[:-1]))


@pytest.mark.parametrize(
    ("name", "content", "total"),
    [
        ("rows.jsonl", '{"n": 1}\n\n{"n": 2}', 2),
        ("rows.csv", 'n\n"1"\n2\n', 2),
        ("rows.txt", "1\n2\n3\n", 3),
    ],
)
def test_the_rows_of_a_file_are_known_beforehand(
    direct_twin: Twin, tmp_path: Path, name: str, content: str, total: int, reports: list[Progress]
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with Emulator(lambda request: request.body) as emulator:
        handler = JSONHandler() if name.endswith("jsonl") else BytesHandler()
        with direct_twin.endpoint(emulator.url, content_handler=handler) as endpoint:
            run(endpoint, path, tmp_path / "ledger", progress=reports.append)
    assert reports[0].total == reports[-1].done == total


def test_the_end_of_the_rows_corrects_a_total_that_was_too_high(
    endpoint: TwinEndpoint, tmp_path: Path, reports: list[Progress]
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('n,text\n1,"two\nlines"\n')
    summary = run(endpoint, path, tmp_path / "ledger", progress=reports.append)
    assert [report.total for report in (reports[0], reports[-1], summary)] == [2, 1, 1]


def test_the_rows_of_a_parquet_file_are_known_beforehand(
    endpoint: TwinEndpoint, tmp_path: Path, reports: list[Progress]
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"n": [1, 2, 3], "m": [1, 2, 3]}), path)
    run(endpoint, path, tmp_path / "ledger", progress=reports.append)
    assert reports[-1].total == reports[-1].done == 3


def test_the_rows_of_an_iterator_or_a_pipe_are_not_known_beforehand(
    endpoint: TwinEndpoint, ledger: Path, reports: list[Progress]
) -> None:
    run(endpoint, iter(ROWS), ledger, progress=reports.append)
    assert reports[-1].total is None
    assert reports[-1].left is None
    assert "done=20" in repr(reports[-1])


def test_standard_input_is_read_and_not_counted(
    endpoint: TwinEndpoint, ledger: Path, reports: list[Progress], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "rows"
    path.write_text('{"n": 1}\n{"n": 2}\n')
    with path.open() as standard_input:
        monkeypatch.setattr("sys.stdin", standard_input)
        run(endpoint, "-", ledger, progress=reports.append)
    assert reports[-1].total is None
    assert outputs(ledger) == doubled([{"n": 1}, {"n": 2}])


def test_before_the_first_row_no_time_is_known() -> None:
    assert Progress(total=10).left is None
    assert Progress(total=10).rate == 0
    assert Progress(total=3, done=5, elapsed=1.0).left == 0
    assert Summary(done=1) == Summary(done=1)


# -- load


@pytest.mark.parametrize("concurrency", [None, AdaptiveConcurrency(16)], ids=["of the run", "of the endpoint"])
def test_an_endpoint_that_refuses_loses_no_row(
    direct_twin: Twin, ledger: Path, reports: list[Progress], concurrency: AdaptiveConcurrency | None
) -> None:
    rows = [{"n": number} for number in range(60)]
    with Emulator(Model(), capacity=2, latency=0.01) as emulator:
        with direct_twin.endpoint(
            emulator.url, content_handler=JSONHandler(), retry=RetryPolicy(max_attempts=1), concurrency=concurrency
        ) as endpoint:
            summary = run(endpoint, rows, ledger, progress=reports.append)
        refused = emulator.load[NAME].refused
    assert summary.succeeded
    assert outputs(ledger) == doubled(rows)
    assert summary.refusals == reports[-1].refusals == refused > 0
    assert summary.concurrency is not None
    assert {report.concurrency for report in reports} > {summary.concurrency}


def test_no_more_calls_are_under_way_than_may_be(direct_twin: Twin, ledger: Path) -> None:
    with Emulator(Model(), latency=0.005) as emulator:
        with direct_twin.endpoint(
            emulator.url, content_handler=JSONHandler(), concurrency=AdaptiveConcurrency(16)
        ) as endpoint:
            assert run(endpoint, ROWS, ledger, max_concurrency=3).concurrency == 3
        assert emulator.load[NAME].peak <= 3


# -- memory


def test_memory_does_not_grow_with_the_rows(direct_twin: Twin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smendpoint.batch._index._BUFFERED", 16)

    def peak(endpoint: TwinEndpoint, count: int) -> int:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        run(endpoint, ({"n": number} for number in range(count)), tmp_path / f"{count}.jsonl", max_concurrency=4)
        return tracemalloc.get_traced_memory()[1] - before

    with Emulator(lambda request: request.body, keep_requests=0) as emulator:
        with direct_twin.endpoint(emulator.url, content_handler=JSONHandler()) as endpoint:
            run(endpoint, ROWS, tmp_path / "first.jsonl")
            tracemalloc.start()
            try:
                few, many = peak(endpoint, 100), peak(endpoint, 1000)
            finally:
                tracemalloc.stop()
    assert many < few + 200_000  # 900 rows more would have 200 bytes each
