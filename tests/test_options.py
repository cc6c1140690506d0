"""Every option of the constructor: it arrives in both twins, does what it says, and is in the docs' table."""

from __future__ import annotations

import ast
import inspect
import re
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from clocks import FakeClock
from servers import bare_environment  # noqa: F401
from twins import NAME, PATIENCE, REGION, Twin, TwinEndpoint, client_twin, direct_twin  # noqa: F401

from smendpoint import AsyncEndpoint, CallHooks, Endpoint, RetryPolicy, Timeout, errors
from smendpoint._aws import Identity, resolve
from smendpoint._aws.chain import Chain
from smendpoint._options import ENDPOINT_OPTIONS, IDENTITY_OPTIONS, EndpointArguments, IdentityFields
from smendpoint.emulator import Emulator
from smendpoint.handlers import BytesHandler

pytestmark = pytest.mark.usefixtures("bare_environment")

TWINS = pytest.mark.parametrize("make", [Endpoint, AsyncEndpoint])
REFUSED_WITH_A_CLIENT = {*IDENTITY_OPTIONS, "retry", "max_connections"}
KEYS = {"aws_access_key_id": "AKIDOTHER", "aws_secret_access_key": "other"}
ROLE = {"role_arn": "arn:aws:iam::123456789012:role/r"}


@TWINS
def test_an_option_that_does_not_exist_is_refused_with_a_class_that_users_know(make: Any) -> None:
    with pytest.raises(TypeError, match=r"^Endpoint\(\) got an unexpected keyword argument 'temprature'"):
        make("my-llm", temprature=0.5)


# identity: who calls, and where


def session_of_another() -> Any:
    session = botocore.session.Session()
    session.set_credentials("AKIDSESSION", "secret")
    return session


# A value of each option, and the options that it needs beside it.
IDENTITIES: dict[str, tuple[Any, dict[str, Any]]] = {
    "region_name": ("eu-west-1", {}),
    "credentials_profile_name": ("other", {}),
    "aws_access_key_id": ("AKIDTHIRD", KEYS),
    "aws_secret_access_key": ("third", KEYS),
    "aws_session_token": ("token", KEYS),
    "role_arn": (ROLE["role_arn"], {}),
    "role_session_name": ("night", ROLE),
    "external_id": ("agreed", ROLE),
    "session": (session_of_another(), {}),
    "endpoint_url": ("https://other.example", {}),
    "config": (Config(user_agent_extra="team/7", region_name="sa-east-1"), {}),
    "allow_plain_http": (True, {"endpoint_url": "http://plain.example"}),
    "allow_link_local": (True, {"endpoint_url": "https://169.254.1.1"}),
}


class Roles:
    """A client of STS whose access key repeats the request."""

    def assume_role(self, **request: Any) -> Any:
        keys = {"AccessKeyId": "/".join(request.values()), "SecretAccessKey": "s", "SessionToken": "t"}
        return {"Credentials": {**keys, "Expiration": datetime(2100, 1, 1, tzinfo=timezone.utc)}}

    def close(self) -> None: ...


def resolved(options: dict[str, Any]) -> Any:
    """The result of resolving, or the error."""
    try:
        target = resolve(Identity(**options), now=lambda: 1_700_000_000.0)
        found = target._asdict()
        found["credentials"] = vars_of(target.credentials.current() or target.credentials.load())
        return str(found)
    except errors.SmendpointError as error:
        return str(error)


def vars_of(credentials: Any) -> Any:
    return re.sub(r"smendpoint-\d+", "named by us", credentials.access_key), credentials.secret_key, credentials.token


@pytest.mark.parametrize("name", IDENTITY_OPTIONS)
def test_an_option_of_identity_arrives_in_both_twins(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value, beside = IDENTITIES[name]
    seen: list[Identity] = []

    def look(identity: Identity) -> Any:
        seen.append(identity)
        raise errors.ConfigurationError("seen")

    monkeypatch.setattr("smendpoint._transport.address.resolve", look)
    for id, make in (("sync-direct", Endpoint), ("async-direct", AsyncEndpoint)):
        twin, options = Twin(id), {**beside, name: value}
        with pytest.raises(errors.ConfigurationError, match="seen"):
            twin.run(make(NAME, **options).invoke("x"))
        twin.close()
    assert [getattr(identity, name) for identity in seen] == [value, value]


@pytest.mark.parametrize("name", IDENTITY_OPTIONS)
def test_an_option_of_identity_is_honoured_in_each_way_of_resolving(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Chain, "sts_client", lambda chain, session: Roles())
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "AKIDENVIRONMENT")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    value, beside = IDENTITIES[name]
    options = {**beside, name: value}
    short = resolved(options)
    monkeypatch.setenv("AWS_NOT_KNOWN_YET", "1")  # botocore may read it in a later version: it must be asked
    assert resolved(options) == short != resolved(beside)


