"""``smendpoint demo``: a question about a document, asked and answered on this machine."""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from smendpoint._version import __version__
from smendpoint.cli._terminal import Terminal, draws

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from smendpoint.emulator import Emulator, ModelReply, ModelRequest

QUESTION = "How long was Elizabeth hospitalized?"
DOCUMENT = """
Peter and Elizabeth took a taxi to attend the night party in the city. While in the party, Elizabeth collapsed and was rushed to the hospital.
Since she was diagnosed with a brain injury, the doctor told Peter to stay besides her until she gets well.
Therefore, Peter stayed with her at the hospital for 3 days without leaving.
"""  # noqa: E501  # a document has the lines that it has


EXAMPLES = """
smendpoint demo
"""


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "demo",
        help="ask a question about a document, on an emulator on this machine",
        description="Starts an emulator of the SageMaker runtime on this machine and asks a question about a document"
        " through a real socket. Shows the streamed answer, a stream that is cut, many calls at once, and the timings."
        " Needs neither AWS nor a network.",
    )
    parser.set_defaults(run=run)


def _milliseconds(start: float, end: float) -> str:
    return f"{(end - start) * 1000:8.2f} ms"


@contextmanager
def _nothing_around() -> Generator[None]:
    """Hide AWS settings and proxies, which the demonstration must not depend on."""
    before = os.environ.copy()
    for name in before:
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def run(_arguments: argparse.Namespace) -> int:
    """Show everything; on a terminal, let the model take its time, as a real one does."""
    from smendpoint.emulator import Credentials, Emulator

    began = time.perf_counter()
    pause = 0.06 if draws(sys.stdout) else 0.0
    models = {"my-llm": _streaming(lambda parts, request: _paced(parts, request, pause)), "cut": _streaming(_halves)}
    with (
        _nothing_around(),
        Emulator(models, credentials=Credentials("demo", "demo-secret"), piece_size=None) as emulator,
    ):
        _show(emulator, _milliseconds(began, time.perf_counter()))
    return 0


def _streaming(
    change: Callable[[Iterable[str], ModelRequest], Iterable[str]],
) -> Callable[[ModelRequest], ModelReply]:
    """Make the stand-in, with the parts of its streams changed."""
    from smendpoint.emulator.personalities import stand_in

    whole = stand_in()

    def model(request: ModelRequest) -> ModelReply:
        reply = whole(request)
        return replace(reply, body=change(cast("Iterable[str]", reply.body), request)) if request.streaming else reply

    return model


def _paced(parts: Iterable[str], request: ModelRequest, pause: float) -> Iterable[str]:
    """Wait before each part, but not for a client that has gone."""
    for part in parts:
        request.disconnected.wait(pause)
        yield part


def _halves(parts: Iterable[str], _request: ModelRequest) -> Iterable[str]:
    """Give two parts: a fault cuts the second one."""
    listed = list(parts)
    return ["".join(listed[:6]), "".join(listed[6:])]


def _written(terminal: Terminal, chunks: Iterable[str]) -> list[float]:
    """Write a stream while it arrives; give the time of each chunk."""
    times: list[float] = []
    terminal.piece("  ")
    for chunk in chunks:
        times.append(time.perf_counter())
        terminal.piece(chunk)
    return times


def _show(emulator: Emulator, started: str) -> None:
    from smendpoint.errors import StreamError
    from smendpoint.prompts import Document
    from smendpoint.qa import StuffDocumentsQA

    terminal = Terminal()
    now = time.perf_counter
    documents = [Document(DOCUMENT)]
    with emulator.endpoint("my-llm") as endpoint, emulator.endpoint("cut") as cut:
        qa = StuffDocumentsQA(endpoint)
        terminal.title(f"smendpoint {__version__}")
        terminal.text(
            "A question about a document, asked on this machine. The model is a stand-in: it picks the sentence that"
            " fits the question best. Everything else is real: signed HTTP requests, to an emulator of SageMaker at"
            f" {emulator.url}."
        )
        terminal.title("Document")
        terminal.text(DOCUMENT)
        terminal.title("Question")
        terminal.text(QUESTION)

        terminal.title("Answer, streamed")
        terminal.code('>>> for chunk in qa.stream(question, documents): print(chunk, end="")')
        streamed = now()
        times = _written(terminal, qa.stream(QUESTION, documents))
        print()

        terminal.title("The same stream, on a connection that breaks")
        terminal.text("A stream completes or raises: a part of an answer never looks like the whole.")
        emulator.inject("fin_mid_frame")
        try:
            _written(terminal, StuffDocumentsQA(cut).stream(QUESTION, documents))
        except StreamError as error:
            print()
            terminal.text(f"{type(error).__name__}: {error.message}")
        emulator.clear_faults()

        terminal.title("100 questions, for an endpoint that works on 8 at once")
        terminal.code(">>> answers = list(endpoint.map(prompts))")
        emulator.capacity, emulator.latency = 8, 0.01
        began = now()
        answers = list(endpoint.map([f"It was {day}. Question: What day was it?" for day in range(100)]))
        took, refused = now() - began, emulator.load["my-llm"].refused
        terminal.text(f"{len(answers)} answers in {took:.2f} s; calls refused for load, and sent again: {refused}")
        emulator.capacity, emulator.latency = None, 0.0

        called = now()
        qa.answer(QUESTION, documents)
        ended = now()
    terminal.title("Timings")
    terminal.row("emulator started", started)
    terminal.row("first chunk, with the connection", _milliseconds(streamed, times[0]))
    terminal.row(f"whole stream, {len(times)} chunks", _milliseconds(streamed, times[-1]))
    terminal.row("a call, on an open connection", _milliseconds(called, ended))
    terminal.title("Next")
    terminal.row("ask your own endpoint", 'smendpoint invoke my-llm "Hello" --region us-west-2', 26)
    terminal.row("talk to it", "smendpoint chat my-llm --region us-west-2", 26)
    terminal.row("find out why it fails", "smendpoint doctor my-llm --region us-west-2", 26)
    terminal.row("keep an emulator running", "smendpoint emulator --port 8080", 26)
