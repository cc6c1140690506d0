"""Both LangChain programs of the seed document run with nothing changed but their import lines."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs

import pytest

from smendpoint.emulator import Credentials, Emulator

SEED = Path(__file__).parents[2] / "shared" / "seed"
FENCED = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
IMPORT = re.compile(r"^from langchain[\w.]* import ", re.MULTILINE)

STS_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
ASSUMED = {"AccessKeyId": "ASIASTANDIN", "SecretAccessKey": "assumed-secret", "SessionToken": "assumed-token"}


def programs() -> list[str]:
    """The document block followed by each program, their import lines replaced."""
    found = []
    for path in sorted(SEED.glob("*.txt")):
        blocks = [
            # The markup comment above a block's code is not Python.
            re.sub(r"^<!--.*-->\n", "", block)
            for block in FENCED.findall(path.read_text(encoding="utf-8"))
            if not block.startswith("!")  # a shell command
        ]
        documents = [block for block in blocks if "load_qa_chain" not in block]
        for program in blocks:
            if "load_qa_chain" in program:
                found.append("\n".join([*documents, program]))
    return found


PROGRAMS = programs()
needs_seed = pytest.mark.skipif(not PROGRAMS, reason="the seed document is not beside this repository")


def run(program: str) -> dict[str, Any]:
    """Run a program as a notebook would, and give the value of its last line."""
    changed = IMPORT.sub("from smendpoint.langchain import ", program)
    before, after = program.splitlines(), changed.splitlines()
    assert [old for old, new in zip(before, after, strict=True) if old != new] == [
        line for line in before if IMPORT.match(line)
    ]
    assert "langchain" not in re.sub(r"smendpoint\.langchain", "", changed)
    body, last = changed.rstrip().rsplit("\nchain(", 1)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(body, "program", "exec"), names)
    answer: dict[str, Any] = eval("chain(" + last, names)
    names["chain"].qa.endpoint.close()
    for name in {"client", "sts_client"} & set(names):
        names[name].close()
    return answer


class TokenService(BaseHTTPRequestHandler):
    """As much of STS as a program needs that assumes one role."""

    asked: ClassVar[list[dict[str, list[str]]]]

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.asked.append(form)
        members = "".join(f"<{name}>{value}</{name}>" for name, value in ASSUMED.items())
        expiration = datetime.now(timezone.utc).replace(microsecond=0, year=2099).isoformat()
        body = (
            f'<AssumeRoleResponse xmlns="{STS_NAMESPACE}"><AssumeRoleResult><Credentials>{members}'
            f"<Expiration>{expiration}</Expiration></Credentials></AssumeRoleResult>"
            "<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></AssumeRoleResponse>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def token_service() -> Iterator[tuple[str, list[dict[str, list[str]]]]]:
    asked: list[dict[str, list[str]]] = []
    handler = type("Asked", (TokenService,), {"asked": asked})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No AWS settings but those that a test makes."""
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch


def ask(program: str, emulator: Emulator) -> None:
    """Run a program, and check that it asked the emulator once for the endpoint that it names."""
    answer = run(program)
    assert list(answer) == ["output_text"]
    assert "3 days" in answer["output_text"]
    (request,) = emulator.requests
    assert (request.operation, request.endpoint_name) == ("InvokeEndpoint", "endpoint-name")


@needs_seed
def test_the_program_with_a_profile_gives_the_answer(clean_environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(
        "[credentials-profile-name]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = profile-secret\n"
    )
    (program,) = [program for program in PROGRAMS if "credentials_profile_name" in program]
    signed_by = Credentials("AKIAPROFILE", "profile-secret")
    with Emulator(region="us-west-2", credentials=signed_by) as emulator:
        clean_environment.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", emulator.url)
        ask(program, emulator)


@needs_seed
def test_the_program_with_a_client_of_another_account_gives_the_answer(
    clean_environment: pytest.MonkeyPatch, token_service: tuple[str, list[dict[str, list[str]]]]
) -> None:
    pytest.importorskip("boto3", reason="the program imports boto3")
    url, asked = token_service
    (program,) = [program for program in PROGRAMS if "assume_role" in program]
    clean_environment.setenv("AWS_ENDPOINT_URL_STS", url)
    clean_environment.setenv("AWS_DEFAULT_REGION", "us-east-1")  # the program's STS client names none
    clean_environment.setenv("AWS_ACCESS_KEY_ID", "AKIAOWN")
    clean_environment.setenv("AWS_SECRET_ACCESS_KEY", "own-secret")
    signed_by = Credentials(ASSUMED["AccessKeyId"], ASSUMED["SecretAccessKey"], ASSUMED["SessionToken"])
    with Emulator(region="us-west-2", credentials=signed_by) as emulator:
        clean_environment.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", emulator.url)
        ask(program, emulator)
    assert [form["RoleArn"] for form in asked] == [["arn:aws:iam::123456789:role/cross-account-role"]]


@needs_seed
def test_the_seed_document_has_both_programs() -> None:
    assert len(PROGRAMS) == 2
