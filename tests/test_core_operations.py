"""Requests: every member of the installed service model, sent as botocore sends it, and nothing that does not fit."""

from __future__ import annotations

import functools
import os
import random
import re
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

import botocore
import botocore.config
import botocore.exceptions
import botocore.loaders
import botocore.session
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from hypothesis import given
from hypothesis import strategies as st

from smendpoint._core.aws.operations import (
    INVOKE_ENDPOINT,
    INVOKE_ENDPOINT_ASYNC,
    INVOKE_ENDPOINT_STREAM,
    MAX_ASYNC_BODY,
    OPERATIONS,
    RUNTIME,
    Member,
    Operation,
    Service,
    request_head,
    validate_endpoint_name,
    validate_region,
)
from smendpoint._core.aws.response import ERROR_CLASSES
from smendpoint._core.aws.routing import (
    GATEWAY,
    INVOKE_GATEWAY,
    INVOKE_GATEWAY_STREAM,
    INVOKE_ROUTER,
    INVOKE_ROUTER_ASYNC,
    ROUTER,
)
from smendpoint.errors import ConfigurationError, ServiceError

FUZZ = int(os.environ.get("SMENDPOINT_FUZZ", "2000"))
SERVICES = (RUNTIME, ROUTER, GATEWAY)
EVERY_OPERATION = (*OPERATIONS, INVOKE_ROUTER, INVOKE_ROUTER_ASYNC, INVOKE_GATEWAY, INVOKE_GATEWAY_STREAM)
BY_NAME = {operation.name: operation for operation in EVERY_OPERATION}
# Frames of the event stream, never HTTP responses.
STREAM_ERRORS = {"ModelStreamError", "InternalStreamFailure"}
OPERATION_IDS = list(BY_NAME)

each_operation = pytest.mark.parametrize("operation", EVERY_OPERATION, ids=OPERATION_IDS)
each_service = pytest.mark.parametrize("service", SERVICES, ids=[service.name for service in SERVICES])
of_this_model = pytest.mark.skipif(
    tuple(map(int, botocore.__version__.split(".")[:2])) < (1, 43),
    reason="limits are compared with the model that they were taken from, and its successors",
)


@functools.cache
def model_of(service: Service) -> dict[str, Any]:
    """The installed model of a service; the test is skipped if there is none."""
    try:
        model: dict[str, Any] = botocore.loaders.Loader().load_service_model(service.name, "service-2")
    except botocore.exceptions.UnknownServiceError:
        pytest.skip(f"the installed botocore {botocore.__version__} does not know {service.name}")
    return model


def model_members(operation: Operation, direction: str) -> dict[str, dict[str, Any]]:
    """The members of an operation in the installed model, each with its shape."""
    model = model_of(operation.service)
    if operation.name not in model["operations"]:
        return {}
    shapes = model["shapes"]
    structure = shapes[model["operations"][operation.name][direction]["shape"]]
    return {name: {**shapes[member["shape"]], **member} for name, member in structure["members"].items()}


def needed(operation: Operation) -> dict[str, object]:
    """Valid values of the members that an operation cannot do without."""
    return {name: "application/json" if name == "ContentType" else "x" for name in operation.required}


EVERY_MEMBER = [(operation, name) for operation in EVERY_OPERATION for name in operation.members]
each_member = pytest.mark.parametrize(
    ("operation", "name"), EVERY_MEMBER, ids=[f"{operation.name}.{name}" for operation, name in EVERY_MEMBER]
)


# The installed service model ----------------------------------------------------------------------------------------


@each_service
def test_the_installed_model_has_no_operation_that_we_do_not_know(service: Service) -> None:
    assert set(model_of(service)["operations"]) <= {each.name for each in EVERY_OPERATION if each.service is service}


@each_service
def test_host_and_variable_are_made_from_what_the_model_says(service: Service) -> None:
    said = model_of(service)["metadata"]
    assert said["endpointPrefix"] == service.host
    assert said["signingName"] == "sagemaker"
    assert service.url_variable == f"AWS_ENDPOINT_URL_{said['serviceId'].upper().replace(' ', '_')}"
    assert service.invoke in BY_NAME


