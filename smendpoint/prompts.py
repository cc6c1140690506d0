"""Prompt templates: plain ``{name}`` fields, checked once, filled in one pass.

A template is text with fields such as ``{question}``; ``{{`` and ``}}`` produce one brace. An attribute, an index, a
conversion or a format specification is an error, so that neither a template nor a value can read an object's attributes
or produce a gigabyte of padding. A value is never read as a template.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from smendpoint._core.frozen import Frozen
from smendpoint.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["ChatPromptTemplate", "Document", "Message", "PromptTemplate"]

Message = dict[str, Any]
"""A chat message, ``{"role": "user", "content": "..."}``, the input of chat handlers."""

_Template = TypeVar("_Template", bound="PromptTemplate")
_ChatTemplate = TypeVar("_ChatTemplate", bound="ChatPromptTemplate")

_BRACES = re.compile(r"\{\{|\}\}|\{([^}]*)\}|[{}]")  # a doubled brace, a field, or an unmatched brace

_SHOWN = 40  # characters of a bad field that an error message repeats
_RULE = (
    "only plain {name} fields are allowed, without an attribute, index, conversion or format specification; "
    "write {{ and }} for braces"
)


class PromptTemplate(Frozen):
    """Text with ``{name}`` fields to fill in.

    Immutable, hashable and picklable. Two templates are equal if their texts and the values filled in with
    :meth:`partial` are.

    Args:
        template: the text. Each field is an identifier in braces; ``{{`` and ``}}`` produce one brace.

    Raises:
        PromptError: the text is not a template; the message says where and why.

    Example:
        >>> PromptTemplate("{greeting}, {name}!").format(greeting="Hello", name="{you}")
        'Hello, {you}!'
    """

    __slots__ = _fields = ("_template", "_names", "_partial")

    _template: str
    _names: tuple[str, ...]  # of all fields, each once
    _partial: tuple[tuple[str, str], ...]  # the names and texts from `partial`, sorted by name

    def __init__(self, template: str) -> None:
        self._assign(template, _names_of_fields(template), ())

    @property
    def template(self) -> str:
        """The text of the template."""
        return self._template

    @property
    def input_variables(self) -> tuple[str, ...]:
        """The names that :meth:`format` needs, each once, in the order of their first use."""
        filled = dict(self._partial)
        return tuple([name for name in self._names if name not in filled])

    def format(self, /, **values: object) -> str:
        """Fill in every field.

        Args:
            **values: one value for each of :attr:`input_variables`. A ``str`` goes in as it is, anything else as
                ``str(value)``; ``None``, bytes and functions are refused, because they are mistakes.

        Returns:
            The finished text.

        Raises:
            PromptError: a name is missing or unknown, or a value is not usable.
        """
        # The constructor has refused any field that reads an attribute or has a format specification. A subclass of
        # `str` may have another `format_map`, which is not called.
        return str.format_map(self._template, {**dict(self._partial), **_texts(self.input_variables, values)})

    def partial(self: _Template, /, **values: object) -> _Template:
        """Fill in some fields now and the others later.

        Args:
            **values: values for some of the names, as for :meth:`format`.

        Returns:
            A new template that needs only the remaining names. This one does not change.

        Raises:
            PromptError: a name is unknown (or already filled in), or a value is not usable.
        """
        texts = _texts(self.input_variables, values, some=True)
        made = object.__new__(type(self))  # not `__init__`: a subclass may have another one
        made._assign(self._template, self._names, tuple(sorted([*self._partial, *texts.items()])))
        return made

    def __repr__(self) -> str:
        # The values may be private text: only their names are shown.
        filled = ", ".join([f"{name}=..." for name, _ in self._partial])
        return f"PromptTemplate({self._template!r})" + (f".partial({filled})" if filled else "")


class ChatPromptTemplate(Frozen):
    """A list of chat messages with ``{name}`` fields to fill in.

    Immutable, hashable and picklable.

    Args:
        messages: ``(role, template)`` pairs or ``{"role": role, "content": template}`` dicts, in order. The role goes
            to the model unchanged; the template is text or a :class:`PromptTemplate`.

    Raises:
        PromptError: an item is neither, a dict has another key, the list is empty, or a text is not a template.

    Example:
        >>> template = ChatPromptTemplate([("system", "Be brief."), ("user", "{question}")])
        >>> template.format(question="Why?")
        [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': 'Why?'}]
    """

    __slots__ = _fields = ("_messages",)

    _messages: tuple[tuple[str, PromptTemplate], ...]

    def __init__(self, messages: Iterable[tuple[str, str | PromptTemplate] | Mapping[str, Any]]) -> None:
        self._assign(_pairs(messages))

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
        """Fill in some fields now and the others later; see :meth:`PromptTemplate.partial`."""
        texts = _texts(self.input_variables, values, some=True)
        made = object.__new__(type(self))
        made._assign(tuple([(role, template.partial(**_own(template, texts))) for role, template in self._messages]))
        return made

    def __repr__(self) -> str:
        return f"ChatPromptTemplate({list(self._messages)!r})"


class Document:
    """A text to answer from, with its metadata.

    Args:
        page_content: the text.
        metadata: anything else, such as ``{"source": "handbook.pdf", "page": 4}``; a ``document_prompt`` can use it.

    Raises:
        PromptError: ``page_content`` is not text, or ``metadata`` is not a mapping.
    """

    __slots__ = ("metadata", "page_content")

    def __init__(self, page_content: str, metadata: Mapping[str, Any] | None = None) -> None:
        self.page_content, self.metadata = _check_document(page_content, metadata, "a document")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Document):
            return NotImplemented
        return self.page_content == other.page_content and self.metadata == other.metadata

    __hash__ = None  # type: ignore[assignment]  # how a class says that it is not hashable: the metadata may change

    def __repr__(self) -> str:
        # The text may be private: it must not reach a log that shows documents.
        known = f", metadata {quoted(self.metadata)}" if self.metadata else ""
        return f"<Document: {len(self.page_content)} characters{known}>"


def _check_document(content: Any, metadata: Any, label: str) -> tuple[str, dict[str, Any]]:
    """Check a document, which error messages call ``label``; return its text and a copy of its metadata."""
    if not isinstance(content, str):
        raise PromptError(f"the page_content of {label} must be str, not {type(content).__name__}")
    if metadata is not None and not isinstance(metadata, Mapping):
        raise PromptError(f"the metadata of {label} must be a mapping, not {type(metadata).__name__}")
    return content, dict(cast("Mapping[str, Any]", metadata or {}))


def read_document(document: Any, label: str) -> tuple[str, dict[str, Any]]:
    """Return the text and the metadata of a document of any accepted kind."""
    if isinstance(document, str):
        return document, {}
    if isinstance(document, Mapping):
        entries = dict(cast("Mapping[str, Any]", document))
        if "page_content" not in entries:
            raise PromptError(f"{label} has no 'page_content', but {quoted(entries, 'nothing')}")
        content, metadata = _check_document(entries.pop("page_content"), entries.pop("metadata", None), label)
        return content, {**entries, **metadata}
    if not hasattr(document, "page_content"):
        raise PromptError(f"{label} has no page_content: it is {type(document).__name__}")
    return _check_document(document.page_content, getattr(document, "metadata", None), label)


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
                # Any other entry would be lost, or cannot be a template.
                raise PromptError(f"messages[{index}] must have the keys 'role' and 'content', not {quoted(fields)}")
            role, template = fields["role"], fields["content"]
        elif isinstance(message, (tuple, list)) and len(cast("Sequence[Any]", message)) == 2:
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
    """Tell whether a value is a collection of items, and not one text, one mapping or one table.

    Iterating over a table of pandas or polars gives its columns or their names.
    """
    one = isinstance(value, (str, bytes, Mapping)) or hasattr(type(value), "columns")
    return not one and hasattr(value, "__iter__")


def _texts(needed: tuple[str, ...], values: Mapping[str, object], *, some: bool = False) -> dict[str, str]:
    """Check the names, then turn the values into text."""
    missing = [] if some else [name for name in needed if name not in values]
    unknown = [name for name in values if name not in needed]
    if missing or unknown:
        problems = [f"{what}: {quoted(names)}" for what, names in (("missing", missing), ("unknown", unknown)) if names]
        raise PromptError(f"the template needs {quoted(needed, 'no values')}; {'; '.join(problems)}")
    return {name: _text(name, value) for name, value in values.items()}


def _own(template: PromptTemplate, texts: Mapping[str, str]) -> dict[str, str]:
    return {name: texts[name] for name in template.input_variables if name in texts}


def quoted(names: Iterable[object], none: str = "none") -> str:
    """Return names in the form for an error message; ``none`` if there are none."""
    return ", ".join([repr(name) for name in names]) or none


def _text(name: str, value: object) -> str:
    text = value
    if not isinstance(text, str):
        # `str()` of these is never intended: "None", "b'...'", "<function ...>".
        if value is None or isinstance(value, (bytes, bytearray, memoryview)) or callable(value):
            raise PromptError(f"the value of {name!r} must be text, not {type(value).__name__}")
        try:
            text = str(value)
        except Exception as error:
            raise PromptError(f"the value of {name!r}, {type(value).__name__}, cannot be converted to text") from error
    return str.__str__(text)  # a subclass may have its own `__str__`


def _names_of_fields(template: Any) -> tuple[str, ...]:
    """Check a template and return the names of its fields, each once, in the order of their first use."""
    if not isinstance(template, str):
        raise PromptError(f"a template must be str, not {type(template).__name__}")
    names: dict[str, None] = {}
    for braces in _BRACES.finditer(template):
        found, name = braces[0], braces[1]
        if name is None:
            if len(found) == 1:
                raise _refusal(f"unmatched {found!r}", template, braces.start(), _RULE)
            continue
        if not name.isidentifier():
            shown = found if len(name) <= _SHOWN else "{" + name[:_SHOWN] + "...}"
            raise _refusal(f"bad field {shown!r}", template, braces.start(), _RULE)
        if not name.isascii():
            import unicodedata  # only non-ASCII names need it

            # Python normalizes keyword names to NFKC, so that a keyword can never match another form.
            normal = unicodedata.normalize("NFKC", name)
            if normal != name:
                raise _refusal(f"bad field {found!r}", template, braces.start(), f"write its name as {normal!r}")
        names[name] = None
    return tuple(names)


def _refusal(problem: str, template: str, position: int, cure: str) -> PromptError:
    line = template.count("\n", 0, position) + 1
    column = position - template.rfind("\n", 0, position)
    return PromptError(f"{problem} at position {position} (line {line}, column {column}): {cure}")
