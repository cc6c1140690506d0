"""Call models on Amazon SageMaker endpoints.

    from smendpoint import Endpoint

    endpoint = Endpoint("my-llm", region_name="us-west-2")
    print(endpoint.invoke("Hello"))

``Endpoint`` is for threads and scripts; ``AsyncEndpoint`` is its twin for asyncio. A content handler writes the body of
a request and reads the body of the answer. ``PromptTemplate`` makes prompts. Every failure is a ``SmendpointError``.

Each name is loaded on first use, so importing the package takes about a millisecond.
"""

from __future__ import annotations

from smendpoint._version import __version__

TYPE_CHECKING = False  # type checkers treat it as true; the constant in `typing` would cost the import of `typing`
if TYPE_CHECKING:
    from smendpoint._calls.async_conversation import AsyncConversation
    from smendpoint._calls.async_stream import AsyncStream
    from smendpoint._calls.conversation import Conversation
    from smendpoint._calls.inference import AsyncInferenceHandle, InferenceHandle
    from smendpoint._calls.response import Response
    from smendpoint._calls.session import AsyncStatefulSession, StatefulSession
    from smendpoint._calls.stream import Stream
    from smendpoint._core.aws.conversation import ConversationPart
    from smendpoint._core.call.hooks import CallHooks, CallInfo
    from smendpoint._core.call.limit import AdaptiveConcurrency
    from smendpoint._core.call.retry import RetryPolicy
    from smendpoint._core.call.timing import Clock, Timeout
    from smendpoint._core.http.body import ResponseBody
    from smendpoint._kwargs import AsyncKwargs, ConverseKwargs, InvokeEndpointKwargs, StreamKwargs
    from smendpoint.async_endpoint import AsyncEndpoint
    from smendpoint.endpoint import Endpoint
    from smendpoint.errors import (
        AccessDeniedError,
        BadGatewayError,
        ConfigurationError,
        ConnectError,
        CredentialsError,
        DeadlineExceededError,
        EndpointError,
        GatewayTimeoutError,
        HandlerError,
        InternalDependencyError,
        InternalFailureError,
        InternalStreamFailureError,
        LedgerError,
        ModelError,
        ModelNotReadyError,
        ModelOutputError,
        ModelStreamError,
        PayloadTooLargeError,
        PromptError,
        ProtocolError,
        ReadTimeoutError,
        RequestTimeoutError,
        ResourceNotFoundError,
        ServiceError,
        ServiceUnavailableError,
        SmendpointError,
        StreamDecodeError,
        StreamError,
        StreamTruncatedError,
        ThrottlingError,
        TLSError,
        TooManyErrorsError,
        TransportError,
        ValidationError,
    )
    from smendpoint.handlers import (
        AsyncEmbeddings,
        AutoHandler,
        BytesHandler,
        ChatHandler,
        ClassificationHandler,
        ContentHandler,
        Embeddings,
        EmbeddingsHandler,
        JSONHandler,
        JumpStartChatHandler,
        JumpStartTextHandler,
        NumPyHandler,
        OpenAICompletionsHandler,
        RerankHandler,
        SimilaritySearchHandler,
        SparseEmbeddingsHandler,
        StreamDecoder,
        StreamingContentHandler,
        TabularHandler,
        TabularRowsHandler,
        TextGenerationHandler,
        TextHandler,
    )
    from smendpoint.prompts import ChatPromptTemplate, Document, PromptTemplate
    from smendpoint.qa import StuffDocumentsQA, StuffedPrompt
    from smendpoint.routing.gateway import AsyncInferenceGateway, InferenceGateway
    from smendpoint.routing.router import AsyncInferenceRouter, InferenceRouter

