"""The Protocols' helpers: mapped decoders, lines for handlers that do not stream, names that load on first use."""

from __future__ import annotations

import ast
import gc
import importlib
import json
import weakref
from pathlib import Path
from typing import Any

import pytest
from feeding import read, ways

import smendpoint.handlers
from smendpoint._core.decode.lines import JSONLinesDecoder
from smendpoint._core.http.body import ResponseBody
from smendpoint.errors import StreamDecodeError
from smendpoint.handlers import MappedDecoder, line_decoder


class LangChainStyle:
    content_type = "application/json"
    accepts = "application/json"

    def transform_input(self, prompt: str, model_kwargs: dict[str, Any]) -> bytes:
        return json.dumps({"inputs": prompt, **model_kwargs}).encode("utf-8")

    def transform_output(self, output: Any) -> str | None:
        text: str | None = json.loads(output.read().decode("utf-8"))["text"]
        return text


def test_a_handler_without_a_stream_decoder_streams_by_line() -> None:
    for pieces in ways('{"text":"a\u2028b"}\r\n\n  \n{"text":null}\n{"text":"c"}'.encode()):
        assert read(line_decoder(LangChainStyle()), pieces) == ["a\u2028b", None, "c"]


def test_a_failing_line_comes_after_the_lines_before_it() -> None:
    decoder = line_decoder(LangChainStyle())
    assert decoder.feed(b'{"text":"a"}\n{}\n{"text":"b"}\n') == ["a"]
    assert isinstance(getattr(decoder, "error", None), KeyError)
    with pytest.raises(KeyError):
        decoder.feed(b'{"text":"c"}\n')
    with pytest.raises(StreamDecodeError, match="failed before"):
        decoder.feed(b'{"text":"c"}\n')
    with pytest.raises(StreamDecodeError, match="failed before"):
        decoder.finish()


def test_a_failure_at_the_end_is_raised_by_finish() -> None:
    decoder = line_decoder(LangChainStyle())
    assert decoder.feed(b'{"text":"a"}\n{}') == ["a"]
    with pytest.raises(KeyError):
        decoder.finish()


def test_a_failure_with_nothing_before_it_raises_at_once() -> None:
    decoder = line_decoder(LangChainStyle())
    with pytest.raises(KeyError):
        decoder.feed(b"{}\n")
    with pytest.raises(StreamDecodeError, match="failed before"):
        decoder.finish()


def test_a_kept_failure_does_not_hold_the_decoder_in_a_cycle() -> None:
    class Chunk:
        pass

    def transform(item: Any) -> Chunk:
        return Chunk() if item else item["missing"]  # type: ignore[no-any-return]  # raises, which is the test

    gc.disable()
    try:
        decoder = MappedDecoder(JSONLinesDecoder(), transform)
        chunks = decoder.feed(b"1\n0\n")
        chunk = weakref.ref(chunks.pop())
        del decoder, chunks
        assert chunk() is None
    finally:
        gc.enable()


def test_a_mapped_decoder_skips_items_that_give_no_chunk() -> None:
    decoder: MappedDecoder[Any, str] = MappedDecoder(JSONLinesDecoder(), lambda item: item.get("text"))
    assert decoder.feed(b'{"text":"a"}\n{"usage":1}\n') == ["a"]
    assert decoder.error is None
    assert decoder.feed(b'{"end":1}') == []
    assert decoder.finish() == []


def test_a_mapped_decoder_shows_its_sources_pending_failure() -> None:
    decoder: MappedDecoder[Any, str] = MappedDecoder(JSONLinesDecoder(), lambda item: item["text"])
    assert decoder.feed(b'{"text":"a"}\njunk\n') == ["a"]
    assert isinstance(decoder.error, StreamDecodeError)


def test_the_names_for_type_checkers_are_those_that_load() -> None:
    tree = ast.parse(Path(smendpoint.handlers.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    declared: dict[str, object] = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        declared |= {
            alias.name: getattr(importlib.import_module(node.module or ""), alias.name) for alias in node.names
        }
    assert sorted(declared) == sorted(smendpoint.handlers.__all__)
    for name, value in declared.items():
        vars(smendpoint.handlers).pop(name, None)  # as if it had not been used yet
        assert getattr(smendpoint.handlers, name) is value


def test_a_misspelt_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'TextHandlre'"):
        smendpoint.handlers.TextHandlre  # type: ignore[attr-defined]  # noqa: B018 - the misspelt name is the test


def test_dir_lists_the_public_names() -> None:
    assert set(smendpoint.handlers.__all__) <= set(dir(smendpoint.handlers))


def test_response_bodies_read_like_files_in_handlers() -> None:
    assert LangChainStyle().transform_output(ResponseBody(b'{"text":"a"}')) == "a"
