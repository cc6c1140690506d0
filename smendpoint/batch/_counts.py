"""`Progress` and `Summary`: the state of a batch, and its arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from smendpoint._core.frozen import Frozen
from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from smendpoint.handlers.base import Usage

JUDGED_FROM = 100
"""The number of rows that must be done before a share of failures is meaningful."""


class Progress(Frozen):
    """The progress of a batch at one moment. It is immutable.

    Attributes:
        rows: how many rows have been read so far.
        total: how many rows the source has; `None` if that is not known beforehand.
        done: how many rows succeeded in this run.
        failed: how many rows failed in this run.
        skipped: how many rows had succeeded in an earlier run, and were not sent again.
        failed_before: how many rows had failed in an earlier run, and were not sent again.
        elapsed: seconds since the run began.
        concurrency: how many calls may be in flight at this moment.
        refusals: how many requests the endpoint refused because of load; each was sent again.
        prompt_tokens: tokens of the inputs, if the model counts them.
        completion_tokens: tokens that the model generated, if it counts them.
    """

    __slots__ = _fields = (
        "rows",
        "total",
        "done",
        "failed",
        "skipped",
        "failed_before",
        "elapsed",
        "concurrency",
        "refusals",
        "prompt_tokens",
        "completion_tokens",
    )

    rows: int
    total: int | None
    done: int
    failed: int
    skipped: int
    failed_before: int
    elapsed: float
    concurrency: int | None
    refusals: int
    prompt_tokens: int
    completion_tokens: int

    def __init__(
        self,
        *,
        rows: int = 0,
        total: int | None = None,
        done: int = 0,
        failed: int = 0,
        skipped: int = 0,
        failed_before: int = 0,
        elapsed: float = 0.0,
        concurrency: int | None = None,
        refusals: int = 0,
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
    ) -> None:
        self._assign(
            rows,
            total,
            done,
            failed,
            skipped,
            failed_before,
            elapsed,
            concurrency,
            refusals,
            prompt_tokens,
            completion_tokens,
        )

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
        return f"{type(self).__name__}({fields})"

    @property
    def rate(self) -> float:
        """Rows per second in this run."""
        return (self.done + self.failed) / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def left(self) -> float | None:
        """The seconds that the rest will take at this rate; `None` if that is not known."""
        if self.total is None or not self.rate:
            return None
        waiting = self.total - self.done - self.failed - self.skipped - self.failed_before
        return max(waiting, 0) / self.rate


class Summary(Progress):
    """The result of a batch: the attributes of `Progress` at its end."""

    __slots__ = ()

    @property
    def succeeded(self) -> bool:
        """Whether every row has its output, from this run or from an earlier one."""
        return not self.failed and not self.failed_before


P = TypeVar("P", bound=Progress)


class Counts:
    """Counts the rows of a run as they arrive.

    Args:
        total: how many rows the source has; `None` if that is not known.
    """

    __slots__ = ("completion_tokens", "done", "failed", "prompt_tokens", "rows", "total")

    def __init__(self, total: int | None) -> None:
        self.total = total
        self.rows = self.done = self.failed = self.prompt_tokens = self.completion_tokens = 0

    def add_usage(self, usage: Usage | None) -> None:
        """Add the tokens of one answer."""
        if usage is not None:
            self.prompt_tokens += usage.prompt_tokens or 0
            self.completion_tokens += usage.completion_tokens or 0

    def snapshot(self, kind: type[P], **others: Any) -> P:
        """Make a `Progress` or a `Summary` from these counts, and from those kept elsewhere."""
        return kind(**{name: getattr(self, name) for name in self.__slots__}, **others)


class MaxErrors:
    """Decides when too many rows have failed.

    Args:
        given: how many rows may fail, or ``"P%"``, the share that may fail; `None` for any number.

    Raises:
        ConfigurationError: it is neither.
    """

    def __init__(self, given: int | str | None) -> None:
        self.given = given
        self._number = self._share = None
        text = str(given)
        try:
            if given is None:
                pass
            elif text.endswith("%") and 0 <= float(text[:-1]) <= 100:
                self._share = float(text[:-1]) / 100
            elif not isinstance(given, bool) and int(text) >= 0:
                self._number = int(text)
            else:
                raise ValueError
        except ValueError:
            raise ConfigurationError(
                f"max_errors must be a whole number of rows, or a share such as '5%', not {given!r}"
            ) from None

    def exceeded(self, done: int, failed: int) -> bool:
        """Return whether more rows have failed than are allowed."""
        if self._number is not None:
            return failed > self._number
        return self._share is not None and done + failed >= JUDGED_FROM and failed > self._share * (done + failed)
