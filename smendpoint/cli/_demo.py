"""``smendpoint demo``: a question about a document, asked and answered on this machine."""

from __future__ import annotations

import argparse
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from smendpoint._version import __version__
from smendpoint.cli._terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Generator

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
        description="Starts an emulator of the SageMaker runtime on this machine, asks a question about a document"
        " through a real socket, and shows the prompt, the answer and the timings. Needs neither AWS nor a network.",
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
    with _nothing_around():
        _show()
    return 0


def _show() -> None:
    from smendpoint.emulator import Credentials, Emulator
    from smendpoint.prompts import Document
    from smendpoint.qa import StuffDocumentsQA

    terminal = Terminal()
    now = time.perf_counter
    began = now()
    with Emulator(credentials=Credentials("demo", "demo-secret"), piece_size=None) as emulator:
        started = now()
        terminal.title(f"smendpoint {__version__}: a question about a document")
        terminal.text(
            "The model is a stand-in: it picks the sentence of the context that fits the question best. Everything"
            f" else is real: signed HTTP requests to an emulator of the SageMaker runtime at {emulator.url}."
        )
        with emulator.endpoint("my-llm", model_kwargs={"temperature": 1e-10}) as endpoint:
            qa = StuffDocumentsQA(endpoint)
            documents = [Document(DOCUMENT)]
            terminal.title("Prompt")
            terminal.text(str(qa.stuff(QUESTION, documents).prompt))
            times = [now()]
            answers: list[str] = []
            for _ in range(3):
                answers.append(qa.answer(QUESTION, documents))
                times.append(now())
            terminal.title("Answer")
            terminal.answer(answers[0].strip())
            terminal.title("Answer, streamed")
            stream_began, first, pieces = now(), 0.0, 0
            print("  ", end="")
            with qa.stream(QUESTION, documents) as chunks:
                for chunk in chunks:
                    first = first or now()
                    pieces += 1
                    terminal.piece(chunk)
            stream_ended = now()
            print()
    terminal.title("Timings")
    terminal.row("emulator started", _milliseconds(began, started))
    terminal.row("first call, with the connection", _milliseconds(times[0], times[1]))
    terminal.row("third call, on the same connection", _milliseconds(times[2], times[3]))
    terminal.row("first piece of the stream", _milliseconds(stream_began, first))
    terminal.row(f"whole stream, {pieces} pieces", _milliseconds(stream_began, stream_ended))
    terminal.title("Next")
    terminal.text('Your own endpoint:    smendpoint invoke my-endpoint "Hello" --region us-west-2 --stream')
    terminal.text("An emulator to keep:  smendpoint emulator --port 8080")
