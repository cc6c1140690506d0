"""Other people's clients against the emulator: it is the service to them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import boto3
import botocore.session
import openai
import pytest
from aiobotocore.session import get_session
from aws_standins import explicit_keys
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from members import require_member
from signing import bearer, presign

from smendpoint._core.aws.sigv4 import Credentials
from smendpoint.emulator import Emulator, ModelRequest

KEYS = Credentials("AKID", "secret", "token")
SETTINGS: dict[str, Any] = {"region_name": "us-west-2", **explicit_keys("AKID", "secret", "token")}
PROMPT = "The cat slept for 2 hours.\nQuestion: How long did the cat sleep?"


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator({"my-llm": "tgi", "chat": "vllm"}, region="us-west-2", credentials=KEYS) as emulator:
        yield emulator


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Any]:
    session = botocore.session.get_session()
    config = Config(retries={"total_max_attempts": 1}, read_timeout=10)
    client = session.create_client("sagemaker-runtime", endpoint_url=emulator.url, config=config, **SETTINGS)
    yield client
    client.close()


def body(**more: Any) -> bytes:
    return json.dumps({"inputs": PROMPT, **more}).encode()


def test_botocore_gets_an_answer_with_its_metadata(emulator: Emulator, client: Any) -> None:
    answer = client.invoke_endpoint(EndpointName="my-llm", Body=body(), ContentType="application/json", Accept="a/b")
    assert json.loads(answer["Body"].read()) == [{"generated_text": "The cat slept for 2 hours."}]
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert answer["ContentType"] == "application/json"
    assert len(answer["ResponseMetadata"]["RequestId"]) == 36
    assert emulator.requests[0].headers["accept"] == "a/b"


def test_the_variant_that_answers_is_the_one_that_was_asked_for(client: Any) -> None:
    answer = client.invoke_endpoint(EndpointName="my-llm", Body=body(), TargetVariant="blue")
    assert answer["InvokedProductionVariant"] == "blue"


def test_botocore_gets_a_stream(client: Any) -> None:
    answer = client.invoke_endpoint_with_response_stream(EndpointName="my-llm", Body=body(stream=True))
    parts = [event["PayloadPart"]["Bytes"] for event in answer["Body"]]
    assert answer["ContentType"] == "text/event-stream"
    assert max(map(len, parts)) <= 13
    assert b"".join(parts).decode().count("data:") == 7


def test_botocore_gets_its_own_errors(emulator: Emulator, client: Any) -> None:
    with pytest.raises(client.exceptions.ModelError) as model_error:
        client.invoke_endpoint(EndpointName="my-llm", Body=b"nonsense")
    assert model_error.value.response["OriginalStatusCode"] == 400
    with pytest.raises(client.exceptions.ValidationError, match="Endpoint nothing of account"):
        client.invoke_endpoint(EndpointName="nothing", Body=b"{}")
    emulator.inject("not_ready_then_ok_1")
    with pytest.raises(client.exceptions.ModelNotReadyException):
        client.invoke_endpoint(EndpointName="my-llm", Body=body())
    emulator.inject("exception_known")
    answer = client.invoke_endpoint_with_response_stream(EndpointName="my-llm", Body=body(stream=True))
    with pytest.raises(EventStreamError, match="The model took too long"):
        list(answer["Body"])
    answer["Body"].close()  # botocore leaves the socket open after a stream that failed


def test_botocore_with_other_keys_is_refused(emulator: Emulator) -> None:
    session = botocore.session.get_session()
    settings = {**SETTINGS, "aws_secret_access_key": "wrong"}
    client = session.create_client("sagemaker-runtime", endpoint_url=emulator.url, **settings)
    with pytest.raises(ClientError, match="InvalidSignatureException"):
        client.invoke_endpoint(EndpointName="my-llm", Body=b"{}")
    client.close()


def test_botocore_is_refused_while_the_clocks_differ(emulator: Emulator) -> None:
    emulator.inject("skewed_date")
    session = botocore.session.get_session()
    client = session.create_client("sagemaker-runtime", endpoint_url=emulator.url, **SETTINGS)
    with pytest.raises(ClientError, match="Signature expired"):
        client.invoke_endpoint(EndpointName="my-llm", Body=body())
    client.close()


def test_botocore_opens_and_closes_a_session(emulator: Emulator, client: Any) -> None:
    require_member("InvokeEndpoint", "SessionId")
    opened = client.invoke_endpoint(EndpointName="my-llm", Body=body(), SessionId="NEW_SESSION")["NewSessionId"]
    session = opened.partition(";")[0]
    assert list(emulator.sessions) == [session]
    closed = client.invoke_endpoint(EndpointName="my-llm", Body=body(requestType="CLOSE"), SessionId=session)
    assert closed["ClosedSessionId"] == session


def test_boto3_finds_the_answer_of_an_asynchronous_call_in_the_s3_stand_in(emulator: Emulator, client: Any) -> None:
    s3 = boto3.client("s3", endpoint_url=f"{emulator.url}/s3", **SETTINGS)
    s3.put_object(Bucket="bucket", Key="in/put.json", Body=body())
    assert s3.head_object(Bucket="bucket", Key="in/put.json")["ContentLength"] == len(body())
    answer = client.invoke_endpoint_async(EndpointName="my-llm", InputLocation="s3://bucket/in/put.json")
    emulator.idle()
    bucket, _, key = answer["OutputLocation"].removeprefix("s3://").partition("/")
    assert b"The cat slept" in s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket=bucket, Key="nothing")
    s3.delete_object(Bucket="bucket", Key="in/put.json")
    assert "s3://bucket/in/put.json" not in emulator.objects
    s3.close()


def test_aiobotocore_gets_answers_and_streams(emulator: Emulator) -> None:
    async def both() -> tuple[bytes, bytes]:
        async with get_session().create_client("sagemaker-runtime", endpoint_url=emulator.url, **SETTINGS) as client:
            answer = await client.invoke_endpoint(EndpointName="my-llm", Body=body())
            async with answer["Body"] as payload:
                whole = await payload.read()
            answer = await client.invoke_endpoint_with_response_stream(EndpointName="my-llm", Body=body(stream=True))
            parts = [event["PayloadPart"]["Bytes"] async for event in answer["Body"]]
            return whole, b"".join(parts)

    whole, streamed = asyncio.run(both())
    assert json.loads(whole) == [{"generated_text": "The cat slept for 2 hours."}]
    assert b'"generated_text":"The cat slept for 2 hours."' in streamed
    emulator.disconnected()


def test_the_openai_sdk_talks_to_the_openai_path() -> None:
    now = 1_700_000_000.0
    messages: Any = [{"role": "user", "content": PROMPT}]
    with Emulator({"chat": "vllm"}, region="us-west-2", credentials=KEYS, clock=lambda: now) as emulator:
        base_url = f"{emulator.url}/endpoints/chat/openai/v1"
        token = bearer(presign(KEYS, now, region="us-west-2"))
        with openai.OpenAI(base_url=base_url, api_key=token, max_retries=0) as client:
            answer = client.chat.completions.create(model="", messages=messages)
            assert answer.choices[0].message.content == "The cat slept for 2 hours."
            with client.chat.completions.create(model="", messages=messages, stream=True) as chunks:
                said = [chunk.choices[0].delta.content or "" for chunk in chunks]
            assert "".join(said) == "The cat slept for 2 hours."
            with pytest.raises(openai.BadRequestError, match="no message of the user"):
                client.chat.completions.create(model="", messages=[{"role": "system", "content": "x"}])
        with (
            openai.OpenAI(base_url=base_url, api_key="sagemaker-api-key-", max_retries=0) as client,
            pytest.raises(openai.PermissionDeniedError),
        ):
            client.models.list()
        emulator.disconnected()


def test_a_model_sees_what_the_client_sent(client: Any, emulator: Emulator) -> None:
    require_member("InvokeEndpoint", "InferenceComponentName")
    seen: list[ModelRequest] = []

    def model(asked: ModelRequest) -> bytes:
        seen.append(asked)
        return b""

    emulator.models["my-llm"] = model
    client.invoke_endpoint(
        EndpointName="my-llm", Body=b"x", CustomAttributes="a=1", TargetVariant="blue", InferenceComponentName="part"
    )
    assert seen[0].custom_attributes == "a=1"
    assert seen[0].headers["x-amzn-sagemaker-target-variant"] == "blue"
    assert emulator.requests[0].inference_component == "part"
