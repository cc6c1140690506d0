"""Conversations of both twins: parts both ways in their order, the ends, and what is known about them."""

from __future__ import annotations

import gc
import logging
import pickle
import sys
import threading
from typing import Any

import pytest
from clocks import FakeClock
from feeding import encode_part
from servers import PATIENCE, closed_port, deaf_port, fast
from twins import ACCESS_KEY, NAME, SECRET_KEY, Twin, TwinConversation, client_twin, direct_twin  # noqa: F401

from smendpoint import (
    AdaptiveConcurrency,
    AsyncConversation,
    CallHooks,
    CallInfo,
    Conversation,
    RetryPolicy,
    errors,
)
from smendpoint._calls import conversation_base as _conversation_base
from smendpoint.emulator import Emulator, ModelConversation

pytestmark = pytest.mark.usefixtures("bare_environment")

ENDED = "the model has ended the conversation"
CLOSED = "this conversation was closed before its end"


async def echo(talk: ModelConversation) -> None:
    async for part in talk:
        await talk.send(part.data if part.text is None else part.text, part.partial)


async def goodbye(talk: ModelConversation) -> None:
    """Ends the conversation after the first part, while its input is still open."""
    await anext(talk)
    await talk.send("bye")


async def mute(talk: ModelConversation) -> None:
    """Reads nothing, and never ends."""
    await talk.send("ready")
    await talk.receive()
    await _forever()


async def _forever() -> None:
    import asyncio

    await asyncio.get_running_loop().create_future()


def send_on(talk: TwinConversation, *parts: Any) -> None:
    """Send parts until that fails: the end of a conversation may still be on its way."""
    for _ in range(100):
        for data in parts:
            talk.send(data)


def seen(part: Any) -> tuple[bytes, str | None, bool]:
    return part.data, part.text, part.partial


# parts


MEGABYTE = bytes(range(256)) * 4096


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", None),
        (b"x", None),
        (b"\xff\x00", None),
        (bytearray(b"ab"), None),
        (memoryview(b"ab"), None),
        ("", ""),
        ("x", "x"),
        ("héllo 𝄞", "héllo 𝄞"),
        (MEGABYTE[:65_535], None),
        (MEGABYTE[:65_536], None),
        (MEGABYTE * 3, None),
        ("é" * 1_000_000, "é" * 1_000_000),
    ],
    ids=lambda value: f"{type(value).__name__}{'' if value is None else len(value)}",
)
@pytest.mark.parametrize("partial", [False, True])
def test_a_part_comes_to_the_model_and_back_as_it_was(direct_twin: Twin, data: Any, text: Any, partial: bool) -> None:  # noqa: F811
    with Emulator({NAME: echo}) as emulator, direct_twin.endpoint(emulator.url).converse() as talk:
        reading = talk.beside("list")  # or neither side would read the other's large part
        talk.send(data, partial=partial)
        talk.end_input()
        (part,) = reading.outcome()
        assert seen(part) == (data.encode() if isinstance(data, str) else bytes(data), text, partial)


def test_parts_come_in_their_order_both_ways(direct_twin: Twin) -> None:  # noqa: F811
    sent: list[Any] = [f"text {number}" if number % 3 else bytes([number % 256]) * number for number in range(500)]
    with Emulator({NAME: echo}) as emulator, direct_twin.endpoint(emulator.url).converse() as talk:
        reading = talk.beside("list")
        for number, data in enumerate(sent):
            talk.send(data, partial=number % 7 == 0)
        talk.end_input()
        parts = reading.outcome()
        assert [part.data if part.text is None else part.text for part in parts] == sent
        assert [part.partial for part in parts] == [number % 7 == 0 for number in range(500)]


