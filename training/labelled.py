"""The labelled texts in ``training/data/``, read as bags: statements, prompts, and what bears.

A bag is one memory, one scene or one statement with prompts asked of it. Every pair of a
prompt and a topical statement of a bag has a label. ``training/data/README.md`` says where
the texts come from and what each file holds.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DATA = Path(__file__).parent / "data"
MEMORIES = ("memories.jsonl", "more_memories.jsonl", "further_memories.jsonl")
CHECKED = MEMORIES[:2]
"""Those whose labels were read twice: what a statement is, is learnt from these."""
GROUPS = ("groups.jsonl", "scenes.jsonl")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bag:
    """Prompts asked of the statements of one person or organisation."""

    name: str
    domain: str
    """Bags of one domain may hold statements that bear on each other's prompts, unlabelled."""
    statements: list[str]
    strengths: list[str]
    prompts: list[str]
    bears: NDArray[np.bool_]
    """(prompts, statements)."""


def json_lines(path: Path) -> list[Row]:
    """Read a file of JSON lines."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def rows(name: str) -> list[Row]:
    """Read a file of ``training/data/``."""
    return json_lines(DATA / name)


def lines(name: str) -> list[str]:
    """Read a file of texts of ``training/data/``, one a line."""
    return (DATA / name).read_text(encoding="utf-8").splitlines()


def half(name: str, *, left_out: bool) -> list[str]:
    """Give every other line of a file of texts: those that are fitted on, or the others."""
    return lines(name)[int(left_out) :: 2]


def scenes() -> list[Bag]:
    """Give the scenes: five statements of one part of life, asked the same twelve prompts."""
    topical = [row for row in rows("scenes.jsonl") if row["scope"] == "topical"]
    return [_scene(name, list(own)) for name, own in groupby(topical, lambda row: row["scene"])]


def _scene(name: str, own: Sequence[Row]) -> Bag:
    first = own[0]
    prompts = [entry["prompt"] for entry in (*first["applies"], *first["not_applies"])]
    applies = [{entry["prompt"] for entry in row["applies"]} for row in own]
    return Bag(
        name=name,
        domain=first["domain"],
        statements=[row["statement"] for row in own],
        strengths=[row["strength"] for row in own],
        prompts=prompts,
        bears=np.array([[prompt in found for found in applies] for prompt in prompts]),
    )


def groups() -> list[Bag]:
    """Give the older groups, each one statement and the prompts to which it applies.

    Their near-misses are left out: they can be told from the prompt alone (AUROC .90).
    """
    return [
        Bag(
            name=row["id"],
            domain=row["domain"],
            statements=[row["statement"]],
            strengths=[row["strength"]],
            prompts=[entry["prompt"] for entry in row["applies"]],
            bears=np.ones((len(row["applies"]), 1), np.bool_),
        )
        for row in rows("groups.jsonl")
        if row["scope"] == "topical"
    ]


def memories(split: str, *, cued: bool = False) -> list[Bag]:
    """Give whole memories with what their own person or organisation asks.

    Args:
        split: train, dev, or test: nothing is fitted on those, and nothing chosen. What a
            person of ``test`` asks and was asked of others to be learnt from is left out.
        cued: keep the older memories' prompts on which nothing bears, which can be told
            from the prompt alone (AUROC .96).
    """
    found: list[Bag] = []
    for name in MEMORIES:
        kept = cued or name != MEMORIES[0]
        for memory in rows(name):
            if memory["split"] == split:
                prompts = [p for p in asked(memory) if kept or p["relevant"]]
                found.append(_memory(memory, prompts))
    return found


def asked(memory: Row) -> list[Row]:
    """Give a memory's own prompts: of one of ``test`` those that were not learnt from."""
    prompts: list[Row] = memory["prompts"]
    if memory["split"] != "test":
        return prompts
    return [prompt for prompt in prompts if prompt["prompt"] not in _learnt()]


@cache
def _learnt() -> set[str]:
    bags = [*memories("train", cued=True), *asked_of_others("train")]
    return {prompt for bag in bags for prompt in bag.prompts}


def asked_of_others(split: str, file: str = "asked_of_others.jsonl") -> list[Bag]:
    """Give memories with natural requests of other persons, labelled anew for this memory.

    Args:
        split: of the memories.
        file: with the requests; another one is ``mined.jsonl``.
    """
    by_memory: dict[str, list[Row]] = {}
    for row in rows(file):
        by_memory.setdefault(row["memory"], []).append(row)
    return [
        _memory(memory, by_memory[memory["id"]])
        for name in MEMORIES
        for memory in rows(name)
        if memory["split"] == split and memory["id"] in by_memory
    ]


def _memory(memory: Row, prompts: Sequence[Row]) -> Bag:
    topical = [s for s in memory["statements"] if s["scope"] == "topical"]
    return Bag(
        name=memory["id"],
        domain=memory["id"],
        statements=[s["text"] for s in topical],
        strengths=[s["strength"] for s in topical],
        prompts=[p["prompt"] for p in prompts],
        bears=np.array([[s["id"] in p["relevant"] for s in topical] for p in prompts]),
    )


def statements() -> Iterator[Row]:
    """Give every statement that was read twice, but for the test split, with what it is."""
    for name in GROUPS:
        for row in rows(name):
            yield {**row, "text": row["statement"]}
    for name in CHECKED:
        for memory in rows(name):
            if memory["split"] != "test":
                for statement in memory["statements"]:
                    yield {**statement, "domain": memory["id"]}
