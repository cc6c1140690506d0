"""SageMaker endpoints as models of ``llm``: the program itself, and its library."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smendpoint import ConfigurationError
from smendpoint.emulator import Emulator

llm = pytest.importorskip("llm")

QUESTION = "Peter stayed for 3 days. Question: How long did Peter stay?"
ENTRIES = """
- model_id: my-llm
  region_name: us-west-2
  aliases: [mine]
  vision: true
- model_id: adapter
  endpoint_name: my-llm
  inference_component_name: adapter-1
  supports_tools: false
- model_id: my-embeddings
  embeddings: openai
"""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Emulator]:
    """A service whose address is found in the environment, and a folder of llm's with a configuration."""
    (tmp_path / "sagemaker-endpoints.yaml").write_text(ENTRIES)
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    with Emulator("vllm", region="us-west-2") as emulator:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", emulator.url)
        yield emulator


def program(*arguments: str, code: int = 0, input: str = "") -> str:
    """Run llm, and give what it writes."""
    command = [sys.executable, "-m", "llm", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, input=input, timeout=120, env=os.environ)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def sent(service: Emulator) -> Any:
    return json.loads(service.requests[-1].body)


def test_the_program_answers_and_goes_on_with_the_conversation(service: Emulator) -> None:
    assert program("-m", "my-llm", QUESTION, "-s", "Be brief.", "-o", "temperature", "0.5") == (
        "Peter stayed for 3 days.\n"
    )
    assert sent(service)["temperature"] == 0.5
    assert program("-c", "And who stayed?") == "Peter stayed for 3 days.\n"
    roles = [message["role"] for message in sent(service)["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    logged = json.loads(program("logs", "list", "--json", "-n", "1"))
    assert (logged[0]["input_tokens"] > 0, logged[0]["output_tokens"]) == (True, 5)


def test_the_program_has_aliases_whole_answers_and_images(service: Emulator, tmp_path: Path) -> None:
    image = tmp_path / "dot.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(32))
    assert program("-m", "mine", "--no-stream", QUESTION, "--at", str(image), "image/png") == (
        "Peter stayed for 3 days.\n"
    )
    text, picture = sent(service)["messages"][0]["content"]
    assert text == {"type": "text", "text": QUESTION}
    assert picture["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert "stream" not in sent(service)


def test_the_program_makes_what_a_schema_asks_for(service: Emulator) -> None:
    assert json.loads(program("-m", "my-llm", "--schema", "days int", QUESTION)) == {"days": 0}


def test_the_program_calls_tools_until_there_is_an_answer(service: Emulator) -> None:
    functions = 'def nights(guest: str) -> str:\n    "How long a guest stays."\n    return "3 nights"'
    assert program("-m", "my-llm", "--functions", functions, QUESTION) == "3 nights\n"
    roles = [message["role"] for message in sent(service)["messages"]]
    assert roles == ["user", "assistant", "tool"]


def test_the_program_makes_embeddings(service: Emulator) -> None:
    vector = json.loads(program("embed", "-m", "my-embeddings", "-c", "a text"))
    assert len(vector) > 1
    assert sent(service) == {"input": ["a text"]}


def test_the_program_shows_an_error_in_a_line(service: Emulator) -> None:
    service.inject("status_400_ValidationError", times=1)
    shown = program("-m", "my-llm", QUESTION, code=1)
    assert shown.startswith("Error: ValidationError: 400 ValidationError")
    assert "Traceback" not in shown


def test_the_program_shows_a_wrong_configuration_in_a_line_and_no_key(tmp_path: Path, service: Emulator) -> None:
    (tmp_path / "sagemaker-endpoints.yaml").write_text("- {name: x, aws_secret_access_key: wJalrXUtnFEMI}")
    shown = program("models", "list", code=1)
    assert shown.startswith(f"Error: {tmp_path}")
    assert "Traceback" not in shown
    assert "wJalr" not in shown


def test_a_component_is_called_by_its_entry(service: Emulator) -> None:
    model = llm.get_model("adapter")
    assert model.prompt(QUESTION).text() == "Peter stayed for 3 days."
    assert service.requests[-1].inference_component == "adapter-1"
    assert not model.supports_tools
    model.close()


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_call_whose_arguments_are_null_has_none(stream: bool, service: Emulator) -> None:
    call = {"index": 0, "id": "1", "type": "function", "function": {"name": "nights", "arguments": "null"}}
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": said, "delta": said, "finish_reason": "tool_calls"}
    answer = json.dumps({"choices": [choice]})
    service.models["my-llm"] = lambda _: (f"data: {answer}\n\ndata: [DONE]\n\n" if stream else answer).encode()
    model = llm.get_model("my-llm")
    response = model.prompt(QUESTION, tools=[llm.Tool(name="nights", description="", input_schema={})], stream=stream)
    response.text()
    assert [(one.name, one.arguments) for one in response.tool_calls()] == [("nights", {})]
    model.close()


def test_the_asynchronous_model_gives_the_same(service: Emulator) -> None:
    async def ask() -> tuple[str, list[str], Any]:
        model = llm.get_async_model("my-llm")
        whole = await model.prompt(QUESTION, stream=False)
        streamed = model.prompt(QUESTION)
        pieces = [piece async for piece in streamed]
        usage = await streamed.usage()
        await model.aclose()
        return await whole.text(), pieces, usage

    whole, pieces, usage = asyncio.run(ask())
    assert whole == "".join(pieces) == "Peter stayed for 3 days."
    assert len(pieces) > 3
    assert usage.output == 5


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("a: [", "is not YAML"),
        ("model_id: x", "must have a list of models"),
        ("- name: x", "a mapping with a model_id, unlike number 1"),
        ("- {model_id: x, aliases: mine}", "aliases of x must be a list"),
        ("- {model_id: x, regoin: y}", "unknown key 'regoin'; the keys are aliases, credentials_profile_name"),
    ],
)
def test_a_configuration_that_is_wrong_is_refused(
    written: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from smendpoint.integrations import llm as plugin

    (tmp_path / "sagemaker-endpoints.yaml").write_text(written)
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=message):
        plugin.register_models(lambda *_models, **_options: None)
