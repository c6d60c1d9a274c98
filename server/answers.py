"""What each command answers: the values as JSON, and their lay-out for a person.

Pure but for the page that it writes on; it asks the engine nothing.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from ..memory.checkpoint import Checkpoint
from ..memory.models import STRENGTHS, Decision, Evidence, Statement, Verification
from ..memory.verifier import Report
from ..retrieval.results import Added, DoctorReport, Explanation, Pair, Replay, Retrieval
from .render import (
    Page,
    near_misses,
    percent,
    plain_value,
    shown_time,
    traits,
    why_not,
    write_candidate,
)

NEAR_MISSES = 3
SHOWN_APART = ("candidates", "injected", "context", "segments", "policy.calibration")
"""Of a retrieval's fields: what is long, or is shown in another form."""
TIMES = (
    "as_of", "recorded_at", "valid_from", "valid_to", "retired_at", "ends_at", "changed_at",
    "proposed_at", "decided_at", "since", "until",
)  # fmt: skip


def added_value(added: Added) -> dict[str, Any]:
    """Give ``Added`` with its reports, which a bare list would lose."""
    return {
        "statements": list(added),
        "existing": added.existing,
        "similar": added.similar,
        "possible_revisions": added.possible_revisions,
        "tensions": added.tensions,
    }


def retrieval_headers(status: str, injected: int, evidence_id: str | None) -> dict[str, str]:
    """Give the headers by which an answer tells of the values that went with its request."""
    said = {"x-holdfast-injected": str(injected), "x-holdfast-status": status}
    return said | ({"x-holdfast-evidence": evidence_id} if evidence_id else {})


def checkpoint_value(signed: Checkpoint, key: str) -> dict[str, Any]:
    """Give a signed checkpoint, and the key with which others check it."""
    return {"origin": signed.origin, "size": signed.size, "note": signed.note, "key": key}


def verification_value(found: Verification) -> dict[str, Any]:
    """Give whether the ledger holds, with the verdict in a word."""
    return {"verdict": found.verdict, **plain_value(found)}


def doctor_value(report: DoctorReport, sound: bool) -> dict[str, Any]:
    """Give the report and whether nothing is wrong any more."""
    return {**plain_value(report), "ok": sound}


def write_added(page: Page, added: Added) -> None:
    """Write what was stored, what was there before, and what lies close to it."""
    known = {statement.id for statement in added.existing}
    for statement in added:
        note = f"{traits(statement)} · {statement.id}"
        if statement.id in known:
            page.entry("=", statement.text, f"already there · {note}", style="dim")
        else:
            page.entry("+", statement.text, note, mark_style="good")
    _write_pairs(page, "May revise what was said before (nothing was changed):",
                 added.possible_revisions)  # fmt: skip
    revised = {(pair.statement.id, pair.other.id) for pair in added.possible_revisions}
    similar = [p for p in added.similar if (p.statement.id, p.other.id) not in revised]
    _write_pairs(page, "Close to what is there (nothing was merged):", similar)
    _write_pairs(page, "Hard to keep together with (both hold):", added.tensions)


def _write_pairs(page: Page, title: str, pairs: Sequence[Pair]) -> None:
    if pairs:
        page.line()
        page.line(title, "warn")
    for pair in pairs:
        note = f"{traits(pair.other)} · {pair.other.id}, beside {pair.statement.id}"
        page.entry("~", pair.other.text, note, mark_style="warn")


def write_decision(page: Page, decision: Decision) -> None:
    """Write a decision as situation, choice and reason."""
    page.entry("+", decision.situation, mark_style="good")
    page.entry("→", decision.choice)
    weighed = [f"weighed {', '.join(w.statement_id for w in decision.weighed)}"]
    note = " · ".join([*(weighed if decision.weighed else []), decision.id])
    page.entry("", f"because {decision.reason}", note)


def write_retrieval(page: Page, found: Retrieval, *, show_all: bool = False) -> None:
    """Write what is injected, the near-misses, and where the evidence is."""
    if found.injected:
        page.line(
            f"Injected · {len(found.injected)} of {len(found.candidates)} statements", "title"
        )
        for candidate in found.injected:
            write_candidate(page, candidate)
    elif found.candidates:
        page.line(f"Nothing of {len(found.candidates)} statements bears on this", "title")
    else:
        page.line("There are no statements; add one with: holdfast add TEXT", "title")
    left = [c for c in found.candidates if c.verdict != "injected"]
    near = left if show_all else near_misses(found.candidates, NEAR_MISSES)
    if near:
        page.line()
        page.line("The others" if show_all else "Near misses", "title")
        for candidate in near:
            write_candidate(page, candidate)
    page.line()
    if found.status == "degraded":
        page.line("degraded: a statement that must be kept did not fit the budget", "bad")
    if found.repaired:
        page.line(f"put back from the database: {found.repaired} vectors", "warn")
    page.line(f"status {found.status} · evidence {found.evidence_id or 'not recorded'}", "dim")


