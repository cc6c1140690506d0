"""HTTP/1.1 without I/O: what a client must write, read and refuse.

`http1` reads a response from bytes, strictly, by the `syntax` of its parts, which also writes the head of a request;
`proxy` is the value of a proxy's URL. `body` is the body as handlers get it, and `unexpected` refuses successes that
were not asked for. It imports nothing else of `_core`.
"""
