"""The sets that quality is measured on: public ones, and the project's own memories.

The public ones are not kept in the repository.
A folder of sets holds ``FOLDER/*corpus.jsonl`` {id, user, text}, ``FOLDER/*queries.jsonl``
{id, user, text, relevant: [ids]}, and prompts on which nothing bears
(``negatives/none_prompts.jsonl`` {id, text}, ``prefeval_a/none_silver.jsonl``). The memories
lie in ``training/data/``. A ``user`` is one subject.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training import labelled
from training.labelled import Row, json_lines

FILES = {
    "prefeval_a": ("prefeval_a/corpus.jsonl", "prefeval_a/queries.jsonl"),
    "moral_stories": (
        "moral_stories/dev_users_corpus.jsonl",
        "moral_stories/dev_users_queries.jsonl",
    ),
    "personalens": ("personalens/corpus.jsonl", "personalens/queries.jsonl"),
    "model_spec": ("model_spec/corpus.jsonl", "model_spec/queries.jsonl"),
}
TITLES = {
    "prefeval_a": "PrefEval A users",
    "moral_stories": "Moral Stories dev users",
    "personalens": "PersonaLens",
    "model_spec": "Model Spec",
}
NEGATIVES = "negatives/none_prompts.jsonl"
ABSENT = "prefeval_a/none_silver.jsonl"


@dataclass(frozen=True, slots=True)
class Item:
    """A statement of a set; what is None is left to the product to read from the words."""

    id: str
    text: str
    kind: str | None = None
    strength: str | None = None
    scope: str = "topical"


@dataclass(frozen=True, slots=True)
class Query:
    """A prompt asked of one user's statements, and which of them are relevant."""

    user: str
    text: Any
    """A prompt, or chat messages."""
    relevant: frozenset[str]


@dataclass(frozen=True, slots=True)
class Set:
    """Statements by user, and the queries asked of them."""

    name: str
    title: str
    users: dict[str, list[Item]]
    queries: list[Query] = field(default_factory=list[Query])


def by_user(corpus: Sequence[Row]) -> dict[str, list[Item]]:
    """Group the statements of a corpus by user, in their order."""
    users: dict[str, list[Item]] = {}
    for row in corpus:
        users.setdefault(row["user"], []).append(Item(row["id"], row["text"]))
    return users


def read_set(data: Path, name: str) -> Set:
    """Read one of ``FILES``."""
    corpus, queries = FILES[name]
    return Set(
        name,
        TITLES[name],
        by_user(json_lines(data / corpus)),
        [Query(q["user"], q["text"], frozenset(q["relevant"])) for q in json_lines(data / queries)],
    )


def read_unrelated(data: Path, seed: int) -> Set:
    """Ask each prompt on which nothing bears of a random PrefEval user."""
    users = by_user(json_lines(data / FILES["prefeval_a"][0]))
    names = sorted(users)
    generator = random.Random(seed)
    queries = [
        Query(generator.choice(names), row["text"], frozenset())
        for row in json_lines(data / NEGATIVES)
    ]
    return Set("unrelated", "unrelated prompts", users, queries)


def read_absent(data: Path) -> Set:
    """Ask PrefEval's queries of users from whom the query's group of topics was taken out."""
    corpus = json_lines(data / FILES["prefeval_a"][0])
    users: dict[str, list[Item]] = {}
    queries: list[Query] = []
    for row in json_lines(data / ABSENT):
        user = f"{row['user']} without {row['exclude_group']}"
        if user not in users:
            users[user] = [
                Item(c["id"], c["text"])
                for c in corpus
                if c["user"] == row["user"] and c["group"] != row["exclude_group"]
            ]
        queries.append(Query(user, row["text"], frozenset()))
    return Set("absent", "topic absent from the memory", users, queries)


def memory_items(split: str | None) -> dict[str, list[Item]]:
    """Give whole memories of ``training/data/``; ``split``: train, dev, test, or None for all."""
    return {
        memory["id"]: [
            Item(f"{memory['id']}/{s['id']}", s["text"], s["kind"], s["strength"], s["scope"])
            for s in memory["statements"]
        ]
        for memory in _memories(split)
    }


def read_memories(split: str | None) -> Set:
    """Ask whole memories what their own person or organisation asks (``labelled.asked``)."""
    queries = [
        _labelled(memory["id"], prompt)
        for memory in _memories(split)
        for prompt in labelled.asked(memory)
    ]
    return Set("memories", f"memories ({split or 'all'})", memory_items(split), queries)


def read_asked_of_others(split: str) -> Set:
    """Ask whole memories what other persons asked, labelled anew for this memory."""
    users = memory_items(split)
    queries = [
        _labelled(row["memory"], row)
        for row in labelled.rows("asked_of_others.jsonl")
        if row["memory"] in users
    ]
    return Set("others", f"others' requests ({split})", users, queries)


def read_own(path: Path) -> Set:
    """Read a labelled memory of somebody's own: one JSON object as docs/quality.md says."""
    memory = json.loads(path.read_text(encoding="utf-8"))
    items = [
        Item(f"{path.stem}/{s['id']}", s["text"], s.get("kind"), s.get("strength"),
             s.get("scope") or "topical")
        for s in memory["statements"]
    ]  # fmt: skip
    queries = [_labelled(path.stem, prompt) for prompt in memory["prompts"]]
    known = {item.id for item in items}
    for query in queries:
        if unknown := query.relevant - known:
            raise SystemExit(f"{path}: a prompt names {sorted(unknown)}, which are no statements")
    return Set(path.stem, path.name, {path.stem: items}, queries)


def _memories(split: str | None) -> list[Row]:
    return [
        memory
        for name in labelled.MEMORIES
        for memory in labelled.rows(name)
        if split in (None, memory["split"])
    ]


def relevant(user: str, row: Row) -> frozenset[str]:
    """Give the ids of the statements that bear, as the sets name them."""
    return frozenset(f"{user}/{i}" for i in row["relevant"])


def _labelled(user: str, row: Row) -> Query:
    return Query(user, row["prompt"], relevant(user, row))
