"""The real ``openai`` package on the emulator's OpenAI path."""

from __future__ import annotations

import asyncio
import base64
import enum
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import pytest
from clocks import FakeClock

from smendpoint import errors
from smendpoint._core.aws.sigv4 import Credentials
from smendpoint.emulator import Emulator
from smendpoint.openai import OpenAIAccess

openai = pytest.importorskip("openai", reason="the openai package is not installed")

WHO = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI")
KEYS: Any = {
    "region_name": "us-east-1",
    "aws_access_key_id": WHO.access_key,
    "aws_secret_access_key": WHO.secret_key,
}
MESSAGES: Any = [{"role": "user", "content": "Peter stayed for 3 days.\n\nQuestion: How long did Peter stay?"}]


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator({"my-llm": "vllm"}, credentials=WHO) as running:
        yield running


def access(emulator: Emulator, **arguments: Any) -> OpenAIAccess:
    return OpenAIAccess("my-llm", endpoint_url=emulator.url, **{**KEYS, **arguments})


def query_of(token: str) -> dict[str, list[str]]:
    url = base64.b64decode(token.removeprefix("sagemaker-api-key-"), validate=True).decode()
    return parse_qs(url.partition("?")[2])


def test_the_sdk_gets_an_answer(emulator: Emulator) -> None:
    ours = access(emulator)
    with openai.OpenAI(base_url=ours.base_url, api_key=ours.token, max_retries=0) as client:
        answer = client.chat.completions.create(model="", messages=MESSAGES)
    assert "3 days" in answer.choices[0].message.content


def test_the_sdk_streams_an_answer(emulator: Emulator) -> None:
    ours = access(emulator)
    with (
        openai.OpenAI(base_url=ours.base_url, api_key=ours.token, max_retries=0) as client,
        client.chat.completions.create(model="", messages=MESSAGES, stream=True) as stream,
    ):
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert "3 days" in text


def test_the_asynchronous_sdk_gets_and_streams_an_answer(emulator: Emulator) -> None:
    async def ask() -> tuple[str, str]:
        ours = access(emulator)
        base_url = await asyncio.to_thread(lambda: ours.base_url)
        async with openai.AsyncOpenAI(base_url=base_url, api_key=ours.token_async, max_retries=0) as client:
            answer = await client.chat.completions.create(model="", messages=MESSAGES)
            text = ""
            async with await client.chat.completions.create(model="", messages=MESSAGES, stream=True) as stream:
                async for chunk in stream:
                    text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            return answer.choices[0].message.content, text

    whole, streamed = asyncio.run(ask())
    assert "3 days" in whole
    assert "3 days" in streamed


def test_an_inference_component_is_part_of_the_path(emulator: Emulator) -> None:
    ours = access(emulator, inference_component_name="part-1")
    assert ours.base_url == f"{emulator.url}/endpoints/my-llm/inference-components/part-1/openai/v1"
    with openai.OpenAI(base_url=ours.base_url, api_key=ours.token, max_retries=0) as client:
        assert client.chat.completions.create(model="", messages=MESSAGES).choices


def test_names_of_an_enumeration_are_their_values() -> None:
    class Name(str, enum.Enum):
        COMPONENT = "my-component"
        REGION = "us-west-2"

    made = OpenAIAccess(
        "my-llm",
        inference_component_name=Name.COMPONENT,
        region_name=Name.REGION,
        aws_access_key_id="AKID",
        aws_secret_access_key="secret",
    )
    assert made.base_url == (
        "https://runtime.sagemaker.us-west-2.amazonaws.com/endpoints/my-llm/inference-components/my-component/openai/v1"
    )


def test_the_base_url_of_a_region_is_the_services() -> None:
    ours = OpenAIAccess("my-llm", **{**KEYS, "region_name": "eu-central-1"})
    assert ours.base_url == "https://runtime.sagemaker.eu-central-1.amazonaws.com/endpoints/my-llm/openai/v1"


def test_the_service_refuses_a_token_of_other_credentials(emulator: Emulator) -> None:
    ours = access(emulator, aws_secret_access_key="another")
    with (
        openai.OpenAI(base_url=ours.base_url, api_key=ours.token, max_retries=0) as client,
        pytest.raises(openai.PermissionDeniedError),
    ):
        client.chat.completions.create(model="", messages=MESSAGES)


