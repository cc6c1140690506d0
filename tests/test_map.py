"""`map` in both twins and both lanes: outputs with their indexes, and the errors that end it at once."""
# ruff: noqa: F811 (fixtures are imported)

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.config import Config
from servers import bare_environment, server_context  # noqa: F401
from twins import Twin, direct_twin, twin  # noqa: F401

from smendpoint import AdaptiveConcurrency, AsyncEndpoint, CallHooks, CallInfo, Endpoint, RetryPolicy, errors
from smendpoint._core.call.fatal import FATAL_CLASSES, FATAL_CODES, is_fatal
from smendpoint.emulator import Emulator, ModelRequest
from smendpoint.handlers import BytesHandler

pytestmark = pytest.mark.usefixtures("bare_environment")

INPUTS = 20
ORDERED = pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "as completed"])


def echo(request: ModelRequest) -> bytes:
    if request.body == b"bad":
        raise ValueError("no")
    return request.body


@ORDERED
def test_an_output_and_an_error_come_with_the_index_of_their_input(twin: Twin, ordered: bool) -> None:
    inputs = [b"bad" if number % 3 == 0 else b"%d" % number for number in range(12)]
    with Emulator(echo) as emulator, twin.endpoint(emulator.url, content_handler=BytesHandler()) as endpoint:
        pairs = list(endpoint.map(inputs, max_concurrency=4, ordered=ordered, enumerated=True, return_exceptions=True))
    found = dict(pairs)
    assert [index for index, _ in (pairs if ordered else sorted(pairs, key=lambda pair: pair[0]))] == [*range(12)]
    for index, value in enumerate(inputs):
        assert isinstance(found[index], errors.ModelError) if value == b"bad" else found[index] == value


CALLS = 120
OVER = pytest.mark.parametrize("most", [None, 32], ids=["found out", "too many"])


@ORDERED
@OVER
def test_more_calls_than_the_endpoint_bears_lose_no_output(twin: Twin, ordered: bool, most: int | None) -> None:
    inputs = [b"%d" % number for number in range(CALLS)]

    def slow(request: ModelRequest) -> bytes:
        emulator.wait_for(lambda it: it.load["my-llm"].refused > 0)  # however slow the machine is, calls overlap
        return echo(request)

    with Emulator(slow, capacity=4) as emulator:
        options: dict[str, Any] = {} if twin.lane == "client" else {"retry": RetryPolicy(max_attempts=1)}
        with twin.endpoint(emulator.url, content_handler=BytesHandler(), **options) as endpoint:
            outputs = list(endpoint.map(inputs, max_concurrency=most, ordered=ordered))
        assert outputs == inputs if ordered else sorted(outputs) == sorted(inputs)
        emulator.wait_for(lambda it: it.load["my-llm"].served == CALLS)
        assert emulator.load["my-llm"].peak == 4
        assert emulator.load["my-llm"].refused


@pytest.mark.parametrize(
    ("concurrency", "most", "peak"),
    [(2, None, 2), (2, 5, 2), (5, 2, 2), (AdaptiveConcurrency(2, 1, 2), None, 2), (None, 3, 3)],
)
def test_a_map_keeps_to_its_own_limit_and_the_endpoint_s(
    direct_twin: Twin, concurrency: Any, most: int | None, peak: int
) -> None:
    with Emulator(echo, capacity=50, latency=0.005) as emulator:
        endpoint = direct_twin.endpoint(emulator.url, content_handler=BytesHandler(), concurrency=concurrency)
        assert len(list(endpoint.map([b"x"] * 30, max_concurrency=most))) == 30
        assert emulator.load["my-llm"].peak == peak


def test_no_more_inputs_are_read_than_may_be_sent(direct_twin: Twin) -> None:
    """One of them waits for a slot."""
    inputs = Inputs()
    with Emulator(echo) as emulator:
        endpoint = direct_twin.endpoint(emulator.url, content_handler=BytesHandler(), concurrency=1)
        for number, _ in enumerate(endpoint.map(inputs), 1):
            assert inputs.read <= number + 2


def test_a_map_has_no_more_calls_in_flight_than_the_configuration_allows_connections(direct_twin: Twin) -> None:
    """That is known only once the first call has read it."""
    with Emulator(echo, latency=0.005) as emulator:
        config = Config(max_pool_connections=2)
        seen = Limits()
        endpoint = direct_twin.endpoint(emulator.url, content_handler=BytesHandler(), config=config, hooks=seen)
        assert len(list(endpoint.map([b"x"] * 30))) == 30
    assert max(seen.limits) == 2


class Limits(CallHooks):
    """Notes the limit at the end of each call."""

    def __init__(self) -> None:
        self.limits: list[int] = []

    def call_finished(self, call: CallInfo, error: BaseException | None) -> None:
        assert call.concurrency_limit is not None
        self.limits.append(call.concurrency_limit)


class Inputs(Iterator[bytes]):
    """Many inputs, of which a map that ends at once reads only the first ones."""

    def __init__(self) -> None:
        self.read = 0

    def __next__(self) -> bytes:
        if self.read == INPUTS:
            raise StopIteration
        self.read += 1
        return b"%d" % self.read


