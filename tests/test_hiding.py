"""Tools that record the local variables of a traceback find no secret of ours.

Every frame of ours that an exception went through is looked at, those of its causes too, as such tools do: with `repr`,
and into the usual containers.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from types import FrameType, TracebackType
from typing import Any

import pytest
from test_canary import ATTRIBUTES, CONVERSE, IDENTITY, SECRET, SIGNATURE, TOKEN, make, model, talker
from test_fault_matrix import CASES, STALL_SECONDS, STALLING
from twins import ACCESS_KEY, IDS, NAME, PATIENCE, Twin, direct_twin, twin  # noqa: F401

from smendpoint import (
    AsyncEndpoint,
    AsyncInferenceGateway,
    AsyncInferenceRouter,
    CallHooks,
    Endpoint,
    InferenceGateway,
    InferenceRouter,
    RetryPolicy,
    StuffDocumentsQA,
    Timeout,
    errors,
)
from smendpoint._core.call.hiding import Hidden, forget_locals, hidden
from smendpoint.emulator import Emulator

CALLS_OWN = "CanaryAttributesOfThisCall"
MEMBERS = {"CustomAttributes": CALLS_OWN}


def links(error: BaseException) -> Iterator[BaseException]:
    """An exception with all its causes and contexts."""
    seen: set[int] = set()
    found: list[BaseException | None] = [error]
    while found:
        link = found.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            yield link
            found += (link.__cause__, link.__context__)


def texts(value: Any, depth: int = 0) -> Iterator[str]:
    """Give the texts that a recorder of variables would write down."""
    with contextlib.suppress(Exception):
        yield repr(value)
    if depth < 6:
        if isinstance(value, Mapping):
            for item in [*value, *value.values()]:
                yield from texts(item, depth + 1)
        elif isinstance(value, (list, tuple, set, frozenset)):
            for item in value:
                yield from texts(item, depth + 1)


def ours(error: BaseException) -> Iterator[FrameType]:
    """The frames of this package, on all the tracebacks of an exception."""
    for link in links(error):
        trace: TracebackType | None = link.__traceback__
        while trace is not None:
            if str(trace.tb_frame.f_globals.get("__name__")).startswith("smendpoint"):
                yield trace.tb_frame
            trace = trace.tb_next


def assert_hidden(error: BaseException, signatures: list[str]) -> None:
    secrets = [SECRET, TOKEN, IDENTITY, ATTRIBUTES, CALLS_OWN, *signatures]
    for frame in ours(error):
        for name, value in dict(frame.f_locals).items():
            for text in texts(value):
                for secret in secrets:
                    assert secret not in text, f"{frame.f_code.co_name}: {name}"


def signatures(emulator: Emulator) -> list[str]:
    latest = emulator.requests[-6:]
    found = [SIGNATURE.search(request.headers.get("authorization", "")) for request in latest]
    return [match[1] for match in found if match is not None]


class Watching(CallHooks):
    """Looks at each failure that it is called with."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.failures: list[AssertionError] = []
        self.heard = 0

    def look(self, error: BaseException | None) -> None:
        if error is not None:
            self.heard += 1
            try:
                assert_hidden(error, signatures(self.emulator))
            except AssertionError as failure:
                self.failures.append(failure)

    def attempt_failed(self, call: Any, error: BaseException, delay: float | None) -> None:
        self.look(error)

    def call_finished(self, call: Any, error: BaseException | None) -> None:
        self.look(error)


@pytest.mark.parametrize("id", IDS)
def test_no_fault_leaves_a_secret_in_a_variable(id: str) -> None:
    cases = [case for case in CASES if case.twin == id and case.fault not in ("drip", "drip_0", "slice_1")]
    with Emulator(model, piece_size=None) as emulator, contextlib.closing(Twin(id)) as twin:  # noqa: F811
        hooks = Watching(emulator)
        retry = RetryPolicy(max_attempts=2, max_backoff=0.0)
        slow = make(twin, emulator.url, timeout=PATIENCE, retry=retry, hooks=hooks)
        quick = make(
            twin, emulator.url, timeout=Timeout(connect=PATIENCE, read=STALL_SECONDS), retry=retry, hooks=hooks
        )
        failed = 0
        for case in cases:
            emulator.inject(case.fault)
            endpoint = quick if case.fault in STALLING else slow
            for members in (None, MEMBERS):
                try:
                    endpoint.call(case.operation, "Hello", endpoint_kwargs=members)
                except errors.SmendpointError as error:
                    failed += 1
                    assert list(ours(error)) != []
                    assert_hidden(error, signatures(emulator))
            emulator.clear_faults()
        assert hooks.failures == []
        assert min(failed, hooks.heard) > len(cases)


