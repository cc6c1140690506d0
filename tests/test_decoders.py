"""The public names of the decoders."""

from __future__ import annotations

import subprocess
import sys

from smendpoint import decoders
from smendpoint._core.aws import eventheaders, eventstream
from smendpoint._core.decode import auto, lines, sse, stop


def test_the_public_names_are_sorted_and_there() -> None:
    assert decoders.__all__ == sorted(decoders.__all__)
    for name in decoders.__all__:
        assert hasattr(decoders, name)


def test_every_public_name_is_that_of_the_core() -> None:
    for name in decoders.__all__:
        homes = [module for module in (auto, eventheaders, eventstream, lines, sse, stop) if hasattr(module, name)]
        assert homes
        assert all(getattr(module, name) is getattr(decoders, name) for module in homes)


def test_every_public_name_is_described() -> None:
    for name in decoders.__all__:
        assert getattr(decoders, name).__doc__


def test_importing_the_decoders_does_not_import_json() -> None:
    # The installation may import it at start-up.
    code = (
        "import sys; known = set(sys.modules); import smendpoint.decoders; sys.exit('json' in {*sys.modules} - known)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