def refused(endpoint: Any, kind: type[Exception], *, ordered: bool = False) -> None:
    """A map ends with the error at once, unless it is told to go on: then each input has it."""
    inputs = Inputs()
    with pytest.raises(kind):
        list(endpoint.map(inputs, max_concurrency=2, ordered=ordered, return_exceptions=True))
    assert inputs.read <= 4
    inputs = Inputs()
    found = list(endpoint.map(inputs, max_concurrency=2, ordered=ordered, return_exceptions=True, stop_on_fatal=False))
    assert [type(error) for error in found] == [kind] * INPUTS


@ORDERED
@pytest.mark.parametrize("code", ["AccessDeniedException", "UnrecognizedClientException", "ExpiredTokenException"])
def test_a_map_whose_caller_is_refused_ends_at_once(twin: Twin, code: str, ordered: bool) -> None:
    with Emulator(echo) as emulator, twin.endpoint(emulator.url, content_handler=BytesHandler()) as endpoint:
        emulator.inject(f"status_403_{code}")
        refused(endpoint, errors.AccessDeniedError, ordered=ordered)


def test_a_map_of_an_endpoint_that_the_service_does_not_know_ends_at_once(twin: Twin) -> None:
    with Emulator({"another": echo}) as emulator, twin.endpoint(emulator.url, content_handler=BytesHandler()) as it:
        refused(it, errors.ValidationError)


def test_a_map_ends_at_once_where_tls_is_refused(twin: Twin) -> None:
    with Emulator(echo, ssl_context=server_context("another.example")) as emulator:
        with twin.endpoint(emulator.url, content_handler=BytesHandler()) as endpoint:
            refused(endpoint, errors.TLSError)


def test_a_map_without_credentials_ends_at_once(twin: Twin) -> None:
    keys: Any = {"aws_access_key_id": None, "aws_secret_access_key": None}
    with Emulator(echo) as emulator:
        with twin.endpoint(emulator.url, content_handler=BytesHandler(), **keys) as endpoint:
            refused(endpoint, errors.CredentialsError)
        assert emulator.total_connections == 0


def test_a_map_of_an_endpoint_that_is_closed_meanwhile_ends_at_once(direct_twin: Twin) -> None:
    with Emulator(echo) as emulator:
        endpoint = direct_twin.endpoint(emulator.url, content_handler=BytesHandler())
        outputs = endpoint.map(Inputs(), max_concurrency=1, return_exceptions=True)
        assert next(outputs) == b"1"
        endpoint.close()
        with pytest.raises(errors.ConfigurationError, match="closed"):
            list(outputs)


@pytest.mark.parametrize(
    "fault", ["status_400_ValidationError", "status_403", "status_424_ModelError", "status_413", "html_200"]
)
def test_an_error_that_may_be_about_one_input_ends_no_map(twin: Twin, fault: str) -> None:
    with Emulator(echo) as emulator, twin.endpoint(emulator.url, content_handler=BytesHandler()) as endpoint:
        emulator.inject(fault, times=1)
        first, *rest = endpoint.map(Inputs(), max_concurrency=1, return_exceptions=True)
        assert isinstance(first, errors.SmendpointError)
        assert rest == [b"%d" % number for number in range(2, INPUTS + 1)]


def test_outputs_that_came_before_a_fatal_error_are_given_before_it(direct_twin: Twin) -> None:
    with Emulator(echo) as emulator:
        endpoint = direct_twin.endpoint(emulator.url, content_handler=BytesHandler())
        outputs = endpoint.map(Inputs(), max_concurrency=1, return_exceptions=True)
        assert next(outputs) == b"1"
        emulator.inject("status_403_AccessDeniedException")
        with pytest.raises(errors.AccessDeniedError):
            list(outputs)
        assert list(outputs) == []


def test_the_errors_that_are_fatal_are_those_of_the_table() -> None:
    assert {"AccessDeniedException", "ExpiredTokenException", "SignatureDoesNotMatch"} <= FATAL_CODES
    assert all(is_fatal(kind("no")) for kind in FATAL_CLASSES)
    one_input: list[Exception] = [
        errors.HandlerError("no"),
        errors.PromptError("no"),
        errors.ConnectError("no"),
        errors.EndpointError("no"),
        errors.ReadTimeoutError("no"),
        errors.ThrottlingError(429, "ThrottlingException"),
        errors.ModelNotReadyError(429, "ModelNotReadyException"),
        errors.AccessDeniedError(403, "", "blocked by a firewall"),
        errors.ValidationError(400, "ValidationError", "the endpoint takes no such body"),
        ValueError("no"),
    ]
    assert not any(map(is_fatal, one_input))


@pytest.mark.parametrize("kind", [Endpoint, AsyncEndpoint])
def test_what_a_map_gives_is_not_a_parameter_of_the_model(kind: Any) -> None:
    kind("my-llm").map(["x"], max_concurrency=1, enumerated=True, stop_on_fatal=False, parameters={"enumerated": 1})