def test_a_part_is_answered_before_the_next_one_is_sent(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator({NAME: echo}) as emulator, direct_twin.endpoint(emulator.url).converse() as talk:
        for word in ("one", "two", "three"):
            talk.send(word)
            assert next(talk).text == word
        talk.end_input()
        assert list(talk) == []


def test_a_model_may_speak_first_and_go_on_after_the_input(direct_twin: Twin) -> None:  # noqa: F811
    async def model(talk: ModelConversation) -> None:
        await talk.send("first")
        heard = [part.text async for part in talk]
        for word in reversed(heard):
            assert word is not None
            await talk.send(word)

    with Emulator({NAME: model}) as emulator, direct_twin.endpoint(emulator.url).converse() as talk:
        assert next(talk).text == "first"
        talk.send("a")
        talk.send("b")
        talk.end_input()
        assert [part.text for part in talk] == ["b", "a"]


@pytest.mark.parametrize("data", [None, 7, ["a"], 1.5, "\ud800"], ids=ascii)
def test_a_part_of_another_type_is_refused_and_the_conversation_goes_on(direct_twin: Twin, data: Any) -> None:  # noqa: F811
    with Emulator({NAME: echo}) as emulator, direct_twin.endpoint(emulator.url).converse() as talk:
        with pytest.raises(errors.ConfigurationError, match=r"a part must be bytes or str|unpaired surrogates"):
            talk.send(data)
        talk.send("good")
        talk.end_input()
        assert [part.text for part in talk] == ["good"]


def test_a_part_that_no_frame_can_hold_is_refused_and_the_conversation_goes_on(direct_twin: Twin) -> None:  # noqa: F811
    from smendpoint._core.aws.eventstream import MAX_PAYLOAD

    with Emulator({NAME: echo}) as emulator, direct_twin.endpoint(emulator.url).converse() as talk:
        with pytest.raises(errors.ConfigurationError):
            talk.send(bytes(MAX_PAYLOAD + 1))
        talk.send("good")
        talk.end_input()
        assert [part.text for part in talk] == ["good"]


# arguments


def test_the_model_gets_path_query_and_variant(direct_twin: Twin) -> None:  # noqa: F811
    async def model(talk: ModelConversation) -> None:
        await talk.send("|".join((talk.endpoint_name, talk.path, talk.query, talk.target_variant)))

    query = {"model": "nova-3", "rate": 16_000, "gain": 0.5, "smart": True, "raw": False, "tag": ["a b", "é"]}
    rendered = "model=nova-3&rate=16000&gain=0.5&smart=true&raw=false&tag=a%20b&tag=%C3%A9"
    with Emulator({NAME: model}) as emulator, direct_twin.endpoint(emulator.url) as endpoint:
        for given in (query, rendered):
            with endpoint.converse(path="v1/listen", query=given, endpoint_kwargs={"TargetVariant": "blue"}) as talk:
                assert next(talk).text == f"{NAME}|v1/listen|{rendered}|blue"
        with endpoint.converse(
            endpoint_kwargs={"ModelInvocationPath": "v2", "ModelQueryString": "a=1", "TargetVariant": None}
        ) as talk:
            assert next(talk).text == f"{NAME}|v2|a=1|"
        with endpoint.converse(query={}) as talk:
            assert next(talk).text == f"{NAME}|||"


def test_the_members_of_the_endpoint_are_those_of_its_conversations_unless_they_have_their_own(
    direct_twin: Twin,  # noqa: F811
) -> None:
    async def model(talk: ModelConversation) -> None:
        await talk.send(talk.target_variant)

    with Emulator({NAME: model}) as emulator:
        endpoint = direct_twin.endpoint(emulator.url, endpoint_kwargs={"TargetVariant": "blue"})
        with endpoint.converse() as talk:
            assert next(talk).text == "blue"
        with endpoint.converse(endpoint_kwargs={"TargetVariant": "green"}) as talk:
            assert next(talk).text == "green"


def test_a_path_and_a_query_may_be_as_long_as_their_limits(direct_twin: Twin) -> None:  # noqa: F811
    async def model(talk: ModelConversation) -> None:
        await talk.send(f"{len(talk.path)} {len(talk.query)}")

    with Emulator({NAME: model}) as emulator:
        endpoint = direct_twin.endpoint(emulator.url)
        with endpoint.converse(path="p" * 100, query={"q": "v" * 2046}) as talk:
            assert next(talk).text == "100 2048"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"path": "p" * 101}, "100"),
    ({"path": "/v1"}, "'/' at either end"),
    ({"path": "v1/"}, "'/' at either end"),
    ({"path": ""}, "segments"),
    ({"path": "v1//listen"}, "segments"),
    ({"path": "../invocations"}, "segments"),
    ({"path": "v1?model=x"}, "query as a mapping"),
    ({"path": "v 1"}, "visible ASCII"),
    ({"path": "v1\r\nX: y"}, "visible ASCII"),
    ({"path": 7}, "must be a str"),
    ({"query": {"q": "v" * 2047}}, "2048|2,048"),
    ({"query": "q=" + "v" * 2047}, "2048|2,048"),
    ({"query": "a=1\nb"}, "ModelQueryString"),
    ({"query": 7}, "ModelQueryString"),
    ({"query": {"a": None}}, "str, int, float or bool"),
    ({"query": {"a": {"b": 1}}}, "str, int, float or bool"),
    ({"query": {"a": float("nan")}}, "finite"),
    ({"query": {1: "a"}}, "a name in the query"),
    ({"query": {"a": "\ud800"}}, "surrogates"),
    ({"path": "v1", "endpoint_kwargs": {"ModelInvocationPath": "v2"}}, "given twice: as path="),
    ({"query": "a=1", "endpoint_kwargs": {"ModelQueryString": "a=2"}}, "given twice: as query="),
    ({"endpoint_kwargs": {"ModelInvocationPath": "/v2"}}, "'/' at either end"),
    ({"endpoint_kwargs": {"InferenceId": "x"}}, "no member 'InferenceId'"),
    ({"endpoint_kwargs": {"Body": b"x"}}, "Body cannot be set"),
    ({"endpoint_kwargs": {"TargetVariant": "x" * 64}}, "TargetVariant"),
    ({"endpoint_kwargs": ["TargetVariant"]}, "endpoint_kwargs must be a mapping"),
    ({"timeout": -1}, "timeout"),
    ({"timeout": "soon"}, "timeout"),
]