def write_statements(page: Page, statements: Sequence[Statement]) -> None:
    """Write one statement a line."""
    rows = [
        (s.id, s.strength, s.kind, _state(s), s.text)
        if any(map(_state, statements))
        else (s.id, s.strength, s.kind, s.text)
        for s in statements
    ]
    if rows:
        state = ("state",) if len(rows[0]) == 5 else ()
        page.table(("id", "strength", "kind", *state, "statement"), rows, style_by=1)


def _state(statement: Statement) -> str:
    if statement.retired_at:
        return f"retired {shown_time(statement.retired_at)[:10]}"
    if statement.valid_to:
        return f"until {shown_time(statement.valid_to)[:10]}"
    return "always" if statement.scope == "always" else ", ".join(statement.contexts)


def write_change(page: Page, statement: Statement, change: str) -> None:
    """Write the version that a change made or ended."""
    note = f"{change}: version {statement.version} · {traits(statement)} · {statement.id}"
    page.entry("-" if change == "retired" else "+", statement.text, note, mark_style="good")


def write_history(page: Page, versions: Sequence[Statement]) -> None:
    """Write every version with the time in which it was the one in the record."""
    for version in versions:
        until = shown_time(version.retired_at) or "now"
        note = [f"on record {shown_time(version.recorded_at)} to {until} (UTC)", traits(version)]
        if version.reason:
            note.append(f"reason: {version.reason}")
        if version.end_reason:
            note.append(f"reason it was retired: {version.end_reason}")
        page.entry(f"v{version.version}", version.text, " · ".join(note),
                   style="dim" if version.retired_at else "")  # fmt: skip


def write_evidence(page: Page, entries: Sequence[Evidence]) -> None:
    """Write one event a line."""
    rows = [
        (e.id, shown_time(e.recorded_at), e.type, _state_of(e), ", ".join(e.subjects))
        if any(map(_state_of, entries))
        else (e.id, shown_time(e.recorded_at), e.type, ", ".join(e.subjects))
        for e in entries
    ]
    if rows:
        state = ("state",) if len(rows[0]) == 5 else ()
        page.table(("evidence", "recorded (UTC)", "event", *state, "subject"), rows)


def _state_of(entry: Evidence) -> str:
    if entry.erased:
        return "erased"
    return "carried in" if entry.imported else ""


def write_event(page: Page, entry: Evidence) -> None:
    """Write an event's leaf and all its fields."""
    _write_head(page, entry)
    if entry.erased:
        page.line("what it recorded was erased with its subject; its leaf is still proved", "warn")
    for name, value in flat_fields(entry.payload, apart=()):
        page.line(f"{name}: {value}", indent=2)


def _write_head(page: Page, entry: Evidence) -> None:
    page.line(f"{entry.type} {entry.id}", "title")
    whom = f", for {', '.join(entry.subjects)}" if entry.subjects else ""
    page.line(f"{shown_time(entry.recorded_at)} UTC{whom}", indent=2)
    if entry.imported:
        page.line("recorded before it came into this ledger", "warn", indent=2)
    page.line(f"leaf {entry.index}, hash {entry.hash}", "dim", indent=2)


def write_explanation(page: Page, explanation: Explanation) -> None:
    """Write the evidence's head, every candidate with its score parts, and the context."""
    entry, found = explanation.evidence, explanation.retrieval
    _write_head(page, entry)
    for name, value in flat_fields(entry.payload):
        page.line(f"{name}: {value}", "dim", indent=2)
    if found.candidates:
        page.line()
        page.line(f"{len(found.candidates)} candidates, {len(found.injected)} injected", "title")
    for candidate in found.candidates:
        parts = " + ".join(
            f"{name} {value:.3f}" for name, value in candidate.parts.items() if name != "threshold"
        )
        statement = candidate.statement
        note = [
            candidate.verdict if candidate.verdict == "injected" else why_not(candidate),
            parts,
            traits(statement),
            f"{statement.id} v{statement.version}",
        ]
        page.entry(
            "always" if candidate.lane == "always" else percent(candidate.score),
            statement.text,
            " · ".join(part for part in note if part),
            mark_style="good" if candidate.verdict == "injected" else "dim",
        )
    if found.context:
        page.line()
        page.line("What the model was given", "title")
        page.block(found.context)
    for problem in explanation.problems:
        page.line(problem, "bad")


def flat_fields(
    payload: Mapping[str, Any], prefix: str = "", apart: Sequence[str] = SHOWN_APART
) -> list[tuple[str, str]]:
    """Give an event's fields as names and values to be read, without those shown apart."""
    flat: list[tuple[str, str]] = []
    for name, value in payload.items():
        if prefix + name in apart:
            continue
        if isinstance(value, Mapping):
            flat += flat_fields(cast("Mapping[str, Any]", value), f"{prefix}{name}.", apart)
        elif name in TIMES and isinstance(value, str):
            flat.append((prefix + name, _time_text(value)))
        elif name == "thresholds" and _is_levels(value):
            levels = zip(STRENGTHS, value, strict=True)
            shown = ", ".join(f"{strength} {level / 10_000:.0f}%" for strength, level in levels)
            flat.append((prefix + name, shown))
        elif isinstance(value, Sequence) and not isinstance(value, str):
            items = cast("Sequence[Any]", value)
            flat.append((prefix + name, ", ".join(map(_item, items)) or "none"))
        else:
            flat.append((prefix + name, "none" if value is None else str(value)))
    return flat


