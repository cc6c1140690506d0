"""Nothing that must stay private is ever shown: not in logs, not in `repr`, not in any exception or traceback.

Words that stand nowhere else are put where secrets, prompts, outputs and custom attributes are; then every fault is
played, and everything that anybody could print or log is searched for them.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import pickle
import re
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from clocks import FakeClock
from test_fault_matrix import CASES, STALL_SECONDS, STALLING
from twins import IDS, NAME, PATIENCE, Twin, TwinEndpoint

from smendpoint import (
    AsyncInferenceGateway,
    BytesHandler,
    InferenceGateway,
    JSONHandler,
    RetryPolicy,
    Timeout,
    errors,
)
from smendpoint.emulator import FAULTS, Emulator, ModelConversation, ModelReply, ModelRequest

SECRET = "CanarySecretKey0123456789abcdefghijklmno"
TOKEN = "CanarySessionToken"
PROMPT = "CanaryPrompt"
OUTPUT = "CanaryOutput"
ATTRIBUTES = "CanaryAttributesSent"
IDENTITY = "CanaryIdentityToken"
ATTRIBUTES_BACK = "CanaryAttributesCameBack"
SIGNATURE = re.compile(r"Signature=([0-9a-f]{64})")


def model(asked: ModelRequest) -> ModelReply:
    """Says nothing but canaries; the middle of each word is where a fault may cut it."""
    texts = [OUTPUT, f" {OUTPUT}", f"\n{OUTPUT}"]
    body: Any = json.dumps([{"generated_text": "".join(texts)}]).encode()
    if asked.streaming:
        body = [f"data:{json.dumps({'token': {'text': text}})}\n\n".encode() for text in texts]
    return ModelReply(body, custom_attributes=ATTRIBUTES_BACK)


class Heard(logging.Handler):
    """Everything that was logged, as a formatter would write it, with the arguments."""

    def __init__(self, only: str) -> None:
        super().__init__(logging.DEBUG)
        self._only = only
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(self._only):
            self.lines += [self.format(record), repr(record.args)]


@contextlib.contextmanager
def listening(only: str) -> Iterator[list[str]]:
    """Log everything; keep the lines of loggers whose name begins with `only`."""
    heard = Heard(only)
    loggers = [logging.getLogger(), logging.getLogger("smendpoint")]
    before = [logger.level for logger in loggers]
    loggers[0].addHandler(heard)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    try:
        yield heard.lines
    finally:
        loggers[0].removeHandler(heard)
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def shown(error: BaseException) -> list[str]:
    """Everything that an exception shows of itself, and its pickle without the chunks that were received."""
    texts = [repr(error), str(error), *traceback.format_exception(error)]
    if isinstance(error, errors.SmendpointError):
        bare = copy.copy(error)
        bare.received = ()
        texts += [pickle.dumps(bare).decode("latin-1"), repr(vars(bare)), repr(bare.args)]
    return texts


def everything(endpoint: TwinEndpoint, operation: str) -> Iterator[str]:
    """Make a call; give all that there is to see, whatever becomes of it."""
    try:
        if operation == "invoke":
            response = endpoint.send(PROMPT)
            yield repr(response)
        else:
            with endpoint.stream(PROMPT) as stream:
                yield repr(stream.iterator)
                for _ in stream:
                    pass
                yield repr(stream.iterator)
    except Exception as error:
        yield from shown(error)


def make(twin: Twin, url: str, **options: Any) -> TwinEndpoint:
    return twin.endpoint(
        url,
        aws_secret_access_key=SECRET,
        aws_session_token=TOKEN,
        endpoint_kwargs={"CustomAttributes": ATTRIBUTES},
        **options,
    )


def assert_no_canary(texts: list[str], emulator: Emulator) -> None:
    signatures = [
        match[1]
        for request in emulator.requests
        for match in [SIGNATURE.search(request.headers.get("authorization", ""))]
        if match is not None
    ]
    for canary in ("Canary", *signatures):
        for text in texts:
            assert canary not in text


@pytest.mark.parametrize("id", IDS)
def test_no_fault_shows_a_secret_a_prompt_or_an_output(id: str) -> None:
    # botocore's own loggers show all that they send: they are not ours.
    ours = "smendpoint" if id.endswith("client") else ""
    cases = [case for case in CASES if case.twin == id and case.fault != "drip"]
    with (
        Emulator(model, piece_size=None) as emulator,
        contextlib.closing(Twin(id)) as twin,
        listening(ours) as logged,
    ):
        texts: list[str] = []
        retry = RetryPolicy(max_attempts=2, max_backoff=0.0)
        slow = make(twin, emulator.url, timeout=PATIENCE, retry=retry)
        quick = make(twin, emulator.url, timeout=Timeout(connect=PATIENCE, read=STALL_SECONDS), retry=retry)
        for case in cases:
            emulator.inject(case.fault)
            endpoint = quick if case.fault in STALLING else slow
            texts += everything(endpoint, case.operation)
            emulator.clear_faults()
        texts += [repr(slow.endpoint), repr(vars(slow.endpoint)["_caller"].identity)]
        assert len(emulator.requests) >= len(cases) - 12  # some are not received whole
        assert any(SIGNATURE.search(request.headers["authorization"]) for request in emulator.requests)
        assert sum("call finished" in line for line in logged) >= len(cases)
        assert_no_canary(texts + logged, emulator)


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize(
    "reply",
    [
        f"{OUTPUT} is no JSON".encode(),
        OUTPUT.encode("utf-16"),
        f'{{"generated_text": "{OUTPUT}'.encode(),
        f'["{OUTPUT}"]'.encode(),
        f'"{OUTPUT}"'.encode(),
        f'{{"data": {{"text": "{OUTPUT}"}}}}'.encode(),
        f'[{{"generated_text": ["{OUTPUT}", 1]}}]'.encode(),
        OUTPUT.encode() + b"\xff\xfe",
    ],
    ids=["text", "utf-16", "cut", "list", "string", "deeper", "wrong-type", "not-utf-8"],
)
def test_an_output_that_a_handler_cannot_read_is_not_shown(id: str, reply: bytes) -> None:
    with Emulator(lambda asked: [reply] if asked.streaming else reply, piece_size=None) as emulator:
        with contextlib.closing(Twin(id)) as twin, listening("smendpoint") as logged:
            endpoint = make(twin, emulator.url)
            texts = [*everything(endpoint, "invoke"), *everything(endpoint, "stream")]
            assert_no_canary(texts + logged, emulator)


REFUSED: dict[str, Callable[[Any], Any]] = {
    "attributes with a line break": lambda endpoint: endpoint.invoke(
        PROMPT, endpoint_kwargs={"CustomAttributes": f"{ATTRIBUTES}\r\nX: y"}
    ),
    "attributes that are not ASCII": lambda endpoint: endpoint.invoke(
        PROMPT, endpoint_kwargs={"CustomAttributes": f"{ATTRIBUTES}\u2028"}
    ),
    "attributes that are too long": lambda endpoint: endpoint.invoke(
        PROMPT, endpoint_kwargs={"CustomAttributes": ATTRIBUTES * 100}
    ),
    "attributes of the wrong type": lambda endpoint: endpoint.invoke(
        PROMPT, endpoint_kwargs={"CustomAttributes": [ATTRIBUTES]}
    ),
    "a prompt of the wrong type": lambda endpoint: endpoint.invoke([PROMPT]),
    "parameters that are no JSON": lambda endpoint: endpoint.invoke(PROMPT, temperature={PROMPT}),
    "a stop sequence of the wrong type": lambda endpoint: endpoint.invoke(PROMPT, stop=[PROMPT.encode()]),
}


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("refused", REFUSED)
def test_a_value_that_is_refused_before_it_is_sent_is_not_shown(id: str, refused: str) -> None:
    with Emulator(model) as emulator, contextlib.closing(Twin(id)) as twin, listening("smendpoint") as logged:
        endpoint = make(twin, emulator.url)
        with pytest.raises(errors.SmendpointError) as caught:
            REFUSED[refused](endpoint)
        assert emulator.requests == []
        assert_no_canary(shown(caught.value) + logged, emulator)


@pytest.mark.parametrize("id", IDS)
def test_other_handlers_show_nothing_either(id: str) -> None:
    with Emulator(lambda asked: f"{OUTPUT} {{".encode()) as emulator, contextlib.closing(Twin(id)) as twin:
        texts: list[str] = []
        for handler in (JSONHandler(), BytesHandler()):
            endpoint = make(twin, emulator.url, content_handler=handler)
            try:
                texts.append(
                    repr(endpoint.send({"text": PROMPT} if isinstance(handler, JSONHandler) else PROMPT.encode()))
                )
            except errors.SmendpointError as error:
                texts += shown(error)
        assert_no_canary(texts, emulator)


@pytest.mark.parametrize("id", ["sync-direct", "async-direct"])
@pytest.mark.parametrize("fault", sorted({case.fault for case in CASES if case.fault not in STALLING} - {"drip"}))
def test_no_fault_shows_the_identity_token_of_a_gateways_customer(id: str, fault: str) -> None:
    with Emulator(model) as emulator, contextlib.closing(Twin(id)) as twin, listening("") as logged:
        made = twin.endpoint(
            emulator.url,
            "g1",
            made_by=(InferenceGateway, AsyncInferenceGateway),
            aws_secret_access_key=SECRET,
            aws_session_token=TOKEN,
            customer_identity_token=IDENTITY,
            model_kwargs={"model": "m"},
            clock=FakeClock(),
        )
        texts = [repr(made.endpoint), repr(vars(made.endpoint)["_caller"].identity), str(vars(made.endpoint))]
        for own in (None, {"CustomerIdentityToken": f"{IDENTITY}OfTheCall"}):
            emulator.inject(fault)
            try:
                texts.append(repr(made.send(PROMPT, endpoint_kwargs=own)))
            except errors.SmendpointError as error:
                texts += shown(error)
            emulator.clear_faults()
        with contextlib.suppress(errors.ConfigurationError):
            made.invoke(PROMPT, endpoint_kwargs={"CustomerIdentityToken": f"{IDENTITY}\n"})
        texts.append(pickle.dumps(made.endpoint).decode("latin-1"))
        assert logged
        assert_no_canary(texts + logged, emulator)


def test_a_pickled_endpoint_carries_no_secret() -> None:
    for id in ("sync-direct", "async-direct"):
        with contextlib.closing(Twin(id)) as twin:
            pickled = pickle.dumps(make(twin, "http://127.0.0.1:9").endpoint)
            assert SECRET.encode() not in pickled
            assert TOKEN.encode() not in pickled


# conversations

CONVERSE = {name for fault in FAULTS.values() if "converse" in fault.operations for name in fault.examples}
QUERY = "CanaryQuery"
TALKS = [id for id in IDS if id.endswith("direct")]


async def talker(talk: ModelConversation) -> None:
    """Says nothing but canaries."""
    async for _ in talk:
        await talk.send(OUTPUT)
        await talk.send(OUTPUT.encode(), partial=True)


def everything_said(endpoint: TwinEndpoint) -> Iterator[str]:
    """Have a conversation; give all that there is to see, whatever becomes of it."""
    talk = endpoint.converse(path="v1", query={"key": QUERY}, endpoint_kwargs={"TargetVariant": "blue"})
    try:
        yield repr(talk.iterator)
        with talk:
            talk.send(PROMPT)
            talk.send(bytes(100_000))
            talk.end_input()
            for part in talk:
                yield repr(part)
                yield repr(talk.iterator)
    except Exception as error:
        yield from shown(error)
    yield repr(talk.iterator)
    try:
        next(talk)
    except Exception as error:
        yield from shown(error)


@pytest.mark.parametrize("id", TALKS)
def test_no_fault_of_a_conversation_shows_a_secret_a_prompt_or_an_output(id: str) -> None:
    with (
        Emulator({NAME: talker}) as emulator,
        contextlib.closing(Twin(id)) as twin,
        listening("") as logged,
    ):
        texts: list[str] = []
        endpoint = twin.endpoint(
            emulator.url,
            aws_secret_access_key=SECRET,
            aws_session_token=TOKEN,
            timeout=Timeout(connect=PATIENCE, read=STALL_SECONDS),
            retry=RetryPolicy(max_attempts=1),
        )
        for fault in sorted(CONVERSE):
            emulator.inject(fault)
            texts += everything_said(endpoint)
            emulator.clear_faults()
        texts += everything_said(endpoint)
        assert len(emulator.requests) == len(CONVERSE) + 1
        assert sum("call finished" in line for line in logged) == 2 * (len(CONVERSE) + 1)
        assert_no_canary(texts + logged, emulator)


REFUSED_PARTS: dict[str, Callable[[TwinEndpoint], Any]] = {
    "a query that is too long": lambda endpoint: endpoint.converse(query=QUERY * 300),
    "a query with a line break": lambda endpoint: endpoint.converse(query=f"a={QUERY}\n"),
    "a value of the wrong type": lambda endpoint: endpoint.converse(query={"a": {QUERY}}),
    "a value that is not Unicode": lambda endpoint: endpoint.converse(query={"a": f"{QUERY}\ud800"}),
    "a member of the wrong type": lambda endpoint: endpoint.converse(endpoint_kwargs={"ModelQueryString": [QUERY]}),
    "a part of the wrong type": lambda endpoint: endpoint.converse().send([PROMPT]),
    "a part that is not Unicode": lambda endpoint: endpoint.converse().send(f"{PROMPT}\ud800"),
}


@pytest.mark.parametrize("id", TALKS)
@pytest.mark.parametrize("refused", REFUSED_PARTS)
def test_a_value_of_a_conversation_that_is_refused_is_not_shown(id: str, refused: str) -> None:
    with Emulator({NAME: talker}) as emulator, contextlib.closing(Twin(id)) as twin, listening("smendpoint") as logged:
        with pytest.raises(errors.ConfigurationError) as caught:
            REFUSED_PARTS[refused](twin.endpoint(emulator.url, aws_secret_access_key=SECRET))
        assert emulator.requests == []
        assert_no_canary(shown(caught.value) + logged, emulator)
