"""The twins are one: the same names and arguments, the same steps, the same results, the same words."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import re
from collections.abc import Awaitable
from types import MemberDescriptorType
from typing import Any

import pytest
from clocks import FakeClock
from feeding import encode_part
from hypothesis import given
from hypothesis import strategies as st
from test_fault_matrix import CASES, STALL_SECONDS, STALLING, sse
from twins import PATIENCE, Twin

import smendpoint
from smendpoint import AsyncEndpoint, CallHooks, CallInfo, Endpoint, RetryPolicy, Timeout, errors
from smendpoint._core.aws.response import RawResponse
from smendpoint._core.aws.sigv4 import Credentials
from smendpoint._core.call.flow import NeedCredentials, Send, Sleep
from smendpoint.emulator import Emulator

PAIRS = [
    ("Endpoint", "AsyncEndpoint"),
    ("Stream", "AsyncStream"),
    ("StatefulSession", "AsyncStatefulSession"),
    ("InferenceHandle", "AsyncInferenceHandle"),
    ("InferenceRouter", "AsyncInferenceRouter"),
    ("InferenceGateway", "AsyncInferenceGateway"),
]
# The names that asyncio spells in another way.
SPELLINGS = {
    "close": "aclose",
    "__enter__": "__aenter__",
    "__exit__": "__aexit__",
    "__iter__": "__aiter__",
    "__next__": "__anext__",
}
# The arguments that asyncio takes more of, and the words of each twin for its own kind.
WIDER = {("map", "inputs")}
OWN_KIND = re.compile(r"\bAsync(?=[A-Z])(?!Kwargs)|\basync ")


def public(owner: type) -> set[str]:
    return {name for name in dir(owner) if not name.startswith("_") or name in {*SPELLINGS, *SPELLINGS.values()}}


def translated(text: object) -> str:
    """A name, annotation or sentence of the asynchronous twin in the words of the other."""
    return OWN_KIND.sub("", str(text)).replace("AsyncIter", "Iter")


@pytest.mark.parametrize(("name", "twin"), PAIRS)
def test_the_twins_have_the_same_public_names(name: str, twin: str) -> None:
    sync, asynchronous = public(getattr(smendpoint, name)), public(getattr(smendpoint, twin))
    assert {SPELLINGS.get(each, each) for each in sync} == asynchronous


@pytest.mark.parametrize(("name", "twin"), PAIRS)
def test_the_twins_have_the_same_parameters_with_the_same_defaults_and_types(name: str, twin: str) -> None:
    sync, asynchronous = getattr(smendpoint, name), getattr(smendpoint, twin)
    for method in sorted(public(sync) | {"__init__"}):
        one, other = getattr(sync, method), getattr(asynchronous, SPELLINGS.get(method, method))
        if not callable(one):
            continue
        mine, its = inspect.signature(one), inspect.signature(other)
        assert list(mine.parameters) == list(its.parameters), method
        for parameter in mine.parameters.values():
            same = its.parameters[parameter.name]
            assert (parameter.kind, parameter.default) == (same.kind, same.default), (method, parameter)
            if (method, parameter.name) not in WIDER:
                assert str(parameter.annotation) == translated(same.annotation), (method, parameter)
        assert str(mine.return_annotation) == translated(its.return_annotation), method


@pytest.mark.parametrize(("name", "twin"), PAIRS)
def test_the_twins_are_documented_with_the_same_first_lines(name: str, twin: str) -> None:
    sync, asynchronous = getattr(smendpoint, name), getattr(smendpoint, twin)
    for method in sorted(public(sync) - set(SPELLINGS)):
        if isinstance(inspect.getattr_static(sync, method), MemberDescriptorType):
            continue  # a plain attribute: its class describes it
        first, same = (
            (inspect.getdoc(inspect.getattr_static(owner, method)) or "").partition("\n")[0]
            for owner in (sync, asynchronous)
        )
        assert first
        assert first == translated(same), method


# -- the same steps


class Source:
    """The body of an answer, read from a script."""

    status = 200
    headers: dict[str, str] = {"x-amzn-requestid": "r"}  # noqa: RUF012  # never changed

    def __init__(self, script: list[Any]) -> None:
        self._script = list(script)

    def next(self) -> bytes:
        item = self._script.pop(0) if self._script else b""
        if isinstance(item, Exception):
            raise copy_of(item)
        return bytes(item)

    def close(self) -> None:
        self._script = []

    abandon = close


class SyncSource(Source):
    def read(self) -> bytes:
        return self.next()


class AsyncSource(Source):
    async def read(self) -> bytes:
        await asyncio.sleep(0)
        return self.next()


def copy_of(error: Any) -> Any:
    return error.__reduce__()[0](*error.__reduce__()[1])


class Script:
    """A transport that records its steps and gives the outcomes of a script.

    Attributes:
        steps: what was asked for.
    """

    max_connections = None
    stoppable = True

    def forget(self) -> None:
        """Another test may fork."""

    def __init__(self, outcomes: list[Any], clock: FakeClock, source: type[Source], *, cold: bool) -> None:
        self._outcomes = list(outcomes)
        self._clock = clock
        self._source = source
        self._known: Credentials | None = None if cold else Credentials("AKIDEXAMPLE", "secret")
        self.steps: list[tuple[Any, ...]] = []

    @property
    def credentials(self) -> Script:
        return self

    def current(self) -> Credentials | None:
        return self._known

    def refresh_due(self) -> bool:
        return False

    def answer(self, step: Any, request: Any) -> Any:
        if isinstance(step, Sleep):
            self.steps.append(("sleep", step.seconds))
            return self._clock.sleep(step.seconds)
        if isinstance(step, NeedCredentials):
            self.steps.append(("credentials", step.deadline, step.rejected))
            self._known = Credentials("AKIDEXAMPLE", f"secret{len(self.steps)}")
            return self._known
        assert isinstance(step, Send)
        self.steps.append(("send", step.attempt, step.max_attempts, step.timestamp, step.deadline, step.credentials))
        outcome = self._outcomes.pop(0) if self._outcomes else RawResponse(200, {}, b'[{"generated_text": "fine"}]')
        self._clock.passed += 0.25
        if step.started is not None and not isinstance(outcome, Exception):
            step.started(200, {})
        if isinstance(outcome, Exception):
            raise copy_of(outcome)
        if isinstance(outcome, RawResponse) and request.streaming and outcome.status == 200:
            return self._source([encode_part(b'data:{"token":{"text":"fine"},"details":{}}\n\n')])
        return self._source(outcome) if isinstance(outcome, list) else outcome

    def close(self) -> Any: ...


class SyncScript(Script):
    def resolve(self) -> None:
        self.steps.append(("prepare",))

    def perform(self, step: Any, request: Any, timeout: Any, scope: Any) -> Any:
        return self.answer(step, request)


class AsyncScript(Script):
    async def resolve(self) -> None:
        self.steps.append(("prepare",))

    async def perform(self, step: Any, request: Any, timeout: Any) -> Any:
        await asyncio.sleep(0)
        return self.answer(step, request)


class Recorder(CallHooks):
    """Records its hooks."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def __getattribute__(self, name: str) -> Any:
        if not hasattr(CallHooks, name) or name.startswith("_"):
            return super().__getattribute__(name)
        return lambda info, *arguments: self._hear(name, info, arguments)

    def _hear(self, name: str, info: CallInfo, arguments: tuple[Any, ...]) -> None:
        said = [type(argument).__name__ if isinstance(argument, Exception) else argument for argument in arguments]
        self.heard.append((name, info.attempts, info.status, info.request_id, info.elapsed, *said))


