"""Rules of members: exactly the texts that the service model's pattern takes and a header can carry."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smendpoint._core.request import OPERATIONS
from smendpoint._core.request_rules import Member, Rule
from smendpoint.errors import ConfigurationError

# Members that share a rule and its limits are one case.
TEXTS = {member: name for operation in OPERATIONS for name, member in operation.members.items() if not member.number}


def as_python(pattern: str) -> re.Pattern[str]:
    """A pattern of the model, to be matched as a whole, as the service does."""
    return re.compile(
        pattern.replace(r"\p{ASCII}", r"[\x00-\x7f]").replace(r"[\p{Print}]", r"[ -~]").replace(r"\z", r"\Z")
    )


interesting = st.text(st.sampled_from("aZ09-_. /:'!()*s3htp~é\u0663\u0130\n\r\x00\x7f\tNEWSION"), max_size=12)
near_misses = st.one_of(
    interesting,
    st.text(max_size=70),
    st.sampled_from(
        ["NEW_SESSION", "NEW_SESSION ", "a_b", "s3://b/k", "s3:///k", "https://h", "http://h", "s3:x", "a.b.c"]
    ),
    st.tuples(st.sampled_from(["s3://", "https://", "a", "-", " "]), interesting).map("".join),
    st.integers(60, 70).map(lambda size: "a" * size),
)


@pytest.mark.parametrize(("member", "name"), TEXTS.items(), ids=TEXTS.values())
def test_a_text_is_taken_exactly_when_the_models_pattern_and_a_header_take_it(member: Member, name: str) -> None:
    pattern = as_python(member.rule.pattern)

    @given(near_misses)
    def agrees(value: str) -> None:
        fits = (
            max(member.minimum, 1) <= len(value) <= member.maximum
            and pattern.fullmatch(value) is not None
            # A header can carry no more than this, whatever the pattern says.
            and all(" " <= character <= "~" for character in value)
        )
        assert taken(member, name, value) == fits

    agrees()


def taken(member: Member, name: str, value: object) -> bool:
    try:
        return member.render(name, value) == str(value)
    except ConfigurationError:
        return False


def test_every_text_rule_is_tried() -> None:
    rules = {member.rule for operation in OPERATIONS for member in operation.members.values() if not member.number}
    assert rules == {member.rule for member in TEXTS}
    assert all(isinstance(rule, Rule) and rule.form for rule in rules)


@pytest.mark.parametrize("value", [1, 5, 10])
def test_a_number_within_its_limits_is_rendered(value: int) -> None:
    rule = Rule("", frozenset("0123456789"), "an int", bool)
    assert Member("X", rule, 1, 10, number=True).render("x", value) == str(value)


def test_an_int_of_another_class_is_rendered_as_its_digits() -> None:
    class Seconds(int):
        def __str__(self) -> str:
            return "many\r\n"

    rule = Rule("", frozenset("0123456789"), "an int", bool)
    assert Member("X", rule, 1, 100, number=True).render("x", Seconds(60)) == "60"


def test_a_text_of_another_class_is_checked_by_what_it_holds() -> None:
    class Shown(str):
        def __str__(self) -> str:
            return "other\r\n"

    member = next(member for member, name in TEXTS.items() if name == "ContentType")
    rendered = member.render("ContentType", Shown("text/csv"))
    assert f"{rendered}" == "text/csv"