@each_operation
def test_the_name_and_what_cannot_be_missing_are_the_models(operation: Operation) -> None:
    members, service = model_members(operation, "input"), operation.service
    if not members:
        pytest.skip("the installed botocore is older than this operation")
    (called,) = [name for name, member in members.items() if member.get("location") == "uri"]
    assert (called, members[called]["max"]) == (service.name_member, service.longest_name)
    model = model_of(service)
    required = model["shapes"][model["operations"][operation.name]["input"]["shape"]]["required"]
    # An endpoint takes a body or an InputLocation, which older models do not know.
    assert operation.service is RUNTIME or {*required} - {called, "Body"} == {*operation.required}


@each_operation
def test_the_path_is_the_models(operation: Operation) -> None:
    http = model_of(operation.service)["operations"].get(operation.name, {}).get("http")
    if http is None:
        pytest.skip("the installed botocore is older than this operation")
    assert http["method"] == "POST"
    called = f"{{{operation.service.name_member}}}"
    assert request_head(operation, "ep", needed(operation)).path == http["requestUri"].replace(called, "ep")


@each_operation
def test_the_installed_model_has_no_request_member_that_we_do_not_know(operation: Operation) -> None:
    known = {operation.service.name_member, "Body", *operation.members}
    assert set(model_members(operation, "input")) <= known


@each_operation
def test_the_installed_model_has_no_response_member_that_we_do_not_know(operation: Operation) -> None:
    members = model_members(operation, "output")
    headers = {name: member["locationName"] for name, member in members.items() if member.get("location") == "header"}
    assert {name: header.lower() for name, header in headers.items()}.items() <= operation.outputs.items()
    assert set(members) - set(headers) <= {"Body", "InferenceId"}


@each_operation
def test_the_installed_model_has_no_error_that_we_do_not_know(operation: Operation) -> None:
    operations = model_of(operation.service)["operations"]
    errors = {error["shape"] for error in operations.get(operation.name, {}).get("errors", ())}
    assert errors <= set(ERROR_CLASSES) | STREAM_ERRORS


@each_service
def test_every_error_of_the_model_has_a_class_of_its_own(service: Service) -> None:
    shapes = {name for name, shape in model_of(service)["shapes"].items() if shape.get("exception")}
    classes = [ERROR_CLASSES[name] for name in shapes - STREAM_ERRORS]
    assert len(set(classes)) == len(classes)
    assert ServiceError not in classes


@of_this_model
@each_member
def test_headers_types_and_limits_are_the_models(operation: Operation, name: str) -> None:
    member, model = operation.members[name], model_members(operation, "input")[name]
    assert model["location"] == "header"
    assert member.header == model["locationName"]
    assert member.number == (model["type"] == "integer")
    # The model lets some texts be empty: a header cannot say that.
    assert (member.minimum, member.maximum) == (max(model.get("min", 0), 1), model.get("max"))


@of_this_model
@each_operation
def test_the_bodys_limit_is_the_models(operation: Operation) -> None:
    body = model_members(operation, "input").get("Body")
    ours = MAX_ASYNC_BODY if operation is INVOKE_ENDPOINT_ASYNC else operation.service.max_body
    assert operation is INVOKE_ROUTER_ASYNC if body is None else ours == body["max"]


# The requests of botocore --------------------------------------------------------------------------------------

printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=40)
identifier = st.from_regex(r"[a-zA-Z0-9](-{0,3}[a-zA-Z0-9]){0,20}", fullmatch=True)


def values(member: Member) -> st.SearchStrategy[object]:
    if member.number:
        return st.integers(member.minimum, member.maximum)
    if member.header == "Content-Type":  # gateways take no other
        return st.sampled_from(["application/json", "application/json; charset=utf-8"])
    return printable.filter(lambda text: len(text) <= (member.maximum or 40))


# Of the transport and the signature, not of the members.
NOT_MEMBERS = {
    "accept-encoding",
    "amz-sdk-invocation-id",
    "amz-sdk-request",
    "authorization",
    "content-length",
    "user-agent",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
}


class NoBody:
    """The response's body for botocore."""

    def stream(self, *_args: object, **_keywords: object) -> list[bytes]:
        return [b""]


