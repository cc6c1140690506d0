"""Where connections go: the peer and its TLS settings, and the addresses of its host in the order of attempts."""

from __future__ import annotations

import os
from _thread import allocate_lock  # for a quick cold start: see `_core`
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._aws import resolve
from smendpoint._core.aws.renderer import RequestRenderer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from typing_extensions import Self

    from smendpoint._aws import CredentialProvider, Identity, Target
    from smendpoint._core.call.timing import Clock

# One address has this long before the next is tried in parallel: RFC 8305 section 5, "Connection Attempt Delay".
STAGGER_SECONDS = 0.25
# OpenSSL's reasons for a peer that answers its first message in plain text.
NO_TLS_REASONS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
NOT_TLS = "The server does not speak TLS on this port: the URL must begin with http://, or have another port"


class Address:
    """The peer of an endpoint's connections, and the state that one connection leaves to the next.

    Args:
        target: where calls go, and with which settings.
        http2: whether the peer must speak HTTP/2.

    Attributes:
        renderer: renders the heads of the requests to the peer.
        last_used: the socket address of the last connection.

    Raises:
        ConfigurationError: the proxy is of a kind that is not supported.
    """

    __slots__ = ("_context", "http2", "last_used", "renderer", "target")

    def __init__(self, target: Target, *, http2: bool = False) -> None:
        self.target = target
        self.http2 = http2
        self.last_used: object = None
        self._context: ssl.SSLContext | None = None
        url, proxy = target.url, target.proxy
        if proxy is not None and proxy.tls:
            raise errors.ConfigurationError(
                f"the proxy {proxy.shown} needs TLS itself, which is not supported here: use http:// in its URL if it "
                "allows that, or make a boto3, botocore or aiobotocore client and pass client= (it cannot converse)"
            )
        extra: tuple[tuple[str, str], ...] = (("User-Agent", target.user_agent),)
        prefix = ""
        if proxy is not None and not self.has_preface:
            # A plain request goes to the proxy itself: in absolute form, with its credentials.
            prefix = f"http://{url.host_header}"
            extra += proxy.headers()
        self.renderer = RequestRenderer(
            region=target.region,
            host_header=url.host_header,
            base_path=url.base_path,
            target_prefix=prefix,
            extra_headers=extra,
        )

    @property
    def has_preface(self) -> bool:
        """Whether something is exchanged before the first request: for a tunnel through a proxy, or TLS."""
        # In HTTP/2 every request goes through a tunnel: it has no absolute form for a proxy.
        return self.target.url.tls or (self.http2 and self.target.proxy is not None)

    @property
    def service(self) -> str:
        """Host and port of the service, for messages."""
        return f"{self.target.url.host}:{self.target.url.port}"

    @property
    def peer(self) -> str:
        """The other end of a socket, for messages."""
        proxy = self.target.proxy
        return self.service if proxy is None else f"the proxy {proxy.shown}"

    @property
    def advice(self) -> str:
        """The things to check if there is no connection."""
        if self.target.proxy is None:
            return "Check the region, endpoint_url and the network path to it (VPC endpoint, proxy, security group)"
        return "Check that it runs and is the right one, or exclude the service with NO_PROXY"

    @property
    def dialled(self) -> tuple[str, int]:
        """Host and port of the other end of a socket: the proxy, if there is one."""
        end = self.target.proxy or self.target.url
        return end.host, end.port

    @property
    def has_context(self) -> bool:
        """Whether the TLS settings have been read."""
        return self._context is not None

    def context(self) -> ssl.SSLContext:
        """The TLS settings, read once, in some 20 ms: certificate and host name are always checked."""
        if self._context is None:
            import ssl  # not for a proxy, an emulator or a test on loopback: it costs milliseconds

            try:
                context = ssl.create_default_context(cafile=self.target.ca_bundle)
                client_cert = self.target.client_cert
                if client_cert is not None:
                    context.load_cert_chain(*((client_cert,) if isinstance(client_cert, str) else client_cert))
            except OSError as error:
                raise errors.ConfigurationError(
                    f"the CA bundle or client certificate cannot be read ({error}): check AWS_CA_BUNDLE, "
                    "REQUESTS_CA_BUNDLE, ca_bundle in the config file and client_cert in config="
                ) from error
            context.set_alpn_protocols(["h2" if self.http2 else "http/1.1"])
            # Before TLS 1.3 a peer can begin another handshake in the middle of a request: writing would have to wait.
            context.options |= ssl.OP_NO_RENEGOTIATION
            # Some builds of Python treat a connection that is cut off as properly ended.
            context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
            self._context = context
        return self._context


