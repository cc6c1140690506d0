"""``smendpoint invoke``: one call of a real endpoint."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from smendpoint._core.call.hooks import CallHooks, CallInfo, cold_start_reason
from smendpoint.cli._options import HANDLERS, add_options, content_types, make_endpoint, parameters
from smendpoint.cli._terminal import Output, complain
from smendpoint.errors import ConfigurationError, ModelNotReadyError, SmendpointError


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
    add_options(parser)
    parser.set_defaults(run=run)


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
    from smendpoint import handlers

    handler = getattr(handlers, HANDLERS[arguments.handler][0])(**content_types(arguments))
    model, out = parameters(arguments.param), Output()
    with make_endpoint(arguments, handler, _Waiting()) as endpoint:
        if arguments.stream:
            with endpoint.stream(_input(arguments), stop=arguments.stop, parameters=model) as chunks:
                try:
                    for chunk in chunks:
                        _write(chunk, out)
                finally:
                    out.close()
        else:
            _write(endpoint.invoke(_input(arguments), stop=arguments.stop, parameters=model), out)
            out.close()
    if arguments.handler not in ("json", "bytes"):
        print()
    return 0
