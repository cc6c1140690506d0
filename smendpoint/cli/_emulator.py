"""``smendpoint emulator``: the emulator in the foreground, or around a program."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smendpoint.cli._child import handling, run_child
from smendpoint.cli._options import name_and_value
from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Generator

    from smendpoint.emulator import Emulator, Model


PORT = 8080
"""The port of an emulator that runs by itself; with a command, any free port will do."""

EXAMPLES = """
smendpoint emulator -- python first.py
smendpoint emulator --model my-llm=tgi --fault throttle_then_ok_2 -- pytest
smendpoint emulator --port 8080 --model my-llm=tgi --model my-embeddings=tei
smendpoint emulator --model my-llm=http://127.0.0.1:8081
smendpoint emulator --capacity 8 --latency 0.05
smendpoint emulator --list
"""


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "emulator",
        help="run an emulator of the SageMaker runtime on this machine",
        usage="%(prog)s [options] [-- COMMAND [ARG ...]]",
        description="Runs an emulator of the SageMaker runtime. With COMMAND, runs this command with the environment"
        " that leads AWS clients and the openai package to the emulator, and ends with its exit status. Without"
        " COMMAND, prints this environment for another shell and runs until it is interrupted (Ctrl-C).",
    )
    parser.add_argument(
        "command",
        nargs=argparse.REMAINDER,
        metavar="COMMAND",
        help="the program to run, and its arguments, after the options and --",
    )
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, help=f"the port, 0 for any free one (default: {PORT}; with COMMAND, any free one)"
    )
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


def _variables(emulator: Emulator) -> dict[str, str]:
    """Give the variables that lead clients to the emulator."""
    from urllib.parse import quote

    from smendpoint.emulator._endpoints import ANY_CREDENTIALS
    from smendpoint.emulator._variables import URL_VARIABLES

    url, keys, region = emulator.url, ANY_CREDENTIALS, emulator.region
    return {
        **dict.fromkeys(URL_VARIABLES, url),
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_DEFAULT_REGION": region,
        "AWS_REGION": region,
        "OPENAI_BASE_URL": f"{url}/endpoints/{quote(_name(emulator), safe='')}/openai/v1",
        "OPENAI_API_KEY": keys.access_key,
    }


def _name(emulator: Emulator) -> str:
    return next(iter(emulator.models), "my-llm")


def _print_variables(emulator: Emulator, shell: str) -> None:
    """Print the variables that lead the clients of a shell to the emulator."""
    import shlex

    def line(variable: str, value: str) -> str:
        return f"$Env:{variable} = '{value}'" if shell == "powershell" else f"export {variable}={shlex.quote(value)}"

    lines = {name: line(name, value) for name, value in _variables(emulator).items()}
    comments = {
        "AWS_ACCESS_KEY_ID": "# any region and credentials will do; Ctrl-C ends the emulator\n",
        "OPENAI_BASE_URL": f"# for the openai package and endpoint {_name(emulator)}\n",
    }
    print("\n".join([comments.get(name, "") + text for name, text in lines.items()]))
    print("# for the answers of asynchronous inference; all of Amazon S3 is there then")
    print("# " + line("AWS_ENDPOINT_URL_S3", f"{emulator.url}/s3"), flush=True)


def _environment(emulator: Emulator) -> dict[str, str]:
    """Give this process's environment, changed so that clients are led to the emulator and nowhere else."""
    from urllib.request import getproxies_environment

    from smendpoint.emulator._variables import CLIENT_VARIABLES, IN_THE_WAY, overrides

    environment = {name: value for name, value in os.environ.items() if name not in IN_THE_WAY}
    environment |= {**CLIENT_VARIABLES, **_variables(emulator), **overrides()}
    environment["AWS_ENDPOINT_URL_SAGEMAKER"] = emulator.url  # DescribeEndpoint, for `doctor`
    environment.setdefault("AWS_ENDPOINT_URL_S3", f"{emulator.url}/s3")
    if getproxies_environment():  # the emulator is not behind them
        host = emulator.url.partition("://")[2].rpartition(":")[0].strip("[]")
        direct = ",".join(filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), host]))
        environment |= {"no_proxy": direct, "NO_PROXY": direct}
    # Called by its path, as in a virtual environment that is not activated: programs beside it come first.
    started = Path(sys.argv[0])
    folder = str(Path(started if started.stem == "smendpoint" else sys.executable).absolute().parent)
    path = environment.get("PATH", os.defpath)
    if folder not in path.split(os.pathsep):
        environment["PATH"] = os.pathsep.join([folder, path])
    return environment


@contextmanager
def interruptions() -> Generator[threading.Event]:
    """Give an event that is set when the process is interrupted or asked to end, instead of ending it."""
    done = threading.Event()

    def end(_number: int, _frame: object) -> None:
        done.set()

    with handling((signal.SIGINT, signal.SIGTERM), end):
        yield done


def wait(done: threading.Event) -> None:
    done.wait()


@contextmanager
def _running(arguments: argparse.Namespace, port: int) -> Generator[Emulator]:
    """Run the emulator that the options describe."""
    from smendpoint.emulator import Emulator

    port = port if arguments.port is None else arguments.port
    emulator = Emulator(
        _models(arguments.model),
        host=arguments.host,
        port=port,
        allowed_hosts=arguments.allow_host,
        capacity=arguments.capacity,
        latency=arguments.latency,
        queue=arguments.queue,
    )
    for fault in arguments.fault:
        emulator.inject(fault)
    try:
        emulator.start()
    except (OSError, OverflowError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"cannot listen on {arguments.host} port {port}: {why}") from None
    try:
        yield emulator
    finally:
        emulator.stop()


def run(arguments: argparse.Namespace) -> int:
    if arguments.list:
        _list()
        return 0
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if command:
        with _running(arguments, port=0) as emulator:
            return run_child(command, _environment(emulator))
    with interruptions() as done, _running(arguments, port=PORT) as emulator:
        _print_variables(emulator, arguments.shell)
        wait(done)
    return 0
