"""The charts of the performance page. They need matplotlib, the extra ``plot``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.data import Data
from benchmarks.wording import quantity, scale, source

# Colours that colour-blind eyes tell apart (Okabe and Ito); values stand beside the bars, so no colour says anything
# alone. A white ground makes a chart readable on dark pages.
_OURS, _PEER, _INK, _GREY, _GROUND = "#0072B2", "#999999", "#222222", "#595959", "#FFFFFF"
_STYLE: Any = {
    "axes.edgecolor": _PEER,
    "axes.labelcolor": _INK,
    "axes.labelsize": 11,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "font.size": 12,
    "savefig.facecolor": _GROUND,
    "svg.fonttype": "none",  # texts stay texts: a small file, in the reader's fonts
    "svg.hashsalt": "smendpoint",  # the same chart for the same figures
    "text.color": _INK,
    "xtick.color": _GREY,
    "xtick.labelsize": 11,
}
_WIDTH = 4.8  # inches: at the width of a phone, texts are still as large as the page's
_BAR, _PANEL, _FOOT = 0.5, 1.0, 0.5  # inches: the height of a bar with its name, of a panel without bars, of the foot
_MARGIN = 0.2  # above the bars, in bars
_PAD = 0.12  # inches


class Panel(NamedTuple):
    """Bars on one axis.

    Attributes:
        key: of the figure in the data file; of several, where it ends with ``:``.
        side: of several figures, the side that is drawn.
    """

    title: str
    axis: str
    unit: str
    key: str
    side: str = ""

    def bars(self, data: Data) -> dict[str, float]:
        """Find the values by the names of their bars."""
        figures: Data = data["figures"]
        if not self.key.endswith(":"):
            return {name: side["median"] for name, side in figures.get(self.key, {"sides": {}})["sides"].items()}
        found = {key.removeprefix(self.key).strip(): one for key, one in figures.items() if key.startswith(self.key)}
        return {name: one["sides"][self.side]["median"] for name, one in found.items()}


CHARTS = {
    "call": (
        Panel("A call", "CPU time", "s", "call"),
        Panel("A call with asyncio", "CPU time", "s", "call-asyncio"),
    ),
    "stream": (
        Panel("A streamed token", "CPU time", "s", "token"),
        Panel("A streamed token with asyncio", "CPU time", "s", "token-asyncio"),
    ),
    "cold": (Panel("A new process to its first answer", "time", "s", "cold"),),
    "memory": (
        Panel("A process after its first answer", "memory", "B", "memory-process"),
        Panel("An endpoint, or a client", "memory", "B", "memory-endpoint"),
        Panel("An open stream", "memory", "B", "memory-stream"),
    ),
    "capacity": (
        Panel(
            "800 calls of an endpoint with 8 slots",
            "answers per second, % of the possible",
            "%",
            "capacity:",
            "goodput",
        ),
    ),
}


def draw(folder: Path, data: Data) -> list[Path]:
    """Draw the charts whose figures are in the data, and give their paths."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, panels in CHARTS.items():
        drawn = [(panel, bars) for panel in panels if (bars := panel.bars(data))]
        if not drawn:
            continue
        heights = [_PANEL + _BAR * len(bars) for _, bars in drawn]
        with mpl.rc_context(_STYLE):
            layout = ConstrainedLayoutEngine(w_pad=_PAD, h_pad=_PAD)
            figure = Figure(figsize=(_WIDTH, sum(heights) + _FOOT), layout=layout)
            top, foot = figure.subfigures(2, 1, height_ratios=[sum(heights), _FOOT])
            axes = top.subplots(len(drawn), 1, squeeze=False, height_ratios=[len(bars) + _MARGIN for _, bars in drawn])
            for axis, (panel, bars) in zip(axes[:, 0], drawn, strict=True):
                _draw_panel(axis, panel, bars)
            foot.text(0.035, 0.5, "\n".join(source(data)), fontsize=9, color=_GREY, va="center")
            paths.append(folder / f"benchmarks-{name}.svg")
            figure.savefig(paths[-1], metadata={"Date": None})
    return paths


def _draw_panel(axis: Any, panel: Panel, bars: dict[str, float]) -> None:
    """Draw the bars from top to bottom, each with its name above it and its value beside it."""
    from matplotlib.ticker import FixedLocator, MaxNLocator

    largest = max(bars.values())
    factor, unit = scale(largest, panel.unit)
    for place, (name, value) in enumerate(bars.items()):
        ours = name.startswith(("smendpoint", "Endpoint", "AsyncEndpoint"))
        axis.barh(place, value / factor, height=0.42, color=_OURS if ours else _PEER)
        axis.annotate(
            quantity(value, panel.unit),
            (value / factor, place),
            textcoords="offset points",
            xytext=(5, 0),
            va="center",
            fontweight="bold" if ours else "normal",
        )
        axis.annotate(name, (0, place - 0.23), textcoords="offset points", xytext=(0, 2), va="bottom")
    axis.set(ylim=(len(bars) - 0.7, -0.7 - _MARGIN), xlim=(0, 1.3 * largest / factor), yticks=[])
    axis.xaxis.set_major_locator(FixedLocator([0, 25, 50, 75, 100]) if panel.unit == "%" else MaxNLocator(4))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set(xlabel=f"{panel.axis}, {unit}" if panel.unit != "%" else panel.axis, title=panel.title)