__all__ = [
    "AccessDeniedError",
    "AdaptiveConcurrency",
    "AsyncConversation",
    "AsyncEmbeddings",
    "AsyncEndpoint",
    "AsyncInferenceGateway",
    "AsyncInferenceHandle",
    "AsyncInferenceRouter",
    "AsyncKwargs",
    "AsyncStatefulSession",
    "AsyncStream",
    "AutoHandler",
    "BadGatewayError",
    "BytesHandler",
    "CallHooks",
    "CallInfo",
    "ChatHandler",
    "ChatPromptTemplate",
    "ClassificationHandler",
    "Clock",
    "ConfigurationError",
    "ConnectError",
    "ContentHandler",
    "Conversation",
    "ConversationPart",
    "ConverseKwargs",
    "CredentialsError",
    "DeadlineExceededError",
    "Document",
    "Embeddings",
    "EmbeddingsHandler",
    "Endpoint",
    "EndpointError",
    "GatewayTimeoutError",
    "HandlerError",
    "InferenceGateway",
    "InferenceHandle",
    "InferenceRouter",
    "InternalDependencyError",
    "InternalFailureError",
    "InternalStreamFailureError",
    "InvokeEndpointKwargs",
    "JSONHandler",
    "JumpStartChatHandler",
    "JumpStartTextHandler",
    "LedgerError",
    "ModelError",
    "ModelNotReadyError",
    "ModelOutputError",
    "ModelStreamError",
    "NumPyHandler",
    "OpenAICompletionsHandler",
    "PayloadTooLargeError",
    "PromptError",
    "PromptTemplate",
    "ProtocolError",
    "ReadTimeoutError",
    "RequestTimeoutError",
    "RerankHandler",
    "ResourceNotFoundError",
    "Response",
    "ResponseBody",
    "RetryPolicy",
    "ServiceError",
    "ServiceUnavailableError",
    "SimilaritySearchHandler",
    "SmendpointError",
    "SparseEmbeddingsHandler",
    "StatefulSession",
    "Stream",
    "StreamDecodeError",
    "StreamDecoder",
    "StreamError",
    "StreamKwargs",
    "StreamTruncatedError",
    "StreamingContentHandler",
    "StuffDocumentsQA",
    "StuffedPrompt",
    "TLSError",
    "TabularHandler",
    "TabularRowsHandler",
    "TextGenerationHandler",
    "TextHandler",
    "ThrottlingError",
    "Timeout",
    "TooManyErrorsError",
    "TransportError",
    "ValidationError",
    "__version__",
]

# The modules of the names that are neither exceptions nor handlers. A test compares this with the imports above.
_HOMES = {
    "_core.aws.conversation": ("ConversationPart",),
    "_core.call.hooks": ("CallHooks", "CallInfo"),
    "_core.call.limit": ("AdaptiveConcurrency",),
    "_core.http.body": ("ResponseBody",),
    "_core.call.retry": ("RetryPolicy",),
    "_core.call.timing": ("Clock", "Timeout"),
    "_calls.inference": ("AsyncInferenceHandle", "InferenceHandle"),
    "_kwargs": ("AsyncKwargs", "ConverseKwargs", "InvokeEndpointKwargs", "StreamKwargs"),
    "_calls.response": ("Response",),
    "_calls.session": ("AsyncStatefulSession", "StatefulSession"),
    "_calls.stream": ("Stream",),
    "_calls.async_conversation": ("AsyncConversation",),
    "_calls.async_stream": ("AsyncStream",),
    "_calls.conversation": ("Conversation",),
    "async_endpoint": ("AsyncEndpoint",),
    "endpoint": ("Endpoint",),
    "prompts": ("ChatPromptTemplate", "Document", "PromptTemplate"),
    "qa": ("StuffDocumentsQA", "StuffedPrompt"),
    "routing.gateway": ("AsyncInferenceGateway", "InferenceGateway"),
    "routing.router": ("AsyncInferenceRouter", "InferenceRouter"),
}


def _home(name: str) -> str:
    for home, names in _HOMES.items():
        if name in names:
            return home
    return "errors" if name.endswith("Error") else "handlers"


# A type checker that saw this function would accept every misspelled name.
if not TYPE_CHECKING:  # pragma: no branch  # it is never true at run time

    def __getattr__(name):
        """Load a public name on first use."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_home(name)}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
