"""Whether the record is what the ledger's events say it became, row by row.

Events are taken one after the other; ``finish`` then reads every row of the tables that
they speak of. A row that differs, is missing, or that no event wrote, is a finding. It
knows the tables and the events' fields, and nothing of trees or signatures.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Row, select

from . import access, decisions, proposals, store, times, vectors, versions
from .canonical import canonical
from .errors import DamagedError
from .record import Snapshot
from .schema import api_keys, policies, statements, subjects, weighed
from .schema import vectors as vectors_table
from .sealing import Sealer
from .versions import Subject

Value = TypeVar("Value")
_SAID = ("statement", "text", "contexts", "source", "reason")
_PROPOSED = ("proposal", "text", "contexts", "source")
UNREADABLE = (DamagedError, ValueError, TypeError, AttributeError, LookupError, OverflowError)
"""What is raised by a value that is not of its kind."""
_OPEN = {"status": "open", "decided_at": None, "statement_id": None}


class Broken(Exception):  # noqa: N818 - it is a finding
    """Something does not hold: where, and what."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(problem)
        self.where = where
        self.problem = problem


@dataclass(slots=True)
class _State:
    """Where a subject stands by the events taken so far, and where its row says it stands."""

    row: Row[Any]
    subject: Subject
    sealer: Sealer
    events: int = 0
    last_event: str | None = None
    revision: int = 0
    changed_at: str | None = times.written(0)


class _Expected:
    """What the rows of one kind should hold: by key, what they are called, and a digest."""

    def __init__(self) -> None:
        self._rows: dict[Any, tuple[str, bytes]] = {}

    def __contains__(self, key: Any) -> bool:
        return key in self._rows

    def expect(self, key: Any, called: str, value: Any) -> None:
        """Expect a row from now on, in place of what was expected under its key before."""
        self._rows[key] = (called, _digest(value))

    def meet(self, key: Any, called: str, value: Callable[[], Any]) -> None:
        """Compare a row that is there; each is met once."""
        if key not in self._rows:
            raise Broken(called, "the ledger knows of no such row")
        _, digest = self._rows.pop(key)
        if _read(called, lambda: _digest(value())) != digest:
            raise Broken(called, "its row is not what the ledger recorded")

    def finish(self) -> None:
        """See that no row is missing."""
        for called, _ in self._rows.values():
            raise Broken(called, "its row is missing")


