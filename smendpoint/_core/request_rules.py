"""What the texts and numbers of request members must look like.

Each rule is a set of characters and a plain function instead of the service model's regular expression: nothing here
backtracks, and ``re`` need not be imported. The patterns stand beside them, to be compared with the installed model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ALNUM",
    "COMPONENT",
    "DIGITS",
    "EXTENSION",
    "FILE",
    "FREE_TEXT",
    "ID",
    "LABEL",
    "LOCATION",
    "NAME",
    "NAME_FORM",
    "NEW_SESSION",
    "NUMBER",
    "SESSION",
    "TEXT",
    "Member",
    "Rule",
    "alnum_ends",
    "plain",
]

DIGITS = frozenset("0123456789")
ALNUM = DIGITS | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
LABEL = ALNUM | {"-"}
_FILENAME = ALNUM | frozenset("-_.")
_S3_PATH = ALNUM | frozenset("!_.*'()/-")
_VISIBLE = frozenset(map(chr, range(0x20, 0x7F)))


def plain(text: str) -> str:
    """The same text as a ``str`` proper: a subclass, such as an ``Enum``, may format as something else."""
    return str.__str__(text)


class Rule:
    """What a member's text must look like.

    Attributes:
        pattern: the service model's pattern, as it stands there; empty for numbers.
        alphabet: every character that may occur.
        form: the rule in words, to go after "must be".
        holds: what is beyond length and alphabet.
    """

    __slots__ = ("alphabet", "form", "holds", "pattern")

    def __init__(self, pattern: str, alphabet: frozenset[str], form: str, holds: Callable[[str], bool]) -> None:
        self.pattern = pattern
        self.alphabet = alphabet
        self.form = form
        self.holds = holds


def _any(_value: str) -> bool:
    return True


def alnum_ends(value: str) -> bool:
    return value[0] in ALNUM and value[-1] in ALNUM


def _no_leading_space(value: str) -> bool:
    return value[0] != " "


def _is_session(value: str) -> bool:
    return value == "NEW_SESSION" or ("_" not in value and alnum_ends(value))


def _is_filename(value: str) -> bool:
    return value[0] in ALNUM and value.count(".") <= 1


def _is_location(value: str) -> bool:
    scheme, separator, rest = value.partition("://")
    return scheme in ("https", "s3") and separator != "" and rest[:1] not in ("", "/")


NAME_FORM = "letters, digits and hyphens, with a letter or digit at both ends"
_TEXT_FORM = "visible ASCII characters and spaces"
_ID_FORM = "visible ASCII characters, not starting with a space"

TEXT = Rule(r"\p{ASCII}*", _VISIBLE, _TEXT_FORM, _any)
FREE_TEXT = Rule(".*", _VISIBLE, _TEXT_FORM, _any)
ID = Rule(r"\A\S[\p{Print}]*\z", _VISIBLE, _ID_FORM, _no_leading_space)
# The model leaves the end of these open ("^...", no "$"); the service names that they refer to are closed.
NAME = Rule("^[a-zA-Z0-9](-*[a-zA-Z0-9])*", LABEL, NAME_FORM, alnum_ends)
COMPONENT = Rule(r"^[a-zA-Z0-9]([\-a-zA-Z0-9]*[a-zA-Z0-9])?$", LABEL, NAME_FORM, alnum_ends)
SESSION = Rule("^[a-zA-Z0-9](-*[a-zA-Z0-9])*$", LABEL, f"a session id: {NAME_FORM}", alnum_ends)
NEW_SESSION = Rule(
    "^(NEW_SESSION)$|^[a-zA-Z0-9](-*[a-zA-Z0-9])*$",
    LABEL | {"_"},
    f"NEW_SESSION or a session id: {NAME_FORM}",
    _is_session,
)
FILE = Rule(
    r"^(?!.*\..*\.)[a-zA-Z0-9][a-zA-Z0-9-_\.]*$",
    _FILENAME,
    "letters, digits, '-', '_' and at most one '.', starting with a letter or digit",
    _is_filename,
)
EXTENSION = Rule(r"^(?!s3:|https:)[a-zA-Z0-9!_.*'()/-]+$", _S3_PATH, "letters, digits and !_.*'()/-", _any)
LOCATION = Rule("^(https|s3)://([^/]+)/?(.*)$", _VISIBLE, "an s3:// or https:// URL", _is_location)
NUMBER = Rule("", DIGITS, "an int", _any)


class Member:
    """One request member that travels as a header.

    Attributes:
        header: the header's name.
        rule: what a text must look like.
        minimum: the shortest length in characters, or the smallest number.
        maximum: the greatest length in characters, or the greatest number.
        number: whether the value is an ``int``.
    """

    __slots__ = ("header", "maximum", "minimum", "number", "rule")

    def __init__(self, header: str, rule: Rule, minimum: int, maximum: int, number: bool = False) -> None:
        self.header = header
        self.rule = rule
        self.minimum = minimum
        self.maximum = maximum
        self.number = number

    def render(self, name: str, value: object) -> str:
        """Check a value and give the header's text.

        Args:
            name: the member's name, for the message.
            value: the value, ``str`` or ``int``.

        Raises:
            ConfigurationError: the value does not fit; the message says why without showing the value.
        """
        if self.number:
            return self._render_number(name, value)
        if not isinstance(value, str):
            raise ConfigurationError(f"{name} must be a str, not {type(value).__name__}")
        # An empty header would say the same as none, or be refused by the service: both are better said here.
        if not max(self.minimum, 1) <= len(value) <= self.maximum:
            raise ConfigurationError(
                f"{name} must have {max(self.minimum, 1)} to {self.maximum} characters, not {len(value)}"
            )
        _check_text(name, value, self.rule)
        return plain(value)

    def _render_number(self, name: str, value: object) -> str:
        # True is an int to Python, but never a number of seconds.
        if not isinstance(value, int) or isinstance(value, bool):
            raise ConfigurationError(f"{name} must be an int, not {type(value).__name__}")
        if not self.minimum <= value <= self.maximum:
            raise ConfigurationError(f"{name} must be from {self.minimum} to {self.maximum}, not {_number(value)}")
        return int.__repr__(value)


def _number(value: int) -> str:
    # Python refuses to print integers of thousands of digits.
    return str(value) if value.bit_length() <= 64 else "a number of more than 64 bits"


def _check_text(name: str, value: str, rule: Rule) -> None:
    for position, character in enumerate(value):
        if character not in rule.alphabet:
            raise ConfigurationError(f"{name} must be {rule.form}: character {position + 1} is U+{ord(character):04X}")
    if not rule.holds(value):
        raise ConfigurationError(f"{name} must be {rule.form}")
