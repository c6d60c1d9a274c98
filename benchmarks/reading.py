"""How well a text is read: its boundaries, and kind, strength and scope of its statements.

    python -m benchmarks.reading [--data DIR]

``DIR`` holds ``groups.jsonl`` and ``memories.jsonl`` (one statement each line, and memories
of statements). This measures the rules, which were written with the groups and the memories
of split "train" in view; "dev" was only measured. What the heads add to them is printed by
``training.heads``, cross-validated.
"""

import argparse
import json
import random
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from holdfast.memory.models import KINDS, STRENGTHS
from holdfast.retrieval.reading import clean, read, split
from training import labelled

Row = dict[str, Any]
STYLES: dict[str, Callable[[list[str]], str]] = {
    "paragraph": " ".join,
    "wrapped": lambda texts: textwrap.fill(" ".join(texts), 72, break_on_hyphens=False),
    "bullets": lambda texts: "My rules:\n" + "\n".join(f"- {text}" for text in texts),
    "lines": "\n".join,
    "page": lambda texts: "# My page\n\n## Rules\n\n" + "\n\n".join(texts),
}
SAMPLES = 40
"""Texts of two to six random statements made of each memory, in each style."""


def load(directory: Path) -> dict[str, list[list[Row]]]:
    """Read the statements as rows (text, kind, strength, scope), memory by memory."""
    domains: dict[str, list[Row]] = {}
    for line in (directory / "groups.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        domains.setdefault(row["domain"], []).append(row | {"text": row["statement"]})
    sets: dict[str, list[list[Row]]] = {"groups": list(domains.values()), "train": [], "dev": []}
    for line in (directory / "memories.jsonl").read_text(encoding="utf-8").splitlines():
        memory = json.loads(line)
        sets[memory["split"]].append(memory["statements"])
    return sets


def boundaries(statements: list[str]) -> set[int]:
    """Where statements end, counted in characters that are not white space."""
    ends: set[int] = set()
    at = 0
    for statement in statements[:-1]:
        at += len("".join(statement.split()))
        ends.add(at)
    return ends


def separation(memories: list[list[Row]], style: Callable[[list[str]], str]) -> tuple[float, float]:
    """Precision and recall of the boundaries found in texts joined from statements."""
    generator = random.Random(1)
    both = found = true = 0
    for memory in memories:
        for _ in range(SAMPLES):
            rows = generator.sample(memory, generator.randint(2, 6))
            texts = [row["text"] + ("" if row["text"][-1] in ".!?" else ".") for row in rows]
            expected, got = boundaries(texts), boundaries(split(clean(style(texts))))
            both, found, true = both + len(expected & got), found + len(got), true + len(expected)
    return both / found, both / true


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=labelled.DATA, help="folder of the two files")
    sets = load(parser.parse_args().data)
    console = Console()
    splitting = Table("set", "stays whole", *STYLES, title="boundaries: precision / recall")
    fields = Table("set", "kind", "strength", "scope", "must of hard boundaries", "always P / R",
                   title="accuracy")  # fmt: skip
    for name, memories in sets.items():
        rows = [row for memory in memories for row in memory]
        scores = (separation(memories, style) for style in STYLES.values())
        whole = sum(len(split(clean(row["text"]))) == 1 for row in rows) / len(rows)
        splitting.add_row(name, f"{whole:.3f}", *(f"{p:.3f} / {r:.3f}" for p, r in scores))
        readings = [(read(row["text"]), row) for row in rows]
        accuracy = [
            sum(getattr(reading, field) == row[field] for reading, row in readings) / len(rows)
            for field in ("kind", "strength", "scope")
        ]
        hard = [r for r, row in readings if (row["kind"], row["strength"]) == ("boundary", "must")]
        given = [row["scope"] == "always" for r, row in readings if r.scope == "always"]
        wanted = sum(row["scope"] == "always" for row in rows)
        fields.add_row(
            name,
            *(f"{value:.3f}" for value in accuracy),
            f"{sum(r.strength == 'must' for r in hard) / len(hard):.3f}",
            f"{sum(given) / len(given):.3f} / {sum(given) / wanted:.3f}",
        )
    console.print(splitting, fields)
    dev = [row for memory in sets["dev"] for row in memory]
    for field, values in (("kind", KINDS), ("strength", STRENGTHS)):
        counts = Counter((row[field], getattr(read(row["text"]), field)) for row in dev)
        table = Table(f"{field}, dev: true", *values, title="read as")
        for true in values:
            table.add_row(true, *(str(counts[true, read_as]) for read_as in values))
        console.print(table)


if __name__ == "__main__":
    main()
