"""Stop sequences: literal, across cuts, the first that begins counts."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smendpoint._core.decode.stop import StopMatcher
from smendpoint.errors import ConfigurationError


def run(stop: list[str], pieces: Iterable[str]) -> tuple[str, bool]:
    matcher = StopMatcher(stop)
    out = "".join([matcher.feed(piece) for piece in pieces])
    return out + matcher.finish(), matcher.hit


def by_the_letter(stop: list[str], text: str) -> tuple[str, bool]:
    found = [text.find(item) for item in stop if item in text]
    return (text[: min(found)], True) if found else (text, False)


@pytest.mark.parametrize(
    ("stop", "text", "expected"),
    [
        ([], "anything", "anything"),
        (["x"], "", ""),
        (["STOP"], "no end", "no end"),
        (["STOP"], "an end STOP here", "an end "),
        (["STOP"], "STOP", ""),
        (["STOP"], "STO", "STO"),
        (["STOP"], "stop", "stop"),
        ([".*"], "a.b.*c", "a.b"),
        (["\n\n", "END"], "a\nEND\n\n", "a\n"),
        (["b", "abc"], "xabc", "x"),
        (["b", "abc"], "xabd", "xa"),
        (["b", "abc"], "xab", "xa"),
        (["ab", "abc"], "xabc", "x"),
        (["aab"], "aaab", "a"),
        (["abab!", "bab?"], "ababab?", "aba"),
        (["\u00e9\U0001f600"], "caf\u00e9\U0001f600", "caf"),
    ],
)
def test_the_text_ends_where_the_first_stop_sequence_begins(stop: list[str], text: str, expected: str) -> None:
    hit = expected != text
    assert run(stop, [text]) == (expected, hit)
    assert run(stop, text) == (expected, hit)
    for place in range(len(text)):
        assert run(stop, [text[:place], text[place:]]) == (expected, hit)


SMALL = st.text("ab", max_size=30)


@given(st.lists(st.text("ab", min_size=1, max_size=6), max_size=4), SMALL, st.lists(st.integers(0, 5), max_size=30))
def test_the_outputs_together_are_the_text_up_to_the_first_stop_sequence(
    stop: list[str], text: str, sizes: list[int]
) -> None:
    pieces: list[str] = []
    rest = text
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    assert run(stop, [*pieces, rest]) == by_the_letter(stop, text)


@given(st.lists(st.text("ab", min_size=1, max_size=6), min_size=1, max_size=4), SMALL)
def test_text_that_cannot_be_part_of_a_stop_sequence_is_given_at_once(stop: list[str], text: str) -> None:
    matcher = StopMatcher(stop)
    out = ""
    for end in range(1, len(text) + 1):
        out += matcher.feed(text[end - 1])
        seen = text[:end]
        if matcher.hit:
            break
        # Where the text could still turn out to end: the starts of what may become, or is, a stop sequence.
        starts = [place for place in range(end) for item in stop if item.startswith(seen[place:])]
        found = [place for place in range(end) for item in stop if seen.startswith(item, place)]
        assert out == seen[: min(starts + found, default=end)]


@given(st.lists(st.text("ab", min_size=1, max_size=6), min_size=1, max_size=4), SMALL)
def test_a_hit_is_known_as_soon_as_no_earlier_one_can_follow(stop: list[str], text: str) -> None:
    matcher = StopMatcher(stop)
    for end in range(1, len(text) + 1):
        matcher.feed(text[end - 1])
        found = [start for start in range(end) for item in stop if text.startswith(item, start, end)]
        starts = [start for start in range(end) for item in stop if item.startswith(text[start:end])]
        assert matcher.hit is (bool(found) and all(start >= min(found) for start in starts))
        if matcher.hit:
            break


def test_nothing_is_given_after_a_hit() -> None:
    matcher = StopMatcher(["."])
    assert matcher.feed("one. two") == "one"
    assert matcher.hit
    assert matcher.feed(" three") == ""
    assert matcher.finish() == ""


def test_finish_gives_the_text_that_was_held_back_once() -> None:
    matcher = StopMatcher(["</s>"])
    assert matcher.feed("one</s") == "one"
    assert matcher.finish() == "</s"
    assert matcher.finish() == ""


@pytest.mark.parametrize("piece", [1, 1000, 10**6])
def test_hostile_stop_sequences_take_linear_time(piece: int) -> None:
    # A matcher that begins anew at each character would do 5e9 comparisons here.
    length, text = 50_000, "a" * 100_000
    stop = ["a" * length + "b", "a" * (length // 2) + "c"]
    assert run(stop, (text[place : place + piece] for place in range(0, len(text), piece))) == (text, False)
    assert run(stop, [text, "b"]) == (text[length:], True)


@pytest.mark.parametrize("stop", ["STOP", b"STOP", [""], [b"x"], ["x", None]])
def test_other_values_than_stop_sequences_are_refused(stop: list[str]) -> None:
    with pytest.raises(ConfigurationError):
        StopMatcher(stop)