def refusals() -> st.SearchStrategy[Any]:
    codes = ["", "ThrottlingException", "ModelNotReadyException", "ExpiredTokenException", "RequestTimeTooSkewed"]
    headers = st.fixed_dictionaries(
        {},
        optional={
            "retry-after": st.sampled_from(["0", "2", "90", "soon"]),
            "x-amz-retry-after": st.sampled_from(["0", "1500", "x"]),
            "date": st.sampled_from(["Tue, 14 Nov 2023 23:13:20 GMT", "Tue, 14 Nov 2023 22:13:21 GMT", "today"]),
            "x-amzn-requestid": st.just("r-1"),
        },
    )
    return st.builds(
        lambda status, code, headers: RawResponse(
            status, headers, json.dumps({"__type": code, "message": "no"}).encode()
        ),
        st.sampled_from([103, 307, 400, 403, 404, 413, 424, 429, 500, 502, 503, 504, 530]),
        st.sampled_from(codes),
        headers,
    )


TRANSPORT_ERRORS = st.sampled_from(
    [
        errors.ConnectError("nothing listens"),
        errors.TLSError("not trusted"),
        errors.TransportError("lost"),
        errors.TransportError("lost", response_started=True),
        errors.ReadTimeoutError("silence"),
        errors.ProtocolError("not HTTP", response_started=True),
        errors.DeadlineExceededError("late"),
    ]
)
WHOLE_STREAM = b"".join(encode_part(f'data:{{"token":{{"text":"{text}"}}}}\n\n'.encode()) for text in "ab")
WHOLE_STREAM += encode_part(b'data:{"token":{"text":"c"},"generated_text":"abc","details":{}}\n\n')


