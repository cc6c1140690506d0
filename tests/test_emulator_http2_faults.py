"""The faults of bidirectional streams, as a client sees them on the wire."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from emulator_client import NOW, call, request
from h2_client import H2Client, part

from smendpoint.emulator import FAULTS, Credentials, Emulator, ModelConversation

SENT = ["a", "b", "c"]
ANSWER = [b"a", b"b", b"c"]


async def echo(conversation: ModelConversation) -> None:
    async for one in conversation:
        await conversation.send(one.data if one.text is None else one.text, one.partial)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(echo, clock=lambda: NOW) as running:
        yield running
        running.disconnected()
        assert (running.active_requests, running.stalled) == (0, 0)


class Seen(NamedTuple):
    """The answer to three parts and the end."""

    status: int
    payloads: list[bytes]
    exception: str
    ended: str


# By name: what is seen. The end `stall` means that nothing more comes.
CASES = {
    "h2_head_first": Seen(200, ANSWER, "", "end"),
    "h2_head_late": Seen(200, ANSWER, "", "end"),
    "h2_drip": Seen(200, ANSWER, "", "end"),
    "h2_odd_frames": Seen(200, ANSWER, "", "end"),
    "h2_unknown_event": Seen(200, [b"a", b"{}", b"b", b"c"], "", "end"),
    "h2_no_head": Seen(0, [], "", "stall"),
    "h2_silence": Seen(200, [], "", "stall"),
    "h2_stall": Seen(200, ANSWER[:1], "", "stall"),
    "h2_window_closed": Seen(200, ANSWER, "", "end"),
    "h2_garbage": Seen(0, [], "", "eof"),
    "h2_html_200": Seen(200, [], "", "end"),
    "h2_refused_stream": Seen(0, [], "", "reset 7"),
    "h2_goaway_first": Seen(0, [], "", "goaway 0 0"),
    "h2_rst_stream": Seen(200, ANSWER[:1], "", "reset 2"),
    "h2_goaway": Seen(200, ANSWER[:1], "", "goaway 2 1"),
    "h2_fin": Seen(200, ANSWER[:1], "", "eof"),
    "h2_reset": Seen(200, ANSWER[:1], "", "eof"),
    "h2_event_cut": Seen(200, ANSWER[:1], "", "eof"),
    "h2_event_cut_clean_end": Seen(200, ANSWER[:1], "", "end"),
    "h2_crc": Seen(200, ANSWER[:1], "", "end"),
    "h2_late_424": Seen(424, [], "", "end"),
    "h2_late_403": Seen(403, [], "", "end"),
    "h2_model_stream_error": Seen(200, ANSWER[:1], "ModelStreamError", "end"),
    "h2_internal_failure": Seen(200, ANSWER[:1], "InternalStreamFailure", "end"),
    "h2_unknown_exception": Seen(200, ANSWER[:1], "NeverHeardOfIt", "end"),
    "status_503_ServiceUnavailableError": Seen(503, [], "", "end"),
    "retry_after_1": Seen(503, [], "", "end"),
    "throttle_then_ok_1": Seen(429, [], "", "end"),
    "expired_then_ok": Seen(403, [], "", "end"),
}
# These send bytes that are not a whole event.
REST = {"h2_event_cut", "h2_event_cut_clean_end", "h2_crc"}


def client(emulator: Emulator) -> H2Client:
    return H2Client((emulator.host, emulator.port), now=NOW)


def test_every_fault_that_is_only_for_bidirectional_streams_has_a_case() -> None:
    assert {name for name, fault in FAULTS.items() if fault.operations == {"converse"}} == {
        name for name in CASES if name.startswith("h2_")
    }


@pytest.mark.parametrize("name", CASES)
def test_a_fault_on_the_wire(emulator: Emulator, name: str) -> None:
    expected = CASES[name]
    emulator.inject(name)
    with client(emulator) as talk:
        talk.lenient = name in REST | {"h2_html_200"}
        talk.open()
        for text in SENT:
            talk.send(text)
        talk.end_input()
        if expected.ended == "stall":
            while (talk.status, len(talk.events)) != (expected.status, len(expected.payloads)):
                talk.pump()
            emulator.wait_for(lambda one: one.stalled == 1)
        else:
            assert talk.until_end().ended == expected.ended
        last = talk.events.pop() if expected.exception else None
        assert (talk.status, talk.payloads) == (expected.status, expected.payloads)
        assert last is None or last.exception == expected.exception
        (received,) = emulator.requests
        assert received.fault == name


def test_the_head_comes_first_although_nothing_was_sent(emulator: Emulator) -> None:
    emulator.inject("h2_head_first")
    with client(emulator) as talk:
        assert talk.open().until_head().status == 200


def test_a_late_head_comes_with_the_whole_answer_or_after_a_mebibyte(emulator: Emulator) -> None:
    emulator.inject("h2_head_late")
    with client(emulator) as talk:
        talk.open().send("a").send("b")
        assert not talk.status
        talk.end_input().until_end()
        assert talk.payloads == [b"a", b"b"]
        talk.open()
        for number in range(20):
            talk.send(bytes([number]) * 100_000)
        talk.until_head().end_input().until_end()
        assert talk.payloads == [bytes([number]) * 100_000 for number in range(20)]


def test_a_closed_window_takes_what_fits_and_no_more(emulator: Emulator) -> None:
    emulator.inject("h2_window_closed", times=1)
    whole = part(b"x" * 60_000)
    with client(emulator) as talk:
        talk.open().write(whole)
        assert talk.next().payload == b"x" * 60_000
        assert talk.window == 65_535 - len(whole)


def test_late_errors_say_what_the_service_would(emulator: Emulator) -> None:
    for name, code in (("h2_late_424", "ModelError"), ("h2_late_403", "InvalidSignatureException")):
        emulator.inject(name, times=1)
        with client(emulator) as talk:
            talk.open()
            assert not talk.status
            talk.send("a").until_end()
            assert talk.error[1] == code
            if code == "ModelError":
                assert json.loads(talk.body)["OriginalMessage"] == "The socket was closed"


def test_skewed_date_refuses_a_conversation_too(emulator: Emulator) -> None:
    emulator.inject("skewed_date")
    with client(emulator) as talk:
        talk.open(headers={"x-amz-date": "20231114T221320Z"}).until_end()
    assert talk.error[:2] == (403, "InvalidSignatureException")
    assert talk.headers["date"] == "Tue, 14 Nov 2023 23:13:20 GMT"


def test_a_fault_of_conversations_leaves_other_requests_alone(emulator: Emulator) -> None:
    emulator.models = {"llm": lambda asked: b"[]", "voice": echo}
    emulator.inject("h2_no_head", endpoint_name="voice")
    assert call(emulator, request(path="/endpoints/llm/invocations"))[1] == b"[]"


def test_a_fault_of_http_1_leaves_conversations_alone(emulator: Emulator) -> None:
    emulator.inject("reset_mid_stream")
    with client(emulator) as talk:
        assert talk.open().send("a").next().payload == b"a"


def test_a_fault_does_not_hide_a_request_that_is_wrong() -> None:
    with Emulator(echo, credentials=Credentials("AKIDEXAMPLE", "secret")) as emulator, client(emulator) as talk:
        emulator.inject("h2_stall")
        talk.open().until_end()
        assert talk.error[0] == 403


@pytest.mark.parametrize("name", ["h2_rst_stream", "h2_late_424", "h2_stall", "h2_head_late"])
def test_a_model_may_fail_under_a_fault(emulator: Emulator, name: str) -> None:
    async def fails(conversation: ModelConversation) -> None:
        raise ValueError("out of memory")

    emulator.models["voice"] = fails
    emulator.inject(name)
    with client(emulator) as talk:
        talk.open().send("a").until_end()
        assert talk.error[:2] == (424, "ModelError")