# calls

Evidence = Callable[[Callable[..., TwinEndpoint], Emulator, dict[str, Any]], Any]


def body(make: Callable[..., TwinEndpoint], emulator: Emulator, given: dict[str, Any]) -> Any:
    make(**given).invoke("x")
    return emulator.requests[-1].body


def headers(make: Callable[..., TwinEndpoint], emulator: Emulator, given: dict[str, Any]) -> Any:
    make(**given).invoke("x")
    names = ("x-amzn-sagemaker-target-variant", "x-amzn-sagemaker-inference-component", "user-agent")
    return [str(emulator.requests[-1].headers.get(name)) for name in names]


def failure(fault: str, operation: str = "invoke") -> Evidence:
    def look(make: Callable[..., TwinEndpoint], emulator: Emulator, given: dict[str, Any]) -> Any:
        if fault:
            emulator.inject(fault)
        try:
            make(**given).call(operation, "x")
        except errors.SmendpointError as error:
            return str(error)
        finally:
            emulator.clear_faults()
        return "fine"

    return look


def together(make: Callable[..., TwinEndpoint], emulator: Emulator, given: dict[str, Any]) -> Any:
    list(make(**given).map(["a", "b"], max_concurrency=2))
    return emulator.total_connections


def heard(make: Callable[..., TwinEndpoint], emulator: Emulator, given: dict[str, Any]) -> Any:
    make(**given).invoke("x")
    return list(HEARD)


def elapsed(make: Callable[..., TwinEndpoint], emulator: Emulator, given: dict[str, Any]) -> Any:
    return make(**given).send("x").elapsed == 0.0


def stored(make: Callable[..., TwinEndpoint], emulator: Emulator, given: dict[str, Any]) -> Any:
    endpoint = make(**given)
    if given:
        endpoint.twin.run(endpoint.endpoint.submit("x", upload_to="s3://bucket/in"))
    return list(STORED)


HEARD: list[str] = []
STORED: list[str] = []


class Hooks(CallHooks):
    def call_started(self, call: Any) -> None:
        HEARD.append(call.operation)


class S3:
    """A client of either kind: its answers can be awaited."""

    def put_object(self, *, Bucket: str, **object: Any) -> Any:
        STORED.append(Bucket)

        async def done() -> None: ...

        return Awaited(done)

    def get_object(self, **where: Any) -> Any: ...


class Awaited:
    def __init__(self, done: Any) -> None:
        self._done = done

    def __await__(self) -> Any:
        return self._done().__await__()


# A value of each option, and the evidence that it is honoured: it differs without the option.
CALLS: dict[str, tuple[Any, Evidence]] = {
    "content_handler": (BytesHandler(), body),
    "model_kwargs": ({"top_k": 3}, body),
    "endpoint_kwargs": ({"TargetVariant": "blue"}, headers),
    "inference_component_name": ("part", headers),
    "client": (None, headers),  # the client lane's own
    "s3_client": (S3(), stored),
    # Of the total, the error is our own; of a read, it may be a client's, which names no number.
    "timeout": (Timeout(read=1.0, total=0.2), failure("stall_mid_stream", "stream")),
    "retry": (RetryPolicy(max_attempts=1), failure("throttle_then_ok_1")),
    "concurrency": (1, together),
    "max_connections": (1, together),
    "max_response_bytes": (5, failure("")),
    "hooks": (Hooks(), heard),
    "clock": (FakeClock(), elapsed),
}


class Model:
    """Answers two requests of a map at the same time, if both of them come."""

    def __init__(self) -> None:
        self.both = threading.Barrier(2)

    def __call__(self, request: Any) -> Any:
        if b'"a"' in request.body or b'"b"' in request.body:
            try:
                self.both.wait(0.3)
            except threading.BrokenBarrierError:
                return '{"generated_text": "alone"}'
        return '{"generated_text": "a long answer"}'


