"""The data file: all figures of one run, with the machine, the date and the versions."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.harness import Row
from benchmarks.peers import peers

Data: TypeAlias = "dict[str, Any]"
"""The content of a data file."""

_DIGITS = 4  # that are significant; more would only be noise


def collected(rows: Sequence[Row], options: Mapping[str, float]) -> Data:
    """Collect the figures that have a key: the median of each side, its range, and its ratio to smendpoint's."""
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "options": dict(options),
        "figures": {row.key: figure(row) for row in rows if row.key},
    }


def figure(row: Row) -> Data:
    """Summarize the turns of each side. A ratio is the median of the ratios within each turn."""
    first_name, first = next(iter(row.sides.items()))
    comparable = first_name.startswith("smendpoint") and all(first)
    sides: Data = {}
    for name, values in row.sides.items():
        sides[name] = {"median": rounded(statistics.median(values)), "low": rounded(min(values))}
        sides[name]["high"] = rounded(max(values))
        if comparable and len(values) == len(first):
            sides[name]["ratio"] = rounded(statistics.median([a / b for a, b in zip(values, first, strict=True)]))
    return {"what": row.what, "sides": sides}


def rounded(value: float) -> float:
    """Keep the digits that say something."""
    short = float(f"{value:.{_DIGITS}g}")
    return int(short) if short.is_integer() else short


def machine() -> dict[str, Any]:
    """Describe this machine."""
    processor = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        models = [
            line.partition(":")[2] for line in information.read_text().splitlines() if line.startswith("model name")
        ]
        processor = models[0].strip() if models else processor
    described: dict[str, Any] = {
        "processor": processor,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}, {platform.machine()}",
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        described["memory"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)
    return described


def versions() -> dict[str, str]:
    """List the versions of Python and of what takes part."""
    from smendpoint import __version__

    names = ["botocore", *(peer.distribution for peer in peers()), "langchain-core", "uvloop"]
    names += ["h2", "aws-sdk-sagemaker-runtime-http2", "awscrt"]
    found = {"Python": platform.python_version(), "smendpoint": __version__}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def write(path: Path, data: Data) -> None:
    """Write a data file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read(path: Path) -> Data:
    """Read a data file."""
    data: Data = json.loads(path.read_text(encoding="utf-8"))
    return data
