"""The page's view for auditors: evidence as a time line, one record in full, and the ledger.

A whole ledger takes a while to check: that runs in a thread of its own, and the page asks how
far it is.
"""

import json
import threading
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import Response

from ..memory import times
from ..memory.errors import HoldfastError, InvalidInputError
from ..memory.models import EventType, Evidence, Verification
from ..retrieval.engine import Holdfast
from ..retrieval.results import Candidate, Retrieval
from .answers import flat_fields
from .assets import day
from .pages_try import injected_first
from .problems import RefusedError
from .visiting import HEADERS, Form, Visit, visits

PAGE = 50
"""Events listed at once."""
CANDIDATES = 10
"""Candidates of one record shown at once."""
FAMILIES: Mapping[str, Sequence[EventType]] = {
    "retrieval": ["retrieval"],
    "statements": ["statement.put", "statement.supersede", "statement.retire", "statement.embed"],
    "proposals": ["proposal.put", "proposal.confirm", "proposal.reject"],
    "calls": ["call.intent", "call.outcome", "check"],
    "keeping": [
        "erasure", "export", "import", "policy", "embedder", "gap", "key.create", "key.rotate",
        "key.revoke",
    ],
}  # fmt: skip
"""Types of events that are looked for together; each is in one."""

router = APIRouter(include_in_schema=False)


# The time line


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events are looked for."""

    family: str = "retrieval"
    subject: str = ""
    until: str | None = None
    """The last day, in ISO 8601; None: today."""
    before: int | None = None

    @classmethod
    def of(cls, form: Form) -> "Filter":
        """Read it from a form."""
        family = form.given("family") or "retrieval"
        if family not in (*FAMILIES, "all"):
            raise InvalidInputError(f"choose one of: {', '.join(FAMILIES)}, all")
        subject, until = form.text("subject").strip(), form.given("until")
        return cls(family, subject, until, form.whole("before"))

    @property
    def types(self) -> Sequence[str]:
        """The types of events."""
        return FAMILIES.get(self.family, ["*"])


@router.get("/audit")
def see_audit(visit: Annotated[Visit, visits("evidence", "evidence")]) -> Response:
    """Show the newest evidence, and how the ledger stands."""
    return _audit(visit, Filter())


@router.post("/audit")
def find_evidence(visit: Annotated[Visit, visits("evidence", "evidence")]) -> Response:
    """Show the events that are looked for."""
    wanted = Filter.of(visit.form)
    return _audit(visit, wanted, part="_events.html")


def _audit(visit: Visit, wanted: Filter, *, part: str | None = None) -> Response:
    caller = visit.caller
    about = visit.asking.about(wanted.subject) if wanted.subject else caller.subject
    before = wanted.before
    if before is None and wanted.until is not None:
        before = _end_of(visit.asking.engine, wanted.until)
    found = visit.asking.events(about, wanted.types, before=before, limit=PAGE + 1)
    shown = found[:PAGE]
    values: dict[str, Any] = {
        "wanted": wanted, "families": [*FAMILIES, "all"],
        "days": [(of, list(own)) for of, own in groupby(shown, lambda e: day(e.recorded_at))],
        "count": len(shown),
        "before": shown[-1].index if len(found) > PAGE else None, "summary": summary,
    }  # fmt: skip
    if (part is None or not visit.is_fragment) and caller.may("ledger"):
        values |= _ledger(visit)
    return visit.page("audit.html", part=part, **values)


def _end_of(engine: Holdfast, until: str) -> int:
    """Give the place in the ledger of the first event after a day, in ISO 8601."""

    def at(place: int) -> int:
        return times.to_micros(engine.audit.events(before=place + 1, limit=1)[0].recorded_at)

    end = times.to_micros(until, "until") + times.DAY
    newest = engine.audit.events(limit=1)
    return bisect_left(range(newest[0].index + 1), end, key=at) if newest else 0


def summary(event: Evidence) -> str:
    """Say in a few words what an event tells, without anybody's words."""
    fields = event.payload
    match event.type:
        case _ if event.erased:
            return "erased with its subject; its leaf stays"
        case "retrieval":
            injected = len(fields.get("injected", ()))
            of = sum(each.get("count", 0) for each in fields.get("corpora", ()))
            degraded = " · degraded" if fields.get("status") == "degraded" else ""
            return f"{injected} of {of:,} statements injected{degraded}"
        case "call.intent" | "call.outcome":
            said = (fields.get("model"), fields.get("finish_reason"), fields.get("error"))
            return " · ".join(str(each) for each in said if each)
        case "key.create" | "key.rotate" | "key.revoke":
            return " · ".join(str(fields[n]) for n in ("role", "key") if fields.get(n))
        case _:
            named = (fields.get(name) for name in ("statement", "proposal", "judgement"))
            return next((each for each in named if isinstance(each, str)), "")