@pytest.mark.parametrize("member", ["query", "endpoint_kwargs"])
def test_no_fault_of_a_conversation_leaves_a_secret_in_a_variable(direct_twin: Twin, member: str) -> None:  # noqa: F811
    given: dict[str, Any] = {"query": f"key={CALLS_OWN}"}
    if member == "endpoint_kwargs":
        given = {"endpoint_kwargs": {"ModelQueryString": f"key={CALLS_OWN}"}}
    with Emulator({NAME: talker}) as emulator:
        hooks = Watching(emulator)
        endpoint = direct_twin.endpoint(
            emulator.url,
            aws_secret_access_key=SECRET,
            aws_session_token=TOKEN,
            timeout=Timeout(connect=PATIENCE, read=STALL_SECONDS),
            hooks=hooks,
        )
        seen = 0
        for fault in sorted(CONVERSE - {"h2_drip"}):
            emulator.inject(fault)
            with endpoint.converse(**given) as talk:
                for use in (lambda: talk.send(bytes(100_000)), talk.end_input, lambda: list(talk), lambda: next(talk)):
                    try:
                        use()
                    except (errors.SmendpointError, StopIteration) as error:
                        seen += 1
                        assert_hidden(error, signatures(emulator))
            emulator.clear_faults()
        assert hooks.failures == []
        assert min(seen, 2 * hooks.heard) > len(CONVERSE)


@pytest.mark.parametrize(
    "given",
    [
        {"query": f"key={CALLS_OWN}\n"},
        {"query": {"key": [CALLS_OWN, None]}},
        {"query": f"key={CALLS_OWN}", "path": "/"},
        {"endpoint_kwargs": {"ModelQueryString": f"{CALLS_OWN}\n"}},
        {"query": "a=b", "endpoint_kwargs": {"ModelQueryString": CALLS_OWN}},
    ],
    ids=repr,
)
def test_a_conversation_that_is_refused_before_it_begins_leaves_no_secret_in_a_variable(
    direct_twin: Twin,  # noqa: F811
    given: dict[str, Any],
) -> None:
    endpoint = make_without_members(direct_twin)
    with pytest.raises(errors.ConfigurationError) as caught:
        endpoint.converse(**given)
    assert_hidden(caught.value, [])


def make_without_members(twin: Twin) -> Any:  # noqa: F811
    return twin.endpoint("http://127.0.0.1:9", aws_secret_access_key=SECRET, aws_session_token=TOKEN)


BAD = {"CustomAttributes": f"{CALLS_OWN}\n"}
WAYS: dict[str, Callable[[Any], Any]] = {
    "invoke": lambda endpoint: endpoint.invoke("x", endpoint_kwargs=BAD),
    "send": lambda endpoint: endpoint.send("x", endpoint_kwargs=BAD),
    "stream": lambda endpoint: endpoint.stream("x", endpoint_kwargs=BAD),
    "submit": lambda endpoint: endpoint.submit("x", endpoint_kwargs=BAD),
    "session": lambda endpoint: endpoint.session(endpoint_kwargs={**MEMBERS, "SessionId": "s"}),
    "answer": lambda endpoint: StuffDocumentsQA(endpoint).answer("x", ["y"], endpoint_kwargs=BAD),
    "qa stream": lambda endpoint: StuffDocumentsQA(endpoint).stream("x", ["y"], endpoint_kwargs=BAD),
    "no input": lambda endpoint: endpoint.invoke(object(), endpoint_kwargs=MEMBERS),
    "a stop of another type": lambda endpoint: endpoint.invoke("x", stop=7, endpoint_kwargs=MEMBERS),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_call_that_is_refused_before_it_is_sent_leaves_no_secret_in_a_variable(twin: Twin, way: str) -> None:  # noqa: F811
    endpoint = make(twin, "http://127.0.0.1:9")
    with pytest.raises(errors.SmendpointError) as caught:
        twin.run(WAYS[way](endpoint.endpoint))
    assert_hidden(caught.value, [])


def test_the_calls_of_a_map_hide_their_members_too(twin: Twin) -> None:  # noqa: F811
    with Emulator(model) as emulator:
        emulator.inject("status_400_ValidationError")
        endpoint = make(twin, emulator.url)

        def fail(**options: Any) -> None:
            results = list(endpoint.map(["a", "b"], max_concurrency=2, endpoint_kwargs=MEMBERS, **options))
            raise results[0]

        for options in ({}, {"return_exceptions": True}):
            with pytest.raises(errors.ValidationError) as caught:
                fail(**options)
            assert_hidden(caught.value, signatures(emulator))


@pytest.mark.parametrize("make_one", [Endpoint, AsyncEndpoint])
@pytest.mark.parametrize(
    "wrong", [{"endpoint_name": "no name!"}, {"role_arn": "x"}, {"timeout": -1}, {"hooks": CallHooks}, {"session": 7}]
)
def test_a_constructor_that_refuses_an_argument_keeps_the_others_to_itself(
    make_one: Any, wrong: dict[str, Any]
) -> None:
    options: dict[str, Any] = {"endpoint_name": "my-llm", **wrong}
    keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET, "aws_session_token": TOKEN}
    with pytest.raises(errors.ConfigurationError) as caught:
        make_one(region_name="us-west-2", endpoint_kwargs=MEMBERS, **keys, **options)
    assert_hidden(caught.value, [])
    (half_made,) = {frame.f_locals["self"] for frame in ours(caught.value) if "self" in frame.f_locals}
    assert repr(half_made).startswith(f"{make_one.__name__}(")


