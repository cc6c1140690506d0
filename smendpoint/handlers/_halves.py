"""Halves of characters. JSON may write a character beyond U+FFFF as two escapes, and a server that cuts its text into
UTF-16 units sends one half in one chunk and the other half in the next. A half that stays alone is not a character.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from smendpoint.errors import HandlerError, StreamDecodeError

if TYPE_CHECKING:
    from smendpoint._container_errors import JSONValue

_REPLACEMENT = "\ufffd"
_HALF = re.compile("[\ud800-\udfff]")
_SAID = "half of a character (a surrogate without its other half)"


class Halves:
    """Joins the halves of characters in the pieces of one text.

    Args:
        replace: whether U+FFFD replaces a half that stays alone; otherwise it is an error.

    Attributes:
        held: a first half that waits for the second one, or empty.
    """

    __slots__ = ("_replace", "held")

    def __init__(self, replace: bool) -> None:
        self._replace = replace
        self.held = ""

    def join(self, text: str) -> str:
        """Return a piece of the text with whole characters.

        Raises:
            StreamDecodeError: a half stays alone; ``received`` has the text before it.
        """
        if not text:
            return text
        text, self.held = self.held + text, ""
        if _is_whole(text):
            return text
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        if "\ud800" <= text[-1] <= "\udbff":
            text, self.held = text[:-1], text[-1]
        half = _HALF.search(text)
        if half is None:
            return text
        if self._replace:
            return _HALF.sub(_REPLACEMENT, text)
        before = text[: half.start()]
        raise StreamDecodeError(f"the stream has {_SAID} in its text", received=[before] if before else [])

    def end(self) -> str:
        """Return U+FFFD for a half that is still held at the end of the text, or nothing if none is.

        Raises:
            StreamDecodeError: a half is held and is not to be replaced.
        """
        held, self.held = self.held, ""
        if held and not self._replace:
            raise StreamDecodeError(f"the text ends with {_SAID}")
        return _REPLACEMENT if held else ""


def mend_json(value: JSONValue, *, replace: bool) -> JSONValue:
    """Return a parsed value whose texts and names have only whole characters.

    Raises:
        HandlerError: they have halves that are not to be replaced.
    """
    root: list[JSONValue] = [value]
    left: list[Any] = [root]
    while left:
        node: Any = left.pop()
        if isinstance(node, dict):
            if not all(map(_is_whole, node)):
                items = [(_mended(name, replace), item) for name, item in node.items()]
                node.clear()
                node.update(items)
            places: Any = list(node)
        else:
            places = range(len(node))
        for place in places:
            item = node[place]
            if isinstance(item, (dict, list)):
                left.append(item)
            elif isinstance(item, str) and not _is_whole(item):
                node[place] = _mended(item, replace)
    return root[0]


def _mended(text: str, replace: bool) -> str:
    if _is_whole(text):
        return text
    if not replace:
        raise HandlerError(f'The answer has {_SAID}. errors="replace" puts U+FFFD in its place.')
    return _HALF.sub(_REPLACEMENT, text)


def _is_whole(text: str) -> bool:
    return text.isascii() or _HALF.search(text) is None
