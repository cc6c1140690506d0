"""How a streamed answer says that it is whole: one rule for each format, in this table and nowhere else.

HTTP and the event stream end properly too where a container was killed in the middle of a sentence. The payload's own
end tells. Either mark of a format alone is an end, and ``[DONE]`` is one in every format of server-sent events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from smendpoint.handlers._details import reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from smendpoint._container_errors import JSONValue

__all__ = ["ENDS", "End"]


class End(NamedTuple):
    """The end of one format.

    Attributes:
        mark: what it is, for messages; empty for a format that has none, whose every item may be the last.
        is_last: whether an item is marked as the last one.
    """

    mark: str
    is_last: Callable[[Mapping[str, JSONValue]], bool]


def _choice_has_ended(item: Mapping[str, JSONValue]) -> bool:
    """Of the first choice: only that is given, and the others (``n``) may end before it or after it."""
    choice = _first_choice(item)
    return choice is not None and reason_of(choice.get("finish_reason")) is not None


def _choice_is_whole(item: Mapping[str, JSONValue]) -> bool:
    """A whole completion need not say why it ended. A chunk says that it has not, or has a delta."""
    choice = _first_choice(item)
    return choice is not None and not choice.keys() & {"delta", "finish_reason"}


def _first_choice(item: Mapping[str, JSONValue]) -> Mapping[str, JSONValue] | None:
    choices = item.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and not choice.get("index"):
            return choice
    return None


def _token_is_last(item: Mapping[str, JSONValue]) -> bool:
    return item.get("generated_text") is not None or item.get("details") is not None


def _generation_has_stopped(item: Mapping[str, JSONValue]) -> bool:
    """Pieces of a text say that it has not stopped; JumpStart's whole answers have no such member."""
    body = item.get("body")
    told = body if isinstance(body, dict) else item
    return told.get("stop_reason", "") is not None


def _always(item: Mapping[str, JSONValue]) -> bool:
    return True


ENDS: Mapping[str, End] = {
    # OpenAI's chunks, of chats and of completions
    "chunk": End("a finish reason or [DONE]", _choice_has_ended),
    # the same as the only thing in a stream without framing: a container that does not stream
    "document": End("a finish reason or [DONE]", _choice_is_whole),
    # TGI's and LMI's
    "token": End('the last token, with "generated_text" or "details",', _token_is_last),
    # Llama's, and LMI's third-party schema
    "generation": End("a stop reason", _generation_has_stopped),
    # whole answers: each is its own end
    "chat": End("", _always),
    "completion": End("", _always),
    "generated_text": End("", _always),
    "generated_texts": End("", _always),
    "summary_text": End("", _always),
    "translation_text": End("", _always),
    # pieces of a text without any mark
    "outputs": End("", _always),
    "text_output": End("", _always),
    "text": End("", _always),
}
