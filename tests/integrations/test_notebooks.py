"""An endpoint in a kernel of Jupyter: cells that are interrupted, and a kernel that dies within a batch."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smendpoint.emulator import Emulator, ModelRequest

jupyter_client = pytest.importorskip("jupyter_client", reason="Jupyter is not installed")
pytest.importorskip("ipykernel", reason="the kernel of Jupyter is not installed")

PATIENCE = 60
SETUP = """
from smendpoint import AsyncEndpoint, Endpoint, batch
endpoint, async_endpoint = Endpoint("my-llm"), AsyncEndpoint("my-llm")
"""


class Stalled:
    """A model that answers all inputs but one, for which it waits."""

    def __init__(self) -> None:
        self.waits = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, request: ModelRequest) -> bytes:
        text = json.loads(request.body)["inputs"]
        if text == "slow" and not self.go_on.is_set():
            self.waits.set()
            assert self.go_on.wait(PATIENCE)
        return json.dumps([{"generated_text": text.upper()}]).encode()


@pytest.fixture
def model(emulator: Emulator) -> Iterator[Stalled]:
    stalled = Stalled()
    emulator.models = {"my-llm": stalled}
    yield stalled
    stalled.go_on.set()


class Kernel:
    """A kernel, in which cells run one after another."""

    def __init__(self, folder: Path) -> None:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self.manager, self.client = jupyter_client.manager.start_new_kernel(cwd=folder, env=env)
        self.run(SETUP)

    def run(self, code: str) -> str:
        """Run a cell, and give the value of its last line as text."""
        result: list[str] = []

        def output(message: dict[str, Any]) -> None:
            if message["msg_type"] == "execute_result":
                result.append(message["content"]["data"]["text/plain"])

        reply = self.client.execute_interactive(code, timeout=PATIENCE, output_hook=output)["content"]
        assert reply["status"] == "ok", reply
        return "".join(result)

    def begin(self, code: str) -> str:
        """Start a cell; give its name. Its error does not make the kernel drop the cells that follow at once."""
        return str(self.client.execute(code, stop_on_error=False))

    def interrupt(self, name: str) -> str:
        """Interrupt a cell that was started, and give the name of its error."""
        self.manager.interrupt_kernel()
        self.client.kernel_info()  # the kernel looks for an interrupt of a cell that awaits when its loop wakes up
        while (reply := self.client.get_shell_msg(timeout=PATIENCE))["parent_header"].get("msg_id") != name:
            pass
        return str(reply["content"].get("ename"))

    def restart(self) -> None:
        """Kill the kernel, and start it anew."""
        self.manager.restart_kernel(now=True)
        self.client.wait_for_ready(timeout=PATIENCE)
        self.run(SETUP)

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel(emulator: Emulator, tmp_path: Path) -> Iterator[Kernel]:
    started = Kernel(tmp_path)
    yield started
    started.close()


@pytest.mark.parametrize(
    "cell",
    [
        'endpoint.invoke("slow")',
        'list(endpoint.map(["quick", "slow"]))',
        'await async_endpoint.invoke("slow")',
        '[answer async for answer in async_endpoint.map(["quick", "slow"])]',
    ],
)
def test_an_interrupt_ends_the_call_of_a_cell_and_the_endpoint_stays_usable(
    cell: str, kernel: Kernel, emulator: Emulator, model: Stalled
) -> None:
    name = kernel.begin(cell)
    assert model.waits.wait(PATIENCE)
    assert kernel.interrupt(name) in ("KeyboardInterrupt", "CancelledError")
    model.go_on.set()
    assert kernel.run(cell.replace("slow", "next")) in ("'NEXT'", "['QUICK', 'NEXT']")


def test_a_batch_goes_on_in_a_new_kernel(kernel: Kernel, emulator: Emulator, model: Stalled) -> None:
    asked = 'batch.run(endpoint, ["one", "slow"], "answers.jsonl", max_concurrency=1)'
    cell = f"summary = {asked}\nsummary.done, summary.skipped"
    kernel.begin(cell)
    assert model.waits.wait(PATIENCE)
    kernel.restart()
    model.go_on.set()
    assert kernel.run(cell) == "(1, 1)"
