"""The parts that the ready-made hooks share."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from smendpoint import errors

# Seconds: the bounds that OpenTelemetry's conventions for generative AI recommend.
ADVISED_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)


def framework(module: str, extra: str) -> Any:
    """Import a module of a framework.

    Raises:
        ConfigurationError: it is not installed.
    """
    # Not with an import statement, in which type checkers would see this package's module with the same name.
    try:
        return import_module(module)
    except ImportError:
        raise errors.ConfigurationError(
            f"{module.partition('.')[0]} is not installed: pip install 'smendpoint[{extra}]'"
        ) from None


def error_type(error: BaseException) -> str:
    """Name the kind of an error with one of a few words: its class in `smendpoint.errors`, or ``"other"``.

    An exception that is not an error, such as a cancelled task or an interrupt, is ``"cancelled"``.
    """
    if not isinstance(error, Exception):
        return "cancelled"
    for kind in type(error).__mro__:
        if kind.__module__ == errors.__name__:
            return kind.__name__
    return "other"
