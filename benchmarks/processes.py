"""The cost of a process: importing, the first answer, and the disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path

from benchmarks.calls import EXPECTED
from benchmarks.harness import ROOT, Context, Cost, Row, by_turns, compared
from benchmarks.peers import peers

OURS = """
from smendpoint import Endpoint
print(Endpoint("answer").invoke("Hello"))
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
        # httpx, which LiteLLM uses, has its own variable for certificates.
        environment = {**context.environment(url), "SSL_CERT_FILE": context.certificates}
        programs = {"smendpoint": OURS, **{peer.name: peer.program for peer in peers() if kind or peer.name == "boto3"}}
        turns = by_turns(
            context.rounds, *(partial(python, program, environment, EXPECTED) for program in programs.values())
        )
        sides = {name: [turn.wall for turn in one] for name, one in zip(programs, turns, strict=True)}
        label = f"cold process to first answer{kind}"
        rows.append(compared(label, sides, target=("<=", 0.25), key="cold" if kind else ""))
    with profile(context) as environment:
        programs = {"smendpoint": OURS, "boto3": peers()[0].program}
        turns = by_turns(
            context.rounds, *(partial(python, program, environment, EXPECTED) for program in programs.values())
        )
    sides = {name: [turn.wall for turn in one] for name, one in zip(programs, turns, strict=True)}
    return [*rows, compared("cold process to first answer, TLS, profile", sides, key="cold-profile")]


@contextlib.contextmanager
def profile(context: Context) -> Generator[dict[str, str]]:
    """Give an environment whose credentials are in a file, for which smendpoint asks botocore."""
    environment = context.environment(context.tls)
    keys = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    lines = [f"{key} = {environment.pop(key.upper())}" for key in keys]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "credentials")
        path.write_text("\n".join(["[default]", *lines, ""]), encoding="utf-8")
        yield {**environment, "AWS_SHARED_CREDENTIALS_FILE": str(path)}


def imports(context: Context) -> list[Row]:
    """Importing, over what the bare interpreter takes; and how many modules are imported."""
    environment = dict(os.environ)
    codes = ("pass", "import smendpoint")
    turns = by_turns(max(3, 3 * context.rounds), *(partial(python, code, environment) for code in codes))
    bare, package = ([turn.wall * 1e3 for turn in side] for side in turns)
    over = [a - b for a, b in zip(package, bare, strict=True)]
    shown = f"{statistics.median(over):.1f} ms"
    label = "import smendpoint, over a bare interpreter"

    statements = {"smendpoint": "from smendpoint import Endpoint", **{peer.name: peer.imports for peer in peers()}}
    turns = by_turns(context.rounds, *(partial(python, code, environment) for code in ("pass", *statements.values())))
    bare, *others = ([turn.wall for turn in side] for side in turns)
    sides = {
        # An import that takes less than the interpreter's own start varies by is not negative.
        name: [max(0.0, a - b) for a, b in zip(side, bare, strict=True)]
        for name, side in zip(statements, others, strict=True)
    }
    modules = {name: [float(printed(MODULES.format(code), environment))] for name, code in statements.items()}
    return [
        Row(label, shown, "", over, "ms", ("<=", 20.0)),
        compared("from smendpoint import Endpoint, over a bare interpreter", sides, key="import"),
        compared("modules that this imports", modules, count, key="import-modules"),
    ]


MODULES = "import sys; before = len(sys.modules); {}; print(len(sys.modules) - before)"


def printed(code: str, environment: dict[str, str]) -> str:
    """Run the code in a new interpreter, and give the last line that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.splitlines()[-1]


def count(values: Sequence[float]) -> str:
    """A number of things."""
    return f"{statistics.median(values):,.0f}"


def megabytes(values: Sequence[float]) -> str:
    """A number of bytes."""
    return f"{statistics.median(values) / 1e6:,.1f} MB"


def size(context: Context) -> list[Row]:
    """Install smendpoint from this tree, and count what the others needed."""
    sizes = {"smendpoint": installed(str(ROOT)), **{peer.name: present(peer.distribution) for peer in peers()}}
    distributions = {name: [float(number)] for name, (number, _) in sizes.items()}
    row = compared("distributions that are installed", distributions, count, key="distributions")
    return [
        row._replace(figures=distributions["smendpoint"], unit="", target=("<=", 6)),
        compared("size on disk", {name: [on_disk] for name, (_, on_disk) in sizes.items()}, megabytes, key="size"),
    ]


def present(name: str) -> tuple[int, float]:
    """How many of the distributions that are installed one of them needs, itself included, and their bytes."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: dict[str, metadata.Distribution] = {}
    wanted = [Requirement(name)]
    asked: set[tuple[str, str]] = set()
    while wanted:
        requirement = wanted.pop()
        for extra in ("", *requirement.extras):
            key = canonicalize_name(requirement.name)
            if (key, extra) in asked:
                continue
            asked.add((key, extra))
            found[key] = metadata.distribution(key)
            needs = [Requirement(line) for line in found[key].requires or ()]
            wanted += [one for one in needs if one.marker is None or one.marker.evaluate({"extra": extra})]
    paths = [Path(str(file.locate())) for one in found.values() for file in one.files or ()]
    return len(found), float(sum(path.stat().st_size for path in paths if path.suffix != ".pyc" and path.exists()))


def installed(requirement: str) -> tuple[int, float]:
    """How many distributions a requirement installs, itself included, and their bytes, without byte code."""
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
        return len(list(packages.glob("*.dist-info"))), float(sum(path.stat().st_size for path in files))
