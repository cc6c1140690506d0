"""The figures on the first page and on the performance page, which come from the data file and from nowhere else."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.data import Data
from benchmarks.wording import count, measured, number, quantity

MARKED = re.compile(r"(?<=<!-- benchmarks: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


def rewrite(path: Path, data: Data) -> None:
    """Write the figures of a data file into a page."""
    path.write_text(rewritten(path.read_text(encoding="utf-8"), data), encoding="utf-8")


def rewritten(page: str, data: Data) -> str:
    """Replace all that is between ``<!-- benchmarks: NAME -->`` and ``<!-- end -->``."""
    return MARKED.sub(lambda found: f"{found[1]}{found[2]}\n{BLOCKS[found[1]](data)}\n\n", page)


def sides(data: Data, key: str) -> dict[str, dict[str, float]]:
    """Give the sides of a figure."""
    try:
        found: dict[str, dict[str, float]] = data["figures"][key]["sides"]
    except KeyError:
        raise SystemExit(f"the page needs the figure {key!r}, which was not measured") from None
    return found


def median(data: Data, key: str, side: str = "smendpoint") -> float:
    """Give one side's median."""
    return sides(data, key)[side]["median"]


def table(head: list[str], rows: list[list[str]]) -> str:
    """Format a table whose first column is text and whose others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def times(ratio: float) -> str:
    """Say how many times as much as smendpoint's, with two digits."""
    return number(ratio) if ratio >= 10 else f"{ratio:.1f}"


def costs(data: Data, unit: str, head: str, figures: Mapping[str, str]) -> str:
    """Tabulate figures of several sides, with the ratio to smendpoint's; the value names what all sides have."""
    rows = [
        [f"{name}{suffix}", quantity(side["median"], unit), times(side["ratio"]) if "ratio" in side else ""]
        for key, suffix in figures.items()
        for name, side in sides(data, key).items()
    ]
    return table(["", head, "ratio"], rows)


def by_subject(data: Data, unit: str, head: str, subjects: Mapping[str, str]) -> str:
    """Tabulate figures of several subjects, each with its sides and their ratios to smendpoint's."""
    rows = [
        [f"{subject}, {name}", quantity(side["median"], unit), times(side["ratio"])]
        for key, subject in subjects.items()
        for name, side in sides(data, key).items()
    ]
    return table(["", head, "ratio"], rows)


def compared(data: Data, key: str, unit: str) -> str:
    """Put one figure of all sides into a phrase, smendpoint's first."""
    (_, ours), *peers = sides(data, key).items()
    others = [f"{quantity(side['median'], unit)} for {name} ({times(side['ratio'])} times)" for name, side in peers]
    return f"{quantity(ours['median'], unit)} for smendpoint, {', '.join(others)}"


def summary(data: Data) -> str:
    """Say the most important figures in a line each."""
    capacity = [
        f"{number(one['sides']['goodput']['median'])} % with {key.partition(': ')[2]}"
        for key, one in data["figures"].items()
        if key.startswith("capacity: ")
    ]
    lines = {
        "CPU time of a call": compared(data, "call", "s"),
        "CPU time of a streamed token": compared(data, "token", "s"),
        "A new process to its first answer": compared(data, "cold", "s"),
        "Memory of a process after its first answer": compared(data, "memory-process", "B"),
        "Many calls of an endpoint that runs 8 at once, of the possible answers per second": "; ".join(capacity),
    }
    return "\n".join(filled(f"* **{what}:** {text}.", "  ") for what, text in lines.items())


