"""The trained heads on the embedder's vector: what a statement is, how two relate, what asks.

Softmax regressions, fitted by ``training.heads`` for the bundled embedder alone; with any
other one the rules of ``reading`` and ``relation`` stand alone. A reading is kept with its
statement, so nothing here is ever computed again for an audit.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..memory.models import KINDS, SCOPES, STRENGTHS
from . import reading
from .reading import Reading
from .relation import Relation, Words, differences

FILE = Path(__file__).with_name("model") / "heads.npz"
RELATIONS = ("none", "duplicate", "revision", "tension")
REPORTED: dict[Relation, int] = {"similar": 1, "possible_revision": 2, "tension": 3}
"""Under what name each is reported, and its place in ``RELATIONS``."""
SAME_MATTER = 0.6
"""Least chance of a duplicate or a revision at which the likelier of the two is reported."""
TENSION = 0.6
"""Least chance of a tension: most statements of one memory have nothing to do with each other."""
ALWAYS_FROM = 0.6
"""Least chance of scope ``always``: it would come with every request."""
MUST_FROM = 0.42
"""Least chance of strength ``must``: a boundary read as a wish is the worse mistake."""
Floats = NDArray[np.float32]


class Heads:
    """The fitted weights: (features + 1, choices) each, the last row the bias."""

    def __init__(self, weights: dict[str, Floats]) -> None:
        self._weights = weights

    def read(self, text: str, vector: Floats) -> Reading:
        """Read kind, strength and scope of one statement.

        Args:
            text: the statement.
            vector: (d,), its embedding, length 1.
        """
        features = text_features(text, vector)[None]
        said = {
            name: choose(name, softmax(features, self._weights[name])[0])
            for name in ("kind", "strength", "scope")
        }
        return Reading(**said)

    def ask(self, vectors: Floats) -> Floats:
        """Give the chance that each sentence asks for something: (n, d) → (n,)."""
        return softmax(vectors, self._weights["ask"])[:, 1]

    def override(self, vectors: Floats) -> Floats:
        """Give the chance that each sentence would undo what is kept: (n, d) → (n,)."""
        return softmax(vectors, self._weights["override"])[:, 1]

    def relate(
        self, new: Sequence[Words], old: Sequence[Words], vectors: Floats, olds: Floats
    ) -> Floats:
        """Give the chance of each of ``RELATIONS`` of p new statements to ones stored: (p, 4)."""
        return softmax(pair_features(new, old, vectors, olds), self._weights["relation"])


@lru_cache(maxsize=4)
def load(embedder: str) -> Heads | None:
    """Give the heads for an embedder, by its digest; None: there are none for it."""
    try:
        with np.load(FILE, allow_pickle=False) as file:
            held = {name: file[name] for name in file.files}
    except (OSError, ValueError):
        return None
    if str(held.pop("embedder", "")) != embedder:
        return None
    return Heads(held)


def vectors(matrix: NDArray[np.int8]) -> Floats:
    """Give stored int8 vectors as vectors of length 1: (n, d)."""
    found = matrix.astype(np.float32)
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)


def related(chances: Floats) -> Relation | None:
    """Give what is reported on the chances of ``RELATIONS``; None: nothing."""
    of = dict(zip(RELATIONS, chances.tolist(), strict=True))
    if of["duplicate"] + of["revision"] >= SAME_MATTER:
        return "similar" if of["duplicate"] >= of["revision"] else "possible_revision"
    return "tension" if of["tension"] >= TENSION else None


def choose(name: str, chances: Floats) -> Any:
    """Give what is read off the chances of one head's choices."""
    choices = {"kind": KINDS, "strength": STRENGTHS, "scope": SCOPES}[name]
    if name == "scope":
        return "always" if chances[SCOPES.index("always")] >= ALWAYS_FROM else "topical"
    if name == "strength" and chances[STRENGTHS.index("must")] >= MUST_FROM:
        return "must"
    return choices[int(chances.argmax())]


def text_features(text: str, vector: Floats) -> Floats:
    """Give a statement's features: its vector, and which rule speaks for each attribute."""
    fired = np.array(reading.fired(text), np.float32)
    return np.concatenate([np.asarray(vector, np.float32) * 4, fired])


def pair_features(
    new: Sequence[Words], old: Sequence[Words], vectors: Floats, olds: Floats
) -> Floats:
    """Give what p pairs of statements have in common: their vectors' and their words'.

    Args:
        new: p statements' words.
        old: of those that they are compared with.
        vectors: (p, d), of the new ones.
        olds: (p, d), of the others.
    """
    product = vectors * olds
    cosine = product.sum(axis=1)
    near = [cosine, cosine**2, np.maximum(0, cosine - 0.5), np.maximum(0, cosine - 0.7)]
    words = [differences(*pair) for pair in zip(new, old, strict=True)]
    return np.hstack([np.stack(near, axis=1), np.array(words, np.float32), product * 16])


def softmax(features: Floats, weights: Floats) -> Floats:
    """Give probabilities: (n, choices)."""
    logits = features @ weights[:-1] + weights[-1]
    logits -= logits.max(axis=1, keepdims=True)
    raised = np.exp(logits)
    return raised / raised.sum(axis=1, keepdims=True)