@functools.cache
def botocore_sends(service: Service) -> Any:
    """A function that gives the request that botocore's client would have sent."""
    client = botocore.session.Session().create_client(
        service.name, "us-east-1", aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="secret"
    )
    sent: list[AWSPreparedRequest] = []

    def keep(request: AWSPreparedRequest, **_keywords: object) -> AWSResponse:
        sent.append(request)
        return AWSResponse(request.url, 200, {}, NoBody())

    client.meta.events.register("before-send", keep)

    def send(operation: str, **members: object) -> AWSPreparedRequest:
        client._make_api_call(operation, members)
        return sent.pop()

    return send


@each_operation
def test_every_request_equals_what_botocores_client_sends(operation: Operation) -> None:
    known = model_members(operation, "input")
    if "Body" not in known and operation is not INVOKE_ROUTER_ASYNC:
        pytest.skip("the installed botocore is older than this operation, or than its body")
    strategies = {name: values(member) for name, member in operation.members.items() if name in known}
    needs = {name: strategies.pop(name) for name in operation.required}

    @given(
        endpoint_name=identifier.filter(lambda name: len(name) <= 63),
        members=st.fixed_dictionaries(needs, optional=strategies),
        body=st.binary(max_size=20) if "Body" in known else st.just(b""),
    )
    def equal(endpoint_name: str, members: dict[str, object], body: bytes) -> None:
        given_body = {"Body": body} if "Body" in known else {}
        called = {operation.service.name_member: endpoint_name}
        theirs = botocore_sends(operation.service)(operation.name, **called, **given_body, **members)
        ours = request_head(operation, endpoint_name, members)
        assert ours.path == urlsplit(theirs.url).path
        headers = {
            name: value.decode() if isinstance(value, bytes) else value for name, value in theirs.headers.items()
        }
        assert dict(ours.headers) == {n: value for n, value in headers.items() if n.lower() not in NOT_MEMBERS}
        assert (theirs.body or b"") == body

    equal()


# Values that do not fit --------------------------------------------------------------------------------------

BAD_NAMES = ["", ".", "..", "a/b", "../other", "a%2Fb", "a?b", "a#b", "-a", "a-", "a_b", "a b", " a", "a\n"]
BAD_NAMES += ["a\r\nX: y", "a\x00", "é", "\u0661", "\uff11", "a" * 64]
BAD_NAMES += ["arn:aws:sagemaker:us-east-1:1:endpoint/a", "https://e.com/a"]
BAD_REGIONS = ["", "x@evil.com:443/#", "us-east-1.evil.com", "us east", "us-east-1\n", "-us", "us-", "123", "\u0661"]
BAD_REGIONS += ["a" * 64, "us-east-1\r\nHost: evil", "us_east_1"]


@pytest.mark.parametrize("name", [*BAD_NAMES, None, b"endpoint", 5], ids=ascii)
def test_a_name_that_is_not_an_endpoint_name_is_refused(name: object) -> None:
    with pytest.raises(ConfigurationError, match="the endpoint name must be"):
        validate_endpoint_name(name)


def test_names_that_are_members_of_an_enumeration_are_sent_as_their_values() -> None:
    class Name(str, Enum):
        ENDPOINT = "my-endpoint"
        REGION = "us-east-1"

    assert request_head(INVOKE_ENDPOINT, Name.ENDPOINT, {}).path == "/endpoints/my-endpoint/invocations"
    assert f"{validate_region(Name.REGION)}" == "us-east-1"


@pytest.mark.parametrize("name", ["a", "0", "My-Endpoint--1", "a" * 63])
def test_an_endpoint_name_is_given_back(name: str) -> None:
    assert validate_endpoint_name(name) == name


@pytest.mark.parametrize("name", ["arn:aws:sagemaker:us-east-1:1:endpoint/a", "https://example.com/a"])
def test_an_arn_or_a_url_for_a_name_is_explained(name: str) -> None:
    with pytest.raises(ConfigurationError, match="not an ARN or a URL"):
        validate_endpoint_name(name)