class DirectLane:
    """The base class of both transports with their own connections: finds out once where calls go.

    Args:
        identity: the settings that say where calls go and as whom; resolved at the first call.
        max_connections: see `Transport`.
        clock: the source of time.
    """

    def __init__(self, identity: Identity, max_connections: int | None, clock: Clock) -> None:
        self._identity = identity
        self._clock = clock
        self._limit = self.max_connections = max_connections
        self._address: Address | None = None
        self._http2_address: Address | None = None
        self._resolving = allocate_lock()

    def forget(self) -> None:
        self._address = self._http2_address = None
        self._resolving = allocate_lock()

    def detached(self) -> Self:
        """Make a transport with the same peer and no connections, for an endpoint that leaves a share."""
        made = type(self)(self._identity, self._limit, self._clock)
        made._address = self._address
        return made

    def _find_address(self) -> Address:
        """Read the settings, which may import botocore."""
        address = Address(resolve(self._identity))
        self.max_connections = self._limit or address.target.limits.max_pool_connections
        return address

    def http2_address(self) -> Address:
        """The peer of conversations, once `resolve` has been called."""
        address = self._http2_address
        if address is None:
            from smendpoint._aws.http2 import http2_target

            assert self._address is not None  # `resolve` came first
            address = self._http2_address = Address(http2_target(self._identity, self._address.target), http2=True)
        return address

    @property
    def credentials(self) -> CredentialProvider:
        assert self._address is not None  # `resolve` came first
        return self._address.target.credentials


def connect_failed(address: Address, error: OSError) -> errors.TransportError:
    """Our error for the operating system's or OpenSSL's, while connecting."""
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        return errors.TLSError(
            f"the certificate of {address.service} is not trusted: {error.verify_message.rstrip('.')}. "
            "Set AWS_CA_BUNDLE if your network re-signs TLS"
        )
    # A connection that was cut off during the handshake says nothing about trust.
    ended = isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError))
    # Older versions of Python have no separate class for this.
    ended = ended or getattr(error, "reason", "") == "UNEXPECTED_EOF_WHILE_READING"
    # Python 3.10 to 3.12 have no name for this alert: `reason` is None.
    if address.http2 and "alert no application protocol" in str(error):
        return no_http2(address)
    if isinstance(error, ssl.SSLError) and not ended:
        reason = str(getattr(error, "reason", None) or error)
        plain = f". {NOT_TLS}" if reason in NO_TLS_REASONS else ""
        return errors.TLSError(f"no TLS connection to {address.service}: {reason}{plain}")
    what = error.strerror or str(error) or type(error).__name__
    # the numbers of TLS and of name lookups are different
    if (error.errno or 0) > 0 and not isinstance(error, ssl.SSLError):
        what = os.strerror(error.errno or 0)  # asyncio has its own words
    return errors.ConnectError(f"no connection to {address.peer}: {what}. {address.advice}")


def no_http2(address: Address) -> errors.TLSError:
    """Our error for a peer that does not choose HTTP/2 in the handshake."""
    return errors.TLSError(
        f"{address.service} does not speak HTTP/2 (it did not choose h2 in ALPN), and converse() needs it: check the "
        "URL, and whether a proxy or balancer on the way ends TLS"
    )


def is_literal(host: str) -> bool:
    """Whether a host is already an address, and needs no lookup."""
    return ":" in host or host.rpartition(".")[2].isdecimal()


def to_try(address: Address, found: Sequence[Any]) -> list[Any]:
    """Put the addresses of a host in the order of attempts.

    The address of the last connection comes first. Then comes the resolver's order, with alternating families (RFC 8305
    section 4), so that a family that does not work here costs only one stagger.

    Args:
        address: the peer.
        found: the addresses from ``getaddrinfo``.

    Raises:
        ConfigurationError: the connection must not leave this machine, and would.
        OSError: there are none.
    """
    if not found:
        raise OSError("the name has no address")
    if address.target.url.loopback_only:
        found = [info for info in found if _is_loopback(info[4][0])]
        if not found:
            raise errors.ConfigurationError(_not_loopback(address))
    if len(found) == 1:
        return list(found)
    family = found[0][0]
    same = [info for info in found if info[0] == family]
    others = [info for info in found if info[0] != family]
    ordered = [info for info in chain.from_iterable(zip_longest(same, others)) if info is not None]
    ordered.sort(key=lambda info: info[4] != address.last_used)  # which is stable
    return ordered


def stagger(seconds: float, count: int) -> float:
    """How long one of `count` addresses has before the next is also tried: the last still has half of the `seconds`."""
    return min(STAGGER_SECONDS, seconds / (2 * count))


def _is_loopback(host: str) -> bool:
    return host.startswith(("127.", "::ffff:127.")) or host == "::1"


def _not_loopback(address: Address) -> str:
    host, proxy = address.target.url.host, address.target.proxy
    cure = "use https, or allow it with allow_plain_http=True"
    if proxy is not None:
        return (
            f"the proxy {proxy.url} is not on this machine: requests to {host} would travel "
            f"unencrypted; set NO_PROXY={host} to go there directly, {cure}"
        )
    return (
        f"{host} is not this machine, despite its name: requests would travel unencrypted; "
        f"use the address 127.0.0.1 if you mean this machine, {cure}"
    )
