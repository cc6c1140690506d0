"""`address.py`, `deadline.py`, `exchange.py`, `failures.py`: where to connect, how long to wait, and our errors."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest
from targets import make_address

from smendpoint import Timeout
from smendpoint._aws import Identity, resolve
from smendpoint._transport.address import Address, connect_failed
from smendpoint._transport.deadline import Deadline
from smendpoint._transport.exchange import connection_lost, died_unheard
from smendpoint.errors import (
    ConfigurationError,
    ConnectError,
    DeadlineExceededError,
    ProtocolError,
    ReadTimeoutError,
    TLSError,
    TransportError,
)

pytestmark = pytest.mark.usefixtures("bare_environment")

ADDRESS = make_address("runtime.example", 443, tls=True)


class Now:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def patience(total: float | None, now: Now) -> Deadline:
    return Deadline(Timeout(connect=10.0, read=70.0, total=total), None if total is None else now() + total, now)


def resolved(url: str) -> Address:
    return Address(
        resolve(
            Identity(
                region_name="us-east-1", aws_access_key_id="AKID", aws_secret_access_key="secret", endpoint_url=url
            )
        )
    )


# addresses


def test_an_address_is_dialled_itself_unless_there_is_a_proxy() -> None:
    proxied = make_address("runtime.example", 443, tls=True, proxy="http://proxy.example:3128")
    assert ADDRESS.dialled == ("runtime.example", 443)
    assert proxied.dialled == ("proxy.example", 3128)


def test_certificates_and_names_are_always_checked_and_only_http_1_is_offered() -> None:
    context = ADDRESS.context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert ADDRESS.context() is context


@pytest.mark.parametrize("setting", ["ca_bundle", "client_cert"])
def test_a_file_that_is_not_there_is_a_configuration_error(setting: str) -> None:
    address = make_address("h", 443, tls=True, **{setting: "/nowhere/x.pem"})
    with pytest.raises(ConfigurationError, match="cannot be read") as caught:
        address.context()
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_a_proxy_behind_tls_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "https://user:secret@proxy.example:3128")
    with pytest.raises(ConfigurationError, match=r"https://proxy\.example:3128 .* pass client=") as caught:
        resolved("https://runtime.example")
    assert "secret" not in str(caught.value)


# patience


def test_without_a_total_each_wait_has_its_own_limit() -> None:
    waits = patience(None, Now())
    assert waits.within(70.0) == 70.0
    assert waits.queueing() is None
    assert waits.connect_by() == 110.0
    assert waits.remaining() == float("inf")
    assert not waits.over


def test_a_total_shortens_every_wait() -> None:
    now = Now()
    waits = patience(5.0, now)
    now.seconds += 2.0
    assert waits.within(70.0) == waits.queueing() == waits.remaining() == 3.0
    assert waits.within(1.0) == 1.0
    assert waits.connect_by() == 105.0
    assert not waits.over


def test_when_the_total_is_over_nothing_waits_any_more() -> None:
    now = Now()
    waits = patience(5.0, now)
    now.seconds += 5.0
    assert waits.over
    for wait in (lambda: waits.within(1.0), waits.queueing, waits.connect_by):
        with pytest.raises(DeadlineExceededError, match="total of 5 s"):
            wait()
    assert isinstance(waits.silence(response_started=False), DeadlineExceededError)
    assert isinstance(waits.no_connection(ADDRESS), DeadlineExceededError)
    assert waits.no_connection(ADDRESS).request_sent is False


def test_a_moment_that_has_passed_is_a_timeout() -> None:
    now = Now()
    waits = patience(None, now)
    assert waits.left(101.5) == 1.5
    with pytest.raises(TimeoutError):
        waits.left(100.0)


def test_silence_says_which_limit_it_met_and_what_to_do() -> None:
    error = patience(None, Now()).silence(response_started=True)
    assert isinstance(error, ReadTimeoutError)
    assert error.response_started
    assert str(error).startswith("nothing arrived for 70 s; the model may still be running. Raise Timeout.read")


def test_no_connection_in_time_says_where() -> None:
    error = patience(None, Now()).no_connection(ADDRESS)
    assert isinstance(error, ConnectError)
    assert str(error).startswith("no connection to runtime.example:443 within 10 s")


# errors


def verification_error(message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = message
    return error


def tls_error() -> ssl.SSLError:
    error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")
    error.reason = "WRONG_VERSION_NUMBER"
    return error


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (verification_error("self-signed certificate"), TLSError, "is not trusted: self-signed certificate. Set AWS_"),
        (
            verification_error("not valid for '::1'."),
            TLSError,
            "is not trusted: not valid for '::1'. Set AWS_CA_BUNDLE",
        ),
        (tls_error(), TLSError, "no TLS connection to runtime.example:443: WRONG_VERSION_NUMBER"),
        (ssl.SSLError("no reason given"), TLSError, "no reason given"),
        (ssl.SSLEOFError(8, "EOF occurred"), ConnectError, "no connection to runtime.example:443: EOF occurred"),
        (ssl.SSLZeroReturnError(6, "closed"), ConnectError, "closed"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), ConnectError, "Connection refused"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), ConnectError, "Name or service not known"),
        (OSError("no reason"), ConnectError, "no reason"),
        (OSError(), ConnectError, "OSError"),
    ],
)
def test_a_failure_to_connect_becomes_ours(error: OSError, kind: type[TransportError], message: str) -> None:
    ours = connect_failed(ADDRESS, error)
    assert type(ours) is kind
    assert message in str(ours)
    assert ours.request_sent is False


def alert() -> ssl.SSLError:
    error = ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required")
    error.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    return error


@pytest.mark.parametrize(
    ("error", "started", "kind", "message"),
    [
        (None, False, TransportError, "before an answer: closed by the peer"),
        (None, True, TransportError, "in the middle of the answer: closed by the peer"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), False, TransportError, "reset by peer"),
        (ConnectionResetError(), True, TransportError, "ConnectionResetError"),
        (alert(), False, TLSError, "TLSV13_ALERT_CERTIFICATE_REQUIRED): check client_cert"),
        (alert(), True, TransportError, "in the middle of the answer"),
        (ssl.SSLError("no reason given"), False, TransportError, "before an answer"),
    ],
)
def test_a_lost_connection_becomes_ours(
    error: OSError | None, started: bool, kind: type[TransportError], message: str
) -> None:
    ours = connection_lost(error, response_started=started)
    assert type(ours) is kind
    assert message in str(ours)
    assert kind is TLSError or ours.response_started is started


@pytest.mark.parametrize(
    ("error", "unheard"),
    [
        (TransportError("lost"), True),
        (TransportError("lost", response_started=True), False),
        (ProtocolError("odd"), False),
        (ReadTimeoutError("silent"), False),
        (ConnectError("refused"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_only_a_connection_that_was_lost_without_a_word_died_unheard(error: BaseException, unheard: bool) -> None:
    assert died_unheard(error) is unheard
