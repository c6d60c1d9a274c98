"""From measurements to rows, ratios and bars. It measures nothing.

A bar is what Holdfast promises; one that is missed says so.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

MB = 1_000_000
MOST_TO_EMBEDDING = 1.6
MOST_TO_SMALLEST = 1.2
LEAST_TO_MEM0 = {1_000: 8, 100_000: 30}
MOST_BEYOND_COMMIT = 2.0  # milliseconds
LEAST_LOADING = 0.40
MOST_COLD_SECONDS, MOST_COLD_MB, MOST_HELP_SECONDS = 1.2, 350, 0.3
HELD, MOST_HELD_MB = 100_000, 600
TITLES = {
    "sentence-transformers": "embedding: sentence-transformers, same model, fp32",
    "chroma": "Chroma alone, query filtered by user, no embedding",
    "langgraph": "LangGraph InMemoryStore, search",
    "mem0-chroma": "mem0 on Chroma, search",
    "mem0-qdrant": "mem0 on embedded Qdrant, search",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    section: str
    what: str
    figure: str
    tail: str = ""
    ratio: str = ""
    bar: str = ""
    met: bool | None = None
    """None: there is no bar."""


def show(console: Console, report: dict[str, Any]) -> None:
    """Print the table and the notes."""
    table = Table(
        "statements", "what", "p50", "p95", "ratio", "bar", "",
        title=f"Speed. 500 statements to a subject, warm, one short prompt. {report['machine']}",
    )  # fmt: skip
    last = None
    for row in rows(report):
        if row.section != last:
            table.add_section()
        verdict = "" if row.met is None else "met" if row.met else "MISSED"
        section = row.section if row.section != last else ""
        table.add_row(section, row.what, row.figure, row.tail, row.ratio, row.bar, verdict)
        last = row.section
    console.print(table)
    for note in report["notes"]:
        console.print(f"note: {note}")


def rows(report: dict[str, Any]) -> list[Row]:
    """Give all rows."""
    made: list[Row] = []
    for size, measured in report["sizes"].items():
        made += _own(int(size), measured) + _peers(int(size), measured)
        made += _adds(int(size), measured) + _holding(int(size), measured["holding"])
    return made + _loading(report["loading"]) + _cold(report["cold"])


def p50(seconds: Sequence[float]) -> float:
    """Give the median in milliseconds."""
    return 1000 * statistics.median(seconds)


def p95(seconds: Sequence[float]) -> float:
    """Give the 95th percentile in milliseconds: what 19 of 20 do not exceed."""
    ordered = sorted(seconds)
    return 1000 * ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]


def _timed(section: str, what: str, seconds: Sequence[float], **more: Any) -> Row:
    return Row(section, what, f"{p50(seconds):.2f} ms", f"{p95(seconds):.2f} ms", **more)


def _own(size: int, measured: dict[str, Any]) -> list[Row]:
    own, name = measured["own"], f"{size:,}"
    embed, retrieve, record = p50(own["embed"]), p50(own["retrieve"]), p50(own["record"])
    smallest, commit = p50(own["smallest"]), p50(own["commit"])
    return [
        _timed(name, "embedding: bundled model", own["embed"]),
        _timed(
            name, "retrieve(record=False)", own["retrieve"],
            ratio=f"{retrieve / embed:.2f} × embedding", bar=f"≤ {MOST_TO_EMBEDDING} × embedding",
            met=retrieve <= MOST_TO_EMBEDDING * embed,
        ),
        _timed(
            name, "… from 1,000 in all, side by side", own["smallest"],
            ratio=f"{name}: {retrieve / smallest:.2f} × this", bar=f"≤ {MOST_TO_SMALLEST} × this",
            met=retrieve <= MOST_TO_SMALLEST * smallest,
        ),
        _timed(name, "bare commit of one row", own["commit"]),
        _timed(
            name, "retrieve(record=True)", own["record"],
            ratio=f"+{record - retrieve:.2f} ms = commit {record - retrieve - commit:+.2f} ms",
            bar=f"≤ commit + {MOST_BEYOND_COMMIT:.0f} ms",
            met=record - retrieve <= commit + MOST_BEYOND_COMMIT,
        ),
    ]  # fmt: skip


def _peers(size: int, measured: dict[str, Any]) -> list[Row]:
    retrieve, embed = p50(measured["own"]["retrieve"]), p50(measured["own"]["embed"])
    made: list[Row] = []
    for peer, seconds in measured["peers"].items():
        if peer == "sentence-transformers":
            ratio = f"{p50(seconds) / embed:.1f} × bundled"
            made.append(_timed(f"{size:,}", TITLES[peer], seconds, ratio=ratio))
            continue
        times = p50(seconds) / retrieve
        least = LEAST_TO_MEM0.get(size) if peer.startswith("mem0") else None
        made.append(
            _timed(
                f"{size:,}", TITLES[peer], seconds, ratio=f"{times:.1f} × retrieve",
                bar=f"≥ {least} × retrieve" if least else "",
                met=times >= least if least else None,
            )
        )  # fmt: skip
    return made


def _adds(size: int, measured: dict[str, Any]) -> list[Row]:
    own = p50(measured["own"]["add"])
    made = [_timed(f"{size:,}", "add of one statement (durable)", measured["own"]["add"])]
    for peer, seconds in measured["adds"].items():
        what = TITLES[peer].replace("search", "add")
        made.append(_timed(f"{size:,}", what, seconds, ratio=f"{p50(seconds) / own:.1f} × add"))
    return made


def _holding(size: int, holding: dict[str, Any]) -> list[Row]:
    peak, now = holding["peak_bytes"] / MB, holding["resident_bytes"]
    bounded = size == HELD
    return [
        _timed(f"{size:,}", "a subject's first retrieve in a new process", holding["seconds"]),
        Row(
            f"{size:,}", "memory after every subject's: peak; then",
            f"{peak:.0f} MB", f"{now / MB:.0f} MB" if now else "",
            bar=f"≤ {MOST_HELD_MB} MB" if bounded else "",
            met=peak <= MOST_HELD_MB if bounded else None,
        ),
    ]  # fmt: skip


def _loading(loading: dict[str, Any]) -> list[Row]:
    whole, embedding = loading["seconds"], loading["embed_seconds"]
    share, alone = embedding / whole, f"{10_000 / embedding:.0f}/s"
    made = [
        Row(
            "loading 10,000", "add_many", f"{whole:.1f} s", f"{10_000 / whole:.0f}/s",
            f"{share:.0%} of the rate of embedding", f"≥ {LEAST_LOADING:.0%}",
            share >= LEAST_LOADING,
        ),
        Row("loading 10,000", "embedding alone", f"{embedding:.1f} s", alone),
    ]  # fmt: skip
    return made + [
        Row("loading 10,000", f"… {part}", f"{seconds:.1f} s", "", f"{seconds / whole:.0%} of it")
        for part, seconds in sorted(loading["parts"].items(), key=lambda each: -each[1])
    ]


def _cold(cold: dict[str, Any]) -> list[Row]:
    query, helped = cold["query"], cold["help"]
    peak = max(query["peak_bytes"]) / MB
    heavy = ", ".join(cold["imported"]) or "none"
    seconds, help_seconds = p50(query["seconds"]) / 1000, p50(helped["seconds"]) / 1000
    return [
        Row(
            "cold, 500", "holdfast query", f"{seconds:.2f} s",
            f"{p95(query['seconds']) / 1000:.2f} s",
            bar=f"≤ {MOST_COLD_SECONDS} s", met=seconds <= MOST_COLD_SECONDS,
        ),
        Row(
            "cold, 500", "… peak resident memory", f"{peak:.0f} MB",
            bar=f"≤ {MOST_COLD_MB} MB", met=peak <= MOST_COLD_MB,
        ),
        Row(
            "cold, 500", "holdfast --help", f"{help_seconds:.2f} s",
            f"{p95(helped['seconds']) / 1000:.2f} s",
            bar=f"≤ {MOST_HELP_SECONDS} s", met=help_seconds <= MOST_HELP_SECONDS,
        ),
        Row(
            "cold, 500", "… heavy packages imported", heavy, bar="none",
            met=not cold["imported"],
        ),
    ]  # fmt: skip
