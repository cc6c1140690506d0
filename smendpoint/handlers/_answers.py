"""The answers of the containers that generate text: one table of their formats, and the functions that read them.

For each kind of answer, `TEXT_FORMATS` has the handlers that read it, its name in messages, and the end of its streams.
The handlers, their stream decoders, the details and the advice of errors read this table. A new kind is one entry here,
its samples in ``tests/handler_samples.py``, and its row in ``docs/reference/handlers.md``. The functions return the
text of an answer, and its details (finish reason, token counts, the rest).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint.errors import HandlerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from smendpoint._container_errors import JSONValue
    from smendpoint.handlers.base import OutputDetails, Usage


def _always(item: Mapping[str, JSONValue]) -> bool:
    return True


class Format:
    """One kind of answer, or of a stream's items. It is a field of this name, unless `shape` says otherwise.

    HTTP and the event stream end properly even if a container is killed in the middle of a sentence. So a streamed
    answer must show the end of its own format; ``[DONE]`` counts in every format of server-sent events.

    Args:
        readers: the handlers that read it, besides `AutoHandler`; errors recommend the first.
        shape: its description, for messages.
        mark: the end of a stream, for messages; empty for a format that has none.
        is_last: whether an item is marked as the last one; without a mark, every item may be the last.
    """

    __slots__ = ("is_last", "mark", "readers", "shape")

    def __init__(
        self,
        *readers: str,
        shape: str = "",
        mark: str = "",
        is_last: Callable[[Mapping[str, JSONValue]], bool] = _always,
    ) -> None:
        self.readers = readers
        self.shape = shape
        self.mark = mark
        self.is_last = is_last


def reason_of(value: JSONValue) -> str | None:
    """Read a finish reason. Old SGLang writes the text ``"None"`` if it has none."""
    return value if isinstance(value, str) and value not in ("", "None") else None


def _choice_has_ended(item: Mapping[str, JSONValue]) -> bool:
    """Return whether the first choice has ended. The others (``n``) are not given, and may end before or after it."""
    choice = _first_choice(item)
    return choice is not None and reason_of(choice.get("finish_reason")) is not None


def _choice_is_whole(item: Mapping[str, JSONValue]) -> bool:
    """Return whether the choice is whole, and not a chunk, which has a delta or a finish reason."""
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
    """Return whether there is a stop reason, or, as in JumpStart's whole answers, no field for it."""
    body = item.get("body")
    told = body if isinstance(body, dict) else item
    return told.get("stop_reason", "") is not None


# An answer is searched for them in this order.
TEXT_FORMATS: Mapping[str, Format] = {
    # alone, in a list, or in a list of lists (Hugging Face, TGI, LMI)
    "generated_text": Format(
        "TextGenerationHandler",
        "JumpStartTextHandler",
        shape='"generated_text" (also messages with "role" and "content")',
    ),
    "summary_text": Format("TextGenerationHandler"),
    "translation_text": Format("TextGenerationHandler"),
    "text_output": Format("TextGenerationHandler", shape='"text_output" (Triton)'),
    # lists of texts: JumpStart's models of 2022, and LMI's dynamic batching
    "generated_texts": Format("JumpStartTextHandler"),
    "outputs": Format("TextGenerationHandler"),
    # Llama's, and LMI's third-party schema
    "generation": Format(
        "TextGenerationHandler",
        "JumpStartTextHandler",
        shape='"generation" (which may be in a "body")',
        mark="a stop reason",
        is_last=_generation_has_stopped,
    ),
    "completion": Format("OpenAICompletionsHandler", shape='"choices" with a "text"'),
    # Also in a "generation". The chat handlers do not use this table for it: they give more than its text.
    "chat": Format(shape='"choices" with a "message" of "role" and "content"'),
}

# The kinds that are not a field with a text, and so are not found by their name.
_STRUCTURES = ("generation", "completion", "chat")
_FIELDS = tuple(kind for kind in TEXT_FORMATS if kind not in _STRUCTURES)

TEXT_FIELDS = frozenset({*_FIELDS, "generation"})
"""The fields that hold the text itself; all others are details."""

ENDS: Mapping[str, Format] = {
    # OpenAI's chunks, of chats and of completions
    "chunk": Format(mark="a finish reason or [DONE]", is_last=_choice_has_ended),
    # the same as the whole content of a stream without framing: a container that does not stream
    "document": Format(mark="a finish reason or [DONE]", is_last=_choice_is_whole),
    # TGI's and LMI's
    "token": Format(mark='the last token, with "generated_text" or "details",', is_last=_token_is_last),
    "text": Format(),
    **TEXT_FORMATS,
}
"""The kinds of a stream's items, with the marks of the last one: `TEXT_FORMATS`, and those that only streams have."""


def kinds_of(handler: str) -> frozenset[str]:
    """Return the kinds of answers that the handler of this name reads."""
    return frozenset(kind for kind, found in TEXT_FORMATS.items() if handler in found.readers)


def shapes_of(kinds: frozenset[str]) -> str:
    """Describe answers of these kinds, for messages."""
    shapes = [found.shape or f'"{kind}"' for kind, found in TEXT_FORMATS.items() if kind in kinds]
    return ", ".join(shapes[:-1]) + " or " * (len(shapes) > 1) + shapes[-1]


