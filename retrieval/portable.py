"""A subject's record as one JSON document, and back: every version, decision and proposal.

The document holds what the record holds, ids, revisions and times included, and nothing
that differs between two installations (no keys, no vectors): what is loaded elsewhere
exports to the same document, byte for byte. Vectors are made anew where it is loaded.
Evidence stays where it was recorded.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from ..memory import decisions, ledger, proposals, store, times, vectors
from ..memory.canonical import canonical
from ..memory.errors import InvalidInputError, NotFoundError
from ..memory.models import Kind, Proposal, ProposalStatus, Scope, Strength
from ..memory.record import Snapshot, Transaction
from ..memory.sealing import Sealer
from ..memory.vectors import Progress
from ..memory.versions import Change, Draft, Ends, Kept, described, end_reason, ends_of
from . import splitting
from .library import Library, draft
from .results import Loaded
from .writing import name

FORMAT = "holdfast-subject-1"
MOST_WORDS = 4 * splitting.MAX_STATEMENT_CHARACTERS
"""Characters of a text: a decision's is made of three."""


def _clean(text: str) -> str:
    """Take words as ``add`` does; the message of a refusal does not hold them."""
    return splitting.clean(text, limit=MOST_WORDS, what="a text")


def _time(text: object) -> datetime:
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise ValueError("a time is a text with its timezone, like 2026-01-31T12:00:00+00:00")
    return times.to_datetime(times.to_micros(time, "a time"))


def _clean_name(text: str) -> str:
    return name(text, "context or source")


Words = Annotated[str, AfterValidator(_clean)]
Name = Annotated[str, AfterValidator(_clean_name)]
Id = Annotated[str, Field(pattern=r"^[a-z]{2}_[0-9a-z]{1,40}$")]
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
Number = Annotated[int, Field(ge=1, le=1_000_000_000)]
When = Annotated[
    AwareDatetime, BeforeValidator(_time), PlainSerializer(lambda time: time.isoformat())
]
MOST_AHEAD = timedelta(days=1)
"""By how much the clock of another installation may be ahead of this one's."""


class _Part(BaseModel):
    """A part of the document: nothing in it may be unknown or of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class EndsPart(_Part):
    """How a version ended."""

    retired_at: When
    revision: Number
    ends_at: When | None
    reason: Words | None


class VersionPart(_Part):
    """One version of a statement."""

    id: Id
    version: Number
    text: Words
    kind: Kind
    strength: Strength
    scope: Scope
    contexts: list[Name]
    source: Name
    reason: Words | None
    valid_from: When
    valid_to: When | None
    recorded_at: When
    revision: Number
    place: Count
    ends: EndsPart | None


class WeighedPart(_Part):
    """A version that a decision weighed."""

    id: Id
    version: Number


class DecisionPart(_Part):
    """What lies beside a version that is a decision."""

    id: Id
    version: Number
    situation: Words
    choice: Words
    reason: Words
    weighed: list[WeighedPart]


class ProposalPart(_Part):
    """A proposal, and what became of it."""

    id: Id
    text: Words
    kind: Kind
    strength: Strength
    scope: Scope
    contexts: list[Name]
    source: Name
    status: ProposalStatus
    proposed_at: When
    decided_at: When | None
    statement_id: Id | None


class Document(_Part):
    """A subject's record."""

    format: Literal["holdfast-subject-1"]
    subject: str
    revision: Count
    changed_at: When
    statements: list[VersionPart]
    decisions: list[DecisionPart]
    proposals: list[ProposalPart]

    def sha256(self) -> str:
        """Give hex SHA-256 of the document's canonical JSON."""
        return digest(self.model_dump(mode="json"))

    @model_validator(mode="after")
    def _check(self) -> Self:
        """See that a record could hold this."""
        histories: dict[str, list[VersionPart]] = {}
        for version in self.statements:
            histories.setdefault(version.id, []).append(version)
        for history in histories.values():
            _check_history(history)
        self._check_decisions()
        self._check_proposals()
        self._check_order()
        return self

    def _check_decisions(self) -> None:
        known = {(version.id, version.version) for version in self.statements}
        decided = [(part.id, part.version) for part in self.decisions]
        if len(decided) != len(set(decided)) or not known.issuperset(decided):
            raise ValueError("a decision stands twice, or beside no version of a statement")
        for part in self.decisions:
            if not known.issuperset((each.id, each.version) for each in part.weighed):
                raise ValueError(
                    f"the decision {part.id} weighed a version that is not in the document"
                )

    def _check_proposals(self) -> None:
        if len({part.id for part in self.proposals}) != len(self.proposals):
            raise ValueError("a proposal stands twice")
        for part in self.proposals:
            is_open, is_confirmed = part.status == "open", part.status == "confirmed"
            if is_open is not (part.decided_at is None) or is_confirmed is (
                part.statement_id is None
            ):
                raise ValueError(
                    f"the proposal {part.id} is {part.status}, and its decided_at or statement_id "
                    "says otherwise"
                )

    def _check_order(self) -> None:
        """See that nothing stands after the subject's last change, nor that in the future."""
        ends = [version.ends for version in self.statements if version.ends]
        numbers = [part.revision for part in (*self.statements, *ends)]
        moments = [version.recorded_at for version in self.statements]
        moments += [each.retired_at for each in ends]
        moments += [each.decided_at or each.proposed_at for each in self.proposals]
        if max(numbers, default=0) > self.revision:
            raise ValueError("revision is below one that stands in the document")
        if moments and max(moments) > self.changed_at:
            raise ValueError("changed_at is before a time at which something was recorded")
        if self.changed_at > times.to_datetime(times.now()) + MOST_AHEAD:
            raise ValueError("changed_at lies in the future")


