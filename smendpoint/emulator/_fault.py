"""The parts of a fault."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

from smendpoint.emulator._reply import Action, ByteStream, Reply, Steps, play
from smendpoint.emulator._route import Kind

ALL: frozenset[Kind] = frozenset({"invoke", "stream", "async", "openai"})
"""The kinds of requests whose responses can have any fault of HTTP."""

MODEL: frozenset[Kind] = frozenset({"invoke", "stream", "openai"})
"""The kinds that a model answers at once."""

STREAM: frozenset[Kind] = frozenset({"stream", "openai"})
"""The kinds with streamed answers; the OpenAI path streams when its request says so."""

FRAMES: frozenset[Kind] = frozenset({"stream"})
"""The kind whose answers come in event-stream frames."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, or just strangely, with one response.

    Attributes:
        name: as given to ``Emulator.inject``; ``<n>`` in it stands for a number.
        description: what goes on the wire.
        operations: for which kinds of request it is played: ``invoke``, ``stream``, ``async``, ``openai``.
        harmless: whether a careful client still gets the whole answer, perhaps with a retry.
        examples: the names to try it by: the name itself, or some with numbers filled in.
        times: for how many requests it is played, where its name says so; ``None`` for all.
        skew: how far the server's clock is off, in seconds.
        refuses: whether no connection is taken at all.
        early: the answer that is sent before the body of the request is read.
        early_reset: whether the connection is reset after that answer, while the body is still coming.
        answer: the answer in place of the model's; it gets whether a stream is asked for, and whether in frames.
        change: changes the parts of the model's answer; a plain answer is one part.
        play: plays the response; by default the proper way.
        after: what happens to the connection after a whole response.
        on_reuse: whether ``after`` waits for the first bytes of the next request.
        pattern: what the names of a fault with numbers match, as a whole.
        fill: gives what the numbers of a matching name change in this fault.
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
    """Turn ``function(first, *options)`` into a function of the options, which gives a function of ``first``."""
    return lambda *args, **kwargs: lambda first: function(first, *args, **kwargs)
