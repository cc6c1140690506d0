"""Look up known vulnerabilities of the dependencies in a bill of materials, with pip-audit.

    python scripts/audit.py smendpoint-0.2.0.cdx.json

Options after the file go to pip-audit. The exit status is 1 if a dependency has a known vulnerability or is unknown to
the service, and 0 with "skipped: ..." if the service cannot be reached. A release with an old, published vulnerability
is looked up as well: a service that does not report that one has no such data, and the audit is skipped too.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

VULNERABLE = "jinja2==2.4.1"


def main(bill: str, *options: str) -> int:
    components = json.loads(Path(bill).read_text(encoding="utf-8"))["components"]
    pinned = [f"{one['name']}=={one['version']}" for one in components]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "pinned").write_text("\n".join([*pinned, VULNERABLE]) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner", "off"]
        run = subprocess.run(
            [*command, "--format", "json", "--requirement", "pinned", *options],
            cwd=folder,
            capture_output=True,
            text=True,
        )
    if not run.stdout.strip():
        unreachable = re.search(r"^.*(?:ConnectionError|Timeout|Could not connect).*$", run.stderr, re.MULTILINE)
        print("skipped: the service cannot be reached" if unreachable else run.stderr)
        return int(unreachable is None)
    found = {
        f"{one['name']}=={one['version']}": one["vulns"]
        for one in json.loads(run.stdout)["dependencies"]
        if "vulns" in one
    }
    if not found.pop(VULNERABLE, []):
        print(f"skipped: the service does not know the vulnerabilities of {VULNERABLE}")
        return 0
    for name in pinned:
        known = ", ".join(one["id"] for one in found[name]) if name in found else "unknown to the service"
        print(f"{name}: {known or 'none known'}")
    return int(any(found.get(name) != [] for name in pinned))


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
