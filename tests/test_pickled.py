"""Pickled endpoints: where they are unpickled they call with the identity that they were made with, or not at all."""

from __future__ import annotations

import asyncio
import copy
import functools
import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aws_standins import clear_environment, explicit_keys, serve, sts_answer
from botocore.config import Config
from twins import NAME, PATIENCE, REGION, Twin, direct_twin  # noqa: F401

from smendpoint import (
    AsyncEmbeddings,
    AsyncEndpoint,
    AsyncInferenceHandle,
    Embeddings,
    Endpoint,
    InferenceHandle,
    StuffDocumentsQA,
)
from smendpoint.emulator import Emulator
from smendpoint.errors import CredentialsError
from smendpoint.handlers import EmbeddingsHandler
from smendpoint.langchain import SagemakerEndpoint

KEYS = explicit_keys("AKIDHOME", "home-secret")
TOKEN = explicit_keys("AKIDHOME", "home-secret", "home-token")
ROLE = "arn:aws:iam::123456789012:role/r"
SECRETS = [b"AKIDHOME", b"home-secret", b"home-token", b"proxy-secret"]
SAID = {
    **{name: name for name in TOKEN},
    "session": "session",
    "config": "the password in config.proxies",
}


def session(*, boto3: bool = False) -> Any:
    if boto3:
        import boto3 as library

        return library.Session(*KEYS.values())
    from botocore.session import Session

    made = Session()
    made.set_credentials(*TOKEN.values())
    return made


def with_password() -> Config:
    return Config(proxies={"https": "http://me:proxy-secret@proxy.invalid:1"}, read_timeout=PATIENCE)


# The options of an endpoint that has an identity of its own, made when they are needed.
EXPLICIT: dict[str, Callable[[], dict[str, Any]]] = {
    "keys": lambda: dict(KEYS),
    "temporary keys": lambda: dict(TOKEN),
    "keys and role": lambda: {**KEYS, "role_arn": ROLE},
    "keys and profile": lambda: {**KEYS, "credentials_profile_name": "work"},
    "keys and config": lambda: {**KEYS, "config": Config(read_timeout=PATIENCE)},
    "session": lambda: {"session": session()},
    "boto3 session": lambda: {"session": session(boto3=True)},
    "session and role": lambda: {"session": session(), "role_arn": ROLE},
    "session and keys": lambda: {"session": session(), **KEYS},
    "proxy password": lambda: {"config": with_password()},
    "proxy password and keys": lambda: {"config": with_password(), **KEYS},
}
# The options of one that takes the identity of its place, and the access key that it then has.
ELSEWHERE: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "nothing": (dict, "AKIDELSEWHERE"),
    "config": (lambda: {"config": Config(read_timeout=PATIENCE)}, "AKIDELSEWHERE"),
    "profile": (lambda: {"credentials_profile_name": "work"}, "AKIDPROFILE"),
    "role": (lambda: {"role_arn": ROLE}, "ASIAROLE1"),
    "profile and role": (lambda: {"credentials_profile_name": "work", "role_arn": ROLE}, "ASIAROLE1"),
}


def by_cloudpickle(value: Any) -> Any:
    return pickle.loads(pytest.importorskip("cloudpickle").dumps(value))


def by_pickle(value: Any, protocol: int) -> Any:
    data = pickle.dumps(value, protocol)
    assert not [secret for secret in SECRETS if secret in data]
    return pickle.loads(data)


