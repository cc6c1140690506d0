"""Print the software bill of materials of a wheel: CycloneDX 1.6, with what pip installs for it today.

    python scripts/sbom.py dist/smendpoint-0.2.0-py3-none-any.whl >smendpoint-0.2.0.cdx.json

Nothing is installed: pip (25.1 or later) reports what it would install. The same wheel and the same versions give the
same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def resolve(wheel: str) -> dict[str, Any]:
    """Give pip's report of an installation of the wheel into an empty environment."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    report: dict[str, Any] = json.loads(subprocess.run([*command, wheel], check=True, stdout=subprocess.PIPE).stdout)
    return report


def component(item: dict[str, Any]) -> dict[str, Any]:
    """Describe one distribution of pip's report."""
    metadata = item["metadata"]
    name, version = canonicalize_name(metadata["name"]), metadata["version"]
    purl = f"pkg:pypi/{name}@{version}"
    found: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    if summary := metadata.get("summary"):
        found["description"] = summary
    if sha256 := item["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256"):
        found["hashes"] = [{"alg": "SHA-256", "content": sha256}]
    if expression := metadata.get("license_expression"):
        found["licenses"] = [{"expression": expression}]
    elif text := metadata.get("license"):
        found["licenses"] = [{"license": {"name": text}}]
    return found


def needed(item: dict[str, Any], environment: dict[str, str]) -> set[str]:
    """Give the names that a distribution needs in the environment, extras left out."""
    requirements = map(Requirement, item["metadata"].get("requires_dist", []))
    return {
        canonicalize_name(requirement.name)
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate({**environment, "extra": ""})
    }


def bill(wheel: Path) -> dict[str, Any]:
    report = resolve(str(wheel))
    items = {canonicalize_name(item["metadata"]["name"]): item for item in report["install"]}
    components = {name: component(items[name]) for name in sorted(items)}
    root = components.pop(canonicalize_name(wheel.name.partition("-")[0]))
    root["hashes"] = [{"alg": "SHA-256", "content": hashlib.sha256(wheel.read_bytes()).hexdigest()}]
    references = {root["name"]: root["bom-ref"]} | {name: one["bom-ref"] for name, one in components.items()}
    with zipfile.ZipFile(wheel) as archive:
        built = archive.infolist()[0].date_time
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"timestamp": "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z".format(*built), "component": root},
        "components": list(components.values()),
        "dependencies": [
            {
                "ref": references[name],
                "dependsOn": sorted(references[other] for other in needed(items[name], report["environment"])),
            }
            for name in sorted(items)
        ],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print the software bill of materials of a wheel.")
    parser.add_argument("wheel", type=Path)
    print(json.dumps(bill(parser.parse_args().wheel), indent=2))
