"""The definitions of AWS: the operations of the SageMaker runtime, signatures, errors, the event stream.

`operations` has the members of each operation and makes a request's path and headers from them. `renderer` adds the
headers of an attempt, and the signature of `sigv4`. `response` makes the error for an answer, and reads the numbers and
times in it. `eventstream` and `eventheaders` are the framing of streams. This package may import `http` and the
decoders; from `call` it needs only types.
"""
