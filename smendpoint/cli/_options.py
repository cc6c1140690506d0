"""The options that commands share: the endpoint, the call, the model's parameters and the handler.

Messages of the library name its arguments. `told` replaces these with the options of the command.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from typing import TYPE_CHECKING, Any

from smendpoint.errors import ConfigurationError, ServiceError, SmendpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

HANDLERS = {
    "text": ("TextGenerationHandler", "a prompt for TGI, Hugging Face, LMI, JumpStart Llama"),
    "completions": ("OpenAICompletionsHandler", "a prompt for OpenAI text completions"),
    "chat": ("ChatHandler", "a user message for OpenAI chat completions"),
    "json": ("JSONHandler", "a JSON value in and out"),
    "plain": ("TextHandler", "plain text in and out"),
    "bytes": ("BytesHandler", "bytes in and out, unchanged"),
}
# More handlers, for the commands that can read their inputs.
MORE_HANDLERS = {
    "auto": ("AutoHandler", "a prompt or messages, for any known text or chat model"),
    "jumpstart-text": ("JumpStartTextHandler", "a prompt; takes --handler-option family=llama-2"),
    "jumpstart-chat": ("JumpStartChatHandler", "a message for JumpStart's Llama 2 and Hugging Face conversations"),
    "embeddings": ("EmbeddingsHandler", "a text, or a JSON list of texts; vectors out"),
    "sparse-embeddings": ("SparseEmbeddingsHandler", "the same; weights of tokens out"),
    "rerank": ("RerankHandler", 'JSON: {"query": "...", "texts": ["...", "..."]}; scores out, best first'),
    "classification": (
        "ClassificationHandler",
        "a text, a JSON list of two, or with --content-type bytes; classes out",
    ),
    "similarity": ("SimilaritySearchHandler", 'JSON: {"queries": [...], "corpus": [...]}; the nearest texts out'),
    "tabular": ("TabularHandler", "rows as CSV or JSON; a prediction for each out"),
    "tabular-rows": ("TabularRowsHandler", "the same, with several predictions for each row"),
    "numpy": ("NumPyHandler", "rows as CSV or JSON, sent and received as .npy; needs NumPy"),
}
_NAMES = {kind: name for name, (kind, _) in {**HANDLERS, **MORE_HANDLERS}.items()}
# The arguments of a handler that --content-type and --accept set, for the handlers that have them.
_CONTENT_TYPES = {
    **dict.fromkeys(("json", "plain", "bytes"), ("content_type", "accepts")),
    **dict.fromkeys(("classification", "embeddings"), ("content_type",)),
}
_TYPES = {"float": float, "int": int, "str": str}
# The library's arguments whose options have other names.
_RENAMED = {
    "region_name": "region",
    "credentials_profile_name": "profile",
    "inference_component_name": "component",
    "parameters": "param",
    "accepts": "accept",
    "concurrency": "max_concurrency",
    "CustomAttributes": "custom_attributes",
    "TargetVariant": "variant",
    "InferenceComponentName": "component",
    "ContentType": "content_type",
    "Accept": "accept",
}
# The name of an argument, or of a member of the service's request, in the library's messages: with an underscore, with
# a value, or as the subject of the sentence.
_ARGUMENT = re.compile(r"(?<![\w.-])([a-z]+(?:_[a-z]+)*|(?:[A-Z][a-z]+)+)\b(=(?:'[^']*'|\w+)?|(?= must\b))?")
_HANDLER = re.compile(r"\b([A-Z]\w+Handler)\b(?:\(([^()]*)\))?")


def add_options(parser: argparse.ArgumentParser, retries: int = 2) -> None:
    """Declare the options of a call. `retries` is the default that the help shows."""
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter for the model; the value is JSON, or else text; may be repeated",
    )
    parser.add_argument(
        "--stop", action="append", type=not_empty, metavar="TEXT", help="end the output here; may be repeated"
    )
    add_service_options(parser)
    parser.add_argument("--component", help="the inference component")
    parser.add_argument("--variant", help="the production variant")
    parser.add_argument("--custom-attributes", metavar="TEXT", help="for the container, such as accept_eula=true")
    parser.add_argument(
        "--timeout", type=seconds, metavar="SECONDS", help="the longest silence, in seconds (default: 70)"
    )
    parser.add_argument(
        "--retries",
        type=count,
        metavar="N",
        help=f"how often an unanswered request is sent again (default: {retries})",
    )
    parser.add_argument(
        "--content-type", help="the input's media type, for handlers json, plain, bytes, classification and embeddings"
    )
    parser.add_argument("--accept", help="the output's media type, for handlers json, plain and bytes")


def add_service_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say who calls, and where."""
    parser.add_argument("--region", help="the AWS region")
    parser.add_argument("--profile", help="a profile of the AWS config files")
    parser.add_argument("--endpoint-url", help="the URL of the service, instead of the region's")


