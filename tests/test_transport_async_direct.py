"""The direct lane for asyncio: looking up, credentials, connections, closing, and event loops that come and go."""

from __future__ import annotations

import asyncio
import ssl
import threading
from typing import Any, ClassVar

import pytest
from async_loops import PATIENCE, Run, make_endpoint, settled, turns, until
from clocks import FakeClock
from garbage import collect
from inside import forget, idle_connections, pools_of, source_of, transport_of
from servers import Server, server_context
from targets import KEYS, HeldCredentials, make_target

from smendpoint import AsyncEndpoint, Timeout, errors
from smendpoint._aws import CredentialProvider, Target
from smendpoint._core.aws.renderer import CallRequest
from smendpoint._core.aws.sigv4 import Credentials
from smendpoint._core.call.flow import NeedCredentials
from smendpoint._transport import address as addressing
from smendpoint._transport.aio import transport as async_direct
from smendpoint._transport.aio.transport import AsyncDirectTransport, AsyncSource
from smendpoint._transport.deadline import Deadline
from smendpoint._transport.timeouts import share
from smendpoint.emulator import Emulator

OTHER_KEYS = Credentials("AKIDOTHER", "secret")


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch, emulator: Emulator) -> HeldCredentials:
    """Credentials as a test wants them, for endpoints that call the emulator."""
    made = HeldCredentials()
    target = make_target("127.0.0.1", emulator.port, tls=False, credentials=made.provider)
    monkeypatch.setattr(addressing, "resolve", lambda _: target)
    return made


def endpoint(**options: Any) -> AsyncEndpoint[Any, Any, Any]:
    return AsyncEndpoint("my-llm", timeout=options.pop("timeout", PATIENCE), **options)


# looking up