@pytest.mark.parametrize(("arguments", "says"), REFUSED, ids=lambda value: repr(value)[:40])
def test_an_argument_that_does_not_fit_is_refused_before_anything_is_sent(
    direct_twin: Twin,  # noqa: F811
    arguments: dict[str, Any],
    says: str,
) -> None:
    with Emulator({NAME: echo}) as emulator, direct_twin.endpoint(emulator.url) as endpoint:
        with pytest.raises(errors.ConfigurationError, match=says) as caught:
            endpoint.converse(**arguments)
        assert caught.value.endpoint_name == NAME
        assert (emulator.total_connections, emulator.requests) == (0, [])


def test_members_of_the_endpoint_that_conversations_do_not_have_are_refused(direct_twin: Twin) -> None:  # noqa: F811
    for option in ({"inference_component_name": "adapter"}, {"endpoint_kwargs": {"CustomAttributes": "a=1"}}):
        with Emulator({NAME: echo}) as emulator, direct_twin.endpoint(emulator.url, **option) as endpoint:
            with pytest.raises(errors.ConfigurationError, match="has no member") as caught:
                endpoint.converse()
            assert caught.value.endpoint_name == NAME
            assert emulator.total_connections == 0


def test_an_endpoint_with_a_client_cannot_converse(client_twin: Twin) -> None:  # noqa: F811
    with pytest.raises(errors.ConfigurationError, match=r"client= cannot converse.*leave out client=") as caught:
        client_twin.endpoint("http://127.0.0.1:9").converse()
    assert caught.value.endpoint_name == NAME


