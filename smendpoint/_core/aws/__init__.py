"""The definitions of AWS: the operations of the SageMaker runtime, signatures, errors, the event stream.

`operations` has the members of each operation and makes a request's path and headers of them; `renderer` adds what an
attempt needs and the signature of `sigv4`. `response` makes the error that an answer stands for, and reads the numbers
and moments in it. `eventstream` and `eventheaders` are the framing of streams. It may import `http` and the decoders;
of `call` it needs types alone.
"""
