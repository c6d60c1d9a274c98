"""A subject's statements as a map: their vectors, two axes to look along, and how they relate.

For looking only: nothing here chooses what is injected. Distances on the two axes are a
shadow of those among the vectors; ``explained`` says how much of them it keeps. It knows
nothing of where statements are kept.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..memory.errors import InvalidInputError
from ..memory.models import Statement, html_rows
from . import asks, heads
from .corpus import Corpus
from .embedder import Embedder
from .neighbours import among
from .relation import Relation
from .request import Messages, Request, parse

Floats = NDArray[np.float32]
Points = NDArray[np.float64]
LinkRelation = Literal["duplicate", "revision", "tension"]
_NAMES: dict[Relation, LinkRelation] = {
    "similar": "duplicate",
    "possible_revision": "revision",
    "tension": "tension",
}
_LINKS_SHOWN = 20
_WIDTH, _HEIGHT, _MARGIN = 640, 400, 24
_COLOURS: dict[LinkRelation, str] = {
    "duplicate": "#009e73",
    "revision": "#e69f00",
    "tension": "#d55e00",
}
"""Of the links in the picture: told apart by the colour-blind (Okabe and Ito, 2008)."""
_FLAT = 1e-6
"""Spread along an axis, against the vectors' length of 1, below which there is none."""


@dataclass(frozen=True, slots=True)
class Link:
    """Two statements in force that have to do with each other: a report, nothing is merged."""

    first: str
    """Id of the one that was said first."""
    second: str
    """Id of the one that says it again, revises it, or pulls against it."""
    relation: LinkRelation
    probability: float | None
    """Of the relation, 0 to 1; None where rules tell it, for want of heads for the embedder."""


@dataclass(frozen=True, slots=True, eq=False)
class ValuesMap:
    """The n statements of a subject in the space of their embeddings, d dimensions."""

    statements: list[Statement]
    """All in force, in the order in which they were said."""
    vectors: Floats
    """(n, d), each of length 1: those that are stored."""
    points: Points
    """(n, 2): the vectors along their two axes of greatest variance (PCA), from their middle; the
    greatest component of each axis is positive, so that the same vectors give the same map."""
    explained: tuple[float, float]
    """Share of the vectors' variance that lies along each axis, 0 to 1."""
    links: list[Link]
    """Duplicates, possible revisions and tensions, the surest first; decisions have none."""
    placed: Points
    """(prompts, 2): where each prompt lands, along the same axes."""

    def __repr__(self) -> str:
        return f"<ValuesMap of {len(self.statements)} statements, {len(self.links)} links>"

    def __str__(self) -> str:
        kept = sum(self.explained)
        head = f"{len(self.statements)} statements; two axes keep {kept:.0%} of their variance"
        texts = self._texts()
        return "\n".join(
            [head, *(f"  {link.relation:<9}  {texts[link.first]} ~ {texts[link.second]}"
                     for link in self.links)]
        )  # fmt: skip

    def _repr_html_(self) -> str:
        texts = self._texts()
        rows = [
            (
                link.relation,
                "" if link.probability is None else f"{link.probability:.2f}",
                texts[link.first],
                texts[link.second],
            )
            for link in self.links[:_LINKS_SHOWN]
        ]
        more = len(self.links) - _LINKS_SHOWN
        return (
            f"<p>{len(self.statements)} statements and {len(self.placed)} prompts; two axes keep "
            f"{self.explained[0]:.0%} and {self.explained[1]:.0%} of the vectors' variance; "
            f"{len(self.links)} links</p>"
            + _picture(self)
            + (
                html_rows(["relation", "probability", "said first", "said later"], rows)
                if rows
                else ""
            )
            + (f"<p>and {more} more</p>" if more > 0 else "")
        )

    def _texts(self) -> dict[str, str]:
        return {statement.id: statement.text for statement in self.statements}