@st.composite
def streams(draw: st.DrawFn) -> list[Any]:
    """A stream's bytes, cut anywhere, perhaps damaged, perhaps ended by an error."""
    data = bytearray(WHOLE_STREAM[: draw(st.integers(0, len(WHOLE_STREAM)) | st.just(len(WHOLE_STREAM)))])
    if data and draw(st.booleans()):
        data[draw(st.integers(0, len(data) - 1))] ^= draw(st.integers(0, 255))
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(data))), max_size=4)))
    script: list[Any] = [bytes(data[a:b]) for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if data[a:b]]
    return [*script, draw(TRANSPORT_ERRORS)] if draw(st.booleans()) else script


class Outcome:
    """The outcome of a call, in a form that compares."""

    def __init__(self, script: Script, recorder: Recorder, result: Any, error: BaseException | None) -> None:
        self.steps = script.steps
        self.heard = recorder.heard
        self.result = result
        self.error: tuple[Any, ...] | None = None
        if error is not None:
            cause = error.__cause__
            self.error = (type(error), str(error), sorted(vars(error).items(), key=str), type(cause), str(cause))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Outcome) and vars(self) == vars(other)

    def __repr__(self) -> str:
        return repr(vars(self))


def play(twin: type, outcomes: list[Any], operation: str, *, cold: bool, **options: Any) -> Outcome:
    """Make one call against a script."""
    clock, recorder = FakeClock(), Recorder()
    asynchronous = twin is AsyncEndpoint
    endpoint = twin("my-llm", region_name="us-east-1", clock=clock, hooks=recorder, **options)
    script = (
        AsyncScript(outcomes, clock, AsyncSource, cold=cold)
        if asynchronous
        else SyncScript(outcomes, clock, SyncSource, cold=cold)
    )
    endpoint._caller.transport = script
    chunks: list[Any] = []

    async def ask() -> Any:
        if operation == "invoke":
            return await endpoint.invoke("Hello", stop="ne")
        async with endpoint.stream("Hello", stop="c") as stream:
            async for chunk in stream:
                chunks.append(chunk)
        return stream.finish_reason, stream.attempts, stream.elapsed, stream.time_to_first_chunk

    def ask_now() -> Any:
        if operation == "invoke":
            return endpoint.invoke("Hello", stop="ne")
        with endpoint.stream("Hello", stop="c") as stream:
            for chunk in stream:
                chunks.append(chunk)
        return stream.finish_reason, stream.attempts, stream.elapsed, stream.time_to_first_chunk

    try:
        result = asyncio.run(wait_for(ask())) if asynchronous else ask_now()
    except errors.SmendpointError as error:
        return Outcome(script, recorder, chunks, error)
    return Outcome(script, recorder, (chunks, result), None)


