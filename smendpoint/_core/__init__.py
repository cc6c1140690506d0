"""The room that decides: no I/O, no clock, no environment. It may import the standard library and `errors`.

A call passes through it twice. On the way out `aws.operations` checks the request's members, `call.flow` yields each
attempt as a step, and `aws.renderer` writes its signed head. On the way back `http.http1` reads the answer, the
decoders turn a stream's bytes into values, `aws.response` makes an error from a refusal, and `call.retry` decides what
follows.

* `http`: HTTP/1.1 for a client, and its contents.
* `aws`: the operations of the SageMaker runtime, signatures, errors, the event stream.
* `decode`: lines, JSON, server-sent events and text from bytes as they arrive; stop sequences.
* `call`: one call as a generator, with its retries, timeouts and hooks.
* `frozen`: the base class of immutable values.
* `json`: one JSON value, or several, from a text.

Cold starts: a new process, such as an AWS Lambda function's, pays for every import before its first answer. So the
modules that a call loads (here, and in the rooms above) follow these rules; tests/test_imports.py checks them, and
``python -m benchmarks import cold`` measures them.

* A package's ``__init__`` imports none of its modules, unless all of them are needed.
* Modules that not every call needs are imported on use: ``re``, ``datetime``, for the decoders ``json``, and our own
  modules for errors, streams and pages.
* ``_thread`` replaces ``threading``, and nothing imports ``dataclasses``, ``enum``, ``hmac`` or ``urllib``.
* ``logging`` is taken from ``sys.modules``: if nothing has imported it, nothing can listen.
* A module with a ``NamedTuple`` does not use ``from __future__ import annotations``: each text annotation would be
  compiled, and the first one takes a process a millisecond.
"""
