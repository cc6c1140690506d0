"""The checks of `doctor`: each looks at one part of the path to a model, and returns a finding."""

from __future__ import annotations

import base64
import http.client
import os
import socket
import ssl
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from smendpoint import errors
from smendpoint._aws import resolve
from smendpoint._aws.environment import settings_files
from smendpoint._transport.address import Address
from smendpoint.cli._options import told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from smendpoint._aws import Identity, Target
    from smendpoint._core.aws.sigv4 import Credentials
    from smendpoint._core.http.proxy import Proxy

OK, WARNING, FAILED, SKIPPED = "ok", "warning", "failed", "skipped"


class Finding(NamedTuple):
    """The result of a check.

    Attributes:
        check: the part that was checked.
        status: ``"ok"``, ``"warning"``, ``"failed"`` or ``"skipped"``.
        text: the facts.
        advice: what to do; empty if there is nothing to do.
    """

    check: str
    status: str
    text: str
    advice: str = ""


class Way:
    """The path to the service, step by step. Each step is a check, and depends on those before it.

    Args:
        address: the peer of the calls.
        timeout: the maximum time for a step, in seconds.
        now: returns the time of this machine, in seconds since the epoch.
    """

    def __init__(self, address: Address, timeout: float, now: Callable[[], float]) -> None:
        self._url, self._proxy = address.target.url, address.target.proxy
        self._address = address
        self._timeout = timeout
        self._now = now
        self._socket: socket.socket | None = None

    def steps(self) -> Iterator[tuple[str, Callable[[], Finding]]]:
        """Give the checks by their names."""
        yield "address", self._resolve
        yield "connection", self._connect
        if self._proxy is not None:
            yield "proxy", self._tunnel
        if self._url.tls:
            yield "TLS", self._encrypt
        yield "clock", self._ask

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()

    def _resolve(self) -> Finding:
        host, port = self._address.dialled
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            advice = "Check the proxy's name" if self._proxy is not None else "Check the region and --endpoint-url"
            why = f"{host} cannot be resolved: {error.strerror or error}"
            return Finding("address", FAILED, why, f"{advice}, and this machine's DNS server.")
        addresses = ", ".join(dict.fromkeys(str(item[4][0]) for item in found))
        return Finding("address", OK, f"{host} is {addresses}")

    def _connect(self) -> Finding:
        host, port = self._address.dialled
        try:
            self._socket = socket.create_connection((host, port), self._timeout)
        except OSError as error:
            why = (
                "does not answer"
                if isinstance(error, TimeoutError)
                else f"cannot be reached: {error.strerror or error}"
            )
            if self._proxy is None:
                advice = "Check the network path to it: security groups, a VPC endpoint, a firewall, or a proxy to set."
                return Finding("connection", FAILED, f"{host} port {port} {why}", advice)
            advice = f"Check {self._proxy.source or 'the proxy'}, or exclude the service with NO_PROXY."
            return Finding("connection", FAILED, f"the proxy {self._proxy.shown} {why}", advice)
        return Finding("connection", OK, f"connected to {host} port {port}")

    def _tunnel(self) -> Finding:
        proxy, opened = self._proxy, self._socket
        assert proxy is not None and opened is not None  # noqa: PT018  # the steps before have made them
        if not self._url.tls:
            return Finding("proxy", OK, f"requests go through {proxy.shown}")
        where = self._address.service
        try:
            status = self._open_tunnel(opened, proxy)
        except (OSError, http.client.HTTPException) as error:
            why = f"the proxy {proxy.shown} failed: {type(error).__name__}"
            return Finding("proxy", FAILED, why, "Check the proxy, or exclude the service with NO_PROXY.")
        if status != 200:
            advice = "Check its user and password." if status == 407 else f"Allow {where} in the proxy's rules."
            return Finding("proxy", FAILED, f"the proxy {proxy.shown} answers {status}", advice)
        return Finding("proxy", OK, f"{proxy.shown} lets {where} through")

    def _open_tunnel(self, opened: socket.socket, proxy: Proxy) -> int:
        """Ask the proxy for a tunnel to the service; return the status of its answer."""
        where = self._address.service
        fields = "".join([f"{name}: {value}\r\n" for name, value in proxy.headers()])
        opened.sendall(f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n{fields}\r\n".encode())
        response = http.client.HTTPResponse(opened, method="CONNECT")
        response.begin()
        return response.status

    def _encrypt(self) -> Finding:
        opened = self._socket
        assert opened is not None
        bundle = self._address.target.ca_bundle
        try:
            secure = self._address.context().wrap_socket(opened, server_hostname=self._url.host)
        except errors.ConfigurationError as error:
            return Finding("TLS", FAILED, error.message, "Name a file of certificates in PEM form.")
        except ssl.SSLCertVerificationError as error:
            signed = self._untrusted_issuer() or "an unnamed authority"
            why = f"the certificate of {self._url.host}, from {signed}, is not trusted: {error.verify_message}"
            return Finding(
                "TLS",
                FAILED,
                why,
                "A proxy or firewall that inspects TLS signs with its own authority: add that to a file with the"
                f" others, and set AWS_CA_BUNDLE to it. Trusted now: {bundle or 'the authorities of the system'}.",
            )
        except OSError as error:
            why = f"no TLS with {self._url.host}: {getattr(error, 'reason', None) or error.strerror or error}"
            return Finding("TLS", FAILED, why, "A proxy or firewall on the path ends the connection.")
        self._socket = secure
        certificate: dict[str, Any] = secure.getpeercert() or {}
        issuer = {name: value for part in certificate.get("issuer", ()) for name, value in part}
        signed = issuer.get("organizationName") or issuer.get("commonName") or "an unnamed authority"
        text = f"{secure.version()}, certificate from {signed}"
        if "amazonaws" in self._url.host and "amazon" not in signed.lower():
            return Finding(
                "TLS", WARNING, text, "It is trusted, but not Amazon's: a proxy or firewall inspects the connection."
            )
        return Finding("TLS", OK, text)

    def _untrusted_issuer(self) -> str | None:
        """Name the authority of a refused certificate.

        A refused handshake does not show it, so this makes another handshake, and sends nothing over it.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            with socket.create_connection(self._address.dialled, self._timeout) as opened:
                if self._proxy is not None:
                    self._open_tunnel(opened, self._proxy)
                with context.wrap_socket(opened, server_hostname=self._url.host) as secure:
                    return issuer_of(secure.getpeercert(binary_form=True) or b"")
        except (OSError, http.client.HTTPException):
            return None

    def _ask(self) -> Finding:
        opened = self._socket
        assert opened is not None
        path = f"http://{self._url.host_header}/ping" if self._proxy and not self._url.tls else "/ping"
        fields = self._proxy.headers() if self._proxy and not self._url.tls else ()
        extra = "".join([f"{name}: {value}\r\n" for name, value in fields])
        try:
            head = f"GET {path} HTTP/1.1\r\nHost: {self._url.host_header}\r\n{extra}Connection: close\r\n\r\n"
            opened.sendall(head.encode())
            response = http.client.HTTPResponse(opened)
            response.begin()
            there = parsedate_to_datetime(response.headers["Date"]).timestamp()
        except (OSError, http.client.HTTPException, TypeError, ValueError) as error:
            why = f"the service does not answer in HTTP: {type(error).__name__}"
            return Finding("clock", FAILED, why, "Check --endpoint-url: it may be another server.")
        ahead = self._now() - there
        if abs(ahead) < MAX_SKEW_SECONDS:
            return Finding("clock", OK, f"within {max(1, round(abs(ahead)))} s of the service's")
        side = "ahead" if ahead > 0 else "behind"
        return Finding(
            "clock",
            WARNING,
            f"this machine's clock is {abs(ahead):.0f} s {side}; the service allows 300",
            "Set the clock (NTP). smendpoint corrects it with one more request; other programs are refused.",
        )


MAX_SKEW_SECONDS = 300.0
"""How far the clock of a signature may be off, in seconds, for the service to accept it."""


def issuer_of(certificate: bytes) -> str | None:
    """Name the issuer of a certificate in DER form: its organization, else its common name.

    The standard library reads only certificates that it has verified. Control characters are left out, because anyone
    may have made the certificate.
    """
    names: dict[bytes, str] = {}
    try:
        (_, whole), *_ = _elements(certificate)
        (_, signed), *_ = _elements(whole)
        members = _elements(signed)
        # Before the issuer come the version (tag A0; the first form has none), the serial number and the algorithm.
        for _, group in _elements(members[3 if members[0][0] == 0xA0 else 2][1]):
            for _, pair in _elements(group):
                (_, kind), (_, value), *_ = _elements(pair)
                names[kind] = "".join(filter(str.isprintable, value.decode("utf-8", "replace")))
    except (IndexError, ValueError):
        return None
    return names.get(_ORGANIZATION) or names.get(_COMMON_NAME)


# X.509's object identifiers 2.5.4.10 and 2.5.4.3.
_ORGANIZATION, _COMMON_NAME = b"\x55\x04\x0a", b"\x55\x04\x03"


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    """Split DER into elements: tag and content.

    Raises:
        IndexError: the data ends within a head.
        ValueError: the data ends within a content.
    """
    found = []
    position = 0
    while position < len(data):
        tag, size = data[position], data[position + 1]
        position += 2
        if size >= 0x80:  # that many further bytes have the size
            width = size - 0x80
            size = int.from_bytes(data[position : position + width], "big")
            position += width
        if position + size > len(data):
            raise ValueError(f"an element of {size} bytes has fewer")
        found.append((tag, data[position : position + size]))
        position += size
    return found


def _files() -> str:
    """Name the settings files, and which of them cannot be read: botocore ignores those silently."""
    shown = []
    for path in settings_files():
        missing = "is not a file" if os.path.exists(path) else "does not exist"
        flaw = missing if not os.path.isfile(path) else "" if os.access(path, os.R_OK) else "may not be read"
        shown.append(f"{path} ({flaw})" if flaw else path)
    return f"Settings come from options, variables, and the files {' and '.join(shown)}."


def check_settings(identity: Identity, options: Mapping[str, str]) -> tuple[Finding, Address | None]:
    """Look up region and address.

    Args:
        identity: the values of the options.
        options: their names, for `told`.
    """
    try:
        address = Address(resolve(identity))
    except errors.SmendpointError as error:
        return Finding("settings", FAILED, told(error, options), _files()), None
    target = address.target
    proxied = "" if target.proxy is None else f", through the proxy {target.proxy.shown}"
    text = f"{target.url} in {target.region} (from {target.region_source}){proxied}"
    return Finding("settings", OK, text), address


def check_credentials(target: Target) -> tuple[Finding, Credentials | None]:
    """Load the credentials; the finding never has a secret."""
    try:
        found = target.credentials.current() or target.credentials.load()
    except errors.SmendpointError as error:
        return Finding("credentials", FAILED, error.message, _files()), None
    kind = "temporary" if found.token else "long-lived"
    account, witness = target.credentials.account, "their source"
    if account is None:
        account, witness = account_of(found.access_key), "the access key id"
    whose = f" of account {account} (as {witness} says)" if account else ""
    return Finding(
        "credentials", OK, f"{kind}, {found.access_key[:4]}...{whose}, from {target.credentials.origin}"
    ), found


def account_of(access_key: str) -> str | None:
    """Read the account from an access key id, which contains it since 2019: 40 bits, after the first four letters."""
    if len(access_key) != 20 or access_key[4:5] < "Q":
        return None
    try:
        number = int.from_bytes(base64.b32decode(access_key[4:])[:6], "big")
    except ValueError:
        return None
    return f"{(number & 0x7FFFFFFFFF80) >> 7:012d}"
