"""The other clients of SageMaker endpoints, called as their users call them. The ones that are installed take part."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator, Iterator
from importlib.util import find_spec
from typing import Any, NamedTuple, TypeAlias

PROMPT = "Peter stayed with her at the hospital for 3 days without leaving. How long was Elizabeth hospitalized?"
PARAMETERS = {"max_new_tokens": 64, "temperature": 1e-10}

Call: TypeAlias = "Callable[[], str]"
"""Make one call, and give the text of the answer."""

Stream: TypeAlias = "Callable[[], Iterator[object]]"
"""Make one streamed call, and give something for each token."""

HANDLER = """
import json
from langchain_aws import SagemakerEndpoint
from langchain_aws.llms.sagemaker_endpoint import LLMContentHandler

class Handler(LLMContentHandler):
    content_type = accepts = "application/json"

    def transform_input(self, prompt, model_kwargs):
        return json.dumps({"inputs": prompt, "parameters": model_kwargs}).encode()

    def transform_output(self, output):
        if not isinstance(output, bytes):
            return json.loads(output.read())[0]["generated_text"]
        return json.loads(output[5:])["token"]["text"] if output.startswith(b"data:") else ""
"""


class Peer(NamedTuple):
    """Another client.

    Attributes:
        name: on charts and in tables.
        distribution: what is installed.
        module: tells whether it is installed.
        imports: the import statement of a program that uses it.
        program: prints the answer to one call, as the first thing that a process does.
        call: given the URL, makes a client, with which calls are made.
        stream: given the URL and the endpoint's name, the same for streams.
    """

    name: str
    distribution: str
    module: str
    imports: str
    program: str
    call: Callable[[str], contextlib.AbstractContextManager[Call]] | None = None
    stream: Callable[[str, str], contextlib.AbstractContextManager[Stream]] | None = None


def arguments() -> dict[str, Any]:
    """Make the same call with the bare SDK."""
    return {
        "EndpointName": "answer",
        "ContentType": "application/json",
        "Accept": "application/json",
        "Body": json.dumps({"inputs": PROMPT, "parameters": PARAMETERS}),
    }


@contextlib.contextmanager
def boto3_call(url: str) -> Generator[Call]:
    import boto3

    client: Any = boto3.client("sagemaker-runtime", endpoint_url=url)

    def call() -> str:
        text: str = json.loads(client.invoke_endpoint(**arguments())["Body"].read())[0]["generated_text"]
        return text

    yield call
    client.close()


@contextlib.contextmanager
def boto3_stream(url: str, name: str) -> Generator[Stream]:
    """Give the raw events: their JSON is not read."""
    import boto3

    client: Any = boto3.client("sagemaker-runtime", endpoint_url=url)

    def stream() -> Iterator[object]:
        response = client.invoke_endpoint_with_response_stream(EndpointName=name, Body=b"{}")
        return (event["PayloadPart"]["Bytes"] for event in response["Body"])

    yield stream
    client.close()


def langchain(url: str, name: str, **options: Any) -> Any:
    names: dict[str, Any] = {}
    exec(HANDLER, names)
    return names["SagemakerEndpoint"](
        endpoint_name=name,
        endpoint_url=url,
        region_name="us-east-1",
        content_handler=names["Handler"](),
        model_kwargs=PARAMETERS,
        **options,
    )


@contextlib.contextmanager
def langchain_call(url: str) -> Generator[Call]:
    model = langchain(url, "answer")
    yield lambda: model.invoke(PROMPT)
    model.client.close()


@contextlib.contextmanager
def langchain_stream(url: str, name: str) -> Generator[Stream]:
    model = langchain(url, name, streaming=True)
    yield lambda: model.stream(PROMPT)
    model.client.close()


def litellm(url: str, operation: str, **options: Any) -> Any:
    import litellm

    return litellm.completion(
        "sagemaker/answer",
        [{"role": "user", "content": PROMPT}],
        sagemaker_base_url=f"{url}/endpoints/{operation}",
        **PARAMETERS,
        **options,
    )


@contextlib.contextmanager
def litellm_call(url: str) -> Generator[Call]:
    yield lambda: litellm(url, "answer/invocations").choices[0].message.content


@contextlib.contextmanager
def litellm_stream(url: str, name: str) -> Generator[Stream]:
    def stream() -> Iterator[object]:
        chunks = litellm(url, f"{name}/invocations-response-stream", stream=True)
        return (text for chunk in chunks if (text := chunk.choices[0].delta.content))

    yield stream


BOTO3_PROGRAM = """
import json
import boto3
client = boto3.client("sagemaker-runtime")
body = json.dumps({"inputs": "Hello", "parameters": {}})
response = client.invoke_endpoint(EndpointName="answer", ContentType="application/json", Body=body)
print(json.loads(response["Body"].read())[0]["generated_text"])
"""
AIOBOTOCORE_PROGRAM = """
import asyncio, json
from aiobotocore.session import get_session
async def main():
    async with get_session().create_client("sagemaker-runtime") as client:
        body = json.dumps({"inputs": "Hello", "parameters": {}})
        response = await client.invoke_endpoint(EndpointName="answer", ContentType="application/json", Body=body)
        async with response["Body"] as stream:
            print(json.loads(await stream.read())[0]["generated_text"])
asyncio.run(main())
"""
LANGCHAIN_PROGRAM = f"""{HANDLER}
print(SagemakerEndpoint(endpoint_name="answer", region_name="us-east-1", content_handler=Handler()).invoke("Hello"))
"""
LITELLM_PROGRAM = """
import os
import litellm
url = os.environ["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"] + "/endpoints/answer/invocations"
answer = litellm.completion("sagemaker/answer", [{"role": "user", "content": "Hello"}], sagemaker_base_url=url)
print(answer.choices[0].message.content)
"""
PEERS = (
    Peer("boto3", "boto3", "boto3", "import boto3", BOTO3_PROGRAM, boto3_call, boto3_stream),
    Peer(
        "aiobotocore",
        "aiobotocore",
        "aiobotocore",
        "from aiobotocore.session import get_session",
        AIOBOTOCORE_PROGRAM,
    ),
    Peer(
        "LangChain",
        "langchain-aws",
        "langchain_aws",
        "from langchain_aws import SagemakerEndpoint",
        LANGCHAIN_PROGRAM,
        langchain_call,
        langchain_stream,
    ),
    Peer("LiteLLM", "litellm", "litellm", "import litellm", LITELLM_PROGRAM, litellm_call, litellm_stream),
)


def peers() -> list[Peer]:
    """List those that are installed; boto3 and aiobotocore belong to the requirements of the tests."""
    return [peer for peer in PEERS if find_spec(peer.module)]
