"""`Job`: the common part of `run` and `arun`. It reads rows, writes lines and counts; it makes no call."""

from __future__ import annotations

import logging
import os
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from smendpoint import errors
from smendpoint._calls.arguments import checked_limit, model_parameters, stop_sequences
from smendpoint._calls.endpoint import remade
from smendpoint._core.call.fatal import is_fatal
from smendpoint._core.call.hiding import hidden
from smendpoint._core.call.limit import AdaptiveConcurrency
from smendpoint._core.call.load import outcome_of
from smendpoint.batch._counts import Counts, MaxErrors, Progress, Summary
from smendpoint.batch._ledger import Ledger
from smendpoint.batch._requests import group, rows_of_a_request, split
from smendpoint.batch._rows import read_rows
from smendpoint.batch._total import total_of
from smendpoint.handlers import EmbeddingsHandler, JSONHandler
from smendpoint.handlers._answers import may_have_usage
from smendpoint.handlers.text import ModelHandler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

    from smendpoint._calls.response import Response
    from smendpoint.batch._rows import Row
    from smendpoint.handlers.base import Usage

P = TypeVar("P", Progress, Summary)

_log = logging.getLogger("smendpoint.batch")

PROGRESS_SECONDS = 0.1
"""Seconds between two reports of progress."""


class Outcome(NamedTuple):
    """The outcome of one request: how many of its rows have an output, how many an error, and its tokens."""

    done: int
    failed: int
    usage: Usage | None = None


