"""Measure an endpoint: times and throughput under a load, and how many calls it takes at once.

``smendpoint bench`` does the same as a command::

    run = await measure(endpoint, prompts(), Load(concurrency=8, count=200))
    print(run.report["median_ttft_ms"], run.report["output_throughput"])

"""

# The room: `_records` has measurements and their figures, `_load` sends requests on time, `_inputs` makes or reads
# prompts, `_run` calls an endpoint, `_sweep` finds the knee, `_plot` draws. The event loop's clock is the only clock.
# The room may import endpoints and the rooms below them; matplotlib is imported only to draw a chart.

from __future__ import annotations

from smendpoint.bench._inputs import Prompt, prompts
from smendpoint.bench._load import Load
from smendpoint.bench._plot import plot
from smendpoint.bench._records import Record
from smendpoint.bench._run import Run, measure
from smendpoint.bench._sweep import Sweep, sweep

__all__ = ["Load", "Prompt", "Record", "Run", "Sweep", "measure", "plot", "prompts", "sweep"]
