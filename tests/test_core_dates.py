"""Numbers and moments: read in every form that HTTP allows, ``None`` for everything else."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smendpoint._core.aws.response import epoch, http_date, whole_number

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    "date",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "sun, 06 NOV 1994 08:49:37 gmt",
    ],
)
def test_a_date_is_read_in_the_three_forms_of_http(date: str) -> None:
    assert http_date(date) == NOW


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_799.0),
        ("Thursday, 01-Jan-69 00:00:00 GMT", 3_124_224_000.0),
        ("Sun, 31 Feb 2016 00:00:00 GMT", None),
        ("Sun, 06 Nov 1994 08:49:61 GMT", None),
        ("Sun, 06 Nov 1994 24:00:00 GMT", None),
        ("Sun, 06 Nov 1994 08:49 GMT", None),
        ("Sun, 06 Foo 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 CET", None),
        ("Sun, 06 Nov 0000 08:49:37 GMT", None),
        ("Sun, 06 Nov 999999999999999999 08:49:37 GMT", None),
        ("Sun, x Nov 1994 08:49:37 GMT", None),
        ("", None),
    ],
)
def test_a_date_that_does_not_exist_is_none(date: str, seconds: float | None) -> None:
    assert http_date(date) == seconds


@given(st.integers(0, 4_000_000_000))
def test_every_date_that_a_server_writes_is_read(seconds: int) -> None:
    assert http_date(formatdate(seconds, usegmt=True)) == seconds


@given(st.text(max_size=40) | st.text("0123456789: -,GMTNovSun", max_size=40))
def test_any_text_is_a_date_or_none(text: str) -> None:
    assert http_date(text) is None or isinstance(http_date(text), float)
    assert epoch(text.split(":")) is None or len(text.split(":")) == 6


@pytest.mark.parametrize(
    ("value", "number"), [(5, 5), ("05", 5), ("", None), ("+5", None), ("\xb2", None), (None, None)]
)
def test_a_whole_number_is_digits_and_nothing_else(value: object, number: int | None) -> None:
    assert whole_number(value) == number
