"""Every query on the parts of decisions, which lie beside their statements.

Functions never commit.
"""

import json
from collections.abc import Sequence

from sqlalchemy import insert, select

from .canonical import canonical
from .models import Decision, Statement, Weighed
from .record import Snapshot, Transaction
from .schema import decisions, statements, weighed
from .store import as_known
from .store import write as write_statements
from .vectors import Embedded
from .versions import Change, Draft, Subject, Version

_BECAUSE = " Because: "


def text_of(situation: str, choice: str, reason: str) -> str:
    """Give the text of a decision that is embedded and shown: situation, choice and reason."""
    return f"{_ended(situation)} Chosen: {_ended(choice)}{_BECAUSE}{_ended(reason)}"


def is_whole(statement: Statement) -> bool:
    """Tell a decision that is written by ``text_of`` from a sentence that is read as one."""
    return statement.kind == "decision" and _BECAUSE in statement.text


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?", "…", "。")) else f"{text}."


def write(
    tx: Transaction,
    change: Change,
    draft: Draft,
    embedded: Embedded,
    *,
    situation: str,
    choice: str,
    reason: str,
    weighed_versions: Sequence[Version],
) -> Decision:
    """Write a decision: its statement, and its parts beside it."""
    parts = {"situation": situation, "choice": choice, "reason": reason}
    others = [version.key for version in weighed_versions]
    about = {"decision": {**parts, "weighed": others}}
    (version,) = write_statements(tx, change, [draft], embedded, about)
    put_parts(tx, change.subject, version.key, parts, others)
    links = (Weighed(v.statement.id, v.statement.version) for v in weighed_versions)
    return Decision(version.statement, situation, choice, reason, tuple(links))


def put_parts(
    tx: Transaction, subject: Subject, key: str, parts: dict[str, str], others: Sequence[str]
) -> None:
    """Keep the parts of a decision, and the keys of the versions that it weighed."""
    body = tx.sealer(subject.data_key).seal(canonical(parts), f"decision {key}")
    tx.execute(insert(decisions), [{"statement_key": key, "body": body}])
    if others:
        tx.execute(
            insert(weighed),
            [
                {"decision_key": key, "position": i, "statement_key": other}
                for i, other in enumerate(others)
            ],
        )


def parts_of_subject(snapshot: Snapshot, found: Subject) -> dict[str, dict[str, str]]:
    """Read situation, choice and reason of every decision of a subject, by version key."""
    sealer = snapshot.sealer(found.data_key)
    rows = snapshot.execute(
        select(decisions)
        .join(statements, statements.c.key == decisions.c.statement_key)
        .where(statements.c.subject_key == found.key)
        .order_by(statements.c.recorded_at, statements.c.id)
    )
    return {
        row.statement_key: json.loads(sealer.open(row.body, f"decision {row.statement_key}"))
        for row in rows
    }


def weighed_by_subject(snapshot: Snapshot, found: Subject) -> dict[str, list[tuple[str, Weighed]]]:
    """Read what each decision of a subject weighed: the version's key, and which it is."""
    links: dict[str, list[tuple[str, Weighed]]] = {}
    for link in snapshot.execute(
        select(weighed.c.decision_key, statements.c.key, statements.c.id, statements.c.version)
        .join(statements, statements.c.key == weighed.c.statement_key)
        .where(statements.c.subject_key == found.key)
        .order_by(weighed.c.decision_key, weighed.c.position)
    ):
        which = Weighed(link.id, link.version)
        links.setdefault(link.decision_key, []).append((link.key, which))
    return links


def standing(snapshot: Snapshot, found: Subject, *, as_of: int) -> list[Decision]:
    """Read the decisions that stand at ``as_of``, oldest first, with what each weighed."""
    stands = {v.key: v.statement for v in as_known(snapshot, found, as_of=as_of)}
    links = weighed_by_subject(snapshot, found)
    return [
        Decision(stands[key], weighed=tuple(which for _, which in links.get(key, ())), **parts)
        for key, parts in parts_of_subject(snapshot, found).items()
        if key in stands
    ]
