"""``smendpoint batch``: an endpoint's answers to all rows of a file, in a ledger that a second run continues."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from smendpoint._core.call.hooks import CallHooks, CallInfo, cold_start_reason
from smendpoint._core.call.limit import AdaptiveConcurrency
from smendpoint.cli._options import (
    HANDLERS,
    add_handler_option,
    add_options,
    make_endpoint,
    make_handler,
    parameters,
    told,
)
from smendpoint.cli._terminal import complain, discard
from smendpoint.errors import (
    CredentialsError,
    EndpointError,
    LedgerError,
    ModelNotReadyError,
    SmendpointError,
    TooManyErrorsError,
)

if TYPE_CHECKING:
    from collections.abc import Generator

MANY = {
    "embeddings": ("EmbeddingsHandler", "a text in, its vector out; takes --batch-rows"),
    "tabular": ("TabularHandler", "a row of a table in, a prediction out; takes --batch-rows"),
}

# The exit statuses besides 0 and 2. A shell reports 130 and 143 for a program that SIGINT or SIGTERM ended.
SOME_FAILED, STOPPED, NOT_WRITTEN, INTERRUPTED, TERMINATED = 1, 3, 4, 130, 143

EPILOG = """\
The output is a ledger: JSON Lines, one line per row, with its id and its output or error. The same command again
continues: rows that succeeded are not sent again, and rows that failed only with --retry-failed.

exit status:
  0    every row has its output
  1    the run finished, but some rows failed
  2    the command line, a setting or the input is not valid, or another process has the output
  3    the run stopped early: too many errors (--max-errors), or a failure that all rows would share
  4    the output or the progress cannot be written: the disk is full, or its reader has gone
  130  interrupted (Ctrl-C); 143 terminated (SIGTERM)
After 3, 4, 130 and 143, the same command continues the run.
"""
EXAMPLES = """
smendpoint batch my-llm prompts.txt -o answers.jsonl
smendpoint batch my-chat rows.csv -o answers.jsonl --handler chat --input-field question --id-field id
smendpoint batch my-llm rows.jsonl -o answers.jsonl --retry-failed --max-errors 5%
smendpoint batch my-embeddings texts.jsonl -o vectors.jsonl --handler embeddings --batch-rows 32
smendpoint batch my-llm openai-batch.jsonl -o openai-results.jsonl
zcat prompts.gz | smendpoint batch my-llm - -o answers.jsonl --format text --quiet
"""


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    handlers = "; ".join(f"{name}: {about}" for name, (_, about) in {**HANDLERS, **MANY}.items())
    parser = commands.add_parser(
        "batch",
        help="call an endpoint for each row of a file",
        description="Calls a SageMaker endpoint for each row of a file, as many at a time as it can take, and writes"
        " each answer as it arrives.",
        epilog=EPILOG,
    )
    parser.add_argument("endpoint", metavar="ENDPOINT", help="the endpoint's name")
    parser.add_argument("input", metavar="INPUT", help="the file with the rows; '-': standard input")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUTPUT",
        help="the ledger, which is created or continued; '-': standard output",
    )
    parser.add_argument(
        "--format", choices=("jsonl", "csv", "text", "parquet"), help="the format of the input (default: by its name)"
    )
    parser.add_argument(
        "--input-field",
        action="append",
        metavar="NAME",
        help="the field with a row's input; if repeated, a list of several (default: all other fields)",
    )
    parser.add_argument("--id-field", metavar="NAME", help="the field with a row's id (default: its number)")
    parser.add_argument(
        "--param-field",
        action="append",
        metavar="NAME",
        help="the field with a row's parameters for the model; may be repeated",
    )
    parser.add_argument("--handler", choices=[*HANDLERS, *MANY], help=f"{handlers} (default: text)")
    add_handler_option(parser)
    parser.add_argument("--batch-rows", type=int, metavar="N", help="rows per request, if the model takes several")
    parser.add_argument("--retry-failed", action="store_true", help="send the rows that failed again")
    parser.add_argument("--ordered", action="store_true", help="sort the output at the end, in the input's order")
    parser.add_argument(
        "--max-errors",
        metavar="N|P%",
        help="stop when more than N rows have failed, or more than P%% of the rows sent",
    )
    parser.add_argument("--max-concurrency", type=int, metavar="N", help="the most calls at once (default: adaptive)")
    parser.add_argument("--quiet", action="store_true", help="show no progress and no summary")
    add_options(parser)
    parser.set_defaults(run=run)


class _Waiting(CallHooks):
    """Reports once that calls wait for the model, until one of them succeeds."""

    def __init__(self) -> None:
        self._said = False

    def attempt_failed(self, call: CallInfo, error: SmendpointError, delay: float | None) -> None:
        if isinstance(error, ModelNotReadyError) and delay is not None and not self._said:
            self._said = True
            complain(f"{cold_start_reason(error)}; the rows wait for it")

    def call_finished(self, call: CallInfo, error: BaseException | None) -> None:
        if error is None:
            self._said = False


@contextmanager
def _terminations() -> Generator[list[int]]:
    """Treat SIGTERM as an interrupt, and note it in the yielded list."""
    seen: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGTERM, before)


def run(arguments: argparse.Namespace) -> int:
    try:
        with _terminations() as terminations:
            try:
                status, message = _run(arguments)
            except KeyboardInterrupt:
                message, status = ("terminated", TERMINATED) if terminations else ("interrupted", INTERRUPTED)
                if os.path.isfile(arguments.output):
                    message += f": {arguments.output} has the answers so far; the same command continues with the rest"
            except LedgerError as error:
                status, message = (
                    NOT_WRITTEN if isinstance(error.__cause__, OSError) else 2,
                    told(error, arguments.options),
                )
            except (EndpointError, CredentialsError, TooManyErrorsError) as error:
                status, message = STOPPED, f"{type(error).__name__}: {told(error, arguments.options)}"
        if message:
            complain(message)
    except OSError:  # standard error has no reader any more; the ledger is complete
        discard(sys.stderr)
        status = NOT_WRITTEN
    return status


def _run(arguments: argparse.Namespace) -> tuple[int, str]:
    """Run the batch; return the exit status and a message."""
    from smendpoint import batch
    from smendpoint.cli._progress import describe, display

    arguments.handler = arguments.handler or "text"
    handler, model = make_handler(arguments, {**HANDLERS, **MANY}), parameters(arguments.param)
    hooks = None if arguments.quiet else _Waiting()
    connections = max(AdaptiveConcurrency().maximum, arguments.max_concurrency or 0)
    with (
        make_endpoint(arguments, handler, hooks, connections) as endpoint,
        display(quiet=arguments.quiet) as show,
    ):
        summary = batch.run(
            endpoint,
            arguments.input,
            arguments.output,
            format=arguments.format,
            input_field=_names(arguments.input_field),
            id_field=arguments.id_field,
            param_field=_names(arguments.param_field),
            batch_rows=arguments.batch_rows,
            retry_failed=arguments.retry_failed,
            ordered=arguments.ordered,
            max_errors=arguments.max_errors,
            max_concurrency=arguments.max_concurrency,
            progress=None if arguments.quiet else show,
            stop=arguments.stop,
            parameters=model,
        )
    message = "" if arguments.quiet else describe(summary)
    if message and not summary.succeeded:
        message += ". --retry-failed sends the rows that failed again"
    return 0 if summary.succeeded else SOME_FAILED, message


def _names(names: list[str] | None) -> str | list[str] | None:
    """Return one name, or several as a list."""
    return names[0] if names and len(names) == 1 else names
