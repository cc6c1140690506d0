"""Endpoints of one configuration that are unpickled or copied in one process share connections and credentials."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import pickle
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from async_loops import until
from aws_standins import clear_environment, explicit_keys
from botocore.config import Config
from clocks import FakeClock
from garbage import collect, collect_until
from inside import forget, share_lock, start_shares_afresh, transport_of
from twins import NAME, PATIENCE, REGION, Twin, direct_twin  # noqa: F401

from smendpoint import AdaptiveConcurrency, AsyncEndpoint, BytesHandler, CallHooks, CallInfo, Endpoint, RetryPolicy
from smendpoint._calls.endpoint import remade
from smendpoint.emulator import Credentials, Emulator
from smendpoint.errors import ConfigurationError, CredentialsError, EndpointError
from smendpoint.handlers import TextGenerationHandler

ANSWER = "The stand-in model read: Hello"


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Emulator]:
    """An emulator, and credentials in the environment."""
    clear_environment(monkeypatch, tmp_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDHERE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "here")
    with Emulator() as emulator:
        yield emulator


def make(twin: Twin, url: str, **options: Any) -> Any:
    made: Any = AsyncEndpoint if twin.asynchronous else Endpoint
    return made(NAME, **{"region_name": REGION, "endpoint_url": url, "timeout": PATIENCE, **options})


def unpickled(endpoint: Any, count: int = 2) -> list[Any]:
    data = pickle.dumps(endpoint)
    return [pickle.loads(data) for _ in range(count)]


def close(twin: Twin, *endpoints: Any) -> None:
    for endpoint in endpoints:
        twin.run(endpoint.aclose() if twin.asynchronous else endpoint.close())
    twin.settle()


def connections(twin: Twin, emulator: Emulator, *endpoints: Any) -> int:
    """How many connections the endpoints open that call one after the other, before they are closed."""
    before = emulator.total_connections
    for endpoint in endpoints:
        assert twin.run(endpoint.invoke("Hello"))
    opened = emulator.total_connections - before
    close(twin, *endpoints)
    return opened


PROGRAM = """
import asyncio, pickle, sys, threading
from concurrent.futures import ThreadPoolExecutor

data = sys.stdin.buffer.read()
together = threading.Barrier(8)

def unpickle(number):
    return pickle.loads(data)

def use(endpoints):
    async def main():
        for endpoint in endpoints:
            await endpoint.invoke("Hello")
    together.wait()
    if hasattr(endpoints[0], "aclose"):
        asyncio.run(main())
    else:
        for endpoint in endpoints:
            endpoint.invoke("Hello")

with ThreadPoolExecutor(8) as threads:
    endpoints = list(threads.map(unpickle, range(200)))
    for _ in threads.map(use, [endpoints[number::8] for number in range(8)]):
        pass
