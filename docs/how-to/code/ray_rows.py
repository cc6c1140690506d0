"""Answer the questions of a Ray dataset."""

from __future__ import annotations

import ray

from smendpoint import Endpoint
from smendpoint.integrations.ray import map_batches
from smendpoint.integrations.tables import TableMapper

endpoint = Endpoint("my-llm", region_name="us-west-2")
mapper = TableMapper(
    endpoint,
    input_column="question",
    error_column="error",
    ledger="answers",
)

context = "Peter stayed for 3 days. "
rows = [{"question": context + "How long did Peter stay?"}] * 3
questions = ray.data.from_items(rows)
answered = map_batches(questions, mapper, batch_size=100)
for row in answered.iter_rows():
    print(row["output"] if row["error"] is None else row["error"])
