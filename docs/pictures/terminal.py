"""Makes the pictures of the terminal: real programs, in a terminal of their own, on an emulator.

``python docs/pictures/terminal.py [NAME ...]`` writes ``NAME.svg`` beside this file. It needs the extra ``test``.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pty
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyte
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from smendpoint.emulator import Emulator, ModelReply, ModelRequest

FOLDER = Path(__file__).resolve().parent
COLUMNS = 60  # as many as one can read on a telephone
CHARACTER = 12.2  # the width of one in rich's pictures
ANSWER = """Peter stayed **3 days**:

| day | what he did |
|---|---|
| 1 | arrived, and *read* |
| 2 | `wrote` |
| 3 | left |
"""
# On this background, each colour has a contrast of 7 to 1 or more.
COLOURS = [
    (0, 0, 0),
    (255, 135, 125),
    (126, 231, 135),
    (232, 190, 90),
    (121, 192, 255),
    (210, 168, 255),
    (118, 227, 234),
]
THEME = TerminalTheme((30, 31, 34), (230, 230, 230), [*COLOURS, (230, 230, 230)], [*COLOURS, (255, 255, 255)])
# The pictures are to load nothing from elsewhere.
FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


class Terminal:
    """A program in a pseudo-terminal, and the screen that it draws."""

    def __init__(self, command: list[str], lines: int, environment: dict[str, str], folder: str) -> None:
        self.screen = pyte.Screen(COLUMNS, lines)
        self._stream = pyte.ByteStream(self.screen)
        self._ours, theirs = pty.openpty()
        size = {"COLUMNS": str(COLUMNS), "LINES": str(lines), "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env={**environment, **size}, cwd=folder
        )
        os.close(theirs)

    def type(self, text: str) -> None:
        """Type a text."""
        os.write(self._ours, text.encode())

    def until(self, condition: Callable[[str], bool]) -> None:
        """Draw until the screen's text is as it should be, or the program has ended."""
        while not condition("\n".join(self.screen.display)):
            try:
                data = os.read(self._ours, 65_536)
            except OSError:  # it has ended
                return
            self._stream.feed(data)
            if b"\x1b[6n" in data:  # it asks where the cursor is
                self.type(f"\x1b[{self.screen.cursor.y + 1};{self.screen.cursor.x + 1}R")

    def close(self) -> None:
        """Wait for the program's end."""
        self.until(lambda _text: False)
        self.process.wait(60)
        os.close(self._ours)

    def picture(self, title: str) -> str:
        """Draw the screen as an SVG."""
        lines = [self._line(row) for row in range(self.screen.lines)]
        while lines and not lines[-1].plain.strip():
            lines.pop()
        with open(os.devnull, "w") as nowhere:
            console = Console(width=COLUMNS, record=True, file=nowhere, force_terminal=True, legacy_windows=False)
            for line in lines:
                console.print(line, soft_wrap=True)
            svg = FONTS.sub("", console.export_svg(title=title, theme=THEME, unique_id="terminal"))
        # rich cuts off the lower end of the last line.
        return re.sub(r'(id="terminal-clip-terminal">\s*<rect [^>]*height=")([\d.]+)', _taller, svg)

    def _line(self, row: int) -> Text:
        cells = [self.screen.buffer[row][column] for column in range(COLUMNS)]
        line = Text()
        for style, run in itertools.groupby(cells, _style):
            line.append("".join([cell.data for cell in run]), style)
        line.rstrip()
        return line


def _taller(found: re.Match[str]) -> str:
    return f"{found[1]}{float(found[2]) + 8:.1f}"


def revealed(picture: str, line: str, seconds: float) -> str:
    """Let a line of a picture appear word by word, once; a viewer without animations shows the whole line."""
    number = next(
        found[1]
        for found in re.finditer(r'clip-path="url\(#terminal-line-(\d+)\)"[^>]*>([^<]*)<', picture)
        if found[2].replace("&#160;", " ").startswith(line)
    )
    ends = [match.end() for match in re.finditer(r"\S+", line)]
    widths = ";".join(f"{end * CHARACTER:.1f}" for end in [0, 0, *ends[:-1], COLUMNS])
    animation = f'<animate attributeName="width" dur="{seconds}s" calcMode="discrete" values="{widths}"/>'
    return re.sub(rf'(<clipPath id="terminal-line-{number}">\s*<rect [^>]*?)\s*/>', rf"\1>{animation}</rect>", picture)


def _style(cell: Any) -> str:
    colour = "yellow" if cell.fg == "brown" else cell.fg
    if re.fullmatch("[0-9a-f]{6}", colour):
        colour = f"#{colour}"
    return f"{'bold ' if cell.bold else ''}{'italic ' if cell.italics else ''}{colour}"


