"""The page's view of a subject's values: what is on record, added, mended, revised and retired.

What is written is first read aloud: how it was split, what each part was taken for, and what it
has to do with what is there. It is stored as it then stands in the form.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, get_args

from fastapi import APIRouter
from fastapi.responses import Response

from ..memory.errors import InvalidInputError
from ..memory.models import KINDS, SCOPES, STRENGTHS, Decision, ProposalStatus, Statement
from ..retrieval.reading import MAX_STATEMENT_CHARACTERS, clean
from ..retrieval.results import Said
from ..retrieval.writing import one_of
from .visiting import Form, Visit, path_of, visits

PAGE = 40
"""Statements listed at once."""
PROPOSALS = 20
"""Proposals shown at once."""
SHOWN = ("now", "all", "retired")

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Listing:
    """Which statements are looked for, and what part of them is shown."""

    words: str = ""
    kind: str = ""
    state: str = "now"
    offset: int = 0

    @classmethod
    def of(cls, form: Form) -> "Listing":
        """Read it from a form."""
        return cls(
            words=form.text("q").strip(),
            kind=one_of(form.given("kind"), KINDS, "kind") or "",
            state=one_of(form.given("state"), SHOWN, "state") or "now",
            offset=form.whole("offset") or 0,
        )

    @property
    def is_narrow(self) -> bool:
        """Whether anything is left out on purpose."""
        return bool(self.words or self.kind or self.state != "now")

    def fits(self, statement: Statement) -> bool:
        """Tell whether a statement is looked for: every word is in it, in any order."""
        if self.kind and statement.kind != self.kind:
            return False
        if self.state == "retired" and statement.retired_at is None:
            return False
        text = statement.text.casefold()
        return all(word in text for word in self.words.casefold().split())


@router.get("/values/{subject:path}")
def see_values(visit: Annotated[Visit, visits("read", "list")], subject: str) -> Response:
    """Show what a subject values."""
    return _values(visit, visit.about(subject))


@router.post("/values/{subject:path}")
def find_values(visit: Annotated[Visit, visits("read", "list")], subject: str) -> Response:
    """Show the statements that are looked for."""
    whose = visit.about(subject)
    listing = Listing.of(visit.form)
    part = "_rows.html" if listing.offset else "_list.html"
    return _values(visit, whose, part=part, listing=listing)


def _values(
    visit: Visit, subject: str, *, part: str | None = None, trigger: str | None = None,
    listing: Listing | None = None, **more: Any,
) -> Response:  # fmt: skip
    """Show the view; ``more`` is what has just been done in it."""
    engine, listing = visit.asking.engine, listing or Listing()
    values: dict[str, Any] = {
        "subject": subject, "text": "", "said": None, "kept": None, "decided": None, "drafted": {},
        "settled": None,
    }  # fmt: skip
    values |= more
    if part in (None, "_list.html", "_rows.html") or not visit.is_fragment:
        everything = engine.statements(subject, include_retired=listing.state != "now")
        found = [each for each in reversed(everything) if listing.fits(each)]
        values |= {
            "listing": listing, "total": len(everything), "found": len(found),
            "rows": found[listing.offset : listing.offset + PAGE],
            "next": listing.offset + PAGE if listing.offset + PAGE < len(found) else None,
        }  # fmt: skip
    if part in (None, "_proposals.html") or not visit.is_fragment:
        waiting = engine.proposals(subject)
        values |= {"proposals": waiting[:PROPOSALS], "waiting": len(waiting)}
    return visit.page("values.html", part=part, trigger=trigger, **values)


# Adding


@router.post("/say/{subject:path}")
def read_aloud(visit: Annotated[Visit, visits("write", "read")], subject: str) -> Response:
    """Show how a text is split and read, before anything of it is stored."""
    whose, text = visit.about(subject), visit.form.text("text")
    said = visit.asking.engine.read(whose, text)
    return _values(visit, whose, part="_reading.html", text=text, said=said)


@router.post("/keep/{subject:path}")
def keep(visit: Annotated[Visit, visits("write", None)], subject: str) -> Response:
    """Store the statements as they stand in the form, each as its own change."""
    whose = visit.about(subject)
    wanted = _mended(visit.form)
    contexts, begins = visit.form.names("contexts"), visit.form.given("valid_from")
    kept: list[tuple[Statement, bool]] = []
    for each in wanted:
        visit.count("add")
        added = visit.asking.engine.add(
            whose, each.text, kind=each.kind, strength=each.strength, scope=each.scope,
            contexts=contexts, valid_from=begins, split=False,
        )  # fmt: skip
        kept += [(statement, not added.existing) for statement in added]
    return _values(visit, whose, part="_kept.html", trigger="values-changed", kept=kept)


def _mended(form: Form) -> list[Said]:
    """Read what is to be kept; all of it is looked at before any of it is stored."""
    wanted: list[Said] = []
    for place in form.many("keep"):
        text = clean(form.text(f"text-{place}"), limit=MAX_STATEMENT_CHARACTERS, what="statement")
        wanted.append(
            Said(
                text=text,
                kind=one_of(form.given(f"kind-{place}"), KINDS, "kind"),
                strength=one_of(form.given(f"strength-{place}"), STRENGTHS, "strength"),
                scope=one_of(form.given(f"scope-{place}"), SCOPES, "scope"),
                existing=None,
                near=[],
            )
        )
    if not wanted:
        raise InvalidInputError("nothing is ticked to be kept; tick at least one statement")
    return wanted


@router.post("/decide/{subject:path}")
def decide(visit: Annotated[Visit, visits("write", "decide")], subject: str) -> Response:
    """Store a decision."""
    whose, form = visit.about(subject), visit.form
    for statement_id in form.many("weighed"):
        visit.asking.statement(statement_id, of=whose)
    decided = visit.asking.engine.decide(
        whose, situation=form.text("situation"), choice=form.text("choice"),
        reason=form.text("reason"), weighed=form.many("weighed"),
    )  # fmt: skip
    return _values(visit, whose, part="_decided.html", trigger="values-changed", decided=decided)


# One statement


@dataclass(frozen=True, slots=True)
class WeighedThen:
    """What a decision weighed, in the words of then."""

    statement: Statement
    """The version that was weighed."""
    since: str
    """What became of it: revised, retired, or nothing."""

    @classmethod
    def of(cls, history: Sequence[Statement], version: int) -> "WeighedThen":
        """Find a version among all of its statement, oldest first, and what came after it."""
        if history[-1].retired_at is not None:
            since = "retired"
        else:
            since = "revised" if history[-1].version > version else ""
        return cls(history[version - 1], since)


@router.get("/statement/{statement_id}")
def see_statement(visit: Annotated[Visit, visits("read", "list")], statement_id: str) -> Response:
    """Show a statement, with every version that it had."""
    return _statement(visit, visit.asking.statement(statement_id))


def _statement(visit: Visit, statement: Statement) -> Response:
    engine, subject = visit.asking.engine, visit.about(statement.subject)
    decision: Decision | None = None
    weighed: Sequence[WeighedThen] = []
    if statement.kind == "decision" and statement.retired_at is None:
        standing = engine.decisions(subject)
        decision = next((each for each in standing if each.id == statement.id), None)
        if decision is not None:
            weighed = [
                WeighedThen.of(engine.history(each.statement_id), each.version)
                for each in decision.weighed
            ]
    history = list(reversed(engine.history(statement.id)))
    return visit.page(
        "statement.html", subject=subject, statement=statement, history=history,
        decision=decision, weighed=weighed,
    )  # fmt: skip


@router.post("/statement/{statement_id}/revise")
def revise(visit: Annotated[Visit, visits("write", "revise")], statement_id: str) -> Response:
    """Write the next version of a statement."""
    before, form = visit.asking.statement(statement_id), visit.form
    changes: dict[str, Any] = {
        name: form.given(name)
        for name in ("kind", "strength", "scope")
        if form.given(name) not in (None, getattr(before, name))
    }
    if form.text("contexts").strip() != ", ".join(before.contexts):  # a name may have a comma
        changes["contexts"] = form.names("contexts")
    if begins := form.given("valid_from"):
        changes["valid_from"] = begins
    if ends := form.end("valid_to"):
        changes["valid_to"] = ends
    visit.asking.engine.revise(
        statement_id, form.text("text"), reason=form.given("reason"), **changes
    )
    return visit.go(path_of("statement", statement_id))


@router.post("/statement/{statement_id}/retire")
def retire(visit: Annotated[Visit, visits("write", "retire")], statement_id: str) -> Response:
    """Note that a statement no longer holds."""
    visit.asking.statement(statement_id)
    visit.asking.engine.retire(statement_id, reason=visit.form.given("reason"))
    return visit.go(path_of("statement", statement_id))


# Proposals


@router.post("/proposal/{proposal_id}/confirm")
def confirm(visit: Annotated[Visit, visits("write", "confirm")], proposal_id: str) -> Response:
    """Make a statement of a proposal."""
    return _settle(visit, proposal_id, "confirmed")


@router.post("/proposal/{proposal_id}/reject")
def reject(visit: Annotated[Visit, visits("write", "confirm")], proposal_id: str) -> Response:
    """Note that the subject does not want a proposal."""
    return _settle(visit, proposal_id, "rejected")


def _settle(visit: Visit, proposal_id: str, how: ProposalStatus) -> Response:
    assert how in get_args(ProposalStatus)
    engine, found = visit.asking.engine, visit.asking.proposal(proposal_id)
    if how == "confirmed":
        statement = engine.confirm(proposal_id)
        found = replace(found, status=how, statement_id=statement.id)
    else:
        found = engine.reject(proposal_id)
    return _values(
        visit, visit.about(found.subject), part="_proposals.html", trigger="values-changed",
        settled=found,
    )  # fmt: skip
