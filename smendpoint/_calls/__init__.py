"""The room of calls, above the transport: from an input to a request, and from an answer to an output.

An `Endpoint` has a `Caller`, and an `AsyncEndpoint` an `AsyncCaller`. Their streams, sessions and handles use the same
one. A call takes four steps:

* `request`: the content handler makes a body from the input; members and headers are checked;
* `start`: the call's time begins; the first call also looks up where calls go;
* `run`: a driver has the transport perform the steps of the call's flow, until there is an answer;
* `output` (or a `Pipeline`, for a stream): the content handler makes an output from the answer.

`methods` has `invoke`, `send` and `stream`, which endpoints and sessions share. `base` has the half of the callers that
does not wait, and `caller` the rest. This room may import every room below (`_core`, `handlers`, `_aws`, `_transport`),
but never an endpoint. The first call that needs a stream, session, handle or fan-out imports its module; this file
imports nothing.
"""
