"""Models of SageMaker JumpStart, old and new."""

from __future__ import annotations

from typing import Any, Literal, cast

from smendpoint.emulator.models import ModelReply, ModelRequest
from smendpoint.emulator.personalities._chat import last_user_text
from smendpoint.emulator.personalities._common import (
    Personality,
    Refused,
    generate,
    json_body,
    json_reply,
    member,
    object_list,
    one_text,
    read_json,
    small_number,
    text_list,
)
from smendpoint.emulator.personalities.vectors import closeness, embed
from smendpoint.emulator.stand_in import answer

__all__ = ["JumpStartFamily", "jumpstart"]

JumpStartFamily = Literal["llama2", "llama2_chat", "llama3", "flan", "bloomz", "embedding", "similarity"]

_EULA = (
    "Need to pass custom_attributes='accept_eula=true' as part of header. This means you have read and accept the"
    " end-user license agreement (EULA) of the model."
)


def jumpstart(family: JumpStartFamily = "llama3") -> Personality:
    """Play a model of JumpStart.

    Args:
        family: Llama 2 text and chat (both want ``accept_eula=true`` in CustomAttributes), Llama 3 text, Flan-T5 and
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


def _generate(body: dict[str, Any], prompt: str) -> str:
    return generate(answer(prompt), prompt, member(body, "parameters")).text


def _llama2(request: ModelRequest) -> ModelReply:
    _check_eula(request)
    body = json_body(request)
    return json_reply([{"generation": _generate(body, text)} for text in text_list(body.get("inputs"), "inputs")])


def _llama2_chat(request: ModelRequest) -> ModelReply:
    _check_eula(request)
    body = json_body(request)
    dialogs = body.get("inputs")
    if not isinstance(dialogs, list):
        raise Refused("`inputs` must be a list of dialogs", 424)
    answers: list[dict[str, Any]] = []
    for dialog in cast("list[object]", dialogs):
        question, background = last_user_text(object_list(dialog, "inputs"))
        text = generate(answer(question, background), question, member(body, "parameters")).text
        answers.append({"generation": {"role": "assistant", "content": text}})
    return json_reply(answers)


def _llama3(request: ModelRequest) -> ModelReply:
    body = json_body(request)
    prompt = one_text(body.get("inputs"), "inputs")
    return json_reply({"generated_text": _generate(body, prompt)})


def _text_inputs(request: ModelRequest) -> tuple[dict[str, Any], str, int]:
    body = json_body(request)
    prompt = one_text(body.get("text_inputs"), "text_inputs")
    return body, prompt, small_number(body, "num_return_sequences")


def _flan(request: ModelRequest) -> ModelReply:
    body, prompt, count = _text_inputs(request)
    return json_reply({"generated_texts": [generate(answer(prompt), prompt, body).text] * count})


def _bloomz(request: ModelRequest) -> ModelReply:
    body, prompt, count = _text_inputs(request)
    return json_reply([[{"generated_text": generate(answer(prompt), prompt, body).text}] * count])


def _embedding(request: ModelRequest) -> ModelReply:
    text = request.body.decode("utf-8", "replace")
    if request.content_type.startswith("application/x-text") and text[:1] != "[":
        return json_reply({"embedding": embed(text)})
    value: Any = read_json(request.body)
    if isinstance(value, dict):
        value = cast("dict[str, Any]", value).get("text_inputs")
    texts = text_list(value, "text_inputs")
    return json_reply({"embedding": [embed(one) for one in texts]})


def _similarity(request: ModelRequest) -> ModelReply:
    if not isinstance(read_json(request.body), dict):
        return _embedding(request)
    body = json_body(request)
    corpus = text_list(body.get("corpus"), "corpus")
    found: list[list[dict[str, Any]]] = []
    for query in text_list(body.get("queries"), "queries"):
        ranks = [{"corpus_id": index, "score": closeness(query, text)} for index, text in enumerate(corpus)]
        found.append(sorted(ranks, key=lambda rank: -rank["score"])[: small_number(body, "top_k")])
    return json_reply(found)
