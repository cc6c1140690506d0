"""Answer the questions of a Dask DataFrame."""

from __future__ import annotations

import dask.dataframe as dd
import pandas as pd
from dask.distributed import Client

from smendpoint import Endpoint
from smendpoint.integrations.dask import map_partitions
from smendpoint.integrations.tables import TableMapper

endpoint = Endpoint("my-llm", region_name="us-west-2")
mapper = TableMapper(
    endpoint,
    input_column="question",
    error_column="error",
    ledger="answers",
)

if __name__ == "__main__":  # Dask starts worker processes, which import this file
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        context = "Peter stayed for 3 days. "
        rows = pd.DataFrame({"question": [context + "How long did Peter stay?"] * 3})
        questions = dd.from_pandas(rows, npartitions=2)
        answered = map_partitions(questions, mapper, output_type="string")
        result = answered.compute()
        print(*result["output"].dropna(), sep="\n")
        print(result["error"].count(), "failed")
