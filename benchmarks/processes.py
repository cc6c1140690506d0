"""The cost of a process: importing, the first answer, and the disk."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.calls import EXPECTED
from benchmarks.harness import ROOT, Context, Cost, Row, by_turns, ratios, seconds

OURS = """
from smendpoint import Endpoint
print(Endpoint("answer").invoke("Hello"))
"""
PEER = """
import json
import boto3
client = boto3.client("sagemaker-runtime")
body = json.dumps({"inputs": "Hello", "parameters": {}})
response = client.invoke_endpoint(EndpointName="answer", ContentType="application/json", Body=body)
print(json.loads(response["Body"].read())[0]["generated_text"])
"""


def python(code: str, environment: dict[str, str], expected: str = "") -> Cost:
    """Run the code in a new interpreter, from start to end."""
    wall = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - wall
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    assert process.returncode == 0
    assert output.strip() == expected
    return Cost(usage.ru_utime + usage.ru_stime, wall)


def cold(context: Context) -> list[Row]:
    """A new process to its first answer, with the credentials in the environment."""
    rows = []
    for kind, url in (("", context.plain), (", TLS", context.tls)):
        environment = context.environment(url)
        mine, theirs = by_turns(
            context.rounds,
            lambda environment=environment: python(OURS, environment, EXPECTED),
            lambda environment=environment: python(PEER, environment, EXPECTED),
        )
        a, b = [turn.wall for turn in mine], [turn.wall for turn in theirs]
        rows.append(
            Row(
                f"cold process to first answer{kind}",
                seconds(a),
                f"boto3 {seconds(b)}",
                ratios(a, b),
                "x",
                ("<=", 0.25),
            )
        )
    return rows


def imports(context: Context) -> list[Row]:
    """Importing, over what the bare interpreter takes."""
    environment = dict(os.environ)
    codes = ("pass", "import smendpoint", "from smendpoint import Endpoint", "import boto3")
    turns = by_turns(max(3, 3 * context.rounds), *(lambda code=code: python(code, environment) for code in codes))
    bare, package, endpoint, boto3 = ([turn.wall for turn in side] for side in turns)

    def over(side: list[float]) -> list[float]:
        return [(a - b) * 1e3 for a, b in zip(side, bare, strict=True)]

    base = f"boto3 {statistics.median(over(boto3)):.0f} ms"
    return [
        Row(
            f"{code}, over a bare interpreter",
            f"{statistics.median(over(side)):.1f} ms",
            base,
            over(side),
            "ms",
            target,
        )
        for code, side, target in ((codes[1], package, ("<=", 20.0)), (codes[2], endpoint, None))
    ]


def size(context: Context) -> list[Row]:
    """Measure ``pip install .`` in an empty virtual environment, and ``pip install boto3`` for comparison."""
    ours, peer = installed(str(ROOT)), installed("boto3")
    return [
        Row("distributions that are installed", str(ours[0]), f"boto3 {peer[0]}", [ours[0]], "", ("<=", 6)),
        Row("size on disk", f"{ours[1]:.1f} MB", f"boto3 {peer[1]:.1f} MB", [ours[1]], "MB"),
    ]


def installed(requirement: str) -> tuple[int, float]:
    """How many distributions a requirement installs, itself included, and their megabytes, without byte code."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        packages = next(Path(folder).glob("[Ll]ib*/**/site-packages"))
        if requirement == str(ROOT):  # a build leaves its traces in the tree, so it gets one of its own
            tree = Path(folder, "tree")
            shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "build", "tests", "docs", "*.egg-info"))
            requirement = str(tree)
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-compile",
            "--target",
            str(packages),
            requirement,
        ]
        # Its warnings are about what is installed elsewhere.
        done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        files = [path for path in packages.rglob("*") if path.is_file()]
        return len(list(packages.glob("*.dist-info"))), sum(path.stat().st_size for path in files) / 1e6
