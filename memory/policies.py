"""What retrievals go by: thresholds and budgets, and embedders, as they were over time.

Each one that differs from the last of its kind is an event of the ledger, and a row here
that names it. It is the tenant's, and about no subject.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy import bindparam, insert, select

from . import ledger
from .canonical import canonical
from .record import Transaction
from .schema import ledger as leaves
from .schema import policies

Kind = Literal["policy", "embedder"]

_LAST = (
    select(policies.c.digest)
    .where(policies.c.tenant == bindparam("of"), policies.c.kind == bindparam("what"))
    .order_by(policies.c.position.desc())
)
_POSITION = select(leaves.c.position).where(leaves.c.event == bindparam("called"))


class Basis:
    """What is gone by, with the hash that names it."""

    def __init__(self, kind: Kind, body: Mapping[str, Any]) -> None:
        self.kind: Kind = kind
        self.body = body
        self.written = canonical(body)
        self.digest = hashlib.sha256(self.written).hexdigest()


def note(tx: Transaction, basis: Basis) -> None:
    """Record what is gone by from now on, if it is another than last."""
    last = tx.quick(_LAST, of=tx.tenant, what=basis.kind)
    if last is not None and last[0] == basis.digest:
        return
    kind, digest = basis.kind, basis.digest
    event = ledger.append(tx, kind, {"digest": digest, kind: basis.body})
    position = tx.quick(_POSITION, called=event)
    assert position is not None
    tx.execute(
        insert(policies),
        [{"tenant": tx.tenant, "position": position[0], "kind": kind, "digest": digest,
          "body": basis.written.decode()}],
    )  # fmt: skip
