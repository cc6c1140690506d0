"""Answer the questions of a Spark DataFrame."""

from __future__ import annotations

from pyspark.sql import SparkSession

from smendpoint import Endpoint
from smendpoint.integrations.spark import map_in_pandas
from smendpoint.integrations.tables import TableMapper

spark = SparkSession.builder.getOrCreate()
endpoint = Endpoint("my-llm", region_name="us-west-2")
mapper = TableMapper(endpoint, input_column="question", ledger="answers")

context = "Peter stayed for 3 days. "
rows = [(context + "How long did Peter stay?",)] * 3
questions = spark.createDataFrame(rows, "question string").repartition(2)
answered = map_in_pandas(questions, mapper)
for row in answered.collect():
    print(row["output"] if row["error"] is None else row["error"])
spark.stop()