def test_a_huge_name_is_not_repeated_in_the_message() -> None:
    with pytest.raises(ConfigurationError) as caught:
        validate_endpoint_name("x" * 1_000_000)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("region", [*BAD_REGIONS, None, b"us-east-1", 1], ids=ascii)
def test_a_region_that_is_not_a_host_label_is_refused(region: object) -> None:
    with pytest.raises(ConfigurationError, match="the region must be"):
        validate_region(region)


@pytest.mark.parametrize("region", ["us-east-1", "cn-north-1", "us-iso-east-1", "eusc-de-east-1", "local", "US-EAST-1"])
def test_a_region_is_given_back(region: str) -> None:
    assert validate_region(region) == region


@given(st.text(max_size=80) | st.text("aZ09-_.@ \u0661\n", max_size=8))
def test_a_region_is_taken_exactly_when_botocore_takes_it(region: str) -> None:
    from botocore.exceptions import InvalidRegionError
    from botocore.utils import validate_region_name

    try:
        validate_region_name(region)
        fits = region != "" and not region.endswith("\n")  # botocore's "$" lets a last line feed pass
    except InvalidRegionError:
        fits = False
    try:
        assert validate_region(region) == region
        assert fits
    except ConfigurationError:
        assert not fits


@pytest.mark.parametrize(
    ("operation", "missing"),
    [
        (INVOKE_ROUTER, "RoutingTargetName"),
        (INVOKE_ROUTER_ASYNC, "RoutingTargetName and InputLocation"),
        (INVOKE_GATEWAY, "ContentType"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_request_without_what_it_needs_is_refused(operation: Operation, missing: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{operation.name} needs {missing}$"):
        request_head(operation, "ep", {})


def test_a_gateway_takes_json_only() -> None:
    for kind in ("application/json", "Application/JSON ; charset=utf-8"):
        assert request_head(INVOKE_GATEWAY, "g1", {"ContentType": kind}).headers == (("Content-Type", kind),)
    for kind in ("text/csv", "application/json5", "application/x-json"):
        with pytest.raises(ConfigurationError, match="must be application/json, which is all that a gateway takes"):
            request_head(INVOKE_GATEWAY_STREAM, "g1", {"ContentType": kind})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ContentType", "", "ContentType must have 1 to 1024 characters, not 0"),
        ("ContentType", None, "ContentType must be a str, not NoneType"),
        ("ContentType", b"text/csv", "ContentType must be a str, not bytes"),
        ("CustomAttributes", "a\r\nX: y", r"character 2 is U\+000D"),
        ("CustomAttributes", "a" * 1025, "1 to 1024 characters, not 1025"),
        ("InferenceId", "a" * 65, "1 to 64 characters"),
        ("TargetVariant", "a\u0661", r"character 2 is U\+0661"),
    ],
)
def test_a_member_that_does_not_fit_is_refused_with_the_reason(name: str, value: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        request_head(INVOKE_ENDPOINT, "ep", {name: value})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (59, "from 60 to 21600, not 59"),
        (21_601, "from 60 to 21600"),
        (-(10**5000), "not a number of more than 64 bits"),
        (True, "must be an int, not bool"),
        ("60", "must be an int, not str"),
        (60.0, "must be an int, not float"),
    ],
    ids=["low", "high", "huge", "bool", "str", "float"],
)
def test_a_number_that_does_not_fit_is_refused_with_the_reason(value: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        request_head(INVOKE_ENDPOINT_ASYNC, "ep", {"RequestTTLSeconds": value})


def test_numbers_are_rendered_as_digits() -> None:
    head = request_head(INVOKE_ENDPOINT_ASYNC, "ep", {"RequestTTLSeconds": 60, "InvocationTimeoutSeconds": 3600})
    assert [value for _, value in head.headers] == ["60", "3600"]


def test_the_messages_never_show_a_value() -> None:
    with pytest.raises(ConfigurationError) as caught:
        request_head(INVOKE_ENDPOINT, "ep", {"CustomAttributes": "hidden\n"})
    assert "hidden" not in str(caught.value)


# All but a gateway's content type, which must be JSON.
EVERY_TEXT = [
    (operation, name)
    for operation, name in EVERY_MEMBER
    if not operation.members[name].number and (operation.service is not GATEWAY or name != "ContentType")
]


@pytest.mark.parametrize(("operation", "name"), EVERY_TEXT, ids=[f"{op.name}.{name}" for op, name in EVERY_TEXT])
def test_a_text_is_taken_exactly_when_a_header_can_carry_it_whatever_the_models_pattern(
    operation: Operation, name: str
) -> None:
    @given(
        st.text(st.sampled_from("aZ09-_. /:'!()*~é\u0663\u0130\n\r\x00\x7f\t"), max_size=12)
        | st.text(max_size=70)
        | st.integers(60, 70).map(lambda size: "a" * size)
        | st.sampled_from([" a", "-a-", "a_b", "a..b", "NEW_SESSION", "NEW_SESSION_2", "http://h", "s3:x"])
    )
    def agrees(value: str) -> None:
        fits = 1 <= len(value) <= (operation.members[name].maximum or 70) and all(" " <= char <= "~" for char in value)
        try:
            headers = dict(request_head(operation, "ep", {**needed(operation), name: value}).headers)
            assert headers[operation.members[name].header] == value
            taken = True
        except ConfigurationError:
            taken = False
        assert taken == fits

    agrees()


def test_an_int_of_another_class_is_rendered_as_its_digits() -> None:
    class Seconds(int):
        def __str__(self) -> str:
            return "many\r\n"

    assert request_head(INVOKE_ENDPOINT_ASYNC, "ep", {"RequestTTLSeconds": Seconds(60)}).headers[0][1] == "60"


def test_a_text_of_another_class_is_checked_by_what_it_holds() -> None:
    class Shown(str):
        def __str__(self) -> str:
            return "other\r\n"

    assert f"{request_head(INVOKE_ENDPOINT, 'ep', {'ContentType': Shown('text/csv')}).headers[0][1]}" == "text/csv"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("targetVariant", "InvokeEndpointWithResponseStream has no member 'targetVariant'; it has ContentType, Accept"),
        ("TargetModel", r"\(InvokeEndpoint has it\)"),
        ("EndpointName", "EndpointName cannot be set: the constructor has it"),
        ("Body", "the content handler makes it"),
        (5, "a key of type int"),
        (("a",), "a key of type tuple"),
    ],
    ids=str,
)
def test_an_unknown_member_is_refused_and_the_known_ones_are_listed(name: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        request_head(INVOKE_ENDPOINT_STREAM, "ep", {name: "x"})


# Hostile values -----------------------------------------------------------------------------------------------------

HOSTILE = [*"/\\\x00\n@:#?; -aB0é\u0661\uff0e\u2028\ud800_.", "..", "%2e", "%00", "\r\n", "evil.com", "localhost"]
HOSTILE += ["us-east-1", "s3://", "https://", "NEW_SESSION"]


def test_no_hostile_name_region_or_value_changes_the_host_the_path_or_the_header_lines() -> None:
    chooser = random.Random(20170513)

    def value() -> str:
        return "".join(chooser.choices(HOSTILE, k=chooser.choice([0, 1, 1, 2, 3, 6])))

    accepted = 0
    for _ in range(FUZZ):
        operation, name, region = chooser.choice(EVERY_OPERATION), value(), value()
        member = chooser.choice(list(operation.members))
        try:
            url = urlsplit(f"https://runtime.sagemaker.{validate_region(region)}.amazonaws.com/")
            assert url.hostname == f"runtime.sagemaker.{region.lower()}.amazonaws.com"
            assert url.username is None
            assert url.port is None
        except ConfigurationError:
            pass
        try:
            head = request_head(operation, name, needed(operation))
            assert head.path.split("/") == ["", operation.service.path, name, operation.path_suffix]
            assert re.fullmatch(r"[A-Za-z0-9-]{1,63}", name, re.ASCII)
            accepted += 1
        except ConfigurationError:
            pass
        try:
            headers = request_head(operation, "ep", {**needed(operation), member: value()}).headers
            text = dict(headers)[operation.members[member].header]
            assert len(headers) == len({*operation.required, member})
            assert re.fullmatch(r"[ -~]+", text, re.ASCII)
            accepted += 1
        except ConfigurationError:
            pass
    assert accepted > 0
