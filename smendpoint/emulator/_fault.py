"""The parts of a fault."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

from smendpoint.emulator._reply import Action, ByteStream, Reply, Steps, play
from smendpoint.emulator._route import Kind
from smendpoint.emulator._talk import Talk, TalkSteps, events_of

ALL: frozenset[Kind] = frozenset({"invoke", "stream", "async", "openai"})
"""The kinds of requests whose responses can have any fault of HTTP."""

MODEL: frozenset[Kind] = frozenset({"invoke", "stream", "openai"})
"""The kinds that a model answers immediately."""

STREAM: frozenset[Kind] = frozenset({"stream", "openai"})
"""The kinds with streamed answers; the OpenAI path streams when its request says so."""

FRAMES: frozenset[Kind] = frozenset({"stream"})
"""The kind with answers in event-stream frames."""

ANSWERED: frozenset[Kind] = frozenset({*ALL, "converse"})
"""The kinds whose answers can be replaced."""

CONVERSE: frozenset[Kind] = frozenset({"converse"})
"""The kind of bidirectional streams, over HTTP/2."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, or just strangely, with one response.

    Attributes:
        name: the name for ``Emulator.inject``; ``<n>`` in it stands for a number.
        description: the effect on the wire.
        operations: the kinds of requests that it affects: ``invoke``, ``stream``, ``async``, ``openai``,
            ``converse``.
        harmless: whether a careful client still gets the whole answer, perhaps with a retry.
        examples: names to try it with: the name itself, or some with numbers filled in.
        times: how many requests it affects, if its name says so; ``None`` for all.
        skew: how far the server's clock is off, in seconds.
        refuses: whether every connection is refused.
        early: the answer that is sent before the body of the request is read.
        early_reset: whether the connection is reset after that answer, while the body is still arriving.
        answer: replaces the model's answer; its arguments tell whether a stream is requested, and whether in frames.
        change: changes the parts of the model's answer; a plain answer is one part.
        play: plays the response; by default properly.
        converse: plays the answer of a bidirectional stream; by default properly. After the last step it ends properly,
            if no step has ended it.
        window_closed: whether the client of a bidirectional stream may never send more than its first window allows.
        after: the action on the connection after a whole response.
        on_reuse: whether ``after`` waits for the first bytes of the next request.
        pattern: the pattern of the names of a fault with numbers.
        fill: returns the changes to this fault for the numbers in a matching name.
    """

    name: str
    description: str
    operations: frozenset[Kind] = ALL
    harmless: bool = False
    examples: tuple[str, ...] = ()
    times: int | None = None
    skew: float = 0.0
    refuses: bool = False
    early: Callable[[], Reply] | None = None
    early_reset: bool = False
    answer: Callable[[bool, bool], Reply] | None = None
    change: Callable[[ByteStream], ByteStream] | None = None
    play: Callable[[Reply], Steps] = play
    converse: Callable[[Talk], TalkSteps] = events_of
    window_closed: bool = False
    after: Action | None = None
    on_reuse: bool = False
    pattern: str = ""
    fill: Callable[[re.Match[str]], dict[str, Any]] | None = None

    def __post_init__(self) -> None:
        if not self.examples:
            object.__setattr__(self, "examples", (self.name,))


NO_FAULT = Fault("", "the proper response")

First = TypeVar("First")
Result = TypeVar("Result")
Options = ParamSpec("Options")


def configurable(
    function: Callable[Concatenate[First, Options], Result],
) -> Callable[Options, Callable[[First], Result]]:
    """Turn ``function(first, *options)`` into a function of the options that returns a function of ``first``."""
    return lambda *args, **kwargs: lambda first: function(first, *args, **kwargs)
