"""The types of an emulator's endpoints. Checked by the type checkers, never run."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 11):
    from typing import assert_type
else:
    from typing_extensions import assert_type

from smendpoint import AsyncEndpoint, Endpoint
from smendpoint.emulator import Emulator
from smendpoint.handlers import BytesHandler, EmbeddingsHandler


def endpoints(emulator: Emulator) -> None:
    assert_type(emulator.endpoint("my-llm", timeout=5), Endpoint[str, str, str])
    assert_type(emulator.async_endpoint("my-llm", timeout=5), AsyncEndpoint[str, str, str])
    assert_type(emulator.endpoint("x", content_handler=EmbeddingsHandler()).invoke(["a"]), list[list[float]])
    assert_type(
        emulator.endpoint("x", content_handler=BytesHandler()),
        Endpoint[bytes | bytearray | memoryview | str, bytes, bytes],
    )
    emulator.endpoint("x", tiemout=5)  # type: ignore[call-overload]  # pyright: ignore
    emulator.models["x"] = "tgi"
    emulator.models = {"x": lambda request: b""}
