"""``python -m benchmarks.clients``: the clients of the first page, each in an empty environment of its own.

For each client: the distributions that ``pip install`` brings, their size without byte code, the CPU time of its
import, and the CPU time of a new process to its first answer. A bare interpreter's time is subtracted. The clients take
turns. The output is the table of the first page.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.calls import EXPECTED
from benchmarks.harness import ROOT, Context, stub

BODY = 'body = json.dumps({"inputs": "Hello", "parameters": {}})'
PRINT = 'print(json.loads(answer)[0]["generated_text"])'


class Client(NamedTuple):
    """A client: what is installed, what a program imports, and how it asks for one answer."""

    name: str
    requirements: tuple[str, ...]
    imported: str
    call: str

    def program(self) -> str:
        """Give the program that prints one answer."""
        return f"{self.imported}\n{self.call}"


CLIENTS = [
    Client("smendpoint", (str(ROOT),), "from smendpoint import Endpoint", 'print(Endpoint("answer").invoke("Hello"))'),
    Client(
        "boto3",
        ("boto3",),
        "import boto3",
        f"""import json
{BODY}
client = boto3.client("sagemaker-runtime")
response = client.invoke_endpoint(EndpointName="answer", ContentType="application/json", Body=body)
answer = response["Body"].read()
{PRINT}""",
    ),
    Client(
        "aiobotocore",
        ("aiobotocore",),
        "from aiobotocore.session import get_session",
        f"""import asyncio, json
{BODY}
async def main():
    async with get_session().create_client("sagemaker-runtime") as client:
        response = await client.invoke_endpoint(EndpointName="answer", ContentType="application/json", Body=body)
        return await response["Body"].read()
answer = asyncio.run(main())
{PRINT}""",
    ),
    Client(
        "langchain-aws",
        ("langchain-aws",),
        "from langchain_aws import SagemakerEndpoint",
        """import json
from langchain_aws.llms.sagemaker_endpoint import LLMContentHandler
class Handler(LLMContentHandler):
    content_type = accepts = "application/json"
    def transform_input(self, prompt, model_kwargs):
        return json.dumps({"inputs": prompt, "parameters": model_kwargs}).encode()
    def transform_output(self, output):
        return json.loads(output.read())[0]["generated_text"]
print(SagemakerEndpoint(endpoint_name="answer", region_name="us-east-1", content_handler=Handler()).invoke("Hello"))""",
    ),
    Client(
        "litellm",
        ("litellm", "boto3"),
        "import litellm",
        """import os
url = os.environ["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"] + "/endpoints/answer/invocations"
messages = [{"role": "user", "content": "Hello"}]
answer = litellm.completion("sagemaker/answer", messages, sagemaker_base_url=url)
print(answer.choices[0].message.content)""",
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
        self.answered: list[float] = []

    def _output(self, code: str) -> str:
        return subprocess.run([self._python, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def _cpu(self, code: str, environment: dict[str, str], expected: str = "") -> float:
        """Give the CPU seconds of a new process, from its start to its end."""
        with subprocess.Popen(
            [self._python, "-c", code], env=environment, cwd=os.sep, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            output = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert (process.returncode, output.strip()) == (0, expected), self.client.name
        return usage.ru_utime + usage.ru_stime

    def turn(self, environment: dict[str, str]) -> None:
        """Run each program once."""
        bare = self._cpu("pass", environment)
        self.imported.append(self._cpu(self.client.imported, environment) - bare)
        self.answered.append(self._cpu(self.client.program(), environment, EXPECTED) - bare)

    def forget(self) -> None:
        """Drop the turn that warmed up the caches of the file system."""
        self.imported.clear()
        self.answered.clear()


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
    """Give the table in Markdown, with each time as a multiple of smendpoint's, too."""

    def times(name: str, sides: list[list[float]]) -> list[str]:
        medians = [statistics.median(side) for side in sides]
        cells = [f"{median * 1e3:.0f} ms" for median in medians]
        for index, median in enumerate(medians[1:], 1):
            cells[index] += f" ({median / medians[0]:.1f}x)"
        return [name, *cells]

    rows = [
        ["", *(f"{one.client.name} {one.version}" for one in chosen)],
        ["---"] * (len(chosen) + 1),
        ["distributions", *(str(one.distributions) for one in chosen)],
        ["size on disk", *(f"{one.megabytes:.0f} MB" for one in chosen)],
        times("import, CPU", [one.imported for one in chosen]),
        times("new process to its first answer, CPU", [one.answered for one in chosen]),
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
