"""The page's view of keys and what they have done, for admins."""

from collections import defaultdict
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import Response

from ..memory import times
from ..memory.errors import InvalidInputError
from ..memory.models import ROLES, Key
from .visiting import Visit, visits

OVERLAPS = ((0, "at once"), (3_600, "in an hour"), (86_400, "in a day"), (604_800, "in a week"))
"""Seconds for which a key that is replaced holds on."""
ROLE_WORDS = {
    "admin": "everything of this tenant",
    "app": "acts for any subject",
    "personal": "acts for one subject alone",
    "auditor": "reads evidence, checks the ledger",
}

router = APIRouter(include_in_schema=False)


@router.get("/keys")
def see_keys(visit: Annotated[Visit, visits("manage", "keys")]) -> Response:
    """Show the keys, and what they have done."""
    return _keys(visit)


@router.post("/keys")
def create_key(visit: Annotated[Visit, visits("manage", "keys")]) -> Response:
    """Make a key; its text is shown only now."""
    form = visit.form
    made = visit.asking.engine.access.create(
        form.text("name"), role=form.text("role"), subject=form.given("subject"),  # pyright: ignore[reportArgumentType]
        expires_at=form.given("expires_at"), quota=form.whole("quota"),
    )  # fmt: skip
    return _keys(visit, made=made, part="_keys.html")


@router.post("/keys/{key_id}/rotate")
def rotate_key(visit: Annotated[Visit, visits("manage", "keys")], key_id: str) -> Response:
    """Make a key like another one, which holds on for a while."""
    overlap = visit.form.whole("overlap") or 0
    visit.asking.service.meter.flush()
    made = visit.asking.engine.access.rotate(key_id, overlap=overlap)
    return _keys(visit, made=made, part="_keys.html")


@router.post("/keys/{key_id}/revoke")
def revoke_key(visit: Annotated[Visit, visits("manage", "keys")], key_id: str) -> Response:
    """End a key at once."""
    ended = visit.asking.engine.access.revoke(key_id)
    return _keys(visit, ended=ended, part="_keys.html")


@router.post("/usage")
def see_usage(visit: Annotated[Visit, visits("manage", "usage")]) -> Response:
    """Show what the keys did in another month."""
    return _keys(visit, part="_usage.html")


def _keys(
    visit: Visit, *, made: tuple[Key, str] | None = None, ended: Key | None = None,
    part: str | None = None,
) -> Response:  # fmt: skip
    access = visit.asking.engine.access
    visit.asking.service.meter.flush()
    now, this_month = times.now(), times.this_month()
    month = visit.form.given("month") or this_month
    used = access.usage()
    months = sorted({row["month"] for row in used} | {this_month}, reverse=True)
    if month not in months:
        raise InvalidInputError("nothing is known of that month; choose one of the list")
    keys = access.keys()
    done: dict[str, dict[str, int]] = defaultdict(dict)
    for row in used:
        if row["month"] == month:
            done[row["key"]][row["operation"]] = row["count"]
    totals = {key: sum(counts.values()) for key, counts in done.items()}
    values: dict[str, Any] = {
        "keys": sorted(keys, key=lambda key: not key.holds(now)), "made": made, "ended": ended,
        "holds": {key.id: key.holds(now) for key in keys}, "roles": ROLES,
        "role_words": ROLE_WORDS, "overlaps": OVERLAPS, "months": months, "month": month,
        "done": done, "totals": totals, "most": max(totals.values(), default=0),
    }  # fmt: skip
    return visit.page("keys.html", part=part, **values)
