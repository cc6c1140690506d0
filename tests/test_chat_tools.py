"""The chat with tools of the documentation, with a model that does what a script says."""

from __future__ import annotations

import importlib.util
import io
import json
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smendpoint.emulator import Emulator, ModelRequest

SOURCE = Path(__file__).resolve().parent.parent / "docs" / "how-to" / "code" / "chat_tools.py"
if not SOURCE.exists():
    pytest.skip("the documentation is not beside these tests", allow_module_level=True)

Play = Callable[..., str]


class Script:
    """A model that gives its answers one after another, and the last one from then on."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self._answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def __call__(self, request: ModelRequest) -> bytes:
        self.asked.append(json.loads(request.body))
        delta = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        choices = [{"index": 0, "delta": delta, "finish_reason": None}, {"index": 0, "delta": {}, "finish_reason": "x"}]
        return b"".join(b"data: %b\n\n" % json.dumps({"choices": [choice]}).encode() for choice in choices)


def calls(*wanted: tuple[str, str]) -> dict[str, Any]:
    functions = [{"name": name, "arguments": arguments} for name, arguments in wanted]
    listed = [{"index": at, "id": f"call-{at}", "function": function} for at, function in enumerate(functions)]
    return {"tool_calls": listed}


def says(text: str) -> dict[str, Any]:
    return {"content": text}


@pytest.fixture
def play(sagemaker_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Play:
    """Run the program with a model and what is typed; give what it prints."""

    def run(model: Any, *typed: str) -> str:
        sagemaker_emulator.models["my-chat"] = model
        monkeypatch.setattr(sys, "argv", [str(SOURCE), "my-chat"])
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in typed)))
        spec = importlib.util.spec_from_file_location("chat_tools", SOURCE)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.main()
        return capsys.readouterr().out

    return run


def results(request: dict[str, Any]) -> dict[str, str]:
    """The results of tools that a request has, by the ids of their calls."""
    return {one["tool_call_id"]: one["content"] for one in request["messages"] if one["role"] == "tool"}


def test_the_model_gets_the_result_of_the_tool_that_it_calls(play: Play) -> None:
    script = Script(calls(("find_book", '{"title": "Dune"}')), says("On shelf 7."))
    assert play(script, "Where is Dune?") == '> [find_book {"title": "Dune"}]\nOn shelf 7.\n> '
    first, second = script.asked
    assert [tool["function"]["name"] for tool in first["tools"]] == ["find_book", "opening_hours"]
    assert [message["role"] for message in second["messages"]] == ["system", "user", "assistant", "tool"]
    assert second["messages"][2]["tool_calls"][0]["function"]["arguments"] == '{"title": "Dune"}'
    assert results(second) == {"call-0": "shelf 7"}


def test_all_calls_of_one_answer_are_run(play: Play) -> None:
    script = Script(calls(("find_book", '{"title": "Emma"}'), ("opening_hours", '{"day": "Monday"}')), says("Yes."))
    play(script, "Can I fetch Emma on Monday?")
    assert results(script.asked[1]) == {"call-0": "shelf 2", "call-1": "9 to 18"}


@pytest.mark.parametrize(
    ("call", "failure"),
    [
        (("find_book", '{"title": "Ulysses"}'), "Error: LookupError: there is no book 'Ulysses'"),
        (("find_book", '{"name": "Dune"}'), "Error: TypeError: "),
        (("find_book", "Dune"), "Error: HandlerError: "),
        (("buy_book", "{}"), "Error: KeyError: 'buy_book'"),
    ],
)
def test_the_model_learns_that_a_tool_failed(call: tuple[str, str], failure: str, play: Play) -> None:
    script = Script(calls(call), says("I could not find it."))
    assert play(script, "Where is it?").endswith("I could not find it.\n> ")
    assert results(script.asked[1])["call-0"].startswith(failure)


def test_a_model_that_goes_on_calling_must_answer_after_five_rounds(play: Play) -> None:
    script = Script(*[calls(("find_book", '{"title": "Dune"}'))] * 5, says("On shelf 7."))
    assert play(script, "Where is Dune?").endswith("On shelf 7.\n> ")
    assert [request["tool_choice"] for request in script.asked] == ["auto"] * 5 + ["none"]


def test_a_model_that_calls_although_it_must_not_is_asked_no_more(play: Play) -> None:
    script = Script(calls(("find_book", '{"title": "Dune"}')))
    play(script, "Where is Dune?")
    assert len(script.asked) == 6


def test_the_conversation_goes_on_from_question_to_question(play: Play) -> None:
    script = Script(says("Hello."), says("Bye."))
    assert play(script, "Hi", "Ciao") == "> Hello.\n> Bye.\n> "
    texts = [message["content"] for message in script.asked[1]["messages"][1:]]
    assert texts == ["Hi", "Hello.", "Ciao"]


def test_a_question_whose_call_fails_leaves_the_conversation_as_it_was(
    play: Play, sagemaker_emulator: Emulator
) -> None:
    script = Script(says("Hello again."))
    sagemaker_emulator.inject("status_403_AccessDeniedException", times=1)
    printed = play(script, "Hi", "Hi again")
    assert "\n[AccessDeniedError] " in printed
    assert [message["content"] for message in script.asked[0]["messages"][1:]] == ["Hi again"]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system has no signals of threads")
def test_ctrl_c_ends_an_answer_and_not_the_chat(play: Play, sagemaker_emulator: Emulator) -> None:
    script = Script(says("Hello again."))

    def interrupted(request: ModelRequest) -> bytes:
        sagemaker_emulator.models["my-chat"] = script
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        sagemaker_emulator.disconnected()
        return b""

    assert "[KeyboardInterrupt]" in play(interrupted, "Hi", "Hi again")
    assert [message["content"] for message in script.asked[0]["messages"][1:]] == ["Hi again"]


def test_the_emulator_s_chat_model_calls_the_first_tool(play: Play) -> None:
    assert play("vllm", "Dune") == '> [find_book {"title":"Dune"}]\nshelf 7\n> '
