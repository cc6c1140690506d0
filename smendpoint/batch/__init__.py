"""Send many rows to an endpoint, so that no answer is lost or paid for twice.

`run` and `arun` call the endpoint for each row of a source, with the fan-out of `map`, and write each answer to a
ledger as it arrives. The same call again continues where the last one ended::

    from smendpoint import Endpoint, batch

    summary = batch.run(Endpoint("my-llm"), "prompts.txt", "answers.jsonl")

The room: `_sources`, `_rows` and `_openai` read, `_requests` makes requests from rows, `_job` and `_run` call the
endpoint, and `_ledger` writes, with the help of `_lines`, `_values`, `_index` and `_lock`. It may import endpoints and
the rooms below them; `cli` and `integrations` import it.
"""

from __future__ import annotations

from smendpoint.batch._counts import Progress, Summary
from smendpoint.batch._run import arun, run

__all__ = ["Progress", "Summary", "arun", "run"]
