"""Call models on Amazon SageMaker endpoints.

    from smendpoint import Endpoint

    endpoint = Endpoint("my-llm", region_name="us-west-2")
    print(endpoint.invoke("Hello"))

``Endpoint`` is for threads and scripts, ``AsyncEndpoint`` its twin for asyncio. What goes over the wire is a content
handler's matter, prompts are ``PromptTemplate``'s, and every failure is a ``SmendpointError``.

Each name is loaded on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint._version import __version__

if TYPE_CHECKING:
    from smendpoint._core.response import ResponseBody
    from smendpoint._core.retry import RetryPolicy
    from smendpoint.async_endpoint import AsyncEndpoint, AsyncStream
    from smendpoint.endpoint import Endpoint, Response, Stream, Timeout
    from smendpoint.errors import (
        AccessDeniedError,
        ConfigurationError,
        ConnectError,
        CredentialsError,
        DeadlineExceededError,
        EndpointError,
        HandlerError,
        InternalDependencyError,
        InternalFailureError,
        InternalStreamFailureError,
        ModelError,
        ModelNotReadyError,
        ModelOutputError,
        ModelStreamError,
        PromptError,
        ProtocolError,
        ReadTimeoutError,
        ServiceError,
        ServiceUnavailableError,
        SmendpointError,
        StreamDecodeError,
        StreamError,
        StreamTruncatedError,
        ThrottlingError,
        TLSError,
        TransportError,
        ValidationError,
    )
    from smendpoint.handlers import BytesHandler, JSONHandler, TextGenerationHandler
    from smendpoint.handlers.base import ContentHandler, StreamDecoder, StreamingContentHandler
    from smendpoint.prompts import Document, PromptTemplate
    from smendpoint.qa import StuffDocumentsQA, StuffedPrompt

__all__ = [
    "AccessDeniedError",
    "AsyncEndpoint",
    "AsyncStream",
    "BytesHandler",
    "ConfigurationError",
    "ConnectError",
    "ContentHandler",
    "CredentialsError",
    "DeadlineExceededError",
    "Document",
    "Endpoint",
    "EndpointError",
    "HandlerError",
    "InternalDependencyError",
    "InternalFailureError",
    "InternalStreamFailureError",
    "JSONHandler",
    "ModelError",
    "ModelNotReadyError",
    "ModelOutputError",
    "ModelStreamError",
    "PromptError",
    "PromptTemplate",
    "ProtocolError",
    "ReadTimeoutError",
    "Response",
    "ResponseBody",
    "RetryPolicy",
    "ServiceError",
    "ServiceUnavailableError",
    "SmendpointError",
    "Stream",
    "StreamDecodeError",
    "StreamDecoder",
    "StreamError",
    "StreamTruncatedError",
    "StreamingContentHandler",
    "StuffDocumentsQA",
    "StuffedPrompt",
    "TLSError",
    "TextGenerationHandler",
    "ThrottlingError",
    "Timeout",
    "TransportError",
    "ValidationError",
    "__version__",
]

# Where the names live that are not exceptions; a test holds this against the imports above.
_HOMES = {
    "_core.response": ("ResponseBody",),
    "_core.retry": ("RetryPolicy",),
    "async_endpoint": ("AsyncEndpoint", "AsyncStream"),
    "endpoint": ("Endpoint", "Response", "Stream", "Timeout"),
    "handlers": ("BytesHandler", "JSONHandler", "TextGenerationHandler"),
    "handlers.base": ("ContentHandler", "StreamDecoder", "StreamingContentHandler"),
    "prompts": ("Document", "PromptTemplate"),
    "qa": ("StuffDocumentsQA", "StuffedPrompt"),
}

if not TYPE_CHECKING:  # a type checker that saw this function would take every misspelt name for a real one

    def __getattr__(name):
        """Load a public name on first use."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        home = next((home for home, names in _HOMES.items() if name in names), "errors")
        value = getattr(import_module(f"{__name__}.{home}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
