"""Models that play well-known containers: the same request and response shapes, deterministic answers."""

from __future__ import annotations

from smendpoint.emulator.personalities.text import tgi

__all__ = ["tgi"]