def _check_history(history: Sequence[VersionPart]) -> None:
    """See that the versions of a statement follow each other."""
    id_ = history[0].id
    if [version.version for version in history] != list(range(1, len(history) + 1)):
        raise ValueError(f"the versions of {id_} are not numbered from 1 in their order")
    for version in history:
        if version.valid_to is not None and version.valid_to <= version.valid_from:
            raise ValueError(
                f"version {version.version} of {id_}: valid_to must be later than valid_from"
            )
    for before, after in pairwise(history):
        ends = before.ends
        if ends is None or (ends.retired_at, ends.revision, ends.ends_at, ends.reason) != (
            after.recorded_at, after.revision, None, None
        ):  # fmt: skip
            raise ValueError(
                f"version {before.version} of {id_} does not end where the next begins"
            )
    if history[-1].ends and history[-1].ends.ends_at is None:
        raise ValueError(f"{id_} is retired, and ends_at does not say from when on")


def export(snapshot: Snapshot, subject: str) -> dict[str, Any]:
    """Give a subject's record as a document (``Document``), ready for JSON.

    Raises:
        NotFoundError: nothing is on record of it.
    """
    found = store.subject(snapshot, subject)
    if found is None:
        raise NotFoundError("there is no such subject here; holdfast list shows its statements")
    sealer = snapshot.sealer(found.data_key)
    rows = list(store.rows_of_subject(snapshot, found))
    named = {row["key"]: {"id": row["id"], "version": row["version"]} for row in rows}
    links = decisions.weighed_by_subject(snapshot, found)
    said = proposals.of_subject(snapshot, subject, None)
    return {
        "format": FORMAT,
        "subject": subject,
        "revision": found.revision,
        "changed_at": times.written(found.changed_at),
        "statements": [_version(row, described(row, sealer), sealer) for row in rows],
        "decisions": [
            {**named[key], **parts, "weighed": [named[other] for other, _ in links.get(key, ())]}
            for key, parts in decisions.parts_of_subject(snapshot, found).items()
        ],
        "proposals": [_proposal(each) for each in said],
    }


def record_export(tx: Transaction, subject: str) -> dict[str, Any]:
    """Export a subject, and note it in the ledger."""
    document = export(tx, subject)
    found = store.ensure_subject(tx, subject)
    fields = {"sha256": digest(document), "statements": len(document["statements"])}
    ledger.append(tx, "export", fields, subjects=[found.key])
    return document


