"""Our errors for those of the operating system and of OpenSSL."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from smendpoint import errors

if TYPE_CHECKING:
    from smendpoint._transport.address import Address

# What OpenSSL says of a peer that answers its first message in plain text.
NO_TLS_REASONS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
NOT_TLS = "The server does not speak TLS on this port: the URL must begin with http://, or have another port"


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
