"""The inputs of `invoke`: from the command line, standard input and files to the input of each handler."""

from __future__ import annotations

import argparse
import csv
import io
import json
import mimetypes
import os
import sys
from typing import TYPE_CHECKING, Any

from smendpoint.cli._terminal import complain
from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

# The handlers that take messages, and those whose request may ask for a schema.
_CHATS = ("chat", "auto", "jumpstart-chat")
_SCHEMAS = ("chat", "auto", "completions")


def read_input(arguments: argparse.Namespace, handler: Any) -> Any:
    """Return the input of the call, from INPUT or standard input, and from the options that add to it.

    Raises:
        ConfigurationError: there is no input, or it does not suit the handler.
    """
    data = _read_data(arguments)
    if arguments.handler == "bytes" or (arguments.handler == "classification" and arguments.content_type):
        return data
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ConfigurationError("the input is not UTF-8 text: use --handler bytes") from None
    if arguments.handler in _CHATS:
        return _messages(arguments, text)
    return _READERS.get(arguments.handler, _as_it_is)(text, handler)


def _read_data(arguments: argparse.Namespace) -> bytes:
    if arguments.input not in (None, "-"):
        return os.fsencode(arguments.input)
    if sys.stdin is None:
        raise ConfigurationError("there is no standard input: pass INPUT")
    if getattr(sys.stdin, "isatty", bool)():
        complain("reading the input from the terminal; Ctrl-D ends it")
    try:
        data: bytes = sys.stdin.buffer.read()
    except OSError as error:  # a directory, for instance
        raise ConfigurationError(f"cannot read standard input: {error.strerror}") from None
    if not data:
        raise ConfigurationError("standard input is empty: pass INPUT, or something to read")
    return data


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"the input is not JSON: {error}") from None


# -- messages


def wants_chat(arguments: argparse.Namespace) -> bool:
    """Return whether an option is set that only a chat has."""
    return arguments.system is not None or arguments.schema is not None or bool(arguments.attach)


def check_options(arguments: argparse.Namespace) -> None:
    """Raise `ConfigurationError` if the handler has no place for an option."""
    for option, given, handlers in (
        ("--system", arguments.system, _CHATS),
        ("--attach", arguments.attach, _CHATS[:2]),
        ("--schema", arguments.schema, _SCHEMAS),
    ):
        if given and arguments.handler not in handlers:
            raise ConfigurationError(f"{option} needs --handler {' or '.join(handlers)}")


def _messages(arguments: argparse.Namespace, text: str) -> Any:
    """Return messages: those in the JSON of the input, or else one user message.

    The handler `auto` sends a text without further messages as a prompt.
    """
    messages = _written_messages(text)
    if messages is None and arguments.handler == "auto" and not (arguments.system or arguments.attach):
        return text
    messages = messages or [{"role": "user", "content": text}]
    if arguments.system is not None:
        if messages[0]["role"] == "system":
            raise ConfigurationError("--system: the messages already have a system message")
        messages.insert(0, {"role": "system", "content": arguments.system})
    if arguments.attach:
        last = messages[-1]
        if last["role"] != "user":
            raise ConfigurationError("--attach: the last message must be a user message")
        content = last.get("content")
        if not isinstance(content, (str, list)):
            raise ConfigurationError("--attach: the content of the last message must be text, or a list of parts")
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        last["content"] = [*parts, *map(_image, arguments.attach)]
    return messages


def _written_messages(text: str) -> list[dict[str, Any]] | None:
    """Return the messages in a text: a JSON list of objects, each with a role; ``None`` for any other text."""
    if not text.lstrip().startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if found and all(isinstance(one, dict) and "role" in one for one in found) else None


def _image(path: str) -> dict[str, Any]:
    from smendpoint.handlers import image_part

    if path.startswith(("https://", "http://")):
        return image_part(path)
    kind = mimetypes.guess_type(path)[0] or ""
    if not kind.startswith("image/"):
        raise ConfigurationError(f"--attach takes images with the type in their name, such as photo.png, not {path!r}")
    return image_part(read_file(path, "--attach"), media_type=kind)


def read_file(path: str, option: str) -> bytes:
    """Read a file that an option names."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigurationError(f"{option}: cannot read {path!r}: {error.strerror}") from None


def response_format(path: str) -> dict[str, Any]:
    """Return the ``response_format`` that requests the schema in a file; or the file's own, if it already is one."""
    data = read_file(path, "--schema")
    try:
        schema = json.loads(data)
    except (ValueError, RecursionError):
        schema = None
    if not isinstance(schema, dict):
        raise ConfigurationError(f"--schema: {path!r} is not a JSON object")
    if schema.get("type") == "json_schema":
        return schema
    name = "".join([sign if sign.isascii() and sign.isalnum() else "_" for sign in os.path.basename(path)])[:64]
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}


# -- the other handlers


def _as_it_is(text: str, handler: Any) -> Any:
    return text


def _json(text: str, handler: Any) -> Any:
    return _parse(text)


def _texts(text: str, handler: Any) -> Any:
    return _parse(text) if text.lstrip().startswith("[") else [text]


def _pair(text: str, handler: Any) -> Any:
    """Return a text, or a pair for a JSON list of two texts."""
    found = _parse(text) if text.lstrip().startswith('["') else None
    return tuple(found) if isinstance(found, list) and len(found) == 2 else text


def _query(text: str, handler: Any) -> Any:
    value = _parse(text)
    if isinstance(value, dict) and value.keys() == {"query", "texts"}:
        return value["query"], value["texts"]
    raise ConfigurationError('the input of the handler rerank must be {"query": "...", "texts": ["...", "..."]}')


def _rows(text: str, handler: Any) -> Any:
    """Return the rows of a table: JSON, or CSV, whose cells stay texts if they are sent as CSV."""
    if text.lstrip().startswith(("[", "{")):
        return _parse(text)
    rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    return rows if getattr(handler, "request", None) == "csv" else [[_cell(cell) for cell in row] for row in rows]


def _cell(cell: str) -> Any:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            pass
    return cell or None


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "json": _json,
    "embeddings": _texts,
    "sparse-embeddings": _texts,
    "rerank": _query,
    "classification": _pair,
    "similarity": _json,
    "tabular": _rows,
    "tabular-rows": _rows,
    "numpy": _rows,
}
