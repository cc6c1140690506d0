"""The advice in an error holds: each handler that it names reads the answer."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from handler_samples import (
    AUTO_STREAMS,
    AUTO_WHOLE,
    CHAT_STREAMS,
    ERRORS,
    OTHER_WHOLE,
    READERS,
    TEXT_STREAMS,
    TEXT_WHOLE,
    mutated,
    parsed,
)
from hypothesis import given
from hypothesis import strategies as st

import smendpoint.handlers
from smendpoint._core.http.body import ResponseBody
from smendpoint.errors import HandlerError, SmendpointError
from smendpoint.handlers import (
    ChatHandler,
    ClassificationHandler,
    EmbeddingsHandler,
    JSONHandler,
    TabularHandler,
    TabularRowsHandler,
)

HANDLERS = [*READERS, TabularRowsHandler("json", "jsonlines")]
BODIES = {
    sample.body
    for samples in (TEXT_WHOLE, AUTO_WHOLE, OTHER_WHOLE, TEXT_STREAMS, CHAT_STREAMS, AUTO_STREAMS, ERRORS)
    for sample in samples  # type: ignore[attr-defined]  # each of them has a body
}
ANSWERS = [value for body in sorted(BODIES) for value in parsed(body) if isinstance(value, (dict, list)) and value]

NAME = r"\w+Handler(?:\([^)]*\))?"
ADVICE = re.compile(rf"({NAME})(?: or ({NAME}))? (?:reads (?:this|it)|returns it unchanged)( in a stream)?\.$")


def failure(handler: Any, body: bytes, *, streamed: bool) -> HandlerError | None:
    """Give the handler's error for an answer that it does not read."""
    try:
        if streamed:
            decoder = handler.stream_decoder()
            decoder.feed(b"data: " + body + b"\n\n")
            if decoder.error is not None:
                raise decoder.error
        else:
            handler.transform_output(ResponseBody(body))
    except HandlerError as error:
        return error
    except SmendpointError:  # a container's error: no other handler would read it
        pass
    return None


def check_advice(value: Any) -> set[str]:
    """Let every handler read the answer, and the handlers that the errors name; give the names."""
    body = json.dumps(value).encode()
    named: set[str] = set()
    for handler in HANDLERS:
        for streamed in (False, True) if hasattr(handler, "stream_decoder") else (False,):
            error = failure(handler, body, streamed=streamed)
            found = None if error is None else ADVICE.search(str(error))
            for name in (found[1], found[2]) if found else ():
                if name:
                    named.add(name)
                    assert found is not None
                    assert failure(made(name, handler), body, streamed=bool(found[3])) is None, (str(error), body)
    return named


def made(name: str, like: Any) -> Any:
    """Give the handler of this name; a `TabularHandler` means one with its own options."""
    if name == "TabularRowsHandler":
        return TabularRowsHandler(like.request, like.response, dtype=like.dtype, key=like.key)
    return eval(name if "(" in name else f"{name}()", dict(vars(smendpoint.handlers)))


def test_a_handler_that_the_advice_names_reads_the_answer() -> None:
    named = {name for value in ANSWERS for name in check_advice(value)}
    assert named == {
        "ChatHandler",
        "ClassificationHandler",
        "EmbeddingsHandler",
        'EmbeddingsHandler(pooling="mean")',
        "JSONHandler",
        "JumpStartChatHandler",
        'JumpStartTextHandler("flan-t5")',
        "OpenAICompletionsHandler",
        "RerankHandler",
        "SimilaritySearchHandler",
        "SparseEmbeddingsHandler",
        "TabularRowsHandler",
        'TabularHandler(response="json")',
        'TabularRowsHandler(response="json")',
        "TextGenerationHandler",
    }


@given(st.data())
def test_a_handler_that_the_advice_names_reads_the_mutated_answer(data: st.DataObject) -> None:
    changes = list(mutated(data.draw(st.sampled_from(ANSWERS))))
    changes += mutated(data.draw(st.sampled_from(changes))[2])
    check_advice(data.draw(st.sampled_from(changes))[2])


@pytest.mark.parametrize(
    ("handler", "body", "must_not_advise"),
    [
        (TabularHandler("json", "json"), b'{"outputs": [[0.1], [0.9]]}', "TextGenerationHandler"),
        (
            ClassificationHandler(),
            b'[{"entity_group": "PER", "score": 0.99, "word": "W", "start": 0, "end": 1}]',
            "RerankHandler",
        ),
        (ChatHandler(), b'{"embeddings": {"base64": ["AAAA"]}}', "EmbeddingsHandler"),
        (ChatHandler(), b'{"predictions": [{"a": 1, "b": 2}]}', "TabularHandler"),
        (ChatHandler(), b'{"data": [{"embedding": null}]}', "EmbeddingsHandler"),
        (ChatHandler(), b'{"generated_text": null}', "TextGenerationHandler"),
        (EmbeddingsHandler(), b'{"choices": [{"message": null}]}', "ChatHandler"),
        (TabularHandler("json", "json"), b'[["a", "b"]]', "TabularRowsHandler"),
    ],
)
def test_a_handler_that_cannot_read_an_answer_is_not_named(handler: Any, body: bytes, must_not_advise: str) -> None:
    assert must_not_advise not in (str(failure(handler, body, streamed=False) or "").rpartition(". ")[2])


def test_embeddings_of_another_type_name_it() -> None:
    body = b'{"embeddings":{"uint8":[[1]],"binary":[[-1]]}}'
    error = failure(ChatHandler(), body, streamed=False)
    assert error is not None
    assert str(error).endswith('. EmbeddingsHandler(embedding_type="uint8") reads this.')
    assert EmbeddingsHandler(embedding_type="uint8").transform_output(ResponseBody(body)) == [[1]]
    assert JSONHandler().transform_output(ResponseBody(body))["embeddings"]["binary"] == [[-1]]
