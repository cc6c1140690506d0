"""Stateful sessions in both twins and both lanes."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any

import pytest
from clocks import FakeClock
from members import require_member
from servers import Peer, Server, response
from twins import Twin, TwinEndpoint, TwinStream, direct_twin, twin  # noqa: F401

from smendpoint import TextHandler, errors
from smendpoint.emulator import Emulator, ModelReply, ModelRequest

OPEN, CLOSE = {"requestType": "NEW_SESSION"}, {"requestType": "CLOSE"}
LIFE = 1200  # seconds, of the emulator's sessions


class Remembering:
    """A model that counts the requests of each session, and records the bodies that open and close it."""

    def __init__(self) -> None:
        self.control: list[tuple[bytes, str, str]] = []
        self.asked: dict[str | None, int] = {}

    def __call__(self, request: ModelRequest) -> ModelReply:
        if request.session_id not in self.asked or request.body.startswith(b"{") or request.body == b"bye":
            self.control.append((request.body, request.content_type, request.accept))
            self.asked[request.session_id] = 0
            return ModelReply(b"", close_session=request.body == b"bye")
        self.asked[request.session_id] += 1
        return ModelReply(f"{self.asked[request.session_id]}: {request.body.decode()}")


class TwinSession:
    """A session of either twin, without ``await``."""

    def __init__(self, endpoint: TwinEndpoint, **options: Any) -> None:
        self.twin = endpoint.twin
        self.session = endpoint.endpoint.session(**options)

    def open(self) -> None:
        assert self.twin.run(self.session.open()) is self.session

    def close(self) -> None:
        self.twin.run(self.session.aclose() if self.twin.asynchronous else self.session.close())

    def invoke(self, value: Any, /, **arguments: Any) -> Any:
        return self.twin.run(self.session.invoke(value, **arguments))

    def send(self, value: Any, /, **arguments: Any) -> Any:
        return self.twin.run(self.session.send(value, **arguments))

    def collect(self, value: Any, /, **arguments: Any) -> list[Any]:
        with TwinStream(self.twin, self.session.stream(value, **arguments)) as stream:
            return list(stream)

    def __enter__(self) -> Any:
        entered = self.session.__aenter__() if self.twin.asynchronous else self.session.__enter__()
        assert self.twin.run(entered) is self.session
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert not self.leave(error)

    def leave(self, error: BaseException | None) -> Any:
        """Leave as `with` does."""
        leave = self.session.__aexit__ if self.twin.asynchronous else self.session.__exit__
        return self.twin.run(leave(None if error is None else type(error), error, None))


def endpoint_at(twin: Twin, url: str, **options: Any) -> TwinEndpoint:  # noqa: F811
    options.setdefault("content_handler", TextHandler())
    return twin.endpoint(url, **options)


@pytest.fixture(autouse=True)
def _sessions_are_known(request: pytest.FixtureRequest) -> None:
    if "twin" in request.fixturenames and request.getfixturevalue("twin").lane == "client":
        require_member("InvokeEndpoint", "SessionId")


def test_all_calls_of_a_session_carry_its_id_and_it_ends_with_the_block(twin: Twin) -> None:  # noqa: F811
    model = Remembering()
    with Emulator(model) as emulator, endpoint_at(twin, emulator.url) as endpoint:
        with TwinSession(endpoint) as session:
            assert list(emulator.sessions) == [session.session.session_id]
            assert session.invoke("a") == "1: a"
            assert session.send("b").output == "2: b"
            assert "".join(session.collect("c")) == "3: c"
            assert not session.session.closed
        assert emulator.sessions == {}
        assert session.session.closed
        sent = [request.headers["x-amzn-sagemaker-session-id"] for request in emulator.requests]
        assert sent == ["NEW_SESSION"] + [session.session.session_id] * 4


def test_calling_the_session_is_invoking_it(direct_twin: Twin) -> None:  # noqa: F811
    with (
        Emulator(Remembering()) as emulator,
        endpoint_at(direct_twin, emulator.url) as endpoint,
        TwinSession(endpoint) as session,
    ):
        assert direct_twin.run(session.session("a")) == "1: a"


def test_two_sessions_of_one_endpoint_know_nothing_of_each_other(twin: Twin) -> None:  # noqa: F811
    with (
        Emulator(Remembering()) as emulator,
        endpoint_at(twin, emulator.url) as endpoint,
        TwinSession(endpoint) as one,
        TwinSession(endpoint) as two,
    ):
        assert one.session.session_id != two.session.session_id
        assert [one.invoke("a"), two.invoke("a"), one.invoke("a")] == ["1: a", "1: a", "2: a"]


def test_by_default_the_bodies_are_those_of_the_containers_of_aws(twin: Twin) -> None:  # noqa: F811
    model = Remembering()
    with Emulator(model) as emulator, endpoint_at(twin, emulator.url) as endpoint:
        with TwinSession(endpoint):
            pass
        json_type = "application/json"
        assert [(json.loads(body), *types) for body, *types in model.control] == [
            (OPEN, json_type, json_type),
            (CLOSE, json_type, json_type),
        ]


def test_the_built_in_models_know_sessions(twin: Twin) -> None:  # noqa: F811
    with Emulator() as emulator, twin.endpoint(emulator.url) as endpoint:
        with TwinSession(endpoint) as session:
            assert session.invoke("It rains. Question: Does it rain?") == "It rains."
        assert session.session.closed


def test_a_mapping_is_sent_as_json_and_bytes_as_they_are(twin: Twin) -> None:  # noqa: F811
    model = Remembering()
    with Emulator(model) as emulator, endpoint_at(twin, emulator.url) as endpoint:
        with TwinSession(endpoint, open_with={"image": "cat"}, close_with=b"bye"):
            pass
        assert model.control[0][:2] == (b'{"image": "cat"}', "application/json")
        assert model.control[1][:2] == (b"bye", "text/plain")


def test_members_of_the_session_go_with_every_call_and_a_call_s_own_win(twin: Twin) -> None:  # noqa: F811
    members = {"CustomAttributes": "all", "TargetVariant": "blue"}
    with Emulator(Remembering()) as emulator, endpoint_at(twin, emulator.url) as endpoint:
        with TwinSession(endpoint, endpoint_kwargs=members) as session:
            session.invoke("a", endpoint_kwargs={"CustomAttributes": "mine"})
            session.collect("b")
        sent = [
            (request.headers["x-amzn-sagemaker-custom-attributes"], request.headers["x-amzn-sagemaker-target-variant"])
            for request in emulator.requests
        ]
        assert sent == [("all", "blue"), ("mine", "blue"), ("all", "blue"), ("all", "blue")]


def test_stop_and_model_parameters_work_as_in_any_call(twin: Twin) -> None:  # noqa: F811
    with Emulator() as emulator, twin.endpoint(emulator.url) as endpoint, TwinSession(endpoint) as session:
        prompt = "It rains. Question: Does it rain?"
        assert session.invoke(prompt, stop="ai") == "It r"
        assert "".join(session.collect(prompt, stop="ai")) == "It r"
        session.send(prompt, top_k=3)
        assert json.loads(emulator.requests[-1].body)["parameters"] == {"top_k": 3}


# -- its end


def test_an_error_inside_the_block_closes_the_session_and_comes_through(twin: Twin) -> None:  # noqa: F811
    with Emulator(Remembering()) as emulator, endpoint_at(twin, emulator.url) as endpoint:
        with pytest.raises(KeyError, match="mine"), TwinSession(endpoint) as session:
            raise KeyError("mine")
        assert emulator.sessions == {}
        assert session.session.closed


def test_an_error_inside_the_block_is_not_hidden_by_one_of_closing(twin: Twin) -> None:  # noqa: F811
    with Emulator(Remembering()) as emulator, endpoint_at(twin, emulator.url) as endpoint:
        session = TwinSession(endpoint)
        session.open()
        emulator.inject("status_400_ValidationError")
        assert not session.leave(KeyError("mine"))
        assert session.session.closed
        emulator.clear_faults()


def test_a_failure_to_close_is_an_error_where_there_was_no_other(twin: Twin) -> None:  # noqa: F811
    with Emulator(Remembering()) as emulator, endpoint_at(twin, emulator.url) as endpoint:
        with pytest.raises(errors.ValidationError), TwinSession(endpoint) as session:
            emulator.inject("status_400_ValidationError", times=1)
        assert session.session.closed


def test_a_model_that_does_not_close_the_session_is_an_error(twin: Twin) -> None:  # noqa: F811
    with (
        Emulator(Remembering()) as emulator,
        endpoint_at(twin, emulator.url) as endpoint,
        pytest.raises(errors.EndpointError, match=r"did not say that it closed.*close_with=.*'my-llm', 1 attempt"),
        TwinSession(endpoint, close_with=b"{}"),
    ):
        pass


def test_an_endpoint_without_state_is_an_error(direct_twin: Twin) -> None:  # noqa: F811
    def stateless(peer: Peer) -> None:
        peer.serve(response())

    with (
        Server(stateless) as server,
        endpoint_at(direct_twin, server.url) as endpoint,
        pytest.raises(errors.EndpointError, match=r"opened no session.*open_with=.*'my-llm', 1 attempt"),
    ):
        TwinSession(endpoint).open()


def test_a_model_may_close_the_session_by_itself(twin: Twin) -> None:  # noqa: F811
    for method in ("invoke", "send"):
        with Emulator(Remembering()) as emulator, endpoint_at(twin, emulator.url) as endpoint:
            with TwinSession(endpoint) as session:
                getattr(session, method)("bye")
                assert session.session.closed
                with pytest.raises(errors.ConfigurationError, match="this session is closed"):
                    session.invoke("a")
            assert len(emulator.requests) == 2


def test_a_session_can_be_opened_and_closed_by_hand_and_closing_twice_does_nothing(twin: Twin) -> None:  # noqa: F811
    with Emulator(Remembering()) as emulator, endpoint_at(twin, emulator.url) as endpoint:
        session = TwinSession(endpoint)
        session.open()
        assert session.invoke("a") == "1: a"
        session.close()
        session.close()
        assert len(emulator.requests) == 3


def test_closing_a_session_that_was_never_opened_does_nothing(twin: Twin) -> None:  # noqa: F811
    with Emulator(Remembering()) as emulator, endpoint_at(twin, emulator.url) as endpoint:
        TwinSession(endpoint).close()
        assert emulator.requests == []


@pytest.mark.parametrize("method", ["invoke", "send", "collect"])
def test_before_it_is_open_and_after_it_is_closed_a_session_is_of_no_use(
    direct_twin: Twin,  # noqa: F811
    method: str,
) -> None:
    with Emulator(Remembering()) as emulator, endpoint_at(direct_twin, emulator.url) as endpoint:
        session = TwinSession(endpoint)
        assert session.session.session_id is None
        with pytest.raises(errors.ConfigurationError, match=r"not open yet.*'my-llm'"):
            getattr(session, method)("a")
        with session:
            pass
        with pytest.raises(errors.ConfigurationError, match=r"is closed: make a new one.*'my-llm'"):
            getattr(session, method)("a")
        with pytest.raises(errors.ConfigurationError, match="was opened before"):
            session.open()
        assert len(emulator.requests) == 2


# -- its expiry


def test_the_end_of_a_session_can_be_seen(twin: Twin) -> None:  # noqa: F811
    with (
        Emulator(Remembering(), clock=lambda: 1_800_000_000.0) as emulator,
        endpoint_at(twin, emulator.url) as endpoint,
        TwinSession(endpoint) as session,
    ):
        assert session.session.expires == 1_800_000_000.0 + LIFE
        assert not session.session.expired


def test_an_expired_session_is_refused_here_and_not_closed(twin: Twin) -> None:  # noqa: F811
    clock = FakeClock()
    with (
        Emulator(Remembering(), clock=lambda: clock.now) as emulator,
        endpoint_at(twin, emulator.url, clock=clock) as endpoint,
    ):
        with TwinSession(endpoint) as session:
            clock.sleep(LIFE - 1)
            assert session.invoke("a") == "1: a"
            clock.sleep(1)
            assert session.session.expired
            with pytest.raises(errors.ConfigurationError, match=r"has expired.*'my-llm'"):
                session.invoke("a")
        assert len(emulator.requests) == 2


def test_a_clock_that_is_wrong_on_this_machine_does_not_end_a_session(direct_twin: Twin) -> None:  # noqa: F811
    clock = FakeClock(now=1_900_000_000.0)
    with (
        Emulator(Remembering(), clock=lambda: 1_800_000_000.0) as emulator,
        endpoint_at(direct_twin, emulator.url, clock=clock) as endpoint,
        TwinSession(endpoint) as session,
    ):
        assert not session.session.expired
        clock.sleep(LIFE - 1)
        assert not session.session.expired
        clock.sleep(1)
        assert session.session.expired


def opened(value: str) -> bytes:
    return response(b"", f"X-Amzn-SageMaker-New-Session-Id: {value}")


def test_without_the_server_s_date_this_machine_s_is_taken(direct_twin: Twin) -> None:  # noqa: F811
    clock = FakeClock(now=1_700_000_000.0)
    script = opened("abc; Expires=2023-11-14T22:13:30Z")  # ten seconds later
    with (
        Server(lambda peer: peer.serve(script)) as server,
        endpoint_at(direct_twin, server.url, clock=clock) as endpoint,
    ):
        session = TwinSession(endpoint)
        session.open()
        clock.sleep(9)
        assert not session.session.expired
        clock.sleep(1)
        assert session.session.expired


def test_a_session_may_have_no_end(direct_twin: Twin) -> None:  # noqa: F811
    clock = FakeClock()
    with (
        Server(lambda peer: peer.serve(opened("abc"))) as server,
        endpoint_at(direct_twin, server.url, clock=clock) as endpoint,
    ):
        session = TwinSession(endpoint)
        session.open()
        clock.sleep(1e9)
        assert session.session.session_id == "abc"
        assert session.session.expires is None
        assert not session.session.expired


# -- arguments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"open_with": "text"}, "open_with must be bytes, or a mapping"),
        ({"close_with": 5}, "close_with must be bytes, or a mapping"),
        ({"open_with": {"a": object()}}, "open_with cannot be sent as JSON"),
        ({"endpoint_kwargs": {"SessionId": "mine"}}, "the session sets SessionId"),
        ({"endpoint_kwargs": 5}, "endpoint_kwargs must be a mapping"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_when_the_session_is_made(
    direct_twin: Twin,  # noqa: F811
    options: dict[str, Any],
    message: str,
) -> None:
    with direct_twin.endpoint("http://127.0.0.1:1") as endpoint:
        with pytest.raises(errors.ConfigurationError, match=message):
            endpoint.endpoint.session(**options)


def test_a_call_cannot_name_another_session(direct_twin: Twin) -> None:  # noqa: F811
    with (
        Emulator(Remembering()) as emulator,
        endpoint_at(direct_twin, emulator.url) as endpoint,
        TwinSession(endpoint) as session,
    ):
        with pytest.raises(errors.ConfigurationError, match="the session sets SessionId"):
            session.invoke("a", endpoint_kwargs={"SessionId": "other"})
        assert session.invoke("a") == "1: a"


def test_a_session_shows_its_state_and_nothing_that_was_sent(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator(Remembering()) as emulator, endpoint_at(direct_twin, emulator.url) as endpoint:
        session = TwinSession(endpoint, open_with=b"secret", close_with=b"bye")
        name = "AsyncStatefulSession" if direct_twin.asynchronous else "StatefulSession"
        assert repr(session.session) == f"{name}('my-llm', new, session_id=None)"
        with session:
            assert repr(session.session) == f"{name}('my-llm', open, session_id={session.session.session_id!r})"
        assert "closed" in repr(session.session)
