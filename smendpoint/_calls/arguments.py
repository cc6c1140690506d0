"""Check the arguments of constructors and calls. An argument that is not valid raises a `ConfigurationError`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._core.call.hiding import Hidden
from smendpoint._options import ENDPOINT_OPTIONS, IDENTITY_OPTIONS
from smendpoint.handlers import TextGenerationHandler

if TYPE_CHECKING:
    from smendpoint._aws import Identity
    from smendpoint._core.aws.operations import Service


# Keywords of a call that are not parameters of the model: these are allowed in ``parameters`` only.
RESERVED = frozenset({*ENDPOINT_OPTIONS, "endpoint_name", "parameters"})


def model_parameters(given: dict[str, Any], endpoint_name: str) -> dict[str, Any]:
    """Return the model's parameters: those in ``parameters``, whatever their names, and a call's other keywords."""
    if RESERVED.isdisjoint(given):
        return given
    free = checked_mapping("parameters", given.get("parameters"))
    keywords = {name: value for name, value in given.items() if name != "parameters"}
    misplaced = [name for name in keywords if name in RESERVED]
    if misplaced:
        raise errors.ConfigurationError(
            f"{', '.join(misplaced)} cannot be given to a call, only to the constructor: "
            f"Endpoint(..., {misplaced[0]}=...). If the model has a parameter of that name, send it with "
            f"parameters={{{misplaced[0]!r}: ...}}",
            endpoint_name=endpoint_name,
        )
    twice = [name for name in keywords if name in free]
    if twice:
        raise errors.ConfigurationError(
            f"{', '.join(twice)} is given twice: as a keyword and in parameters=", endpoint_name=endpoint_name
        )
    return {**free, **keywords}


def stop_sequences(stop: str | Iterable[str] | None) -> tuple[str, ...]:
    """Make a tuple from `stop`: one string or several, none of them empty."""
    if stop is None:
        return ()
    try:
        sequences = (stop,) if isinstance(stop, str) else tuple(stop)
    except TypeError:
        raise errors.ConfigurationError(f"stop must be a string or several, not {type(stop).__name__}") from None
    for sequence in sequences:
        if not isinstance(sequence, str) or not sequence:
            raise errors.ConfigurationError("each stop sequence must be a non-empty string")
    return sequences


def checked_handler(handler: Any) -> Any:
    """Check a content handler; `None` stands for the default one."""
    if handler is None:
        return TextGenerationHandler()
    missing = [
        name
        for name in ("content_type", "accepts", "transform_input", "transform_output")
        if getattr(handler, name, None) is None
    ]
    if missing or isinstance(handler, type):
        hint = "an instance, not a class" if isinstance(handler, type) else f"with {', '.join(missing)}"
        raise errors.ConfigurationError(f"content_handler must be a content handler, {hint}")
    return handler


def checked_mapping(name: str, value: Any) -> dict[str, Any]:
    """Copy a mapping with names as keys; `None` stands for an empty one."""
    if value is None:
        return {}
    if type(value) is Hidden:
        value = value.value
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise errors.ConfigurationError(f"{name} must be a mapping with names as keys, not {type(value).__name__}")
    return dict(value)


def checked_limit(name: str, value: Any) -> int | None:
    """Check a whole number of at least 1, or `None`."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise errors.ConfigurationError(f"{name} must be a whole number of at least 1, not {value!r}")
    return value


def check_beside_client(identity: Identity, settings: Mapping[str, Any]) -> None:
    """Refuse the options that an endpoint with ``client=`` would ignore."""
    given = [name for name in IDENTITY_OPTIONS if getattr(identity, name) not in (None, False)]
    if given:
        raise errors.ConfigurationError(f"client= already decides who calls and where: leave out {', '.join(given)}")
    given = [name for name in ("retry", "max_connections") if settings[name] is not None]
    if given:
        raise errors.ConfigurationError(
            f"client= has its own retries and connections: leave out {', '.join(given)}, and make the client with a "
            "botocore Config that sets them"
        )


def warn_of_size(size: int, service: Service) -> None:
    """Warn, at the line that makes the call, that a request's body is larger than it should be."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("smendpoint."):
        level, frame = level + 1, frame.f_back
    warnings.warn(
        f"the request body has {size:,} bytes, more than the {service.max_body:,} that SageMaker's API allows; "
        f"above {service.refused_above:,} the service refuses it with 413",
        stacklevel=level,
    )