# One record


@router.get("/evidence/{evidence_id}")
def see_evidence(
    visit: Annotated[Visit, visits("evidence", "evidence")], evidence_id: str
) -> Response:
    """Show one record in full."""
    return _evidence(visit, evidence_id)


def _evidence(visit: Visit, evidence_id: str, *, part: str | None = None, **more: Any) -> Response:
    event = visit.asking.evidence(evidence_id)
    offset = visit.form.whole("offset") or 0
    values: dict[str, Any] = {
        "event": event, "explanation": None, "replay": None, "what_if": None, "rows": [],
        "next": None, "without": [], "as_of": None, "alike": None, "fields": [], "offset": offset,
    }  # fmt: skip
    values |= more
    if part is None or part == "_record_rows.html" or not visit.is_fragment:
        values["fields"] = flat_fields(event.payload)
        if event.type == "retrieval" and not event.erased:
            explanation = visit.asking.engine.explain(evidence_id)
            candidates = injected_first(explanation.retrieval)
            end = offset + CANDIDATES
            values |= {
                "explanation": explanation, "rows": candidates[offset:end],
                "next": end if end < len(candidates) else None,
            }  # fmt: skip
    return visit.page("evidence.html", part=part, **values)


@router.post("/evidence/{evidence_id}")
def more_candidates(
    visit: Annotated[Visit, visits("evidence", "evidence")], evidence_id: str
) -> Response:
    """Show further candidates of a record."""
    return _evidence(visit, evidence_id, part="_record_rows.html")


@router.post("/evidence/{evidence_id}/replay")
def replay(visit: Annotated[Visit, visits("evidence", "replay")], evidence_id: str) -> Response:
    """Compute a retrieval again, and lay it beside what was recorded."""
    visit.asking.evidence(evidence_id)
    request = visit.form.given("request")
    found = visit.asking.engine.replay(evidence_id, request=request)
    recorded = visit.asking.engine.explain(evidence_id).retrieval
    return _evidence(
        visit, evidence_id, part="_replay.html", replay=found,
        alike=side_by_side(recorded, found.retrieval), recorded=recorded,
    )  # fmt: skip


@router.post("/evidence/{evidence_id}/otherwise")
def otherwise(visit: Annotated[Visit, visits("evidence", "replay")], evidence_id: str) -> Response:
    """Tell what would have been injected without some statements, or at another date."""
    visit.asking.evidence(evidence_id)
    without, as_of = visit.form.many("without"), visit.form.given("as_of")
    if not without and as_of is None:
        raise InvalidInputError("tick a statement to leave out, or give a date")
    moment = visit.form.moment("as_of")
    found = visit.asking.engine.replay(evidence_id, without=without, as_of=moment)
    return _evidence(
        visit, evidence_id, part="_otherwise.html", what_if=found, without=without, as_of=as_of
    )


@router.post("/evidence/{evidence_id}/bundle")
def bundle(visit: Annotated[Visit, visits("evidence", "bundle")], evidence_id: str) -> Response:
    """Give the bundle of one event as a file."""
    event = visit.asking.evidence(evidence_id)
    shown = sorted({"subjects", *event.payload}) if visit.form.given("all") else None
    made = visit.asking.engine.audit.bundle(evidence_id, disclose=shown)
    return Response(
        json.dumps(made, ensure_ascii=False, indent=2),
        media_type="application/json",
        headers=HEADERS | {"content-disposition": f'attachment; filename="{event.id}.json"'},
    )


@dataclass(frozen=True, slots=True)
class Beside:
    """One candidate as it was recorded, and as it comes out now."""

    then: Candidate | None
    now: Candidate | None

    @property
    def same(self) -> bool:
        """Whether score, parts and verdict are the same."""
        return self.then == self.now

    @property
    def text(self) -> str:
        """The statement's words."""
        return next(each.statement.text for each in (self.then, self.now) if each is not None)