def looked_at(twin: Twin, name: str, *, given: bool) -> Any:
    value, evidence = CALLS[name]
    HEARD.clear()
    STORED.clear()
    with Emulator(Model(), async_output="s3://bucket/out") as emulator:

        def make(**options: Any) -> TwinEndpoint:
            return twin.endpoint(emulator.url, **{"timeout": 1.0 if name == "timeout" else PATIENCE, **options})

        try:
            return evidence(make, emulator, {name: value} if given else {})
        finally:
            twin.close_endpoints()


@pytest.mark.parametrize("name", sorted(set(ENDPOINT_OPTIONS) - set(IDENTITY_OPTIONS) - {"client"}))
def test_an_option_of_calls_is_honoured_by_both_twins(direct_twin: Twin, name: str) -> None:  # noqa: F811
    assert looked_at(direct_twin, name, given=True) != looked_at(direct_twin, name, given=False)


@pytest.mark.parametrize("name", sorted(set(ENDPOINT_OPTIONS) - REFUSED_WITH_A_CLIENT - {"client"}))
def test_with_a_client_it_is_honoured_too(client_twin: Twin, name: str) -> None:  # noqa: F811
    assert looked_at(client_twin, name, given=True) != looked_at(client_twin, name, given=False)


@pytest.mark.parametrize("name", ENDPOINT_OPTIONS)
def test_with_a_client_options_that_it_would_ignore_are_refused(client_twin: Twin, name: str) -> None:  # noqa: F811
    made = client_twin.endpoint("http://127.0.0.1:9")
    value, beside = IDENTITIES.get(name, (CALLS.get(name, (None,))[0], {}))
    options = {"client": made.client, **beside, name: made.client if name == "client" else value}
    if name not in REFUSED_WITH_A_CLIENT:
        assert type(made.endpoint)(NAME, **options).endpoint_name == NAME
        return
    with pytest.raises(errors.ConfigurationError, match=rf"^client= .*: leave out .*{name}"):
        type(made.endpoint)(NAME, **options)


def test_calls_go_through_the_client(client_twin: Twin) -> None:  # noqa: F811
    with Emulator(Model()) as emulator:
        assert headers(lambda **_: client_twin.endpoint(emulator.url), emulator, {})[-1].startswith(
            ("Botocore/", "aiobotocore/")
        )


# documentation


def test_the_lists_of_options_agree() -> None:
    tree = ast.parse(Path(inspect.getfile(EndpointArguments)).read_text(encoding="utf-8"))
    lists = {
        node.name: dict(ast.unparse(line).split(": ") for line in node.body if isinstance(line, ast.AnnAssign))
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    identity = lists["IdentityOptions"]
    endpoint = {**lists["CallOptions"], **lists["RouterOptions"], **lists["EndpointOptions"]}
    arguments = inspect.signature(Endpoint).parameters
    assert identity == IdentityFields.__annotations__
    assert {**identity, **endpoint, "content_handler": "Any"} == {
        name: arguments[name].annotation for name in ENDPOINT_OPTIONS
    }
    assert all(arguments[name].default is getattr(IdentityFields, name) for name in IDENTITY_OPTIONS)
    assert set(IDENTITIES) == set(IDENTITY_OPTIONS)
    assert {*IDENTITIES, *CALLS} == set(ENDPOINT_OPTIONS)


@TWINS
def test_every_option_is_described(make: Any) -> None:
    described = re.findall(r"^    (\w+): ", inspect.getdoc(make.__init__) or "", re.MULTILINE)
    assert described == ["endpoint_name", *ENDPOINT_OPTIONS, "ConfigurationError"]


def test_the_table_of_options_is_the_constructors() -> None:
    page = Path(__file__).parent.parent / "docs" / "reference" / "configuration.md"
    rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \| (\w+).* \|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    defaults = inspect.signature(Endpoint).parameters
    kinds = {name: "refused" if name in REFUSED_WITH_A_CLIENT else "applies" for name in ENDPOINT_OPTIONS}
    kinds["client"] = "itself"
    assert rows == [
        (name, format(default, ",") if type(default := defaults[name].default) is int else str(default), kinds[name])
        for name in ENDPOINT_OPTIONS
    ]
