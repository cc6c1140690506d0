"""Models that play well-known containers: their request and response shapes, with deterministic answers.

The stand-in answers text and chat, vectors come from hashes of words, and the prediction for a row is its sum::

    Emulator({"my-llm": personalities.lmi("sse"), "my-embeddings": "tei"})
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from smendpoint.emulator.models import Model
from smendpoint.emulator.personalities.algorithms import Algorithm, algorithm, blazingtext, tf_serving
from smendpoint.emulator.personalities.jumpstart import JumpStartFamily, jumpstart
from smendpoint.emulator.personalities.tabular import sklearn, xgboost
from smendpoint.emulator.personalities.text import (
    HuggingFaceTask,
    LmiShape,
    huggingface,
    lmi,
    stand_in,
    tgi,
    triton,
    vllm,
)
from smendpoint.emulator.personalities.vectors import cohere, feature_extraction, tei
from smendpoint.errors import ConfigurationError

# The room: a module for each family of containers, over `_common`, `_chat` (OpenAI's shapes), `_schema` (answers for a
# JSON schema) and the stand-in. A personality is a model like any other: it gets a `ModelRequest`, returns a
# `ModelReply`, and knows nothing about the server. A new one needs a function, a row below and samples in the tests.

__all__ = [
    "PERSONALITIES",
    "Algorithm",
    "HuggingFaceTask",
    "JumpStartFamily",
    "LmiShape",
    "algorithm",
    "blazingtext",
    "cohere",
    "feature_extraction",
    "huggingface",
    "jumpstart",
    "lmi",
    "personality",
    "sklearn",
    "stand_in",
    "tei",
    "tf_serving",
    "tgi",
    "triton",
    "vllm",
    "xgboost",
]

PERSONALITIES: Mapping[str, Callable[[], Model]] = MappingProxyType(
    {
        "blazingtext": blazingtext,
        "blazingtext_words": partial(blazingtext, "words"),
        "cohere": cohere,
        "feature_extraction": feature_extraction,
        "feature_extraction_nested": partial(feature_extraction, "nested"),
        "huggingface": huggingface,
        "huggingface_classification": partial(huggingface, "text-classification"),
        "huggingface_summarization": partial(huggingface, "summarization"),
        "huggingface_translation": partial(huggingface, "translation"),
        "huggingface_zero_shot": partial(huggingface, "zero-shot-classification"),
        "jumpstart_bloomz": partial(jumpstart, "bloomz"),
        "jumpstart_embedding": partial(jumpstart, "embedding"),
        "jumpstart_flan": partial(jumpstart, "flan"),
        "jumpstart_llama2": partial(jumpstart, "llama2"),
        "jumpstart_llama2_chat": partial(jumpstart, "llama2_chat"),
        "jumpstart_llama3": partial(jumpstart, "llama3"),
        "jumpstart_similarity": partial(jumpstart, "similarity"),
        "k_means": partial(algorithm, "k-means"),
        "linear_learner": algorithm,
        "lmi": lmi,
        "lmi_3p": partial(lmi, "3p"),
        "lmi_async": partial(lmi, "async"),
        "lmi_outputs": partial(lmi, "outputs"),
        "lmi_sse": partial(lmi, "sse"),
        "pca": partial(algorithm, "pca"),
        "random_cut_forest": partial(algorithm, "random-cut-forest"),
        "sentence_transformers": partial(feature_extraction, "vectors"),
        "sklearn": sklearn,
        "stand_in": stand_in,
        "tei": tei,
        "tei_classify": partial(tei, "classify"),
        "tei_rerank": partial(tei, "rerank"),
        "tei_sparse": partial(tei, "sparse"),
        "tf_serving": tf_serving,
        "tgi": tgi,
        "triton": triton,
        "vllm": vllm,
        "vllm_classify": partial(vllm, "classify"),
        "vllm_score": partial(vllm, "score"),
        "xgboost": xgboost,
    }
)
"""Functions that make models, by the name for ``Emulator``."""


def personality(name: str) -> Model:
    """Make the personality with this name.

    Raises:
        ConfigurationError: There is none.
    """
    maker = PERSONALITIES.get(name)
    if maker is None:
        raise ConfigurationError(f"no personality is named {name!r}; there are: {', '.join(PERSONALITIES)}")
    return maker()
