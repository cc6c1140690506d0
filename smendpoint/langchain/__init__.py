"""Classes with LangChain's names, so that a program written for LangChain runs with new import lines.

``SagemakerEndpoint``, ``SagemakerEndpointEmbeddings``, ``LLMContentHandler``, ``EmbeddingsContentHandler``,
``PromptTemplate``, ``Document`` and ``load_qa_chain`` take the arguments of LangChain's classes of the same names, and
LangChain is not needed. Arguments that would have no effect here (callbacks, tracing, memory, chain types other than
``"stuff"``) are refused, never ignored. The methods that begin with ``a`` are for asyncio.
"""

from __future__ import annotations

from smendpoint.langchain._chain import StuffDocumentsChain, load_qa_chain
from smendpoint.langchain._embeddings import SagemakerEndpointEmbeddings
from smendpoint.langchain._handlers import ContentHandlerBase, EmbeddingsContentHandler, LLMContentHandler
from smendpoint.langchain._models import Generation, LLMResult, SagemakerEndpoint
from smendpoint.langchain._templates import PromptTemplate
from smendpoint.prompts import Document

# The room: one of LangChain's classes in each module, over endpoints of this package. `_base` makes the endpoints from
# LangChain's arguments and refuses those without effect. It may import everything but the emulator and `cli`.

__all__ = [
    "ContentHandlerBase",
    "Document",
    "EmbeddingsContentHandler",
    "Generation",
    "LLMContentHandler",
    "LLMResult",
    "PromptTemplate",
    "SagemakerEndpoint",
    "SagemakerEndpointEmbeddings",
    "StuffDocumentsChain",
    "load_qa_chain",
]
