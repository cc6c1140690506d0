"""Where no thread can be started, calls are made all the same: at exit, in isolated subinterpreters, at a limit."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inside import transport_of
from servers import PATIENCE, make_endpoint
from twins import Twin, renewing_session

import smendpoint
from smendpoint._transport import threads
from smendpoint._transport.aio.transport import AsyncDirectTransport
from smendpoint.emulator import Emulator, ModelRequest
from smendpoint.errors import ConfigurationError
from smendpoint.handlers import BytesHandler
from smendpoint.openai import OpenAIAccess

pytestmark = pytest.mark.usefixtures("bare_environment")

ROOT = Path(smendpoint.__file__).parent.parent


async def echo(request: ModelRequest) -> bytes:  # runs in the emulator's loop
    return request.body


def no_more(*_: Any, **__: Any) -> Any:
    raise RuntimeError("can't start new thread")


def none_start(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_thread, "start_new_thread", no_more)
    patch.setattr(threads, "start_new_thread", no_more)
    for name in ("_start_new_thread", "_start_joinable_thread"):
        if hasattr(threading, name):
            patch.setattr(threading, name, no_more)


def test_calls_streams_and_maps_do_without(direct_twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    with Emulator(echo) as emulator, monkeypatch.context() as patch:
        url = emulator.url.replace("127.0.0.1", "localhost")  # a name that must be looked up
        endpoint = direct_twin.endpoint(url, content_handler=BytesHandler(), renewing=True)
        none_start(patch)
        assert endpoint.invoke(b"Hello") == b"Hello"
        assert b"".join(endpoint.collect(b"Hello")) == b"Hello"
        large = b"x" * 2_000_000  # whose hash is made beside the event loop
        assert endpoint.invoke(large) == large
        inputs = [b"%d" % number for number in range(7)]
        for ordered in (True, False):
            assert sorted(endpoint.map(inputs, max_concurrency=3, ordered=ordered)) == inputs
        endpoint.close()


def test_a_map_goes_on_with_the_threads_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    start = threads.start_new_thread

    def only_one(*arguments: Any) -> Any:
        if started:
            return no_more()
        started.append(1)
        return start(*arguments)

    with Emulator(echo) as emulator, make_endpoint(emulator.url, content_handler=BytesHandler()) as endpoint:
        monkeypatch.setattr(threads, "start_new_thread", only_one)
        inputs = [b"%d" % number for number in range(9)]
        assert list(endpoint.map(inputs, max_concurrency=4)) == inputs


def test_a_map_without_threads_gives_each_output_before_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    none_start(monkeypatch)
    from smendpoint._calls.fanout import fan_out
    from smendpoint._calls.limiter import Limiter
    from smendpoint._calls.window import Window
    from smendpoint._transport.deadline import SYSTEM_CLOCK

    done: list[int] = []

    def work(value: int, scope: Any, slot: Any) -> int:
        done.append(value)
        return value

    results = fan_out(work, range(5), Limiter(9, SYSTEM_CLOCK), Window(3), stoppable=True)
    assert [(value, len(done)) for value in results] == [(number, number + 1) for number in range(5)]


def test_renewing_ahead_is_left_to_the_call_that_needs_it(direct_twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    with Emulator(echo) as emulator:
        endpoint = direct_twin.endpoint(emulator.url, content_handler=BytesHandler(), renewing=True)
        endpoint.invoke(b"Hello")
        transport = transport_of(endpoint.endpoint)
        with monkeypatch.context() as patch:
            patch.setattr(type(transport.credentials), "load", lambda *_, **__: pytest.fail("it was renewed in line"))
            patch.setattr(type(transport.credentials), "refresh_due", lambda _: True)
            none_start(patch)
            if isinstance(transport, AsyncDirectTransport):

                def refuse(*_: object) -> Any:
                    raise RuntimeError("can't start new thread")

                assert direct_twin.loop is not None
                patch.setattr(direct_twin.loop, "run_in_executor", refuse)
            assert endpoint.invoke(b"Hello") == b"Hello"
        endpoint.close()


def test_work_that_is_done_at_once_fails_as_in_a_thread() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        await loop.shutdown_default_executor()
        assert await threads.off_loop(loop, lambda: 5) == 5
        with pytest.raises(ZeroDivisionError):
            await threads.off_loop(loop, lambda: 1 // 0)

    asyncio.run(main())


def test_an_emulator_says_that_it_needs_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    emulator = Emulator(echo)
    with monkeypatch.context() as patch:
        none_start(patch)
        with pytest.raises(ConfigurationError, match="the emulator needs a thread"):
            emulator.start()
        assert not emulator.running
    with emulator, make_endpoint(emulator.url, content_handler=BytesHandler()) as endpoint:
        assert endpoint.invoke(b"Hello") == b"Hello"


def test_an_emulator_runs_where_there_are_no_daemon_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def started(thread: threading.Thread) -> None:
        if thread.daemon:
            no_more()
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", started)
        emulator = Emulator(echo).start()
    with contextlib.ExitStack() as stack, make_endpoint(emulator.url, content_handler=BytesHandler()) as endpoint:
        stack.callback(emulator.stop)
        assert endpoint.invoke(b"Hello") == b"Hello"


def test_tokens_are_made_without(monkeypatch: pytest.MonkeyPatch) -> None:
    none_start(monkeypatch)
    access = OpenAIAccess("my-llm", region_name="us-east-1", session=renewing_session())
    loop = asyncio.new_event_loop()  # `asyncio.run` itself needs a thread, for its end
    try:
        assert loop.run_until_complete(access.token_async())
    finally:
        loop.close()
    monkeypatch.setattr(type(access._target().credentials), "refresh_due", lambda _: True)
    assert access.token()


CALLS = """
    import asyncio, sys, warnings
    sys.path[:0] = {path!r}
    warnings.simplefilter("error")
    from smendpoint import AsyncEndpoint, Endpoint
    from smendpoint.handlers import BytesHandler

    options = dict(
        region_name="us-east-1", aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="secret-of-forty-characters",
        endpoint_url={url!r}, content_handler=BytesHandler(),
    )

    async def asynchronous():
        async with AsyncEndpoint("my-llm", **options) as endpoint:
            assert await endpoint.invoke(b"Hello") == b"Hello"
            assert [chunk async for chunk in endpoint.stream(b"Hello")] == [b"Hello"]

    def calls():
        with Endpoint("my-llm", **options) as endpoint:
            assert endpoint.invoke(b"Hello") == b"Hello"
            assert list(endpoint.stream(b"Hello")) == [b"Hello"]
            assert list(endpoint.map([b"1", b"2", b"3"], max_concurrency=2)) == [b"1", b"2", b"3"]
        asyncio.run(asynchronous())
        print("all is well", flush=True)
