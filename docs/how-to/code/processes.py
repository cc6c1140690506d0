"""Calls in one process, and the work on the answers in several."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

from smendpoint import Endpoint

DAYS = range(1, 9)
PROMPTS = [f"Ann stayed for {n} days. Question: How long did Ann stay?" for n in DAYS]


def score(answer: str) -> int:
    """Stand for work that keeps a processor busy."""
    return sum(int(word) for word in answer.split() if word.isdigit())


def main() -> None:
    with (
        Endpoint("my-llm", region_name="us-west-2") as endpoint,
        ProcessPoolExecutor() as workers,
    ):
        scores = [workers.submit(score, answer) for answer in endpoint.map(PROMPTS)]
        print([one.result() for one in scores])


if __name__ == "__main__":  # a worker imports this file
    main()
