"""The bill of materials and the audit of a release."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Built
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

# As the OSV service answers, with as much as pip-audit reads.
VULNERABILITY = {
    "id": "OSV-1",
    "summary": "A vulnerability.",
    "affected": [{"package": {"name": "any", "ecosystem": "PyPI"}, "ranges": []}],
}


def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *arguments], capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def bill(release: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = script("sbom", str(release.wheel))
    assert run.returncode == 0, run.stderr
    path = tmp_path_factory.mktemp("bill") / "smendpoint.cdx.json"
    path.write_text(run.stdout, encoding="utf-8")
    return path


class Service(HTTPServer):
    """A vulnerability service that knows vulnerabilities of some distributions."""

    vulnerable: frozenset[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/query"


class Answers(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = [VULNERABILITY] if asked["package"]["name"] in self.server.vulnerable else []
        body = json.dumps({"vulns": known} if known else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def service() -> Iterator[Service]:
    with Service(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def audit(bill: Path, service: Service, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    return script("audit", str(bill), "-s", "osv", "--osv-url", service.url, "--cache-dir", str(tmp_path))


def test_the_bill_of_materials_is_cyclonedx(bill: Path) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill.read_text(encoding="utf-8")) is None


def test_the_bill_of_materials_is_the_same_every_time(bill: Path, release: Built) -> None:
    assert script("sbom", str(release.wheel)).stdout == bill.read_text(encoding="utf-8")


def test_the_bill_of_materials_names_the_wheel_and_what_it_needs(bill: Path, release: Built) -> None:
    content = json.loads(bill.read_text(encoding="utf-8"))
    root = content["metadata"]["component"]
    assert root["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(release.wheel.read_bytes()).hexdigest()}]
    assert root["licenses"] == [{"expression": "Apache-2.0"}]
    names = [one["name"] for one in content["components"]]
    assert names == ["botocore", "jmespath", "python-dateutil", "six", "urllib3"]
    assert [one["name"] for one in content["components"] if not one["hashes"]] == []
    needs = {one["ref"].partition("@")[0]: one["dependsOn"] for one in content["dependencies"]}
    assert [reference.partition("@")[0] for reference in needs["pkg:pypi/smendpoint"]] == ["pkg:pypi/botocore"]


def test_no_dependency_has_a_vulnerability_that_the_service_of_pip_audit_knows(bill: Path) -> None:
    run = script("audit", str(bill))
    if run.stdout.startswith("skipped"):
        pytest.skip(run.stdout.strip())
    assert run.returncode == 0, run.stdout + run.stderr


def test_an_audit_passes_if_no_vulnerability_is_known(bill: Path, service: Service, tmp_path: Path) -> None:
    service.vulnerable = frozenset({"jinja2"})
    run = audit(bill, service, tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("none known") == 5


def test_an_audit_fails_for_a_dependency_with_a_known_vulnerability(
    bill: Path, service: Service, tmp_path: Path
) -> None:
    service.vulnerable = frozenset({"jinja2", "urllib3"})
    run = audit(bill, service, tmp_path)
    assert run.returncode == 1
    assert "OSV-1" in run.stdout


def test_an_audit_is_skipped_where_the_service_has_no_data(bill: Path, service: Service, tmp_path: Path) -> None:
    service.vulnerable = frozenset()
    run = audit(bill, service, tmp_path)
    assert run.returncode == 0
    assert run.stdout.startswith("skipped: the service does not know")


def test_an_audit_is_skipped_where_the_service_cannot_be_reached(bill: Path, service: Service, tmp_path: Path) -> None:
    service.server_close()
    run = audit(bill, service, tmp_path)
    assert run.returncode == 0
    assert run.stdout == "skipped: the service cannot be reached\n"


def test_an_audit_that_breaks_down_fails(bill: Path) -> None:
    assert script("audit", str(bill), "--no-such-option").returncode == 1
