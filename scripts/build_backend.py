"""Build the distributions with setuptools, so that the same tree always gives the same bytes.

pip and `python -m build` call this module (PEP 517), as pyproject.toml says. It replaces everything that setuptools
takes from the machine: times become the release date in CHANGELOG.md, owners become root, and permissions depend on
the executable bit alone. Nothing is left over from an earlier build.
"""

from __future__ import annotations

import gzip
import re
import tarfile
import tempfile
import time
import zipfile
from calendar import timegm
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

Settings = dict[str, "str | list[str] | None"] | None


def release_time() -> int:
    """Give the date of the newest version with a date in the changelog, in seconds since 1970."""
    date = re.search(r"^## \S+ - (\d{4}-\d\d-\d\d)$", Path("CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    if date is None:
        raise SystemExit("CHANGELOG.md has no version with a date: ## VERSION - YYYY-MM-DD")
    return timegm(time.strptime(date[1], "%Y-%m-%d"))


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    # setuptools adds the files that this list has from an earlier build.
    for listed in Path.cwd().glob("*.egg-info/SOURCES.txt"):
        listed.unlink()
    name: str = build_meta.build_sdist(sdist_directory, config_settings)
    path = Path(sdist_directory, name)
    new = path.with_suffix(".new")
    with (
        tarfile.open(path) as built,
        new.open("wb") as raw,
        gzip.GzipFile("", "wb", 9, raw, 0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for entry in sorted(built.getmembers(), key=lambda entry: entry.name):
            if entry.isfile():
                plain = tarfile.TarInfo(entry.name)
                plain.size = entry.size
                plain.mtime = release_time()
                plain.mode = 0o755 if entry.mode & 0o100 else 0o644
                archive.addfile(plain, built.extractfile(entry))
    new.replace(path)
    return name


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    # setuptools packs what it finds in build/, modules that have been deleted since included.
    with tempfile.TemporaryDirectory() as empty:
        fresh = {**(config_settings or {}), "--global-option": ["build", "--build-base", empty]}
        name: str = build_meta.build_wheel(wheel_directory, fresh, metadata_directory)
    path = Path(wheel_directory, name)
    new = path.with_suffix(".new")
    with zipfile.ZipFile(path) as built, zipfile.ZipFile(new, "w") as archive:
        for file in built.namelist():
            plain = zipfile.ZipInfo(file, time.gmtime(release_time())[:6])
            plain.compress_type = zipfile.ZIP_DEFLATED
            plain.external_attr = 0o100644 << 16
            archive.writestr(plain, built.read(file), compresslevel=9)
    new.replace(path)
    return name
