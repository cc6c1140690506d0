"""Settings that every test shares."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# One fast profile for every machine; `SMENDPOINT_EXAMPLES` buys more.
settings.register_profile(
    "smendpoint",
    max_examples=int(os.environ.get("SMENDPOINT_EXAMPLES", "100")),
    deadline=None,  # timing says nothing on a shared machine
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("smendpoint")
