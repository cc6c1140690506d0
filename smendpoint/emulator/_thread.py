"""The thread in which an emulator runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from smendpoint.errors import ConfigurationError

T = TypeVar("T")


class LoopThread:
    """An event loop in a separate thread, with a pool of threads for models as its executor.

    Args:
        max_workers: the most threads in the pool.

    Raises:
        ConfigurationError: No thread can be started.
    """

    def __init__(self, max_workers: int) -> None:
        self.loop = asyncio.new_event_loop()
        self._pool = ThreadPoolExecutor(max_workers, thread_name_prefix="smendpoint-model")
        self.loop.set_default_executor(self._pool)
        try:
            try:
                self._start(daemon=True)
            except RuntimeError:  # isolated subinterpreters have no daemon threads
                self._start(daemon=False)
        except RuntimeError as error:
            self._pool.shutdown()
            self.loop.close()
            raise ConfigurationError(
                f"the emulator needs a thread, and none can be started here ({error}): start it earlier, in "
                "the main interpreter, or raise the system's limit"
            ) from error

    def _start(self, daemon: bool) -> None:
        self._thread = threading.Thread(target=self._run, name="smendpoint-emulator", daemon=daemon)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop, and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def end(self) -> None:
        """End the thread, the pool and the loop."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        # The loop outlives the pool: a model that ends late still reports to it.
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.loop.close()
