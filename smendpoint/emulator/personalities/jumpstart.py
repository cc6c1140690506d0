"""Models of SageMaker JumpStart, old and new."""

from __future__ import annotations

from typing import Any, Literal, cast

from smendpoint.emulator.models import ModelRequest
from smendpoint.emulator.personalities._chat import last_user_text
from smendpoint.emulator.personalities._common import (
    Personality,
    Refused,
    json_body,
    object_list,
    read_json,
    respond,
    text_list,
)
from smendpoint.emulator.personalities.vectors import embed, ranked

__all__ = ["JumpStartFamily", "jumpstart"]

JumpStartFamily = Literal["llama2", "llama2_chat", "llama3", "flan", "bloomz", "embedding", "similarity"]

_EULA = (
    "Need to pass custom_attributes='accept_eula=true' as part of header. This means you have read and accept the"
    " end-user license agreement (EULA) of the model."
)


def jumpstart(family: JumpStartFamily = "llama3") -> Personality:
    """Play a model of JumpStart.

    Args:
        family: Llama 2 text and chat (both need ``accept_eula=true`` in CustomAttributes), Llama 3 text, Flan-T5 and
            GPT-J (``text_inputs``), BloomZ, text embedding (plain text, ``text_inputs`` or a JSON array), sentence
            similarity (``corpus`` and ``queries``).
    """
    reply = {
        "llama2": _llama2,
        "llama2_chat": _llama2_chat,
        "llama3": _llama3,
        "flan": _flan,
        "bloomz": _bloomz,
        "embedding": _embedding,
        "similarity": _similarity,
    }[family]

    def refusal(refused: Refused) -> dict[str, Any]:
        return {"code": refused.status, "message": "prediction failure", "error": str(refused)}

    return Personality(f"jumpstart_{family}", reply, refusal)


def _check_eula(request: ModelRequest) -> None:
    if "accept_eula=true" not in request.custom_attributes:
        raise Refused(_EULA, 424)


def _llama2(request: ModelRequest) -> object:
    _check_eula(request)
    body = json_body(request)
    return [{"generation": respond(text, body.member("parameters")).text} for text in body.texts("inputs")]


def _llama2_chat(request: ModelRequest) -> object:
    _check_eula(request)
    body = json_body(request)
    dialogs = body.get("inputs")
    if not isinstance(dialogs, list):
        raise Refused("`inputs` must be a list of dialogs", 424)
    talks = [last_user_text(object_list(dialog, "inputs")) for dialog in cast("list[object]", dialogs)]
    texts = [respond(question, body.member("parameters"), background).text for question, background in talks]
    return [{"generation": {"role": "assistant", "content": text}} for text in texts]


def _llama3(request: ModelRequest) -> object:
    body = json_body(request)
    return {"generated_text": respond(body.text("inputs"), body.member("parameters")).text}


def _texts(request: ModelRequest) -> list[str]:
    body = json_body(request)
    return [respond(body.text("text_inputs"), body).text] * body.count("num_return_sequences")


def _flan(request: ModelRequest) -> object:
    return {"generated_texts": _texts(request)}


def _bloomz(request: ModelRequest) -> object:
    return [[{"generated_text": text} for text in _texts(request)]]


def _embedding(request: ModelRequest) -> object:
    text = request.body.decode("utf-8", "replace")
    if request.content_type.startswith("application/x-text") and text[:1] != "[":
        return {"embedding": embed(text)}
    value: Any = read_json(request.body)
    if isinstance(value, dict):
        value = cast("dict[str, Any]", value).get("text_inputs")
    return {"embedding": [embed(one) for one in text_list(value, "text_inputs")]}


def _similarity(request: ModelRequest) -> object:
    if not isinstance(read_json(request.body), dict):
        return _embedding(request)
    body = json_body(request)
    corpus = body.texts("corpus")
    return [
        [{"corpus_id": index, "score": score} for index, _, score in ranked(query, corpus)[: body.count("top_k")]]
        for query in body.texts("queries")
    ]
