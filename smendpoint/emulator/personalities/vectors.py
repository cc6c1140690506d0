"""Containers that make vectors, scores and labels of texts."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from collections.abc import Callable
from typing import Any, Literal

from smendpoint.emulator.models import ModelRequest
from smendpoint.emulator.personalities._common import Body, Personality, Refused, json_body, toolkit_refusal
from smendpoint.emulator.stand_in import stems

__all__ = ["cohere", "feature_extraction", "tei"]

DIMENSIONS = 8
"""The dimension of every vector here, unless the request asks for fewer."""

_NEGATIVE = frozenset({"awful", "bad", "hate", "horrible", "never", "no", "not", "poor", "sad", "terrible", "worst"})


def embed(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """Return a vector of length 1 that is always the same for a text; texts that share words are near each other."""
    total = [0.0] * DIMENSIONS
    for word in sorted(stems(text)) or [text]:
        digest = hashlib.sha256(word.encode()).digest()[:DIMENSIONS]
        total = [value + (byte / 127.5 - 1.0) for value, byte in zip(total, digest, strict=True)]
    norm = math.sqrt(sum(value * value for value in total[:dimensions])) or 1.0
    return [round(value / norm, 6) for value in total[:dimensions]]


def classify(text: str) -> dict[str, Any]:
    """Label a text NEGATIVE if it has a negative word, else POSITIVE."""
    negative = len(_NEGATIVE.intersection(text.lower().replace(".", " ").split()))
    return {"label": "NEGATIVE" if negative else "POSITIVE", "score": round(1 - 0.1 / (1 + negative), 4)}


def closeness(one: str, other: str) -> float:
    """Return the cosine of the angle between the vectors of two texts."""
    return round(sum(a * b for a, b in zip(embed(one), embed(other), strict=True)), 6)


def ranked(
    query: str, texts: list[str], score: Callable[[str, str], float] = closeness
) -> list[tuple[int, str, float]]:
    """Return the texts with their indices and scores, the best first."""
    return sorted([(index, text, score(query, text)) for index, text in enumerate(texts)], key=lambda one: -one[2])


def tei(task: Literal["embed", "rerank", "classify", "sparse"] = "embed") -> Personality:
    """Play Hugging Face's text-embeddings-inference.

    Args:
        task: the kind of model.
    """

    def reply(request: ModelRequest) -> object:
        body = json_body(request)
        if request.path == "/v1/embeddings":
            return openai_embeddings(body)
        if task == "rerank":
            return _rerank(body)
        texts = body.texts("inputs", empty=False)
        if task == "sparse":
            return [_sparse(text) for text in texts]
        if task == "classify":
            labels = [[{"score": found["score"], "label": found["label"]}] for found in map(classify, texts)]
            return labels[0] if isinstance(body["inputs"], str) else labels
        return [embed(text, _dimensions(body)) for text in texts]

    def refusal(refused: Refused) -> dict[str, Any]:
        return {"error": str(refused), "error_type": "Empty" if refused.status == 400 else "Validation"}

    return Personality(f"tei_{task}", reply, refusal, openai_paths=["/v1/embeddings"] if task == "embed" else [])


def _dimensions(body: Body) -> int:
    wanted = body.get("dimensions")
    if wanted is None:
        return DIMENSIONS
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1:
        raise Refused("`dimensions` must be a positive integer")
    return wanted


def openai_embeddings(body: Body) -> dict[str, Any]:
    """Answer a request for embeddings in OpenAI's shape."""
    texts = body.texts("input", empty=False)
    wanted = body.get("encoding_format", "float")
    if wanted not in ("float", "base64"):
        raise Refused("`encoding_format` must be float or base64")
    vectors: list[Any] = [embed(text, _dimensions(body)) for text in texts]
    if wanted == "base64":
        vectors = [base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() for vector in vectors]
    used = sum(len(text.split()) for text in texts)
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)],
        "model": body.model_name,
        "usage": {"prompt_tokens": used, "total_tokens": used},
    }


def _sparse(text: str) -> list[dict[str, Any]]:
    """Give each word the weight 1, at an index that is always the same for the word."""
    indices = {int.from_bytes(hashlib.sha256(word.encode()).digest()[:2], "big") for word in stems(text) or [text]}
    return [{"index": index, "value": 1.0} for index in sorted(indices)]


def _rerank(body: Body) -> list[dict[str, Any]]:
    def score(query: str, text: str) -> float:
        return round(1 / (1 + math.exp(-4 * closeness(query, text))), 6)

    found = ranked(body.text("query"), body.texts("texts", empty=False), score)
    with_text = bool(body.get("return_text"))
    return [{"index": index, **({"text": text} if with_text else {}), "score": best} for index, text, best in found]


def feature_extraction(shape: Literal["tokens", "nested", "vectors"] = "tokens") -> Personality:
    """Play the Hugging Face toolkit's feature extraction, which gives a vector for every token.

    Args:
        shape: batch x tokens x dimension, batch x 1 x tokens x dimension, or ``{"vectors": batch x dimension}`` as the
            well-known ``inference.py`` for sentence transformers answers.
    """

    def reply(request: ModelRequest) -> object:
        texts = json_body(request).texts("inputs")
        if shape == "vectors":
            return {"vectors": [embed(text) for text in texts]}
        # [CLS] and [SEP] surround the words.
        tokens = [[embed(text), *map(embed, text.split()), embed("[SEP]")] for text in texts]
        return [[one] for one in tokens] if shape == "nested" else tokens

    return Personality(f"feature_extraction_{shape}", reply, toolkit_refusal)


def _signs(vector: list[float]) -> int:
    return sum(1 << (7 - place) for place, value in enumerate(vector) if value > 0)


_QUANTISED: dict[str, Callable[[list[float]], list[Any]]] = {
    "float": list,
    "int8": lambda vector: [round(value * 127) for value in vector],
    "uint8": lambda vector: [round(value * 127) + 128 for value in vector],
    "binary": lambda vector: [_signs(vector) - 128],
    "ubinary": lambda vector: [_signs(vector)],
}


def cohere() -> Personality:
    """Play Cohere's embedding models: ``{"texts": [...]}``, by type if ``embedding_types`` is given.

    Numbers are quantised from -1 to 1; those of the binary types hold the signs of eight dimensions.
    """

    def reply(request: ModelRequest) -> object:
        body = json_body(request)
        vectors = [embed(text) for text in body.texts("texts")]
        types = body.texts("embedding_types") if body.get("embedding_types") else []
        unknown = [name for name in types if name not in _QUANTISED]
        if unknown:
            raise Refused(f"invalid embedding type {unknown[0]}", 400)
        if not types:
            return {"id": "1", "embeddings": vectors, "response_type": "embeddings_floats"}
        found = {name: [_QUANTISED[name](vector) for vector in vectors] for name in types}
        return {"id": "1", "embeddings": found, "response_type": "embeddings_by_type"}

    return Personality("cohere", reply, lambda refused: {"message": str(refused)})
