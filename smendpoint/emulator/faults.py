"""The faults that the emulator can play, by name, as data."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from smendpoint.emulator._fault import Fault
from smendpoint.errors import ConfigurationError

__all__ = ["FAULTS", "Fault", "find_fault"]

_ALL: list[Fault] = []

FAULTS: Mapping[str, Fault] = MappingProxyType({fault.name: fault for fault in _ALL})
"""Every fault by its name."""


def find_fault(name: str) -> Fault:
    """Finds a fault by its name, with its numbers filled in."""
    fault = FAULTS.get(name)
    if fault is None:
        raise ConfigurationError(f"no fault is named {name!r}; there are: {', '.join(FAULTS)}")
    return fault
