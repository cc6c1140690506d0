"""A ledger whose writing fails or ends at any moment: a full disk, a closed pipe, Ctrl-C, `kill -9`; and its lock."""

from __future__ import annotations

import collections
import errno
import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clocks import FakeClock

from smendpoint.batch._ledger import SYNC_SECONDS, Ledger
from smendpoint.batch._lock import lock_file
from smendpoint.batch._rows import Row, read_rows
from smendpoint.errors import LedgerError

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs the system calls of POSIX")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


def rows(count: int) -> list[Row]:
    return list(read_rows(range(count)))


def ids(path: Path) -> list[str]:
    text = path.read_bytes().decode()
    assert not text or text.endswith("\n")
    return [json.loads(line)["id"] for line in text.splitlines()]


# A batch whose model answers with many bytes. It says what it asks, and what it has written.
BATCH = """
import sys
from smendpoint.batch._ledger import Ledger
from smendpoint.batch._rows import read_rows
with Ledger(sys.argv[1]) as ledger:
    for row in ledger.pending(read_rows(range(int(sys.argv[2])))):
        print("asked", row.id, flush=True)
        ledger.succeeded(row, {"text": "x" * (row.number * 97 % 20_000)})
        print("kept", row.id, flush=True)
"""


def start(path: Path, count: int, **options: Any) -> subprocess.Popen[str]:
    program = [sys.executable, "-c", BATCH, str(path), str(count)]
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_a_process_that_is_killed_at_any_moment_loses_and_repeats_no_answer_that_it_kept(path: Path) -> None:
    count, chance, asked = 2_000, random.Random(7), dict[str, int]()
    kills = 6
    for _ in range(kills):
        with start(path, count) as process:
            assert process.stdout is not None
            said = [process.stdout.readline() for _ in range(chance.randrange(1, 500))]
            process.kill()
            said += [line for line in process.stdout if line.endswith("\n")]
            assert process.stderr is not None
            assert process.stderr.read() == ""
        words = [line.split() for line in said]
        for kind, id in words:
            if kind == "asked":
                asked[id] = asked.get(id, 0) + 1
        Ledger(path).close()  # the kernel has released the lock
        assert {id for kind, id in words if kind == "kept"} <= {*ids(path)}
    with Ledger(path) as ledger:
        for row in ledger.pending(rows(count)):
            asked[row.id] = asked.get(row.id, 0) + 1
            ledger.succeeded(row, {"text": "x" * (row.number * 97 % 20_000)})
    found = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert sorted(int(line["id"]) for line in found) == list(range(count))
    assert all(len(line["output"]["text"]) == int(line["id"]) * 97 % 20_000 for line in found)
    assert sum(asked.values()) <= count + kills  # one row is in flight in each process


def test_a_second_process_is_refused_until_the_first_ends(path: Path) -> None:
    with Ledger(path):
        with start(path, 1) as process:
            said = process.communicate()
    assert said[0] == ""
    assert "LedgerError: another process is writing to the ledger" in said[1]
    with start(path, 1) as process:
        assert process.communicate() == ("asked 0\nkept 0\n", "")


@posix
def test_a_quota_that_is_spent_leaves_whole_lines_and_says_how_to_go_on(path: Path) -> None:
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    with start(path, 1_000, preexec_fn=limit) as process:
        said = process.communicate()
    assert f"LedgerError: cannot write to the ledger {path}: File too large; its earlier lines are complete" in said[1]
    kept = [line.split()[1] for line in said[0].splitlines() if line.startswith("kept")]
    assert ids(path) == kept
    assert 80_000 < path.stat().st_size <= 100_000
    with start(path, 1_000) as process:
        said = process.communicate()
    assert said[1] == ""
    assert ids(path) == [str(number) for number in range(1_000)]


@posix
def test_a_reader_that_closes_its_pipe_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    monkeypatch.setattr(os, "dup", lambda descriptor: write if descriptor == 1 else -1)
    first, second = rows(2)
    with Ledger("-") as ledger:
        ledger.succeeded(first, "x")
        assert json.loads(os.read(read, 1_000))["id"] == "0"
        os.close(read)
        with pytest.raises(LedgerError, match="the reader of the output - has gone: write to a file"):
            ledger.succeeded(second, "y")


