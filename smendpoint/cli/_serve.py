"""``smendpoint serve``: endpoints as an OpenAI API, with uvicorn."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import logging
import os
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smendpoint.cli._emulator import interruptions
from smendpoint.cli._options import add_service_options, name_and_value, seconds
from smendpoint.cli._terminal import complain
from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from types import FrameType

    from smendpoint.asgi import OpenAIApp, ServedModel

KEY_VARIABLE = "SMENDPOINT_API_KEY"
MAX_HEAD = 65_536
"""The largest request head that ``smendpoint serve`` accepts, in bytes."""

GRACE_SECONDS = 60.0
"""How long ``smendpoint serve`` lets running answers continue at the end, in seconds: as long as a model may take."""


EXAMPLES = f"""
smendpoint serve --model my-llm=my-endpoint
smendpoint serve --model chat=llm-endpoint:adapter-1 --model embed=tei-endpoint --format embed=tei
{KEY_VARIABLE}=... smendpoint serve --model my-llm=my-endpoint --host 0.0.0.0
"""


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "serve",
        help="serve endpoints as an OpenAI API",
        description="Serves endpoints as an OpenAI API, for every tool that can use one, until it is interrupted. It"
        " needs the extra smendpoint[serve].",
    )
    parser.add_argument(
        "--model",
        action="append",
        required=True,
        metavar="NAME=ENDPOINT[:COMPONENT]",
        help="the name of a model for clients, and its endpoint, with an inference component if it has several; may"
        " be repeated",
    )
    parser.add_argument(
        "--format",
        action="append",
        default=[],
        metavar="NAME=FORMAT",
        help="the format of model NAME's container, such as tgi, lmi or tei (default: openai); may be repeated",
    )
    parser.add_argument(
        "--container-model",
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="the container's own name for model NAME, empty for its only model (default: NAME); may be repeated",
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="the port, 0 for any (default: %(default)s)")
    parser.add_argument(
        "--api-key",
        metavar="KEY",
        help="the key that clients must send; other users of this machine can read a command line, so it is safer to"
        f" set {KEY_VARIABLE} or --api-key-file",
    )
    parser.add_argument("--api-key-file", metavar="FILE", help="a file with keys, one per line")
    parser.add_argument("--no-auth", action="store_true", help="require no key, although other machines can connect")
    parser.add_argument("--max-body", type=int, metavar="BYTES", help="the largest request body (default: 26214400)")
    parser.add_argument(
        "--max-concurrency",
        type=int,
        metavar="N",
        help="the most calls in flight for each model (default: adaptive)",
    )
    parser.add_argument(
        "--grace",
        type=seconds,
        default=GRACE_SECONDS,
        metavar="SECONDS",
        help="how long running answers may continue at the end (default: %(default)g)",
    )
    parser.add_argument("--custom-attributes", metavar="TEXT", help="for every container, such as accept_eula=true")
    add_service_options(parser)
    parser.add_argument(
        "--timeout", type=seconds, metavar="SECONDS", help="the longest silence, in seconds (default: 70)"
    )
    parser.set_defaults(run=run)


def _pairs(items: list[str], option: str, value: str, known: dict[str, str] | None = None) -> dict[str, str]:
    """Read the items of an option that takes ``NAME=VALUE``, where NAME is one of `known`."""
    found: dict[str, str] = {}
    for item in items:
        name, rest = name_and_value(item, option, value)
        if name in found:
            raise ConfigurationError(f"{option} takes NAME={value}, not {item!r}; {name} appears twice")
        if known is not None and name not in known:
            raise ConfigurationError(f"{option} names {name!r}, which no --model does")
        found[name] = rest
    return found


def models(arguments: argparse.Namespace) -> dict[str, ServedModel]:
    """Read which models are served."""
    from smendpoint.asgi import ServedModel

    endpoints = _pairs(arguments.model, "--model", "ENDPOINT[:COMPONENT]")
    formats = _pairs(arguments.format, "--format", "FORMAT", endpoints)
    own = _pairs(arguments.container_model, "--container-model", "TEXT", endpoints)
    return {
        name: ServedModel(endpoint, formats.get(name, "openai"), own.get(name)) for name, endpoint in endpoints.items()
    }


def keys(arguments: argparse.Namespace) -> list[str]:
    """Return the keys that clients may use: none if none is required.

    Raises:
        ConfigurationError: there is none, although other machines can connect.
    """
    found = [key for key in (arguments.api_key, os.environ.get(KEY_VARIABLE)) if key is not None]
    if arguments.api_key_file is not None:
        try:
            text = Path(arguments.api_key_file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not UTF-8"
            raise ConfigurationError(f"--api-key-file cannot be read: {why}") from None
        lines = [line.strip() for line in text.splitlines()]
        found += [line for line in lines if line]
        if not any(lines):
            raise ConfigurationError("--api-key-file has no key")
    if found and arguments.no_auth:
        raise ConfigurationError(f"--no-auth cannot be used with a key (--api-key, --api-key-file or {KEY_VARIABLE})")
    if not found and not arguments.no_auth and not is_loopback(arguments.host):
        raise ConfigurationError(
            f"anyone who can reach {arguments.host} could call the models: set {KEY_VARIABLE}, --api-key-file or"
            " --no-auth"
        )
    return found


def is_loopback(host: str) -> bool:
    """Return whether only this machine can connect to an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def make_app(arguments: argparse.Namespace, served: dict[str, ServedModel], given: list[str]) -> OpenAIApp:
    """Make the application that the options describe, for these models and keys."""
    from prometheus_client import CollectorRegistry, ProcessCollector

    from smendpoint._core.aws.operations import SERVICE_MAX_BODY
    from smendpoint._core.call.limit import AdaptiveConcurrency
    from smendpoint.asgi import OpenAIApp
    from smendpoint.integrations.prometheus import PrometheusHooks

    registry, attributes = CollectorRegistry(), arguments.custom_attributes
    ProcessCollector(registry=registry)
    # Without a key, only this machine's names are allowed: a web page may send requests here under its own name.
    guarded = not given and not arguments.no_auth
    return OpenAIApp(
        served,
        api_key=given or None,
        allowed_hosts={"localhost", "127.0.0.1", "[::1]", arguments.host} if guarded else None,
        max_body=SERVICE_MAX_BODY if arguments.max_body is None else arguments.max_body,
        metrics=registry,
        hooks=PrometheusHooks(registry=registry),
        concurrency=AdaptiveConcurrency() if arguments.max_concurrency is None else arguments.max_concurrency,
        region_name=arguments.region,
        credentials_profile_name=arguments.profile,
        endpoint_url=arguments.endpoint_url,
        timeout=arguments.timeout,
        endpoint_kwargs={} if attributes is None else {"CustomAttributes": attributes},
    )


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket.

    Raises:
        ConfigurationError: it cannot be opened.
    """
    if not 0 <= port <= 65_535:  # Python would leave the socket open
        raise ConfigurationError(f"cannot listen on {host} port {port}: there is no such port")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"cannot listen on {host} port {port}: {why}") from None


def is_news(record: logging.LogRecord) -> bool:
    """Return whether a log record of uvicorn is about something other than two expected events.

    One is a stream without an end, whose reason the application logs. The other is the cancellation of the answers that
    outlive the grace period, each with a traceback; uvicorn also logs their number.
    """
    message, kind = record.getMessage(), record.exc_info and record.exc_info[0]
    cancelled = kind is asyncio.CancelledError or message.rstrip().endswith("asyncio.exceptions.CancelledError")
    return not cancelled and "without completing response" not in message


def run(arguments: argparse.Namespace) -> int:
    with ExitStack() as opened:
        try:
            import uvicorn

            served, given = models(arguments), keys(arguments)
            # Before the endpoints: endpoints that are not served are not made, and need not be closed.
            listener = opened.enter_context(listen(arguments.host, arguments.port))
            app = make_app(arguments, served, given)
        except ImportError as error:
            complain(f"serve needs {error.name}: pip install 'smendpoint[serve]'")
            return 1

        class Server(uvicorn.Server):
            def handle_exit(self, sig: int, frame: FrameType | None) -> None:
                app.draining = True  # for the connections that are still open: no new ones are accepted
                super().handle_exit(sig, frame)

            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                host, port = listener.getsockname()[:2]
                shown = f"[{host}]" if ":" in host else host
                print(f"Serving {', '.join(served)} at http://{shown}:{port}/v1", flush=True)

        logging.getLogger("uvicorn.error").addFilter(is_news)
        config = uvicorn.Config(
            app,
            http="h11",  # it limits the head of a request
            h11_max_incomplete_event_size=MAX_HEAD,
            ws="none",
            lifespan="on",
            access_log=False,
            server_header=False,
            log_level="warning",
            timeout_graceful_shutdown=int(max(1, arguments.grace)),
        )
        with interruptions():  # uvicorn raises a signal again after it ends
            Server(config).run(sockets=[listener])
    return 0
