"""Answer the questions of a lazy frame."""

from __future__ import annotations

import polars as pl

from smendpoint import Endpoint
from smendpoint.integrations.polars import map_batches
from smendpoint.integrations.tables import TableMapper

endpoint = Endpoint("my-llm", region_name="us-west-2")
context = "Peter stayed for 3 days. "
questions = pl.LazyFrame({"question": [context + "How long did Peter stay?"] * 3})

with TableMapper(
    endpoint,
    input_column="question",
    error_column="error",
    ledger="answers",
) as mapper:
    answered = map_batches(questions, mapper).collect(engine="streaming")
print(*answered["output"].drop_nulls(), sep="\n")
print(answered["error"].count(), "failed")
