"""The command ``smendpoint``: a demonstration, an emulator, and a call from the shell.

Exit status: 0 all is well, 1 the call failed, 2 the command line is wrong, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from smendpoint._version import __version__
from smendpoint.cli import _demo, _emulator, _invoke
from smendpoint.errors import ConfigurationError, SmendpointError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="smendpoint", description="Call models on Amazon SageMaker endpoints, or on an emulator of them."
    )
    parser.add_argument("--version", action="version", version=f"smendpoint {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _demo.add_command(commands)
    _invoke.add_command(commands)
    _emulator.add_command(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: the arguments; by default those of the process.

    Returns:
        The exit status.

    Raises:
        SystemExit: the command line is wrong (status 2), or only help or the version was asked for (status 0).
    """
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except ConfigurationError as error:
        print(f"smendpoint: {error}", file=sys.stderr)
        return 2
    except SmendpointError as error:
        print(f"smendpoint: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the output has seen enough. Python would complain once more when it flushes at exit.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return 1
    return status
