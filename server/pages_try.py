"""The page's view in which a prompt is tried: what would be injected, and why.

It is the engine's own retrieval with ``record=False``. Evidence is kept only of what is
recorded by its own button.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import Response

from ..memory.errors import InvalidInputError
from ..memory.models import STRENGTHS
from ..memory.times import Time
from ..retrieval.results import Candidate, Retrieval
from ..retrieval.settings import Settings
from .render import near_misses
from .visiting import Form, Visit, visits

PAGE = 20
"""Candidates shown at once."""
NEAR = 3
"""Near-misses told of: those that got furthest, and at least ``NEAR_SHARE`` of the way."""
NEAR_SHARE = 0.25
MOST_DOTS = 400
"""Candidates drawn along the lines: the best ones."""

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Trial:
    """What is asked, and how."""

    prompt: str = ""
    threshold: int | None = None
    """In hundredths; None: each strength's own."""
    limit: int | None = None
    as_of: str | None = None
    """As it was entered."""
    moment: Time | None = None
    """What that means; None: now."""
    contexts: tuple[str, ...] = ()
    offset: int = 0

    @classmethod
    def of(cls, form: Form) -> "Trial":
        """Read it from a form."""
        threshold = form.whole("threshold") if form.given("own") else None
        if threshold is not None and threshold > 100:
            raise InvalidInputError("the threshold is 0 to 100; correct it")
        return cls(
            prompt=form.text("prompt"),
            threshold=threshold,
            limit=form.whole("limit"),
            as_of=form.given("as_of"),
            moment=form.moment("as_of"),
            contexts=tuple(form.names("contexts")),
            offset=form.whole("offset") or 0,
        )


@dataclass(frozen=True, slots=True)
class Line:
    """The topical candidates of one strength, along a line from 0 to 1."""

    strength: str
    threshold: float
    dots: Sequence[Candidate]


@router.get("/try/{subject:path}")
def see_try(visit: Annotated[Visit, visits("retrieve", None)], subject: str) -> Response:
    """Show the view, with nothing asked yet."""
    return _show(visit, visit.about(subject), Trial(), None)


@router.post("/try/{subject:path}")
def try_prompt(visit: Annotated[Visit, visits("retrieve", "retrieve")], subject: str) -> Response:
    """Show what would be injected for a prompt; nothing is recorded."""
    whose, trial = visit.about(subject), Trial.of(visit.form)
    found = _retrieve(visit, whose, trial, record=False) if trial.prompt.strip() else None
    part = "_candidates.html" if trial.offset else "_found.html"
    return _show(visit, whose, trial, found, part=part)


@router.post("/record/{subject:path}")
def record_trial(visit: Annotated[Visit, visits("retrieve", "retrieve")], subject: str) -> Response:
    """Retrieve with evidence, because that was asked for."""
    whose, trial = visit.about(subject), Trial.of(visit.form)
    found = _retrieve(visit, whose, trial, record=True)
    return _show(visit, whose, trial, found, part="_found.html")


def _retrieve(visit: Visit, subject: str, trial: Trial, *, record: bool) -> Retrieval:
    found = visit.asking.engine.retrieve(
        subject, trial.prompt, limit=trial.limit, as_of=trial.moment, contexts=trial.contexts,
        threshold=None if trial.threshold is None else trial.threshold / 100, record=record,
    )  # fmt: skip
    visit.asking.service.metrics.retrieved("page", found.status)
    return found


def _show(
    visit: Visit, subject: str, trial: Trial, found: Retrieval | None, *, part: str | None = None
) -> Response:
    settings = visit.asking.engine.settings
    values: dict[str, Any] = {
        "subject": subject, "trial": trial, "retrieval": found, "default_limit": settings.limit,
    }  # fmt: skip
    if found is not None:
        values |= laid_out(found, settings, trial)
    return visit.page("try.html", part=part, **values)


def laid_out(found: Retrieval, settings: Settings, trial: Trial) -> dict[str, Any]:
    """Give what a retrieval is drawn from: its lines, its near-misses, a part of the list."""
    given = None if trial.threshold is None else trial.threshold / 100
    topical = [c for c in found.candidates[:MOST_DOTS] if c.lane == "topical"]
    rows = injected_first(found)[trial.offset : trial.offset + PAGE]
    end = trial.offset + len(rows)
    missed = near_misses([c for c in topical if c.score >= c.parts["threshold"] * NEAR_SHARE], NEAR)
    return {
        "lines": [
            Line(
                strength,
                default if given is None else given,
                [c for c in topical if c.statement.strength == strength],
            )
            for strength, default in thresholds(settings).items()
        ],
        "near": {c.statement.id for c in missed},
        "rows": rows,
        "next": end if end < len(found.candidates) else None,
        "beyond": max(0, len(found.candidates) - MOST_DOTS),
    }


def injected_first(found: Retrieval) -> list[Candidate]:
    """Give the candidates as they are read: what is injected for its topic, what always is; then
    the best of the others."""
    injected = sorted(found.injected, key=lambda each: each.lane == "always")
    return [*injected, *(c for c in found.candidates if c.verdict != "injected")]


def thresholds(settings: Settings) -> dict[str, float]:
    """Give the probability that a topical statement of each strength must reach, as set."""
    return {strength: getattr(settings, f"threshold_{strength}") for strength in STRENGTHS}
