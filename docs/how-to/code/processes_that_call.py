"""Several processes that each call the endpoint."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from smendpoint import AdaptiveConcurrency, Endpoint

DAYS = range(1, 9)
PROMPTS = [f"Ann stayed for {n} days. Question: How long did Ann stay?" for n in DAYS]


def answer_all(endpoint: Endpoint, prompts: list[str]) -> list[str]:
    """Answer a part of the prompts, many at once."""
    return list(endpoint.map(prompts))


def main() -> None:
    endpoint = Endpoint(
        "my-llm", region_name="us-west-2", concurrency=AdaptiveConcurrency()
    )
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(4, mp_context=context) as workers:
        parts = [PROMPTS[start::4] for start in range(4)]
        jobs = [workers.submit(answer_all, endpoint, part) for part in parts]
        for job in jobs:
            print(*job.result(), sep="\n")


if __name__ == "__main__":
    main()
