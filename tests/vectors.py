"""Where the shared test vectors are: beside the repository, so a clone on its own skips what needs them."""

from __future__ import annotations

from pathlib import Path

import pytest

VECTORS = Path(__file__).resolve().parents[2] / "shared" / "vectors"
"""The folder of all vectors; it need not be there."""


def require_vectors(name: str) -> Path:
    """The folder of one collection of vectors; skips the test where it is absent.

    Args:
        name: such as ``"smithy-restjson1"``.
    """
    folder = VECTORS / name
    if not folder.is_dir():
        pytest.skip(f"the test vectors {name} are not beside this repository")
    return folder
