"""A real web server for the applications that tests run, and the programs of how-to pages as modules."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import serving

CODE = Path(__file__).parents[2] / "docs" / "how-to" / "code"


def load(name: str) -> Any:
    """Run a program of a how-to page, and give it as a module."""
    spec = importlib.util.spec_from_file_location(name, CODE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an ASGI application by uvicorn in a thread, and give its URL."""
    with serving.served(app) as port:
        yield f"http://127.0.0.1:{port}"
