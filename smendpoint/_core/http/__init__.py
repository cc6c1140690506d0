"""HTTP/1.1 without I/O: what a client must write, read and refuse.

`http1` reads a response from bytes, strictly. `syntax` has the syntax of its parts, and writes the head of a request.
`proxy` is the value of a proxy's URL, `body` the body for handlers, and `unexpected` refuses successes that were not
requested. This package imports nothing else from `_core`.
"""