@posix
def test_a_named_pipe_takes_lines_and_has_nothing_to_go_on_from(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    with Ledger(path) as ledger:
        assert not ledger.is_file
        for row in ledger.pending(rows(3)):
            ledger.succeeded(row, "x")
    reader.join()
    assert [json.loads(line)["id"] for line in read[0].splitlines()] == ["0", "1", "2"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is full")
def test_a_device_that_is_full_is_an_error() -> None:
    with Ledger("/dev/full") as ledger:
        with pytest.raises(LedgerError, match="No space left on device; a pipe keeps nothing: write to a file"):
            ledger.succeeded(rows(1)[0], "x")


@posix
def test_a_pipe_that_only_has_a_number_takes_lines() -> None:
    if not os.path.exists("/dev/fd"):
        pytest.skip("needs the folder of open files")
    read, write = os.pipe()
    with Ledger(f"/dev/fd/{write}") as ledger:  # as for `-o >(gzip)` and `-o /dev/stdout`
        os.close(write)
        ledger.succeeded(rows(1)[0], "x")
    with open(read, "rb") as pipe:
        assert json.loads(pipe.read())["id"] == "0"


def test_a_temporary_folder_that_is_full_is_an_error_and_the_lines_are_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        database = real(*arguments, **options)
        database.execute("PRAGMA max_page_count = 4")
        return database

    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", connect)
    monkeypatch.setattr("smendpoint.batch._index._BUFFERED", 1)
    with Ledger(path) as ledger:
        pending = ledger.pending(rows(1_000))
        with pytest.raises(
            LedgerError, match=r"its index in the temporary folder: .* full; its earlier lines"
        ) as caught:
            collections.deque((ledger.succeeded(row, "x") for row in pending), maxlen=0)
    assert isinstance(caught.value.__cause__, OSError)
    assert 0 < len(ids(path)) < 1_000


class Disk:
    """Takes so many bytes of each write, and fails after so many writes."""

    def __init__(self, most: int, writes: int, error: BaseException) -> None:
        self.most, self.left, self.error = most, writes, error
        self._write = os.write

    def __call__(self, descriptor: int, data: Any) -> int:
        if not self.left:
            raise self.error
        self.left -= 1
        return self._write(descriptor, data[: self.most])


@pytest.mark.parametrize("written", [0, 1, 2])
@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; its earlier lines are complete"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error; its earlier lines are complete"),
        (KeyboardInterrupt(), None),
    ],
    ids=["full", "broken", "interrupt"],
)
def test_a_part_of_a_line_is_cut_off_again_and_the_ledger_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch, written: int, error: BaseException, raised: str | None
) -> None:
    first, second, third = rows(3)
    with Ledger(path) as ledger:
        list(ledger.pending([first, second, third]))
        ledger.succeeded(first, "x")
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", Disk(20, written, error))
            with pytest.raises(LedgerError if raised else KeyboardInterrupt, match=raised) as caught:
                ledger.succeeded(second, "y")
            if raised:
                assert caught.value.__cause__ is error
        assert path.read_bytes() == before
        ledger.succeeded(third, "z")
    assert ids(path) == ["0", "2"]


def test_an_interrupt_after_the_last_byte_keeps_the_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def interrupt(descriptor: int, data: Any) -> int:
        write(descriptor, data)
        raise KeyboardInterrupt

    first, second = rows(2)
    with Ledger(path) as ledger:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", interrupt)
            with pytest.raises(KeyboardInterrupt):
                ledger.succeeded(first, "x")
        ledger.succeeded(second, "y")
    assert ids(path) == ["0", "1"]