class Reconciliation:
    """Takes a tenant's events in their order, then compares the tables with them."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._subjects: dict[int, _State] = {}
        query = select(subjects).where(subjects.c.tenant == snapshot.tenant)
        for row in snapshot.execute(query).all():
            found = Subject(row.key, row.name, row.revision, row.changed_at, row.data_key)
            self._subjects[row.key] = _State(row, found, snapshot.sealer(row.data_key))
        self._statements = _Expected()
        self._ends = _Expected()
        self._decisions = _Expected()
        self._proposals = _Expected()
        self._decided = _Expected()
        self._vectors = _Expected()
        self._policies = _Expected()
        self._embedders = _Expected()
        self._keys: dict[str, dict[str, Any]] = {}

    def sealer(self, subject: int) -> Sealer:
        """Give the sealer of a subject by its key."""
        return self._state(subject).sealer

    def _state(self, subject: int) -> _State:
        if subject not in self._subjects:
            raise Broken("a subject", "its row is missing")
        return self._subjects[subject]

    def link(self, about: Sequence[tuple[int, int]], event: str, said: Any) -> None:
        """Take the place of an event in the records of its subjects.

        Args:
            about: (subject's key, number of the event) as the tables have it.
            event: its id.
            said: (names of the subjects, their chain) as recorded; None of an erased one.
        """
        states = [(self._state(key), sequence) for key, sequence in about]
        if said is not None:
            names = [state.subject.name for state, _ in states]
            chain = [{"previous": state.last_event, "sequence": n} for state, n in states]
            if said != (names, chain):
                raise ValueError("it does not follow what was recorded of its subjects before")
        for state, sequence in states:
            if sequence != state.events + 1:
                raise ValueError(f"event {state.events + 1} of its subject is missing")
            state.events, state.last_event = sequence, event

    def take(
        self, kind: str, index: int, fields: Mapping[str, Any], about: Sequence[tuple[int, int]]
    ) -> None:
        """Take what an event says that it changed."""
        if kind in ("policy", "embedder"):
            self._take_policy(kind, index, fields)
        elif kind.startswith("key."):
            self._take_key(kind, fields, about)
        elif kind in TAKEN:
            state = self._state(about[0][0])
            if kind == "statement.embed":
                self._take_vectors(fields["embedder"], fields["vectors"])
            elif kind.startswith("statement"):
                self._take_statement(kind, state, fields)
            elif kind.startswith("proposal"):
                self._take_proposal(kind, state, fields)
            else:
                _change(state, fields["revision"], fields["changed_at"])

    def _take_statement(self, kind: str, state: _State, fields: Mapping[str, Any]) -> None:
        if kind != "statement.retire":
            version = fields["statement"]
            key, called = version["key"], f"statement {version['id']} version {version['version']}"
            self._statements.expect(key, called, {name: fields[name] for name in _SAID})
            if vector := fields["vector"]:
                self._take_vectors(vector["embedder"], {key: vector["sha256"]})
            if "decision" in fields:
                self._decisions.expect(key, f"the decision of {called}", fields["decision"])
            _change(state, version["revision"], version["recorded_at"])
        if "ends" in fields:
            ends = fields["ends"]
            value = {"ends": ends, "reason": fields.get("end_reason")}
            self._ends.expect(ends["key"], f"the end of a version ({ends['key']})", value)
            _change(state, ends["revision"], ends["retired_at"])

    def _take_vectors(self, embedder: str, hashes: Mapping[str, str]) -> None:
        for key, sha256 in hashes.items():
            self._vectors.expect((key, embedder), f"the vector of version {key}", sha256)

    def _take_proposal(self, kind: str, state: _State, fields: Mapping[str, Any]) -> None:
        if kind == "proposal.put":
            proposal = fields["proposal"]
            called = f"proposal {proposal['id']}"
            value = {name: fields[name] for name in _PROPOSED}
            self._proposals.expect(proposal["id"], called, value)
            self._decided.expect(proposal["id"], called, _OPEN)
            _change(state, fields["revision"], proposal["proposed_at"])
        else:
            decided = fields["decided"]
            self._decided.expect(fields["id"], f"proposal {fields['id']}", decided)
            _change(state, fields["revision"], decided["decided_at"])

    def _take_policy(self, kind: str, index: int, fields: Mapping[str, Any]) -> None:
        body, digest = fields[kind], fields["digest"]
        row = {"kind": kind, "digest": digest, "body": canonical(body).decode()}
        self._policies.expect(index, f"the {kind} of leaf {index}", row)
        if kind == "embedder":
            self._embedders.expect(body["digest"], f"embedder {body['digest'][:16]}", body)

    def _take_key(
        self, kind: str, fields: Mapping[str, Any], about: Sequence[tuple[int, int]]
    ) -> None:
        key_id = fields["key"]
        if kind == "key.create":
            made = {name: fields[name] for name in ("role", "expires_at", "quota")}
            if "secret" in fields:  # not of keys that were made before it was kept
                made["secret"] = fields["secret"]
            whose = about[0][0] if about else None
            self._keys[key_id] = {**made, "subject": whose, "revoked_at": None}
        else:
            self._keys[key_id]["revoked_at"] = fields["revoked_at"]

    # Comparing

    def finish(self) -> None:
        """Compare the tables with what was taken."""
        for state in self._subjects.values():
            row = state.row
            changed_at = _read("a subject", lambda r=row: times.written(r.changed_at))
            stands = (row.events, row.last_event, row.revision, changed_at)
            if stands != (state.events, state.last_event, state.revision, state.changed_at):
                raise Broken("a subject", "its row is not what the ledger recorded")
            self._meet_versions(state)
            self._meet_vectors(state)
            self._meet_decisions(state)
            self._meet_proposals(state)
        self._meet_policies()
        for expected in (
            self._statements, self._ends, self._vectors, self._decisions, self._proposals,
            self._decided, self._policies, self._embedders, self._met_keys(),
        ):  # fmt: skip
            expected.finish()

    def _meet_versions(self, state: _State) -> None:
        sealer = state.sealer
        for row in store.rows_of_subject(self._snapshot, state.subject):
            called = f"statement {row['id']} version {row['version']}"
            self._check_tenant(row, called)
            self._statements.meet(row["key"], called, lambda r=row: versions.described(r, sealer))
            ends = _read(called, lambda r=row: versions.ends_of(r))
            note = row["end_note"]
            if ends is not None or note is not None or row["key"] in self._ends:
                self._ends.meet(
                    row["key"],
                    f"the end of {called}",
                    lambda r=row, e=ends: {"ends": e, "reason": versions.end_reason(r, sealer)},
                )

    def _check_tenant(self, row: Mapping[Any, Any], called: str) -> None:
        if row["tenant"] != self._snapshot.tenant:
            raise Broken(called, "its row is another tenant's")

    def _meet_vectors(self, state: _State) -> None:
        query = (
            select(vectors_table, statements.c.id, statements.c.version)
            .join(statements, statements.c.key == vectors_table.c.statement_key)
            .where(statements.c.subject_key == state.subject.key)
        )
        for row in self._snapshot.execute(query):
            called = f"the vector of statement {row.id} version {row.version}"
            where = (row.statement_key, row.embedder)
            self._vectors.meet(where, called, lambda r=row: _hash(r, state.sealer))

    def _meet_decisions(self, state: _State) -> None:
        own = (
            select(weighed)
            .join(statements, statements.c.key == weighed.c.decision_key)
            .where(statements.c.subject_key == state.subject.key)
            .order_by(weighed.c.decision_key, weighed.c.position)
        )
        others: dict[str, list[str]] = {}
        for row in self._snapshot.execute(own):
            listed = others.setdefault(row.decision_key, [])
            if row.position != len(listed):
                raise Broken(f"the decision of version {row.decision_key}", "a row is missing")
            listed.append(row.statement_key)
        for key, part in decisions.parts_of_subject(self._snapshot, state.subject).items():
            value = {**part, "weighed": others.pop(key, [])}
            self._decisions.meet(key, f"the decision of version {key}", lambda v=value: v)
        if others:
            raise Broken("a decision", "what it weighed is in the tables, and it is not")

    def _meet_proposals(self, state: _State) -> None:
        sealer = state.sealer
        for row in proposals.rows_of_subject(self._snapshot, state.subject):
            called = f"proposal {row['id']}"
            self._check_tenant(row, called)
            self._proposals.meet(row["id"], called, lambda r=row: proposals.described(r, sealer))
            self._decided.meet(row["id"], called, lambda r=row: proposals.decided(r))

    def _meet_policies(self) -> None:
        query = select(policies).where(policies.c.tenant == self._snapshot.tenant)
        for row in self._snapshot.execute(query):
            value = {"kind": row.kind, "digest": row.digest, "body": row.body}
            called = f"the {row.kind} of leaf {row.position}"
            self._policies.meet(row.position, called, lambda v=value: v)
        for row in vectors.all_described(self._snapshot):
            if row["digest"] in self._embedders:  # another tenant may use others
                called = f"embedder {row['digest'][:16]}"
                self._embedders.meet(row["digest"], called, lambda r=row: r)

    def _met_keys(self) -> _Expected:
        """Compare what lets callers in."""
        expected = _Expected()
        for key_id, value in self._keys.items():
            expected.expect(key_id, f"the access key {key_id}", value)
        query = select(api_keys).where(api_keys.c.tenant == self._snapshot.tenant)
        for row in self._snapshot.execute(query):
            kept = self._keys.get(row.id, {})
            expected.meet(row.id, f"the access key {row.id}", lambda r=row, k=kept: _access(r, k))
        return expected


TAKEN = (
    "statement.put", "statement.supersede", "statement.retire", "statement.embed",
    "proposal.put", "proposal.confirm", "proposal.reject", "import", "policy", "embedder",
    "key.create", "key.revoke",
)  # fmt: skip
"""Types of events that say what became of rows."""


def _read(called: str, value: Callable[[], Value]) -> Value:
    """Read from a row; one that cannot be read is a finding."""
    try:
        return value()
    except UNREADABLE as error:
        raise Broken(called, f"its row cannot be read ({error})") from None


def _hash(row: Row[Any], sealer: Sealer) -> str:
    return vectors.digest(vectors.opened(row, sealer)).hex()


def _access(row: Row[Any], kept: Collection[str]) -> dict[str, Any]:
    """Give what the ledger keeps of an access key."""
    when = {name: times.written(getattr(row, name)) for name in ("expires_at", "revoked_at")}
    said = {"role": row.role, "quota": row.quota, "subject": row.subject_key}
    if "secret" in kept:
        said["secret"] = access.secret_digest(row.hash)
    return {**said, **when}


def _change(state: _State, revision: int, at: str) -> None:
    state.revision, state.changed_at = revision, at


def _digest(value: Any) -> bytes:
    return hashlib.sha256(canonical(value)).digest()
