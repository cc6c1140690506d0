"""Half characters. JSON may write a character beyond U+FFFF as two escapes, and servers that cut their text into UTF-16
units send one half in one chunk and the other in the next. A half that stays alone is not a character.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smendpoint.errors import HandlerError, StreamDecodeError

if TYPE_CHECKING:
    from smendpoint._container_errors import JSONValue

__all__ = ["Halves", "mend_json"]

_REPLACEMENT = "\ufffd"
_SAID = "half of a character (a surrogate without its other half)"


class Halves:
    """Puts the characters of one text together that were cut into halves.

    Args:
        replace: give U+FFFD for a half that stays alone; otherwise it is an error.

    Attributes:
        held: a first half that waits for the other one; empty where none does.
    """

    __slots__ = ("_replace", "held")

    def __init__(self, replace: bool) -> None:
        self._replace = replace
        self.held = ""

    def join(self, text: str) -> str:
        """Give a piece of the text with its characters whole.

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
        if _is_whole(text):
            return text
        if self._replace:
            return _replaced(text)
        before = text[: next(place for place, character in enumerate(text) if "\ud800" <= character <= "\udfff")]
        raise StreamDecodeError(f"the stream has {_SAID} in its text", received=[before] if before else [])

    def end(self) -> str:
        """Give what a half that waits has become at the end of the text.

        Raises:
            StreamDecodeError: it stays alone.
        """
        held, self.held = self.held, ""
        if held and not self._replace:
            raise StreamDecodeError(f"the text ends with {_SAID}")
        return _REPLACEMENT if held else ""


def mend_json(value: JSONValue, *, replace: bool) -> JSONValue:
    """Give a parsed value whose texts and names have no half characters.

    Raises:
        HandlerError: they have, and are not to be replaced.
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
        raise HandlerError(f'The answer has {_SAID}. errors="replace" gives U+FFFD for it.')
    return _replaced(text)


def _is_whole(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _replaced(text: str) -> str:
    return "".join([_REPLACEMENT if "\ud800" <= character <= "\udfff" else character for character in text])
