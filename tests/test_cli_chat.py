"""``smendpoint chat``: over a pipe, and as a terminal sees it."""

from __future__ import annotations

import io
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.console import Console
from servers import bare_environment  # noqa: F401

from smendpoint.cli import _chat, main
from smendpoint.cli._markdown import Blocks, Markdown, Tail
from smendpoint.emulator import Emulator, ModelRequest

pytestmark = pytest.mark.usefixtures("bare_environment")

QUESTION = "Peter stayed for 3 days. Question: How long did Peter stay?"
ANSWER = "Peter stayed for 3 days."


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Emulator]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    monkeypatch.chdir(tmp_path)
    with Emulator("vllm") as emulator:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", emulator.url)
        yield emulator


def sent(emulator: Emulator) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = json.loads(emulator.requests[-1].body)["messages"]
    return messages


# -- over a pipe


def test_each_line_of_a_pipe_is_a_message_and_only_answers_are_written(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{QUESTION}\n\n/reset? Who stayed?\r\n"))
    assert main(["chat", "my-llm", "--system", "Be brief."]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == (f"{ANSWER}\n{ANSWER}\n", "")
    assert [message["role"] for message in sent(emulator)] == ["system", "user", "assistant", "user"]
    assert sent(emulator)[-1]["content"] == "/reset? Who stayed?"


def test_a_pipe_that_is_not_utf8_is_refused(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    piped = io.TextIOWrapper(io.BytesIO(b"caf\xe9\n"), encoding="latin-1")
    monkeypatch.setattr(sys, "stdin", piped)
    assert main(["chat", "my-llm"]) == 2
    assert capsys.readouterr().err == "smendpoint: standard input is not UTF-8 text\n"
    assert not emulator.requests


def test_a_pipe_is_utf8_in_every_locale(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    piped = io.TextIOWrapper(io.BytesIO("Who stayed at Café Ö?\n".encode()), encoding="latin-1")
    monkeypatch.setattr(sys, "stdin", piped)
    assert main(["chat", "my-llm"]) == 0
    assert sent(emulator)[-1]["content"] == "Who stayed at Café Ö?"


def test_a_failure_over_a_pipe_ends_it(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    emulator.inject("status_400_ValidationError", times=1)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{QUESTION}\n{QUESTION}\n"))
    assert main(["chat", "my-llm"]) == 1
    assert "ValidationError" in capsys.readouterr().err
    assert len(emulator.requests) == 1


def test_without_standard_input_there_is_no_conversation(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["chat", "my-llm"]) == 2
    assert "no standard input" in capsys.readouterr().err


def test_ctrl_c_over_a_pipe_ends_the_program(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_chunk: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("smendpoint.cli._chat.Output.text", interrupt)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{QUESTION}\n"))
    assert main(["chat", "my-llm"]) == 130


# -- typed at a terminal, of which Python's own `input` reads


class Terminal:
    """Types lines, and keeps what the program says.

    A line may be a function: it is called when the line is asked for, and its result is the line.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def run(self, lines: list[str | Callable[[], str]], *options: str, status: int = 0) -> tuple[str, str]:
        waiting = iter(lines)

        def read(prompt: str = "") -> str:
            line = next(waiting, None)
            if line is None:
                raise EOFError
            return line if isinstance(line, str) else line()

        self._monkeypatch.setattr("builtins.input", read)
        self._monkeypatch.setitem(sys.modules, "prompt_toolkit", None)
        for stream in (sys.stdin, sys.stdout):
            self._monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
        assert main(["chat", "my-llm", "--plain", *options]) == status
        said = self._capsys.readouterr()
        assert said.err.startswith("smendpoint: my-llm: /help lists the commands, Ctrl-D exits\n")
        return said.out, said.err.partition("\n")[2]


@pytest.fixture
def terminal(emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(monkeypatch, capsys)


def interrupt() -> str:
    raise KeyboardInterrupt


def test_a_conversation_goes_on_until_it_is_quit(terminal: Terminal, emulator: Emulator) -> None:
    out, err = terminal.run([QUESTION, "", "Who stayed?", "/quit", "never read"])
    assert (out, err) == (f"{ANSWER}\n{ANSWER}\n", "")
    assert [message["role"] for message in sent(emulator)] == ["user", "assistant", "user"]


def test_help_names_every_command(terminal: Terminal) -> None:
    out, _ = terminal.run(["/help"])
    commands = {name.removeprefix("_do_") for name in vars(_chat.Chat) if name.startswith("_do_")}
    assert {line.split()[0] for line in out.splitlines() if line.startswith("/")} == {
        f"/{name}" for name in commands | {"quit"}
    }


def test_a_conversation_is_forgotten_and_its_system_message_changed(terminal: Terminal, emulator: Emulator) -> None:
    terminal.run([QUESTION, "/reset", "One?"], "--system", "Be brief.")
    assert [message["content"] for message in sent(emulator)] == ["Be brief.", "One?"]
    terminal.run([QUESTION, "/system Be kind.", "Two?"])
    assert [message["content"] for message in sent(emulator)] == ["Be kind.", "Two?"]
    terminal.run(["/system", "Three?"], "--system", "Be brief.")
    assert [message["content"] for message in sent(emulator)] == ["Three?"]


def test_a_conversation_is_saved_as_messages_that_invoke_takes(
    terminal: Terminal, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _, err = terminal.run([QUESTION, "/save said.json", "/save", f"/save {tmp_path}"])
    assert "saved 2 messages to said.json" in err
    assert "/save takes the name of a file" in err
    assert "/save: cannot write" in err
    saved = (tmp_path / "said.json").read_text(encoding="utf-8")
    assert json.loads(saved) == [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]


def test_a_failure_keeps_the_message_to_be_sent_again(terminal: Terminal, emulator: Emulator) -> None:
    emulator.inject("status_400_ValidationError", times=1)
    out, err = terminal.run(["/retry", QUESTION, "/retry"])
    assert "smendpoint: /retry: there is no message to send again" in err
    assert "smendpoint: ValidationError: 400 ValidationError" in err
    assert "smendpoint: /retry sends the message again" in err
    assert out.endswith(f"{ANSWER}\n")
    assert sent(emulator) == [{"role": "user", "content": QUESTION}]


def test_an_answer_is_asked_for_again(terminal: Terminal, emulator: Emulator) -> None:
    out, _ = terminal.run([QUESTION, "/retry"])
    assert out == f"{ANSWER}\n{ANSWER}\n"
    assert sent(emulator) == [{"role": "user", "content": QUESTION}]


def test_an_unknown_command_is_named(terminal: Terminal) -> None:
    _, err = terminal.run(["/nope", "/ x"])
    assert "there is no command /nope; /help lists the commands" in err
    assert "there is no command /;" in err


def test_a_command_that_takes_nothing_says_so(terminal: Terminal) -> None:
    _, err = terminal.run(["/stats on", "/stats"])
    assert err == ("smendpoint: /stats takes no argument, not 'on'\nsmendpoint: tokens and time are shown\n")


def test_a_slash_after_a_space_begins_a_message(terminal: Terminal, emulator: Emulator) -> None:
    terminal.run([" /etc/hosts?"])
    assert sent(emulator)[-1]["content"] == " /etc/hosts?"


def test_tokens_and_time_are_shown_on_request(terminal: Terminal) -> None:
    _, err = terminal.run([QUESTION, "/stats", QUESTION, "/stats", QUESTION])
    shown, _, summary, hidden = err.splitlines()[:1] + err.splitlines()[:3]
    assert shown == "smendpoint: tokens and time are shown"
    assert summary.split(", ")[0].endswith(" + 5 tokens")
    assert hidden == "smendpoint: tokens and time are not shown"


def test_a_container_that_counts_no_tokens_still_has_times(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    with Emulator(lambda _request: iter([b"data: [DONE]\n\n"])) as emulator:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", emulator.url)
        _, err = terminal.run([QUESTION], "--stats")
    assert err.count(",") == 0
    assert err.endswith(" s\n")


def test_ctrl_c_at_the_prompt_ends_nothing(terminal: Terminal) -> None:
    out, err = terminal.run([interrupt, QUESTION])
    assert (out, err) == (f"{ANSWER}\n", "smendpoint: Ctrl-D ends the conversation\n")


@pytest.mark.parametrize("after", [0, 2])
def test_ctrl_c_ends_an_answer_and_what_had_arrived_stays(
    after: int, terminal: Terminal, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = _chat._texts

    def interrupted(chunks: Any, said: list[str]) -> Iterator[str]:
        for text in real(chunks, said) if after else ():
            yield text
            if len([one for one in said if one]) == after:
                break
        monkeypatch.setattr(_chat, "_texts", real)
        raise KeyboardInterrupt

    monkeypatch.setattr(_chat, "_texts", interrupted)
    out, err = terminal.run([QUESTION, "And then?"])
    assert err == "smendpoint: interrupted\n"
    assert out == ("Peter stayed" if after else "") + "\nThe context does not say.\n"
    said = [message["content"] for message in sent(emulator)]
    assert said == ([QUESTION, "Peter stayed", "And then?"] if after else ["And then?"])
    assert emulator.requests[0].operation == "InvokeEndpointWithResponseStream"


def test_a_history_file_needs_prompt_toolkit(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "prompt_toolkit", None)
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    assert main(["chat", "my-llm", "--history", "typed"]) == 2
    assert "--history needs prompt_toolkit" in capsys.readouterr().err


# -- with prompt_toolkit and rich


def test_lines_are_edited_may_be_several_and_are_kept_for_the_next_time(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    with create_pipe_input() as typed, create_app_session(input=typed, output=DummyOutput()):
        typed.send_text("Hx\x7fow\x1b\rlong?\r\x04")
        assert main(["chat", "my-llm", "--history", "typed"]) == 0
        assert sent(emulator) == [{"role": "user", "content": "How\nlong?"}]
        typed.send_text("\x1b[A\r\x04")
        assert main(["chat", "my-llm", "--history", "typed"]) == 0
    assert sent(emulator) == [{"role": "user", "content": "How\nlong?"}]
    assert capsys.readouterr().out.count("The context does not say.") >= 2


def test_without_rich_answers_are_plain(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "smendpoint.cli._markdown", raising=False)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    lines = iter([QUESTION])
    monkeypatch.setattr("builtins.input", lambda _prompt="": next(lines, None) or end())
    monkeypatch.setitem(sys.modules, "prompt_toolkit", None)
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    assert main(["chat", "my-llm"]) == 0
    assert capsys.readouterr().out == f"{ANSWER}\n"


def end() -> str:
    raise EOFError


# -- Markdown


def screen(pieces: Iterator[str], *, width: int = 40, height: int = 10) -> list[str]:
    """Give the lines that a terminal has, those that have scrolled away included, after an answer."""
    written = io.StringIO()
    console = Console(
        file=written, force_terminal=True, width=width, height=height, color_system=None, legacy_windows=False
    )
    Markdown(console).show(pieces)
    shown = pyte.HistoryScreen(width, height, history=10_000, ratio=1.0)
    pyte.Stream(shown).feed(written.getvalue().replace("\n", "\r\n"))
    past = ["".join(line[column].data for column in range(width)) for line in shown.history.top]
    return [line.rstrip() for line in [*past, *shown.display]]


TEXT = """# Plan

First **this**, then `that`.

```python
def double(x):

    return 2 * x
```

| a | b |
|---|---|
| 1 | 2 |

* one
* two

The end."""


def test_markdown_is_rendered_while_it_arrives() -> None:
    lines = screen(iter(TEXT))
    for line in ("First this, then that.", " def double(x):", "     return 2 * x", " • one", " • two", "The end."):
        assert lines.count(line) == 1, (line, lines)


def test_what_is_indented_below_a_list_stays_in_it() -> None:
    text = "1. One\n\n    - nested\n\n    ```sh\n    run x\n\n    run y\n    ```\n\n2. Two\n\nThe end."
    lines = [line for line in screen(iter(text)) if line]
    assert lines == [" 1 One", "    • nested", "    run x", "    run y", " 2 Two", "The end."]


def test_backticks_that_end_in_their_line_begin_no_block_of_code() -> None:
    lines = screen(iter("```x``` y\n\n```\na\n\nb\n```\n\nThe end."))
    assert [line for line in lines if line] == ["x y", " a", " b", "The end."]


def test_an_answer_that_is_longer_than_the_screen_has_each_line_once() -> None:
    items = "".join(f"* item {number}\n" for number in range(60))
    lines = [line for line in screen(iter(f"{items}\nThe end.")) if line]
    assert lines == [*(f" • item {number}" for number in range(60)), "The end."]


def test_an_answer_may_end_with_a_blank_line() -> None:
    assert [line for line in screen(iter(["One.\n\n", "Two.\n\n"])) if line] == ["One.", "Two."]


@pytest.mark.parametrize("pieces", [[], ["", "\n\n"]])
def test_an_empty_answer_shows_nothing(pieces: list[str]) -> None:
    assert not "".join(screen(iter(pieces)))


def test_what_grows_is_never_drawn_higher_than_the_screen() -> None:
    written = io.StringIO()
    items = "".join(f"* item {number}\n" for number in range(20))
    Console(file=written, width=40, height=5).print(Tail(items), end="")
    assert [line.rstrip() for line in written.getvalue().splitlines()] == [
        f" • item {number}" for number in range(16, 20)
    ]


def test_controls_in_an_answer_are_not_obeyed() -> None:
    assert screen(iter("a\x1b[31mb\x9b2Jc"))[0] == "a\\x1b[31mb\\x9b2Jc"


def test_a_failure_in_the_middle_leaves_what_had_arrived() -> None:
    def pieces() -> Iterator[str]:
        yield "One.\n\nTwo"
        raise ValueError

    written = io.StringIO()
    with pytest.raises(ValueError):  # noqa: PT011  # it is raised here
        Markdown(Console(file=written, width=40)).show(pieces())
    assert [line.strip() for line in written.getvalue().splitlines() if line.strip()] == ["One.", "Two"]


@given(st.lists(st.sampled_from(["a", "\n", "\n\n", "```", "~~~~", "```py\n", "  \n", "* b\n", "    "])), st.data())
def test_the_blocks_of_a_text_are_the_same_however_it_is_cut(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    whole = Blocks()
    blocks = whole.feed(text)
    cut = Blocks()
    found: list[str] = []
    rest = text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        found += cut.feed(rest[:size])
        rest = rest[size:]
    assert (found, cut.rest) == (blocks, whole.rest)
    assert "".join("".join(blocks).split()) + "".join(whole.rest.split()) == "".join(text.split())


# -- the program in a terminal of its own


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_the_program_in_a_terminal_renders_and_outlives_ctrl_c(emulator: Emulator) -> None:
    go_on = threading.Event()

    def model(request: ModelRequest) -> Iterator[bytes]:
        for text in ("**Half**", " an"):
            chunk = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
            yield f"data: {json.dumps(chunk)}\n\n".encode()
        go_on.wait(20)

    import pty

    ours, theirs = pty.openpty()
    with Emulator(model, region="us-west-2") as paused, os.fdopen(ours, "r+b", buffering=0) as terminal:
        environment = {**os.environ, "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": paused.url, "TERM": "xterm", "COLUMNS": "80"}
        command = [sys.executable, "-m", "smendpoint", "chat", "my-llm"]
        program = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
            preexec_fn=_controlled,
        )
        os.close(theirs)
        shown = pyte.Screen(80, 24)
        stream = pyte.ByteStream(shown)

        def until(text: str) -> None:
            while not "\n".join([line.rstrip() for line in shown.display]).rstrip().endswith(text):
                assert select.select([terminal], [], [], 60)[0], (text, shown.display)
                data = terminal.read(65_536)
                stream.feed(data)
                if b"\x1b[6n" in data:  # where is the cursor?
                    terminal.write(f"\x1b[{shown.cursor.y + 1};{shown.cursor.x + 1}R".encode())

        try:
            until(">")
            terminal.write(b"Hello\r")
            until("Half an")
            terminal.write(b"\x03")
            until("interrupted\n>")
            assert "\n".join(shown.display).count("Half an") == 1  # although the terminal has written ^C behind it
            paused.disconnected()
            go_on.set()
            terminal.write(b"\x04")
            assert program.wait(20) == 0
        finally:
            program.kill()
            program.wait()


def _controlled() -> None:
    """Make the terminal the one that this process is controlled from: Ctrl-C reaches it."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
