"""Where in a conversation was injected what: so that the next request has the same bytes there.

Clients send a conversation back without what was put into it. A turn is found again by a
keyed hash of the conversation up to it; what was injected stands in the evidence of its
retrieval, so that nothing is kept here that an erasure would miss. Functions never commit.
"""

from collections.abc import Sequence

from sqlalchemy import delete, func, insert, select, update

from . import times
from .record import Snapshot, Transaction
from .schema import turns

MOST_TURNS = 200_000
"""Turns that are kept, over all subjects; those used longest ago are dropped."""


def known(snapshot: Snapshot, subject: int, prefixes: Sequence[bytes]) -> dict[bytes, str]:
    """Give the events of retrievals that were injected at these places, by place."""
    found: dict[bytes, str] = {}
    for start in range(0, len(prefixes), 500):
        query = select(turns.c.prefix, turns.c.event).where(
            turns.c.subject_key == subject, turns.c.prefix.in_(prefixes[start : start + 500])
        )
        found |= {row.prefix: row.event for row in snapshot.execute(query)}
    return found


def note(tx: Transaction, subject: int, prefix: bytes, event: str) -> None:
    """Note what was injected at a place, in the transaction that records its retrieval."""
    here = (turns.c.subject_key == subject, turns.c.prefix == prefix)
    values = {"event": event, "used_at": times.now()}
    if not tx.execute(update(turns).where(*here).values(**values)).rowcount:
        tx.execute(insert(turns), [{"subject_key": subject, "prefix": prefix, **values}])


def prune(tx: Transaction, most: int = MOST_TURNS) -> int:
    """Drop the places used longest ago, beyond a number; give how many."""
    count = tx.execute(select(func.count()).select_from(turns)).scalar() or 0
    if count <= most:
        return 0
    oldest = select(turns.c.used_at).order_by(turns.c.used_at).offset(count - most - 1).limit(1)
    limit = tx.execute(oldest).scalar()
    return tx.execute(delete(turns).where(turns.c.used_at <= limit)).rowcount
