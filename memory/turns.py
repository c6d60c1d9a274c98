"""Where in a conversation was injected what: so that the next request has the same bytes there.

Clients send a conversation back without what was put into it. A turn is found again by a
keyed hash of the conversation up to it; what was injected stands in the evidence of its
retrieval, so that nothing is kept here that an erasure would miss. Functions never commit.
"""

from collections.abc import Sequence

from sqlalchemy import bindparam, delete, func, insert, select

from . import times
from .record import Snapshot, Transaction
from .schema import turns

_HERE = (turns.c.subject_key == bindparam("whose"), turns.c.prefix == bindparam("place"))
_KNOWN = select(turns.c.event).where(*_HERE)
_DROP = delete(turns).where(*_HERE)
_NOTE = insert(turns)
MOST_TURNS = 200_000
"""Turns that are kept, over all subjects; those used longest ago are dropped."""


def known(snapshot: Snapshot, subject: int, prefixes: Sequence[bytes]) -> dict[bytes, str]:
    """Give the events of retrievals that were injected at these places, by place."""
    found: dict[bytes, str] = {}
    for prefix in prefixes:
        row = snapshot.quick(_KNOWN, whose=subject, place=prefix)
        if row is not None:
            found[prefix] = row[0]
    return found


def note(tx: Transaction, subject: int, prefix: bytes, event: str) -> None:
    """Note what was injected at a place, in the transaction that records its retrieval."""
    tx.quick(_DROP, whose=subject, place=prefix)
    tx.quick(_NOTE, subject_key=subject, prefix=prefix, event=event, used_at=times.now())


def prune(tx: Transaction, most: int = MOST_TURNS) -> int:
    """Drop the places used longest ago, beyond a number; give how many."""
    count = tx.execute(select(func.count()).select_from(turns)).scalar() or 0
    if count <= most:
        return 0
    oldest = select(turns.c.used_at).order_by(turns.c.used_at).offset(count - most - 1).limit(1)
    limit = tx.execute(oldest).scalar()
    return tx.execute(delete(turns).where(turns.c.used_at <= limit)).rowcount
