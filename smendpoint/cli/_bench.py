"""``smendpoint bench``: measures an endpoint under a load."""

from __future__ import annotations

import argparse
import itertools
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from smendpoint.cli._options import (
    HANDLERS,
    MORE_HANDLERS,
    add_handler_option,
    add_options,
    count,
    endpoint_options,
    make_handler,
    parameters,
    seconds,
    told,
)
from smendpoint.cli._terminal import complain
from smendpoint.errors import ConfigurationError, SmendpointError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smendpoint.bench import Prompt, Run, Sweep
    from smendpoint.cli._bench_shown import Lines

FORMATS = {name: {**HANDLERS, **MORE_HANDLERS}[name] for name in ("text", "completions", "chat", "embeddings")}
# The parameter that limits an answer.
_LENGTHS = {"text": "max_new_tokens", "completions": "max_tokens", "chat": "max_tokens"}
DEFAULT_COUNT = 100
"""The number of requests of a closed or an open loop, if neither a count nor a duration is given."""

INTERRUPTED = 130
EXAMPLES = """
smendpoint bench my-llm --concurrency 8
smendpoint bench my-chat --handler chat --rate 4 --duration 60 --goodput ttft:500 tpot:50
smendpoint bench my-llm --sweep 1,2,4,8,16,32 --plot sweep.svg --json sweep.json
smendpoint bench my-llm --concurrency 4 --prompts prompts.jsonl --output-tokens 64 --warmup 8
smendpoint bench my-embeddings --handler embeddings --rate 20 --count 500
"""


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    handlers = "; ".join(f"{name}: {about}" for name, (_, about) in FORMATS.items())
    parser = commands.add_parser(
        "bench",
        help="measure an endpoint under a load",
        description="Sends requests to an endpoint, and reports throughput and latencies: with N clients at once,"
        " with requests that arrive at a rate, or with more and more clients, to find out how many calls the endpoint"
        " takes at once. A request that fails is not sent again. Requests are billed like any others.",
    )
    parser.add_argument("endpoint", metavar="ENDPOINT", help="the endpoint's name")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument(
        "--concurrency", type=_positive, metavar="N", help="N clients, each of which sends once it has its answer"
    )
    kind.add_argument(
        "--rate", type=_rate, metavar="N", help="N requests arrive per second, at random; inf: all at once"
    )
    kind.add_argument(
        "--sweep", type=_numbers, metavar="N,N,...", help="one load for each number of clients, and some in between"
    )
    parser.add_argument(
        "--count", type=_positive, metavar="N", help="how many requests (default: 100; in a sweep 10 per client)"
    )
    parser.add_argument("--duration", type=seconds, metavar="SECONDS", help="how long to send requests")
    parser.add_argument("--warmup", type=count, default=0, metavar="N", help="requests before each load, not measured")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the seed of arrivals and words (default: 0)")
    parser.add_argument("--prompts", metavar="FILE", help="prompts: lines of text, or a .jsonl file")
    parser.add_argument(
        "--input-tokens", type=_positive, metavar="N", help="the approximate length of generated prompts (default: 256)"
    )
    parser.add_argument("--output-tokens", type=_positive, metavar="N", help="the most tokens of an answer")
    parser.add_argument("--no-stream", action="store_true", help="request whole answers")
    parser.add_argument("--handler", choices=FORMATS, default="text", help=f"{handlers} (default: text)")
    add_handler_option(parser)
    parser.add_argument(
        "--goodput",
        nargs="+",
        type=_goal,
        metavar="NAME:MS",
        default=[],
        help="goals: ttft, tpot and e2el, in ms; the endpoint's name comes before this option",
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file; '-': only to standard output")
    parser.add_argument("--plot", metavar="FILE", help="draw the figures: .svg, .png or .pdf")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    add_options(parser, retries=0)
    parser.set_defaults(run=run)


def _positive(text: str) -> int:
    number = count(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return number


def _rate(text: str) -> float:
    with suppress(ValueError):
        if float(text) > 0:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, or inf")


def _numbers(text: str) -> list[int]:
    return [_positive(part.strip()) for part in text.split(",")]


def _goal(text: str) -> tuple[str, float]:
    from smendpoint.bench._records import GOALS

    name, _, limit = text.partition(":")
    with suppress(ValueError):
        if name in GOALS and float(limit) > 0:
            return name, float(limit)
    raise argparse.ArgumentTypeError(f"{text!r} is not ttft, tpot or e2el with milliseconds, such as ttft:500")


def run(arguments: argparse.Namespace) -> int:
    import asyncio

    from smendpoint.bench import plot
    from smendpoint.cli._bench_shown import display, doubts, first_failures, write_run, write_sweep

    handler = make_handler(arguments, FORMATS)
    _check_files(arguments)
    interrupted, answered = False, False
    failure: SmendpointError | None = None
    with display(quiet=arguments.quiet) as show:
        bench = _Bench(arguments, handler, show)
        try:
            asyncio.run(bench.go())
        except KeyboardInterrupt:
            interrupted = True
        except SmendpointError as error:  # every later call would raise it
            failure = error
    runs, found = bench.measured(), bench.found
    if runs:
        if arguments.json != "-":
            if arguments.sweep is None:
                write_run(runs[0])
            else:
                write_sweep(runs, "" if found is None else found.sentence())
        if arguments.json is not None:
            _write_json(arguments.json, bench.figures(interrupted=interrupted, failure=failure))
        answered = any(one.report["completed"] for one in runs)
        if arguments.plot is not None and answered:
            plot(arguments.plot, runs, knee=None if found is None else found.knee, title=arguments.endpoint)
        for first in first_failures(runs):
            complain(f"the first {type(first).__name__}: {told(first, arguments.options)}")
        for doubt in doubts(runs):
            complain(doubt)
    if failure is not None:
        raise failure
    if interrupted:
        return INTERRUPTED
    return 0 if answered else 1


def _check_files(arguments: argparse.Namespace) -> None:
    """Raise `ConfigurationError` if a file cannot be written: before the requests, not after them."""
    from smendpoint.bench._plot import check_plot
    from smendpoint.cli._invoke import may_write

    if arguments.plot is not None:
        check_plot(arguments.plot)
    for option, path in (("--plot", arguments.plot), ("--json", arguments.json)):
        if path not in (None, "-") and not may_write(path):
            raise ConfigurationError(f"{option}: cannot write {path!r}")


def _write_json(path: str, figures: dict[str, Any]) -> None:
    text = json.dumps(figures, indent=2)
    if path == "-":
        print(text)
    else:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + "\n")


class _Bench:
    """The loads of one command."""

    def __init__(self, arguments: argparse.Namespace, handler: Any, show: Lines) -> None:
        self._arguments = arguments
        self._handler = handler
        self._show = show
        self._model = parameters(arguments.param)
        if arguments.output_tokens is not None:
            if arguments.handler not in _LENGTHS:
                raise ConfigurationError("--output-tokens: embeddings have no length")
            self._model = {_LENGTHS[arguments.handler]: arguments.output_tokens, **self._model}
        if arguments.prompts is not None and arguments.input_tokens is not None:
            raise ConfigurationError("--input-tokens is for generated prompts: leave it out with --prompts")
        self._prompts = self._inputs()
        self._whole: list[Run] = []
        self._begun: list[Run] = []

    def _inputs(self) -> Iterator[Prompt]:
        from smendpoint.bench._inputs import prompts, read_prompts

        arguments = self._arguments
        if arguments.prompts is None:
            found = prompts(arguments.input_tokens or 256, arguments.seed)
        else:
            found = itertools.cycle(read_prompts(arguments.prompts))
        if arguments.handler != "embeddings":
            return found
        return (one._replace(input=[one.input]) if isinstance(one.input, str) else one for one in found)

    async def go(self) -> None:
        """Measure."""
        import asyncio

        from smendpoint._core.call.retry import RetryPolicy
        from smendpoint.async_endpoint import AsyncEndpoint
        from smendpoint.bench import Load, measure, sweep

        arguments = self._arguments
        retry = RetryPolicy(max_attempts=(arguments.retries or 0) + 1, cold_start_timeout=0)
        options = endpoint_options(arguments, self._handler)
        common: dict[str, Any] = {
            "warmup": arguments.warmup,
            "goals": dict(arguments.goodput),
            "stream": not arguments.no_stream and arguments.handler != "embeddings",
            "stop": arguments.stop,
            "before": self._begun.append,
        }
        watch = asyncio.ensure_future(self._show.follow(self._begun))
        try:
            async with AsyncEndpoint(**options, model_kwargs=self._model, retry=retry) as endpoint:
                if arguments.sweep is None:
                    number = DEFAULT_COUNT if arguments.count is arguments.duration is None else arguments.count
                    load = Load(arguments.concurrency, arguments.rate, number, arguments.duration, arguments.seed)
                    await measure(endpoint, self._prompts, load, **common)
                else:
                    common |= {"count": arguments.count, "duration": arguments.duration, "after": self._after}
                    await sweep(endpoint, self._prompts, arguments.sweep, **common)
        finally:
            watch.cancel()
            await asyncio.wait([watch])

    def _after(self, run: Run) -> None:
        self._whole.append(run)
        self._show.finished(run)

    def measured(self) -> list[Run]:
        """Return the measurements, from the fewest clients to the most, including a load that was cut short."""
        return sorted([run for run in self._begun if run.records], key=lambda run: run.load.concurrency or 0)

    @property
    def found(self) -> Sweep | None:
        """The knee of a sweep; if it was cut short, that of the loads so far."""
        from smendpoint.bench import Sweep

        return Sweep.of(self._whole) if self._whole else None

    def figures(self, *, interrupted: bool, failure: SmendpointError | None) -> dict[str, Any]:
        """Give the object that ``--json`` writes."""
        arguments, runs, found = self._arguments, self.measured(), self.found
        error = None if failure is None else f"{type(failure).__name__}: {failure}"
        common: dict[str, Any] = {"endpoint": arguments.endpoint, "handler": arguments.handler}
        common |= {"interrupted": interrupted, "error": error}
        if arguments.sweep is None:
            return {**common, **runs[0].report}
        knee, sentence = (None, None) if found is None else (found.knee, found.sentence())
        return {**common, "knee": knee, "sentence": sentence, "loads": [run.report for run in runs]}
