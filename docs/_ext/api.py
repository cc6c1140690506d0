"""Make the entries of the API short: one signature each with its return type, and links to our own types."""

from __future__ import annotations

import inspect
import re
import sys
from pydoc import locate
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, get_args, get_origin, is_typeddict

from docutils import nodes
from sphinx.domains.python import PyObject
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.inspect import signature
from sphinx.util.typing import stringify_annotation

import smendpoint

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.domains.python import ObjectEntry
    from sphinx.environment import BuildEnvironment

MADE_BY_CALLS = {
    "AsyncConversation",
    "AsyncStatefulSession",
    "AsyncStream",
    "Conversation",
    "ConversationPart",
    "Response",
    "ResponseBody",
    "StatefulSession",
    "Stream",
}
"""The classes that only the library constructs: their pages have no constructor."""

_first_returns: dict[str, str] = {}


def take_overloads() -> None:
    """Let Sphinx show the signature of a function instead of its overloads, for which it has no option.

    The return type is that of the first overload: it describes a call without the arguments that change it.
    """
    analyze = ModuleAnalyzer.analyze

    def analyze_and_take(analyzer: ModuleAnalyzer) -> None:
        analyze(analyzer)
        for name, (first, *_) in analyzer.overloads.items():
            _first_returns[f"{analyzer.modname}.{name}"] = str(first.return_annotation)
        analyzer.overloads.clear()

    ModuleAnalyzer.analyze = analyze_and_take  # type: ignore[method-assign]  # there is no hook


def shorten_signature(
    app: Sphinx, kind: str, name: str, thing: Any, options: Any, arguments: str | None, returns: str | None
) -> tuple[str | None, str | None] | None:
    """Give a function's signature its return type, and hide constructors that nobody calls."""
    # A default that only Python can read: a class, or what makes a new list.
    arguments = arguments and re.sub(r"<class '(\w+)'>", r"\1", arguments).replace("<factory>", "...")
    types = app.env.current_document.autodoc_annotations.get(name, {})
    for parameter in types:
        types[parameter] = _written_out(types[parameter], thing)
    if kind == "class" and arguments is not None:
        called = not (Protocol in thing.__mro__ or is_typeddict(thing) or thing.__name__ in MADE_BY_CALLS)
        return arguments if called else "", returns
    if kind in {"function", "method"} and inspect.isroutine(thing):
        # Parsed by then: the analyzer reads a module before the signatures of its functions are made.
        found = _first_returns.get(f"{getattr(thing, '__module__', None)}.{thing.__qualname__}")
        found = found or stringify_annotation(signature(thing).return_annotation, "smart")
        return arguments, "" if found in {"None", "inspect._empty"} else _written_out(found, thing)
    return None


def _written_out(annotation: str, thing: Any) -> str:
    """Replace the aliases of choices and unions by what they stand for."""

    def meaning(name: re.Match[str]) -> str:
        for owner in inspect.getmro(thing) if inspect.isclass(thing) else (thing,):
            module = sys.modules.get(getattr(owner, "__module__", None) or "")
            value = getattr(module, name[0], None)
            if get_origin(value) is Literal:
                return " | ".join(map(repr, get_args(value)))
            if isinstance(value, str) and inspect.get_annotations(module).get(name[0]) == "TypeAlias":
                return value
        return name[0]

    return re.sub(r"(?<![\w.'\"])[A-Z]\w+(?![\w.'\"])", meaning, annotation)


def shorten_docstring(app: Sphinx, kind: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Leave out the summary of a constructor, because its class has one."""
    if kind in {"attribute", "data", "property"} and lines:
        # "The usage: tokens ..." is a sentence. Napoleon would take what is before the colon for a type.
        lines[:1] = re.split(r"(?<=:) ", lines[0], maxsplit=1)
    if kind == "class":
        constructor = (inspect.getdoc(thing.__init__) or "").partition("\n\n")[0].split("\n")
        if lines[: len(constructor)] == constructor and (thing.__doc__ or "").split("\n")[0] != constructor[0]:
            del lines[: len(constructor)]
        if lines and lines[0].startswith("Create new instance of "):  # of a named tuple
            lines.clear()


def skip(app: Sphinx, kind: str, name: str, thing: Any, skipped: bool, options: Any) -> bool | None:
    """Leave out the fields of a named tuple: its docstring lists them."""
    return True if (getattr(thing, "__doc__", None) or "").startswith("Alias for field number ") else None


def drop_return_type(app: Sphinx, domain: str, kind: str, content: Element) -> None:
    """Drop the field with the return type: the signature has it."""
    for fields in [child for child in content.children if isinstance(child, nodes.field_list)]:
        for field in [field for field in fields if field[0].astext() == "rtype"]:
            fields.remove(field)
        if not fields.children:
            content.remove(fields)


def link(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: Element) -> Element | None:
    """Link a type of ours that is known by another module than the one that documents it.

    Names of others stay text: to look them up takes a network. A public name of ours that leads nowhere is a warning.
    """
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    last = target.rpartition(".")[2]
    domain = env.domains.python_domain
    found = {it.node_id: name for name, it in domain.objects.items() if name.rpartition(".")[2] == last and _type(it)}
    if len(found) == 1:
        (name,) = found.values()
        return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, content)
    ours = (target.startswith("smendpoint.") and "._" not in target) or last in smendpoint.__all__
    return None if ours and not isinstance(locate(target), TypeVar) else content


def _type(entry: ObjectEntry) -> bool:
    return entry.objtype in {"class", "exception", "data", "type"}


def setup(app: Sphinx) -> dict[str, bool]:
    take_overloads()
    (attributes,) = (field for field in PyObject.doc_field_types if field.name == "variable")
    attributes.label = "Attributes"
    app.connect("autodoc-process-signature", shorten_signature)
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-docstring", shorten_docstring, priority=400)  # before napoleon
    app.connect("object-description-transform", drop_return_type, priority=900)
    app.connect("missing-reference", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
