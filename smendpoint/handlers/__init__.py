"""Ready-made content handlers: what goes over the wire for the containers that people run on SageMaker.

Each name is loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smendpoint.handlers.base import (
        ContentHandler,
        MappedDecoder,
        OutputDetails,
        StreamDecoder,
        StreamingContentHandler,
        Usage,
        line_decoder,
    )
    from smendpoint.handlers.generic import BytesHandler, JSONHandler, TextHandler
    from smendpoint.handlers.text import JumpStartTextHandler, OpenAICompletionsHandler, TextGenerationHandler

__all__ = [
    "BytesHandler",
    "ContentHandler",
    "JSONHandler",
    "JumpStartTextHandler",
    "MappedDecoder",
    "OpenAICompletionsHandler",
    "OutputDetails",
    "StreamDecoder",
    "StreamingContentHandler",
    "TextGenerationHandler",
    "TextHandler",
    "Usage",
    "line_decoder",
]

_HOMES = {
    "generic": ("BytesHandler", "JSONHandler", "TextHandler"),
    "text": ("JumpStartTextHandler", "OpenAICompletionsHandler", "TextGenerationHandler"),
}

if not TYPE_CHECKING:  # a type checker that saw this function would take every misspelt name for a real one

    def __getattr__(name):
        """Load a public name on first use."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        home = next((home for home, names in _HOMES.items() if name in names), "base")
        value = getattr(import_module(f"{__name__}.{home}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
