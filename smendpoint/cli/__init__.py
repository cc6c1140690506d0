"""The command ``smendpoint``: a demonstration, an emulator, calls, batches, benchmarks, servers.

Exit status: 0 success, 1 the call failed, 2 the command line is not valid, 130 interrupted. `batch` has more.
"""

from __future__ import annotations

import argparse
import io
import sys
from typing import TYPE_CHECKING

from smendpoint._version import __version__
from smendpoint.cli import _batch, _bench, _chat, _demo, _doctor, _emulator, _invoke, _serve
from smendpoint.cli._completion import SHELLS, PrintCompletion
from smendpoint.cli._options import option_names, told
from smendpoint.cli._terminal import complain, discard
from smendpoint.errors import ConfigurationError, SmendpointError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

# The room: a module for each command. Its `add_command` declares its options, its `EXAMPLES` end its help, and its
# `run` returns the exit status, and imports what only this command needs. `_terminal` writes. The room may import
# everything.
COMMANDS = (_demo, _invoke, _chat, _serve, _batch, _bench, _doctor, _emulator)


class _Formatter(argparse.HelpFormatter):
    """Wraps a text of one line. A text of several lines, such as the examples, is shown unchanged."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text.rstrip() if "\n" in text else super()._fill_text(text, width, indent)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="smendpoint", description="Call models on Amazon SageMaker endpoints, or on an emulator of them."
    )
    parser.add_argument("--version", action="version", version=f"smendpoint {__version__}")
    parser.add_argument(
        "--print-completion",
        action=PrintCompletion,
        choices=SHELLS,
        help="write a completion script for a shell, and exit",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_command(commands)
    for command, one in zip(COMMANDS, commands.choices.values(), strict=True):
        one.set_defaults(options=option_names(one))
        one.formatter_class = _Formatter
        examples = "".join([f"\n  {line}" for line in command.EXAMPLES.strip().splitlines()])
        one.epilog = "\n\n".join(filter(None, [one.epilog, f"examples:{examples}"]))
    return parser


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    # In `invoke ENDPOINT --option INPUT`, argparse finds no INPUT, but one argument too many.
    if len(rest) == 1 and (rest == ["-"] or not rest[0].startswith("-")) and getattr(arguments, "input", rest) is None:
        arguments.input = rest.pop()
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: the arguments; by default those of the process.

    Returns:
        The exit status.

    Raises:
        SystemExit: the command line is not valid (status 2), or only shows help or the version (status 0).
    """
    arguments = _parse(argv)
    output = sys.stdout
    if output is None:  # closed before the start: report it before the call
        print("smendpoint: there is no standard output to write to", file=sys.stderr)
        return 2
    if isinstance(output, io.TextIOWrapper):
        # A terminal has an encoding; escape what it lacks. Files and pipes get UTF-8 in every locale.
        output.reconfigure(encoding=None if output.isatty() else "utf-8", errors="backslashreplace")
    try:
        status: int = arguments.run(arguments)
        output.flush()
    except ConfigurationError as error:
        complain(told(error, arguments.options))
        return 2
    except SmendpointError as error:
        complain(f"{type(error).__name__}: {told(error, arguments.options)}")
        return 1
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # the reader has closed the pipe: no message
            print(f"smendpoint: cannot write the output: {error.strerror}", file=sys.stderr)
        discard(output)
        return 1
    return status