def model(request: ModelRequest) -> Iterator[bytes]:
    """Stream an answer in Markdown, a word at a time."""
    for word in ANSWER.replace(" ", " \0").split("\0"):
        chunk = {"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
        yield f"data: {json.dumps(chunk)}\n\n".encode()
    yield b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'


def story(_request: ModelRequest) -> Iterator[bytes]:
    """Stream an answer as text-generation-inference does: its first half at once, then word by word."""
    for text in ("Peter stayed with her", " at", " the", " hospital", " for", " 3", " days."):
        token = {"id": 1, "text": text, "logprob": -0.1, "special": False}
        yield f"data:{json.dumps({'token': token, 'generated_text': None})}\n\n".encode()
    last = {"finish_reason": "eos_token", "generated_tokens": 8, "seed": None}
    end = {"token": {"id": 2, "text": "</s>", "logprob": 0, "special": True}, "generated_text": "", "details": last}
    yield f"data:{json.dumps(end)}\n\n".encode()


@contextlib.contextmanager
def shell(models: Any, **options: Any) -> Iterator[tuple[dict[str, str], str, Emulator]]:
    """Give an environment in which AWS is an emulator, a folder for files, and the emulator."""
    with Emulator(models, region="us-west-2", **options) as emulator, tempfile.TemporaryDirectory() as folder:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "NO_COLOR"))}
        yield (
            {
                **kept,
                "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": emulator.url,
                "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
                "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
                "AWS_REGION": "us-west-2",
                "AWS_DEFAULT_REGION": "us-west-2",
            },
            folder,
            emulator,
        )


SMENDPOINT = [sys.executable, "-m", "smendpoint"]


def stream() -> str:
    """A streamed answer, and one whose connection breaks."""
    with shell(story, piece_size=None) as (environment, folder, emulator):
        Path(folder, "prompt.txt").write_text("How long was Elizabeth hospitalized?")
        path = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        terminal = Terminal(["sh", "-i", "+m"], 12, {**environment, "PATH": path, "PS1": "$ ", "ENV": ""}, folder)
        for prompts, command in enumerate(["stream", "stream", "status"], 1):
            terminal.until(lambda text, prompts=prompts: len(re.findall(r"^\$ *$|^\$ \S", text, re.M)) == prompts)
            if prompts == 2:
                emulator.inject("frame_cut_clean_end")
            terminal.type("echo $?\n" if command == "status" else "smendpoint invoke my-llm --stream < prompt.txt\n")
        terminal.until(lambda text: bool(re.search(r"^1 *\n\$", text, re.M)))
        picture = terminal.picture("smendpoint invoke my-llm --stream")
        terminal.type("exit\n")
        terminal.close()
    return revealed(picture, "Peter stayed with her at the hospital for 3 days.", 1.2)


def chat() -> str:
    """A conversation."""
    with shell(model) as (environment, folder, _):
        terminal = Terminal([*SMENDPOINT, "chat", "my-chat"], 24, environment, folder)
        for prompts, typed in enumerate(["/stats", "How long did Peter stay?"], 1):
            terminal.until(lambda text, prompts=prompts: len(re.findall("^> *", text, re.M)) == prompts)
            terminal.type(f"{typed}\r")
        terminal.until(lambda text: "left" in text and text.rstrip().endswith(">"))
        picture = terminal.picture("smendpoint chat my-chat")
        terminal.type("\x04")
        terminal.close()
    return picture


def batch() -> str:
    """The progress of a batch, in the middle."""
    with shell("tgi", capacity=8, latency=0.05) as (environment, folder, _):
        rows = "".join(f"Guest {number} stayed for {number} days.\n" for number in range(1, 601))
        Path(folder, "prompts.txt").write_text(rows)
        command = [*SMENDPOINT, "batch", "my-llm", "prompts.txt", "-o", "answers.jsonl"]
        terminal = Terminal(command, 8, environment, folder)
        terminal.until(lambda text: any(f"{done} of 600" in text for done in range(300, 400)))
        picture = terminal.picture("smendpoint batch my-llm prompts.txt -o answers.jsonl")
        terminal.close()
    return picture


def doctor() -> str:
    """The findings where a container fails."""

    def broken(_request: ModelRequest) -> ModelReply:
        return ModelReply(b"CUDA out of memory", status=500)

    with shell(broken) as (environment, folder, _):
        terminal = Terminal([*SMENDPOINT, "doctor", "my-llm"], 24, environment, folder)
        terminal.close()
        # The emulator has another port each time: the picture has the same one.
        picture = terminal.picture("smendpoint doctor my-llm")
        return re.sub(r"(127\.0\.0\.1(?::|&#160;port&#160;))\d{5}", r"\g<1>18080", picture)


PICTURES = {"stream": stream, "chat": chat, "batch": batch, "doctor": doctor}


def main(names: list[str]) -> None:
    """Make the pictures of these names, or all."""
    for name in names or PICTURES:
        (FOLDER / f"{name}.svg").write_text(PICTURES[name](), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