def _time_text(text: str) -> str:
    try:
        return f"{shown_time(datetime.fromisoformat(text))} UTC"
    except ValueError:  # whoever signed it wrote what they liked
        return text


def _is_levels(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(cast("list[Any]", value)) == len(STRENGTHS)
        and all(type(level) is int for level in cast("list[Any]", value))
    )


def _item(value: Any) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    return " ".join(f"{name} {inner}" for name, inner in cast("Mapping[str, Any]", value).items())


def write_replay(page: Page, replay: Replay, *, what_if: bool = False) -> None:
    """Write whether a retrieval came out the same, or what would have been otherwise."""
    if what_if:
        _write_what_if(page, replay)
        return
    if replay.same:
        page.line(f"SAME  {replay}", "good")
    else:
        page.line(f"DIFFERS  {replay.evidence_id}", "bad")
        for difference in replay.differences:
            page.line(difference, indent=2)
    if replay.embedding_cosine is not None:
        page.line(f"the request embeds with cosine {replay.embedding_cosine:.6f} to what it was")


def _write_what_if(page: Page, replay: Replay) -> None:
    page.line(
        "Nothing would have been otherwise" if replay.same else "It would have been otherwise",
        "title",
    )
    for candidate in (*replay.added, *replay.removed):
        statement, is_added = candidate.statement, candidate in replay.added
        note = f"{percent(candidate.score)} · {traits(statement)} · {statement.id}"
        mark = "+" if is_added else "-"
        page.entry(mark, statement.text, note, mark_style="good" if is_added else "bad")
    if replay.retrieval is not None and replay.retrieval.context:
        page.line()
        page.line("What the model would have been given", "title")
        page.block(replay.retrieval.context)
    elif replay.retrieval is not None:
        page.line("The model would have been given nothing.")


def write_verification(page: Page, verification: Verification) -> None:
    """Write whether the ledger holds."""
    page.line(str(verification), "good" if verification.ok else "bad")
    if verification.ok and verification.outside < verification.covered:
        page.line(
            f"{verification.covered - verification.outside} of these lie under a checkpoint that "
            "is only in the database; compare with one that you kept: "
            "holdfast audit verify --checkpoint FILE",
            "warn",
        )
    if verification.ok and verification.covered < verification.checked:
        left = verification.checked - verification.covered
        page.line(
            f"{left} leaves are not under a checkpoint yet; sign one with: "
            "holdfast audit checkpoint",
            "dim",
        )


def write_checkpoint(page: Page, value: Mapping[str, Any]) -> None:
    """Write a checkpoint as it is, and the key with which others check it."""
    page.block(value["note"], indent=0)
    page.line()
    page.line(f"key: {value['key']}", "dim")
    if "timestamp" in value:
        page.line(f"time-stamped: {value['timestamp']}", "dim")


def write_bundle(page: Page, value: Mapping[str, Any]) -> None:
    """Write where a bundle is, what it shows, and how to check it."""
    shown = f"{value['disclosed']} fields shown, {value['withheld']} withheld"
    page.line(f"{value['file']}: {shown}", "good")
    page.line(f"check it with: holdfast verify {value['file']} --key {value['key']}", "dim")


def write_published(page: Page, value: Mapping[str, Any]) -> None:
    """Write where a log was published, and how to check it."""
    page.line(f"{value['folder']}: {value['size']} leaves", "good")
    page.line(f"check it with: holdfast verify {value['folder']} --key {value['key']}", "dim")


def report_value(report: Report, *, show: bool) -> dict[str, Any]:
    """Give what a bundle or a log turned out to be, for JSON."""
    checkpoint = report.checkpoint
    signed = {"origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.hex()}
    entries = [
        {**plain_value(entry), "candidates": entry.candidates if show else []}
        for entry in report.entries
    ]
    return {"verdict": report.verdict, "checkpoint": signed, "entries": entries}


def write_report(page: Page, report: Report, *, show: bool) -> None:
    """Write what a bundle turned out to be."""
    page.line(str(report), "good")
    for entry in report.entries:
        page.line(str(entry), indent=2)
        if not show:
            continue
        for name, value in flat_fields(entry.fields, apart=("candidates", "policy.calibration")):
            page.line(f"{name}: {value}", "dim", indent=4)
        for candidate in entry.candidates:
            page.line(" ".join(f"{k} {v}" for k, v in candidate.items()), indent=4)


def write_doctor(page: Page, report: DoctorReport, sound: bool) -> None:
    """Write what was found and what was mended."""
    page.line(f"{report.checked} vectors checked")
    for name, count in report.findings.items():
        if count:
            mended = report.mended.get(name, 0)
            page.line(f"{name.replace('_', ' ')}: {count} found, {mended} mended", "warn", indent=2)
    for problem in report.problems:
        page.line(problem, "bad", indent=2)
    page.line("clean" if sound else "not clean", "good" if sound else "bad")