class Job:
    """One run over a source, as a context: it holds the ledger.

    Args:
        endpoint: the endpoint to call.
        options: the other arguments of `run`.

    Attributes:
        endpoint: the endpoint to call; for OpenAI's batch format another one, with a handler for that format.
        cap: the most calls at a time; `None` if only the limiter decides.
        limiter: admits calls: the endpoint's own, or one for this run.

    Raises:
        ConfigurationError: an argument is not valid.
        LedgerError: the ledger cannot be opened, or another process has it.
    """

    def __init__(self, endpoint: Any, options: dict[str, Any]) -> None:
        source, output, caller = options["source"], options["output"], endpoint._caller
        parameters: dict[str, Any] = options["model_kwargs"]
        self._stop = stop_sequences(parameters.pop("stop", None))
        self._members = hidden(parameters.pop("endpoint_kwargs", None))
        self._parameters = model_parameters(parameters, caller.name)
        self._limits = None if options["timeout"] is None else caller.call_timeout(options["timeout"])
        self.cap = checked_limit("max_concurrency", options["max_concurrency"])
        self._max_errors = MaxErrors(options["max_errors"])
        size = rows_of_a_request(endpoint.content_handler, checked_limit("batch_rows", options["batch_rows"]))
        self._ordered: bool = options["ordered"]
        self._output = os.fspath(output)
        if isinstance(source, (str, os.PathLike)) and _same_file(os.fspath(source), self._output):
            raise errors.ConfigurationError(f"{self._output} is the input: choose another output")
        names = {name: options[name] for name in ("format", "input_field", "id_field", "param_field")}
        rows = read_rows(source, **names)
        first = next(rows, None)
        if first is None:
            raise errors.ConfigurationError("the source has no rows")
        self.endpoint, self._size, self._openai = endpoint, size, first.openai
        if first.openai:
            if options["batch_rows"] is not None:
                raise errors.ConfigurationError("OpenAI's batch format has one row per request: leave out batch_rows")
            if self._stop:
                raise errors.ConfigurationError(
                    "OpenAI's batch format has stop in the body of each request: leave out stop"
                )
            self._size = None
            if not isinstance(endpoint.content_handler, JSONHandler):
                self.endpoint = remade(type(endpoint), endpoint, content_handler=JSONHandler())
                caller = self.endpoint._caller
        self._rows = chain((first,), rows)
        self.limiter = caller.limiter or caller.make_limiter(self.cap or AdaptiveConcurrency())
        self._refused_before: int = self.limiter.refusals
        self._clock = caller.clock.monotonic
        self._started = self._next = self._clock()
        self._progress = options["progress"]
        self._counts = Counts(None if self._progress is None else total_of(source, options["format"]))
        self._failure: Exception | None = None
        self._stopped = False
        self._reached = False
        self._lost_at: float | None = None  # the time since which the endpoint cannot be reached
        self._patience: float | None = caller.policy.throttle_timeout
        self._ledger = Ledger(output, retry_failed=options["retry_failed"])
        if self._ordered and not self._ledger.is_file:
            self._ledger.close()
            raise errors.ConfigurationError(f"only a file can be ordered, and {self._output} is not a file")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self._ledger.close()
        finally:
            # An error of the ledger says this itself; our other errors come from the endpoint.
            if isinstance(error, (errors.EndpointError, errors.CredentialsError)):
                error.message = f"{error.message} | {self._kept}"

    @property
    def _kept(self) -> str:
        said = f"{self._counts.done:,} rows were answered and {self._counts.failed:,} failed"
        kept = f", which {self._output} keeps: run it again to continue with the rest"
        return said + kept if self._ledger.is_file else said

    def requests(self) -> Iterator[list[Row]]:
        """Yield the rows of each request. When the source fails, or too many rows have failed, there are no more."""
        return group(self._wanted(), self._size)

    def _wanted(self) -> Iterator[Row]:
        try:
            for row in self._ledger.pending(self._counted()):
                if self._stopped:
                    return
                yield row
        except Exception as error:  # the calls in flight are paid for: they end first
            self._failure = error

    def _counted(self) -> Iterator[Row]:
        for row in self._rows:
            self._counts.rows += 1
            self._report()
            yield row

    def arguments(self, rows: list[Row]) -> tuple[Any, ...]:
        """Give the arguments of the call for some rows."""
        value = rows[0].input if self._size is None else [row.input for row in rows]
        own = rows[0].parameters
        parameters = {**self._parameters, **own} if own else self._parameters
        return value, self._stop, self._limits, self._members, {"parameters": parameters} if parameters else {}

    def goes_again(self, error: errors.SmendpointError) -> bool:
        """Return whether to repeat a request, because the endpoint can no longer be reached. Any thread may call this.

        Raises:
            EndpointError: `error` itself, if the endpoint has not been reached in this run, or for too long.
        """
        # If only one call at a time tries to connect, the total of another may pass while it waits.
        waited = isinstance(error, errors.DeadlineExceededError) and not error.request_sent
        if not waited and not isinstance(error, errors.ConnectError):
            return False
        now = self._clock()
        if self._lost_at is None:
            self._lost_at = now
            if self._reached:
                _log.warning("the run is waiting because the endpoint cannot be reached: %s", error)
        if not self._reached or (self._patience is not None and now - self._lost_at >= self._patience):
            raise error
        return True

    def answered(self, rows: list[Row], response: Response[Any]) -> Outcome:
        """Write the lines of an answer. Any thread may call this."""
        self._reached, self._lost_at = True, None
        try:
            outputs = [response.output] if self._size is None else split(response.output, len(rows))
        except errors.HandlerError as error:
            return self._none(rows, error, response)
        usage = _usage(response)
        failed = 0
        for row, output in zip(rows, outputs, strict=True):
            try:
                self._ledger.succeeded(
                    row,
                    output,
                    usage=usage if len(rows) == 1 else None,
                    elapsed=response.elapsed,
                    attempts=response.attempts,
                    request_id=response.request_id,
                )
            except errors.HandlerError as error:
                failed += self._none([row], error, response).failed
        return Outcome(len(rows) - failed, failed, usage)

    def _none(self, rows: list[Row], error: errors.HandlerError, response: Response[Any]) -> Outcome:
        """Write the failures of rows whose answer has arrived but cannot be used."""
        error.endpoint_name, error.attempts = self.endpoint.endpoint_name, response.attempts
        return self.failed(rows, error, response.elapsed)

    def failed(self, rows: list[Row], error: errors.SmendpointError, elapsed: float) -> Outcome:
        """Write the lines of a failure, or raise it if every row would fail like this. Any thread may call this.

        If an endpoint refuses calls or has no model, a call is given up only after minutes in which no other succeeded.
        """
        given_up = isinstance(error, errors.ModelNotReadyError) or outcome_of(error, self.limiter.markers) == "refused"
        if given_up or is_fatal(error):
            raise error
        self._reached, self._lost_at = True, None
        for row in rows:
            self._ledger.failed(row, error, elapsed=elapsed)
        return Outcome(0, len(rows))

    def count(self, outcome: Outcome) -> None:
        """Count the outcome of a request, and decide whether the run continues."""
        counts = self._counts
        counts.done += outcome.done
        counts.failed += outcome.failed
        counts.add_usage(outcome.usage)
        self._stopped = self._stopped or self._max_errors.exceeded(counts.done, counts.failed)
        self._report()

    def finish(self) -> Summary:
        """End the run.

        Raises:
            Exception: the exception of the source.
            TooManyErrorsError: the run was stopped because too many rows had failed.
        """
        if self._failure is None and not self._stopped:
            if self._counts.total is not None:  # a row of CSV may have several lines
                self._counts.total = self._counts.rows
            if self._ordered:
                self._ledger.sort()
        if self._progress is not None:
            self._progress(self._snapshot(Progress))
        if self._failure is not None:
            raise self._failure
        summary = self._snapshot(Summary)
        if self._stopped:
            raise errors.TooManyErrorsError(
                f"more rows failed than max_errors={self._max_errors.given!r} allows; {self._kept}"
            )
        return summary

    def _report(self) -> None:
        if self._progress is not None:
            now = self._clock()
            if now >= self._next:
                self._next = now + PROGRESS_SECONDS
                self._progress(self._snapshot(Progress))

    def _snapshot(self, kind: type[P]) -> P:
        limit: int = self.limiter.limit
        return self._counts.snapshot(
            kind,
            skipped=self._ledger.skipped,
            failed_before=self._ledger.failed_before,
            elapsed=self._clock() - self._started,
            concurrency=limit if self.cap is None else min(limit, self.cap),
            refusals=self.limiter.refusals - self._refused_before,
        )


def _usage(response: Response[Any]) -> Usage | None:
    """Return the token counts of an answer, if they can be read."""
    # An answer is parsed a second time for them. A user's handler may have other names for the counts.
    read = getattr(type(response._handler), "read_details", None)
    if read is ModelHandler.read_details and not may_have_usage(response._body):
        return None
    if read is EmbeddingsHandler.read_details:
        return None  # vectors take too long to parse twice
    try:
        return response.usage
    except errors.SmendpointError:
        return None


def _same_file(source: str, output: str) -> bool:
    try:
        return os.path.samefile(source, output)
    except OSError:  # one of them does not exist
        return False