"""


def test_two_hundred_unpickled_endpoints_in_8_threads_open_8_connections_and_load_credentials_once(
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
    tmp_path: Path,
) -> None:
    keys = {"Version": 1, "AccessKeyId": "AKIDPROCESS", "SecretAccessKey": "secret"}
    script = tmp_path / "give.py"
    script.write_text(f"open({str(tmp_path / 'loads')!r}, 'a').write('x'); print({json.dumps(json.dumps(keys))})")
    config = tmp_path / "config"
    config.write_text(f"[profile work]\ncredential_process = {sys.executable} -S {script}\n")
    endpoint = make(direct_twin, emulator.url, credentials_profile_name="work")
    subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=pickle.dumps(endpoint),
        env={**os.environ, "AWS_CONFIG_FILE": str(config), "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        timeout=PATIENCE,
    )
    assert len(emulator.requests) == 200
    assert {request.headers["authorization"].count("Credential=AKIDPROCESS/") for request in emulator.requests} == {1}
    assert emulator.total_connections <= 8
    assert (tmp_path / "loads").read_text() == "x"


def test_endpoints_that_are_unpickled_at_the_same_time_share(
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
) -> None:
    data = pickle.dumps(make(direct_twin, emulator.url))
    together = threading.Barrier(8)

    def unpickle(_: int) -> Any:
        together.wait()
        return pickle.loads(data)

    with ThreadPoolExecutor(8) as threads:
        endpoints = list(threads.map(unpickle, range(8)))
    assert connections(direct_twin, emulator, *endpoints) == 1


# which endpoints share

Made = Callable[[Any], Any]
WAYS: dict[str, Made] = {
    "unpickled": lambda endpoint: pickle.loads(pickle.dumps(endpoint)),
    "unpickled twice": lambda endpoint: pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(endpoint, 0)), 5)),
    "cloudpickle": lambda endpoint: pickle.loads(pytest.importorskip("cloudpickle").dumps(endpoint)),
    "copied": copy.copy,
    "deeply copied": copy.deepcopy,
}


@pytest.mark.parametrize("way", WAYS)
def test_however_an_endpoint_is_copied_the_copies_share(
    way: str,
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
) -> None:
    endpoint = make(direct_twin, emulator.url, config=Config(retries={"mode": "standard"}))
    copies = [WAYS[way](endpoint), *unpickled(endpoint)]
    assert connections(direct_twin, emulator, *copies) == 1


def test_an_endpoint_that_was_made_directly_shares_with_none(
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
) -> None:
    first, second = (make(direct_twin, emulator.url) for _ in range(2))
    assert connections(direct_twin, emulator, first, second, *unpickled(first), copy.copy(second)) == 3


def test_copies_of_endpoints_that_were_made_with_the_same_arguments_share(
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
) -> None:
    copies = [copy.copy(make(direct_twin, emulator.url, region_name="".join(["us-", "west-2"]))) for _ in range(3)]
    assert connections(direct_twin, emulator, *copies) == 1


class Hooks(CallHooks):
    """Hooks of a class that can be pickled."""

    def attempt_started(self, call: CallInfo) -> None:
        """Do nothing."""


OWN: dict[str, Callable[[], Any]] = {
    "content_handler": lambda: TextGenerationHandler(),
    "model_kwargs": lambda: {"temperature": 0.5},
    "max_response_bytes": lambda: 1_000_000,
    "hooks": Hooks,
}


@pytest.mark.parametrize("option", OWN)
def test_endpoints_share_whatever_they_do_with_inputs_and_answers(
    option: str,
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
) -> None:
    different = make(direct_twin, emulator.url, **{option: OWN[option]()})
    copies = [*unpickled(make(direct_twin, emulator.url), 1), *unpickled(different, 1)]
    assert connections(direct_twin, emulator, *copies) == 1


def test_endpoints_with_what_only_cloudpickle_pickles_share(
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
) -> None:
    cloudpickle = pytest.importorskip("cloudpickle")

    class Handler(BytesHandler):
        def transform_input(self, value: Any, parameters: Any) -> bytes:
            return bytes(value, "ascii")

    data = cloudpickle.dumps(make(direct_twin, emulator.url, content_handler=Handler()))
    assert connections(direct_twin, emulator, *[pickle.loads(data) for _ in range(2)]) == 1


OTHERS: dict[str, dict[str, Any]] = {
    "region_name": {"region_name": "us-east-1"},
    "max_connections": {"max_connections": 3},
    "timeout": {"timeout": PATIENCE + 1},
    "retry": {"retry": RetryPolicy(max_attempts=2)},
    "inference_component_name": {"inference_component_name": "part"},
    "endpoint_kwargs": {"endpoint_kwargs": {"TargetVariant": "blue"}},
    "concurrency": {"concurrency": 3},
    "config": {"config": Config(read_timeout=PATIENCE)},
    "allow_plain_http": {"allow_plain_http": True},
    "clock": {"clock": FakeClock()},
}


@pytest.mark.parametrize("option", OTHERS)
def test_endpoints_with_other_settings_do_not_share(
    option: str,
    direct_twin: Twin,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    clear_environment(monkeypatch, tmp_path)
    both = [copy.copy(make(direct_twin, "http://127.0.0.1:1", **options)) for options in ({}, OTHERS[option])]
    assert transport_of(both[0]) is not transport_of(both[1])
    close(direct_twin, *both)


def test_an_option_that_cannot_be_compared_is_shared_by_none(
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
) -> None:
    class Local(Config):  # type: ignore[misc]  # botocore has no types
        """A class that no pickle names."""

    endpoint = make(direct_twin, emulator.url, config=Local(read_timeout=PATIENCE))
    assert connections(direct_twin, emulator, copy.copy(endpoint), copy.copy(endpoint)) == 2


def test_sessions_of_unpickled_endpoints_share(
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
) -> None:
    sessions = unpickled(make(direct_twin, emulator.url).session())
    for session in sessions:
        direct_twin.run(session.open())
        direct_twin.run(session.aclose() if direct_twin.asynchronous else session.close())
    assert emulator.total_connections == 1


def test_the_twin_of_an_endpoint_shares_if_that_one_does(emulator: Emulator) -> None:
    endpoint = Endpoint(NAME, region_name=REGION, endpoint_url=emulator.url)

    async def main(*endpoints: Any) -> int:
        before = emulator.total_connections
        twins = [remade(AsyncEndpoint, endpoint) for endpoint in endpoints]
        for twin in twins:
            await twin.invoke("Hello")
            await twin.aclose()
        return emulator.total_connections - before

    assert asyncio.run(main(endpoint, endpoint)) == 2
    travelled = unpickled(endpoint)
    twins = [remade(AsyncEndpoint, endpoint) for endpoint in travelled]
    assert transport_of(twins[0]) is transport_of(twins[1])


# identities, and what the service taught


def test_copies_with_different_keys_call_with_their_own(
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
) -> None:
    names = ["AKIDFIRST", "AKIDSECOND"]
    endpoints = [make(direct_twin, emulator.url, **explicit_keys(name, "secret")) for name in names]
    copies = [made(endpoint) for endpoint in endpoints for made in (copy.copy, copy.deepcopy)]
    assert connections(direct_twin, emulator, *copies) == 2
    signed = [request.headers["authorization"].partition("Credential=")[2][:9] for request in emulator.requests]
    assert signed == ["AKIDFIRST", "AKIDFIRST", "AKIDSECON", "AKIDSECON"]


def test_an_endpoint_whose_keys_stayed_behind_neither_gets_nor_spoils_those_of_others(
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
) -> None:
    endpoint = make(direct_twin, emulator.url, **explicit_keys("AKIDHOME", "secret"))
    able = [copy.copy(endpoint), *unpickled(make(direct_twin, emulator.url))]
    unable = unpickled(endpoint)
    for one in [*able, *unable, *able]:
        if one in unable:
            with pytest.raises(CredentialsError, match="this endpoint was unpickled without"):
                direct_twin.run(one.invoke("Hello"))
        else:
            assert direct_twin.run(one.invoke("Hello")) == ANSWER
    assert emulator.total_connections == 2
    close(direct_twin, *able, *unable)


def test_what_one_endpoint_learns_of_the_clock_of_the_service_the_others_know(
    direct_twin: Twin,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    clear_environment(monkeypatch, tmp_path)
    keys = Credentials("AKIDHOME", "secret")
    with Emulator(region=REGION, credentials=keys, clock=lambda: time.time() + 3600) as emulator:
        endpoint = make(direct_twin, emulator.url, **explicit_keys("AKIDHOME", "secret"))
        first, second = copy.copy(endpoint), copy.copy(endpoint)
        direct_twin.run(first.invoke("Hello"))
        assert len(emulator.requests) == 2
        direct_twin.run(second.invoke("Hello"))
        assert len(emulator.requests) == 3
        close(direct_twin, first, second)


def test_the_limit_of_the_calls_in_flight_is_one_for_all(
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
) -> None:
    endpoint = make(direct_twin, emulator.url, concurrency=AdaptiveConcurrency(initial=7))
    first, second = unpickled(endpoint)
    emulator.inject("throttle_then_ok_2")
    direct_twin.run(first.invoke("Hello"))
    assert first.concurrency_limit == second.concurrency_limit < 7
    assert endpoint.concurrency_limit == 7
    close(direct_twin, first, second)


# closing


def test_closing_one_leaves_the_others_at_work_and_the_last_one_closes_the_connections(
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
) -> None:
    first, second, third = unpickled(make(direct_twin, emulator.url), 3)
    for endpoint in (first, second, third):
        assert direct_twin.run(endpoint.invoke("Hello")) == ANSWER
    close(direct_twin, first, first, second)
    for endpoint in (first, second):
        with pytest.raises(ConfigurationError, match="is closed"):
            direct_twin.run(endpoint.invoke("Hello"))
    assert direct_twin.run(third.invoke("Hello")) == ANSWER
    assert (emulator.total_connections, emulator.open_connections) == (1, 1)
    close(direct_twin, third)
    emulator.disconnected()
    close(direct_twin, first, third)
    with pytest.raises(ConfigurationError, match="is closed"):
        direct_twin.run(third.invoke("Hello"))


def test_an_endpoint_that_never_called_says_that_it_is_closed(
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
) -> None:
    first, second = unpickled(make(direct_twin, emulator.url))
    close(direct_twin, first)
    with pytest.raises(ConfigurationError, match="is closed"):
        direct_twin.run(first.invoke("Hello"))
    assert connections(direct_twin, emulator, second) == 1


def test_what_is_unpickled_after_the_last_one_closed_calls_again(
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
) -> None:
    data = pickle.dumps(make(direct_twin, emulator.url))
    for _ in range(2):
        assert connections(direct_twin, emulator, pickle.loads(data)) == 1
    kept = pickle.loads(data)
    direct_twin.run(kept.invoke("Hello"))
    close(direct_twin, kept)
    assert connections(direct_twin, emulator, pickle.loads(data)) == 1


def test_an_endpoint_that_was_collected_unclosed_does_not_keep_connections_open(
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
) -> None:
    first, second = unpickled(make(direct_twin, emulator.url))
    for endpoint in (first, second):
        direct_twin.run(endpoint.invoke("Hello"))
    del first, endpoint
    collect()
    assert emulator.open_connections == 1
    close(direct_twin, second)
    emulator.disconnected()


def test_when_all_are_collected_nothing_is_left(
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
) -> None:
    first, second, closed = unpickled(make(direct_twin, emulator.url), 3)
    for endpoint in (first, second, closed):
        direct_twin.run(endpoint.invoke("Hello"))
    close(direct_twin, closed)
    transport = weakref.ref(transport_of(first))
    del first, second, endpoint
    collect_until(lambda: transport() is None)
    direct_twin.settle()
    emulator.disconnected()


def test_a_stream_of_an_endpoint_that_is_closed_goes_on_while_others_share_its_connection(
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
) -> None:
    first, second = unpickled(make(direct_twin, emulator.url))
    whole = direct_twin.run(first.invoke("Hello"))

    def rest(stream: Any) -> Iterator[str]:
        while True:
            try:
                yield direct_twin.run(stream.__anext__()) if direct_twin.asynchronous else next(stream)
            except (StopIteration, StopAsyncIteration):
                return

    stream = first.stream("Hello")
    text = direct_twin.run(stream.__anext__()) if direct_twin.asynchronous else next(stream)
    close(direct_twin, first)
    assert text + "".join(rest(stream)) == whole
    assert direct_twin.run(second.invoke("Hello")) == whole
    close(direct_twin, second)


def test_the_last_one_that_closes_ends_the_calls_of_an_event_loop(emulator: Emulator) -> None:
    emulator.inject("stall_before_headers")

    async def main() -> None:
        first, second = unpickled(AsyncEndpoint(NAME, region_name=REGION, endpoint_url=emulator.url, timeout=PATIENCE))
        call = asyncio.ensure_future(first.invoke("Hello"))
        await until(lambda: emulator.open_connections == 1)
        await first.aclose()
        assert not call.done()
        await second.aclose()
        with pytest.raises(EndpointError, match="was closed while this call was in flight"):
            await call

    asyncio.run(main())
    emulator.disconnected()


def test_endpoints_on_two_event_loops_share_and_close_apart(emulator: Emulator) -> None:
    first, second = unpickled(AsyncEndpoint(NAME, region_name=REGION, endpoint_url=emulator.url, timeout=PATIENCE))
    assert transport_of(first) is transport_of(second)

    async def main(endpoint: Any) -> None:
        async with endpoint:
            assert await endpoint.invoke("Hello") == ANSWER

    async def with_another_loop() -> None:
        assert await second.invoke("Hello") == ANSWER
        await asyncio.to_thread(asyncio.run, main(first))
        assert await second.invoke("Hello") == ANSWER
        await until(lambda: emulator.open_connections == 1)
        assert emulator.total_connections == 2
        await second.aclose()

    asyncio.run(with_another_loop())
    emulator.disconnected()


def test_a_finalizer_may_close_an_endpoint_while_another_is_unpickled(emulator: Emulator) -> None:
    endpoint = Endpoint(NAME, region_name=REGION, endpoint_url=emulator.url)
    first, second = unpickled(endpoint)
    with share_lock():  # as the garbage collector may, in the same thread
        first.close()
    assert second.invoke("Hello") == ANSWER
    second.close()


# forks


def test_what_starts_afresh_after_a_fork_is_still_shared(
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
) -> None:
    endpoint = make(direct_twin, emulator.url)
    copies = unpickled(endpoint)
    for one in copies:
        direct_twin.run(one.invoke("Hello"))
    for one in copies:
        forget(one)
    start_shares_afresh()
    collect()  # which closes the pool of the parent, on the same event loop
    assert connections(direct_twin, emulator, *copies, *unpickled(endpoint)) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_the_child_of_a_fork_shares_connections_of_its_own(emulator: Emulator) -> None:
    endpoint = Endpoint(NAME, region_name=REGION, endpoint_url=emulator.url)
    first, second = unpickled(endpoint)
    assert first.invoke("Hello") == second.invoke("Hello") == ANSWER
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with share_lock():
            held.set()
            go_on.wait(PATIENCE)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(PATIENCE)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            (third,) = unpickled(endpoint, 1)
            assert [one.invoke("Hello") for one in (first, second, third)] == [ANSWER] * 3
            first.close()
            assert second.invoke("Hello") == ANSWER
            status = 0
        finally:
            os._exit(status)
    go_on.set()
    holder.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert first.invoke("Hello") == ANSWER
    assert emulator.total_connections == 2
    first.close()
    second.close()
