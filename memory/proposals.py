"""Every query on proposals: what others put forward, until the subject decides.

A proposal is no statement: nothing here is ever retrieved. Each change appends to the
ledger. Functions never commit.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import RowMapping, insert, select, update

from . import ledger, times
from .canonical import canonical
from .errors import InvalidInputError, NotFoundError
from .identifiers import is_id, new_id, quoted
from .models import EventType, Proposal, ProposalStatus
from .record import Snapshot, Transaction
from .schema import proposals, subjects
from .sealing import Sealer
from .versions import Change, Draft, Subject

EVENTS: Mapping[ProposalStatus, EventType] = {
    "open": "proposal.put", "confirmed": "proposal.confirm", "rejected": "proposal.reject",
}  # fmt: skip
"""What the ledger calls a proposal's coming into each state."""


def write(tx: Transaction, change: Change, draft: Draft) -> Proposal:
    """Keep a proposal, open."""
    proposal_id = new_id("pr")
    sealer = tx.sealer(change.subject.data_key)
    said = {"text": draft.text, "contexts": draft.contexts, "source": draft.source}
    row = {
        "id": proposal_id,
        "tenant": tx.tenant,
        "subject_key": change.subject.key,
        "body": seal_body(sealer, proposal_id, said),
        "kind": draft.kind,
        "strength": draft.strength,
        "scope": draft.scope,
        "status": "open",
        "proposed_at": change.at,
    }
    tx.execute(insert(proposals), [row])
    fields = {**described(row, sealer), "revision": change.revision}
    ledger.append(tx, EVENTS["open"], fields, subjects=[change.subject.key])
    return read(tx, proposal_id)


def restore(
    tx: Transaction, subject: Subject, kept: Sequence[Proposal], origin: Mapping[str, Any]
) -> None:
    """Write proposals as another record has them, each with its events."""
    sealer = tx.sealer(subject.data_key)
    for each in kept:
        said = {"text": each.text, "contexts": each.contexts, "source": each.source}
        decided_at = None if each.decided_at is None else times.to_micros(each.decided_at)
        row = {
            "id": each.id,
            "tenant": tx.tenant,
            "subject_key": subject.key,
            "body": seal_body(sealer, each.id, said),
            "kind": each.kind,
            "strength": each.strength,
            "scope": each.scope,
            "status": each.status,
            "proposed_at": times.to_micros(each.proposed_at),
            "decided_at": decided_at,
            "statement_id": each.statement_id,
        }
        tx.execute(insert(proposals), [row])
        about = {"revision": subject.revision, **origin}
        ledger.append(
            tx, EVENTS["open"], {**described(row, sealer), **about}, subjects=[subject.key]
        )
        if each.status != "open":
            fields = {"id": each.id, "decided": decided(row), **about}
            ledger.append(tx, EVENTS[each.status], fields, subjects=[subject.key])


def known_ids(snapshot: Snapshot, ids: Sequence[str]) -> set[str]:
    """Give those ids that proposals of this tenant have already."""
    query = select(proposals.c.id).where(proposals.c.tenant == snapshot.tenant)
    return {id_ for id_ in ids if snapshot.execute(query.where(proposals.c.id == id_)).first()}


def read(snapshot: Snapshot, proposal_id: str) -> Proposal:
    """Read one proposal.

    Raises:
        NotFoundError: this tenant has no such proposal.
    """
    query = _select().where(proposals.c.tenant == snapshot.tenant, proposals.c.id == proposal_id)
    row = snapshot.execute(query).mappings().first() if is_id(proposal_id) else None
    if row is None:
        raise unknown(proposal_id)
    return _to_proposal(snapshot, row)


def unknown(proposal_id: object) -> NotFoundError:
    """Say that there is no such proposal."""
    return NotFoundError(f"there is no proposal {quoted(proposal_id)}; proposals() lists them")


def of_subject(snapshot: Snapshot, subject: str, status: ProposalStatus | None) -> list[Proposal]:
    """List a subject's proposals, oldest first; None: of every status."""
    query = _select().where(proposals.c.tenant == snapshot.tenant, subjects.c.name == subject)
    if status is not None:
        query = query.where(proposals.c.status == status)
    rows = snapshot.execute(query.order_by(proposals.c.proposed_at, proposals.c.id)).mappings()
    return [_to_proposal(snapshot, row) for row in rows]


def decide(
    tx: Transaction,
    change: Change,
    proposal: Proposal,
    status: ProposalStatus,
    statement_id: str | None = None,
) -> Proposal:
    """Note what the subject decided.

    Raises:
        InvalidInputError: it was decided already.
    """
    done = tx.execute(
        update(proposals)
        .where(
            proposals.c.tenant == tx.tenant,
            proposals.c.id == proposal.id,
            proposals.c.status == "open",
        )
        .values(status=status, decided_at=change.at, statement_id=statement_id)
    )
    now = read(tx, proposal.id)
    if not done.rowcount:
        raise InvalidInputError(f"proposal {proposal.id} was {now.status} before; propose anew")
    fields = {
        "id": proposal.id,
        "decided": decided(
            {"status": status, "decided_at": change.at, "statement_id": statement_id}
        ),
        "revision": change.revision,
    }
    ledger.append(tx, EVENTS[status], fields, subjects=[change.subject.key])
    return now


def described(row: Mapping[Any, Any], sealer: Sealer) -> dict[str, Any]:
    """Give what the ledger keeps of a proposal: every column that never changes."""
    columns = ("id", "kind", "strength", "scope")
    said = {name: row[name] for name in columns}
    when = {"proposed_at": times.written(row["proposed_at"])}
    return {"proposal": {**said, **when}, **_open_body(row, sealer)}


def decided(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Give what the ledger keeps of what became of a proposal."""
    return {
        "status": row["status"],
        "decided_at": times.written(row["decided_at"]),
        "statement_id": row["statement_id"],
    }


def rows_of_subject(snapshot: Snapshot, found: Subject) -> list[RowMapping]:
    """Read every proposal of a subject as it is stored, oldest first."""
    query = select(proposals).where(proposals.c.subject_key == found.key)
    return list(
        snapshot.execute(query.order_by(proposals.c.proposed_at, proposals.c.id)).mappings()
    )


def seal_body(sealer: Sealer, proposal_id: str, said: Mapping[str, Any]) -> bytes:
    """Seal what a proposal says: its text, contexts and source."""
    return sealer.seal(canonical(said), f"proposal {proposal_id}")


def _open_body(row: Mapping[Any, Any], sealer: Sealer) -> dict[str, Any]:
    return json.loads(sealer.open(row["body"], f"proposal {row['id']}"))


def _select() -> Any:
    return select(proposals, subjects.c.name.label("subject"), subjects.c.data_key).join(
        subjects, subjects.c.key == proposals.c.subject_key
    )


def _to_proposal(snapshot: Snapshot, row: RowMapping) -> Proposal:
    body = _open_body(row, snapshot.sealer(row["data_key"]))
    return Proposal(
        id=row["id"],
        subject=row["subject"],
        text=body["text"],
        kind=row["kind"],
        strength=row["strength"],
        scope=row["scope"],
        contexts=tuple(body["contexts"]),
        source=body["source"],
        status=row["status"],
        proposed_at=times.to_datetime(row["proposed_at"]),
        decided_at=None if row["decided_at"] is None else times.to_datetime(row["decided_at"]),
        statement_id=row["statement_id"],
    )
