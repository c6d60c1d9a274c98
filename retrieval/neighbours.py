"""New statements beside those that are there: how they are read, and what lies close to them.

What the heads say of a vector goes before the rules where there are heads for the embedder.
Nothing is merged or changed on the word of what is reported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from ..memory.models import Kind, Scope, Statement, Strength
from ..memory.versions import Draft, Version
from . import heads, relation
from .library import Library
from .results import Pair
from .scoring import Int8

Related = tuple[Draft, Statement, float, str]
"""A new statement, one stored, the cosine of the two, and how they relate."""


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
    """Find what lies close to new statements, among those in force, or pulls against them."""
    corpus = library.corpus(subject)
    if not len(corpus):
        return []
    ours, theirs = heads.vectors(matrix), heads.vectors(corpus.matrix)
    cosines = ours @ theirs.T
    trained = heads.load(library.embedder.digest)
    found: list[Related] = []
    for i, each in enumerate(new):
        order: list[int] = np.argsort(-cosines[i], kind="stable").tolist()
        for j in order[: relation.MOST_COMPARED]:
            other, cosine = corpus.versions[j].statement, float(cosines[i, j])
            if trained is None:
                said = relation.relation(each.text, other.text, cosine)
            else:
                said = trained.relation(each.text, other.text, ours[i], theirs[j])
            if said is not None:
                found.append((each, other, cosine, said))
    return sorted(found, key=lambda pair: (-pair[2], pair[1].id))


def reported(found: Sequence[Related], wanted: str, written: Mapping[bytes, Version]) -> list[Pair]:
    """Give the pairs of one relation, of what was written."""
    return [
        Pair(written[new.equality].statement, other, cosine)
        for new, other, cosine, said in found
        if said == wanted and new.equality in written
    ]
