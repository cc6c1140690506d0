"""``smendpoint invoke``: inputs, outputs, reports and requests, as a shell sees them."""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import bare_environment  # noqa: F401

from smendpoint import errors
from smendpoint.cli import COMMANDS, _options, main
from smendpoint.emulator import Emulator, ModelReply, ModelRequest
from smendpoint.emulator.personalities import PERSONALITIES
from smendpoint.handlers import __all__ as handler_names

pytestmark = pytest.mark.usefixtures("bare_environment")

SAID = "The cat slept for 2 hours."
PROMPT = f"{SAID}\nQuestion: How long did the cat sleep?"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def echo(request: ModelRequest) -> ModelReply:
    return ModelReply(request.body, content_type="application/octet-stream")


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Emulator]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.chdir(tmp_path)
    models: dict[str, Any] = {
        name.replace("_", "-"): name
        for name in (
            *("tgi", "vllm", "lmi", "tei", "tei_sparse", "tei_rerank", "tei_classify", "sklearn", "jumpstart_llama2"),
            *("jumpstart_llama2_chat", "jumpstart_similarity"),
        )
    }
    with Emulator({**models, "echo": echo}) as emulator:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", emulator.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"{emulator.url}/s3")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
        yield emulator


def invoke(*arguments: str, capsys: pytest.CaptureFixture[str], status: int = 0) -> tuple[str, str]:
    """Give what the command writes to standard output and to standard error."""
    assert main(["invoke", *arguments]) == status
    captured = capsys.readouterr()
    return captured.out, captured.err


def asked(emulator: Emulator) -> Any:
    return json.loads(emulator.requests[-1].body)


# -- handlers