async def wait_for(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


@given(
    outcomes=st.lists(refusals() | TRANSPORT_ERRORS | streams(), max_size=8),
    operation=st.sampled_from(["invoke", "stream"]),
    cold=st.booleans(),
    total=st.none() | st.sampled_from([0.3, 2.0, 30.0]),
    attempts=st.integers(1, 4),
)
def test_the_twins_take_the_same_steps_to_the_same_end(
    outcomes: list[Any], operation: str, cold: bool, total: float | None, attempts: int
) -> None:
    if operation == "invoke":
        outcomes = [outcome for outcome in outcomes if not isinstance(outcome, list)]
    options = {"timeout": Timeout(total=total), "retry": RetryPolicy(max_attempts=attempts, cold_start_timeout=20.0)}
    one, other = (play(twin, outcomes, operation, cold=cold, **options) for twin in (Endpoint, AsyncEndpoint))
    assert one == other
    assert one.steps[0] == ("prepare",)
    assert [heard[0] for heard in one.heard][:1] + [heard[0] for heard in one.heard][-1:] == [
        "call_started",
        "call_finished",
    ]


# -- the same words


@pytest.mark.parametrize("operation", ["invoke", "stream"])
def test_the_twins_say_the_same_about_the_same_fault(operation: str) -> None:
    faults = sorted({case.fault for case in CASES if case.operation == operation and case.twin == "sync-direct"})
    retry = RetryPolicy(max_attempts=2, max_backoff=0.0)
    with (
        Emulator(sse, piece_size=None) as emulator,
        contextlib.closing(Twin("sync-direct")) as one,
        contextlib.closing(Twin("async-direct")) as other,
    ):
        for fault in faults:
            if fault == "drip":
                continue  # nothing but slow
            read = STALL_SECONDS if fault in STALLING else PATIENCE
            said = []
            for twin in (one, other):
                emulator.inject(fault)
                endpoint = twin.endpoint(emulator.url, timeout=Timeout(connect=PATIENCE, read=read), retry=retry)
                try:
                    said.append(("", str(endpoint.call(operation, "Hello"))))
                except errors.SmendpointError as error:
                    words = re.sub(r"request id [0-9a-f-]{36}", "request id", str(error))
                    context = {name: value for name, value in vars(error).items() if name != "request_id"}
                    context.pop("message")
                    said.append((words, f"{type(error)} {context} {type(error.__cause__)} {error.received}"))
                emulator.clear_faults()
                endpoint.close()
            assert said[0] == said[1], fault


@pytest.mark.parametrize(
    "inputs", ["Hello", b"Hello", {"inputs": "Hello"}, None, 5], ids=lambda value: type(value).__name__
)
@pytest.mark.parametrize("make", [Endpoint, AsyncEndpoint])
def test_a_map_refuses_one_input_at_once(make: Any, inputs: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match=f"not one {type(inputs).__name__} .*my-llm"):
        make("my-llm").map(inputs, max_concurrency=2)


def test_only_the_asynchronous_twin_takes_asynchronous_inputs() -> None:
    class Inputs:
        def __aiter__(self) -> Any:
            raise NotImplementedError

    AsyncEndpoint("my-llm").map(Inputs(), max_concurrency=2)
    with pytest.raises(errors.ConfigurationError, match="not one Inputs"):
        Endpoint("my-llm").map(Inputs(), max_concurrency=2)  # type: ignore[call-overload]  # that is the point