def _picture(seen: "ValuesMap") -> str:
    """Draw points (round), prompts (square) and links as SVG; a point's title is its text."""
    everything = np.concatenate([seen.points, seen.placed])
    if not len(everything):
        return ""
    low, high = everything.min(axis=0), everything.max(axis=0)
    room = np.array([_WIDTH, _HEIGHT]) - 2 * _MARGIN
    scaled = (everything - low) / np.maximum(high - low, _FLAT) * room + _MARGIN
    scaled[:, 1] = _HEIGHT - scaled[:, 1]  # upwards, as in a plot
    count = len(seen.statements)
    at = {s.id: scaled[i] for i, s in enumerate(seen.statements)}
    lines = [
        f"<line x1='{at[k.first][0]:.1f}' y1='{at[k.first][1]:.1f}' x2='{at[k.second][0]:.1f}' "
        f"y2='{at[k.second][1]:.1f}' stroke='{_COLOURS[k.relation]}' stroke-width='2'>"
        f"<title>{k.relation}</title></line>"
        for k in seen.links
    ]
    points = [
        f"<circle cx='{x:.1f}' cy='{y:.1f}' r='4' fill='#555'><title>{escape(s.text)}</title>"
        "</circle>"
        for (x, y), s in zip(scaled[:count], seen.statements, strict=True)
    ]
    prompts = [
        f"<rect x='{x - 5:.1f}' y='{y - 5:.1f}' width='10' height='10' fill='#0072b2'>"
        f"<title>prompt {i}</title></rect>"
        for i, (x, y) in enumerate(scaled[count:], 1)
    ]
    keys = "".join(
        f"<text x='{_MARGIN + 90 * i}' y='14' fill='{colour}' font-size='12'>— {name}</text>"
        for i, (name, colour) in enumerate(_COLOURS.items())
    )
    keys += (
        f"<text x='{_WIDTH - _MARGIN}' y='{_HEIGHT - 6}' text-anchor='end' font-size='12'>"
        f"→ first axis ({seen.explained[0]:.0%})   ↑ second axis ({seen.explained[1]:.0%})</text>"
    )
    return (
        f"<svg width='{_WIDTH}' height='{_HEIGHT}' style='background:#fff'>{keys}"
        f"{''.join([*lines, *points, *prompts])}</svg>"
    )


def values_map(
    corpus: Corpus, embedder: Embedder, prompts: Sequence[str | Messages] = ()
) -> ValuesMap:
    """Lay out a corpus, and requests on it.

    Args:
        corpus: the statements in force, with their vectors.
        embedder: that of the vectors.
        prompts: requests to be placed; each lands in the weighted middle of what it asks.

    Raises:
        InvalidInputError: ``prompts`` is no list, or one of them is no request.
    """
    listed: object = prompts
    if isinstance(listed, str) or not isinstance(listed, Iterable):
        raise InvalidInputError('prompts is a list of prompts, like ["What shall I cook?"]')
    asked = [parse(prompt) for prompt in prompts]
    versions = corpus.versions
    said = [(v.statement.recorded_at, v.place, v.statement.id) for v in versions]
    order = sorted(range(len(versions)), key=said.__getitem__)
    vectors = heads.vectors(corpus.matrix[order])
    statements = [versions[i].statement for i in order]
    middle, axes, explained = _axes(vectors)
    asked_at = [_middle(request, embedder) for request in asked]
    return ValuesMap(
        statements=statements,
        vectors=vectors,
        points=(vectors - middle) @ axes.T,
        explained=explained,
        links=_links(statements, vectors, embedder),
        placed=(np.array(asked_at).reshape(-1, len(middle)) - middle) @ axes.T,
    )


def _axes(vectors: Floats) -> tuple[Points, Points, tuple[float, float]]:
    """Find the middle (d,), the two axes of greatest variance (2, d), and the share of each."""
    count, dimensions = vectors.shape
    middle, axes = np.zeros(dimensions), np.zeros((2, dimensions))
    if not count:
        return middle, axes, (0.0, 0.0)
    middle = vectors.mean(axis=0, dtype=np.float64)
    centred = vectors - middle
    # By way of the d × d products: at 2,000 statements a quarter of the time of an SVD, or less.
    squares, directions = np.linalg.eigh(centred.T @ centred)
    total, shares = float(squares.sum()), np.zeros(2)
    for k, square in enumerate(squares[:-3:-1]):  # the greatest two
        if square > _FLAT**2 * count:
            found = directions[:, -1 - k]
            axes[k] = found * np.sign(found[np.abs(found).argmax()])
            shares[k] = square / total
    return middle, axes, (float(shares[0]), float(shares[1]))


def _middle(request: Request, embedder: Embedder) -> Points:
    """Give one vector for a request: the weighted mean of its segments, length 1."""
    heard = asks.hear(request, embedder)
    weights = [segment.weight for segment in heard.segments]
    found: Points = np.array(weights, np.float64) @ heads.vectors(heard.vectors)
    return found / max(float(np.linalg.norm(found)), 1e-9)


def _links(statements: Sequence[Statement], vectors: Floats, embedder: Embedder) -> list[Link]:
    found = [
        Link(statements[j].id, statements[i].id, _NAMES[relation], chance)
        for i, j, relation, chance in among(statements, vectors, heads.load(embedder.digest))
    ]
    return sorted(found, key=lambda link: -(link.probability or 0.0))
