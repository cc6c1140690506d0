"""Push decoders: bytes in as they arrive, items out, without I/O. `smendpoint.decoders` makes them public.

`push` has the rule of them all: deliver first, then fail. `lines` reads lines, JSON lines and plain text, `sse`
server-sent events; `auto` recognises which of these a stream is, or a JSON document. `stop` ends a text at stop
sequences. They import `errors`, `json` and one another, nothing else of `_core`.

The bytes of a stream's answer pass through `aws.eventstream` first, then through the handler's decoder, which stands on
`auto` and `sse`, and last, as text, through `stop`.
"""
