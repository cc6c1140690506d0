"""What the blocking and the asyncio transport share: where to connect, how long to wait, and our errors for theirs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from smendpoint import errors
from smendpoint._core.aws.renderer import RequestRenderer
from smendpoint._core.http.syntax import too_large

if TYPE_CHECKING:
    import ssl
    from asyncio import AbstractEventLoop
    from collections.abc import Iterable, Iterator

    from smendpoint._aws import Target
    from smendpoint._core.http.http1 import ResponseReader

RECV_BYTES = 65_536
# A body up to this size goes out in one write together with its head; a larger one is watched for an early answer.
ONE_WRITE_BYTES = 65_536
# An idle connection older than this is not used again: load balancers in front of a service usually close after 60 s.
IDLE_SECONDS = 45.0
# What OpenSSL says of a peer that answers its first message in plain text.
NO_TLS_REASONS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
NOT_TLS = "The server does not speak TLS on this port: the URL must begin with http://, or have another port"


class Address:
    """Where an endpoint's connections go, with what is kept from one to the next.

    Args:
        target: where calls go, and with what.

    Attributes:
        renderer: renders the heads of the requests that go there.
        stood: the socket address that was last connected to.

    Raises:
        ConfigurationError: the proxy is of a kind that is not supported.
    """

    __slots__ = ("_context", "renderer", "stood", "target")

    def __init__(self, target: Target) -> None:
        self.target = target
        self.stood: object = None
        self._context: ssl.SSLContext | None = None
        url, proxy = target.url, target.proxy
        if proxy is not None and proxy.tls:
            raise errors.ConfigurationError(
                f"the proxy {proxy.shown} is itself to be reached over TLS, which is not supported here: give it as "
                "http:// if it takes that, or make a boto3, botocore or aiobotocore client and pass client="
            )
        extra: tuple[tuple[str, str], ...] = (("User-Agent", target.user_agent),)
        prefix = ""
        if proxy is not None and not url.tls:
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
    def service(self) -> str:
        """Host and port of the service, for messages."""
        return f"{self.target.url.host}:{self.target.url.port}"

    @property
    def peer(self) -> str:
        """What a socket is connected to, for messages."""
        proxy = self.target.proxy
        return self.service if proxy is None else f"the proxy {proxy.shown}"

    @property
    def advice(self) -> str:
        """What to check where there is no connection."""
        if self.target.proxy is None:
            return "Check the region, endpoint_url and the network's way to it (VPC endpoint, proxy, security group)"
        return "Check that it runs and is the right one, or except the service with NO_PROXY"

    @property
    def dialled(self) -> tuple[str, int]:
        """Host and port that a socket is connected to: the proxy's, where there is one."""
        end = self.target.proxy or self.target.url
        return end.host, end.port

    async def context_off(self, loop: AbstractEventLoop) -> ssl.SSLContext:
        """`context`, with the certificates read in a thread: that takes some 20 ms."""
        if self._context is not None:
            return self._context
        from smendpoint._transport.threads import off_loop

        return await off_loop(loop, self.context)

    def context(self) -> ssl.SSLContext:
        """The TLS settings, read once: certificate and host name are always checked."""
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
            context.set_alpn_protocols(["http/1.1"])
            # Before TLS 1.3 a peer can begin another handshake in the middle of a request: writing would have to wait.
            context.options |= ssl.OP_NO_RENEGOTIATION
            self._context = context
        return self._context


def connect_failed(address: Address, error: OSError) -> errors.TransportError:
    """Our error for the operating system's or OpenSSL's, while connecting."""
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        return errors.TLSError(
            f"the certificate of {address.service} is not trusted: {error.verify_message}. "
            "Set AWS_CA_BUNDLE if your network re-signs TLS"
        )
    # A connection that was cut during the handshake says nothing about trust.
    if isinstance(error, ssl.SSLError) and not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        reason = str(getattr(error, "reason", None) or error)
        plain = f". {NOT_TLS}" if reason in NO_TLS_REASONS else ""
        return errors.TLSError(f"no TLS connection to {address.service}: {reason}{plain}")
    what = error.strerror or str(error) or type(error).__name__
    if (error.errno or 0) > 0 and not isinstance(error, ssl.SSLError):  # the numbers of TLS and of look-ups are others
        what = os.strerror(error.errno or 0)  # asyncio has words of its own
    return errors.ConnectError(f"no connection to {address.peer}: {what}. {address.advice}")


def connection_lost(error: OSError | None, *, response_started: bool) -> errors.TransportError:
    """Our error for a connection that broke after the request went out; `error` is `None` where the peer closed it."""
    import ssl

    reason = getattr(error, "reason", None) or ""
    if isinstance(error, ssl.SSLError) and not response_started and "ALERT" in reason:
        # In TLS 1.3 a client certificate is judged only after the client's side of the handshake is done.
        return errors.TLSError(f"the service refused the TLS connection ({reason}): check client_cert in config=")
    what = "closed by the peer" if error is None else (error.strerror or type(error).__name__)
    when = "in the middle of the answer" if response_started else "before an answer"
    return errors.TransportError(f"the connection was lost {when}: {what}", response_started=response_started)


def bounded(pieces: Iterable[bytes], limit: int | None) -> Iterator[bytes]:
    """The pieces of an answer that may have `limit` bytes; raises `ProtocolError` where it has more."""
    size = 0
    for piece in pieces:
        size += len(piece)
        if limit is not None and size > limit:
            raise too_large(limit)
        yield piece


def joined(pieces: list[bytes]) -> list[bytes]:
    """The pieces as one, for a list that keeps many: each costs some 33 bytes beside its own."""
    return [b"".join(pieces)] if len(pieces) > 1 else pieces


def died_unheard(error: BaseException) -> bool:
    """Whether a reused connection was lost before any byte of an answer, as an idle one may be at any moment."""
    return type(error) is errors.TransportError and not error.response_started


def out_of_turn(reader: ResponseReader, *, cut_short: bool) -> bool:
    """Whether what came over a reused connection was said about something else than the request on it.

    What comes after the request has gone out passes for its answer, with two exceptions. A 408 that closes the
    connection says that no request has come (RFC 9110 15.5.9; balancers say so when a connection has been idle for too
    long). And no model can have succeeded with an input whose end it has not seen.

    Args:
        reader: has the answer's head.
        cut_short: whether the request had not been sent to its end.
    """
    return (reader.status == 408 and reader.closes) or (cut_short and 200 <= reader.status < 300)