"""


def run(program: Callable[[str], str]) -> str:
    with Emulator(echo) as emulator:
        url = emulator.url.replace("127.0.0.1", "localhost")
        path = [str(ROOT), *[entry for entry in sys.path if "site-packages" in entry]]
        code = program(textwrap.dedent(CALLS.format(path=path, url=url)))
        ended = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE * 2, check=False
        )
    assert ended.stderr == ""
    return ended.stdout


def test_calls_can_be_made_while_a_program_ends() -> None:
    assert run(lambda calls: f"{calls}\nimport atexit\natexit.register(calls)\n") == "all is well\n"


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="before Python 3.12 there are no isolated subinterpreters with their own lock"
)
def test_calls_can_be_made_in_an_isolated_subinterpreter() -> None:
    def program(calls: str) -> str:
        emulated = """
            from smendpoint.emulator import Emulator
            with Emulator(lambda request: request.body) as emulator:
                options["endpoint_url"] = emulator.url
                assert Endpoint("my-llm", **options).invoke(b"Hello") == b"Hello"
        """
        inner = f"{calls}\ncalls()\n{textwrap.dedent(emulated)}"
        return textwrap.dedent(
            f"""
            import os
            try:
                import _interpreters as interpreters
            except ImportError:
                import _xxsubinterpreters as interpreters
            number = interpreters.create()
            failure = interpreters.run_string(number, {inner!r})
            assert failure is None, failure
            os._exit(0)  # Python 3.12 crashes where such an interpreter ends that has imported `hashlib` or `select`
            """
        )

    assert run(program) == "all is well\n"