def test_certificates_are_read_off_the_event_loop(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    readers: list[int] = []
    read = addressing.Address.context
    monkeypatch.setattr(
        addressing.Address, "context", lambda address: readers.append(threading.get_ident()) or read(address)
    )

    async def main() -> None:
        async with make_endpoint("https://runtime.example") as client:
            await transport_of(client).resolve()

    run(main())
    assert readers
    assert threading.get_ident() not in readers


def test_a_hundred_first_calls_look_up_once_and_off_the_loop(
    run: Run, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    proceed = threading.Event()
    threads: list[int] = []
    resolve = addressing.resolve

    def watched(identity: Any) -> Target:
        threads.append(threading.get_ident())
        assert proceed.wait(PATIENCE)
        return resolve(identity)

    monkeypatch.setattr(addressing, "resolve", watched)

    async def main() -> None:
        async with make_endpoint(emulator.url, max_connections=10) as client:
            calls = asyncio.gather(*(client.invoke("Hello") for _ in range(100)))
            await until(lambda: threads)
            proceed.set()
            await calls
            assert transport_of(client).max_connections == 10

    run(main())
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()
    assert emulator.total_connections <= 10


def test_calls_that_share_a_failed_look_up_get_an_error_each_and_the_next_looks_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    count: list[int] = []

    def fails(_: Any) -> Target:
        count.append(1)
        raise errors.ConfigurationError("there is no region")

    monkeypatch.setattr(addressing, "resolve", fails)

    async def main() -> None:
        client = endpoint()
        outcomes = await asyncio.gather(*(client.invoke("Hello") for _ in range(5)), return_exceptions=True)
        assert all(type(error) is errors.ConfigurationError for error in outcomes)
        assert len({id(error) for error in outcomes}) == 5
        assert len(count) == 1
        with pytest.raises(errors.ConfigurationError, match="no region"):
            await client.invoke("Hello")
        assert len(count) == 2

    run(main())


def test_an_error_that_is_not_ours_is_not_hidden(run: Run) -> None:
    async def main() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_exception(KeyError("a mistake"))
        with pytest.raises(KeyError):
            await share(future)

    run(main())


def test_a_cancelled_future_has_no_error_to_retrieve() -> None:
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    future.cancel()
    async_direct.mark_retrieved(future)
    loop.close()


def test_a_call_that_is_cancelled_while_it_looks_up_disturbs_no_other(run: Run, emulator: Emulator) -> None:
    async def main() -> None:
        async with make_endpoint(emulator.url) as client:
            first, second = (asyncio.ensure_future(client.invoke("Hello")) for _ in range(2))
            await asyncio.sleep(0)
            first.cancel()
            assert await second
            assert first.cancelled()

    run(main())


def test_a_loop_that_ended_during_the_look_up_leaves_it_to_the_next(
    run: Run, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_endpoint(emulator.url)
    resolve = addressing.resolve
    proceed = threading.Event()

    def slow(identity: Any) -> Target:
        assert proceed.wait(PATIENCE)
        return resolve(identity)

    monkeypatch.setattr(addressing, "resolve", slow)
    first = run.new_loop()
    task = first.create_task(client.invoke("Hello"))
    first.run_until_complete(turns())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        first.run_until_complete(task)
    second = run.new_loop()
    proceed.set()
    second.run_until_complete(client.invoke("Hello"))
    run.end(second)
    run.end(first)


def test_an_old_look_up_that_ends_does_not_end_the_one_under_way(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport = transport_of(make_endpoint("http://127.0.0.1:1"))
        old, new = loop.create_future(), loop.create_future()
        transport._looking_up = new
        for done, left in ((old, new), (new, None)):
            done.set_result(None)
            transport._looked_up(done)
            assert transport._looking_up is left

    run(main())


def test_the_certificates_are_read_once_and_off_the_loop(
    run: Run, trusted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    read = ssl.create_default_context

    def watched(**options: Any) -> ssl.SSLContext:
        threads.append(threading.get_ident())
        return read(**options)

    async def main(server: Server) -> None:
        async with make_endpoint(server.url) as client:
            for _ in range(2):
                assert await client.invoke("Hello") == "fine"

    with Server(lambda peer: peer.serve(), tls=server_context()) as server:
        monkeypatch.setattr(ssl, "create_default_context", watched)
        run(main(server))
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


# credentials


def test_a_hundred_calls_load_credentials_once_and_off_the_loop(
    run: Run, emulator: Emulator, source: HeldCredentials
) -> None:
    async def main() -> None:
        async with endpoint() as client:
            calls = [asyncio.ensure_future(client.invoke("Hello")) for _ in range(100)]
            await until(source.entered.is_set)
            await turns(20)  # the loop is not blocked
            assert not any(call.done() for call in calls)
            source.proceed.set()
            await asyncio.gather(*calls)

    run(main())
    assert len(source.threads) == 1
    assert source.threads[0] != threading.get_ident()


def test_credentials_that_have_expired_are_renewed_once_for_all(run: Run, source: HeldCredentials) -> None:
    source.lifetime = 100.0

    async def main() -> None:
        async with endpoint() as client:
            await client.invoke("Hello")
            source.clock.now += 99.0
            await asyncio.gather(*(client.invoke("Hello") for _ in range(100)))

    source.proceed.set()
    run(main())
    assert len(source.threads) == 2


def test_calls_that_share_a_failed_load_get_an_error_each(run: Run, source: HeldCredentials) -> None:
    source.fails = True
    source.proceed.set()

    async def main() -> None:
        async with endpoint() as client:
            outcomes = await asyncio.gather(*(client.invoke("Hello") for _ in range(100)), return_exceptions=True)
            assert {type(error) for error in outcomes} == {errors.CredentialsError}
            assert len({id(error) for error in outcomes}) == 100

    run(main())
    assert len(source.threads) <= 2


def test_a_call_that_is_cancelled_while_it_loads_disturbs_no_other(run: Run, source: HeldCredentials) -> None:
    async def main() -> None:
        async with endpoint() as client:
            calls = [asyncio.ensure_future(client.invoke("Hello")) for _ in range(3)]
            await until(source.entered.is_set)
            calls[0].cancel("unchanged")
            with pytest.raises(asyncio.CancelledError):
                await calls[0]
            source.proceed.set()
            assert await calls[1]
            assert await calls[2]

    run(main())
    assert len(source.threads) == 1


def test_renewing_ahead_starts_no_load_where_one_is_under_way(
    run: Run, source: HeldCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[Any] = []
    load = CredentialProvider.load
    monkeypatch.setattr(CredentialProvider, "load", lambda *_, **given: (loads.append(given), load(*_, **given))[1])

    async def main() -> None:
        async with endpoint() as client:
            call = asyncio.ensure_future(client.invoke("Hello"))
            await until(source.entered.is_set)
            await transport_of(client).refresh_ahead()
            source.proceed.set()
            await call

    run(main())
    assert len(loads) == 1


def test_a_failed_load_whose_waiters_are_gone_is_not_reported(run: Run, source: HeldCredentials) -> None:
    source.fails = True

    async def main() -> None:
        async with endpoint() as client:
            call = asyncio.ensure_future(client.invoke("Hello"))
            await until(source.entered.is_set)
            call.cancel()
            await asyncio.wait({call})
            source.proceed.set()
            await until(lambda: all(pool.loading is None for pool in pools_of(client).values()))

    run(main())


def test_loading_counts_against_the_total_time(run: Run, source: HeldCredentials) -> None:
    async def main() -> None:
        async with endpoint(timeout=Timeout(PATIENCE, PATIENCE, 0.05)) as client:
            with pytest.raises(errors.DeadlineExceededError) as caught:
                await client.invoke("Hello")
            assert not caught.value.request_sent
            source.proceed.set()

    run(main())


class Provider:
    """Answers loads one by one, as a test tells it."""

    def __init__(self) -> None:
        self.loads: list[Credentials | None] = []
        self.answers: list[Credentials] = []
        self.proceed = threading.Semaphore(0)

    def load(self, *, rejected: Credentials | None = None) -> Credentials:
        self.loads.append(rejected)
        assert self.proceed.acquire(timeout=PATIENCE)
        return self.answers.pop(0)


def test_a_load_that_began_before_credentials_were_rejected_does_not_answer_for_them(run: Run) -> None:
    provider = Provider()

    class Transport(AsyncDirectTransport):
        credentials: Any = provider

    async def main() -> None:
        clock = FakeClock()
        transport = Transport(None, None, clock)  # type: ignore[arg-type]  # it is not looked at
        patience = Deadline(Timeout(), None, clock.monotonic)
        provider.answers = [KEYS, OTHER_KEYS]
        early = asyncio.ensure_future(transport._load(NeedCredentials(None), patience))
        await until(lambda: provider.loads)
        late = [asyncio.ensure_future(transport._load(NeedCredentials(None, KEYS), patience)) for _ in range(2)]
        await turns()
        provider.proceed.release(2)
        assert await early == KEYS
        assert [await one for one in late] == [OTHER_KEYS, OTHER_KEYS]
        assert provider.loads == [None, KEYS]
        # The source may have nothing newer: then all callers get that.
        provider.answers = [KEYS]
        late = [asyncio.ensure_future(transport._load(NeedCredentials(None, KEYS), patience)) for _ in range(2)]
        provider.proceed.release()
        assert [await one for one in late] == [KEYS, KEYS]
        await transport.close()

    run(main())


# connections


def test_a_large_body_is_hashed_off_the_loop(run: Run, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[bool] = []
    hash_body = CallRequest.hash_body

    def watched(request: CallRequest) -> str:
        if request.body_hash is None:
            threads.append(threading.get_ident() == loop_thread)
        return hash_body(request)

    loop_thread = threading.get_ident()
    monkeypatch.setattr(CallRequest, "hash_body", watched)

    async def main() -> None:
        async with make_endpoint(emulator.url) as client:
            await client.invoke("x" * async_direct.HASH_OFF_LOOP_BYTES)
            await client.invoke("x")

    run(main())
    assert threads == [False, True]


# loops


def test_an_endpoint_works_on_one_loop_after_another_and_forgets_those_that_ended(run: Run, emulator: Emulator) -> None:
    client = make_endpoint(emulator.url)  # outside of any loop
    for _ in range(3):
        run(client.invoke("Hello"))
        assert pools_of(client) == {}
    emulator.disconnected()
    assert emulator.total_connections == 3


def test_a_loop_that_was_not_ended_properly_is_forgotten_once_it_is_closed(run: Run, emulator: Emulator) -> None:
    client = make_endpoint(emulator.url)
    loop = run.new_loop()
    loop.run_until_complete(client.invoke("Hello"))
    for connection in idle_connections(client):
        connection.abort()
    loop.run_until_complete(turns())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert loop in pools_of(client)
    run(client.invoke("Hello"))
    assert pools_of(client) == {}
    collect()


def test_an_endpoint_that_is_collected_closes_its_connections(run: Run, emulator: Emulator) -> None:
    async def main() -> None:
        client = make_endpoint(emulator.url)
        await client.invoke("Hello")
        assert emulator.open_connections == 1
        del client

        def closed() -> bool:
            collect()  # each time: the thread that looked up where calls go may still hold the transport
            return emulator.open_connections == 0

        await until(closed)
        await settled()

    run(main())


def test_two_loops_in_two_threads_share_one_look_up(run: Run, emulator: Emulator) -> None:
    client = make_endpoint(emulator.url)
    failures: list[BaseException] = []

    def other() -> None:
        try:
            Run(run.kind)(client.invoke("Hello"))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    run(client.invoke("Hello"))
    thread.join()
    assert failures == []


def test_after_a_fork_the_connections_of_the_parent_are_not_used(run: Run, emulator: Emulator) -> None:
    async def main() -> None:
        async with make_endpoint(emulator.url) as client:
            await client.invoke("Hello")
            (pool,) = pools_of(client).values()
            forget(client)
            assert idle_connections(client) == []
            await client.invoke("Hello")
            assert emulator.total_connections == 2
            await pool.close()

    run(main())


# closing


def test_a_closed_endpoint_refuses_calls_on_every_loop(run: Run, emulator: Emulator) -> None:
    client = make_endpoint(emulator.url)
    run(client.invoke("Hello"))
    run(client.aclose())
    with pytest.raises(errors.ConfigurationError, match="closed"):
        run(client.invoke("Hello"))


def test_closing_ends_calls_that_are_under_way_at_once(run: Run, emulator: Emulator) -> None:
    async def main() -> None:
        client = make_endpoint(emulator.url, max_connections=2)
        await client.invoke("Hello")
        emulator.inject("stall_before_headers")
        calls = [asyncio.ensure_future(client.invoke("Hello")) for _ in range(5)]
        await until(lambda: emulator.open_connections == 2)
        await turns()
        await client.aclose()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(error) for error in outcomes[:2]] == [errors.EndpointError] * 2
        assert {type(error) for error in outcomes[2:]} == {errors.ConfigurationError}
        assert all("closed" in str(error) for error in outcomes)

    run(main())


def test_closing_cuts_a_stream(run: Run, emulator: Emulator) -> None:
    async def main() -> None:
        client = make_endpoint(emulator.url)
        emulator.inject("stall_mid_stream")
        stream = client.stream("Hello")
        async with stream:
            reading = asyncio.ensure_future(_all(stream))
            await turns(20)
            await client.aclose()
            with pytest.raises(errors.StreamTruncatedError, match="the endpoint was closed"):
                await reading

    async def _all(stream: Any) -> list[str]:
        return [chunk async for chunk in stream]

    run(main())


def test_closing_on_one_loop_closes_the_connections_of_others(run: Run, emulator: Emulator) -> None:
    client = make_endpoint(emulator.url)
    first, ended = run.new_loop(), run.new_loop()
    first.run_until_complete(client.invoke("Hello"))
    ended.run_until_complete(client.invoke("Hello"))
    pool = pools_of(client)[ended]
    run.end(ended)
    pools_of(client)[ended] = pool
    run(client.aclose())
    first.run_until_complete(turns())
    emulator.disconnected()
    run.end(first)


def test_closing_while_a_connection_is_being_made_closes_that_too(run: Run) -> None:
    async def main(server: Server) -> None:
        client = make_endpoint(server.url)
        call = asyncio.ensure_future(client.invoke("Hello"))
        await until(lambda: pools_of(client))
        await client.aclose()
        with pytest.raises(errors.SmendpointError, match="closed"):
            await call

    with Server(lambda peer: peer.gone()) as server:
        run(main(server))


# streams' sources


@pytest.mark.parametrize("how", ["close", "abandon"])
def test_a_source_can_be_let_go_from_any_thread(run: Run, emulator: Emulator, how: str) -> None:
    async def main() -> None:
        async with make_endpoint(emulator.url, max_connections=1) as client:
            stream = await client.stream("Hello").open()
            source = source_of(stream)
            await asyncio.get_running_loop().run_in_executor(None, getattr(source, how))
            await client.invoke("Hello")

    run(main())


@pytest.mark.parametrize("how", ["close", "abandon"])
def test_a_source_can_be_let_go_after_its_loop(run: Run, emulator: Emulator, how: str) -> None:
    async def main() -> Any:
        return await make_endpoint(emulator.url).stream("Hello").open()

    getattr(source_of(run(main())), how)()


def test_a_source_that_is_closed_in_the_moment_when_it_ends_gives_its_place_back_once(run: Run) -> None:
    given_back: list[bool] = []

    class Pool:
        def __init__(self) -> None:
            self.loop = asyncio.get_running_loop()

        def give_back(self, connection: object, *, reusable: bool) -> None:
            given_back.append(reusable)

    class Connection:
        async def more(self) -> bytes:
            source.close()
            return b""

    class Reader:
        status = 200
        headers: ClassVar[dict[str, str]] = {}
        reusable = True

    async def main() -> None:
        nonlocal source
        source = AsyncSource(Pool(), Connection(), Reader())  # type: ignore[arg-type]  # stand-ins
        assert await source.read() == b""
        assert given_back == [False]

    source: Any = None
    run(main())
