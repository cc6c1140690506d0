"""OpenAI's embeddings for containers with other formats: an exact translation, or a refusal."""

from __future__ import annotations

import base64
import json
import struct
from typing import TYPE_CHECKING, Any

from smendpoint.asgi._failures import Failure
from smendpoint.handlers.batching import AsyncEmbeddings

if TYPE_CHECKING:
    from smendpoint._calls.async_stream import AsyncStream
    from smendpoint.async_endpoint import AsyncEndpoint

_OWN = ("dimensions", "encoding_format", "input", "model", "user")


class Vectors:
    """A request for embeddings.

    Raises:
        Failure: the container cannot do this.
    """

    render = None

    def __init__(
        self, model: str, endpoint: AsyncEndpoint[Any, Any, Any], format: str, request: dict[str, Any]
    ) -> None:
        self._model = model
        texts = request.get("input")
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            message = "The container of this model takes a text, or a list of texts, as 'input', but not tokens."
            raise Failure(400, message, param="input")
        encoding = request.get("encoding_format")
        if encoding not in (None, "float", "base64"):
            raise Failure(400, "'encoding_format' must be 'float' or 'base64'.", param="encoding_format")
        self._packed = encoding == "base64"
        self._texts: list[str] = texts
        self._dimensions = request.get("dimensions")
        parameters = {name: value for name, value in request.items() if name not in _OWN}
        if self._dimensions is not None:
            if format != "tei":
                raise Failure(400, "The container of this model has nothing like 'dimensions'.", param="dimensions")
            parameters["dimensions"] = self._dimensions
        self._embeddings = AsyncEmbeddings(endpoint, document_kwargs={"parameters": parameters})

    async def answer(self) -> bytes:
        vectors: list[list[float]] = await self._embeddings.embed_documents(self._texts)
        if self._dimensions is not None and len(vectors[0]) != self._dimensions:
            message = f"The model's vectors always have {len(vectors[0])} dimensions."
            raise Failure(400, message, param="dimensions")
        data = [
            {"object": "embedding", "index": index, "embedding": self._encode(vector)}
            for index, vector in enumerate(vectors)
        ]
        # The container does not count tokens, so their number is not known.
        answer = {"object": "list", "model": self._model, "data": data}
        return json.dumps(answer, separators=(",", ":")).encode()

    def _encode(self, vector: list[float]) -> list[float] | str:
        if not self._packed:
            return vector
        try:
            packed = struct.pack(f"<{len(vector)}f", *vector)
        except OverflowError:
            raise Failure(502, "The model's vectors have a number that is too large for base64's 32 bits.") from None
        return base64.b64encode(packed).decode()

    def stream(self) -> AsyncStream[Any, Any]:
        raise Failure(400, "Embeddings are not streamed.", param="stream")

    def end(self, stream: AsyncStream[Any, Any]) -> bytes:
        raise AssertionError  # pragma: no cover  # there is no stream
