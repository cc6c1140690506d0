"""``smendpoint invoke``: one call of a real endpoint."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from smendpoint._core.call.hooks import CallHooks, CallInfo, cold_start_reason
from smendpoint.cli._terminal import Output, complain
from smendpoint.errors import ConfigurationError, ModelNotReadyError, SmendpointError

HANDLERS = {
    "text": ("TextGenerationHandler", "a prompt for TGI, Hugging Face, LMI, JumpStart Llama"),
    "completions": ("OpenAICompletionsHandler", "a prompt for OpenAI text completions"),
    "chat": ("ChatHandler", "a message of the user for OpenAI chat completions"),
    "json": ("JSONHandler", "a JSON value in and out"),
    "plain": ("TextHandler", "plain text in and out"),
    "bytes": ("BytesHandler", "the input as it is, the output as it is"),
}


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    handlers = "; ".join(f"{name}: {about}" for name, (_, about) in HANDLERS.items())
    parser = commands.add_parser(
        "invoke",
        help="call an endpoint",
        description="Calls a SageMaker endpoint and writes its output. Exit status 1 if the call failed.",
    )
    parser.add_argument("endpoint", metavar="ENDPOINT", help="the endpoint's name")
    parser.add_argument("input", metavar="INPUT", nargs="?", help="the input; '-' or none: standard input")
    parser.add_argument("--handler", choices=HANDLERS, default="text", help=f"{handlers} (default: %(default)s)")
    parser.add_argument("--stream", action="store_true", help="write the output while it arrives")
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter for the model; the value is JSON, or else text; may be repeated",
    )
    parser.add_argument("--stop", action="append", metavar="TEXT", help="end the output here; may be repeated")
    parser.add_argument("--region", help="the AWS region")
    parser.add_argument("--profile", help="the profile of the AWS config files")
    parser.add_argument("--endpoint-url", help="the address of the service, instead of the region's")
    parser.add_argument("--component", help="the inference component")
    parser.add_argument("--timeout", type=float, help="the longest silence, in seconds (default: 70)")
    parser.add_argument("--content-type", help="of the input, for the handlers json, plain and bytes")
    parser.add_argument("--accept", help="of the output, for the handlers json, plain and bytes")
    parser.set_defaults(run=run)


def _parameters(items: list[str]) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise ConfigurationError(f"--param takes NAME=VALUE, not {item!r}")
        try:
            parameters[name] = json.loads(value)
        except ValueError:
            parameters[name] = value
    return parameters


def _handler(arguments: argparse.Namespace) -> Any:
    from smendpoint import handlers

    types = {"content_type": arguments.content_type, "accepts": arguments.accept}
    given = {name: value for name, value in types.items() if value is not None}
    if given and arguments.handler not in ("json", "plain", "bytes"):
        raise ConfigurationError(f"the handler {arguments.handler!r} has its own content types")
    return getattr(handlers, HANDLERS[arguments.handler][0])(**given)


def _read_input() -> bytes:
    if sys.stdin is None:
        raise ConfigurationError("there is no standard input: give INPUT")
    try:
        return sys.stdin.buffer.read()
    except OSError as error:  # a directory, for instance
        raise ConfigurationError(f"cannot read standard input: {error.strerror}") from None


def _input(arguments: argparse.Namespace) -> Any:
    data = _read_input() if arguments.input in (None, "-") else os.fsencode(arguments.input)
    if arguments.handler == "bytes":
        return data
    try:
        text = data.decode()
        if arguments.handler == "json":
            return json.loads(text)
    except UnicodeDecodeError:
        raise ConfigurationError("the input is not UTF-8 text: use --handler bytes") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"the input is not JSON: {error}") from None
    return [{"role": "user", "content": text}] if arguments.handler == "chat" else text


def _write(output: Any, out: Output) -> None:
    if isinstance(output, bytes):
        out.data(output)
    elif isinstance(output, str):
        out.text(output)
    elif hasattr(output, "text"):
        out.text(output.text or "")
    else:
        out.text(json.dumps(output, ensure_ascii=False), end="\n")


class _Waiting(CallHooks):
    """Reports on standard error that a call waits for its model, which may take minutes, and why."""

    def attempt_failed(self, call: CallInfo, error: SmendpointError, delay: float | None) -> None:
        if isinstance(error, ModelNotReadyError) and delay is not None:
            complain(f"{cold_start_reason(error)}: {call.elapsed:.0f} s have passed, next attempt in {delay:.0f} s")


def run(arguments: argparse.Namespace) -> int:
    from smendpoint.endpoint import Endpoint

    handler, parameters, out = _handler(arguments), _parameters(arguments.param), Output()
    with Endpoint(
        arguments.endpoint,
        content_handler=handler,
        region_name=arguments.region,
        credentials_profile_name=arguments.profile,
        endpoint_url=arguments.endpoint_url,
        inference_component_name=arguments.component,
        timeout=arguments.timeout,
        hooks=_Waiting(),
    ) as endpoint:
        if arguments.stream:
            with endpoint.stream(_input(arguments), stop=arguments.stop, parameters=parameters) as chunks:
                try:
                    for chunk in chunks:
                        _write(chunk, out)
                finally:
                    out.close()
        else:
            _write(endpoint.invoke(_input(arguments), stop=arguments.stop, parameters=parameters), out)
            out.close()
    if arguments.handler not in ("json", "bytes"):
        print()
    return 0
