"""Prompt templates: plain ``{name}`` fields, parsed once, filled in one pass.

A template is text with fields such as ``{question}``; ``{{`` and ``}}`` stand for the braces themselves. Nothing else
is understood, on purpose: no attribute, index, conversion or format specification, so that neither a template nor a
value can reach into an object or ask for a gigabyte of padding. What is filled in is never read as a template again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from smendpoint.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["ChatPromptTemplate", "Document", "Message", "PromptTemplate"]

Message = dict[str, Any]
"""A chat message, ``{"role": "user", "content": "..."}``, as chat handlers take it."""

_Template = TypeVar("_Template", bound="PromptTemplate")
_ChatTemplate = TypeVar("_ChatTemplate", bound="ChatPromptTemplate")

_Fields = tuple[tuple[int, str], ...]  # (index of the part, name) of each open field
_Filled = tuple[str, str]  # (name, text)

_SHOWN = 40  # characters of a bad field that an error message repeats
_RULE = (
    "only plain {name} fields are filled in, without attribute, index, conversion or format specification; "
    "write {{ and }} for braces"
)


class _Frozen:
    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a {type(self).__name__} cannot be changed: make a new one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a {type(self).__name__} cannot be changed: make a new one")


class PromptTemplate(_Frozen):
    """Text with ``{name}`` fields to fill in.

    Immutable, hashable and picklable. Two templates are equal if their text and what was filled in with
    :meth:`partial` are.

    Args:
        template: the text. Each field is an identifier in braces; ``{{`` and ``}}`` give one brace.

    Raises:
        PromptError: the text is no template; the message says where and why.

    Example:
        >>> PromptTemplate("{greeting}, {name}!").format(greeting="Hello", name="{you}")
        'Hello, {you}!'
    """

    __slots__ = ("_fields", "_partial", "_parts", "_template")

    _template: str
    _parts: tuple[str, ...]  # the text in order, "" where a field is still open
    _fields: _Fields
    _partial: tuple[_Filled, ...]  # what `partial` filled in, sorted by name

    def __init__(self, template: str) -> None:
        self._assign(template, *_parse(template), ())

    def _assign(
        self,
        template: str,
        parts: tuple[str, ...],
        fields: tuple[tuple[int, str], ...],
        partial: Iterable[tuple[str, str]],
    ) -> None:
        store = object.__setattr__  # the class's own refuses
        store(self, "_template", template)
        store(self, "_parts", parts)
        store(self, "_fields", fields)
        store(self, "_partial", tuple(sorted(partial)))

    @property
    def template(self) -> str:
        """The text that the template was made from."""
        return self._template

    @property
    def input_variables(self) -> tuple[str, ...]:
        """The names that :meth:`format` needs, each once, in the order of their first use."""
        return tuple(dict.fromkeys([name for _, name in self._fields]))

    def format(self, /, **values: object) -> str:
        """Fill in every field.

        Args:
            **values: one value for each of :attr:`input_variables`. A ``str`` goes in as it is, anything else as
                ``str(value)``; ``None``, bytes and functions are refused, since they are mistakes.

        Returns:
            The finished text.

        Raises:
            PromptError: a name is missing or unknown, or a value is not usable.
        """
        texts = _texts(self.input_variables, values)
        return "".join(self._filled(texts))

    def partial(self: _Template, /, **values: object) -> _Template:
        """Fill in some fields now, the others later.

        Args:
            **values: as for :meth:`format`, but any part of the names.

        Returns:
            A new template that needs the remaining names only. This one stays as it is.

        Raises:
            PromptError: a name is unknown (or filled in already), or a value is not usable.
        """
        texts = _texts(self.input_variables, values, some=True)
        return self._with(texts)

    def _filled(self, texts: Mapping[str, str]) -> list[str]:
        parts = list(self._parts)
        for index, name in self._fields:
            if name in texts:
                parts[index] = texts[name]
        return parts

    def _with(self: _Template, texts: Mapping[str, str]) -> _Template:
        made = object.__new__(type(self))
        still_open = tuple([field for field in self._fields if field[1] not in texts])
        made._assign(self._template, tuple(self._filled(texts)), still_open, [*self._partial, *texts.items()])
        return made

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PromptTemplate):
            return NotImplemented
        return self._template == other._template and self._partial == other._partial

    def __hash__(self) -> int:
        return hash((self._template, self._partial))

    def __repr__(self) -> str:
        # What was filled in may be anybody's text: only its name is shown.
        filled = ", ".join([f"{name}=..." for name, _ in self._partial])
        return f"PromptTemplate({self._template!r})" + (f".partial({filled})" if filled else "")

    def __reduce__(self) -> tuple[Callable[..., PromptTemplate], tuple[Any, ...]]:
        return type(self)._restore, (self._template, self._partial)

    @classmethod
    def _restore(cls: type[_Template], template: str, partial: tuple[_Filled, ...]) -> _Template:
        made = object.__new__(cls)  # not by `__init__`: a subclass may have another one
        made._assign(template, *_parse(template), ())
        return made._with(dict(partial)) if partial else made


class ChatPromptTemplate(_Frozen):
    """A list of chat messages with ``{name}`` fields to fill in.

    Immutable, hashable and picklable.

    Args:
        messages: ``(role, template)`` pairs or ``{"role": role, "content": template}`` dicts, in order. The role goes
            to the model as it is given; the template is text or a :class:`PromptTemplate`.

    Raises:
        PromptError: something is neither, a dict has another key, there is none, or a text is no template.

    Example:
        >>> ChatPromptTemplate([("system", "Be brief."), ("user", "{question}")]).format(question="Why?")
        [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': 'Why?'}]
    """

    __slots__ = ("_messages",)

    _messages: tuple[tuple[str, PromptTemplate], ...]

    def __init__(self, messages: Iterable[tuple[str, str | PromptTemplate] | Mapping[str, Any]]) -> None:
        object.__setattr__(self, "_messages", _pairs(messages))

    @property
    def messages(self) -> tuple[tuple[str, PromptTemplate], ...]:
        """The ``(role, template)`` pairs."""
        return self._messages

    @property
    def input_variables(self) -> tuple[str, ...]:
        """The names that :meth:`format` needs, each once, in the order of their first use."""
        return tuple(dict.fromkeys([name for _, template in self._messages for name in template.input_variables]))

    def format(self, /, **values: object) -> list[Message]:
        """Fill in every field of every message.

        Args:
            **values: as for :meth:`PromptTemplate.format`.

        Returns:
            One ``{"role": ..., "content": ...}`` for each message.

        Raises:
            PromptError: a name is missing or unknown, or a value is not usable.
        """
        texts = _texts(self.input_variables, values)
        return [
            {"role": role, "content": template.format(**_own(template, texts))} for role, template in self._messages
        ]

    def partial(self: _ChatTemplate, /, **values: object) -> _ChatTemplate:
        """Fill in some fields now, the others later; see :meth:`PromptTemplate.partial`."""
        texts = _texts(self.input_variables, values, some=True)
        made = object.__new__(type(self))
        pairs = tuple([(role, template.partial(**_own(template, texts))) for role, template in self._messages])
        object.__setattr__(made, "_messages", pairs)
        return made

    def __eq__(self, other: object) -> bool:
        return self._messages == other._messages if isinstance(other, ChatPromptTemplate) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._messages)

    def __repr__(self) -> str:
        return f"ChatPromptTemplate({list(self._messages)!r})"

    def __reduce__(self) -> tuple[type[ChatPromptTemplate], tuple[Any, ...]]:
        return type(self), (self._messages,)


class Document:
    """A text to answer from, and what is known about it.

    Args:
        page_content: the text.
        metadata: anything else, such as ``{"source": "handbook.pdf", "page": 4}``; a ``document_prompt`` can use it.

    Raises:
        PromptError: ``page_content`` is not text, or ``metadata`` no mapping.
    """

    __slots__ = ("metadata", "page_content")

    def __init__(self, page_content: str, metadata: Mapping[str, Any] | None = None) -> None:
        self.page_content, self.metadata = check_document(page_content, metadata, "a document")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Document):
            return NotImplemented
        return self.page_content == other.page_content and self.metadata == other.metadata

    __hash__ = None  # type: ignore[assignment]  # how a class says that it is not hashable: the metadata may change

    def __repr__(self) -> str:
        # The text is somebody's: a log that shows documents shall not hold it.
        known = f", metadata {_names(self.metadata)}" if self.metadata else ""
        return f"<Document: {len(self.page_content)} characters{known}>"


def check_document(content: Any, metadata: Any, label: str) -> tuple[str, dict[str, Any]]:
    """The text and a copy of the metadata of a document, which an error message calls ``label``."""
    if not isinstance(content, str):
        raise PromptError(f"the page_content of {label} must be str, not {type(content).__name__}")
    if metadata is not None and not isinstance(metadata, Mapping):
        raise PromptError(f"the metadata of {label} must be a mapping, not {type(metadata).__name__}")
    return content, dict(cast("Mapping[str, Any]", metadata or {}))


def _pairs(messages: Any) -> tuple[tuple[str, PromptTemplate], ...]:
    if not is_collection(messages):
        raise PromptError(
            f"messages must be a list of (role, template) pairs or message dicts, not {type(messages).__name__}"
        )
    pairs: list[tuple[str, PromptTemplate]] = []
    for index, message in enumerate(messages):
        if isinstance(message, Mapping):
            fields = cast("Mapping[str, Any]", message)
            if set(fields) != {"role", "content"}:
                # Whatever else a message has would be lost, or be no template.
                raise PromptError(f"messages[{index}] must have the keys 'role' and 'content', not {_names(fields)}")
            role, template = fields["role"], fields["content"]
        elif _is_pair(message):
            role, template = message
        else:
            raise PromptError(
                f"messages[{index}] must be a (role, template) pair or a dict of 'role' and 'content', not "
                f"{type(message).__name__}"
            )
        if not isinstance(role, str) or not role:
            raise PromptError(f"messages[{index}] must begin with a role such as 'system' or 'user'")
        try:
            pairs.append((role, template if isinstance(template, PromptTemplate) else PromptTemplate(template)))
        except PromptError as error:
            raise PromptError(f"messages[{index}]: {error}") from None
    if not pairs:
        raise PromptError("messages must hold at least one (role, template) pair")
    return tuple(pairs)


def is_collection(value: object) -> bool:
    """Whether a value holds several things to go through: not one text, not one mapping, not one table.

    A table of pandas or polars gives the names of its columns, or the columns.
    """
    one = isinstance(value, (str, bytes, Mapping)) or hasattr(type(value), "columns")
    return not one and hasattr(value, "__iter__")


def _is_pair(value: object) -> bool:
    # Not by unpacking: a text of two letters and a mapping of two keys unpack as well.
    return isinstance(value, (tuple, list)) and len(cast("Sequence[Any]", value)) == 2


def _texts(needed: tuple[str, ...], values: Mapping[str, object], *, some: bool = False) -> dict[str, str]:
    """The values as text, once the names are known to fit."""
    missing = [] if some else [name for name in needed if name not in values]
    unknown = [name for name in values if name not in needed]
    if missing or unknown:
        problems = [f"{what}: {_names(names)}" for what, names in (("missing", missing), ("unknown", unknown)) if names]
        raise PromptError(f"the template needs {_names(needed)}; {'; '.join(problems)}")
    return {name: _text(name, value) for name, value in values.items()}


def _own(template: PromptTemplate, texts: Mapping[str, str]) -> dict[str, str]:
    return {name: texts[name] for name in template.input_variables if name in texts}


def _names(names: Iterable[object]) -> str:
    return ", ".join([repr(name) for name in names]) or "no values"


def _text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if _is_mistake(value):
        raise PromptError(f"the value of {name!r} must be text, not {type(value).__name__}")
    try:
        return str(value)
    except Exception as error:
        raise PromptError(f"the value of {name!r}, {type(value).__name__}, cannot be made text") from error


def _is_mistake(value: object) -> bool:
    # `str()` of these is never meant: "None", "b'...'", "<function ...>".
    return value is None or isinstance(value, (bytes, bytearray, memoryview)) or callable(value)


def _parse(template: Any) -> tuple[tuple[str, ...], _Fields]:
    """Cut a template at its fields, in linear time whatever its braces are."""
    if not isinstance(template, str):
        raise PromptError(f"a template must be str, not {type(template).__name__}")
    end = len(template)
    parts: list[str] = []
    fields: list[tuple[int, str]] = []
    position = 0
    opening = closing = -1  # where the next brace of each kind is; `end` if there is none
    while True:
        # Each search begins where the last one of its kind ended, so that no character is passed twice.
        if opening < position:
            opening = _find(template, "{", position, end)
        if closing < position:
            closing = _find(template, "}", position, end)
        brace = min(opening, closing)
        if brace == end:
            parts.append(template[position:])
            return tuple(parts), tuple(fields)
        if template.startswith(template[brace], brace + 1):  # doubled: the brace itself
            parts.append(template[position : brace + 1])
            position = brace + 2
            continue
        if brace == closing:
            raise PromptError(f"unmatched '}}' {_where(template, brace)}: {_RULE}")
        if closing == end:
            raise PromptError(f"unmatched '{{' {_where(template, brace)}: {_RULE}")
        name = template[brace + 1 : closing]
        _check_name(template, brace, name)
        parts.append(template[position:brace])
        fields.append((len(parts), name))
        parts.append("")
        position = closing + 1


def _find(template: str, brace: str, position: int, end: int) -> int:
    found = template.find(brace, position)
    return end if found < 0 else found


def _check_name(template: str, brace: int, name: str) -> None:
    if not name.isidentifier():
        shown = name if len(name) <= _SHOWN else name[:_SHOWN] + "..."
        raise PromptError(f"bad field {'{' + shown + '}'!r} {_where(template, brace)}: {_RULE}")
    if not name.isascii():
        import unicodedata  # only such names need it

        # Python brings keyword names to this form, so that no keyword could ever match any other.
        normal = unicodedata.normalize("NFKC", name)
        if normal != name:
            where = _where(template, brace)
            raise PromptError(f"bad field {'{' + name + '}'!r} {where}: write its name as {normal!r}")


def _where(template: str, position: int) -> str:
    line = template.count("\n", 0, position) + 1
    column = position - template.rfind("\n", 0, position)
    return f"at position {position} (line {line}, column {column})"
