"""Figures as a reader sees them, the same on charts and pages: two significant digits and a unit."""

from __future__ import annotations

from benchmarks.data import Data

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_BYTES = ((1e6, "MB"), (1e3, "kB"))


def number(value: float) -> str:
    """Two significant digits."""
    short = float(f"{value:.2g}")
    return f"{short:,.0f}" if abs(short) >= 10 else f"{short:g}"


def count(value: float) -> str:
    """How many there are, exactly."""
    return f"{value:,.0f}"


def scale(value: float, unit: str) -> tuple[float, str]:
    """Choose the unit in which a value reads best, and its factor."""
    scales = {"s": _SECONDS, "B": _BYTES}.get(unit, ((1.0, unit),))
    # A value that would be rounded up to 1,000 gets the larger unit.
    return next((one for one in scales if value >= 0.995 * one[0]), scales[-1])


def quantity(value: float, unit: str) -> str:
    """A value with its unit."""
    factor, name = scale(abs(value), unit)
    return f"{number(value / factor)}\N{NO-BREAK SPACE}{name}"


def measured(data: Data) -> str:
    """When, with what and on what a run was made."""
    machine, versions = data["machine"], data["versions"]
    memory = f" and {machine['memory']} GiB of memory" if "memory" in machine else ""
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"Measured on {data['date']} on a machine with {machine['cores']} cores ({machine['processor']})"
        f"{memory}, {machine['system']}; {listed}."
    )


def source(data: Data) -> list[str]:
    """The same in short, for the foot of a chart."""
    versions = data["versions"]
    return [
        f"smendpoint {versions['smendpoint']}, Python {versions['Python']}, {data['date']}",
        f"{data['machine']['cores']} cores, {data['machine']['system']}; other versions: benchmarks.json",
    ]