def test_without_h2_the_extra_is_named(direct_twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    for name in [
        name for name in sys.modules if name.partition(".")[0] == "h2" or name == "smendpoint._transport.http2"
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "h2", None)
    endpoint = direct_twin.endpoint("http://127.0.0.1:9")
    with pytest.raises(errors.ConfigurationError, match=r"pip install 'smendpoint\[bidi\]'") as caught:
        endpoint.converse()
    assert caught.value.endpoint_name == NAME
    assert isinstance(caught.value.__cause__, ImportError)


# the ends


def test_ending_the_input_twice_does_nothing_and_nothing_can_be_sent_after_it(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator({NAME: echo}) as emulator, direct_twin.endpoint(emulator.url).converse() as talk:
        talk.send("a")
        talk.end_input()
        talk.end_input()
        with pytest.raises(errors.ConfigurationError, match=r"end_input\(\) was called") as caught:
            talk.send("b")
        assert caught.value.endpoint_name == NAME
        assert [part.text for part in talk] == ["a"]
        talk.end_input()
        assert [len(request.headers) > 0 for request in emulator.requests] == [True]


def test_a_model_that_ends_first_leaves_its_parts_and_takes_no_more(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator({NAME: goodbye}) as emulator, direct_twin.endpoint(emulator.url).converse() as talk:
        talk.send("hello")
        assert [part.text for part in talk] == ["bye"]
        assert list(talk) == []  # the end stays the end
        for _ in range(2):
            with pytest.raises(errors.StreamError, match=ENDED) as caught:
                talk.send("more")
            assert (caught.value.endpoint_name, caught.value.attempts) == (NAME, 1)
            assert [part.text for part in caught.value.received] == ["bye"]
        with pytest.raises(errors.StreamError, match=ENDED):
            talk.end_input()
        emulator.disconnected()


def test_a_sender_who_does_not_read_finds_out_that_the_model_has_ended(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator({NAME: goodbye}) as emulator, direct_twin.endpoint(emulator.url).converse() as talk:
        talk.send("hello")
        emulator.idle()
        with pytest.raises(errors.StreamError, match=ENDED):
            send_on(talk, MEGABYTE)
        with pytest.raises(errors.StreamError, match=ENDED):
            talk.send("more")
        assert [part.text for part in talk] == ["bye"]  # nothing is lost
        emulator.disconnected()


@pytest.mark.parametrize("first", ["list", "send"])
def test_a_part_that_the_model_did_not_take_is_an_error_for_its_sender(direct_twin: Twin, first: str) -> None:  # noqa: F811
    ending = threading.Event()

    async def model(talk: ModelConversation) -> None:
        import asyncio

        await talk.send("ready")
        await asyncio.to_thread(ending.wait, PATIENCE)
        await talk.send("bye")

    with Emulator({NAME: model}) as emulator, direct_twin.endpoint(emulator.url).converse() as talk:
        assert next(talk).text == "ready"
        calls = {"list": ("list",), "send": ("send", MEGABYTE)}
        begun = {name: talk.beside(*calls[name]) for name in sorted(calls, key=lambda name: name != first)}
        ending.set()
        assert [part.text for part in begun["list"].outcome()] == ["bye"]
        failure = begun["send"].outcome()
        assert isinstance(failure, errors.StreamError)
        assert ENDED in str(failure)


def test_the_end_of_the_input_needs_no_model_that_waits_for_it(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator({NAME: goodbye}) as emulator, direct_twin.endpoint(emulator.url).converse() as talk:
        talk.send("hello")
        emulator.idle()
        talk.end_input()
        assert [part.text for part in talk] == ["bye"]


def test_a_model_that_says_nothing_ends_well(direct_twin: Twin) -> None:  # noqa: F811
    async def model(talk: ModelConversation) -> None:
        await talk.receive()

    with Emulator({NAME: model}) as emulator, direct_twin.endpoint(emulator.url).converse() as talk:
        talk.end_input()
        assert list(talk) == []
        assert talk.iterator.request_id


# opening and closing


def test_a_conversation_opens_when_it_is_first_needed_and_once(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator({NAME: echo}) as emulator, direct_twin.endpoint(emulator.url) as endpoint:
        talk = endpoint.converse()
        assert emulator.total_connections == 0
        talk.open().open()
        with talk:
            talk.send("a")
            assert next(talk).text == "a"
        sender, reader = endpoint.converse(), endpoint.converse()
        sender.send("b")
        assert next(sender).text == "b"
        reading = reader.beside("next")
        reader.send("c")
        assert reading.outcome().text == "c"
        for each in (sender, reader):
            each.close()
        assert emulator.total_connections == len(emulator.requests) == 3
        emulator.disconnected()


@pytest.mark.parametrize("opened", [False, True])
def test_a_closed_conversation_says_so_at_each_use(direct_twin: Twin, opened: bool) -> None:  # noqa: F811
    with Emulator({NAME: echo}) as emulator, direct_twin.endpoint(emulator.url) as endpoint:
        talk = endpoint.converse()
        if opened:
            talk.send("a")
            assert next(talk).text == "a"
        talk.close()
        talk.close()
        for use in (talk.open, lambda: next(talk), lambda: talk.send("b"), talk.end_input):
            with pytest.raises(errors.StreamError, match=CLOSED) as caught:
                use()
            assert [part.text for part in caught.value.received] == (["a"] if opened else [])
            assert caught.value.endpoint_name == NAME
        assert emulator.total_connections == int(opened)
        emulator.disconnected()


def test_closing_before_the_end_loses_what_was_not_read(direct_twin: Twin) -> None:  # noqa: F811
    hooks = Diary()
    with Emulator({NAME: mute}) as emulator, direct_twin.endpoint(emulator.url, hooks=hooks) as endpoint:
        with endpoint.converse() as talk:
            assert next(talk).text == "ready"
        with pytest.raises(errors.StreamError, match=CLOSED):
            next(talk)
        emulator.disconnected()
    assert hooks.heard == ["call_started", "attempt_started", "first_byte", "first_chunk", "chunk", None]


@pytest.mark.parametrize(("method", "arguments"), [("next", ()), ("send", (MEGABYTE,)), ("list", ())])
def test_closing_ends_the_waits_of_others(direct_twin: Twin, method: str, arguments: Any) -> None:  # noqa: F811
    with Emulator({NAME: mute}) as emulator, direct_twin.endpoint(emulator.url) as endpoint:
        with endpoint.converse() as talk:
            assert next(talk).text == "ready"
            waiting = talk.beside(method, *arguments)
            talk.close()
            failure = waiting.outcome()
        assert isinstance(failure, errors.StreamError)
        assert CLOSED in str(failure)
        emulator.disconnected()


def test_closing_stops_the_wait_for_a_connection(direct_twin: Twin) -> None:  # noqa: F811
    hooks = Diary()
    with deaf_port() as port:
        talk = direct_twin.endpoint(f"http://127.0.0.1:{port}", hooks=hooks).converse()
        opening = talk.beside("open")
        direct_twin.wait(hooks.started)
        talk.close()
        failure = opening.outcome()
        assert isinstance(failure, errors.StreamError)
        assert CLOSED in str(failure)
    assert len(hooks.ends) == 1


def test_two_that_open_make_one_connection(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator({NAME: echo}) as emulator, direct_twin.endpoint(emulator.url).converse() as talk:
        first, second = talk.beside("open"), talk.beside("open")
        assert first.outcome() is second.outcome() is talk.iterator
        talk.send("a")
        assert next(talk).text == "a"
        assert emulator.total_connections == 1


def test_only_one_can_read_at_a_time_and_it_goes_on(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator({NAME: echo}) as emulator, direct_twin.endpoint(emulator.url).converse() as talk:
        refused = threading.Event()
        readers = [talk.beside("next", ended=refused) for _ in range(2)]
        direct_twin.wait(refused)
        talk.send("a")
        outcomes = sorted((reader.outcome() for reader in readers), key=lambda one: isinstance(one, Exception))
        assert outcomes[0].text == "a"
        assert isinstance(outcomes[1], errors.ConfigurationError)
        assert "only one" in str(outcomes[1])


def test_parts_of_several_senders_are_whole(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator({NAME: echo}) as emulator, direct_twin.endpoint(emulator.url).converse() as talk:
        reading = talk.beside("list")
        sent = [bytes([number]) * 300_000 for number in range(6)]
        for sending in [talk.beside("send", data) for data in sent]:
            assert sending.outcome() is None
        talk.end_input()
        assert sorted(part.data for part in reading.outcome()) == sent


def test_a_conversation_that_is_forgotten_closes_its_connection(direct_twin: Twin) -> None:  # noqa: F811
    hooks = Diary()
    with Emulator({NAME: echo}) as emulator, direct_twin.endpoint(emulator.url, hooks=hooks) as endpoint:
        talk: Any = endpoint.converse()
        talk.send("a")
        assert next(talk).text == "a"
        del talk
        gc.collect()
        direct_twin.settle()
        emulator.disconnected()
    assert hooks.ends == [None]


# connections and endpoints


def test_each_conversation_has_a_connection_of_its_own(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator({NAME: echo}) as emulator, direct_twin.endpoint(emulator.url, max_connections=1) as endpoint:
        with endpoint.converse() as one, endpoint.converse() as two:
            for talk, word in ((one, "1"), (two, "2")):
                talk.send(word)
            assert [next(talk).text for talk in (two, one)] == ["2", "1"]
        assert emulator.total_connections == 2
        emulator.disconnected()


@pytest.mark.parametrize("limit", [1, AdaptiveConcurrency(initial=1, minimum=1, maximum=1)], ids=["fixed", "adaptive"])
def test_conversations_are_not_calls_in_flight(direct_twin: Twin, limit: Any) -> None:  # noqa: F811
    with Emulator({NAME: echo}) as emulator, direct_twin.endpoint(emulator.url, concurrency=limit) as endpoint:
        with endpoint.converse() as one, endpoint.converse() as two:
            for talk in (one, two):
                talk.send("a")
                assert next(talk).text == "a"


def test_a_closed_endpoint_begins_no_conversation(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator({NAME: echo}) as emulator:
        endpoint = direct_twin.endpoint(emulator.url)
        talk = endpoint.converse()
        endpoint.close()
        for _ in range(2):
            with pytest.raises(errors.ConfigurationError, match="closed: make a new one") as caught:
                talk.open()
            assert caught.value.endpoint_name == NAME
        assert emulator.total_connections == 0


def test_a_conversation_of_an_endpoint_that_closes(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator({NAME: echo}) as emulator:
        endpoint = direct_twin.endpoint(emulator.url)
        with endpoint.converse() as talk:
            talk.send("a")
            assert next(talk).text == "a"
            endpoint.close()
            if direct_twin.asynchronous:  # it closes every connection, the blocking one those that no call uses
                with pytest.raises(errors.EndpointError):
                    next(talk)
            else:
                talk.send("b")
                assert next(talk).text == "b"
        direct_twin.settle()
        emulator.disconnected()


def test_a_pickled_endpoint_converses_and_a_conversation_cannot_be_pickled(
    direct_twin: Twin,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    keys: dict[str, Any] = {"aws_access_key_id": None, "aws_secret_access_key": None}
    with Emulator({NAME: echo}) as emulator:
        endpoint = direct_twin.endpoint(emulator.url, **keys)
        endpoint.endpoint = pickle.loads(pickle.dumps(endpoint.endpoint))
        with endpoint.converse() as talk:
            talk.send("a")
            assert next(talk).text == "a"
            with pytest.raises(TypeError):
                pickle.dumps(talk.iterator)


def test_only_connecting_is_tried_again(direct_twin: Twin) -> None:  # noqa: F811
    retry = RetryPolicy(max_attempts=3, max_backoff=0.0)
    with closed_port() as port:
        talk = direct_twin.endpoint(f"http://127.0.0.1:{port}", retry=retry).converse()
        for _ in range(2):
            with pytest.raises(errors.ConnectError) as caught:
                talk.open()
            assert (caught.value.attempts, caught.value.endpoint_name) == (3, NAME)
        assert talk.iterator.attempts == 3
    with Emulator({NAME: echo}) as emulator:
        emulator.inject("status_503_ServiceUnavailable", times=1)
        with direct_twin.endpoint(emulator.url, retry=retry).converse() as talk:
            with pytest.raises(errors.ServiceUnavailableError) as refused:
                next(talk)
            assert refused.value.attempts == talk.iterator.attempts == len(emulator.requests) == 1


# what is known about them


def test_a_conversation_knows_what_came_with_its_answer(direct_twin: Twin) -> None:  # noqa: F811
    clock = FakeClock()
    with Emulator({NAME: echo}) as emulator, direct_twin.endpoint(emulator.url, clock=clock) as endpoint:
        asked = endpoint.converse()
        talk = asked.iterator
        kind = type(talk).__name__
        assert repr(talk) == f"{kind}(new, request_id=None, attempts=0)"
        assert (talk.attempts, talk.elapsed, dict(talk.headers)) == (0, 0.0, {})
        with asked:
            clock.passed += 1.0
            assert repr(talk) == f"{kind}(open, request_id=None, attempts=1)"
            asked.send("a")
            next(asked)
            assert talk.headers["content-type"] == "application/vnd.amazon.eventstream"
            assert talk.request_id == talk.headers["x-amzn-requestid"]
            assert talk.invoked_production_variant == "AllTraffic"
            assert repr(talk) == f"{kind}(open, request_id={talk.request_id!r}, attempts=1)"
            assert (talk.attempts, talk.elapsed) == (1, 1.0)
            asked.end_input()
            assert list(asked) == []
            clock.passed += 1.0
            assert talk.elapsed == 1.0
        assert repr(talk) == f"{kind}(closed, request_id={talk.request_id!r}, attempts=1)"


class Diary(CallHooks):
    """Keeps what it is notified of; of the end, the error."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.started = threading.Event()
        self.info: CallInfo | None = None

    @property
    def ends(self) -> list[Any]:
        return [entry for entry in self.heard if not isinstance(entry, str)]

    def call_started(self, call: CallInfo) -> None:
        self.heard.append("call_started")

    def attempt_started(self, call: CallInfo) -> None:
        self.heard.append("attempt_started")
        self.started.set()

    def attempt_failed(self, call: CallInfo, error: BaseException, delay: float | None) -> None:
        self.heard.append("attempt_failed")

    def first_byte(self, call: CallInfo) -> None:
        self.heard.append("first_byte")

    def first_chunk(self, call: CallInfo) -> None:
        self.heard.append("first_chunk")

    def chunk(self, call: CallInfo) -> None:
        self.heard.append("chunk")

    def call_finished(self, call: CallInfo, error: BaseException | None) -> None:
        self.heard.append(error)
        self.info = call


BEGUN = ["call_started", "attempt_started", "first_byte", "first_chunk"]


def test_hooks_are_told_of_each_part_and_of_the_end(direct_twin: Twin) -> None:  # noqa: F811
    hooks = Diary()
    with Emulator({NAME: echo}) as emulator, direct_twin.endpoint(emulator.url, hooks=hooks) as endpoint:
        with endpoint.converse() as talk:
            for word in ("a", "b"):
                talk.send(word)
                next(talk)
            talk.end_input()
            list(talk)
            assert hooks.heard == [*BEGUN, "chunk", "chunk", None]
        assert hooks.ends == [None]
        assert hooks.info is not None
        assert hooks.info.operation == "InvokeEndpointWithBidirectionalStream"
        assert (hooks.info.status, hooks.info.request_id) == (200, talk.iterator.request_id)


def test_hooks_are_told_of_a_failure_once(direct_twin: Twin) -> None:  # noqa: F811
    hooks = Diary()
    with Emulator({NAME: echo}) as emulator, direct_twin.endpoint(emulator.url, hooks=hooks) as endpoint:
        emulator.inject("h2_rst_stream")
        with endpoint.converse() as talk:
            talk.send("a")
            assert next(talk).text == "a"
            with pytest.raises(errors.StreamTruncatedError) as caught:
                next(talk)
        assert hooks.heard[:-1] == [*BEGUN, "chunk"]
        (error,) = hooks.ends
        assert (type(error), str(error), vars(error)) == (type(caught.value), str(caught.value), vars(caught.value))


def test_hooks_are_told_of_a_failure_that_only_a_sender_has_noticed(direct_twin: Twin) -> None:  # noqa: F811
    hooks = Diary()
    with Emulator({NAME: echo}) as emulator, direct_twin.endpoint(emulator.url, hooks=hooks) as endpoint:
        emulator.inject("status_403_AccessDeniedException")
        with endpoint.converse() as talk:
            with pytest.raises(errors.AccessDeniedError):
                send_on(talk, MEGABYTE)
            assert hooks.ends == []
        (error,) = hooks.ends
        assert isinstance(error, errors.AccessDeniedError)
        with pytest.raises(errors.AccessDeniedError):
            next(talk)


def test_hooks_that_want_no_chunks_hear_of_the_first(direct_twin: Twin) -> None:  # noqa: F811
    heard: list[str] = []

    class First(CallHooks):
        def first_chunk(self, call: CallInfo) -> None:
            heard.append("first_chunk")

    with Emulator({NAME: echo}) as emulator, direct_twin.endpoint(emulator.url, hooks=First()) as endpoint:
        with endpoint.converse() as talk:
            for word in ("a", "b"):
                talk.send(word)
                next(talk)
    assert heard == ["first_chunk"]


def test_the_log_tells_of_a_conversation_and_not_what_was_said(
    direct_twin: Twin,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG, "smendpoint"), Emulator({NAME: echo}) as emulator:
        with direct_twin.endpoint(emulator.url).converse(path="v1/listen", query="q=hidden") as talk:
            talk.send("hidden")
            next(talk)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("smendpoint")]
    assert any("InvokeEndpointWithBidirectionalStream" in line for line in ours)
    assert any("call finished" in line for line in ours)
    assert not any("hidden" in line for line in ours)


def test_an_error_has_the_latest_parts_up_to_a_number_and_a_size(
    direct_twin: Twin,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_conversation_base, "MAX_RECEIVED_BYTES", 6)

    async def model(talk: ModelConversation) -> None:
        for word in ("first", "two", "one", "xy"):
            await talk.send(word)
        await talk.receive()
        await talk.send("bigger than all")

    with Emulator({NAME: model}) as emulator, direct_twin.endpoint(emulator.url).converse() as talk:
        for _ in range(4):
            next(talk)
        talk.send("a")
        assert next(talk).text == "bigger than all"
        assert list(talk) == []
        with pytest.raises(errors.StreamError) as caught:
            talk.send("b")
        assert [part.text for part in caught.value.received] == ["bigger than all"]  # one is kept, whatever its size


def test_the_number_of_parts_in_an_error_is_limited(direct_twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(_conversation_base, "MAX_RECEIVED", 5)

    async def model(talk: ModelConversation) -> None:
        for number in range(8):
            await talk.send(str(number))

    with Emulator({NAME: model}) as emulator, direct_twin.endpoint(emulator.url).converse() as talk:
        assert len(list(talk)) == 8
        with pytest.raises(errors.StreamError) as caught:
            talk.send("b")
        assert [part.text for part in caught.value.received] == ["3", "4", "5", "6", "7"]


def test_an_interrupt_while_it_opens_is_passed_on_and_ends_it(direct_twin: Twin) -> None:  # noqa: F811
    class Stop(BaseException):
        pass

    class Interrupting(CallHooks):
        def attempt_started(self, call: CallInfo) -> None:
            raise Stop

    with Emulator({NAME: echo}) as emulator:
        talk = direct_twin.endpoint(emulator.url, hooks=Interrupting()).converse()
        with pytest.raises(Stop):
            talk.open()
        with pytest.raises(errors.StreamError, match=CLOSED):
            talk.open()
        assert emulator.total_connections == 0


def test_the_total_counts_from_the_opening(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator({NAME: echo}) as emulator:
        talk = direct_twin.endpoint(emulator.url).converse(timeout=fast(total=1.0))
        talk.open()
        with pytest.raises(errors.DeadlineExceededError):
            next(talk)
        emulator.disconnected()


def test_a_conversation_that_is_closed_just_as_it_opens_frees_its_connection(
    direct_twin: Twin,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Closing(Diary):
        def attempt_started(self, call: CallInfo) -> None:
            talk.iterator._close()

    for kind in (Conversation, AsyncConversation):
        monkeypatch.setattr(kind, "_stop_opening", lambda _: None)  # too late to stop the call
    hooks = Closing()
    with Emulator({NAME: echo}) as emulator:
        talk = direct_twin.endpoint(emulator.url, hooks=hooks).converse()
        with pytest.raises(errors.StreamError, match=CLOSED):
            talk.open()
        direct_twin.settle()
        emulator.disconnected()
    assert hooks.ends == [None]


class ClosedMeanwhile:
    """A line whose conversation is closed by another thread or task just before it gives or raises `outcome`."""

    def __init__(self, talk: Any, outcome: Any) -> None:
        self._talk = talk
        self._line = talk._line
        self._outcome = outcome

    def receive(self) -> Any:
        self._talk._close()
        if isinstance(self._talk, AsyncConversation):
            return self._give()
        return self._checked()

    async def _give(self) -> bytes:
        return self._checked()

    def _checked(self) -> bytes:
        if isinstance(self._outcome, Exception):
            raise self._outcome
        assert isinstance(self._outcome, bytes)
        return self._outcome

    def __getattr__(self, name: str) -> Any:
        return getattr(self._line, name)


@pytest.mark.parametrize("outcome", [b"", encode_part(b"late"), errors.TransportError("lost")], ids=repr)
def test_what_arrives_after_a_conversation_was_closed_changes_nothing(direct_twin: Twin, outcome: Any) -> None:  # noqa: F811
    hooks = Diary()
    with Emulator({NAME: echo}) as emulator, direct_twin.endpoint(emulator.url, hooks=hooks).converse() as talk:
        talk.iterator._line = ClosedMeanwhile(talk.iterator, outcome)
        with pytest.raises(errors.StreamError, match=CLOSED) as caught:
            next(talk)
        assert caught.value.received == ()
        direct_twin.settle()
        emulator.disconnected()
    assert hooks.ends == [None]