def filled(text: str, indent: str = "") -> str:
    """Break lines as the pages do."""
    return textwrap.fill(text, 120, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


def clients(data: Data) -> str:
    """Tabulate what each client costs: the first page's table, with smendpoint's figure and the others' ratios."""
    names = list(sides(data, "distributions"))
    lines = [
        ["Packages installed", *(count(side["median"]) for side in sides(data, "distributions").values())],
        ["Size on disk", *(quantity(side["median"], "B") for side in sides(data, "size").values())],
    ]
    subjects = {"import": "Import", "cold": "First answer of a new process", "call": "CPU time of a later answer"}
    for key, subject in subjects.items():
        own, *others = ((sides(data, key).get(name) or sides(data, f"{key}-asyncio")[name])["median"] for name in names)
        lines.append([subject, quantity(own, "s"), *(f"{times(other / own)}x" for other in others)])
    return table(["", *names], lines)


def calls(data: Data) -> str:
    """Tabulate the cost of a call."""
    return costs(data, "s", "CPU time of a call", {"call": "", "call-asyncio": ", asyncio", "call-uvloop": ", uvloop"})


def rates(data: Data) -> str:
    """Tabulate calls per second."""
    rows = [
        [f"{name}, {loop}", number(side["median"])]
        for loop in ("asyncio", "uvloop")
        for name, side in data["figures"].get(f"rate-{loop}", {"sides": {}})["sides"].items()
    ]
    return table(["", "calls per second, one process, 64 at once"], rows)


def tokens(data: Data) -> str:
    """Tabulate the cost of a streamed token."""
    figures = {"token": "", "token-asyncio": ", asyncio", "token-paced": ", one token a millisecond"}
    return costs(data, "s", "CPU time of a token", figures)


def audio(data: Data) -> str:
    """Tabulate the cost of an audio frame."""
    return costs(data, "s", "CPU time of a frame", {"audio": "", "audio-asyncio": ", asyncio"})


def delays(data: Data) -> str:
    """Say what a thousand streams do to each other."""
    return filled(
        f"With 1,000 streams in one event loop, 5 tokens a second each, half of the tokens reach the program within "
        f"{quantity(median(data, 'delay', 'median'), 's')} of being sent, and 99 % within "
        f"{quantity(median(data, 'delay', 'p99'), 's')}. The loop is never blocked for longer than "
        f"{quantity(median(data, 'blocked'), 's')}."
    )


def starts(data: Data) -> str:
    """Tabulate what a new process costs."""
    rows = [
        [
            name,
            quantity(median(data, "import", name), "s"),
            count(median(data, "import-modules", name)),
            quantity(side["median"], "s"),
            times(side["ratio"]),
        ]
        for name, side in sides(data, "cold").items()
    ]
    return table(["", "import", "modules", "first answer", "ratio"], rows)


def profile(data: Data) -> str:
    """Say what a start takes with credentials that botocore has to find."""
    return filled(f"With the credentials in a file, it is {compared(data, 'cold-profile', 's')}.")


def installed(data: Data) -> str:
    """Tabulate what is installed."""
    rows = [
        [name, count(side["median"]), quantity(median(data, "size", name), "B")]
        for name, side in sides(data, "distributions").items()
    ]
    return table(["", "distributions", "size on disk"], rows)


def memory(data: Data) -> str:
    """Tabulate memory."""
    subjects = {
        "memory-process": "process after its first answer",
        "memory-endpoint": "endpoint or client, with a connection",
        "memory-stream": "open stream",
    }
    return by_subject(data, "B", "memory", subjects)


def growth(data: Data) -> str:
    """Tabulate the memory that long work takes."""
    subjects = {"memory-flat": "a stream", "memory-map": "`Endpoint.map`", "memory-batch": "`batch.run`"}
    rows = [
        [f"{subject}, {amount}", quantity(max(0, side["median"]), "B")]
        for key, subject in subjects.items()
        for amount, side in sides(data, key).items()
    ]
    return table(["", "memory that it adds"], rows)


def capacity(data: Data) -> str:
    """Tabulate the goodput of many calls."""
    rows = [
        [
            key.partition(": ")[2],
            f"{number(figure['sides']['goodput']['median'])} %",
            *(count(figure["sides"][name]["median"]) for name in ("refused", "lost")),
        ]
        for key, figure in data["figures"].items()
        if key.startswith("capacity: ")
    ]
    return table(["", "of the possible", "refused attempts", "lost answers"], rows)


def batches(data: Data) -> str:
    """Tabulate the speed of a batch."""
    rows = [
        [f"{name}{suffix}", number(side["median"])]
        for key, suffix in (("batch", ""), ("batch-async", ", asyncio"))
        for name, side in sides(data, key).items()
    ]
    return table(["", "rows per second"], rows)


def served(data: Data) -> str:
    """Tabulate the CPU of a server's process."""
    subjects = {
        "serve-call": "call",
        "serve-token": "token, 20 streams, 200 tokens a second each",
        "serve-burst": "token, one stream, as fast as it goes",
    }
    return by_subject(data, "s", "CPU time", subjects)


BLOCKS: dict[str, Callable[[Data], str]] = {
    "measured": lambda data: filled(measured(data)),
    "clients": clients,
    "summary": summary,
    "calls": calls,
    "rates": rates,
    "tokens": tokens,
    "audio": audio,
    "delays": delays,
    "starts": starts,
    "profile": profile,
    "installed": installed,
    "memory": memory,
    "growth": growth,
    "capacity": capacity,
    "batches": batches,
    "served": served,
}
