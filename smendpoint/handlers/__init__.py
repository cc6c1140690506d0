"""Ready-made content handlers: the requests and answers of the containers that people run on SageMaker.

Choose by the container's answers: `TextGenerationHandler` (the default), `OpenAICompletionsHandler` and
`JumpStartTextHandler` for texts; `ChatHandler` and `JumpStartChatHandler` for messages and tool calls; `AutoHandler`
for any of these; `EmbeddingsHandler` and `SparseEmbeddingsHandler` for vectors; `RerankHandler`,
`ClassificationHandler` and `SimilaritySearchHandler` for scores; `TabularHandler`, `TabularRowsHandler` and
`NumPyHandler` for rows of a table; `JSONHandler`, `TextHandler` and `BytesHandler` for everything else::

    from smendpoint import Endpoint
    from smendpoint.handlers import ChatHandler

    endpoint = Endpoint("my-chat-model", content_handler=ChatHandler())

Your own handler needs no base class: `ContentHandler` and `StreamingContentHandler` list its members, and
`MappedDecoder` or `line_decoder` makes it stream.

Each name is loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smendpoint._container_errors import ContainerError, parse_container_error
    from smendpoint.handlers._chat_answers import ChatChunk, ChatCompletion, ToolCall, ToolCallDelta
    from smendpoint.handlers._chatstream import ChatStreamDecoder
    from smendpoint.handlers.base import (
        ContentHandler,
        MappedDecoder,
        OutputDetails,
        StreamDecoder,
        StreamingContentHandler,
        Usage,
        line_decoder,
    )
    from smendpoint.handlers.batching import AsyncEmbeddings, Embeddings
    from smendpoint.handlers.chat import AutoHandler, ChatHandler, JumpStartChatHandler, image_part
    from smendpoint.handlers.embeddings import EmbeddingsHandler, SparseEmbeddingsHandler
    from smendpoint.handlers.generic import BytesHandler, JSONHandler, TextHandler
    from smendpoint.handlers.ranking import (
        Classification,
        ClassificationHandler,
        Neighbour,
        RerankHandler,
        RerankInput,
        RerankResult,
        SimilaritySearchHandler,
    )
    from smendpoint.handlers.tabular import NumPyHandler, TabularHandler, TabularRowsHandler
    from smendpoint.handlers.text import JumpStartTextHandler, OpenAICompletionsHandler, TextGenerationHandler

__all__ = [
    "AsyncEmbeddings",
    "AutoHandler",
    "BytesHandler",
    "ChatChunk",
    "ChatCompletion",
    "ChatHandler",
    "ChatStreamDecoder",
    "Classification",
    "ClassificationHandler",
    "ContainerError",
    "ContentHandler",
    "Embeddings",
    "EmbeddingsHandler",
    "JSONHandler",
    "JumpStartChatHandler",
    "JumpStartTextHandler",
    "MappedDecoder",
    "Neighbour",
    "NumPyHandler",
    "OpenAICompletionsHandler",
    "OutputDetails",
    "RerankHandler",
    "RerankInput",
    "RerankResult",
    "SimilaritySearchHandler",
    "SparseEmbeddingsHandler",
    "StreamDecoder",
    "StreamingContentHandler",
    "TabularHandler",
    "TabularRowsHandler",
    "TextGenerationHandler",
    "TextHandler",
    "ToolCall",
    "ToolCallDelta",
    "Usage",
    "image_part",
    "line_decoder",
    "parse_container_error",
]

# The modules of the names; the rest is in `base`. A test compares this with the imports above.
_HOMES = {
    "_container_errors": ("ContainerError", "parse_container_error"),
    "_chatstream": ("ChatStreamDecoder",),
    "_chat_answers": ("ChatChunk", "ChatCompletion", "ToolCall", "ToolCallDelta"),
    "batching": ("AsyncEmbeddings", "Embeddings"),
    "chat": ("AutoHandler", "ChatHandler", "JumpStartChatHandler", "image_part"),
    "embeddings": ("EmbeddingsHandler", "SparseEmbeddingsHandler"),
    "generic": ("BytesHandler", "JSONHandler", "TextHandler"),
    "ranking": (
        "Classification",
        "ClassificationHandler",
        "Neighbour",
        "RerankHandler",
        "RerankInput",
        "RerankResult",
        "SimilaritySearchHandler",
    ),
    "tabular": ("NumPyHandler", "TabularHandler", "TabularRowsHandler"),
    "text": ("JumpStartTextHandler", "OpenAICompletionsHandler", "TextGenerationHandler"),
}

# A type checker that saw this function would accept every misspelled name.
if not TYPE_CHECKING:  # pragma: no branch  # it is never true at run time

    def __getattr__(name):
        """Load a public name on first use."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        home = next((home for home, names in _HOMES.items() if name in names), "base")
        package = "smendpoint" if home == "_container_errors" else __name__
        value = getattr(import_module(f"{package}.{home}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