def add_handler_option(parser: argparse._ActionsContainer) -> None:
    """Declare the option for a handler's arguments."""
    parser.add_argument(
        "--handler-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an argument for the handler, such as format=openai for embeddings; may be repeated",
    )


def not_empty(text: str) -> str:
    """Read a text."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return text


def seconds(text: str) -> float:
    """Read a time."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def count(text: str) -> int:
    """Read a whole number, at least 0."""
    if not text.isascii() or not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def name_and_value(item: str, option: str, value: str = "VALUE") -> tuple[str, str]:
    """Split an item of an option that takes ``NAME=VALUE``; `value` is another word for VALUE."""
    name, equals, rest = item.partition("=")
    if not equals or not name:
        raise ConfigurationError(f"{option} takes NAME={value}, not {item!r}")
    return name, rest


def parameters(items: list[str], option: str = "--param") -> dict[str, Any]:
    """Read the items of an option that takes ``NAME=VALUE``."""
    found: dict[str, Any] = {}
    for item in items:
        name, value = name_and_value(item, option)
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def content_types(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the content types in the options, as arguments of a handler."""
    types = {"content_type": arguments.content_type, "accepts": arguments.accept}
    given = {name: value for name, value in types.items() if value is not None}
    if not given.keys() <= {*_CONTENT_TYPES.get(arguments.handler, ())}:
        raise ConfigurationError(f"the handler {arguments.handler!r} has its own content types")
    return given


def make_handler(arguments: argparse.Namespace, handlers: Mapping[str, tuple[str, str]]) -> Any:
    """Make the handler that the options select."""
    from smendpoint import handlers as known

    kind = getattr(known, handlers[arguments.handler][0])
    options = {**content_types(arguments), **parameters(arguments.handler_option, "--handler-option")}
    if options.get("dtype") in _TYPES:
        options["dtype"] = _TYPES[options["dtype"]]
    try:
        return kind(**options)
    except TypeError as error:
        reason = str(error).partition("() ")[2]
    except ConfigurationError as error:
        reason = str(error)
    raise ConfigurationError(f"--handler-option: the handler {arguments.handler!r}: {reason}")


def make_endpoint(arguments: argparse.Namespace, handler: Any, hooks: Any, max_connections: int | None = None) -> Any:
    """Make the endpoint that the options describe."""
    from smendpoint._core.call.retry import RetryPolicy
    from smendpoint.endpoint import Endpoint

    retry = None if arguments.retries is None else RetryPolicy(max_attempts=arguments.retries + 1)
    options = endpoint_options(arguments, handler)
    return Endpoint(**options, retry=retry, max_connections=max_connections, hooks=hooks)


def endpoint_options(arguments: argparse.Namespace, handler: Any) -> dict[str, Any]:
    """Return the arguments of the endpoint that the options describe."""
    members = {"TargetVariant": arguments.variant, "CustomAttributes": arguments.custom_attributes}
    return {
        "endpoint_name": arguments.endpoint,
        "content_handler": handler,
        "region_name": arguments.region,
        "credentials_profile_name": arguments.profile,
        "endpoint_url": arguments.endpoint_url,
        "inference_component_name": arguments.component,
        "timeout": arguments.timeout,
        "endpoint_kwargs": {name: given for name, given in members.items() if given is not None},
    }


def option_names(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Return the options of a command by the names of the library's arguments, for `told`."""
    known = {action.dest: action.option_strings[-1] for action in parser._actions if action.option_strings}
    return {**known, **{name: known[dest] for name, dest in _RENAMED.items() if dest in known}}


def told(error: SmendpointError, options: Mapping[str, str]) -> str:
    """Return the message of an error, with options instead of arguments and handler classes.

    The words of the service and of the container do not change.
    """
    text = str(error)
    if isinstance(error, ServiceError):
        return text

    def option(found: re.Match[str]) -> str:
        name, rest = found[1], found[2]
        named = "_" in name or rest or (rest is not None and found.start() == 0)
        if name not in options or not named:  # another word, such as "timeout"
            return found[0]
        value = (rest or "").strip("='")
        return options[name] + (f" {value}" if value and value != "True" else "")

    def handler(found: re.Match[str]) -> str:
        name = _NAMES.get(found[1])
        if name is None or "handler_option" not in options:
            return found[0]
        arguments = [item.strip() for item in (found[2] or "").replace('"', "").split(",") if item.strip()]
        first = "family" if name == "jumpstart-text" else "format"
        named = [item if "=" in item else f"{first}={item}" for item in arguments]
        return " ".join([f"--handler {name}", *(f"--handler-option {item}" for item in named)])

    return _HANDLER.sub(handler, _ARGUMENT.sub(option, text))
