"""What the page is drawn with: its templates, and static files under names that hold their hash.

All of it lies in the package, so that no request leaves the machine. It knows no route and no
subject.
"""

import gzip
import hashlib
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..memory.models import KINDS, STRENGTHS
from ..retrieval.results import Candidate
from .render import percent

HERE = Path(__file__).parent
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

KIND_WORDS = {
    "value": "what matters",
    "preference": "a liking",
    "boundary": "a line not to cross",
    "commitment": "a promise",
    "goal": "an aim",
    "decision": "a precedent",
}
EVENT_WORDS = {
    "statement.put": "Statement said",
    "statement.supersede": "Statement revised",
    "statement.retire": "Statement retired",
    "statement.embed": "Statements embedded anew",
    "proposal.put": "Proposal put forward",
    "proposal.confirm": "Proposal confirmed",
    "proposal.reject": "Proposal rejected",
    "retrieval": "Retrieval",
    "call.intent": "Model about to be called",
    "call.outcome": "Model answered",
    "check": "Answer judged",
    "erasure": "Subject erased",
    "policy": "Policy set",
    "embedder": "Model of vectors noted",
    "export": "Record exported",
    "import": "Record imported",
    "gap": "Gap in the record",
    "key.create": "Key made",
    "key.rotate": "Key replaced",
    "key.revoke": "Key ended",
}
"""Events of the ledger as the page names them; others are shown by their own name."""
RELATION_WORDS = {
    "similar": "Says much the same as",
    "possible_revision": "May revise",
    "tension": "Pulls against",
    "duplicate": "says much the same as",
    "revision": "may revise",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A static file."""

    url: str
    media_type: str
    content: bytes
    packed: bytes
    """The same, compressed with gzip."""


@cache
def assets() -> dict[str, Asset]:
    """Give every static file, by its name."""
    return {
        path.name: _asset(path)
        for path in sorted((HERE / "static").iterdir())
        if path.suffix in TYPES
    }


def _asset(path: Path) -> Asset:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    packed = gzip.compress(content, 9, mtime=0)
    return Asset(f"/static/{digest}/{path.name}", TYPES[path.suffix], content, packed)


@cache
def _templates() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    filters: dict[str, Any] = {
        "day": day, "when": when, "until": until, "percent": percent, "why": why,
        "across": across, "event": _event, "relation": _relation, "number": _number,
    }  # fmt: skip
    names: dict[str, Any] = {
        "asset": _url, "KINDS": KINDS, "STRENGTHS": STRENGTHS,
        "KIND_WORDS": KIND_WORDS,
    }  # fmt: skip
    made.filters.update(filters)
    made.globals.update(names)
    return made


def _event(kind: str) -> str:
    return EVENT_WORDS.get(kind, kind)


def _relation(said: str) -> str:
    return RELATION_WORDS[said]


def _number(count: int) -> str:
    return f"{count:,}"


def _url(name: str) -> str:
    return assets()[name].url


def render(template: str, values: dict[str, Any]) -> str:
    """Fill a template; every value is escaped."""
    return _templates().get_template(template).render(values)


def day(moment: datetime) -> str:
    """Write the day of a time in UTC."""
    return f"{moment.day} {moment:%B %Y}"


def when(moment: datetime | None) -> Markup:
    """Write a time in UTC as an element that programs read too; "" for None."""
    if moment is None:
        return Markup("")
    shown = f"{moment.day} {moment:%b %Y, %H:%M}"
    iso = moment.isoformat(timespec="seconds")
    return Markup('<time datetime="{}" title="{}">{} UTC</time>').format(iso, iso, shown)


def until(moment: datetime) -> Markup:
    """Write the end of a time, in UTC; what ends at midnight still holds on the day before."""
    if moment.time() != time.min:
        return when(moment)
    last = moment - timedelta(microseconds=1)
    iso = moment.isoformat(timespec="seconds")
    shown = f"the end of {last.day} {last:%b %Y}"
    return Markup('<time datetime="{}" title="{}">{} UTC</time>').format(iso, iso, shown)


def across(share: float) -> str:
    """Write a share, 0 to 1, as a place along a line in SVG."""
    return f"{max(0.0, min(1.0, share)) * 100:.2f}%"


def why(candidate: Candidate) -> str:
    """Say in a sentence what became of a candidate, and why."""
    score, needed = percent(candidate.score), percent(candidate.parts["threshold"])
    strength = candidate.statement.strength
    match candidate.verdict:
        case "injected" if candidate.lane == "always":
            return "Injected: it comes with every request."
        case "injected":
            return f"Injected: {score} likely to bear on this, and {needed} was needed."
        case "below_threshold":
            return f"Left out: {score} likely to bear on this; a {strength} needs {needed}."
        case "over_budget" if candidate.lane == "always":
            return "Left out: no room in the budget of what comes with every request."
        case "over_budget":
            return f"Left out: it bears on this ({score}), but there was no room left."
        case "out_of_context":
            named = ", ".join(candidate.statement.contexts)
            return f"Left out: it only counts in {named}."
