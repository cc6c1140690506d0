"""``smendpoint doctor``: checks each part of the path to a model, and says what is wrong and what to do."""

from __future__ import annotations

import argparse
import json
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from smendpoint.cli._options import add_service_options, seconds
from smendpoint.cli._terminal import Terminal
from smendpoint.errors import SmendpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from smendpoint._aws import Identity, Target
    from smendpoint.cli._checks import Finding
    from smendpoint.cli._described import Ask

EXAMPLES = """
smendpoint doctor my-llm
smendpoint doctor my-llm --component adapter-1 --profile production --region eu-west-1
smendpoint doctor my-llm --no-call --json
"""
STATUSES = """
exit status:
  0  calls can be made: each check is ok, or a warning
  1  something is wrong: a check failed
  2  the command line is not valid
"""
STEP_SECONDS = 10.0
"""The maximum time for a step on the path to the service, in seconds."""

CALL_SECONDS = 70.0
"""The longest silence of the call, in seconds: the service waits 60 s for a model."""

_MARKS = {"ok": ("ok", "32"), "warning": ("!", "33"), "failed": ("FAILED", "31"), "skipped": ("-", "2")}


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "doctor",
        help="find out why calls fail",
        description="Checks the region, address, connection, proxy, TLS, clock, credentials and the endpoint's status,"
        " and makes a small call. Each line reports success, or says what is wrong and what to do.",
        epilog=STATUSES,
    )
    parser.add_argument("endpoint", metavar="ENDPOINT", help="the endpoint's name")
    parser.add_argument("--component", help="the inference component")
    add_service_options(parser)
    parser.add_argument(
        "--timeout", type=seconds, metavar="SECONDS", help="the longest silence of the call, in seconds (default: 70)"
    )
    parser.add_argument("--no-call", action="store_true", help="do not call the model")
    parser.add_argument("--json", action="store_true", help="write the findings as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    found: list[Finding] = []
    terminal = Terminal()
    for finding in examine(arguments):
        found.append(finding)
        if not arguments.json:
            mark, colour = _MARKS[finding.status]
            terminal.finding(finding.check, mark, colour, finding.text, finding.advice)
    if arguments.json:
        print(json.dumps([finding._asdict() for finding in found], indent=2, ensure_ascii=False))
    return int(any(finding.status == "failed" for finding in found))


def examine(arguments: argparse.Namespace, now: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Yield each finding once it is known. A check that depends on a failed one is skipped.

    Raises:
        ConfigurationError: an argument is not valid.
    """
    from smendpoint._aws import Identity
    from smendpoint._core.aws.operations import validate_endpoint_name
    from smendpoint.cli import _checks as checks
    from smendpoint.cli._described import check_endpoint

    validate_endpoint_name(arguments.endpoint)
    identity = Identity(
        region_name=arguments.region,
        credentials_profile_name=arguments.profile,
        endpoint_url=arguments.endpoint_url,
    )
    failed: list[str] = []

    def skipped(check: str) -> Finding:
        return checks.Finding(check, checks.SKIPPED, f"depends on a check that failed: {failed[0]}")

    settings, address = checks.check_settings(identity, arguments.options)
    yield settings
    if address is None:
        failed.append("settings")
        last = () if arguments.no_call else ("call",)
        for check in ("address", "connection", "clock", "credentials", "endpoint", *last):
            yield skipped(check)
        return
    target = address.target
    clock_is_off = False
    way = checks.Way(address, arguments.timeout or STEP_SECONDS, now)
    try:
        for check, look in way.steps():
            finding = skipped(check) if failed else look()
            if finding.status == checks.FAILED:
                failed.append(check)
            clock_is_off = check == "clock" and finding.status == checks.WARNING
            yield finding
    finally:
        way.close()
    finding, credentials = checks.check_credentials(target)
    yield finding
    if credentials is None:
        failed.insert(0, "credentials")
    if not failed:
        with control_plane(identity, target) as ask:
            endpoint = check_endpoint(arguments.endpoint, arguments.component, ask, clock_is_off=clock_is_off)
        yield endpoint
        if endpoint.status == checks.FAILED:
            failed.append("endpoint")
    else:
        yield skipped("endpoint")
    if arguments.no_call:
        return
    yield skipped("call") if failed else check_call(arguments)


@contextmanager
def control_plane(identity: Identity, target: Target) -> Generator[Ask]:
    """Return the function that calls SageMaker's control plane: with botocore, and the credentials of the calls.

    If calls go to this machine, as to an emulator, the control plane is expected there too, unless the environment says
    otherwise.
    """
    from smendpoint._aws.s3 import blocking_client
    from smendpoint._core.call.timing import Timeout
    from smendpoint.cli._described import Refusal

    timeout = Timeout(connect=STEP_SECONDS, read=STEP_SECONDS)
    here = target.url.loopback_only and "AWS_ENDPOINT_URL_SAGEMAKER" not in os.environ
    url = str(target.url) if here else None

    clients: list[Any] = []  # the first question makes one

    def ask(operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        once = {"total_max_attempts": 1}
        try:
            if not clients:
                clients.append(blocking_client("sagemaker", identity, target, timeout, endpoint_url=url, retries=once))
        except SmendpointError as error:  # such as a malformed AWS_ENDPOINT_URL_SAGEMAKER
            raise Refusal("", error.message) from None
        try:
            answer: dict[str, Any] = getattr(clients[0], operation)(**arguments)
            return answer
        except Exception as error:
            told: dict[str, Any] = getattr(error, "response", {}).get("Error", {})
            message = str(told.get("Message") or type(error).__name__)
            raise Refusal(str(told.get("Code") or ""), message) from None

    try:
        yield ask
    finally:
        for client in clients:
            client.close()


# Harmless requests of three kinds; most containers accept one of them. Each asks for as little output as possible.
_PROBES = (
    ("chat", "application/json", b'{"messages":[{"role":"user","content":"Hello"}],"max_tokens":1}'),
    ("text", "application/json", b'{"inputs":"Hello","parameters":{"max_new_tokens":1}}'),
    ("rows", "text/csv", b"0"),
)


def check_call(arguments: argparse.Namespace) -> Finding:
    """Call the model, with one kind of request after the other until it accepts one."""
    from smendpoint._core.call.retry import RetryPolicy
    from smendpoint.cli._checks import FAILED, OK, WARNING, Finding
    from smendpoint.endpoint import Endpoint
    from smendpoint.errors import ModelError
    from smendpoint.handlers import BytesHandler

    refused: list[ModelError] = []
    with Endpoint(
        arguments.endpoint,
        content_handler=BytesHandler(),
        region_name=arguments.region,
        credentials_profile_name=arguments.profile,
        endpoint_url=arguments.endpoint_url,
        inference_component_name=arguments.component,
        timeout=arguments.timeout or CALL_SECONDS,
        retry=RetryPolicy(max_attempts=1, cold_start_timeout=0, throttle_timeout=0),
    ) as endpoint:
        for kind, content_type, body in _PROBES:
            try:
                response = endpoint.send(body, endpoint_kwargs={"ContentType": content_type})
            except ModelError as error:
                refused.append(error)
                continue
            except SmendpointError as error:
                return _failure(error)
            took = f"answers a request of the kind {kind} in {response.elapsed:.2f} s"
            return Finding("call", OK, f"{took}: {_reader(response.body, response.content_type)}")
    last = refused[-1]
    statuses = ", ".join(sorted({str(error.original_status_code) for error in refused}))
    said = last.container_error.message if last.container_error is not None else last.original_message
    text = f"the container answers {statuses} to three kinds of requests; the last answer: {said or 'nothing'}"
    log = f"Its log group is /aws/sagemaker/Endpoints/{arguments.endpoint}."
    if all((error.original_status_code or 500) >= 500 for error in refused):
        return Finding("call", FAILED, text, f"The container fails. {log}")
    return Finding(
        "call", WARNING, text, f"It runs, but expects another kind of request: see its model's documentation. {log}"
    )


def _reader(body: bytes, content_type: str | None) -> str:
    from smendpoint.handlers._shapes import advice

    try:
        return advice(json.loads(body))
    except ValueError:
        return f"{content_type or 'no content type'}, which TextHandler or BytesHandler reads"


def _failure(error: SmendpointError) -> Finding:
    """Explain a failed call."""
    from smendpoint import errors
    from smendpoint.cli._checks import FAILED, WARNING, Finding
    from smendpoint.cli._described import NOT_ACCEPTED, RENEW

    kind = type(error).__name__
    text = f"{kind}: {error.message}"
    if isinstance(error, errors.ModelNotReadyError):
        return Finding("call", WARNING, text, "Calls wait until it is ready: the first one may take minutes.")
    if isinstance(error, errors.ThrottlingError):
        return Finding("call", WARNING, text, "It is busy: a normal call would be retried.")
    if isinstance(error, errors.CredentialsError) or getattr(error, "code", None) in NOT_ACCEPTED:
        return Finding("call", FAILED, text, RENEW)
    if isinstance(error, errors.AccessDeniedError):
        return Finding("call", FAILED, text, "Allow these credentials sagemaker:InvokeEndpoint on the endpoint.")
    if isinstance(error, errors.ReadTimeoutError):
        return Finding("call", FAILED, text, "The model is slow or hangs: see its log, or set --timeout.")
    return Finding("call", FAILED, text, "See the message, and the endpoint's log and metrics in CloudWatch.")
