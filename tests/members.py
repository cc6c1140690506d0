"""The members that the installed botocore knows: older ones lack some, which affects only clients."""

from __future__ import annotations

import functools
from typing import Any

import pytest


@functools.cache
def _model() -> Any:
    from botocore.session import Session

    return Session().get_service_model("sagemaker-runtime")


def require_member(operation: str, name: str) -> None:
    """Skip the test where this botocore, and so any client made with it, does not know a request member."""
    if name not in _model().operation_model(operation).input_shape.members:
        pytest.skip(f"this botocore does not know {name} of {operation}")
