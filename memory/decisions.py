"""Every query on the parts of decisions, which lie beside their statements.

Functions take a connection and never commit.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, insert, select

from .models import Decision, Weighed
from .schema import decisions, statements, weighed
from .store import Subject, Version, as_known


def write(
    connection: Connection,
    version: Version,
    *,
    situation: str,
    choice: str,
    reason: str,
    weighed_versions: Sequence[Version],
) -> Decision:
    """Keep the parts of a decision beside its statement."""
    connection.execute(
        insert(decisions),
        [{"statement_key": version.key, "situation": situation, "choice": choice,
          "reason": reason}],
    )  # fmt: skip
    if weighed_versions:
        connection.execute(
            insert(weighed),
            [
                {"decision_key": version.key, "position": i, "statement_key": other.key}
                for i, other in enumerate(weighed_versions)
            ],
        )
    return Decision(
        version.statement, situation, choice, reason,
        tuple(Weighed(v.statement.id, v.statement.version) for v in weighed_versions),
    )  # fmt: skip


def standing(connection: Connection, found: Subject, *, as_of: int) -> list[Decision]:
    """Read the decisions that stand at ``as_of``, oldest first, with what each weighed."""
    stands = {v.key: v.statement for v in as_known(connection, found, as_of=as_of)}
    rows = connection.execute(
        select(decisions)
        .join(statements, statements.c.key == decisions.c.statement_key)
        .where(statements.c.subject_key == found.key)
        .order_by(statements.c.recorded_at, statements.c.id)
    ).all()
    other = statements.alias()
    links: dict[str, list[Weighed]] = {}
    for link in connection.execute(
        select(weighed.c.decision_key, other.c.id, other.c.version)
        .join(other, other.c.key == weighed.c.statement_key)
        .where(other.c.subject_key == found.key)
        .order_by(weighed.c.decision_key, weighed.c.position)
    ):
        links.setdefault(link.decision_key, []).append(Weighed(link.id, link.version))
    return [
        Decision(
            stands[row.statement_key], row.situation, row.choice, row.reason,
            tuple(links.get(row.statement_key, ())),
        )
        for row in rows
        if row.statement_key in stands
    ]  # fmt: skip
