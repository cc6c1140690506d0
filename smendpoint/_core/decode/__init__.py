"""Push decoders: bytes in as they arrive, items out, without I/O. `smendpoint.decoders` makes them public.

`push` has their common rule: deliver first, then fail. `lines` reads lines, JSON lines and plain text, `sse` reads
server-sent events; `auto` recognises which of these a stream is, or a JSON document. `stop` ends a text at stop
sequences. They import `errors`, `json` and one another, and nothing else from `_core`.

The bytes of a stream's answer pass first through `aws.eventstream`, then through the handler's decoder, which is based
on `auto` and `sse`, and finally, as text, through `stop`.
"""
