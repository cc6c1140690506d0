"""Many rows through an endpoint, so that no answer is lost or paid for twice."""

from __future__ import annotations

from smendpoint.batch._counts import Progress, Summary
from smendpoint.batch._run import arun, run

__all__ = ["Progress", "Summary", "arun", "run"]
