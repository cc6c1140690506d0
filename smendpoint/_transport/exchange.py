"""One exchange over a connection, whichever twin makes it: sizes, the chunks of a body, and answers out of turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint import errors
from smendpoint._core.http.syntax import too_large

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from smendpoint._core.http.http1 import ResponseReader

RECV_BYTES = 65_536
# A body up to this size goes out in one write together with its head; a larger one is watched for an early answer.
ONE_WRITE_BYTES = 65_536
# An idle connection older than this is not used again: load balancers in front of a service usually close after 60 s.
IDLE_SECONDS = 45.0


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


def bounded(chunks: Iterable[bytes], limit: int | None) -> Iterator[bytes]:
    """The chunks of an answer that may have `limit` bytes; raises `ProtocolError` where it has more."""
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if limit is not None and size > limit:
            raise too_large(limit)
        yield chunk


def joined(chunks: list[bytes]) -> list[bytes]:
    """The chunks as one, for a list that keeps many: each costs some 33 bytes beside its own."""
    return [b"".join(chunks)] if len(chunks) > 1 else chunks


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
