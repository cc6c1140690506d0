"""Containers that generate text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from smendpoint.emulator.models import Model, ModelReply, ModelRequest
from smendpoint.emulator.personalities._common import Refused, dump, generate, json_body, json_reply
from smendpoint.emulator.stand_in import answer

__all__ = ["tgi"]


def tgi() -> Model:
    """Plays Hugging Face's text-generation-inference: generate requests, plain and streamed."""

    def model(request: ModelRequest) -> ModelReply:
        try:
            body = json_body(request)
            prompt = body.get("inputs")
            if not isinstance(prompt, str):
                raise Refused("Input validation error: `inputs` must be a string")
        except Refused as refusal:
            return json_reply({"error": str(refusal), "error_type": "validation"}, status=422)
        parameters: dict[str, Any] = body.get("parameters") or {}
        tokens, reason = generate(
            answer(prompt), limit=parameters.get("max_new_tokens"), stop=list(parameters.get("stop") or ())
        )
        start = prompt if parameters.get("return_full_text") else ""
        if body.get("stream"):
            return ModelReply(list(_stream(tokens, reason)), content_type="text/event-stream")
        result: dict[str, Any] = {"generated_text": start + "".join(tokens)}
        if parameters.get("details"):
            result["details"] = {
                "finish_reason": reason,
                "generated_tokens": len(tokens),
                "seed": None,
                "prefill": [],
                "tokens": [],
            }
        return json_reply([result])

    model.inline = True  # type: ignore[attr-defined]  # a function's own attribute, as Model documents
    return model


def _stream(tokens: list[str], reason: str) -> Iterator[str]:
    said = "".join(tokens)
    for index, text in enumerate(tokens, 1):
        last = index == len(tokens)
        event = {
            "index": index,
            "token": {"id": index, "text": text, "logprob": -0.1, "special": False},
            "generated_text": said if last else None,
            "details": {"finish_reason": reason, "generated_tokens": index, "seed": None} if last else None,
        }
        yield f"data:{dump(event)}\n\n"