WAYS: dict[str, Callable[[Any], Any]] = {
    **{f"pickle {number}": functools.partial(by_pickle, protocol=number) for number in range(6)},
    "cloudpickle": by_cloudpickle,
    "pickled twice": lambda value: by_pickle(by_pickle(value, 5), 5),
    "a copy, pickled": lambda value: by_pickle(copy.copy(value), 5),
    "pickled, then copied": lambda value: copy.deepcopy(by_pickle(value, 5)),
}


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A place with other credentials than the endpoint was made with."""
    clear_environment(monkeypatch, tmp_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDELSEWHERE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "elsewhere")
    file = tmp_path / "credentials"
    file.write_text("[work]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = profile\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))


@pytest.fixture
def emulator(elsewhere: None) -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


def make(twin: Twin, url: str, **options: Any) -> Any:
    made: Any = AsyncEndpoint if twin.asynchronous else Endpoint
    return made(NAME, region_name=REGION, endpoint_url=url, timeout=PATIENCE, **options)


def close(twin: Twin, endpoint: Any) -> None:
    twin.run(endpoint.aclose() if twin.asynchronous else endpoint.close())


def caller(emulator: Emulator, number: int = -1) -> str:
    """The access key that a request was signed with."""
    return emulator.requests[number].headers["authorization"].partition("Credential=")[2].partition("/")[0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("made_with", EXPLICIT)
def test_an_endpoint_whose_identity_was_not_pickled_does_not_call(
    made_with: str,
    way: str,
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
) -> None:
    options = EXPLICIT[made_with]()
    endpoint = WAYS[way](make(direct_twin, emulator.url, **options))
    left = [SAID[name] for name in options if name in SAID and not (name == "config" and options[name].proxies is None)]
    with pytest.raises(CredentialsError, match="this endpoint was unpickled without") as caught:
        direct_twin.run(endpoint.invoke("Hello"))
    assert all(name in str(caught.value) for name in left)
    assert left
    assert caught.value.endpoint_name == NAME
    assert emulator.requests == []
    assert emulator.total_connections == 0
    close(direct_twin, endpoint)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("made_with", ELSEWHERE)
def test_an_endpoint_without_an_identity_of_its_own_takes_that_of_its_new_place(
    made_with: str,
    way: str,
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options, key = ELSEWHERE[made_with]
    with serve(lambda request: sts_answer("AssumeRole", 1, 4e9)) as (url, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        endpoint = WAYS[way](make(direct_twin, emulator.url, model_kwargs={"temperature": 0.5}, **options()))
        direct_twin.run(endpoint.invoke("Hello"))
        close(direct_twin, endpoint)
    assert caller(emulator) == key
    assert json.loads(emulator.requests[0].body)["parameters"] == {"temperature": 0.5}
    roles = {"role": "AKIDELSEWHERE", "profile and role": "AKIDPROFILE"}
    assert [request.access_key for request in asked] == [roles[name] for name in roles if name == made_with]


@pytest.mark.parametrize("made_with", ["keys", "temporary keys", "session", "boto3 session", "session and keys"])
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_has_the_identity_of_its_original(
    copied: Callable[[Any], Any],
    made_with: str,
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
) -> None:
    endpoint = copied(make(direct_twin, emulator.url, **EXPLICIT[made_with]()))
    direct_twin.run(endpoint.invoke("Hello"))
    assert caller(emulator) == "AKIDHOME"
    close(direct_twin, endpoint)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("made_with", ["keys", "session"])
def test_a_forked_child_has_the_identity_of_its_parent(made_with: str, emulator: Emulator) -> None:
    with Endpoint(NAME, region_name=REGION, endpoint_url=emulator.url, **EXPLICIT[made_with]()) as endpoint:
        endpoint.invoke("Hello")
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                endpoint.invoke("Hello from the child")
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert [caller(emulator, number) for number in (0, 1)] == ["AKIDHOME", "AKIDHOME"]


def holders(twin: Twin, endpoint: Any) -> dict[str, tuple[Any, Callable[[Any], Any]]]:
    """All objects that hold an endpoint, with a call of each."""
    handle: Any = AsyncInferenceHandle if twin.asynchronous else InferenceHandle
    embeddings: Any = AsyncEmbeddings if twin.asynchronous else Embeddings
    answered: Any = StuffDocumentsQA(endpoint)
    return {
        "method": (endpoint.invoke, lambda held: held("Hello")),
        "partial": (functools.partial(endpoint.invoke, "Hello"), lambda held: held()),
        "session": (endpoint.session(), lambda held: held.open()),
        "handle": (handle(endpoint, "s3://bucket/output"), lambda held: held.result(0)),
        "embeddings": (embeddings(endpoint), lambda held: held.embed_query("Hello")),
        "answers": (answered, lambda held: held.answer("How long?", ["3 days."])),
    }


@pytest.mark.parametrize("made_with", ["keys", "session and role"])
@pytest.mark.parametrize("name", ["method", "partial", "session", "handle", "embeddings", "answers"])
def test_objects_with_an_unpickled_endpoint_do_not_call_either(
    name: str,
    made_with: str,
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
) -> None:
    handler = EmbeddingsHandler() if name == "embeddings" else None
    endpoint = make(direct_twin, emulator.url, content_handler=handler, **EXPLICIT[made_with]())
    held, use = holders(direct_twin, endpoint)[name]
    travelled = by_pickle(held, 5)
    with pytest.raises(CredentialsError, match="this endpoint was unpickled without"):
        direct_twin.run(use(travelled))
    assert emulator.requests == []


@pytest.mark.parametrize("called", ["invoke", "ainvoke"])
@pytest.mark.parametrize("used", [None, "invoke", "ainvoke"])
@pytest.mark.parametrize("made_with", ["nothing", "temporary keys", "session", "keys and role"])
def test_an_unpickled_model_of_langchain_has_the_identity_of_its_endpoint(
    made_with: str, used: str | None, called: str, emulator: Emulator
) -> None:
    def use(model: Any, method: str) -> None:
        async def awaited() -> None:
            try:
                await getattr(model, method)("Hello")
            finally:
                await model.aclose()

        if method == "ainvoke":
            asyncio.run(awaited())
        else:
            model.invoke("Hello")

    options = {} if made_with == "nothing" else EXPLICIT[made_with]()
    model = SagemakerEndpoint(endpoint_name=NAME, region_name=REGION, endpoint_url=emulator.url, **options)
    if used is not None and made_with != "keys and role":
        use(model, used)
        assert caller(emulator) == ("AKIDHOME" if options else "AKIDELSEWHERE")
    travelled = by_pickle(model, 5)
    before = len(emulator.requests)
    if options:
        with pytest.raises(CredentialsError, match="this endpoint was unpickled without"):
            use(travelled, called)
        assert len(emulator.requests) == before
    else:
        use(travelled, called)
        assert caller(emulator) == "AKIDELSEWHERE"
    model.close()
    travelled.close()
