"""Carries a data directory from before the ledger into it: schema 0001's content.

Statements, decisions, proposals and vectors are sealed and appended as they were, with
their ids, keys, times and revisions; evidence becomes leaves under its old ids. All in one
transaction, after which the files are purged of what lay in the clear. What these leaves
say of the time before rests on the old chain alone, and each says so in ``imported``.
"""

import base64
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, MetaData, RowMapping, Table, inspect, select

from . import decisions, erasure, ledger, policies, proposals, store, times, vectors
from .canonical import canonical
from .chroma import parts_of
from .database import Database
from .models import Proposal
from .record import Record, Transaction
from .vault import Vault
from .versions import Change, Draft, Ends, Kept

logger = logging.getLogger("holdfast")

TABLES = (
    "weighed", "decisions", "vectors", "proposals", "statements", "subjects", "evidence_subjects",
    "evidence", "ledgers",
)  # fmt: skip
ORIGIN = {"from": "before the ledger"}
GENESIS = "0" * 64


def carry(database: Database, vault: Vault) -> None:
    """Carry what was put aside into the ledger, if there is anything; it is all or nothing."""
    with database.read() as connection:
        if database.read_only or not inspect(connection).has_table("before_subjects"):
            return
    with database.write() as connection:
        before = _Before(connection)
        counts = [
            _Carrying(_transaction(connection, database, vault, tenant), before).run()
            for tenant in before.tenants()
        ]
        before.drop()
        erasure.note(_transaction(connection, database, vault, ""), [])
    logger.warning(
        "carried %d versions of statements and %d pieces of evidence into the ledger; what was "
        "said is sealed now",
        sum(versions for versions, _ in counts),
        sum(entries for _, entries in counts),
    )


def _transaction(
    connection: Connection, database: Database, vault: Vault, tenant: str
) -> Transaction:
    return Transaction(connection, tenant, vault, database, Record(database, vault, tenant))


