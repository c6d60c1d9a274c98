"""Every query on proposals: what others put forward, until the subject decides.

A proposal is no statement: nothing here is ever retrieved. Functions take a
connection and never commit.
"""

import json
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from . import times
from .errors import InvalidInputError, NotFoundError
from .identifiers import is_id, new_id, quoted
from .models import Proposal, ProposalStatus
from .schema import proposals, subjects
from .store import Change, Draft


def write(connection: Connection, tenant: str, change: Change, draft: Draft) -> Proposal:
    """Keep a proposal, open."""
    proposal_id = new_id("pr")
    row = {
        "id": proposal_id,
        "tenant": tenant,
        "subject_key": change.subject.key,
        "text": draft.text,
        "kind": draft.kind,
        "strength": draft.strength,
        "scope": draft.scope,
        "contexts": json.dumps(draft.contexts),
        "source": draft.source,
        "status": "open",
        "proposed_at": change.at,
    }
    connection.execute(insert(proposals), [row])
    return read(connection, tenant, proposal_id)


def read(connection: Connection, tenant: str, proposal_id: str) -> Proposal:
    """Read one proposal.

    Raises:
        NotFoundError: this tenant has no such proposal.
    """
    query = _select().where(proposals.c.tenant == tenant, proposals.c.id == proposal_id)
    row = connection.execute(query).first() if is_id(proposal_id) else None
    if row is None:
        raise NotFoundError(f"there is no proposal {quoted(proposal_id)}; proposals() lists them")
    return _to_proposal(row)


def of_subject(
    connection: Connection, tenant: str, subject: str, status: ProposalStatus | None
) -> list[Proposal]:
    """List a subject's proposals, oldest first; None: of every status."""
    query = _select().where(proposals.c.tenant == tenant, subjects.c.name == subject)
    if status is not None:
        query = query.where(proposals.c.status == status)
    rows = connection.execute(query.order_by(proposals.c.proposed_at, proposals.c.id))
    return [_to_proposal(row) for row in rows]


def decide(
    connection: Connection,
    tenant: str,
    change: Change,
    proposal: Proposal,
    status: ProposalStatus,
    statement_id: str | None = None,
) -> Proposal:
    """Note what the subject decided.

    Raises:
        InvalidInputError: it was decided already.
    """
    done = connection.execute(
        update(proposals)
        .where(
            proposals.c.tenant == tenant,
            proposals.c.id == proposal.id,
            proposals.c.status == "open",
        )
        .values(status=status, decided_at=change.at, statement_id=statement_id)
    )
    decided = read(connection, tenant, proposal.id)
    if not done.rowcount:
        raise InvalidInputError(f"proposal {proposal.id} was {decided.status} before; propose anew")
    return decided


def _select() -> Any:
    return select(proposals, subjects.c.name.label("subject")).join(
        subjects, subjects.c.key == proposals.c.subject_key
    )


def _to_proposal(row: Row[Any]) -> Proposal:
    return Proposal(
        id=row.id,
        subject=row.subject,
        text=row.text,
        kind=row.kind,
        strength=row.strength,
        scope=row.scope,
        contexts=tuple(json.loads(row.contexts)),
        source=row.source,
        status=row.status,
        proposed_at=times.to_datetime(row.proposed_at),
        decided_at=None if row.decided_at is None else times.to_datetime(row.decided_at),
        statement_id=row.statement_id,
    )
