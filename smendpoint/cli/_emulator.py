"""``smendpoint emulator``: the emulator in the foreground."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from smendpoint.cli._options import name_and_value
from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Generator

    from smendpoint.emulator import Emulator, Model


EXAMPLES = """
smendpoint emulator --port 8080 --model my-llm=tgi --model my-embeddings=tei
smendpoint emulator --model my-llm=http://127.0.0.1:8081
smendpoint emulator --capacity 8 --latency 0.05
smendpoint emulator --fault throttle_then_ok_2
smendpoint emulator --list
"""


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "emulator",
        help="run an emulator of the SageMaker runtime on this machine",
        description="Runs an emulator of the SageMaker runtime until it is interrupted (Ctrl-C). Any client works"
        " against it, in a shell with the variables that it prints.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="the port, 0 for any (default: %(default)s)")
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME=MODEL",
        help="what answers on endpoint NAME: a personality (see --list), or the http:// address of a container;"
        " may be repeated. Without it, a stand-in answers on every name",
    )
    parser.add_argument(
        "--fault", action="append", default=[], metavar="FAULT", help="a fault to play (see --list); may be repeated"
    )
    parser.add_argument(
        "--capacity",
        type=int,
        metavar="N",
        help="how many requests an endpoint works on at once; others are refused with 429 (default: any number)",
    )
    parser.add_argument(
        "--latency",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="how long a request takes beside the model's own time (default: %(default)s)",
    )
    parser.add_argument(
        "--queue",
        type=int,
        nargs="?",
        default=0,
        metavar="N",
        help="how many requests wait for an endpoint that is at its capacity before one is refused; without a number"
        " any number (default: %(default)s)",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name by which it may be called, '*' for every name; may be repeated. Addresses, names without"
        " a dot and this machine's own name need not be allowed",
    )
    parser.add_argument(
        "--shell",
        choices=("bash", "powershell"),
        default="powershell" if os.name == "nt" else "bash",
        help="for which shell the variables are printed (default: %(default)s)",
    )
    parser.add_argument("--list", action="store_true", help="list the personalities and the faults, and end")
    parser.set_defaults(run=run)


def _models(items: list[str]) -> dict[str, Model | str] | None:
    from smendpoint.emulator import forward

    models: dict[str, Model | str] = {}
    for item in items:
        name, model = name_and_value(item, "--model", "MODEL")
        models[name] = forward(model) if "://" in model else model
    return models or None


def _list() -> None:
    from smendpoint.emulator import FAULTS
    from smendpoint.emulator.personalities import PERSONALITIES

    print("Personalities:")
    for name in PERSONALITIES:
        print(f"  {name}")
    print("\nFaults:")
    for fault in FAULTS.values():
        print(f"  {fault.name:<22} {fault.description} ({', '.join(sorted(fault.operations))})")


def _print_variables(emulator: Emulator, shell: str) -> None:
    """Print the variables that lead the clients of a shell to the emulator."""
    import shlex
    from urllib.parse import quote

    from smendpoint.emulator._endpoints import ANY_CREDENTIALS

    url, keys = emulator.url, ANY_CREDENTIALS
    name = quote(next(iter(emulator.models), "my-llm"), safe="")

    def line(variable: str, value: str) -> str:
        return f"$Env:{variable} = '{value}'" if shell == "powershell" else f"export {variable}={shlex.quote(value)}"

    lines = [
        line("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", url),
        "# any region and credentials will do; Ctrl-C ends the emulator",
        line("AWS_ACCESS_KEY_ID", keys.access_key),
        line("AWS_SECRET_ACCESS_KEY", keys.secret_key),
        line("AWS_DEFAULT_REGION", emulator.region),
        line("AWS_REGION", emulator.region),
        f"# for the openai package and endpoint {name}",
        line("OPENAI_BASE_URL", f"{url}/endpoints/{name}/openai/v1"),
        line("OPENAI_API_KEY", keys.access_key),
        "# for the answers of asynchronous inference; all of Amazon S3 is there then",
        "# " + line("AWS_ENDPOINT_URL_S3", f"{url}/s3"),
    ]
    print("\n".join(lines), flush=True)


@contextmanager
def interruptions() -> Generator[threading.Event]:
    """Give an event that is set when the process is interrupted or asked to end, instead of ending it."""
    done = threading.Event()

    def end(_number: int, _frame: object) -> None:
        done.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield done
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait(done: threading.Event) -> None:
    done.wait()


def run(arguments: argparse.Namespace) -> int:
    from smendpoint.emulator import Emulator

    if arguments.list:
        _list()
        return 0
    emulator = Emulator(
        _models(arguments.model),
        host=arguments.host,
        port=arguments.port,
        allowed_hosts=arguments.allow_host,
        capacity=arguments.capacity,
        latency=arguments.latency,
        queue=arguments.queue,
    )
    for fault in arguments.fault:
        emulator.inject(fault)
    with interruptions() as done:
        try:
            emulator.start()
        except (OSError, OverflowError, UnicodeError) as error:
            where = f"{arguments.host} port {arguments.port}"
            why = getattr(error, "strerror", None) or error
            raise ConfigurationError(f"cannot listen on {where}: {why}") from None
        try:
            _print_variables(emulator, arguments.shell)
            wait(done)
        finally:
            emulator.stop()
    return 0