ROUTED = [
    (InferenceRouter, {"name": "no name!", "target": "t"}),
    (AsyncInferenceRouter, {"name": "r", "target": "no name!"}),
    (InferenceRouter, {"name": "r", "target": "t", "customer_identity_token": IDENTITY}),
    (InferenceGateway, {"id": "no id!", "customer_identity_token": IDENTITY}),
    (AsyncInferenceGateway, {"id": "g", "customer_identity_token": IDENTITY, "timeout": -1}),
    (InferenceGateway, {"id": "g", "endpoint_kwargs": {"CustomerIdentityToken": IDENTITY}}),
]


@pytest.mark.parametrize(("make_one", "options"), ROUTED)
def test_so_does_the_constructor_of_a_router_or_gateway(make_one: Any, options: dict[str, Any]) -> None:
    keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET, "aws_session_token": TOKEN}
    with pytest.raises((errors.ConfigurationError, TypeError)) as caught:
        make_one(**{"endpoint_kwargs": MEMBERS, **keys, **options})
    assert_hidden(caught.value, [])


@pytest.mark.parametrize("operation", ["invoke", "stream", "map"])
def test_a_failed_call_through_a_gateway_hides_its_identity_token(direct_twin: Twin, operation: str) -> None:  # noqa: F811
    with Emulator(model) as emulator:
        emulator.inject("status_400_ValidationError")
        made = direct_twin.endpoint(
            emulator.url, "g1", made_by=(InferenceGateway, AsyncInferenceGateway), customer_identity_token=IDENTITY
        )
        for own in ({}, {"endpoint_kwargs": {"CustomerIdentityToken": f"{IDENTITY}OfTheCall"}}):
            with pytest.raises(errors.ValidationError) as caught:
                list(made.map(["x"], **own)) if operation == "map" else made.call(operation, "x", **own)
            assert_hidden(caught.value, signatures(emulator))


def test_credentials_that_cannot_be_used_are_in_no_variable(direct_twin: Twin) -> None:  # noqa: F811
    endpoint = direct_twin.endpoint(
        "http://127.0.0.1:9", aws_secret_access_key=SECRET, aws_session_token=f"{TOKEN}\n", endpoint_kwargs=MEMBERS
    )
    with pytest.raises(errors.CredentialsError) as caught:
        endpoint.invoke("x")
    assert_hidden(caught.value, [])


def test_an_interrupted_call_leaves_nothing_either() -> None:
    class Stop(BaseException):
        pass

    class Interrupting(CallHooks):
        def attempt_started(self, call: Any) -> None:
            raise Stop

    with Emulator(model) as emulator, contextlib.closing(Twin("sync-direct")) as twin:  # noqa: F811
        with pytest.raises(Stop) as caught:
            make(twin, emulator.url, hooks=Interrupting()).invoke("x", endpoint_kwargs=MEMBERS)
        assert_hidden(caught.value, [])


# the mechanism


def test_a_hidden_value_is_not_shown_and_is_wrapped_once() -> None:
    assert repr(hidden("secret")) == "<hidden>"
    assert hidden(None) is None
    once = hidden({"a": 1})
    assert type(once) is Hidden
    assert hidden(once) is once


def test_frames_of_others_and_those_that_are_still_at_work_keep_their_variables() -> None:
    def fail() -> None:
        kept = "user's"
        raise ValueError(kept)

    try:
        fail()
    except ValueError as error:
        forget_locals(error)
        assert error.__traceback__ is not None
        assert error.__traceback__.tb_next is not None
        assert error.__traceback__.tb_next.tb_frame.f_locals == {"kept": "user's"}
    source = "def own(work):\n    secret = 1\n    work(secret)\n"
    scope: dict[str, Any] = {"__name__": "smendpoint.mine"}
    exec(source, scope)

    def inside(_: object) -> None:
        running = ValueError()
        try:
            fail()
        except ValueError as error:
            running = error
        forget_locals(running.with_traceback(_traceback_of(sys._getframe(1))))
        assert sys._getframe(1).f_locals["secret"] == 1
        raise running

    with pytest.raises(ValueError) as caught:  # noqa: PT011 - it has no text
        scope["own"](inside)
    (frame,) = set(ours(caught.value))
    assert frame.f_locals["secret"] == 1
    forget_locals(caught.value)
    assert frame.f_locals == {}


def _traceback_of(frame: FrameType) -> TracebackType:
    return TracebackType(None, frame, frame.f_lasti, frame.f_lineno)


def test_a_coroutine_that_goes_on_after_an_exception_went_through_it_is_not_ended() -> None:
    source = "async def own(work, waited):\n    try:\n        work()\n    except ValueError as e:\n"
    source += "        kept = e\n    await waited(kept)\n    return 'ended well'\n"
    scope: dict[str, Any] = {"__name__": "smendpoint.mine"}
    exec(source, scope)

    def work() -> None:
        raise ValueError

    async def main() -> str:
        async def waited(error: BaseException) -> None:
            forget_locals(error)
            await asyncio.sleep(0)

        result: str = await scope["own"](work, waited)
        return result

    assert asyncio.run(main()) == "ended well"