def side_by_side(then: Retrieval, now: Retrieval | None) -> list[Beside]:
    """Lay candidates beside each other: those that differ first, then those injected."""
    olds = {each.statement.id: each for each in then.candidates}
    news = {each.statement.id: each for each in (() if now is None else now.candidates)}
    pairs = [Beside(olds.get(id_), news.get(id_)) for id_ in dict.fromkeys((*olds, *news))]
    different = [pair for pair in pairs if not pair.same]
    injected = [pair for pair in pairs if pair.same and pair.now and pair.now.verdict == "injected"]
    return [*different[:CANDIDATES], *injected]


# The ledger


class _StoppedError(HoldfastError):
    """The application ends; the check is not needed any more."""


@dataclass
class Check:
    """One check of a whole ledger, while it runs and afterwards."""

    begun: datetime
    done: int = 0
    total: int = 0
    verification: Verification | None = None
    problem: str | None = None

    @property
    def is_running(self) -> bool:
        """Whether it goes on."""
        return self.verification is None and self.problem is None


class Checks:
    """The last check of each tenant's ledger; safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._checks: dict[str, Check] = {}
        self._threads: list[threading.Thread] = []
        self._stopped = False

    def last(self, tenant: str) -> Check | None:
        """Give a tenant's last check; None: there was none since the server started."""
        return self._checks.get(tenant)

    def begin(self, engine: Holdfast) -> Check:
        """Begin a check, unless one is running, which is given then."""
        with self._lock:
            running = self._checks.get(engine.tenant)
            if running is not None and running.is_running:
                return running
            check = self._checks[engine.tenant] = Check(datetime.now(UTC))
            thread = threading.Thread(
                target=self._run, args=(engine, check), name="holdfast-check", daemon=True
            )
            self._threads = [each for each in self._threads if each.is_alive()] + [thread]
            thread.start()
        return check

    def stop(self) -> None:
        """Let whatever runs end at its next step."""
        self._stopped = True

    def close(self) -> None:
        """Stop what runs, and wait for it."""
        self.stop()
        for thread in self._threads:
            thread.join()

    def _run(self, engine: Holdfast, check: Check) -> None:
        def note(done: int, total: int) -> None:
            if self._stopped:
                raise _StoppedError
            check.done, check.total = done, total

        try:
            check.verification = engine.verify(progress=note)
        except HoldfastError as error:
            check.problem = str(error) or "it was stopped"
        except Exception as error:
            check.problem = f"it broke off ({type(error).__name__}); look at the log"
            raise


def _ledger(visit: Visit) -> dict[str, Any]:
    audit = visit.asking.engine.audit
    newest = audit.events(limit=1)
    return {
        "size": newest[0].index + 1 if newest else 0,
        "checkpoint": audit.last_checkpoint(),
        "verifier_key": audit.verifier_key,
        "check": _checks(visit).last(visit.asking.engine.tenant),
    }


def _checks(visit: Visit) -> Checks:
    return visit.request.app.state.checks


@router.post("/ledger/verify")
def verify(visit: Annotated[Visit, visits("ledger", "verify")]) -> Response:
    """Begin to check the whole ledger."""
    _checks(visit).begin(visit.asking.engine)
    return _show_check(visit)


@router.get("/ledger/verify")
def see_check(visit: Annotated[Visit, visits("ledger", None)]) -> Response:
    """Tell how far the check is, or what came of it."""
    return _show_check(visit)


def _show_check(visit: Visit) -> Response:
    if not visit.is_fragment:
        return visit.go("/audit")
    check = _checks(visit).last(visit.asking.engine.tenant)
    if check is None:
        raise RefusedError(404, "no check was begun since the server started; begin one")
    return visit.page("audit.html", part="_check.html", check=check)


@router.post("/ledger/checkpoint")
def sign(visit: Annotated[Visit, visits("ledger", "checkpoint")]) -> Response:
    """Sign the ledger as it stands."""
    visit.asking.engine.audit.checkpoint()
    if not visit.is_fragment:
        return visit.go("/audit")
    return visit.page("audit.html", part="_checkpoint.html", **_ledger(visit))
