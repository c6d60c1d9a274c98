"""New statements beside those that are there: how they are read, and what lies close to them.

What the heads say of a vector goes before the rules where there are heads for the embedder.
Nothing is merged or changed on the word of what is reported.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from ..memory import decisions
from ..memory.models import Kind, Scope, Statement, Strength
from ..memory.versions import Draft, Version
from . import heads, relation
from .heads import Floats
from .library import Library
from .results import Pair
from .scoring import Int8

Related = tuple[Draft, Statement, float, str]
"""A new statement, one stored, the cosine of the two, and how they relate."""
Told = tuple[int, int, relation.Relation, float | None]
"""The places of the later and the earlier of two statements, how they relate, and the chance of
that, 0 to 1; None where rules tell it, which know no chance."""
LEAST_COSINE = 0.1
"""Below it two statements are not compared. Of the labelled pairs no duplicate and no revision
lies there, and two of the 14 tensions that the head tells; of the 2,431 pairs of the dev memories,
hardly any of which is one, four of the six that it tells."""
_ROWS = 256
"""Statements whose cosines to all others are held at once."""
_PAIRS = 4096
"""Pairs whose features are held at once: 6.5 MB."""


class Given(Protocol):
    """What a caller said of a text; None: to be read."""

    @property
    def kind(self) -> Kind | None:
        """Its kind."""
        ...

    @property
    def strength(self) -> Strength | None:
        """Its strength."""
        ...

    @property
    def scope(self) -> Scope | None:
        """Its scope."""
        ...


def read(library: Library, drafts: Sequence[Draft], given: Given, matrix: Int8) -> list[Draft]:
    """Read off the vectors what was not given, where there are heads for them."""
    trained = heads.load(library.embedder.digest)
    if trained is None or (given.kind and given.strength and given.scope):
        return list(drafts)
    found: list[Draft] = []
    for each, vector in zip(drafts, heads.vectors(matrix), strict=True):
        said = trained.read(each.text, vector)
        kind, strength, scope = given.kind, given.strength, given.scope
        found.append(
            replace(
                each,
                kind=kind or said.kind,
                strength=strength or said.strength,
                scope=scope or said.scope,
            )
        )
    return found


def pairs(library: Library, subject: str, new: Sequence[Draft], matrix: Int8) -> list[Related]:
    """Find what lies close to new statements, among those in force, or pulls against them.

    Decisions stand aside, as in ``among``: the heads know single sentences, and a decision is
    situation, choice and reason.
    """
    corpus = library.corpus(subject)
    if not len(corpus):
        return []
    added = Texts([each.text for each in new], heads.vectors(matrix))
    held = Texts([v.statement.text for v in corpus.versions], heads.vectors(corpus.matrix))
    cosines = added.vectors @ held.vectors.T
    cosines[:, [decisions.is_whole(v.statement) for v in corpus.versions]] = -1
    near = [(i, j) for i, row in enumerate(cosines) for j in closest(row)]
    found = [
        (new[i], corpus.versions[j].statement, float(cosines[i, j]), told)
        for i, j, told, _ in compare(heads.load(library.embedder.digest), added, held, near)
    ]
    return sorted(found, key=lambda pair: (-pair[2], pair[1].id))


def among(
    statements: Sequence[Statement], vectors: Floats, trained: heads.Heads | None
) -> list[Told]:
    """Find what is related among statements in the order in which they were said.

    Each is compared as when it was added: with those closest to it that were there already.

    Args:
        statements: n, in that order.
        vectors: theirs, of length 1: (n, d).
        trained: the heads for the vectors; None: rules tell it.
    """
    texts = Texts([statement.text for statement in statements], vectors)
    decided = np.array([decisions.is_whole(statement) for statement in statements], np.bool_)
    near: list[tuple[int, int]] = []
    for start in range(0, len(statements), _ROWS):
        rows = vectors[start : start + _ROWS]
        cosines = rows @ vectors[: start + len(rows)].T
        cosines[:, decided[: start + len(rows)]] = -1
        cosines[decided[start : start + len(rows)]] = -1
        near += [(i, j) for i, row in enumerate(cosines, start) for j in closest(row[:i])]
    return compare(trained, texts, texts, near)


def closest(cosines: Floats) -> list[int]:
    """Give the places of the statements that one is compared with, closest first: (n,) → ≤ 20."""
    order = np.argsort(-cosines, kind="stable")[: relation.MOST_COMPARED]
    return order[cosines[order] >= LEAST_COSINE].tolist()


class Texts:
    """n statements ready to be compared, each read once however many others it is compared with."""

    def __init__(self, texts: Sequence[str], vectors: Floats) -> None:
        """Take the texts and their vectors of length 1, (n, d)."""
        self.texts = texts
        self.vectors = vectors
        self._words: dict[int, relation.Words] = {}

    def words(self, places: Iterable[int]) -> list[relation.Words]:
        """Give the words of some."""
        return [self._words.get(i) or self._read(i) for i in places]

    def _read(self, i: int) -> relation.Words:
        return self._words.setdefault(i, relation.Words(self.texts[i]))


def compare(
    trained: heads.Heads | None, new: Texts, old: Texts, places: Sequence[tuple[int, int]]
) -> list[Told]:
    """Say how statements stand to ones said before them, where that is sure enough.

    Args:
        trained: the heads for the vectors; None: rules tell it.
        new: the later statements.
        old: the earlier ones.
        places: which are compared: a place in ``new`` and one in ``old``.
    """
    found: list[Told] = []
    for start in range(0, len(places), _PAIRS):
        part = places[start : start + _PAIRS]
        left, right = ([place[k] for place in part] for k in (0, 1))
        ours, theirs = new.vectors[left], old.vectors[right]
        if trained is None:
            cosines = (ours * theirs).sum(axis=1).tolist()
            for (i, j), cosine in zip(part, cosines, strict=True):
                if said := relation.relation(new.texts[i], old.texts[j], cosine):
                    found.append((i, j, said, None))
            continue
        chances = trained.relate(new.words(left), old.words(right), ours, theirs)
        for (i, j), row in zip(part, chances, strict=True):
            if said := heads.related(row):
                found.append((i, j, said, float(row[heads.REPORTED[said]])))
    return found


def reported(found: Sequence[Related], wanted: str, written: Mapping[bytes, Version]) -> list[Pair]:
    """Give the pairs of one relation, of what was written."""
    return [
        Pair(written[new.equality].statement, other, cosine)
        for new, other, cosine, said in found
        if said == wanted and new.equality in written
    ]
