"""Push decoders for the formats that models stream, each usable on its own.

A push decoder never waits: it takes bytes as they arrive, cut anywhere, and returns the items that they complete. So
the same decoder works with sockets, files, threads and event loops::

    decoder = SSEDecoder()
    for data in pieces:                  # bytes from any source
        for event in decoder.feed(data):
            ...
    for event in decoder.finish():       # raises if the input is incomplete
        ...

=========================  ==================================  ============================================
decoder                    reads                               gives
=========================  ==================================  ============================================
`EventStreamDecoder`       AWS event-stream frames             `Message`; with `feed_parts` payload bytes
`SSEDecoder`               server-sent events                  `ServerSentEvent`
`JSONLinesDecoder`         a JSON value on each line           the values
`LineDecoder`              lines that end with LF or CR LF     ``bytes`` without the line end
`TextDecoder`              text in strict UTF-8                ``str``
`AutoDecoder`              events, JSON or text, as they come  `ServerSentEvent`, a JSON value or ``str``
=========================  ==================================  ============================================

All of them keep three promises. Where the bytes are cut does not change the result. For any bytes, the only
exception is a `smendpoint.errors.StreamError`. And no decoded item is lost: `feed` returns the items before a failure,
and the next call raises the failure (`error` holds it without another call).

`StopMatcher` ends a text at stop sequences, across any cuts. `encode` makes event-stream frames, and `interpret` reads
a frame as part of the answer of ``InvokeEndpointWithResponseStream``.
"""

from __future__ import annotations

from ._core.aws.eventheaders import Byte, HeaderValue, Long, Short, Timestamp, Uuid
from ._core.aws.eventstream import EventStreamDecoder, Message, encode, interpret
from ._core.decode.auto import AutoDecoder
from ._core.decode.lines import JSONLinesDecoder, LineDecoder, TextDecoder
from ._core.decode.sse import ServerSentEvent, SSEDecoder
from ._core.decode.stop import StopMatcher

__all__ = [
    "AutoDecoder",
    "Byte",
    "EventStreamDecoder",
    "HeaderValue",
    "JSONLinesDecoder",
    "LineDecoder",
    "Long",
    "Message",
    "SSEDecoder",
    "ServerSentEvent",
    "Short",
    "StopMatcher",
    "TextDecoder",
    "Timestamp",
    "Uuid",
    "encode",
    "interpret",
]
