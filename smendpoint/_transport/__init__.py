"""The room that waits: sockets, event loops, other libraries' clients, and the storage of asynchronous inference.

It decides nothing: a call's flow in `_core` yields steps, a driver (`drivers`) has a transport perform each, and the
flow gets the outcome or the error. Each twin has two transports: one with its own connections (`blocking`, `aio`), and
one that goes through the user's client (`clients`). Both return the answer, or a source of its bytes.

This room may import `_core`, `_aws` and `errors`. Nothing here is imported until a call needs it: this file imports
nothing. The Protocols below document the common methods of the transports and their sources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping
    from typing import Any, Protocol

    from smendpoint._aws import Target
    from smendpoint._core.aws.conversation import PartEncoder
    from smendpoint._core.aws.renderer import CallRequest
    from smendpoint._core.call.flow import CredentialSource, Send
    from smendpoint._core.call.timing import Timeout
    from smendpoint._transport.deadline import Cancellation
    from smendpoint.errors import EndpointError

    class _AnySource(Protocol):
        status: int
        headers: Mapping[str, str]

        def close(self) -> None:
            """Release the connection. Unread bytes are lost. Closing twice does nothing."""
            ...

    class Source(_AnySource, Protocol):
        """The body of a streamed answer. One thread reads; any thread may close."""

        def read(self) -> bytes:
            """Wait for the next bytes; empty when the answer has properly ended, or the source was closed.

            Raises:
                EndpointError: the answer did not end properly, or nothing arrived in time.
            """
            ...

    class AsyncSource(_AnySource, Protocol):
        """The body of a streamed answer, for asyncio."""

        async def read(self) -> bytes:
            """See `Source.read`."""
            ...

        def abandon(self) -> None:
            """Close at the loop's next turn: for the garbage collector, which calls at any moment, in any thread."""
            ...

    class _LineState(Protocol):
        headers: Mapping[str, str]
        """The headers of the answer; none before they have arrived."""

        begun: bool
        """Whether the answer has begun, with a head that was asked for."""

        failure: EndpointError | None
        """The error that ended both directions."""

        cut: bool
        """Whether something that was queued was not sent, because both directions were over."""

    class _AnyLine(Protocol):
        """The two directions of a conversation, over a connection of its own. It begins when its request has gone out.

        After its failure, each method raises the same error; bytes that arrived before the failure are read first.
        """

        status: int
        """A success, for the call's flow: the service's own may come after the first parts."""

        encoder: PartEncoder
        """Makes the signed parts."""

        stream: _LineState
        """The state of both directions."""

        def check_owner(self) -> None:
            """Raise `TransportError` in a forked child, and under asyncio on another event loop."""

        def queue(self, pieces: Iterable[bytes | memoryview], *, end: bool = False) -> None:
            """Send bytes, as far as that is possible at once; the rest follows by itself while somebody waits.

            Args:
                pieces: the bytes, in order. They are not copied: do not change them before they are sent.
                end: whether they are the last ones.
            """

        def close(self) -> None:
            """Give up both directions, and close the connection. Any thread may; closing twice does nothing."""

    class Line(_AnyLine, Protocol):
        """A conversation's connection: one thread at a time sends, another one reads."""

        def drain(self) -> None:
            """Wait until everything that was queued has been sent, or the service has ended its answer.

            Raises:
                EndpointError: the conversation failed, or the service read nothing in time.
            """

        def receive(self) -> bytes:
            """Wait for the next bytes; empty when the answer has properly ended.

            Raises:
                EndpointError: the service refused the request, the answer did not end properly, or nothing arrived in
                    time.
            """
            ...

    class AsyncLine(_AnyLine, Protocol):
        """A conversation's connection, for asyncio: one task at a time sends, another one reads."""

        async def drain(self) -> None:
            """See `Line.drain`."""

        async def receive(self) -> bytes:
            """See `Line.receive`."""
            ...

        def abandon(self) -> None:
            """See `AsyncSource.abandon`."""

    class _AnyTransport(Protocol):
        max_connections: int | None
        """How many may be open at once (asyncio: on one loop); `None` for no limit."""

        @property
        def credentials(self) -> CredentialSource | None:
            """The source of credentials for calls, once `resolve` has been called; `None` if a client signs."""
            ...

        def forget(self) -> None:
            """After a fork, in the child: start afresh, without the parent's connections, locks and event loops."""
            ...

    class Transport(_AnyTransport, Protocol):
        """Performs the steps of blocking calls. Many threads use one at the same time."""

        stoppable: bool
        """Whether stopping a `Cancellation` ends a call in flight."""

        def resolve(self) -> Target | None:
            """Find out where calls go, once; `None` if a client knows. The first call needs it.

            This reads files, and may import botocore.

            Raises:
                ConfigurationError: there is no region, or a setting cannot be applied.
                CredentialsError: credentials are malformed.
            """
            ...

        def refresh_ahead(self) -> None:
            """Renew credentials that expire soon, in the background; no call waits for it.

            If no thread can be started, the call that finds them expired renews them.
            """
            ...

        def perform(self, step: Any, request: CallRequest, timeout: Timeout, cancellation: Cancellation | None) -> Any:
            """Perform one step of a call's flow, and return its outcome.

            The outcome of a `Send` is a `RawResponse`, or a `Source` if the request asks for a stream and gets one.
            """
            ...

        def close(self) -> None:
            """Close idle connections; those in use are closed when their calls end. A user's client stays open."""
            ...

    class AsyncTransport(_AnyTransport, Protocol):
        """Performs the steps of calls under asyncio, on whatever event loop is running."""

        async def resolve(self) -> Target | None:
            """See `Transport.resolve`. All first calls share one lookup, in a thread."""
            ...

        async def refresh_ahead(self) -> None:
            """See `Transport.refresh_ahead`."""
            ...

        def perform(self, step: Any, request: CallRequest, timeout: Timeout) -> Awaitable[Any]:
            """See `Transport.perform`; a stream is an `AsyncSource`."""
            ...

        async def close(self) -> None:
            """Close every connection, including those in use: their calls fail. A user's client stays open."""
            ...

    class ConversingTransport(Transport, Protocol):
        """A transport with its own connections."""

        def converse(self, step: Send, request: CallRequest, timeout: Timeout, cancellation: Cancellation) -> Line:
            """Perform the `Send` of a conversation: connect, and send the head of the request."""
            ...

    class AsyncConversingTransport(AsyncTransport, Protocol):
        """A transport with its own connections, for asyncio."""

        async def converse(self, step: Send, request: CallRequest, timeout: Timeout) -> AsyncLine:
            """See `ConversingTransport.converse`."""
            ...
