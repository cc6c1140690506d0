"""Asynchronous inference: 202 at once, and the answer later at a location."""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import Callable, MutableMapping
from dataclasses import replace

from smendpoint.emulator._reply import ModelFailed, Reply, error_reply, json_reply
from smendpoint.emulator._route import ReceivedRequest
from smendpoint.emulator._running import PREFIX, ask, gather, model_request
from smendpoint.emulator._state import State
from smendpoint.emulator.models import Model

AsyncStore = Callable[[str, bytes, bool], None]
"""Stores an answer at a location; the last argument says whether the model succeeded."""

AsyncLoad = Callable[[str], bytes]
"""Gets the input at a location."""

MAX_INLINE_BODY = 128_000
"""The largest body, in bytes, that the operation accepts inline."""

_log = logging.getLogger("smendpoint.emulator")


class AsyncInference:
    """Accepts asynchronous requests, and works on each in a task.

    Args:
        objects: where inputs and answers are kept unless ``store`` and ``load`` do it.
        output: the prefix of the locations of answers.
        store, load: called in a thread.
    """

    def __init__(
        self,
        state: State,
        objects: MutableMapping[str, bytes],
        *,
        output: str,
        store: AsyncStore | None,
        load: AsyncLoad | None,
    ) -> None:
        self._state = state
        self._output = output.rstrip("/")
        self._objects = objects
        self._store = store or self._keep
        self._load = load or objects.__getitem__
        self._tasks: set[asyncio.Task[None]] = set()

    def _keep(self, location: str, data: bytes, ok: bool) -> None:
        self._objects[location] = data

    def accept(self, model: Model, request: ReceivedRequest) -> Reply:
        """Answer a request with 202 and the locations, and let the model work on it."""
        headers = request.headers
        if (f"{PREFIX}inputlocation" in headers) == bool(request.body):
            return error_reply(400, "ValidationError", "Exactly one of Body and InputLocation must be given.")
        if len(request.body) > MAX_INLINE_BODY:
            return error_reply(400, "ValidationError", f"Body must have at most {MAX_INLINE_BODY} bytes.")
        inference_id = headers.get(f"{PREFIX}inference-id") or str(uuid.uuid4())
        folder = "/".join(filter(None, [self._output, headers.get(f"{PREFIX}s3outputpathextension", "").strip("/")]))
        name = headers.get(f"{PREFIX}filename") or str(uuid.uuid4())
        output, failure = f"{folder}/{name}.out", f"{folder}/{name}-error.out"
        task = asyncio.get_running_loop().create_task(self._work(model, request, output, failure))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        locations = [("X-Amzn-SageMaker-OutputLocation", output), ("X-Amzn-SageMaker-FailureLocation", failure)]
        return json_reply(202, {"InferenceId": inference_id}, *locations)

    async def close(self) -> None:
        """Cancel every running call."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, model: Model, request: ReceivedRequest, output: str, failure: str) -> None:
        gone = threading.Event()
        self._state.count(active=+1)
        try:
            ok, data = await self._answer(model, request, gone)
            await asyncio.to_thread(self._store, output if ok else failure, data, ok)
        except Exception:
            _log.exception("could not store an asynchronous answer")
        finally:
            gone.set()
            self._state.count(active=-1)

    async def _answer(self, model: Model, request: ReceivedRequest, gone: threading.Event) -> tuple[bool, bytes]:
        """Return whether the model succeeded, and its answer or the failure."""
        asked = model_request(request, gone)
        location = request.headers.get(f"{PREFIX}inputlocation")
        if location is not None:
            try:
                asked = replace(asked, body=await asyncio.to_thread(self._load, location))
            except Exception as error:
                return False, f"Could not read the input at {location}: {error!r}".encode()
        try:
            answer = await ask(model, asked)
            return answer.status < 400, await gather(answer.body)
        except ModelFailed as failed:
            return False, str(failed).encode()
