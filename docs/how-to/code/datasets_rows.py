"""Answer the questions of a dataset of Hugging Face."""

from __future__ import annotations

from datasets import Dataset

from smendpoint import Endpoint
from smendpoint.integrations.datasets import map_dataset
from smendpoint.integrations.tables import TableMapper

endpoint = Endpoint("my-llm", region_name="us-west-2")
context = "Peter stayed for 3 days. "
questions = Dataset.from_dict({"question": [context + "How long did Peter stay?"] * 3})

with TableMapper(
    endpoint,
    input_column="question",
    error_column="error",
    ledger="answers",
) as mapper:
    answered = map_dataset(questions, mapper, batch_size=1000)
for row in answered:
    print(row["output"] if row["error"] is None else row["error"])
