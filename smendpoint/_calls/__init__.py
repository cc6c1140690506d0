"""The room of calls, above the transport: from an input to a request, and from an answer to an output.

`Endpoint` and `AsyncEndpoint` each have a `Caller` or `AsyncCaller`, and hand it to the streams, sessions and handles
that they give. A call passes through in four steps:

* `request`: the content handler makes a body of the input; members and headers are checked;
* `start`: the call's time begins; the first call also looks up where calls go;
* `run`: a driver has the transport perform the steps of the call's flow, until there is an answer;
* `output` (or a `Pipeline`, for a stream): the content handler makes an output of the answer.

`methods` has `invoke`, `send` and `stream`, which endpoints and sessions share. `base` has the half of the callers that
does not wait, `caller` the rest. This room may import every room below: `_core`, `handlers`, `_aws`, `_transport`, and
never an endpoint. Streams, sessions, handles and fan-outs are imported by the first call that needs them: this file
imports nothing.
"""