class _Before:
    """The tables of schema 0001, put aside."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        metadata = MetaData()
        self._tables = {
            name: Table(f"before_{name}", metadata, autoload_with=connection) for name in TABLES
        }

    def tenants(self) -> list[str]:
        """List the tenants of whom there is anything."""
        found: set[str] = set()
        for name in ("subjects", "evidence"):
            tenants = select(self._tables[name].c.tenant).distinct()
            found.update(self._connection.execute(tenants).scalars())
        return sorted(found)

    def rows(self, name: str, order: Sequence[str], **where: Any) -> list[RowMapping]:
        """Read rows of a table; a list among the conditions is a choice."""
        table = self._tables[name]
        query = select(table).order_by(*(table.c[column] for column in order))
        for column, value in where.items():
            of = table.c[column]
            query = query.where(of.in_(value) if isinstance(value, list) else of == value)  # pyright: ignore[reportUnknownArgumentType]
        return list(self._connection.execute(query).mappings())

    def of_versions(self, name: str, order: Sequence[str], keys: Sequence[str]) -> list[RowMapping]:
        """Read the rows of a table that belong to some versions."""
        column = "decision_key" if name == "weighed" else "statement_key"
        return [
            row for part in parts_of(keys, 500) for row in self.rows(name, order, **{column: part})
        ]

    def drop(self) -> None:
        """Drop them all."""
        for table in self._tables.values():
            table.drop(self._connection)


class _Carrying:
    """One tenant on its way into the ledger."""

    def __init__(self, tx: Transaction, before: _Before) -> None:
        self._tx = tx
        self._before = before

    def run(self) -> tuple[int, int]:
        """Carry all of it; give how many versions and how many pieces of evidence."""
        tx = self._tx
        for each in vectors.all_described(tx):
            policies.note(tx, policies.Basis("embedder", each))
        versions = sum(
            map(self._carry_subject, self._before.rows("subjects", ["key"], tenant=tx.tenant))
        )
        return versions, self._carry_evidence()

    def _carry_subject(self, old: RowMapping) -> int:
        tx, before = self._tx, self._before
        found = store.ensure_subject(tx, old["name"])
        order = ["revision_from", "place", "id", "version"]
        rows = before.rows("statements", order, subject_key=old["key"])
        keys = [row["key"] for row in rows]
        held = before.of_versions("vectors", ["statement_key", "embedder"], keys)
        notes = {
            row["statement_key"]: {"embedder": row["embedder"], "sha256": row["hash"].hex()}
            for row in held
        }
        parts = self._parts(keys)
        kept = [_kept(row, notes.get(row["key"]), parts.get(row["key"])) for row in rows]
        store.restore(tx, found, kept, {"imported": ORIGIN})
        sealer = tx.sealer(found.data_key)
        for row in held:
            matrix = np.frombuffer(row["components"], np.int8)[np.newaxis]
            embedded = vectors.Embedded(row["embedder"], matrix)
            key = row["statement_key"]
            if notes[key]["embedder"] == row["embedder"]:
                vectors.save(tx, embedded, [key], [sealer])
            else:  # by another embedder beside the one that the version's event names
                text = store.Text(key, "", tx.tenant, found.name, found.key, sealer)
                store.save_anew(tx, embedded, [text])
        for key, part in parts.items():
            own = {name: part[name] for name in ("situation", "choice", "reason")}
            decisions.put_parts(tx, found, key, own, part["weighed"])
        proposed = before.rows("proposals", ["proposed_at", "id"], subject_key=old["key"])
        proposals.restore(tx, found, list(map(_proposal, proposed)), {"imported": ORIGIN})
        change = Change(found, old["revision"], old["changed_at"])
        store.place_change(tx, change)
        at = times.written(change.at)
        fields = {"revision": change.revision, "changed_at": at, "imported": ORIGIN}
        ledger.append(tx, "import", fields, subjects=[found.key])
        return len(rows)

    def _parts(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        weighed: dict[str, list[str]] = {}
        for row in self._before.of_versions("weighed", ["decision_key", "position"], keys):
            weighed.setdefault(row["decision_key"], []).append(row["statement_key"])
        return {
            row["statement_key"]: {
                **{name: row[name] for name in ("situation", "choice", "reason")},
                "weighed": weighed.get(row["statement_key"], []),
            }
            for row in self._before.of_versions("decisions", ["statement_key"], keys)
        }

    def _carry_evidence(self) -> int:
        tx, before = self._tx, self._before
        entries = before.rows("evidence", ["sequence"], tenant=tx.tenant)
        about: dict[int, list[str]] = {}
        for row in before.rows("evidence_subjects", ["sequence", "position"], tenant=tx.tenant):
            about.setdefault(row["sequence"], []).append(row["subject"])
        previous = GENESIS
        for row in entries:
            names = about.get(row["sequence"], [])
            imported = {
                **ORIGIN,
                "recorded_at": times.written(row["recorded_at"]),
                "sequence": row["sequence"],
                "previous": row["previous"],
                "hash": row["hash"],
                "holds": row["previous"] == previous and _chain_hash(row, names) == row["hash"],
            }
            previous = row["hash"]
            fields = {**_fields(row["payload"]), "imported": imported}
            subjects = [store.ensure_subject(tx, name).key for name in names]
            ledger.append(tx, row["type"], fields, subjects=subjects, event=row["id"])
        return len(entries)


def _chain_hash(row: RowMapping, subjects: list[str]) -> str:
    """Give the hash of an entry as the chain had it."""
    header = {
        "format": "holdfast-chain-1",
        "id": row["id"],
        "payload": hashlib.sha256(row["payload"]).hexdigest(),
        "previous": row["previous"],
        "recorded_at": row["recorded_at"],
        "sequence": row["sequence"],
        "subjects": subjects,
        "tenant": row["tenant"],
        "type": row["type"],
    }
    return hashlib.sha256(canonical(header)).hexdigest()


def _fields(payload: bytes) -> dict[str, Any]:
    """Give the payload of old evidence as the fields of today; what cannot be read as it is."""
    try:
        old = json.loads(payload)
        request, context = old["request"], old["context"]
        return {
            "format": old["format"],
            "versions": old["versions"],
            "request": request["sha256"],
            "segments": {"weights": request["weights"], "vectors": request["vectors"]},
            "terms": request["terms"],
            "contexts": request["contexts"],
            "as_of": times.written(old["as_of"]),
            "embedder": old["embedder"],
            "corpora": [
                {"revision": each["revision"], "digest": each["corpus"], "count": each["count"]}
                for each in old["subjects"]
            ],
            "policy": old["policy"],
            "candidates": old["candidates"],
            "injected": old["injected"],
            "status": old["status"],
            "context": context["text"],
            "context_sha256": context["sha256"],
        }
    except (ValueError, KeyError, TypeError):
        return {"format": "unknown", "text": base64.b64encode(payload).decode()}


def _kept(
    row: RowMapping, vector: Mapping[str, str] | None, decision: Mapping[str, Any] | None
) -> Kept:
    ends = None
    if row["retired_at"] is not None:
        ends = Ends(row["retired_at"], row["revision_to"], row["ends_at"], row["end_reason"])
    draft = Draft(
        text=row["text"],
        equality=row["equality"],
        kind=row["kind"],
        strength=row["strength"],
        scope=row["scope"],
        contexts=tuple(json.loads(row["contexts"])),
        source=row["source"],
        valid_from=row["valid_from"],
        valid_to=row["valid_to"],
        key=row["key"],
    )
    return Kept(
        draft=draft,
        id=row["id"],
        version=row["version"],
        reason=row["reason"],
        recorded_at=row["recorded_at"],
        revision=row["revision_from"],
        place=row["place"],
        ends=ends,
        vector=vector,
        decision=decision,
    )


def _proposal(row: RowMapping) -> Proposal:
    decided_at = row["decided_at"]
    return Proposal(
        id=row["id"],
        subject="",
        text=row["text"],
        kind=row["kind"],
        strength=row["strength"],
        scope=row["scope"],
        contexts=tuple(json.loads(row["contexts"])),
        source=row["source"],
        status=row["status"],
        proposed_at=times.to_datetime(row["proposed_at"]),
        decided_at=None if decided_at is None else times.to_datetime(decided_at),
        statement_id=row["statement_id"],
    )