@pytest.mark.parametrize(
    ("arguments", "out"),
    [
        (["vllm", PROMPT, "--handler", "auto", "--handler-option", "prompt_format=messages"], f"{SAID}\n"),
        (["tgi", PROMPT, "--handler", "auto"], f"{SAID}\n"),
        (["jumpstart-llama2-chat", PROMPT, "--handler", "jumpstart-chat"], None),
        (["jumpstart-llama2", PROMPT, "--handler", "jumpstart-text", "--handler-option", "family=llama-2"], None),
        (["tei-classify", "a good day", "--handler", "classification"], [{"label": "POSITIVE"}]),
        (
            ["tei-rerank", '{"query": "cat", "texts": ["a dog", "a cat"]}', "--handler", "rerank"],
            [{"index": 1}, {"index": 0}],
        ),
        (["sklearn", "1,2\n3,4.5\n", "--handler", "tabular"], [3.0, 7.5]),
        (["sklearn", "[[1, 2], [3, 4.5]]", "--handler", "tabular"], [3.0, 7.5]),
        (
            ["sklearn", "1,2\n3,4.5\n", "--handler", "tabular", "--handler-option", "request=json"],
            [3.0, 7.5],
        ),
        (["sklearn", "1,2\n\n3,4.5\n", "--handler", "tabular-rows"], [[3.0], [7.5]]),
        (["sklearn", "1,2\n3,4.5\n", "--handler", "numpy"], [3.0, 7.5]),
        (["sklearn", "1,2\n", "--handler", "tabular", "--handler-option", "dtype=str"], ["3.0"]),
    ],
)
def test_each_handler_has_a_form_for_its_input_and_output(
    emulator: Emulator, arguments: list[str], out: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    if "jumpstart" in arguments[0]:
        emulator.models[arguments[0]] = lambda request: json.dumps(
            [{"generation": {"role": "assistant", "content": SAID} if "chat" in arguments[0] else SAID}]
        ).encode()
    written, err = invoke(*arguments, capsys=capsys)
    assert err == ""
    if not isinstance(out, list):
        assert written == f"{SAID}\n"
        return
    found = json.loads(written)
    assert len(found) == len(out)
    for one, expected in zip(found, out, strict=True):
        assert expected.items() <= one.items() if isinstance(expected, dict) else one == expected


def test_cells_of_csv_are_numbers_texts_and_nothing_where_they_are_sent_as_json(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    emulator.models["table"] = lambda request: b"[1.0]"
    invoke("table", "1,2.5,a,\n", "--handler", "tabular", "--handler-option", "request=json", capsys=capsys)
    assert asked(emulator) == [[1, 2.5, "a", None]]
    invoke("table", "01,2.50,a,\n", "--handler", "tabular", "--handler-option", "response=json", capsys=capsys)
    assert emulator.requests[-1].body == b"01,2.50,a,"


@pytest.mark.parametrize("handler", ["plain", "bytes"])
def test_an_empty_stream_is_an_empty_output(
    emulator: Emulator, handler: str, capsys: pytest.CaptureFixture[str]
) -> None:
    emulator.models["silent"] = lambda request: b""
    out, err = invoke("silent", "Hi", "--handler", handler, "--stream", capsys=capsys)
    assert (out.strip(), err) == ("", "")


def test_embeddings_are_a_list_of_vectors(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    one, _ = invoke("tei", "a dog", "--handler", "embeddings", capsys=capsys)
    two, _ = invoke("tei", '["a dog", "a cat"]', "--handler", "embeddings", capsys=capsys)
    assert json.loads(one) == json.loads(two)[:1]
    assert len(json.loads(two)) == 2
    sparse, _ = invoke("tei-sparse", "a dog", "--handler", "sparse-embeddings", capsys=capsys)
    assert len(json.loads(sparse)) == 1
    near, _ = invoke(
        "jumpstart-similarity",
        '{"queries": ["a dog"], "corpus": ["a dog", "a cat"]}',
        "--handler",
        "similarity",
        capsys=capsys,
    )
    assert json.loads(near)[0][0]["id"] == 0
    invoke("vllm", "a dog", "--handler", "embeddings", "--handler-option", "format=openai", capsys=capsys)
    assert asked(emulator) == {"input": ["a dog"]}


def test_every_ready_made_handler_has_a_name() -> None:
    named = {kind for kind, _ in {**_options.HANDLERS, **_options.MORE_HANDLERS}.values()}
    assert named == {name for name in handler_names if name.endswith("Handler")} - {
        "ContentHandler",
        "StreamingContentHandler",
    }


def test_a_classifier_takes_a_pair_of_texts_and_bytes(
    emulator: Emulator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = b'[{"label": "CAT", "score": 1.0}]'
    emulator.models["images"] = lambda request: labels
    invoke("images", '["a cat", "a dog"]', "--handler", "classification", capsys=capsys)
    assert asked(emulator) == {"inputs": ["a cat", "a dog"]}
    invoke("images", '["a cat"', "--handler", "classification", status=2, capsys=capsys)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\x89PNG\xff")))
    out, _ = invoke("images", "--handler", "classification", "--content-type", "image/png", capsys=capsys)
    assert json.loads(out) == [{"label": "CAT", "score": 1.0}]
    assert (emulator.requests[-1].body, emulator.requests[-1].headers["content-type"]) == (b"\x89PNG\xff", "image/png")


# -- chats


def test_a_chat_takes_a_text_or_messages_a_system_message_and_images(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    user, system = {"role": "user", "content": PROMPT}, {"role": "system", "content": "Be brief."}
    (tmp_path / "cat.png").write_bytes(b"\x89PNG")
    encoded = base64.b64encode(b"\x89PNG").decode()
    url = f"data:image/png;base64,{encoded}"
    image = {"type": "image_url", "image_url": {"url": url}}
    away = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    text = {"type": "text", "text": PROMPT}
    for arguments, messages in (
        ([PROMPT, "--handler", "chat"], [user]),
        ([json.dumps([system, user]), "--handler", "chat"], [system, user]),
        ([PROMPT, "--system", "Be brief."], [system, user]),
        ([json.dumps([user]), "--system", "Be brief.", "--stream"], [system, user]),
        ([json.dumps([user]), "--handler", "auto"], [user]),
        ([PROMPT, "--handler", "auto", "--system", "Be brief."], [system, user]),
        (
            [PROMPT, "--attach", "cat.png", "--attach", "https://example.com/a.png"],
            [{**user, "content": [text, image, away]}],
        ),
        ([json.dumps([{**user, "content": [text]}]), "--attach", "cat.png"], [{**user, "content": [text, image]}]),
        (["[not messages", "--handler", "chat"], [{**user, "content": "[not messages"}]),
        (['["a"]', "--handler", "chat"], [{**user, "content": '["a"]'}]),
    ):
        invoke("vllm", *arguments, capsys=capsys)
        assert asked(emulator)["messages"] == messages


def test_tool_calls_are_written_where_there_is_no_text(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    tools = '[{"type": "function", "function": {"name": "search", "parameters": {}}}]'
    for options in ([], ["--stream"]):
        out, _ = invoke("vllm", PROMPT, "--handler", "chat", "--param", f"tools={tools}", *options, capsys=capsys)
        assert json.loads(out) == [{"id": "call-1", "name": "search", "arguments": "{}"}]


SCHEMA = {"type": "object", "properties": {"rain": {"type": "boolean"}}, "required": ["rain"]}


def test_an_answer_fits_the_schema_of_a_file(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "it rains.json").write_text(json.dumps(SCHEMA))
    whole = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    (tmp_path / "format.json").write_text(json.dumps(whole))
    out, _ = invoke("vllm", PROMPT, "--schema", "it rains.json", capsys=capsys)
    assert json.loads(out) == {"rain": True}
    assert asked(emulator)["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "it_rains_json", "schema": SCHEMA, "strict": True},
    }
    out, _ = invoke("vllm", PROMPT, "--schema", "format.json", "--handler", "completions", "--stream", capsys=capsys)
    assert json.loads(out) == {"rain": True}
    assert asked(emulator)["response_format"] == whole


def test_an_answer_to_a_schema_that_is_not_json_is_written_and_ends_with_1(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.json").write_text('{"type": "string"}')
    for options in ([], ["--stream"]):
        out, err = invoke(
            "vllm", PROMPT, "--schema", "s.json", "--param", "max_tokens=1", *options, status=1, capsys=capsys
        )
        assert out == '"The\n'
        assert "ModelOutputError: the answer is not JSON, although --schema was set (finish reason length)" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--system", "x", "--handler", "text"], "--system needs --handler chat or auto or jumpstart-chat"),
        (["--attach", "a.png", "--handler", "jumpstart-chat"], "--attach needs --handler chat or auto"),
        (["--schema", "a.json", "--handler", "tabular"], "--schema needs --handler chat or auto or completions"),
        (["--attach", "notes.txt"], "--attach takes images with the type in their name, such as photo.png, not"),
        (["--attach", "nothing.png"], "--attach: cannot read 'nothing.png': No such file"),
        (["--schema", "nothing.json"], "--schema: cannot read 'nothing.json': No such file"),
        (["--schema", "list.json"], "--schema: 'list.json' is not a JSON object"),
        (["--schema", "broken.json"], "--schema: 'broken.json' is not a JSON object"),
        (["--stream", "--submit"], "--stream cannot be used with --submit"),
        (["--stream", "--handler", "embeddings"], "--stream: the handler 'embeddings' does not stream"),
        (["--upload-to", "s3://bucket/in"], "--upload-to needs --submit"),
        (["--submit", "--upload-to", "bucket"], "must be 's3://bucket/key'"),
        (["--handler", "rerank"], "the input is not JSON"),
        (["--handler", "embeddings", "--accept", "text/csv"], "'embeddings' has its own content types"),
        (
            ["--handler", "jumpstart-text"],
            "the handler 'jumpstart-text': missing 1 required positional argument: 'family'",
        ),
        (
            ["--handler", "embeddings", "--handler-option", "format=x"],
            "--handler-option: the handler 'embeddings': format must be one of",
        ),
        (["--output", "nowhere/out.txt"], "--output: cannot write 'nowhere/out.txt'"),
        (["--output", "."], "--output: cannot write '.'"),
    ],
)
def test_options_that_do_not_fit_end_with_2_and_nothing_is_sent(
    emulator: Emulator, tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "a.json").write_text("{}")
    out, err = invoke("vllm", PROMPT, *arguments, status=2, capsys=capsys)
    assert said in err
    assert out == ""
    assert emulator.requests == []


@pytest.mark.parametrize(
    ("messages", "option", "said"),
    [
        (
            [{"role": "system", "content": "x"}],
            ["--system", "y"],
            "--system: the messages already have a system message",
        ),
        (
            [{"role": "assistant", "content": "x"}],
            ["--attach", "https://e.com/a.png"],
            "--attach: the last message must",
        ),
        ([{"role": "user"}], ["--handler", "rerank"], "the input of the handler rerank must be"),
    ],
)
def test_messages_that_do_not_fit_an_option_end_with_2(
    emulator: Emulator, messages: Any, option: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in invoke("vllm", json.dumps(messages), *option, status=2, capsys=capsys)[1]
    assert emulator.requests == []


# -- standard input


class Typed:
    """A terminal at which somebody types."""

    buffer = io.BytesIO(PROMPT.encode())

    @staticmethod
    def isatty() -> bool:
        return True


def test_an_empty_standard_input_is_an_error(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    _, err = invoke("tgi", status=2, capsys=capsys)
    assert err == "smendpoint: standard input is empty: pass INPUT, or something to read\n"
    assert emulator.requests == []


def test_a_terminal_is_told_that_it_is_read_from(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Typed)
    out, err = invoke("tgi", capsys=capsys)
    assert (out, err) == (f"{SAID}\n", "smendpoint: reading the input from the terminal; Ctrl-D ends it\n")


# -- what is written


def test_an_object_has_the_output_and_what_is_known_of_the_call(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    emulator.inject("throttle_then_ok_1")
    found = json.loads(invoke("vllm", PROMPT, "--handler", "chat", "--json", capsys=capsys)[0])
    assert found["output"] == {"text": SAID, "tool_calls": [], "reasoning": None, "finish_reason": "stop"}
    assert found["finish_reason"] == "stop"
    assert found["usage"]["completion_tokens"] == 6
    assert found["attempts"] == 2
    assert found["elapsed"] > 0
    assert re.fullmatch(r"[0-9a-f-]{36}", found["request_id"])
    assert found.keys() == {"output", "finish_reason", "usage", "request_id", "attempts", "elapsed"}
    streamed = json.loads(invoke("tgi", PROMPT, "--stream", "--json", capsys=capsys)[0])
    assert streamed["output"] == SAID
    assert 0 < streamed["time_to_first_chunk"] <= streamed["elapsed"]
    plain = json.loads(invoke("echo", "hello", "--handler", "bytes", "--json", capsys=capsys)[0])
    assert plain["output"] == {"base64": base64.b64encode(b"hello").decode()}
    assert plain["usage"] is None


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_a_file_gets_the_same_bytes_as_standard_output(
    emulator: Emulator, tmp_path: Path, stream: list[str], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    for arguments in (
        ["tgi", PROMPT],
        ["echo", "caf\xe9", "--handler", "bytes"],
        ["echo", "[1.5]", "--handler", "json"],
    ):
        assert main(["invoke", *arguments, *stream, "--output", "-"]) == 0
        out = capfdbinary.readouterr().out
        assert main(["invoke", *arguments, *stream, "--output", "out"]) == 0
        assert capfdbinary.readouterr().out == b""
        assert (tmp_path / "out").read_bytes() == out != b""


def test_a_call_that_fails_leaves_the_file_as_it_was(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("before")
    invoke("nothing", PROMPT, "--output", "out", status=1, capsys=capsys)
    assert (tmp_path / "out").read_text() == "before"


# -- reports


def test_v_reports_attempts_status_variant_times_and_tokens_and_never_a_secret(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    emulator.inject("throttle_then_ok_1")
    out, err = invoke("vllm", PROMPT, "--handler", "chat", "-v", capsys=capsys)
    assert out == f"{SAID}\n"
    failed, summary = err.splitlines()
    assert re.fullmatch(r"smendpoint: attempt 1 failed: ThrottlingError, status 429; next attempt in \d\.\d s", failed)
    assert re.fullmatch(
        r"smendpoint: status 200, variant \S+, 2 attempts, first byte after \d+\.\d{3} s, \d+\.\d{3} s in all, "
        r"\d+ \+ 6 tokens, request id [0-9a-f-]{36}",
        summary,
    )
    _, err = invoke("tgi", PROMPT, "-v", "--stream", capsys=capsys)
    times = re.search(r"1 attempt, first byte after (\S+) s, first chunk after (\S+) s, (\S+) s in all, ", err)
    assert times is not None
    assert sorted(times.groups(), key=float) == list(times.groups())
    _, failed = invoke("nothing", PROMPT, "-v", status=1, capsys=capsys)
    assert "attempt 1 failed: ValidationError, status 400; it is the last\n" in failed
    assert "smendpoint: status 400, 1 attempt, " in failed
    _, unsent = invoke(
        "tgi",
        PROMPT,
        "-v",
        "--handler",
        "embeddings",
        "--param",
        "x=1",
        "--handler-option",
        "format=jumpstart-similarity",
        status=2,
        capsys=capsys,
    )
    assert "smendpoint: nothing was sent\n" in unsent
    assert SECRET not in err + failed + unsent
    assert "AKIDEXAMPLE" not in err + failed + unsent


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (['[{"role": "user"}]', "--handler", "chat"], "Message 0 ('user') has no content."),
        (["[1]", "--handler", "embeddings", "--dry-run"], "Text 0 must be a str, not int."),
        (["", "--handler", "tabular", "--submit"], "A table needs at least one row."),
        (
            ['[{"role": "user"}]', "--attach", "https://e.com/a.png"],
            "--attach: the content of the last message must be",
        ),
    ],
)
def test_an_input_that_a_handler_refuses_is_not_a_failed_call(
    arguments: list[str], said: str, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    _, err = invoke("vllm", *arguments, status=2, capsys=capsys)
    assert err.startswith(f"smendpoint: {said}")
    assert not emulator.requests


def test_an_answer_that_a_handler_cannot_read_is_a_failed_call(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    emulator.inject("html_200", times=1)
    _, err = invoke("vllm", PROMPT, "--handler", "chat", status=1, capsys=capsys)
    assert "HandlerError" in err


def test_an_empty_stop_sequence_is_refused_by_its_option(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["invoke", "vllm", PROMPT, "--stop", ""])
    assert "argument --stop: it is empty" in capsys.readouterr().err


def test_v_says_where_no_answer_came(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    _, err = invoke(
        *("tgi", PROMPT, "-v", "--endpoint-url", "http://127.0.0.1:9", "--retries", "0"), status=1, capsys=capsys
    )
    assert "attempt 1 failed: ConnectError; it is the last" in err
    assert "smendpoint: no answer, 1 attempt, " in err
    assert "Check the region, --endpoint-url and the network" in err


def test_a_wait_for_a_cold_start_is_reported_without_v(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    emulator.inject("not_ready_then_ok_1")
    out, err = invoke("tgi", PROMPT, capsys=capsys)
    assert out == f"{SAID}\n"
    assert "the model is not ready, it is still being loaded" in err


@pytest.mark.parametrize(("retries", "sent"), [("0", 1), ("1", 2)])
def test_retries_says_how_often_a_request_is_sent_again(
    emulator: Emulator, retries: str, sent: int, capsys: pytest.CaptureFixture[str]
) -> None:
    emulator.inject("throttle_then_ok_9")
    invoke("tgi", PROMPT, "--retries", retries, status=1, capsys=capsys)
    assert len(emulator.requests) == sent


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--timeout", "0", "argument --timeout: '0' is not a number of seconds above 0"),
        ("--timeout", "soon", "argument --timeout: 'soon' is not a number of seconds above 0"),
        ("--timeout", "inf", "argument --timeout: 'inf' is not a number of seconds above 0"),
        ("--retries", "-1", "argument --retries: "),
        ("--retries", "1.5", "argument --retries: '1.5' is not a whole number of at least 0"),
    ],
)
def test_a_number_that_does_not_fit_ends_with_2(
    option: str, value: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["invoke", "tgi", PROMPT, option, value])
    assert said in capsys.readouterr().err


# -- asynchronous inference


def test_submit_waits_for_the_output_of_asynchronous_inference(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = invoke("vllm", PROMPT, "--submit", "--handler", "chat", capsys=capsys)
    assert out == f"{SAID}\n"
    assert re.fullmatch(r"smendpoint: submitted as \S+; waiting for s3://\S+\n", err)
    found = json.loads(
        invoke("vllm", PROMPT, "--submit", "--handler", "chat", "--json", "--upload-to", "s3://in/x", capsys=capsys)[0]
    )
    assert found["output"]["text"] == SAID
    assert found["usage"]["completion_tokens"] == 6
    assert found["output_location"].startswith("s3://")
    assert found["inference_id"]


# -- the request


def test_a_dry_run_writes_the_request_and_sends_nothing(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME")
    out, err = invoke(
        "my-llm", "Hi", "--dry-run", "--component", "part", "--stop", "x", "--param", "top_p=0.5", capsys=capsys
    )
    assert err == "smendpoint: nothing was sent\n"
    head, body = out.split("\n\n")
    lines = head.splitlines()
    assert lines[0] == "POST https://runtime.sagemaker.us-west-2.amazonaws.com/endpoints/my-llm/invocations"
    assert {"Content-Type: application/json", "Accept: application/json"} < set(lines)
    assert "X-Amzn-SageMaker-Inference-Component: part" in lines
    assert json.loads(body) == {"inputs": "Hi", "parameters": {"top_p": 0.5, "stop": ["x"]}}
    shown = json.loads(invoke("my-llm", "Hi", "--dry-run", "--json", "--stream", capsys=capsys)[0])
    assert shown["url"].endswith("/endpoints/my-llm/invocations-response-stream")
    assert shown["body"]["stream"] is True
    assert shown["method"] == "POST"
    text = json.loads(invoke("my-llm", "Hi", "--dry-run", "--json", "--handler", "plain", capsys=capsys)[0])
    assert text["body"] == "Hi"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff")))
    raw = json.loads(invoke("my-llm", "--dry-run", "--json", "--handler", "bytes", capsys=capsys)[0])
    assert raw["body"] == {"base64": "/w=="}
    sent = json.loads(invoke("my-llm", "Hi", "--dry-run", "--json", "--submit", capsys=capsys)[0])
    assert sent["url"].endswith("/endpoints/my-llm/async-invocations")
    assert sent["body"]["inputs"] == "Hi"
    put = json.loads(
        invoke("my-llm", "Hi", "--dry-run", "--json", "--submit", "--upload-to", "s3://in/x", capsys=capsys)[0]
    )
    assert put["headers"]["X-Amzn-SageMaker-InputLocation"].startswith("s3://in/x/")
    assert put["body"]["inputs"] == "Hi"
    assert SECRET not in out
    assert emulator.requests == []


def test_the_variant_and_custom_attributes_are_sent_and_a_dry_run_shows_no_attributes(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--variant", "blue", "--custom-attributes", "accept_eula=true"]
    invoke("tgi", PROMPT, *options, capsys=capsys)
    sent = emulator.requests[-1].headers
    assert sent["x-amzn-sagemaker-target-variant"] == "blue"
    assert sent["x-amzn-sagemaker-custom-attributes"] == "accept_eula=true"
    shown, _ = invoke("tgi", PROMPT, "--dry-run", *options, capsys=capsys)
    assert "X-Amzn-SageMaker-Target-Variant: blue\n" in shown
    assert "X-Amzn-SageMaker-Custom-Attributes: (not shown)\n" in shown


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def test_a_stream_that_is_cut_on_a_terminal_ends_its_line_before_the_message(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", Terminal(written, encoding="utf-8", write_through=True))
    emulator.inject("inband_error_tgi")
    assert main(["invoke", "tgi", PROMPT, "--stream"]) == 1
    assert written.getvalue() == b"Once\n"


def test_a_dry_run_needs_no_credentials(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert invoke("my-llm", "Hi", "--dry-run", capsys=capsys)[0].startswith("POST http://127.0.0.1")


# -- messages


def told(message: str, command: str = "invoke") -> str:
    return _options.told(errors.ConfigurationError(message), options_of(command))


def options_of(command: str) -> dict[str, str]:
    commands = argparse.ArgumentParser().add_subparsers()
    for one in COMMANDS:
        one.add_command(commands)
    return _options.option_names(commands.choices[command])


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            "no AWS region: pass region_name, set AWS_DEFAULT_REGION",
            "no AWS region: pass --region, set AWS_DEFAULT_REGION",
        ),
        ("in us-west-2 (from region_name)", "in us-west-2 (from --region)"),
        ("pass upload_to='s3://bucket/prefix' to upload it", "pass --upload-to s3://bucket/prefix to upload it"),
        ("stop must be a string", "--stop must be a string"),
        ("CustomAttributes must have 1 to 1024", "--custom-attributes must have 1 to 1024"),
        ("TargetVariant must be", "--variant must be"),
        ("InferenceComponentName must have", "--component must have"),
        ("ContentType must be", "--content-type must be"),
        ("SessionId must be", "SessionId must be"),
        ("timeout must be above 0", "--timeout must be above 0"),
        ("the timeout must be right; stop", "the timeout must be right; stop"),
        ("inference_component_name: no", "--component: no"),
        ("x is given twice: as a keyword and in parameters=", "x is given twice: as a keyword and in --param"),
        ("max_concurrency must be", "max_concurrency must be"),
        ("the profile's ca_bundle is", "the profile's ca_bundle is"),
        ("ChatHandler reads this.", "--handler chat reads this."),
        (
            'EmbeddingsHandler(pooling="mean") reads this',
            "--handler embeddings --handler-option pooling=mean reads this",
        ),
        (
            'JumpStartTextHandler("flan-t5") reads this',
            "--handler jumpstart-text --handler-option family=flan-t5 reads this",
        ),
        ("MyHandler has none", "MyHandler has none"),
    ],
)
def test_a_message_names_options_and_not_arguments(message: str, shown: str) -> None:
    assert told(message) == shown


def test_a_message_names_only_options_that_the_command_has() -> None:
    assert told("max_concurrency must be at least 1", "batch") == "--max-concurrency must be at least 1"
    assert told("the same again: retry_failed=True asks", "batch") == "the same again: --retry-failed asks"
    assert told("region_name and ChatHandler", "demo") == "region_name and ChatHandler"


def test_the_words_of_the_service_stay_as_they_are() -> None:
    error = errors.ValidationError(400, "ValidationError", "region_name must be right")
    assert "region_name must be right" in _options.told(error, {"region_name": "--region"})


def test_a_missing_region_is_told_by_its_option(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.delenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME")
    _, err = invoke("tgi", PROMPT, status=2, capsys=capsys)
    assert "pass --region" in err
    assert "region_name" not in err


def test_an_answer_of_another_shape_names_the_handler_for_it(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    _, err = invoke(
        "vllm",
        PROMPT,
        "--handler",
        "completions",
        "--param",
        "prompt=null",
        "--param",
        'messages=[{"role": "user", "content": "x"}]',
        status=1,
        capsys=capsys,
    )
    assert "--handler chat reads this" in err


# -- through the real program


def program(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "smendpoint", "invoke", *arguments], capture_output=True, **options)


def test_bytes_pass_through_a_pipe_unchanged(emulator: Emulator) -> None:
    data = bytes(range(256)) * 300 + b"\r\n\n\r"
    done = program("echo", "--handler", "bytes", input=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == data


def test_a_pipe_gets_utf_8_in_every_locale(emulator: Emulator) -> None:
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    text = "caf\xe9 \u65e5\u672c \U0001f600"
    done = program("echo", "--handler", "plain", input=text.encode(), env=environment)
    assert (done.returncode, done.stdout) == (0, f"{text}\n".encode())


def test_a_reader_that_leaves_a_stream_gets_no_traceback(emulator: Emulator) -> None:
    emulator.models["long"] = lambda request: ModelReply([b"x" * 65536] * 64, content_type="text/plain")
    command = [sys.executable, "-m", "smendpoint", "invoke", "long", "Hi", "--handler", "plain", "--stream"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(1) == b"x"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


# -- the page about it

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "shell.md"
EXAMPLES = re.findall(
    r"^```sh\n(.*?)^```\n\n```text\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)


@pytest.mark.parametrize(("lines", "printed"), EXAMPLES)
def test_the_examples_of_the_page_for_the_shell_write_what_it_says(
    emulator: Emulator, lines: str, printed: str
) -> None:
    models = {"my-llm": "tgi", "my-chat": "vllm", "my-embeddings": "tei", "my-table": "sklearn"}
    emulator.models.update({name: PERSONALITIES[model]() for name, model in models.items()})
    shell = f'smendpoint() {{ "{sys.executable}" -m smendpoint "$@"; }}\n{lines}'
    done = subprocess.run(["sh", "-ec", shell], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, printed), done.stderr
