"""Charts of measurements. They need matplotlib (the extra ``smendpoint[plot]``)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smendpoint.bench._records import Record
    from smendpoint.bench._run import Run

# Colours that colour-blind readers can distinguish (Okabe and Ito); lines and marks differ, too.
_BLUE, _ORANGE, _INK, _GREY = "#0072B2", "#D55E00", "#333333", "#767676"
_STYLE: Any = {
    "axes.edgecolor": _GREY,
    "axes.grid": True,
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "font.size": 9,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.fonttype": "none",  # texts stay texts: a small file, in the reader's fonts
    "svg.hashsalt": "smendpoint",  # the same picture for the same figures
    "text.color": _INK,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
}
FORMATS = (".svg", ".png", ".pdf")


def plot(path: str, runs: Sequence[Run], *, knee: int | None = None, title: str = "") -> None:
    """Draw latency against throughput, and the distribution of the latencies.

    For a single run, the left panel shows each request in the course of the run.

    Args:
        path: the file, which ends with ``.svg``, ``.png`` or ``.pdf``.
        runs: the measurements: the loads of a sweep, or a single one.
        knee: how many calls the endpoint takes at once, if that is known; the distribution is that of the nearest load.
        title: the title above the chart.

    Raises:
        ConfigurationError: matplotlib is not installed, the path has another extension, or no request was answered.
    """
    check_plot(path)
    import matplotlib as mpl
    from matplotlib.figure import Figure

    answered = [run for run in runs if run.report["completed"]]
    if not answered:
        raise ConfigurationError("no request was answered: there is nothing to draw")
    best = min(answered, key=lambda run: abs((run.load.concurrency or 0) - (knee or 0)))
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9.6, 3.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        if len(answered) > 1:
            _draw_loads(left, answered, knee)
        else:
            _draw_course(left, best.records)
        _draw_distribution(right, best)
        figure.savefig(path, dpi=160, metadata=None if path.endswith(".png") else _UNDATED[path[-4:]])


_UNDATED: dict[str, dict[str, Any]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


def check_plot(path: str) -> None:
    """Raise `ConfigurationError` if a chart cannot be drawn."""
    if not path.endswith(FORMATS):
        raise ConfigurationError(f"the name of a chart's file must end with {', '.join(FORMATS)}, unlike {path!r}")
    if find_spec("matplotlib") is None:
        raise ConfigurationError("a chart needs matplotlib: pip install 'smendpoint[plot]'")


def _draw_loads(axis: Any, runs: Sequence[Run], knee: int | None) -> None:
    reports = [run.report for run in runs]
    across = [report["request_throughput"] for report in reports]
    some_failed = [index for index, report in enumerate(reports) if report["failed"]]
    for name, label, colour, mark in (("p99", "99th percentile", _ORANGE, "s--"), ("median", "median", _BLUE, "o-")):
        up = [report[f"{name}_e2el_ms"] for report in reports]
        axis.plot(across, up, mark, color=colour, label=label, markersize=4.5, linewidth=1.3)
        if some_failed:  # hollow marks
            hollow = "some failed" if name == "median" else None
            points = [across[index] for index in some_failed], [up[index] for index in some_failed]
            axis.plot(*points, mark[0], mfc="white", mec=colour, label=hollow, markersize=4.5)
    _name_loads(axis, reports, knee)
    axis.set(xlabel="throughput, requests/s", ylabel="latency, ms")
    axis.set_title("Latency against throughput, by calls at once" + ("" if knee is None else f": about {knee}"))
    axis.set_xlim(0, 1.08 * max(across))
    axis.set_ylim(0, 1.12 * max([report["p99_e2el_ms"] for report in reports]))
    _explain(axis)


def _name_loads(axis: Any, reports: Sequence[dict[str, Any]], knee: int | None) -> None:
    """Write the number of clients next to each median, the knee's first, if there is room."""
    widest = max([report["request_throughput"] for report in reports])
    highest = max([report["p99_e2el_ms"] for report in reports])
    named: list[tuple[float, float]] = []
    for report in sorted(reports, key=lambda report: report["max_concurrency"] != knee):
        clients, x, y = report["max_concurrency"], report["request_throughput"], report["median_e2el_ms"]
        if any(abs(x - left) < 0.05 * widest and abs(y - below) < 0.08 * highest for left, below in named):
            continue
        named.append((x, y))
        beyond = knee is not None and clients > knee
        axis.annotate(
            str(clients),
            (x, y),
            textcoords="offset points",
            xytext=(7, -3) if beyond else (0, -15),
            ha="left" if beyond else "center",
            fontsize=11 if clients == knee else 8,
            fontweight="bold" if clients == knee else "normal",
            color=_BLUE,
        )


def _explain(axis: Any) -> None:
    axis.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.17), ncols=3)


def _draw_course(axis: Any, records: Sequence[Record]) -> None:
    began = min(record.due for record in records)
    good = [record for record in records if not record.error]
    bad = [record for record in records if record.error]
    for some, label, colour, mark in ((good, "answered", _BLUE, "o"), (bad, "failed", _ORANGE, "x")):
        if some:
            points = [(record.due - began, 1e3 * record.e2el[0]) for record in some]
            axis.plot(*zip(*points, strict=True), mark, color=colour, label=label, markersize=4, alpha=0.7)
    axis.set(xlabel="when a request was due, s", ylabel="latency, ms", title="Requests in the course of the run")
    axis.set_ylim(0, 1.12 * max([1e3 * record.e2el[0] for record in records]))
    _explain(axis)


def _draw_distribution(axis: Any, run: Run) -> None:
    good = [record for record in run.records if not record.error]
    shown = (("ttft", "first output (TTFT)", _BLUE, "-"), ("e2el", "whole answer (E2EL)", _ORANGE, "--"))
    for name, label, colour, line in shown:
        values = sorted([1e3 * value for record in good for value in getattr(record, name)])
        if not values:
            continue
        shares = [100 * (index + 1) / len(values) for index in range(len(values))]
        axis.step([values[0], *values], [0, *shares], line, where="post", color=colour, label=label, linewidth=1.4)
    at = "" if run.load.concurrency is None else f" with {run.load.concurrency} at once"
    axis.set(xlabel="ms", ylabel="% of requests took at most", title=f"How long requests take{at}")
    axis.set_ylim(0, 101)
    axis.set_xlim(0, 1.05 * max([1e3 * record.e2el[0] for record in good]))
    _explain(axis)
