"""Inference routers and the global inference gateway: their methods, members, errors and secrets."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import pickle
import re
import warnings
from collections.abc import Mapping
from typing import Any

import botocore.exceptions
import botocore.session
import pytest
from clocks import FakeClock
from twins import NAME, PATIENCE, Twin, TwinEndpoint, direct_twin, need_service, twin  # noqa: F401

from smendpoint import (
    AsyncInferenceGateway,
    AsyncInferenceRouter,
    CallHooks,
    ChatHandler,
    InferenceGateway,
    InferenceRouter,
    JSONHandler,
    RetryPolicy,
    TabularHandler,
    Timeout,
    errors,
)
from smendpoint._core.aws.routing import GATEWAY, GATEWAY_MAX_BODY, INVOKE_ROUTER, ROUTER
from smendpoint.emulator import Emulator, Model, ModelReply, ModelRequest

ROUTERS = (InferenceRouter, AsyncInferenceRouter)
GATEWAYS = (InferenceGateway, AsyncInferenceGateway)
TOKEN = "CanaryIdentity.CanaryClaims.CanarySigned"
PREFIX = "x-amzn-sagemaker-"
MEMBERS = {"CustomerIdentityToken": TOKEN}


def router(twin: Twin, emulator: Emulator, **options: Any) -> TwinEndpoint:  # noqa: F811
    return twin.endpoint(emulator.url, "my-router", made_by=ROUTERS, **{"target": "chat", **options})


def gateway(twin: Twin, emulator: Emulator, **options: Any) -> TwinEndpoint:  # noqa: F811
    return twin.endpoint(emulator.url, "g1", made_by=GATEWAYS, **{"model_kwargs": {"model": "m"}, **options})


def failing(status: int, text: str = "no") -> Model:
    return lambda request: ModelReply(text, status=status)


def chat_answer(request: ModelRequest) -> Any:
    """Answer like a chat model, with the last message and an exclamation mark."""
    text = json.loads(request.body)["messages"][-1]["content"]
    if not request.streaming:
        answer = {"message": {"role": "assistant", "content": f"{text}!"}, "finish_reason": "stop"}
        return json.dumps({"choices": [answer]}).encode()
    deltas = [{"delta": {"content": text}}, {"delta": {"content": "!"}, "finish_reason": "stop"}]
    return [*(f"data: {json.dumps({'choices': [delta]})}\n\n" for delta in deltas), "data: [DONE]\n\n"]


def echo(request: ModelRequest) -> bytes:
    return json.dumps([{"generated_text": request.body.decode()}]).encode()


# calls


def test_a_router_sends_to_its_target_and_says_who_answered_and_why(twin: Twin, emulator: Emulator) -> None:  # noqa: F811
    with router(twin, emulator) as made:
        response = made.send("Hello", endpoint_kwargs={"PrefixAwareId": "team-7", "InferenceId": "i1"})
        assert response.output == "The stand-in model read: Hello"
        assert response.routed_resource_arn == "arn:aws:sagemaker:us-east-1:111122223333:endpoint/chat"
        assert response.routing_reason == "local-preferred"
        assert response.invoked_production_variant == "AllTraffic"
        (request,) = emulator.requests
        assert (request.operation, request.endpoint_name) == ("InvokeInferenceRouter", "my-router")
        assert request.target == "/inference-routers/my-router/invocations"
        sent = [request.headers[f"{PREFIX}{name}"] for name in ("routing-target-name", "prefix-aware-id")]
        assert sent == ["chat", "team-7"]
        assert made.invoke("Hello") == response.output
        assert list(made.map(["a", "b"])) == ["The stand-in model read: a", "The stand-in model read: b"]
        assert made.send("x", endpoint_kwargs={"RoutingTargetName": "other"}).routed_resource_arn.endswith("/other")


def test_an_endpoints_answer_names_no_destination(direct_twin: Twin, emulator: Emulator) -> None:  # noqa: F811
    with direct_twin.endpoint(emulator.url) as endpoint:
        response = endpoint.send("x")
    assert (response.routed_resource_arn, response.routing_reason) == (None, None)


def test_a_router_hands_an_input_in_amazon_s3_to_a_destination(direct_twin: Twin) -> None:  # noqa: F811
    stored: dict[str, bytes] = {}
    with Emulator(
        echo, async_load=lambda location: location.encode(), async_store=lambda at, data, ok: stored.update({at: data})
    ) as emulator:
        made = router(direct_twin, emulator)
        handle = direct_twin.run(
            made.endpoint.submit(
                input_location="s3://bucket/in",
                inference_id="i1",
                request_ttl_seconds=60,
                invocation_timeout_seconds=1,
                output_path_extension="night",
                filename="f" * 64,
            )
        )
        emulator.idle()
        assert (handle.inference_id, json.loads(stored[handle.output_location])) == (
            "i1",
            [{"generated_text": "s3://bucket/in"}],
        )
        assert handle.output_location.endswith(f"/night/{'f' * 64}.out")
        (request,) = emulator.requests
        assert (request.operation, request.body) == ("InvokeInferenceRouterAsync", b"")
        assert request.headers[f"{PREFIX}routing-target-name"] == "chat"
        made.close()


def test_a_gateway_answers_whole_and_streams_whatever_the_body_says(twin: Twin) -> None:  # noqa: F811
    seen: list[Any] = []

    def model(request: ModelRequest) -> Any:
        seen.append(json.loads(request.body))
        return chat_answer(request)

    with Emulator(model) as emulator, gateway(twin, emulator) as made:
        assert made.invoke("Hello").text == made.send("Hello").output.text == "Hello!"
        assert "".join(chunk.text for chunk in made.stream("Hello")) == "Hello!"
        assert [answer.text for answer in made.map(["a"], model="other")] == ["a!"]
        assert made.invoke("x", stream=True).text == "x!"
        operations = {request.operation for request in emulator.requests}
    assert operations == {"InvokeGlobalInferenceGateway", "InvokeGlobalInferenceGatewayWithResponseStream"}
    assert emulator.requests[2].target == "/global-inference-gateway/g1/invocations-response-stream"
    assert [(body["stream"], body["model"]) for body in seen] == [
        (False, "m"),
        (False, "m"),
        (True, "m"),
        (False, "other"),
        (False, "m"),
    ]


@pytest.mark.parametrize(
    ("kind", "has", "lacks"),
    [
        *[(kind, {"invoke", "send", "map", "submit"}, {"stream", "session", "endpoint_name"}) for kind in ROUTERS],
        *[(kind, {"invoke", "send", "map", "stream"}, {"submit", "session", "endpoint_name"}) for kind in GATEWAYS],
    ],
)
def test_each_has_only_the_methods_of_its_service(kind: Any, has: set[str], lacks: set[str]) -> None:
    assert has <= set(dir(kind))
    assert not lacks & set(dir(kind))


def test_they_know_what_they_call() -> None:
    made = InferenceRouter("my-router", target="chat")
    assert (made.name, made.target, made.concurrency_limit) == ("my-router", "chat", None)
    assert repr(made) == "InferenceRouter('my-router', content_handler=TextGenerationHandler)"
    other = AsyncInferenceGateway("g1", concurrency=3)
    assert (other.id, other.concurrency_limit) == ("g1", 3)
    assert repr(other) == "AsyncInferenceGateway('g1', content_handler=ChatHandler)"


def test_the_emulators_own_are_led_to_it(emulator: Emulator) -> None:
    with emulator.router("r", target="t") as made, emulator.gateway("g", model_kwargs={"model": "m"}) as other:
        assert made.invoke("a") == other.invoke("a").text == "The stand-in model read: a"


def test_a_gateway_that_an_emulator_makes_for_asyncio_leads_there() -> None:
    async def main() -> str:
        async with emulator.async_gateway("g", model_kwargs={"model": "m"}) as made:
            answer = await made.invoke("It rains in Rome. Where does it rain?")
            return str(answer.text)

    with Emulator() as emulator:
        assert "Rome" in asyncio.run(main())


def test_hooks_hear_of_the_operation_and_the_name(direct_twin: Twin, emulator: Emulator) -> None:  # noqa: F811
    heard: list[Any] = []

    class Hooks(CallHooks):
        def call_finished(self, call: Any, error: BaseException | None) -> None:
            heard.append((call.operation, call.endpoint_name, call.model, error))

    with router(direct_twin, emulator, hooks=Hooks()) as made, gateway(direct_twin, emulator, hooks=Hooks()) as other:
        made.invoke("x")
        other.collect("x")
    assert heard == [
        ("InvokeInferenceRouter", "my-router", "my-router", None),
        ("InvokeGlobalInferenceGatewayWithResponseStream", "g1", "m", None),
    ]


# arguments


@pytest.mark.parametrize("kind", ROUTERS)
def test_what_a_router_is_made_with_is_checked(kind: Any) -> None:
    with pytest.raises(TypeError, match="target"):
        kind("my-router")
    for target in ("a b", "", None, "arn:aws:sagemaker:x"):
        with pytest.raises(errors.ConfigurationError, match=r"^the name of the routing target must be"):
            kind("my-router", target=target)
    with pytest.raises(errors.ConfigurationError, match=r"^the inference router name must be 1 to 63 letters"):
        kind("my router", target="chat")
    for unknown in ("inference_component_name", "tiemout", "customer_identity_token"):
        with pytest.raises(TypeError, match=rf"^InferenceRouter\(\) got an unexpected keyword argument '{unknown}'$"):
            kind("my-router", target="chat", **{unknown: "x"})


@pytest.mark.parametrize("kind", GATEWAYS)
def test_what_a_gateway_is_made_with_is_checked(kind: Any) -> None:
    assert kind("a" * 64).id == "a" * 64
    with pytest.raises(errors.ConfigurationError, match=r"^the gateway ID must be 1 to 64 letters"):
        kind("a" * 65)
    for unknown in ("inference_component_name", "s3_client", "target"):
        with pytest.raises(TypeError, match=rf"^InferenceGateway\(\) got an unexpected keyword argument '{unknown}'$"):
            kind("g1", **{unknown: "x"})
    with pytest.raises(errors.ConfigurationError, match=r"^customer_identity_token must be a non-empty string"):
        kind("g1", customer_identity_token=7)
    with pytest.raises(errors.ConfigurationError, match=r"^pass customer_identity_token= instead") as caught:
        kind("g1", endpoint_kwargs=MEMBERS)
    assert TOKEN not in str(caught.value)


def test_a_call_that_the_service_would_refuse_is_not_sent(direct_twin: Twin, emulator: Emulator) -> None:  # noqa: F811
    made, other = router(direct_twin, emulator), gateway(direct_twin, emulator)
    with pytest.raises(errors.ConfigurationError, match=r"has no member 'TargetVariant' \(InvokeEndpoint and"):
        made.invoke("x", endpoint_kwargs={"TargetVariant": "blue"})
    with pytest.raises(errors.ConfigurationError, match="InferenceRouterName cannot be set"):
        made.invoke("x", endpoint_kwargs={"InferenceRouterName": "other"})
    with pytest.raises(errors.ConfigurationError, match="must be a str, not int"):
        direct_twin.run(made.endpoint.submit(input_location=7))
    with pytest.raises(errors.ConfigurationError, match="has no member 'CustomAttributes'"):
        other.invoke("x", endpoint_kwargs={"CustomAttributes": "a"})
    with pytest.raises(errors.ConfigurationError, match="which is all that a gateway takes: use a content handler"):
        gateway(direct_twin, emulator, content_handler=TabularHandler(), model_kwargs=None).invoke([[1.0]])
    assert emulator.requests == []


# limits


def test_a_router_may_be_silent_for_longer(direct_twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    assert ROUTER.read_timeout == 170.0
    # Its own default is too long for a test, and an endpoint's does not apply.
    monkeypatch.setattr(INVOKE_ROUTER, "service", ROUTER._replace(read_timeout=0.2))
    with Emulator() as emulator:
        emulator.inject("stall_before_headers", times=1)
        made = emulator.async_router if direct_twin.asynchronous else emulator.router
        one, other = made("r", target="t"), made("r", target="t", timeout=Timeout(read=PATIENCE))
        with pytest.raises(errors.ReadTimeoutError, match=r"0\.2"):
            direct_twin.run(one.invoke("x"))
        assert direct_twin.run(other.invoke("x"))
        for each in (one, other):
            direct_twin.run(each.aclose() if direct_twin.asynchronous else each.close())


@pytest.mark.parametrize(("make", "service"), [(router, ROUTER), (gateway, GATEWAY)], ids=["router", "gateway"])
def test_a_body_above_the_limit_is_sent_with_a_warning_and_refused(
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
    make: Any,
    service: Any,
) -> None:
    emulator.models["g1" if service is GATEWAY else "my-router"] = lambda request: b"{}"
    made = make(direct_twin, emulator, content_handler=JSONHandler(), model_kwargs={"model": "m"}, timeout=60.0)
    fits = {"inputs": "a" * (service.max_body - len('{"inputs":"","model":"m"}'))}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.invoke(fits)
    said = f"more than the {service.max_body:,} that SageMaker's API allows; above {service.max_body:,} the service"
    with pytest.warns(UserWarning, match=said), pytest.raises(errors.PayloadTooLargeError) as caught:
        made.invoke({**fits, "inputs": fits["inputs"] + "a"})
    assert ("6,291,456 through an inference router" in caught.value.message) == (service is ROUTER)
    assert caught.value.attempts == 1
    made.close()


# errors

# The status of the model's container, the gateway's error, and whether the call is sent again.
BEHIND_A_GATEWAY = [
    (400, errors.ValidationError, "ValidationException", 400, False),
    (422, errors.ValidationError, "ValidationException", 400, False),
    (401, errors.AccessDeniedError, "AccessDeniedException", 403, False),
    (403, errors.AccessDeniedError, "AccessDeniedException", 403, False),
    (404, errors.ResourceNotFoundError, "ResourceNotFoundException", 404, False),
    (408, errors.GatewayTimeoutError, "GatewayTimeoutException", 504, False),
    (429, errors.ThrottlingError, "ThrottlingException", 429, True),
    (500, errors.BadGatewayError, "BadGatewayException", 502, False),
    (503, errors.BadGatewayError, "BadGatewayException", 502, False),
    (504, errors.GatewayTimeoutError, "GatewayTimeoutException", 504, False),
]


@pytest.mark.parametrize("operation", ["invoke", "stream"])
@pytest.mark.parametrize(("status", "kind", "code", "shown", "again"), BEHIND_A_GATEWAY)
def test_a_gateways_error_is_not_repeated_if_the_model_may_have_run(
    direct_twin: Twin,  # noqa: F811
    operation: str,
    status: int,
    kind: type[errors.ServiceError],
    code: str,
    shown: int,
    again: bool,
) -> None:
    with Emulator(failing(status, "why" * 100)) as emulator:
        made = gateway(direct_twin, emulator, clock=FakeClock())
        with pytest.raises(kind) as caught:
            made.call(operation, "x")
        made.close()
    error = caught.value
    assert type(error) is kind
    assert (error.code, error.status, error.attempts) == (code, shown, 3 if again else 1)
    assert error.message == f"inference gateway (model server): {status} {('why' * 100)[:256]}"
    assert error.retry_after == (1.0 if again else None)


def test_a_bare_502_of_something_on_the_way_is_sent_again(direct_twin: Twin, emulator: Emulator) -> None:  # noqa: F811
    emulator.inject("status_502", times=1)
    with gateway(direct_twin, emulator, clock=FakeClock()) as made:
        assert made.send("x").attempts == 2


def test_a_routers_model_error_is_an_endpoints(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator(failing(500)) as emulator, router(direct_twin, emulator) as made:
        with pytest.raises(errors.ModelError) as caught:
            made.invoke("x")
        assert (caught.value.original_status_code, caught.value.attempts) == (500, 1)


# The errors of a router's service, and how often a call is sent by default.
OF_A_ROUTER = [
    (400, "ValidationException", errors.ValidationError, 1),
    (403, "AccessDeniedException", errors.AccessDeniedError, 1),
    (408, "RequestTimeoutException", errors.RequestTimeoutError, 3),
    (429, "ThrottlingException", errors.ThrottlingError, 3),
    (500, "InternalFailure", errors.InternalFailureError, 3),
    (503, "ServiceUnavailableException", errors.ServiceUnavailableError, 3),
    (530, "InternalDependencyException", errors.InternalDependencyError, 1),
]


@pytest.mark.parametrize(("status", "code", "kind", "attempts"), OF_A_ROUTER)
def test_a_routers_errors_are_repeated_as_its_model_says(
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
    status: int,
    code: str,
    kind: type[errors.ServiceError],
    attempts: int,
) -> None:
    emulator.inject(f"status_{status}_{code}")
    with router(direct_twin, emulator, clock=FakeClock()) as made, pytest.raises(kind) as caught:
        made.invoke("x")
    assert (caught.value.code, caught.value.attempts) == (code, attempts)


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (router, errors.ValidationError, "Inference router my-router of account 111122223333 not found"),
        (
            gateway,
            errors.ResourceNotFoundError,
            "Global Inference Gateway: gateway g1 of account 111122223333 not found",
        ),
    ],
    ids=["router", "gateway"],
)
def test_one_that_does_not_exist_ends_a_map_and_says_where_it_was_looked_for(
    twin: Twin,  # noqa: F811
    make: Any,
    kind: type[errors.ServiceError],
    said: str,
) -> None:
    with Emulator({"other": "tgi"}) as emulator, make(twin, emulator) as made:
        with pytest.raises(kind, match=f"{said}.* Hint: it was looked for in us-west-2"):
            list(made.map(["a", "b"], max_concurrency=1, return_exceptions=True))


def test_a_404_of_the_models_own_does_not_end_a_map(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator(failing(404)) as emulator, gateway(direct_twin, emulator) as made:
        found = list(made.map(["a", "b"], return_exceptions=True))
    assert [type(each) for each in found] == [errors.ResourceNotFoundError] * 2
    assert "Hint" not in str(found[0])


# the customer's identity token


def test_the_token_is_sent_and_signed_and_a_calls_own_replaces_it(twin: Twin) -> None:  # noqa: F811
    with Emulator() as emulator, gateway(twin, emulator, customer_identity_token=TOKEN) as made:
        made.invoke("x")
        made.collect("x", endpoint_kwargs={"CustomerIdentityToken": "another"})
        made.invoke("x")
    tokens = [request.headers[f"{PREFIX}customer-identity-token"] for request in emulator.requests]
    assert tokens == [TOKEN, "another", TOKEN]
    for request in emulator.requests:
        signed = re.search("SignedHeaders=([^,]*)", request.headers["authorization"])
        assert signed is not None
        assert f"{PREFIX}customer-identity-token" in signed[1].split(";")


@pytest.mark.parametrize("kind", GATEWAYS)
def test_the_token_is_not_pickled_and_nobody_takes_its_place(kind: Any, emulator: Emulator) -> None:
    twin = Twin("async-direct" if kind is AsyncInferenceGateway else "sync-direct")  # noqa: F811
    made = kind("g1", customer_identity_token=TOKEN, endpoint_url=emulator.url, region_name="us-east-1")
    pickled = pickle.dumps(made)
    assert TOKEN.encode() not in pickled
    loaded = pickle.loads(pickled)
    with pytest.raises(errors.CredentialsError, match="unpickled without customer_identity_token"):
        twin.run(loaded.invoke("x", model="m"))
    twin.close()


def test_a_copy_keeps_the_token(emulator: Emulator) -> None:
    with emulator.gateway("g1", customer_identity_token=TOKEN, model_kwargs={"model": "m"}) as made:
        for copied in (copy.copy(made), copy.deepcopy(made)):
            copied.invoke("x")
            assert emulator.requests[-1].headers[f"{PREFIX}customer-identity-token"] == TOKEN
            copied.close()


def test_the_token_is_shown_nowhere(emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with emulator.gateway("g1", customer_identity_token=TOKEN, retry=RetryPolicy(max_attempts=1)) as made:
        with pytest.raises(errors.ValidationError) as caught:  # no model
            made.invoke("x")
        shown = [repr(made), repr(vars(caught.value)), str(caught.value), *caplog.messages]
    assert caplog.messages
    assert not [text for text in shown if "Canary" in text]


# copies


@pytest.mark.parametrize("id", ["sync-direct", "async-direct"])
def test_pickled_ones_call_the_same_and_share_connections(
    id: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ACCESS_KEY_ID": "AKIDENV", "SECRET_ACCESS_KEY": "s", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    for service in (ROUTER, GATEWAY):
        monkeypatch.setenv(service.url_variable, emulator.url)
    twin = Twin(id)  # noqa: F811
    for made in (ROUTERS[twin.asynchronous]("my-router", target="chat"), GATEWAYS[twin.asynchronous]("g1")):
        copies = [pickle.loads(pickle.dumps(made)) for _ in range(2)]
        for each in copies:
            twin.run(each.invoke("x", model="m"))
        for each in (*copies, made):
            twin.run(each.aclose() if twin.asynchronous else each.close())
    twin.close()
    assert emulator.total_connections == 2
    assert [request.endpoint_name for request in emulator.requests] == ["my-router", "my-router", "g1", "g1"]


# botocore's own clients


def client_of(emulator: Emulator, service: Any) -> Any:
    session = botocore.session.Session()
    need_service(session, service.name)
    keys = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret"}
    return session.create_client(service.name, "us-east-1", endpoint_url=emulator.url, **keys)


def refused(call: Any, **members: Any) -> tuple[str, int]:
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(**members)
    said: Mapping[str, Any] = caught.value.response
    return said["Error"]["Code"], said["ResponseMetadata"]["HTTPStatusCode"]


def test_botocores_client_of_routers_is_served_as_we_are() -> None:
    with Emulator({"r": "tgi"}, async_load=lambda location: b"{}") as emulator:
        client = client_of(emulator, ROUTER)
        called = {"InferenceRouterName": "r", "RoutingTargetName": "chat"}
        answer = client.invoke_inference_router(**called, Body=b'{"inputs":"Hello"}', ContentType="application/json")
        ours = emulator.router("r", target="chat")
        response = ours.send("Hello")
        assert answer["Body"].read() == response.body
        assert answer["InvokedRoutedResourceArn"] == response.routed_resource_arn
        assert answer["RoutingReason"] == response.routing_reason
        assert client.invoke_inference_router_async(**called, InputLocation="s3://b/k")["OutputLocation"]
        assert refused(client.invoke_inference_router, **called, Body=b"") == ("ValidationException", 400)
        called["InferenceRouterName"] = "other"
        assert refused(client.invoke_inference_router, **called, Body=b"x") == ("ValidationException", 400)
        ours.close()
        client.close()
        emulator.idle()


def test_botocores_client_of_gateways_is_served_as_we_are() -> None:
    with Emulator({"g1": "tgi"}) as emulator:
        client = client_of(emulator, GATEWAY)
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hello"}]})
        called: dict[str, Any] = {"GatewayId": "g1", "ContentType": "application/json", "Body": body}
        ours = emulator.gateway("g1", content_handler=ChatHandler(), model_kwargs={"model": "m"})
        answer = client.invoke_global_inference_gateway(**called)["Body"]
        whole = json.loads(answer.read() if hasattr(answer, "read") else answer)
        assert whole["choices"][0]["message"]["content"] == ours.invoke("Hello").text
        events = client.invoke_global_inference_gateway_with_response_stream(**called)["Body"]
        streamed = b"".join(event["PayloadPart"]["Bytes"] for event in events).decode()
        texts = [json.loads(line[5:]) for line in streamed.splitlines() if line.startswith("data:{")]
        text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in texts if chunk["choices"])
        assert text == "".join(chunk.text for chunk in ours.stream("Hello"))
        whole_answer = client.invoke_global_inference_gateway
        assert refused(whole_answer, **{**called, "GatewayId": "g2"}) == ("ResourceNotFoundException", 404)
        assert refused(whole_answer, **{**called, "Body": "[]"}) == ("ValidationException", 400)
        ours.close()
        client.close()


def test_another_services_client_is_refused() -> None:
    client = botocore.session.Session().create_client("sagemaker-runtime", "us-east-1")
    with pytest.raises(
        errors.ConfigurationError, match="must be a client for 'sagemaker-inference-router-runtime', not"
    ):
        InferenceRouter(NAME, target="chat", client=client)
    with pytest.raises(errors.ConfigurationError, match=r"must be a sagemaker-gateway-runtime client, not object"):
        InferenceGateway("g1", client=object())
    client.close()


# the emulator's own checks


def test_the_emulator_refuses_what_the_services_refuse(emulator: Emulator) -> None:
    import http.client

    def post(path: str, body: bytes, **headers: str) -> tuple[int, str | None, str]:
        connection = http.client.HTTPConnection("127.0.0.1", emulator.port)
        connection.request("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        said = json.loads(answer.read())["Message"]
        connection.close()
        return answer.status, answer.getheader("x-amzn-ErrorType"), said

    routed, target = "/inference-routers/r/invocations", {f"{PREFIX}Routing-Target-Name": "t"}
    assert post(routed, b"{}")[::2] == (400, "RoutingTargetName must be given.")
    assert post(routed, b"", **target)[::2] == (400, "Body must not be empty.")
    assert post("/inference-routers/r/async-invocations", b"", **target)[::2] == (400, "InputLocation must be given.")
    assert post(routed, b"a" * (ROUTER.max_body + 1), **target)[0] == 413
    assert post("/inference-routers/r/invocations-response-stream", b"{}")[1] == "UnknownOperationException"
    through = "/global-inference-gateway/g/invocations"
    assert post(through, b"{}", Content_Type="text/csv")[0] == 415
    for body in (b"[]", b"{", b"{}", b'{"model": 7}'):
        assert post(through, body, Content_Type="application/json")[:2] == (400, "ValidationException")
    large = b'{"model": "m", "x": "' + b"a" * GATEWAY_MAX_BODY + b'"}'
    assert post(through, large, Content_Type="application/json")[:2] == (413, "PayloadTooLargeException")
    emulator.models["g"] = lambda request: b"a" * (GATEWAY_MAX_BODY + 1)
    assert post(through, b'{"model": "m"}', Content_Type="application/json")[:2] == (502, "BadGatewayException")


def test_a_gateways_model_that_raises_is_a_bad_gateway(direct_twin: Twin) -> None:  # noqa: F811
    def broken(request: ModelRequest) -> bytes:
        raise ValueError("broken")

    with Emulator(broken) as emulator, gateway(direct_twin, emulator) as made:
        with pytest.raises(errors.BadGatewayError, match=r"inference gateway \(model server\): 500 ValueError: broken"):
            made.invoke("x")