def test_nothing_follows_a_part_of_a_line_that_cannot_be_cut_off(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    first, second = rows(2)
    with Ledger(path) as ledger:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", Disk(20, 1, OSError(errno.ENOSPC, "No space left on device")))
            patch.setattr(os, "ftruncate", refuse)
            with pytest.raises(LedgerError, match="Input/output error"):
                ledger.succeeded(first, "x")
        with pytest.raises(LedgerError, match="an earlier line could be neither written nor cut off"):
            ledger.succeeded(second, "y")
    assert path.stat().st_size == 20
    Ledger(path).close()
    assert path.read_bytes() == b""


def test_parts_of_a_line_that_the_system_takes_make_a_whole_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger(path) as ledger:
        monkeypatch.setattr(os, "write", Disk(7, 1_000, OSError()))
        for row in rows(3):
            ledger.succeeded(row, "x" * 50)
    assert ids(path) == ["0", "1", "2"]


def test_a_line_is_one_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(1 << 30, 1_000, OSError())
    with Ledger(path) as ledger:
        monkeypatch.setattr(os, "write", disk)
        for row in rows(5):
            ledger.succeeded(row, "x" * 100_000)
    assert disk.left == 995


def test_threads_may_write_at_once(path: Path) -> None:
    source = rows(400)
    with Ledger(path) as ledger:
        pending = list(ledger.pending(source))

        def write(part: int) -> None:
            for row in pending[part::4]:
                ledger.succeeded(row, "x" * row.number)

        threads = [threading.Thread(target=write, args=(part,)) for part in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ledger.sort()
    assert ids(path) == [row.id for row in source]


def test_lines_go_to_the_disk_after_the_interval_and_at_the_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: sizes.append(len(ids(path))))
    clock = FakeClock()
    with Ledger(path, clock=clock.monotonic) as ledger:
        for row in rows(7):
            ledger.succeeded(row, "x")
            clock.passed += SYNC_SECONDS / 3
    assert sizes == [4, 7, 7]


def fails(code: int) -> Callable[..., Any]:
    def call(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return call


def test_a_disk_that_fails_at_the_end_is_an_error_and_the_lock_is_released(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(path)
    ledger.succeeded(rows(1)[0], "x")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails(errno.EIO))
        with pytest.raises(LedgerError, match="Input/output error"):
            ledger.close()
    ledger.close()
    with pytest.raises(LedgerError, match="cannot write to the ledger"):
        ledger.succeeded(rows(1)[0], "x")
    with Ledger(path) as ledger:
        assert not list(ledger.pending(rows(1)))


@pytest.mark.parametrize("platform", [sys.platform, "win32"])
def test_a_failure_to_sort_leaves_the_ledger_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    source = rows(3)
    for name in ("fsync", "replace"):
        with Ledger(path) as ledger:
            for row in list(ledger.pending(source))[::-1]:
                ledger.succeeded(row, "x")
            list(ledger.pending(()))
            before = path.read_bytes()
            with monkeypatch.context() as patch:
                patch.setattr(os, name, fails(errno.ENOSPC))
                patch.setattr(sys, "platform", platform)
                with pytest.raises(
                    LedgerError, match=r"cannot sort .* No space .* it is complete, in the order of the"
                ):
                    ledger.sort()
        assert path.read_bytes() == before
        assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_interrupt_while_sorting_leaves_nothing_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with Ledger(path) as ledger:
        for row in ledger.pending(rows(3)):
            ledger.succeeded(row, "x")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", interrupt)
            with pytest.raises(KeyboardInterrupt):
                ledger.sort()
    assert ids(path) == ["0", "1", "2"]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_sorting_works_where_an_open_file_cannot_be_replaced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger(path) as ledger:
        for row in list(ledger.pending(rows(3)))[::-1]:
            ledger.succeeded(row, "x")
        monkeypatch.setattr(sys, "platform", "win32")
        ledger.sort()
    assert ids(path) == ["0", "1", "2"]


def test_a_ledger_that_cannot_be_opened_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LedgerError, match=r"cannot open the ledger .*: No such file or directory"):
        Ledger(tmp_path / "missing" / "answers.jsonl")
    with pytest.raises(LedgerError, match="cannot open the ledger"):
        Ledger(tmp_path)
    monkeypatch.setattr("smendpoint.batch._ledger.lock_file", fails(errno.ENOLCK))
    with pytest.raises(LedgerError, match=r"cannot open the ledger .*: No locks available"):
        Ledger(tmp_path / "answers.jsonl")


@posix
@pytest.mark.parametrize("gone", [False, True], ids=["replaced", "removed"])
def test_a_file_that_is_replaced_before_it_is_locked_is_opened_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    path.touch()
    locks = [False, True]

    def lock(descriptor: int) -> bool:
        if not locks.pop(0):
            path.unlink()
            if not gone:
                path.touch()
        return lock_file(descriptor)

    monkeypatch.setattr("smendpoint.batch._ledger.lock_file", lock)
    with Ledger(path) as ledger:
        ledger.succeeded(rows(1)[0], "x")
    assert ids(path) == ["0"]
    assert not locks


@posix
def test_a_link_stays_one_when_its_file_is_sorted(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.jsonl"
    link.symlink_to(path)
    with Ledger(link) as ledger:
        with pytest.raises(LedgerError, match="another process"):
            Ledger(path)
        for row in ledger.pending(rows(2)):
            ledger.succeeded(row, "x")
        ledger.sort()
    assert link.is_symlink()
    assert ids(path) == ["0", "1"]


def test_windows_locks_a_byte_that_nobody_reads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[int, int]] = []

    def locking(descriptor: int, mode: int, count: int) -> None:
        if taken:
            raise PermissionError
        taken.append((os.lseek(descriptor, 0, os.SEEK_CUR), count))

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    with Ledger(path) as ledger:
        ledger.succeeded(rows(1)[0], "x")
        with pytest.raises(LedgerError, match="another process"):
            Ledger(path)
    assert taken == [(2_147_483_646, 1)]
    taken.clear()
    with Ledger(path) as ledger:
        assert not list(ledger.pending(rows(1)))
