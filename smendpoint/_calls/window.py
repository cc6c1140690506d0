"""`Window`: the state of a `map`: the jobs in flight, the finished jobs, and when the next input is read."""

from __future__ import annotations

from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from smendpoint._core.call.fatal import is_fatal

if TYPE_CHECKING:
    from smendpoint._core.call.slots import Slot

HELD_PER_CALL = 50
"""An answer that takes 40 times the mean, like the slowest of a language model, does not stop the other calls."""


class Job:
    """One input on its way to its output.

    Attributes:
        slot: the slot of its call.
        index: the number of inputs before this one.
        output: the result of the work.
        error: the exception of the work.
        context: the context variables of the code that reads the inputs. The work runs in them: they hold the current
            span.
    """

    __slots__ = ("context", "error", "index", "output", "slot")

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.index = 0
        self.context = copy_context()
        self.output: Any = None
        self.error: BaseException | None = None


class Window:
    """The jobs of one fan-out. It does not wait, and belongs to one thread.

    At most one job at a time is without a slot. Its input was read before a slot was free; the next input is read when
    this job has started, so that no more inputs are read than are sent.

    Args:
        cap: how many jobs may be in flight at once; `None` leaves that to the slots.
        ordered: whether outputs are given in the order of their inputs, or as soon as they are ready.
        return_exceptions: whether an error takes the place of its output, or ends the fan-out.
        enumerated: whether an output is given in a pair with the index of its input.
        stop_on_fatal: whether an error that every later call would raise as well ends the fan-out in any case.

    Attributes:
        cap: the argument.
        running: the jobs in flight, including the one without a slot.
        without_slot: the job that waits for a slot, or `None`.
        exhausted: whether no further input is to be read.
    """

    def __init__(
        self,
        cap: int | None,
        *,
        ordered: bool = True,
        return_exceptions: bool = False,
        enumerated: bool = False,
        stop_on_fatal: bool = True,
    ) -> None:
        self.cap = cap
        self._ordered = ordered
        self._enumerated = enumerated
        self._return_exceptions = return_exceptions
        self._stop_on_fatal = stop_on_fatal
        self._line: deque[Job] = deque()  # the jobs whose outputs are given next, in this order
        self._read = 0
        self._most = 0
        self._held = 0
        self._just_read = False
        self.running: set[Job] = set()
        self.without_slot: Job | None = None
        self.exhausted = False

    @property
    def ready(self) -> bool:
        """Whether the next output can be given."""
        return bool(self._line) and self._line[0] not in self.running

    @property
    def over(self) -> bool:
        """Whether every input has been read and its output given."""
        return self.exhausted and not self.running and not self._line

    @property
    def full(self) -> bool:
        """Whether as many jobs are in flight as are allowed."""
        return self.cap is not None and len(self.running) >= self.cap

    @property
    def may_read(self) -> bool:
        """Whether the next input is to be read now.

        An output that is ready waits for at most one input to be read. Finished outputs pile up no further than an
        ordered fan-out needs for a slow answer.
        """
        if self.exhausted or self.full or self.without_slot is not None:
            return False
        if self.ready:
            return not self._just_read and self._held < self._most
        return self._held < HELD_PER_CALL * max(self._most, 1)

    def begin(self, job: Job) -> None:
        """Add the job of an input that was just read, and queue for its slot."""
        job.index = self._read
        self._read += 1
        self._just_read = True
        self.running.add(job)
        self.without_slot = None if job.slot.take() else job
        self._most = max(self._most, len(self.running))
        if self._ordered:
            self._line.append(job)

    def started(self, job: Job) -> None:
        """Note that a job has its slot."""
        if job is self.without_slot:
            self.without_slot = None

    def ended(self, job: Job) -> None:
        """Note that a job is over. After an error that ends the fan-out, no further input is read."""
        self.started(job)
        self.running.remove(job)
        self._held += 1
        if not self._ordered:
            self._line.append(job)
        if job.error is not None and not self._passes(job.error):
            self.exhausted = True

    def take(self) -> Any:
        """Return the output that is ready, or raise the error of a job that ends the fan-out."""
        job = self._line.popleft()
        self._held -= 1
        self._just_read = False
        error, job.error = job.error, None  # its traceback refers to the job
        if error is not None and not self._passes(error):
            try:
                raise error
            finally:
                del error
        result = job.output if error is None else error
        return (job.index, result) if self._enumerated else result

    def _passes(self, error: BaseException) -> bool:
        if not self._return_exceptions or not isinstance(error, Exception):
            return False
        return not (self._stop_on_fatal and is_fatal(error))