def first_object(value: JSONValue) -> dict[str, JSONValue] | None:
    """Return an answer's object: itself, the first of a list, or the first of a list's first list."""
    for _ in range(2):
        if isinstance(value, list) and value:
            value = value[0]
    return value if isinstance(value, dict) else None


def answer_text(value: JSONValue) -> tuple[str, str] | None:
    """Return the kind of an answer and its (first) text; ``None`` if the kind is not known."""
    answer = first_object(value)
    if answer is None:
        return None
    choices = answer.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return _choice_text(choices[0])
    for kind in _FIELDS:
        if kind in answer:
            text = _text_in(answer[kind])
            if text is not None:
                return kind, text
    body = answer.get("body")
    generation = body.get("generation") if isinstance(body, dict) else answer.get("generation")
    if isinstance(generation, str):
        return "generation", generation
    if isinstance(generation, dict):
        text = content_text(generation.get("content"))
        return None if text is None else ("chat", text)
    return None


def _text_in(value: JSONValue) -> str | None:
    """Return a field's text: itself, the first of several, or the assistant's reply that ends a conversation."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and isinstance(value[0], str):
        return value[0]
    reply = last_reply(value)
    return None if reply is None else content_text(reply.get("content"))


def last_reply(messages: JSONValue) -> dict[str, JSONValue] | None:
    """Return the assistant's message at the end of a conversation; ``None`` if another role ends it."""
    last = messages[-1] if isinstance(messages, list) and messages else None
    return last if isinstance(last, dict) and last.get("role") == "assistant" else None


def _choice_text(choice: dict[str, JSONValue]) -> tuple[str, str] | None:
    text = choice.get("text")
    if isinstance(text, str):
        return "completion", text
    message = choice.get("message")
    if isinstance(message, dict):
        text = content_text(message.get("content"))
        if text is not None:
            return "chat", text
    return None


def content_text(content: JSONValue) -> str | None:
    """Return the text of a message's content, a string or a list of parts; ``None`` for anything else."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    texts: list[str] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        text = part.get("text") if isinstance(part, dict) and kind == "text" else ""
        if not isinstance(kind, str) or not isinstance(text, str):
            return None
        texts.append(text)
    return "".join(texts)


def message_text(content: JSONValue) -> str | None:
    """Return the text of a message's or a delta's content; ``None`` if the content is ``None``.

    Raises:
        HandlerError: it is not text.
    """
    text = content_text(content)
    if text is None and content is not None:
        raise HandlerError(
            'The "content" of the answer\'s message is neither text nor a list of parts with a "type", and with "text" '
            "where that is their type."
        )
    return text


def answer_details(value: JSONValue) -> OutputDetails:
    """Return the details of an answer of any known kind."""
    from smendpoint.handlers.base import OutputDetails  # the module has the Protocols too, which a call does not need

    answer = first_object(value)
    if answer is None or answer.keys() <= TEXT_FIELDS:  # nothing besides the text
        return OutputDetails()
    choices = answer.get("choices")
    if isinstance(choices, list):
        choice = choices[0] if choices else None
        extra: dict[str, JSONValue] = {}
        reason: JSONValue = None
        if isinstance(choice, dict):
            reason = choice.get("finish_reason")
            known = ("finish_reason", "index", "message", "text")
            extra = {name: item for name, item in choice.items() if name not in known and item is not None}
        usage = usage_of(answer.get("usage"))
        return OutputDetails(reason_of(reason), usage, extra or None, *named_in(answer))
    for name in ("details", "body"):
        details = answer.get(name)
        if isinstance(details, dict):
            return generation_details(details)
    return generation_details(answer)


def named_in(answer: Mapping[str, JSONValue]) -> tuple[str | None, str | None]:
    """Return the model's name in an answer, and the container's id of the answer."""
    model, answer_id = answer.get("model"), answer.get("id")
    return model if isinstance(model, str) else None, answer_id if isinstance(answer_id, str) else None


def generation_details(details: Mapping[str, JSONValue]) -> OutputDetails:
    """Read TGI's and LMI's ``details``, or the counts next to the text in LMI's third-party schema."""
    from smendpoint.handlers.base import OutputDetails, Usage

    reason = details.get("finish_reason") or details.get("stop_reason")
    prompt = _count(details, "input_length", "prompt_token_count", "prompt_tokens")
    completion = _count(details, "generated_tokens", "generation_token_count")
    usage = None
    if prompt is not None or completion is not None:
        usage = Usage(prompt, completion, None if prompt is None or completion is None else prompt + completion)
    extra = {name: item for name, item in details.items() if name not in TEXT_FIELDS}
    return OutputDetails(reason_of(reason), usage, extra or None)


def may_have_usage(answer: bytes) -> bool:
    """Return whether an answer may have token counts, without parsing it: the name of each count has one of these."""
    return b"token" in answer or b"input_length" in answer


def usage_of(value: JSONValue) -> Usage | None:
    """Read OpenAI's ``usage``; ``None`` if there is none."""
    from smendpoint.handlers.base import Usage

    if not isinstance(value, dict):
        return None
    return Usage(_count(value, "prompt_tokens"), _count(value, "completion_tokens"), _count(value, "total_tokens"))


def _count(values: Mapping[str, JSONValue], *names: str) -> int | None:
    for name in names:
        count = values.get(name)
        if isinstance(count, int) and not isinstance(count, bool):
            return count
    return None
