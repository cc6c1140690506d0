"""Running a program in the foreground, as `env` does: it has the streams, the signals and the exit status."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from smendpoint.cli._terminal import complain

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
    from types import FrameType

NOT_EXECUTABLE = 126
"""The exit status of a command that cannot be run, as a shell has it."""

NOT_FOUND = 127
"""The exit status of a command that does not exist, as a shell has it."""

SIGNALLED = 128
"""The exit status of a command that a signal ended is this and the signal's number, as a shell has it."""


def _known(*names: str) -> list[signal.Signals]:
    """Give the signals that this system has."""
    return [signal.Signals[name] for name in names if name in signal.Signals.__members__]


# A key such as Ctrl-C sends these to every process of the terminal's foreground group, or of a console on Windows.
_FROM_KEYS = _known("SIGINT", "SIGQUIT", "SIGBREAK")
_FROM_PROCESSES = _known("SIGTERM", "SIGHUP")
_TERMINAL = "/dev/tty"


@contextmanager
def handling(numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], object]) -> Generator[None]:
    """Handle signals within the block."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _keys_reach_us() -> bool:
    """Say whether this process, and so its child, gets the signals of the terminal's keys."""
    try:
        with open(_TERMINAL, "rb") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return os.name == "nt"  # there the child has our console


def run_child(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command to its end, and pass on the signals that it does not get itself.

    Args:
        command: the program and its arguments. The program is looked for in the ``PATH`` of `environment`.
        environment: its environment, as a whole.

    Returns:
        Its exit status: 128 and the number of a signal that ended it, 127 if there is no such program, 126 if it
        cannot be run.
    """
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if child is None:
            early.append(number)
        elif number not in _FROM_KEYS or not _keys_reach_us():
            child.send_signal(number)

    # A signal that is ignored, as with `nohup`, stays ignored here and in the child.
    numbers = [number for number in (*_FROM_KEYS, *_FROM_PROCESSES) if signal.getsignal(number) != signal.SIG_IGN]
    program = shutil.which(command[0], path=environment.get("PATH")) or command[0]  # Windows would ignore our PATH
    with handling(numbers, pass_on):
        try:
            child = subprocess.Popen([program, *command[1:]], env=environment)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            complain(f"cannot run {command[0]!r}: {error.strerror}")
            return NOT_FOUND if missing else NOT_EXECUTABLE
        for number in early:
            child.send_signal(number)
        status = child.wait()
    return SIGNALLED - status if status < 0 else status
