"""Makes the picture of a sweep: ``smendpoint bench`` on an emulator that works on eight requests at once.

``python docs/pictures/bench.py`` writes ``bench.svg`` beside this file. It needs the extra ``plot``.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path

from smendpoint import AsyncEndpoint, RetryPolicy
from smendpoint.bench import plot, prompts, sweep
from smendpoint.emulator import Emulator, ModelRequest

FOLDER = Path(__file__).resolve().parent
CHANCE = random.Random(4)


async def model(request: ModelRequest) -> AsyncIterator[bytes]:
    """Stream five words, with pauses of random length between them, as text-generation-inference does."""
    pause = CHANCE.lognormvariate(-2.8, 0.3)
    for number in range(5):
        await asyncio.sleep(pause)
        token = {"id": number, "text": " word", "logprob": -0.1, "special": False}
        last = {"finish_reason": "length", "generated_tokens": 5, "seed": None}
        end = {"generated_text": " word" * 5, "details": last} if number == 4 else {"generated_text": None}
        yield f"data:{json.dumps({'token': token, **end})}\n\n".encode()


async def main(folder: Path, count: int) -> None:
    """Measure, and draw.

    Args:
        folder: for the picture.
        count: how many requests each load has.
    """
    with Emulator({"my-llm": model}, capacity=8, queue=100) as emulator:
        endpoint = AsyncEndpoint(
            "my-llm",
            endpoint_url=emulator.url,
            region_name="us-west-2",
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            retry=RetryPolicy(max_attempts=1),
        )
        async with endpoint:
            found = await sweep(endpoint, prompts(32), [1, 2, 4, 8, 16, 24], count=count, warmup=8)
    plot(str(folder / "bench.svg"), found.runs, knee=found.knee, title="smendpoint bench my-llm --sweep 1,2,4,8,16,24")


if __name__ == "__main__":
    asyncio.run(main(FOLDER, 120))
