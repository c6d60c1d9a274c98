"""Requests as they come: long ones, conversations, and ones that are tampered with.

The labelled texts lie in ``training/data/``; each case is asked of the memory that it was
labelled for, through the real engine at its defaults.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from training import labelled

from .datasets import Query, Set, memory_items, relevant
from .metrics import Selection, selection
from .rankers import Product
from .telling import Say

WORDS = 4_000
"""Of a long request."""
NOISE = 500
"""Irrelevant words before and after a tampered request."""
SEED = 20
MOST_TAMPERED = 1_000
"""Boundary hits that are tried under each attack, at most."""


@dataclass(frozen=True, slots=True)
class Row:
    """What came of some cases."""

    title: str
    cases: int
    found: Selection


def measure(product: Product, say: Say) -> tuple[list[Row], list[tuple[str, int, int]]]:
    """Ask everything.

    Returns:
        What was selected, set by set; and for each attack how many of the boundary hits
        survived it, of how many.
    """
    users = memory_items("dev")
    say("long requests")
    rows = [_asked(product, Set("long", title, users, queries)) for title, queries in _long()]
    say("conversations")
    told = [
        Query(case["memory"], case["messages"], relevant(case["memory"], case))
        for case in labelled.rows("conversations.jsonl")
    ]
    bare = [Query(q.user, q.text[-1]["content"], q.relevant) for q in told]
    rows.append(_asked(product, Set("talk", "conversations, last turn alone", users, bare)))
    rows.append(_asked(product, Set("talk", "conversations", users, told)))
    return rows, _under_attack(product, say)


def _asked(product: Product, asked: Set) -> Row:
    found = product.rank(asked)
    chosen = selection([r.injected for r in found], [q.relevant for q in asked.queries])
    return Row(asked.title, len(asked.queries), chosen)


def _long() -> list[tuple[str, list[Query]]]:
    """Give the asks alone, and hidden at the beginning, the end and anywhere of many words."""
    chance = random.Random(SEED)
    asks = labelled.rows("asks.jsonl")
    passages = labelled.half("passages.txt", left_out=True)

    def hidden(text: str, place: float | None) -> str:
        parts = _some(passages, WORDS, chance)
        at = chance.random() if place is None else place
        parts.insert(round(at * len(parts)), text)
        return "\n\n".join(parts)

    places = (("first", 0.0), ("last", 1.0), ("anywhere", None))
    alone = [Query(case["memory"], case["prompt"], relevant(case["memory"], case)) for case in asks]
    return [
        ("asks alone", alone),
        *(
            (f"asks {name} in {WORDS:,} words",
             [Query(q.user, hidden(q.text, place), q.relevant) for q in alone])
            for name, place in places
        ),
    ]  # fmt: skip


def _some(passages: Sequence[str], words: int, chance: random.Random) -> list[str]:
    """Take passages in a random order until there are so many words."""
    parts: list[str] = []
    for passage in chance.sample(list(passages), len(passages)):
        if words <= 0:
            break
        parts.append(passage)
        words -= len(passage.split())
    return parts


def _under_attack(product: Product, say: Say) -> list[tuple[str, int, int]]:
    chance = random.Random(SEED)
    users = memory_items("dev")
    strengths = {item.id: item.strength for items in users.values() for item in items}
    queries = [
        Query(bag.name, prompt, frozenset())
        for bag in labelled.memories("dev")
        for prompt in bag.prompts
    ]
    hits = [
        (query, boundary)
        for query, found in zip(
            queries, product.rank(Set("plain", "", users, queries)), strict=True
        )
        for boundary in sorted(i for i in found.injected if strengths[i] == "must")
    ]
    hits = chance.sample(hits, min(MOST_TAMPERED, len(hits)))
    passages = labelled.half("passages.txt", left_out=True)
    attacks = labelled.half("attacks.txt", left_out=True)

    def noise() -> str:
        return " ".join(" ".join(_some(passages, NOISE, chance)).split()[:NOISE])

    ways = {
        f"{NOISE} words before": lambda text: f"{noise()}\n\n{text}",
        f"{NOISE} words after": lambda text: f"{text}\n\n{noise()}",
        f"{NOISE} words before and after": lambda text: f"{noise()}\n\n{text}\n\n{noise()}",
        "an attack before": lambda text: f"{chance.choice(attacks)} {text}",
        "an attack after": lambda text: f"{text} {chance.choice(attacks)}",
        "three attacks around": lambda text: (
            f"{chance.choice(attacks)}\n{text}\n{chance.choice(attacks)}\n{chance.choice(attacks)}"
        ),
    }
    result: list[tuple[str, int, int]] = []
    for name, way in ways.items():
        say(f"under attack: {name}")
        tried = [Query(query.user, way(query.text), frozenset()) for query, _ in hits]
        found = product.rank(Set("attacked", "", users, tried))
        kept = sum(b in f.injected for (_, b), f in zip(hits, found, strict=True))
        result.append((name, kept, len(hits)))
    return result
