"""The options that `invoke` and `batch` share: which endpoint, how it is called, and with which parameters."""

from __future__ import annotations

import argparse
import json
from typing import Any

from smendpoint.errors import ConfigurationError

HANDLERS = {
    "text": ("TextGenerationHandler", "a prompt for TGI, Hugging Face, LMI, JumpStart Llama"),
    "completions": ("OpenAICompletionsHandler", "a prompt for OpenAI text completions"),
    "chat": ("ChatHandler", "a message of the user for OpenAI chat completions"),
    "json": ("JSONHandler", "a JSON value in and out"),
    "plain": ("TextHandler", "plain text in and out"),
    "bytes": ("BytesHandler", "the input as it is, the output as it is"),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of a call."""
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


def parameters(items: list[str], option: str = "--param") -> dict[str, Any]:
    """Read the items of an option that takes ``NAME=VALUE``."""
    found: dict[str, Any] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise ConfigurationError(f"{option} takes NAME=VALUE, not {item!r}")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def content_types(arguments: argparse.Namespace) -> dict[str, str]:
    """Give the content types that were asked for, as arguments of a handler."""
    types = {"content_type": arguments.content_type, "accepts": arguments.accept}
    given = {name: value for name, value in types.items() if value is not None}
    if given and arguments.handler not in ("json", "plain", "bytes"):
        raise ConfigurationError(f"the handler {arguments.handler!r} has its own content types")
    return given


def make_endpoint(arguments: argparse.Namespace, handler: Any, hooks: Any, max_connections: int | None = None) -> Any:
    """Make the endpoint that the options name."""
    from smendpoint.endpoint import Endpoint

    return Endpoint(
        arguments.endpoint,
        content_handler=handler,
        region_name=arguments.region,
        credentials_profile_name=arguments.profile,
        endpoint_url=arguments.endpoint_url,
        inference_component_name=arguments.component,
        timeout=arguments.timeout,
        max_connections=max_connections,
        hooks=hooks,
    )
