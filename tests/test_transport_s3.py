"""Objects in Amazon S3: which clients are taken, who closes them, and our errors for their exceptions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from smendpoint import AsyncEndpoint, Endpoint, errors
from smendpoint._transport.async_s3 import AsyncStorage
from smendpoint._transport.s3 import BlockingStorage, check_s3_client

KEYS = {"region_name": "us-east-1", "aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret"}
PLACE = "s3://bucket/key"


def boto_client(service: str) -> Any:
    import botocore.session

    return botocore.session.Session().create_client(service, **KEYS)


def aio_client(service: str) -> Any:
    from aiobotocore.session import AioSession

    async def make() -> Any:
        async with AioSession().create_client(service, **KEYS) as client:
            return client

    return asyncio.run(make())


def test_a_client_of_the_right_kind_is_taken() -> None:
    check_s3_client(boto_client("s3"), asynchronous=False)
    check_s3_client(aio_client("s3"), asynchronous=True)


class Mock:
    """Anything that can get objects."""

    def get_object(self, **arguments: Any) -> Any: ...


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_mock_is_taken_by_either(asynchronous: bool) -> None:
    check_s3_client(Mock(), asynchronous=asynchronous)


@pytest.mark.parametrize("twin", [Endpoint, AsyncEndpoint])
@pytest.mark.parametrize("given", [lambda: "s3", lambda: boto_client("sts"), object])
def test_a_value_that_is_not_an_s3_client_is_refused_at_once(twin: Any, given: Callable[[], Any]) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"must be a client for 's3'"):
        twin("my-llm", s3_client=given())


def test_a_client_of_the_other_kind_is_refused_when_the_endpoint_is_made() -> None:
    with pytest.raises(errors.ConfigurationError, match=r"block the event loop"):
        AsyncEndpoint("my-llm", s3_client=boto_client("s3"))
    with pytest.raises(errors.ConfigurationError, match=r"AsyncEndpoint takes aiobotocore's"):
        Endpoint("my-llm", s3_client=aio_client("s3"))


class Broken:
    """A client whose every call fails, as a mock may, with an exception that is not a client's."""

    def get_object(self, **arguments: Any) -> Any:
        raise LookupError("mine")

    put_object = get_object


def test_an_exception_that_is_not_a_clients_comes_through() -> None:
    blocking = BlockingStorage(Broken(), lambda: None)
    with pytest.raises(LookupError, match="mine"):
        blocking.get(PLACE)
    with pytest.raises(LookupError, match="mine"):
        blocking.put(PLACE, b"", "text/plain")
    waiting = AsyncStorage(Broken(), never)
    with pytest.raises(LookupError, match="mine"):
        asyncio.run(waiting.get(PLACE))
    with pytest.raises(LookupError, match="mine"):
        asyncio.run(waiting.put(PLACE, b"", "text/plain"))


async def never() -> Any:
    raise AssertionError("a client was given")


class Body:
    async def __aenter__(self) -> Body:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        pass

    async def read(self) -> bytes:
        return b"object"


class Client:
    """An asynchronous client that counts how often it was opened and closed."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0

    async def __aenter__(self) -> Client:
        self.gone = asyncio.Event()
        self.opened += 1
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await asyncio.sleep(0)
        self.closed += 1
        self.gone.set()

    async def get_object(self, **arguments: Any) -> Any:
        return {"Body": Body()}

    async def make(self) -> Client:
        return self


def test_a_client_is_closed_with_its_event_loop_if_the_endpoint_is_not_closed() -> None:
    client = Client()
    storage = AsyncStorage(None, client.make)
    for count in (1, 2):
        assert asyncio.run(storage.get(PLACE)) == b"object"
        assert (client.opened, client.closed) == (count, count)


def test_a_loop_that_was_dropped_with_its_client_is_forgotten() -> None:
    client = Client()
    storage = AsyncStorage(None, client.make)
    dropped = asyncio.new_event_loop()
    dropped.run_until_complete(storage.get(PLACE))
    dropped.close()
    asyncio.run(storage.get(PLACE))
    assert client.opened == 2
    assert dropped not in storage._held


def test_closing_closes_the_clients_of_all_loops() -> None:
    here, there, dropped = Client(), Client(), Client()
    clients = iter((dropped, there, here))

    async def make() -> Client:
        return next(clients)

    storage = AsyncStorage(None, make)
    gone = asyncio.new_event_loop()
    gone.run_until_complete(storage.get(PLACE))
    held = storage._held[gone]
    ready = threading.Event()

    async def elsewhere() -> None:
        await storage.get(PLACE)
        ready.set()
        await asyncio.wait_for(there.gone.wait(), 20)

    thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
    thread.start()
    assert ready.wait(20)
    storage._held[gone] = held  # it is forgotten as soon as another loop asks
    gone.close()

    async def main() -> None:
        await storage.get(PLACE)
        storage._held[gone] = held
        await storage.close()
        assert here.closed == 1
        with pytest.raises(errors.ConfigurationError, match="the endpoint is closed"):
            await storage.get(PLACE)

    asyncio.run(main())
    thread.join()
    assert there.closed == 1


def test_a_client_that_cannot_be_opened_is_an_error_for_each_and_tried_again() -> None:
    client = Client()
    failures = [errors.ConfigurationError("not yet")]

    async def make() -> Client:
        await asyncio.sleep(0)
        if failures:
            raise failures.pop()
        return client

    storage = AsyncStorage(None, make)

    async def main() -> None:
        first = await asyncio.gather(*[storage.get(PLACE) for _ in range(3)], return_exceptions=True)
        assert [type(failure) for failure in first] == [errors.ConfigurationError] * 3
        assert len({id(failure) for failure in first}) == 3
        assert await storage.get(PLACE) == b"object"

    asyncio.run(main())


def test_closing_while_a_client_is_being_opened_waits_for_it() -> None:
    client = Client()
    storage = AsyncStorage(None, client.make)

    async def main() -> None:
        asking = asyncio.ensure_future(storage.get(PLACE))
        await asyncio.sleep(0)
        await storage.close()
        await asyncio.gather(asking, return_exceptions=True)

    asyncio.run(main())
    assert (client.opened, client.closed) == (1, 1)


def test_closing_while_opening_fails_leaves_nothing_unseen() -> None:
    async def make() -> Any:
        await asyncio.sleep(0)
        raise errors.ConfigurationError("no")

    storage = AsyncStorage(None, make)

    async def main() -> None:
        asking = asyncio.ensure_future(storage.get(PLACE))
        await asyncio.sleep(0)
        asking.cancel()
        await storage.close()
        assert isinstance((await asyncio.gather(asking, return_exceptions=True))[0], asyncio.CancelledError)

    asyncio.run(main())


def test_a_loop_that_ends_while_a_client_is_being_opened_leaves_nothing_behind() -> None:
    started = asyncio.Event()

    async def make() -> Any:
        started.set()
        await asyncio.get_running_loop().create_future()

    storage = AsyncStorage(None, make)

    async def main() -> None:
        asking = asyncio.ensure_future(storage.get(PLACE))
        await started.wait()
        asking.cancel()

    asyncio.run(main())
    assert storage._held == {}
