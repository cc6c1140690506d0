"""The signatures of conversations, recomputed from the bytes by code of the tests, and credentials that change."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
from clocks import FakeClock
from h2_client import ZERO_PADDED, Keys
from inside import transport_of
from servers import PATIENCE, Peer, Server, bare_environment, pump  # noqa: F401
from test_aws_credentials import HOUR, Source
from test_conversation import MEGABYTE, echo
from test_core_conversation import Frame, frames
from twins import ACCESS_KEY, NAME, REGION, SECRET_KEY, Twin, TwinEndpoint, direct_twin  # noqa: F401

from smendpoint import errors
from smendpoint._core.aws.sigv4 import Credentials as SigningKeys
from smendpoint._transport import address as _address
from smendpoint.emulator import Credentials, Emulator

pytestmark = pytest.mark.usefixtures("bare_environment")

KEYS = Keys(ACCESS_KEY, SECRET_KEY, None, REGION)


class Recorder(Server):
    """Hands everything on to a server, and keeps what the client has sent."""

    def __init__(self, port: int) -> None:
        super().__init__(self._relay)
        self._port = port
        self._heard = bytearray()

    def _relay(self, peer: Peer) -> None:
        with socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE) as upstream:
            back = threading.Thread(target=pump, args=(upstream, peer.sock), daemon=True)
            back.start()
            try:
                while data := peer.sock.recv(65_536):
                    self._heard += data
                    upstream.sendall(data)
            finally:
                upstream.shutdown(socket.SHUT_RDWR)
                back.join(PATIENCE)

    def request(self) -> tuple[dict[str, str], list[Frame]]:
        """The headers of the only request, and its messages."""
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        headers: dict[str, str] = {}
        body = b""
        for start in range(0, len(self._heard), 1000):
            for event in connection.receive_data(bytes(self._heard[start : start + 1000])):
                if isinstance(event, h2.events.RequestReceived):
                    headers = dict(event.headers)
                elif isinstance(event, h2.events.DataReceived):
                    body += event.data
                    connection.acknowledge_received_data(event.flow_controlled_length, 1)
        return headers, list(frames(body))


def verify(recorder: Recorder, *keys: Keys) -> list[Frame]:
    """Recompute the signatures of a request and of each message after it, with these keys in turn; give the events."""
    headers, messages = recorder.request()
    stamp, authorization = headers["x-amz-date"], headers["authorization"]
    names = authorization.split("SignedHeaders=")[1].split(",")[0].split(";")
    signed = {name: headers[":authority"] if name == "host" else headers[name] for name in names}
    for name in ("x-amz-date", "x-amz-content-sha256", "x-amz-security-token"):
        signed.pop(name, None)
    expected = keys[0].signed("POST", headers[":path"], signed, stamp)
    prior = authorization.rpartition("Signature=")[2]
    assert prior == expected["authorization"].rpartition("Signature=")[2]
    assert headers.get("x-amz-security-token") == keys[0].token
    assert len(messages) == len(keys) - 1
    events = []
    for message, own in zip(messages, keys[1:], strict=True):
        milliseconds = message.headers[":date"]
        stamp = time.strftime(ZERO_PADDED, time.gmtime(milliseconds // 1000))
        date = b"\x05:date\x08" + milliseconds.to_bytes(8, "big")
        hashes = [hashlib.sha256(data).hexdigest() for data in (date, message.payload)]
        to_sign = "\n".join(("AWS4-HMAC-SHA256-PAYLOAD", stamp, own.scope(stamp), prior, *hashes))
        assert message.headers[":chunk-signature"] == own.sign(stamp, to_sign)
        prior = own.sign(stamp, to_sign).hex()
        events += list(frames(message.payload))
    assert messages[-1].payload == b""
    return events


@pytest.mark.parametrize("token", [None, "SessionToken"])
def test_the_emulator_verifies_each_event(direct_twin: Twin, token: str | None) -> None:  # noqa: F811
    keys = Credentials(ACCESS_KEY, SECRET_KEY, token)
    with Emulator({NAME: echo}, credentials=keys, region=REGION) as emulator:
        with direct_twin.endpoint(emulator.url, aws_session_token=token).converse(path="v1", query="a=1") as talk:
            reading = talk.beside("list")
            for data in ("text", b"\xff", MEGABYTE, "", MEGABYTE * 2, b"end"):
                talk.send(data, partial=data == "text")
            talk.end_input()
            assert [len(part.data) for part in reading.outcome()] == [4, 1, len(MEGABYTE), 0, len(MEGABYTE) * 2, 3]


@pytest.mark.parametrize("token", [None, "SessionToken"])
def test_every_signature_is_the_one_of_the_tests_own_code(direct_twin: Twin, token: str | None) -> None:  # noqa: F811
    keys, clock = KEYS._replace(token=token), FakeClock(now=1_440_979_199.9)  # a tenth of a second before midnight
    with Emulator({NAME: echo}) as emulator, Recorder(emulator.port) as recorder:
        endpoint = direct_twin.endpoint(recorder.url, clock=clock, aws_session_token=token)
        with endpoint.converse(path="v1/listen", query={"a": "b c"}, endpoint_kwargs={"TargetVariant": "x"}) as talk:
            for data in ("text", b"\xff", bytes(70_000)):
                talk.send(data)
                clock.now += 0.07
                next(talk)
            talk.end_input()
            assert list(talk) == []
        events = verify(recorder, *[keys] * 5)
    assert [event.payload for event in events] == [b"text", b"\xff", bytes(70_000)]
    assert [event.headers["DataType"] for event in events] == ["UTF8", "BINARY", "BINARY"]


# credentials that change


def numbered(number: int) -> Keys:
    return KEYS._replace(access_key=f"AKID{number}", secret_key=f"secret{number}", token=f"token{number}")


class Renewals(Source):
    """Gives numbered credentials whose secrets differ, as soon as it may."""

    def __init__(self) -> None:
        super().__init__(HOUR)
        self.asked = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()

    def fetch(self, anew: bool) -> Any:
        self.asked.set()
        assert self.may_answer.wait(PATIENCE)
        _, expires = super().fetch(anew)
        made = numbered(len(self.calls))
        return SigningKeys(made.access_key, made.secret_key, made.token), expires


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Renewals:
    """The source of credentials of all endpoints of a test."""
    made = Renewals()
    real: Callable[[Any], Any] = _address.resolve
    monkeypatch.setattr(_address, "resolve", lambda identity: real(identity)._replace(credentials=made.provider()))
    return made


def test_credentials_that_are_renewed_sign_what_follows(direct_twin: Twin, source: Renewals) -> None:  # noqa: F811
    with Emulator({NAME: echo}) as emulator, Recorder(emulator.port) as recorder:
        with direct_twin.endpoint(recorder.url).converse() as talk:
            for number in range(3):
                talk.send(str(number))
                assert next(talk).text == str(number)
                source.now += HOUR
            talk.end_input()
            assert list(talk) == []
        verify(recorder, *[numbered(number) for number in (1, 1, 2, 3, 4)])
    assert len(source.calls) == 4


def test_a_renewal_that_fails_is_an_error_of_its_sender_and_the_conversation_goes_on(
    direct_twin: Twin,  # noqa: F811
    source: Renewals,
) -> None:
    with Emulator({NAME: echo}) as emulator, Recorder(emulator.port) as recorder:
        with direct_twin.endpoint(recorder.url).converse() as talk:
            talk.send("one")
            assert next(talk).text == "one"
            source.now += HOUR
            source.error = errors.CredentialsError("the source has none")
            for call in (lambda: talk.send("two"), talk.end_input):
                with pytest.raises(errors.CredentialsError, match="the source has none") as caught:
                    call()
                assert caught.value.endpoint_name == NAME
                assert caught.value.attempts == 1
                source.now += 2.0  # a failure is shared for a second
            source.error = None
            talk.send("three")
            assert next(talk).text == "three"
            talk.end_input()
            assert list(talk) == []
        assert len(source.calls) == 4  # of which two failed
        events = verify(recorder, numbered(1), numbered(1), numbered(4), numbered(4))
    assert [event.payload for event in events] == [b"one", b"three"]


def test_credentials_that_expire_soon_are_renewed_in_the_background(direct_twin: Twin, source: Renewals) -> None:  # noqa: F811
    with Emulator({NAME: echo}) as emulator, Recorder(emulator.port) as recorder:
        endpoint = direct_twin.endpoint(recorder.url)
        with endpoint.converse() as talk:
            source.now += HOUR - 600
            source.asked.clear()
            source.may_answer.clear()
            talk.send("signed with those that are still good")
            direct_twin.wait(source.asked)
            source.may_answer.set()
            renewed(direct_twin, endpoint)
            next(talk)
            talk.send("signed with the new ones")
            next(talk)
            talk.end_input()
            assert list(talk) == []
        verify(recorder, numbered(1), numbered(1), numbered(2), numbered(2))


def renewed(twin: Twin, endpoint: TwinEndpoint) -> None:
    """Wait until the credentials are those of the second fetch."""
    provider = transport_of(endpoint.endpoint).credentials
    over = time.monotonic() + PATIENCE
    while provider.current().access_key != "AKID2":
        twin.settle()
        assert time.monotonic() < over


def refused_once(endpoint: TwinEndpoint) -> None:
    """Have a conversation that is refused, and two that are answered."""
    with endpoint.converse() as talk, pytest.raises(errors.AccessDeniedError):
        next(talk)
    for _ in range(2):
        with endpoint.converse() as talk:
            talk.send("a")
            assert next(talk).text == "a"


def test_the_clock_that_a_refusal_has_corrected_is_that_of_the_next_conversation(direct_twin: Twin) -> None:  # noqa: F811
    keys = Credentials(ACCESS_KEY, SECRET_KEY)
    with Emulator({NAME: echo}, credentials=keys, region=REGION) as emulator:
        emulator.inject("skewed_date")
        refused_once(direct_twin.endpoint(emulator.url))


def test_credentials_that_are_refused_as_expired_are_others_in_the_next_conversation(
    direct_twin: Twin,  # noqa: F811
    source: Renewals,
) -> None:
    source.life = None  # so that nothing but the refusal tells of their end
    with Emulator({NAME: echo}) as emulator:
        emulator.inject("status_403_ExpiredTokenException", times=1)
        refused_once(direct_twin.endpoint(emulator.url))
        signed = [request.headers["authorization"].split("Credential=")[1] for request in emulator.requests]
    assert [name.split("/")[0] for name in signed] == ["AKID1", "AKID2", "AKID2"]
    assert source.calls == [False, True]