def test_a_token_serves_until_a_tenth_of_its_life_is_left(emulator: Emulator) -> None:
    clock = FakeClock()
    ours = access(emulator, lifetime=1000, clock=clock)
    first = ours.token()
    clock.now += 899
    assert ours.token() == first
    clock.now += 1
    assert ours.token() != first
    assert query_of(first)["X-Amz-Expires"] == ["1000"]


def test_new_credentials_make_a_new_token(emulator: Emulator) -> None:
    ours = access(emulator)
    first = ours._token(Credentials("AKIDONE", "one", "token"))
    second = ours._token(Credentials("AKIDTWO", "two"))
    assert query_of(first)["X-Amz-Security-Token"] == ["token"]
    assert query_of(second)["X-Amz-Credential"][0].startswith("AKIDTWO/")


def test_the_token_is_the_one_that_botocore_would_presign() -> None:
    from botocore.auth import SigV4QueryAuth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials as BotoCredentials

    request = AWSRequest(
        method="POST",
        url="https://sagemaker.amazonaws.com/",
        params={"Action": "CallWithBearerToken"},
        headers={"host": "sagemaker.amazonaws.com"},
    )
    SigV4QueryAuth(BotoCredentials(WHO.access_key, WHO.secret_key), "sagemaker", "us-east-1", 43200).add_auth(request)
    theirs = parse_qs(request.url.partition("?")[2])
    from calendar import timegm
    from time import strptime

    signed_at = timegm(strptime(theirs["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ"))
    ours = query_of(OpenAIAccess("my-llm", **KEYS, clock=FakeClock(now=signed_at)).token())
    assert ours.pop("Version") == ["1"]
    assert ours == theirs


class Provider:
    """Credentials that are due for renewal, or are not there."""

    def __init__(self, *, at_hand: bool, due: bool = False, failure: Exception | None = None) -> None:
        self.at_hand, self.due, self.failure = at_hand, due, failure
        self.loaded = threading.Event()

    def current(self) -> Credentials | None:
        return WHO if self.at_hand else None

    def refresh_due(self) -> bool:
        return self.due

    def load(self) -> Credentials:
        self.loaded.set()
        if self.failure is not None:
            raise self.failure
        return WHO


def with_provider(emulator: Emulator, provider: Provider) -> OpenAIAccess:
    ours = access(emulator)
    ours._found = ours._target()._replace(credentials=provider)  # type: ignore[arg-type]  # a stand-in with the methods that are used
    return ours


@pytest.mark.parametrize("failure", [None, errors.CredentialsError("gone")], ids=["works", "fails"])
def test_credentials_are_renewed_ahead_without_holding_up_the_token(
    emulator: Emulator, failure: Exception | None
) -> None:
    provider = Provider(at_hand=True, due=True, failure=failure)
    assert with_provider(emulator, provider).token()
    assert provider.loaded.wait(10)


def test_missing_credentials_are_an_error_that_names_the_endpoint(emulator: Emulator) -> None:
    ours = with_provider(emulator, Provider(at_hand=False, failure=errors.CredentialsError("none")))
    with pytest.raises(errors.CredentialsError) as caught:
        ours.token()
    assert caught.value.endpoint_name == "my-llm"


def test_at_hand_the_asynchronous_token_needs_no_thread(emulator: Emulator) -> None:
    ours = access(emulator)
    token = ours.token()
    assert asyncio.run(ours.token_async()) == token


def test_a_first_asynchronous_token_is_made_in_a_thread(emulator: Emulator) -> None:
    assert asyncio.run(access(emulator).token_async()).startswith("sagemaker-api-key-")


def test_a_missing_region_is_an_error_that_names_the_endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(errors.ConfigurationError) as caught:
        _ = OpenAIAccess("my-llm", **{**KEYS, "region_name": None}).base_url
    assert caught.value.endpoint_name == "my-llm"


@pytest.mark.parametrize(
    "arguments",
    [
        {"lifetime": 0},
        {"lifetime": 43_201},
        {"lifetime": "1"},
        {"inference_component_name": "../x"},
        {"region_name": "x@evil.example:443/#"},
    ],
    ids=str,
)
def test_an_argument_that_does_not_fit_is_refused(arguments: Any) -> None:
    with pytest.raises(errors.ConfigurationError):
        OpenAIAccess("my-llm", **{**KEYS, **arguments})


def test_a_repr_shows_no_secret(emulator: Emulator) -> None:
    assert repr(access(emulator)) == "OpenAIAccess('my-llm')"
