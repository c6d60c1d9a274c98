"""The page's view of a subject's statements in the plane, and of a prompt among them.

Places and links are the engine's; here they become shares of the picture's width and height,
which the template draws as SVG.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import Response

from ..memory.models import KINDS, Statement
from ..retrieval.mapping import Link, ValuesMap
from ..retrieval.results import Candidate
from .visiting import Visit, visits

NEIGHBOURS = 5
"""Statements that a prompt is tied to: those that the engine scores highest."""
LINKS = 8
"""Links told of in words."""
TIES = 400
"""Links drawn as lines: the surest."""
TITLE = 90
"""Characters of a statement that a point in the picture carries along."""
MARGIN = 0.04

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Point:
    """A statement in the picture; x and y are shares of its width and height."""

    statement: Statement
    x: float
    y: float

    @property
    def title(self) -> str:
        """The beginning of its words."""
        text = self.statement.text
        return text if len(text) <= TITLE else f"{text[: TITLE - 1]}…"


@dataclass(frozen=True, slots=True)
class Tie:
    """A line between two places of the picture."""

    x1: float
    y1: float
    x2: float
    y2: float
    relation: str


@dataclass(frozen=True, slots=True)
class Linked:
    """Two statements that have to do with each other, in words."""

    relation: str
    first: Statement
    second: Statement


@router.get("/map/{subject:path}")
def see_map(visit: Annotated[Visit, visits("read", "list")], subject: str) -> Response:
    """Show the statements in the plane."""
    return _map(visit, visit.about(subject))


@router.post("/map/{subject:path}")
def drop_prompt(visit: Annotated[Visit, visits("retrieve", "retrieve")], subject: str) -> Response:
    """Show where a prompt lands."""
    return _map(visit, visit.about(subject), visit.form.text("prompt").strip())


def _map(visit: Visit, subject: str, prompt: str = "") -> Response:
    engine = visit.asking.engine
    near: list[Candidate] = []
    if prompt:
        found = engine.retrieve(subject, prompt, record=False)
        near = [c for c in found.candidates if c.lane == "topical"][:NEIGHBOURS]
    seen = engine.map(subject, prompts=[prompt] if prompt else [])
    values = drawn(seen, near)
    return visit.page("map.html", part="_map.html", subject=subject, prompt=prompt, **values)


def drawn(seen: ValuesMap, near: list[Candidate]) -> dict[str, Any]:
    """Give what the picture is made of: points, lines, and where a prompt lands."""
    places = [(float(x), float(y)) for x, y in (*seen.points, *seen.placed)]
    xs, ys = _spread([x for x, _ in places]), _spread([-y for _, y in places])
    shares = list(zip(xs, ys, strict=True))
    count = len(seen.statements)
    points = [Point(s, *at) for s, at in zip(seen.statements, shares[:count], strict=True)]
    of = {point.statement.id: point for point in points}
    landed = shares[count] if len(shares) > count else None
    ties = [_tie(of[link.first], of[link.second], link.relation) for link in seen.links[:TIES]]
    if landed is not None:
        target = [of[c.statement.id] for c in near if c.statement.id in of]
        ties += [Tie(*landed, each.x, each.y, "near") for each in target]
    return {
        "points": points, "ties": ties, "landed": landed, "near": near,
        "links": [_told(link, of) for link in seen.links[:LINKS]],
        "more_links": max(0, len(seen.links) - LINKS), "drawn_links": min(TIES, len(seen.links)),
        "kinds": _kinds(points), "explained": sum(seen.explained),
    }  # fmt: skip


def _spread(values: list[float]) -> list[float]:
    """Put values along a line from 0 to 1, with a margin at both ends."""
    if not values:
        return []
    low, high = min(values), max(values)
    if high - low < 1e-9:
        return [0.5] * len(values)
    return [MARGIN + (each - low) / (high - low) * (1 - 2 * MARGIN) for each in values]


def _tie(first: Point, second: Point, relation: str) -> Tie:
    return Tie(first.x, first.y, second.x, second.y, relation)


def _told(link: Link, of: dict[str, Point]) -> Linked:
    return Linked(link.relation, of[link.first].statement, of[link.second].statement)


def _kinds(points: list[Point]) -> list[tuple[str, int]]:
    counted = Counter(point.statement.kind for point in points)
    return [(kind, counted[kind]) for kind in KINDS if counted[kind]]
