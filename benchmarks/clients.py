"""``python -m benchmarks.clients``: the clients of the first page, each in an empty environment of its own.

For each client: the distributions that ``pip install`` brings, their size without byte code, the CPU time of its
import, of a new process to its first answer, and of each further answer. The time of a bare interpreter is subtracted.
The clients take turns. The output is the first part of the table of the first page.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.calls import EXPECTED
from benchmarks.harness import ROOT, Context, seconds, stub

CALLS = 100
"""How many further calls a process makes."""

NEXT = f"""
import time
ask()
start = time.process_time()
for _ in range({CALLS}):
    ask()
print((time.process_time() - start) / {CALLS})
"""


class Client(NamedTuple):
    """A client: what is installed, what a program imports, and the function that asks for one answer."""

    name: str
    requirements: tuple[str, ...]
    imported: str
    ask: str

    def program(self, then: str) -> str:
        """Give a program that uses the function."""
        return f"{self.imported}\n{self.ask}\n{then}"


CLIENTS = [
    Client(
        "smendpoint",
        (str(ROOT),),
        "from smendpoint import Endpoint",
        """
endpoint = Endpoint("answer")
def ask():
    return endpoint.invoke("Hello")
""",
    ),
    Client(
        "boto3",
        ("boto3",),
        "import boto3",
        """
import json
client = boto3.client("sagemaker-runtime")
def ask():
    body = json.dumps({"inputs": "Hello", "parameters": {}})
    response = client.invoke_endpoint(EndpointName="answer", ContentType="application/json", Body=body)
    return json.loads(response["Body"].read())[0]["generated_text"]
""",
    ),
    Client(
        "aiobotocore",
        ("aiobotocore",),
        "from aiobotocore.session import get_session",
        """
import asyncio, atexit, json
loop = asyncio.new_event_loop()
client = loop.run_until_complete(get_session().create_client("sagemaker-runtime").__aenter__())
atexit.register(lambda: loop.run_until_complete(client.__aexit__(None, None, None)))
async def awaited():
    body = json.dumps({"inputs": "Hello", "parameters": {}})
    response = await client.invoke_endpoint(EndpointName="answer", ContentType="application/json", Body=body)
    async with response["Body"] as stream:
        return json.loads(await stream.read())[0]["generated_text"]
def ask():
    return loop.run_until_complete(awaited())
""",
    ),
    Client(
        "langchain-aws",
        ("langchain-aws",),
        "from langchain_aws import SagemakerEndpoint",
        """
import json
from langchain_aws.llms.sagemaker_endpoint import LLMContentHandler
class Handler(LLMContentHandler):
    content_type = accepts = "application/json"
    def transform_input(self, prompt, model_kwargs):
        return json.dumps({"inputs": prompt, "parameters": model_kwargs}).encode()
    def transform_output(self, output):
        return json.loads(output.read())[0]["generated_text"]
model = SagemakerEndpoint(endpoint_name="answer", region_name="us-east-1", content_handler=Handler())
def ask():
    return model.invoke("Hello")
""",
    ),
    Client(
        "litellm",
        ("litellm", "boto3"),
        "import litellm",
        """
import os
url = os.environ["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"] + "/endpoints/answer/invocations"
def ask():
    messages = [{"role": "user", "content": "Hello"}]
    return litellm.completion("sagemaker/answer", messages, sagemaker_base_url=url).choices[0].message.content
""",
    ),
]


class Environment:
    """A virtual environment with one client."""

    def __init__(self, client: Client, folder: Path) -> None:
        self.client = client
        self._python = str(folder / ("Scripts" if os.name == "nt" else "bin") / "python")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        requirements = client.requirements
        if requirements == (str(ROOT),):  # a build leaves its traces in the tree, so it gets one of its own
            tree = folder / "tree"
            shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "build", "tests", "docs", "*.egg-info"))
            requirements = (str(tree),)
        install = [sys.executable, "-m", "pip", f"--python={self._python}", "install", "--quiet"]
        done = subprocess.run([*install, *requirements], stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        packages = next(folder.glob("[Ll]ib*/**/site-packages"))
        self.distributions = len(list(packages.glob("*.dist-info")))
        files = [path for path in packages.rglob("*") if path.is_file() and path.suffix != ".pyc"]
        self.megabytes = sum(path.stat().st_size for path in files) / 1e6
        self.version = self._output(f"from importlib import metadata; print(metadata.version({client.name!r}))")
        self.imported: list[float] = []
        self.first: list[float] = []
        self.next: list[float] = []

    def _output(self, code: str, environment: dict[str, str] | None = None) -> str:
        command = [self._python, "-c", code]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=os.sep)
        return done.stdout.strip()

    def _cpu(self, code: str, environment: dict[str, str]) -> float:
        """Give the CPU seconds of a new process, from its start to its end."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._output(code, environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def turn(self, environment: dict[str, str]) -> None:
        """Run each program once."""
        check = f"assert ask() == {EXPECTED!r}"
        bare = self._cpu("pass", environment)
        self.imported.append(self._cpu(self.client.imported, environment) - bare)
        self.first.append(self._cpu(self.client.program(check), environment) - bare)
        self.next.append(float(self._output(self.client.program(NEXT), environment)))

    def forget(self) -> None:
        """Drop the turn that warmed up the caches of the file system."""
        for side in (self.imported, self.first, self.next):
            side.clear()


def measured(context: Context, names: list[str], folder: Path) -> list[Environment]:
    """Install the clients, and let them take turns."""
    chosen = []
    for client in CLIENTS:
        if client.name == "smendpoint" or not names or client.name in names:
            print(f"installing {client.name} ...", file=sys.stderr, flush=True)
            chosen.append(Environment(client, folder / client.name))
    environment = context.environment(context.plain)
    environment |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false"}  # nothing is looked up
    environment.pop("PYTHONPATH", None)
    for turn in range(context.rounds + 1):
        print(f"turn {turn} ...", file=sys.stderr, flush=True)
        for one in chosen:
            one.turn(environment)
            if turn == 0:
                one.forget()
    return chosen


def table(chosen: list[Environment]) -> str:
    """Give the table in Markdown; the times of other clients are multiples of smendpoint's."""

    def times(name: str, sides: list[list[float]]) -> list[str]:
        medians = [statistics.median(side) for side in sides]
        return [name, seconds(sides[0]), *(f"{median / medians[0]:.1f}x" for median in medians[1:])]

    rows = [
        ["", *(f"{one.client.name} {one.version}" for one in chosen)],
        ["---"] * (len(chosen) + 1),
        ["distributions", *(str(one.distributions) for one in chosen)],
        ["size on disk", *(f"{one.megabytes:.0f} MB" for one in chosen)],
        times("import, CPU", [one.imported for one in chosen]),
        times("first answer of a new process, CPU", [one.first for one in chosen]),
        times("next answer, CPU", [one.next for one in chosen]),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Measure, and print the table and where it is from."""
    known = [client.name for client in CLIENTS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clients", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="CLIENT", help=f"of {', '.join(known)}; all where none is given")
    parser.add_argument("--rounds", type=int, default=7, help="how many turns each client has (default 7)")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in known]:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    with stub(1.0, arguments.rounds, 0, 0) as context, tempfile.TemporaryDirectory() as folder:
        chosen = measured(context, arguments.names, Path(folder))
        load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
        print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, ", end="")
        print(f"{os.cpu_count()} CPUs{load}, {time.strftime('%Y-%m-%d')}; medians of {arguments.rounds} turns\n")
        print(table(chosen))


if __name__ == "__main__":
    main()
