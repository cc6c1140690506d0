"""The room that decides: no I/O, no clock, no environment. It may import the standard library and `errors`.

A call passes through it twice. On the way out `aws.operations` checks the request's members, `call.flow` yields each
attempt as a step, and `aws.renderer` writes its signed head. On the way back `http.http1` reads the answer, the
decoders turn a stream's bytes into values, `aws.response` makes an error of a refusal, and `call.retry` decides what
follows it.

* `http`: HTTP/1.1 as a client speaks it, and what it carries.
* `aws`: the operations of the SageMaker runtime, signatures, errors, the event stream.
* `decode`: lines, JSON, server-sent events and text from bytes as they arrive; stop sequences.
* `call`: one call as a generator, with its retries, timeouts and hooks.
* `frozen`: the base of values that never change.
* `json`: one JSON value, or several, of a text.

Cold starts: a new process, such as an AWS Lambda function's, pays for every import before its first answer. So what is
loaded for a call (here, and in the rooms above) keeps these rules; tests/test_imports.py holds them, and
``python -m benchmarks import cold`` measures them.

* A package's ``__init__`` imports none of its modules, unless all of them are needed.
* What not every call needs is imported where it is needed: ``re``, ``datetime``, for the decoders ``json``, and our own
  modules for errors, streams and pages.
* ``_thread`` stands for ``threading``, and nothing imports ``dataclasses``, ``enum``, ``hmac`` or ``urllib``.
* ``logging`` is taken from ``sys.modules``: where nothing has imported it, nothing can listen.
* A module with a ``NamedTuple`` is without ``from __future__ import annotations``: each annotation that is text would
  be compiled, and the first of them takes a process a millisecond.
"""