def digest(document: Mapping[str, Any]) -> str:
    """Give hex SHA-256 of a document's canonical JSON."""
    return hashlib.sha256(canonical(document)).hexdigest()


def load(library: Library, subject: str, data: object, progress: Progress | None = None) -> Loaded:
    """Write a document's statements, decisions and proposals as they were, in one transaction.

    What is there already, and the same, is left as it is.

    Args:
        library: where to.
        subject: whose they are here.
        data: what ``export`` gave.
        progress: called with (versions embedded, versions in all).

    Raises:
        InvalidInputError: it is no such document, or something of it is here and differs;
            nothing was stored.
    """
    document = read(data)
    with library.record.snapshot() as snapshot:
        new = _new(snapshot, subject, document)
    drafts = {(each.id, each.version): _draft(each) for each in new.statements}
    embedded = library.embed(subject, list(drafts.values()), progress)
    loaded = Loaded(
        subject=subject,
        versions=len(new.statements),
        proposals=len(new.proposals),
        existing=len(document.statements) - len(new.statements)
        + len(document.proposals) - len(new.proposals),
    )  # fmt: skip

    def write(tx: Transaction) -> Loaded:
        if _new(tx, subject, document) != new:
            raise InvalidInputError("the record changed while this was loaded; load it again")
        if not new.statements and not new.proposals:
            return loaded
        found = store.ensure_subject(tx, subject)
        keys = {(row["id"], row["version"]): row["key"] for row in store.rows_of_subject(tx, found)}
        keys |= {which: draft.key for which, draft in drafts.items()}
        parts = {(part.id, part.version): _parts(part, keys) for part in new.decisions}
        kept = [
            _kept(each, drafts[each.id, each.version], found.revision, embedded.note(row),
                  parts.get((each.id, each.version)))
            for row, each in enumerate(new.statements)
        ]  # fmt: skip
        library.register(tx)
        sha256 = document.sha256()
        origin = {"imported": {"format": FORMAT}, "sha256": sha256}
        store.restore(tx, found, kept, origin)
        sealer = tx.sealer(found.data_key)
        vectors.save(tx, embedded, [each.draft.key for each in kept], [sealer] * len(kept))
        for which, (own, weighed) in parts.items():
            decisions.put_parts(tx, found, keys[which], own, weighed)
        proposals.restore(tx, found, list(map(_to_proposal, new.proposals)), origin)
        revision = found.revision + document.revision
        at = max(found.changed_at, times.to_micros(document.changed_at))
        store.place_change(tx, Change(found, revision, at))
        fields = {"sha256": sha256, "revision": revision, "versions": len(kept)}
        fields["changed_at"] = times.written(at)
        ledger.append(tx, "import", fields, subjects=[found.key])
        return loaded

    return library.record.transact(write)


def read(data: object) -> Document:
    """Read a document, and see that a record could have written it.

    Raises:
        InvalidInputError: it is none; the message names the place, never what stands there.
    """
    try:
        return Document.model_validate(data)
    except ValidationError as error:
        found = [_problem(each["type"], each["loc"], each["msg"]) for each in error.errors()[:3]]
        raise InvalidInputError(
            f"this is no document of a subject ({'; '.join(found)}); give what export wrote, "
            "unchanged. Nothing was stored"
        ) from None


def _problem(kind: str, place: Sequence[int | str], message: str) -> str:
    if kind == "extra_forbidden":  # the last name is the caller's own
        place, message = place[:-1], "there is an unknown field"
    return f"{'.'.join(map(str, place)) or 'the document'}: {message}"


