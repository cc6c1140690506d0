"""Numbers and moments as headers and JSON spell them: a value, or ``None``, never an exception."""

from __future__ import annotations

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def whole_number(value: object) -> int | None:
    """Make an ``int``, or the digits of one; ``None`` for everything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    # Eighteen digits are more than any status or wait needs, and far below what Python refuses to convert.
    if isinstance(value, str) and len(value) <= 18 and value.isascii() and value.isdigit():
        return int(value)
    return None


def http_date(value: str) -> float | None:
    """Give the epoch seconds of an HTTP date (RFC 9110 section 5.6.7, all three forms)."""
    words = value.replace("-", " ").replace(",", " ").split()
    if len(words) == 6 and words[5].upper() == "GMT":
        # Sun, 06 Nov 1994 08:49:37 GMT, and the obsolete Sunday, 06-Nov-94 08:49:37 GMT
        day, month, year, clock = words[1:5]
    elif len(words) == 5:
        # The obsolete Sun Nov  6 08:49:37 1994
        month, day, clock, year = words[1:5]
    else:
        return None
    number = _MONTHS.index(month.lower()) + 1 if month.lower() in _MONTHS else 0
    return epoch([year, str(number), day, *clock.split(":")])


def epoch(fields: list[str]) -> float | None:
    """Give the seconds since the epoch of year, month, day, hour, minute and second, in UTC."""
    numbers = [number for number in map(whole_number, fields) if number is not None]
    if len(numbers) != len(fields) or len(numbers) != 6:
        return None
    if len(fields[0]) == 2:
        # The century of a year of two digits is that of RFC 6265: the service began well after 1970.
        numbers[0] += 2000 if numbers[0] < 70 else 1900
    from datetime import datetime, timezone  # only errors and stateful sessions have dates

    year, month, day, hour, minute, second = numbers
    try:
        # 60 is a leap second, which a clock that counts seconds since the epoch does not have.
        return datetime(year, month, day, hour, minute, 59 if second == 60 else second, tzinfo=timezone.utc).timestamp()
    except (ValueError, OverflowError):
        return None
