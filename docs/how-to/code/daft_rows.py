"""Answer the questions of a Daft DataFrame."""

from __future__ import annotations

import daft

from smendpoint import Endpoint
from smendpoint.integrations.daft import with_columns
from smendpoint.integrations.tables import TableMapper

endpoint = Endpoint("my-llm", region_name="us-west-2")
mapper = TableMapper(
    endpoint,
    input_column="question",
    error_column="error",
    ledger="answers",
)

context = "Peter stayed for 3 days. "
questions = daft.from_pydict({"question": [context + "How long did Peter stay?"] * 3})
answered = with_columns(questions, mapper)
for row in answered.to_pylist():
    print(row["output"] if row["error"] is None else row["error"])