def _new(snapshot: Snapshot, subject: str, document: Document) -> Document:
    """Give the part of a document that is not here yet.

    Raises:
        InvalidInputError: something of it is here, and differs.
    """
    statements = store.known_ids(snapshot, dict.fromkeys(each.id for each in document.statements))
    proposed = proposals.known_ids(snapshot, [each.id for each in document.proposals])
    if not statements and not proposed:
        return document
    is_here = store.subject(snapshot, subject) is not None
    here = _by_id(read(export(snapshot, subject))) if is_here else {}
    given = _by_id(document)
    for id_ in (*sorted(statements), *sorted(proposed)):
        if given[id_] != here.get(id_):
            raise InvalidInputError(
                f"{id_} is here already, and it is another's or differs; nothing was stored. "
                "Load the document into another tenant, or erase the subject here first"
            )
    return document.model_copy(
        update={
            "statements": [each for each in document.statements if each.id not in statements],
            "decisions": [each for each in document.decisions if each.id not in statements],
            "proposals": [each for each in document.proposals if each.id not in proposed],
        }
    )


def _by_id(document: Document) -> dict[str, list[Any]]:
    """Gather what a document says of each id, but for where it stands among revisions."""
    found: dict[str, list[Any]] = {}
    parts: Sequence[_Part] = (*document.statements, *document.decisions, *document.proposals)
    for part in parts:
        value = part.model_dump(exclude={"revision": True, "ends": {"revision"}})
        found.setdefault(value["id"], []).append(value)
    return found


def _version(row: Mapping[Any, Any], said: Mapping[str, Any], sealer: Sealer) -> dict[str, Any]:
    held = said["statement"]
    ends = ends_of(row)
    return {
        "id": held["id"],
        "version": held["version"],
        "text": said["text"],
        "kind": held["kind"],
        "strength": held["strength"],
        "scope": held["scope"],
        "contexts": said["contexts"],
        "source": said["source"],
        "reason": said["reason"],
        "valid_from": held["valid_from"],
        "valid_to": held["valid_to"],
        "recorded_at": held["recorded_at"],
        "revision": held["revision"],
        "place": held["place"],
        "ends": ends
        and {
            "retired_at": ends["retired_at"],
            "revision": ends["revision"],
            "ends_at": ends["ends_at"],
            "reason": end_reason(row, sealer),
        },
    }


def _proposal(proposal: Proposal) -> dict[str, Any]:
    return {
        "id": proposal.id,
        "text": proposal.text,
        "kind": proposal.kind,
        "strength": proposal.strength,
        "scope": proposal.scope,
        "contexts": list(proposal.contexts),
        "source": proposal.source,
        "status": proposal.status,
        "proposed_at": proposal.proposed_at.isoformat(),
        "decided_at": proposal.decided_at and proposal.decided_at.isoformat(),
        "statement_id": proposal.statement_id,
    }


def _to_proposal(part: ProposalPart) -> Proposal:
    held: dict[str, Any] = part.model_dump()
    return Proposal(subject="", contexts=tuple(held.pop("contexts")), **held)


def _parts(
    part: DecisionPart, keys: Mapping[tuple[str, int], str]
) -> tuple[dict[str, str], list[str]]:
    weighed = [keys[each.id, each.version] for each in part.weighed]
    return {"situation": part.situation, "choice": part.choice, "reason": part.reason}, weighed


def _draft(version: VersionPart) -> Draft:
    return draft(
        version.text,
        kind=version.kind,
        strength=version.strength,
        scope=version.scope,
        contexts=version.contexts,
        source=version.source,
        valid_from=times.to_micros(version.valid_from),
        valid_to=None if version.valid_to is None else times.to_micros(version.valid_to),
    )


def _kept(
    version: VersionPart,
    draft: Draft,
    offset: int,
    vector: Mapping[str, str],
    parts: tuple[dict[str, str], list[str]] | None,
) -> Kept:
    ends = version.ends
    return Kept(
        draft=draft,
        id=version.id,
        version=version.version,
        reason=version.reason,
        recorded_at=times.to_micros(version.recorded_at),
        revision=offset + version.revision,
        place=version.place,
        ends=ends
        and Ends(
            retired_at=times.to_micros(ends.retired_at),
            revision=offset + ends.revision,
            ends_at=None if ends.ends_at is None else times.to_micros(ends.ends_at),
            reason=ends.reason,
        ),
        vector=vector,
        decision=parts and {**parts[0], "weighed": parts[1]},
    )
