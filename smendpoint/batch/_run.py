"""`run` and `arun`: call an endpoint for each row of a source, and keep the answers in a ledger.

The thread or task that calls for a row also writes its line, as soon as the answer arrives: only rows in flight are not
written yet. The caller's thread or task reads the rows, and counts.
"""

from __future__ import annotations

from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._calls.async_fanout import fan_out as async_fan_out
from smendpoint._calls.fanout import fan_out
from smendpoint._calls.window import Window
from smendpoint._core.aws.operations import INVOKE_ENDPOINT
from smendpoint.async_endpoint import AsyncEndpoint
from smendpoint.batch._job import Job, Outcome
from smendpoint.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from os import PathLike

    from smendpoint._core.call.slots import Slot
    from smendpoint._core.call.timing import Timeout
    from smendpoint._transport.deadline import Cancellation
    from smendpoint.batch._counts import Progress, Summary
    from smendpoint.batch._rows import Row
    from smendpoint.batch._sources import Source, SourceFormat


def run(
    endpoint: Endpoint[Any, Any, Any],
    source: Source,
    output: str | PathLike[str],
    *,
    format: SourceFormat | None = None,
    input_field: str | Sequence[str] | None = None,
    id_field: str | None = None,
    param_field: str | Sequence[str] | None = None,
    batch_rows: int | None = None,
    retry_failed: bool = False,
    ordered: bool = False,
    max_errors: int | str | None = None,
    max_concurrency: int | None = None,
    progress: Callable[[Progress], object] | None = None,
    timeout: float | Timeout | None = None,
    **model_kwargs: Any,
) -> Summary:
    """Call an endpoint for each row of a source, and write each answer to a ledger as it arrives.

    The ledger is the output: JSON Lines, a line for each row. The same call again continues: it does not send rows that
    succeeded. Memory does not grow with the number of rows.

    Args:
        endpoint: the endpoint to call. Rows in OpenAI's batch format go through a `JSONHandler`, others through the
            endpoint's own handler.
        source: the rows: the name of a file, ``"-"`` for standard input, or any iterable of inputs or of mappings.
        output: the ledger; it is created, or continued. ``"-"`` or a pipe takes lines, but a later run cannot continue
            from it.
        format: the format of the file: ``"jsonl"``, ``"csv"``, ``"text"`` (one input in each line) or ``"parquet"``;
            by default, its name decides.
        input_field: the field of a row that is its input; several names make a list of their values. By default, all
            fields without another role.
        id_field: the field with the row's id; by default, the row's number, from 0.
        param_field: the field, or the fields, with parameters for the model.
        batch_rows: how many rows go into one request, for a handler that takes a list of inputs and returns a list of
            outputs. By default one row, in a list if the handler takes only lists (vectors, predictions).
        retry_failed: whether rows that failed in an earlier run are sent again.
        ordered: whether the ledger is sorted at the end, in the order of the source.
        max_errors: how many rows may fail, or ``"P%"``: the share of the rows sent that may fail, checked from 100 rows
            on. With more failures, no further row is sent, and the run ends with an error. `None` for any number.
        max_concurrency: how many calls may be in flight at once, at most the endpoint's ``max_connections`` (10 unless
            set); `None` finds out how many.
        progress: called with a `Progress` at most ten times a second, in the caller's thread, and at the end.
        timeout: the timeout of each call; as for `Endpoint.invoke`.
        **model_kwargs: parameters for the model, and `stop` and `endpoint_kwargs`, as for `Endpoint.map`. A row's own
            parameters take precedence.

    Returns:
        The counts of the run. They include rows that failed, which are also in the ledger.

    Raises:
        ConfigurationError: an argument or a row is not valid, or the input of a row is not the one that the ledger has
            an answer for.
        LedgerError: the ledger cannot be opened or written, or another process has it.
        TooManyErrorsError: more rows failed than `max_errors` allows.
        EndpointError: every later row would fail like this: there is no such endpoint, access is denied, or nothing has
            succeeded for ``RetryPolicy.throttle_timeout`` or ``cold_start_timeout``.
        CredentialsError: there are no usable credentials.
    """
    options = locals()
    if not isinstance(endpoint, Endpoint):
        raise errors.ConfigurationError(f"run takes an Endpoint, not {type(endpoint).__name__}: use arun")
    with Job(options.pop("endpoint"), options) as job:
        asked = job.endpoint
        caller = asked._caller
        now = caller.clock.monotonic

        def work(rows: list[Row], cancellation: Cancellation, slot: Slot) -> Outcome:
            began = now()
            slot.patient = True
            while True:
                try:
                    request, stop = asked._request(INVOKE_ENDPOINT, *job.arguments(rows))
                    response = asked._response(*caller.send(request, cancellation, slot), stop)
                except errors.SmendpointError as error:
                    if not job.goes_again(error):
                        return job.failed(rows, error, now() - began)
                else:
                    return job.answered(rows, response)

        window = Window(job.cap, ordered=False)
        outcomes: Any = fan_out(work, job.requests(), job.limiter, window, stoppable=caller.transport.stoppable)
        try:
            with closing(outcomes):
                for outcome in outcomes:
                    job.count(outcome)
        finally:
            if asked is not endpoint:
                asked.close()
        return job.finish()


async def arun(
    endpoint: AsyncEndpoint[Any, Any, Any],
    source: Source,
    output: str | PathLike[str],
    *,
    format: SourceFormat | None = None,
    input_field: str | Sequence[str] | None = None,
    id_field: str | None = None,
    param_field: str | Sequence[str] | None = None,
    batch_rows: int | None = None,
    retry_failed: bool = False,
    ordered: bool = False,
    max_errors: int | str | None = None,
    max_concurrency: int | None = None,
    progress: Callable[[Progress], object] | None = None,
    timeout: float | Timeout | None = None,
    **model_kwargs: Any,
) -> Summary:
    """Do the same as `run` with an `AsyncEndpoint`: the same arguments, the same ledger, the same errors.

    Rows are read and lines are written in the event loop. That is fast for files, but a source that blocks, such as a
    pipe from a slow program, blocks the loop: use `run`, which has threads.
    """
    options = locals()
    if not isinstance(endpoint, AsyncEndpoint):
        raise errors.ConfigurationError(f"arun takes an AsyncEndpoint, not {type(endpoint).__name__}: use run")
    with Job(options.pop("endpoint"), options) as job:
        asked = job.endpoint
        caller = asked._caller
        now = caller.clock.monotonic

        async def work(rows: list[Row], slot: Slot) -> Outcome:
            began = now()
            slot.patient = True
            while True:
                try:
                    request, stop = asked._request(INVOKE_ENDPOINT, *job.arguments(rows))
                    response = asked._response(*await caller.send(request, slot), stop)
                except errors.SmendpointError as error:
                    if not job.goes_again(error):
                        return job.failed(rows, error, now() - began)
                else:
                    return job.answered(rows, response)

        outcomes = async_fan_out(work, job.requests(), job.limiter, Window(job.cap, ordered=False))
        try:
            async with aclosing(outcomes):
                async for outcome in outcomes:
                    job.count(outcome)
        finally:
            if asked is not endpoint:
                await asked.aclose()
        return job.finish()
