"""LangChain's standard tests of chat models and embeddings pass, against an emulator."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from scripted_model import model as scripted

from smendpoint.emulator import Emulator

pytest.importorskip("langchain_core")
pytest.importorskip("langchain_tests")

import httpx
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests, EmbeddingsUnitTests

from smendpoint.integrations.langchain import ChatSageMaker, SageMakerEmbeddings

# A picture of one pixel, for the tests that would load one from the internet; they send its bytes and no more.
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module", autouse=True)
def service() -> Iterator[None]:
    with (
        pytest.MonkeyPatch.context() as patch,
        Emulator({"chat": scripted, "vectors": "tei"}, region="us-west-2") as service,
    ):
        patch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", service.url)
        patch.setattr(
            httpx, "get", lambda url, **_: httpx.Response(200, content=PIXEL, request=httpx.Request("GET", url))
        )
        yield


class Chat:
    """The model, and what it can do."""

    chat_model_class = ChatSageMaker
    chat_model_params: ClassVar[dict[str, Any]] = {"endpoint_name": "chat"}
    supports_json_mode = True
    supports_image_inputs = True
    supports_image_urls = True
    supports_image_tool_message = True
    supports_pdf_inputs = True
    supports_pdf_tool_message = True
    supports_audio_inputs = True
    supports_anthropic_inputs = True
    supports_model_override = True
    model_override_value = "another-adapter"
    # An endpoint has credentials of AWS instead of an api_key, which is refused as every argument that is not known.
    standard_chat_model_params: ClassVar[dict[str, Any]] = {
        "temperature": 0,
        "max_tokens": 100,
        "timeout": 60,
        "stop": [],
        "max_retries": 2,
    }


class TestChatUnit(Chat, ChatModelUnitTests):
    @pytest.mark.xfail(reason="LangChain's allowed_objects='all' holds LangChain's classes; others are loaded by name")
    def test_serdes(self, model: BaseChatModel, snapshot: Any) -> None:
        super().test_serdes(model, snapshot)


class TestChat(Chat, ChatModelIntegrationTests):
    pass


class TestChatWithFunctions(Chat, ChatModelIntegrationTests):
    """The same, where structured output is a call of a function."""

    structured_output_kwargs: ClassVar[dict[str, Any]] = {"method": "function_calling"}


class Vectors:
    """The embeddings."""

    embeddings_class = SageMakerEmbeddings
    embedding_model_params: ClassVar[dict[str, Any]] = {"endpoint_name": "vectors"}


class TestEmbeddingsUnit(Vectors, EmbeddingsUnitTests):
    pass


class TestEmbeddings(Vectors, EmbeddingsIntegrationTests):
    pass
