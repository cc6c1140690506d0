"""Many rows through an endpoint, so that no answer is lost or paid for twice.

`run` and `arun` ask for each row of a source, through the fan-out of `map`, and write each answer to a ledger as it
comes; the same call again goes on where the last one ended::

    from smendpoint import Endpoint, batch

    summary = batch.run(Endpoint("my-llm"), "prompts.txt", "answers.jsonl")

The room: `_sources`, `_rows` and `_openai` read, `_requests` makes requests of rows, `_job` and `_run` ask, `_ledger`
writes with what is in `_lines`, `_values`, `_index` and `_lock`. It may import endpoints and what is below them; `cli`
and `integrations` import it.
"""

from __future__ import annotations

from smendpoint.batch._counts import Progress, Summary
from smendpoint.batch._run import arun, run

__all__ = ["Progress", "Summary", "arun", "run"]
