"""The faults that the emulator can play, by name, as data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from smendpoint.emulator import _faults_http, _faults_http2, _faults_stream
from smendpoint.emulator._fault import Fault
from smendpoint.errors import ConfigurationError

__all__ = ["FAULTS", "Fault", "find_fault"]

FAULTS: Mapping[str, Fault] = MappingProxyType(
    {fault.name: fault for fault in (*_faults_http.FAULTS, *_faults_stream.FAULTS, *_faults_http2.FAULTS)}
)
"""Every fault by its name; a ``<n>`` in a name must be replaced by a number, as in its ``examples``."""


def find_fault(name: str) -> Fault:
    """Find a fault by its name, with its numbers filled in.

    Raises:
        ConfigurationError: There is none.
    """
    for fault in FAULTS.values():
        if fault.fill is None:
            if fault.name == name:
                return fault
        elif match := re.fullmatch(fault.pattern, name):
            return replace(fault, name=name, examples=(name,), **fault.fill(match))
    raise ConfigurationError(f"no fault is named {name!r}; there are: {', '.join(FAULTS)}")
