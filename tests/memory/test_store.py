"""The record's two time axes against their law, in plain Python, and all queries on statements."""

import hashlib
import itertools
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from holdfast.memory import ledger, store, times, vectors
from holdfast.memory.database import Database
from holdfast.memory.errors import DamagedError, InvalidInputError, NotFoundError
from holdfast.memory.identifiers import new_key
from holdfast.memory.keys import KeySource
from holdfast.memory.models import Evidence, Statement
from holdfast.memory.record import Record, Snapshot, Transaction, open_vault
from holdfast.memory.schema import statements
from holdfast.memory.schema import vectors as vectors_table
from holdfast.memory.vectors import Embedded
from holdfast.memory.versions import Change, Draft, Ends, Kept, Version, end_reason, open_body

START = 1_000_000_000_000_000  # microseconds: September 2001
EMBEDDER = "e" * 64
DIMENSIONS = 16


def draft(words: str, valid_from: int | None = None, valid_to: int | None = None) -> Draft:
    return Draft(
        text=words,
        equality=hashlib.sha256(words.encode()).digest(),
        kind="value",
        strength="should",
        scope="topical",
        contexts=("work", "büro"),
        source="subject",
        valid_from=valid_from,
        valid_to=valid_to,
        key=new_key(),
    )


def embedded(count: int) -> Embedded:
    """Vectors for so many drafts, each another."""
    rows = np.arange(count * DIMENSIONS) % 255 - 127
    return Embedded(EMBEDDER, rows.reshape(count, DIMENSIONS).astype(np.int8))


def write(tx: Transaction, change: Change, drafts: Sequence[Draft]) -> list[Version]:
    vectors.register(tx, embedder=EMBEDDER, name="fake", dimensions=DIMENSIONS, scale=200)
    return store.write(tx, change, drafts, embedded(len(drafts)))


def add(record: Record, subject: str, *words: str) -> list[Statement]:
    def work(tx: Transaction) -> list[Version]:
        return write(tx, store.begin_change(tx, subject), [draft(each) for each in words])

    return [version.statement for version in record.transact(work)]


def revise(
    record: Record, subject: str, id_: str, words: str, reason: str | None = None
) -> Version:
    def work(tx: Transaction) -> Version:
        change, old = store.begin_change(tx, subject), store.latest(tx, id_)
        return store.revise(tx, change, old, draft(words), embedded(1), reason)

    return record.transact(work)


def retire(record: Record, subject: str, id_: str, reason: str | None = None) -> Statement:
    def work(tx: Transaction) -> Statement:
        return store.retire(tx, store.begin_change(tx, subject), store.latest(tx, id_), reason)

    return record.transact(work)


def of_tenant(record: Record, tenant: str) -> Record:
    """Another tenant's record in the same database."""
    return Record(record.database, record.vault, tenant)


def events(record: Record) -> list[Evidence]:
    """The ledger, oldest first."""
    with record.snapshot() as snapshot:
        return ledger.entries(snapshot)[::-1]


@contextmanager
def changing(record: Record) -> Generator[Transaction]:
    """A transaction on this thread: examples are drawn in the midst of it."""
    with record.database.write() as connection:
        yield Transaction(connection, record.tenant, record.vault, record.database, record)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Record]:
    """One record for all examples of a property; each has a subject of its own."""
    path = tmp_path_factory.mktemp("record")
    database = Database(f"sqlite:///{path / 'test.db'}", place="the test's folder")
    yield Record(database, open_vault(database, KeySource(folder=path / "keys")), "local")
    database.close()


# The law, in plain Python


@dataclass
class Lawful:
    """What the law is about: one version."""

    statement: int
    version: int
    text: str
    recorded_at: int
    revision_from: int
    valid_from: int
    valid_to: int | None
    retired_at: int | None = None
    revision_to: int | None = None
    ends_at: int | None = None


@dataclass
class Model:
    """All versions of one subject, and what holds by store's docstring."""

    kept: list[Lawful]
    changed_at: int = 0
    revision: int = 0

    def begin(self, now: int) -> None:
        self.changed_at = max(now, self.changed_at + 1)
        self.revision += 1

    def newest(self, statement: int) -> Lawful:
        return [kept for kept in self.kept if kept.statement == statement][-1]

    def open(self) -> list[int]:
        every = dict.fromkeys(kept.statement for kept in self.kept)
        return [statement for statement in every if self.newest(statement).retired_at is None]

    def close(self, statement: int, ends_at: int | None) -> None:
        newest = self.newest(statement)
        newest.retired_at, newest.revision_to = self.changed_at, self.revision
        newest.ends_at = ends_at

    def known(self, known_at: int | None, revision: int | None) -> "list[Lawful]":
        """The versions as they were known: without ends that were recorded later."""
        result: list[Lawful] = []
        for kept in self.kept:
            if known_at is not None and kept.recorded_at > known_at:
                continue
            if revision is not None and kept.revision_from > revision:
                continue
            unknown = (
                known_at is not None and kept.retired_at is not None and kept.retired_at > known_at
            ) or (
                revision is not None
                and kept.revision_to is not None
                and kept.revision_to > revision
            )
            if unknown:
                kept = replace(kept, retired_at=None, revision_to=None, ends_at=None)
            result.append(kept)
        return result

    def holding(self, at: int, known_at: int | None, revision: int | None) -> list[Lawful]:
        known = self.known(known_at, revision)
        result: list[Lawful] = []
        for kept in known:
            later = [
                other
                for other in known
                if other.statement == kept.statement and other.version > kept.version
            ]
            if not kept.valid_from <= at:
                continue
            if kept.valid_to is not None and not at < kept.valid_to:
                continue
            if any(other.valid_from <= at for other in later):
                continue
            if any(o.ends_at is not None and o.ends_at <= at for o in [kept, *later]):
                continue
            result.append(kept)
        return result

    def last_begun(self, at: int, known_at: int | None, revision: int | None) -> list[Lawful]:
        begun = [kept for kept in self.known(known_at, revision) if kept.valid_from <= at]
        return list({kept.statement: kept for kept in begun}.values())

    def moments(self) -> list[int]:
        """Every moment at which an answer may change, and those right before it."""
        bounds = {
            bound
            for kept in self.kept
            for bound in (
                kept.recorded_at, kept.valid_from, kept.valid_to, kept.retired_at, kept.ends_at
            )
            if bound is not None
        }  # fmt: skip
        return sorted(bounds | {bound - 1 for bound in bounds})


OFFSETS = st.integers(-40, 40)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "revise", "revise", "retire"]),
        st.integers(-30, 30),  # the clock moves by so much, also back
        st.none() | OFFSETS,  # valid_from, from now on
        st.none() | st.integers(1, 60),  # valid_to, from valid_from on
        st.integers(0, 5),  # which statement
    ),
    min_size=1,
    max_size=8,
)
NUMBERS = itertools.count()


class Run:
    """The same steps done to the store and to the model."""

    def __init__(self, tx: Transaction) -> None:
        self.tx = tx
        self.subject = f"subject {next(NUMBERS)}"
        self.model = Model([])
        self.ids: list[str] = []

    def do(self, kind: str, now: int, begins: int | None, lasts: int | None, which: int) -> None:
        model, number = self.model, len(self.model.kept)
        open_ = model.open()
        statement = open_[which % len(open_)] if open_ else None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(times, "now", lambda: now)
            change = store.begin_change(self.tx, self.subject)
        model.begin(now)
        assert (change.at, change.revision) == (model.changed_at, model.revision)
        if kind == "retire" and statement is not None:
            old = store.latest(self.tx, self.ids[statement])
            store.retire(self.tx, change, old, f"reason {number}")
            model.close(statement, model.changed_at)
            return
        valid_from = None if begins is None else now + begins
        at = model.changed_at if valid_from is None else valid_from
        valid_to = None if lasts is None else at + lasts
        new = draft(f"text {number}", valid_from, valid_to)
        if kind == "revise" and statement is not None:
            old = store.latest(self.tx, self.ids[statement])
            store.revise(self.tx, change, old, new, embedded(1), None)
            version = model.newest(statement).version + 1
            model.close(statement, None)
        else:
            statement, version = len(self.ids), 1
            (written,) = write(self.tx, change, [new])
            self.ids.append(written.statement.id)
        model.kept.append(
            Lawful(
                statement, version, new.text, model.changed_at, model.revision, at, valid_to
            )
        )  # fmt: skip

    def asked(self, **how: Any) -> list[Statement]:
        found = store.subject(self.tx, self.subject)
        assert found is not None
        return [v.statement for v in store.as_known(self.tx, found, **how)]

    def said(self, kept: Sequence[Lawful]) -> set[tuple[Any, ...]]:
        return {(self.ids[k.statement], k.version, k.text, k.retired_at) for k in kept}


def shown(statements: Sequence[Statement]) -> set[tuple[Any, ...]]:
    assert len({statement.id for statement in statements}) == len(statements)
    return {
        (s.id, s.version, s.text, s.retired_at and times.to_micros(s.retired_at))
        for s in statements
    }


PROPERTY = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@PROPERTY
@given(steps=STEPS, data=st.data())
def test_what_held_as_known_follows_the_law(
    lasting: Record, steps: list[Any], data: st.DataObject
) -> None:
    with changing(lasting) as tx:
        run, now = Run(tx), START
        for kind, tick, *rest in steps:
            now += tick
            run.do(kind, now, *rest)
        model = run.model
        moments = st.sampled_from(model.moments())
        for _ in range(12):
            at = data.draw(moments)
            for known_at, revision in (
                (None, None),
                (data.draw(moments), None),
                (None, data.draw(st.integers(0, model.revision + 1))),
            ):
                how = {"as_of": at, "known_at": known_at, "revision": revision}
                law = run.said(model.holding(at, known_at, revision))
                assert shown(run.asked(**how)) == law, how
                law = run.said(model.last_begun(at, known_at, revision))
                assert shown(run.asked(**how, include_retired=True)) == law, how


@PROPERTY
@given(steps=STEPS, moments=st.lists(OFFSETS, min_size=1, max_size=3))
def test_an_answer_for_a_past_known_at_or_revision_never_changes(
    lasting: Record, steps: list[Any], moments: list[int]
) -> None:
    with changing(lasting) as tx:
        run, now = Run(tx), START
        answers: list[tuple[dict[str, Any], list[Statement]]] = []
        for kind, tick, *rest in steps:
            now += tick
            run.do(kind, now, *rest)
            for offset, retired in itertools.product(moments, (False, True)):
                how = {"as_of": now + offset, "include_retired": retired}
                answer = run.asked(**how)  # all that is known now
                answers.append((how | {"known_at": run.model.changed_at}, answer))
                answers.append((how | {"revision": run.model.revision}, answer))
        for how, answer in answers:
            assert run.asked(**how) == answer, how


@PROPERTY
@given(steps=STEPS)
def test_the_next_boundary_is_never_later_than_the_next_change_of_what_holds(
    lasting: Record, steps: list[Any]
) -> None:
    with changing(lasting) as tx:
        run, now = Run(tx), START
        for kind, tick, *rest in steps:
            now += tick
            run.do(kind, now, *rest)
        found = store.subject(tx, run.subject)
        assert found is not None
        for at in run.model.moments():
            ends = store.next_boundary(tx, found, after=at)
            assert ends is None or ends > at
            held = run.said(run.model.holding(at, None, None))
            for later in run.model.moments():
                if at < later and (ends is None or later < ends):
                    assert run.said(run.model.holding(later, None, None)) == held


# Changes


def test_record_time_rises_strictly_also_when_the_clock_is_set_back(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [START, START, START - 3_600_000_000, START + 5]
    recorded: list[Any] = []
    for number, now in enumerate(clock):
        monkeypatch.setattr(times, "now", lambda now=now: now)
        recorded += [s.recorded_at for s in add(record, "ada", f"words {number}")]
    assert [times.to_micros(t) - START for t in recorded] == [0, 1, 2, 5]


def test_every_change_raises_the_revision_of_its_subject_alone_by_one(record: Record) -> None:
    (statement,) = add(record, "ada", "first")
    add(record, "bo", "other")
    revise(record, "ada", statement.id, "second", "better")
    retire(record, "ada", statement.id)
    add(record, "ada", "third", "fourth")  # one change, however much is in it
    with record.snapshot() as snapshot:
        ada, bo = (store.subject(snapshot, name) for name in ("ada", "bo"))
        assert ada is not None
        assert bo is not None
        assert (ada.revision, bo.revision) == (4, 1)
        assert store.subject(snapshot, "nobody") is None


@pytest.mark.parametrize(("begins", "ends"), [(START, START), (START, START - 1), (None, START)])
def test_what_would_end_before_it_begins_is_refused_and_nothing_is_stored(
    record: Record, begins: int | None, ends: int
) -> None:
    def refused(tx: Transaction) -> None:
        write(tx, store.begin_change(tx, "ada"), [draft("first"), draft("no", begins, ends)])

    with pytest.raises(InvalidInputError, match="give both in order"):
        record.transact(refused)
    with record.snapshot() as snapshot:
        assert store.subject(snapshot, "ada") is None
        assert store.version_owners(snapshot) == []
    assert events(record) == []
    (kept,) = add(record, "ada", "first")
    before = events(record)

    def refused_too(tx: Transaction) -> None:
        change, old = store.begin_change(tx, "ada"), store.latest(tx, kept.id)
        store.revise(tx, change, old, draft("no", begins, ends), embedded(1), None)

    with pytest.raises(InvalidInputError, match="give both in order"):
        record.transact(refused_too)
    with record.snapshot() as snapshot:
        assert store.history(snapshot, kept.id) == [kept]
        found = store.subject(snapshot, "ada")
        assert found is not None
        assert found.revision == 1
    assert events(record) == before


def test_a_version_that_was_closed_meanwhile_is_not_closed_again(record: Record) -> None:
    (statement,) = add(record, "ada", "first")
    with record.snapshot() as snapshot:
        stale = store.latest(snapshot, statement.id)
    revise(record, "ada", statement.id, "second")
    before = events(record)

    def again(tx: Transaction, how: str) -> None:
        change = store.begin_change(tx, "ada")
        if how == "retire":
            store.retire(tx, change, stale, None)
        else:
            store.revise(tx, change, stale, draft("third"), embedded(1), None)

    for how in ("retire", "revise"):
        with pytest.raises(InvalidInputError, match="meanwhile"):
            record.transact(lambda tx, how=how: again(tx, how))
    with record.snapshot() as snapshot:
        assert [s.text for s in store.history(snapshot, statement.id)] == ["first", "second"]
        assert store.latest(snapshot, statement.id).statement.retired_at is None
    assert events(record) == before


def test_what_is_written_reads_back_as_it_was_given_back(record: Record) -> None:
    given = [draft("مرحبا\nI never 🥜 eat nuts", START, START + 10), draft("plain")]
    written = record.transact(lambda tx: write(tx, store.begin_change(tx, "Ægir 海"), given))
    assert [v.key for v in written] == [d.key for d in given]
    first = written[0].statement
    assert (first.subject, first.text, first.contexts, first.version) == (
        "Ægir 海", "مرحبا\nI never 🥜 eat nuts", ("work", "büro"), 1,
    )  # fmt: skip
    assert first.valid_to == times.to_datetime(START + 10)
    assert written[1].statement.valid_from == written[1].statement.recorded_at
    with record.snapshot() as snapshot:
        for version in written:
            assert store.latest(snapshot, version.statement.id) == version


def test_a_retirement_and_a_revision_keep_their_reasons_in_the_history(record: Record) -> None:
    (statement,) = add(record, "ada", "first")
    revised = revise(record, "ada", statement.id, "second", "learnt more")
    retired = retire(record, "ada", statement.id, "moved away")
    with record.snapshot() as snapshot:
        first, second = store.history(snapshot, statement.id)
    assert (first.text, first.reason, first.retired_at) == (
        "first", None, revised.statement.recorded_at,
    )  # fmt: skip
    assert second == retired
    assert revised.statement.reason == "learnt more"
    assert revised.statement.end_reason is None
    assert (retired.reason, retired.end_reason) == ("learnt more", "moved away")
    assert (first.end_reason, second.end_reason) == (None, "moved away")
    assert retired.retired_at is not None


# Isolation


def test_the_same_subject_name_in_two_tenants_is_two_subjects(record: Record) -> None:
    other = of_tenant(record, "other")
    (here,) = add(record, "ada", "mine")
    (there,) = add(other, "ada", "theirs")
    keys: set[str] = set()
    for held, own, foreign in ((record, here, there), (other, there, here)):
        with held.snapshot() as snapshot:
            found = store.subject(snapshot, "ada")
            assert found is not None
            assert found.revision == 1
            keys.add(found.data_key)
            known = store.as_known(snapshot, found, as_of=times.now())
            assert [v.statement for v in known] == [own]
            assert store.latest(snapshot, own.id).statement == own
            equal = store.equal_statements(
                snapshot, found, [draft("mine").equality, draft("theirs").equality], as_of=0
            )
            assert [v.statement for v in equal.values()] == [own]
            for reading in (store.latest, store.history):
                with pytest.raises(NotFoundError, match="holdfast list"):
                    reading(snapshot, foreign.id)
            assert store.known_ids(snapshot, [here.id, there.id]) == {own.id}
    assert len(keys) == 2, "each has a data key of its own"
    with other.snapshot() as snapshot:
        assert store.subject_names(snapshot) == ["ada"]
    with of_tenant(record, "third").snapshot() as snapshot:
        assert store.subject_names(snapshot) == []


# Looking up


def test_equal_statements_are_those_that_have_not_ended(record: Record) -> None:
    now = times.now()
    old, kept, gone = draft("old", START, START + 10), draft("kept"), draft("gone")
    versions = record.transact(
        lambda tx: write(tx, store.begin_change(tx, "ada"), [old, kept, gone, draft("kept")])
    )
    retire(record, "ada", versions[2].statement.id)
    many = [hashlib.sha256(str(i).encode()).digest() for i in range(1200)]
    with record.snapshot() as snapshot:
        found = store.subject(snapshot, "ada")
        assert found is not None
        wanted = [*many, old.equality, kept.equality, gone.equality]
        equal = store.equal_statements(snapshot, found, wanted, as_of=now)
        assert set(equal) == {kept.equality}
        firsts = {versions[1].statement.id, versions[3].statement.id}
        assert equal[kept.equality].statement.id in firsts
        equal = store.equal_statements(snapshot, found, wanted, as_of=START)
        assert set(equal) == {old.equality, kept.equality}


def test_texts_and_owners_cover_every_version_of_every_tenant(record: Record) -> None:
    add(record, "ada", *(f"words {i}" for i in range(1100)))
    add(of_tenant(record, "other"), "ada", "theirs")
    with record.snapshot() as snapshot:
        owners = store.version_owners(snapshot)
        assert [(owner.tenant, owner.name, len(owner.keys)) for owner in owners] == [
            ("local", "ada", 1100),
            ("other", "ada", 1),
        ]
        keys = [key for owner in owners for key in owner.keys]
        read = store.read_texts(snapshot, [*keys, "unknown"])
        assert {row.key for row in read} == set(keys)
        assert {(row.tenant, row.name, row.text) for row in read} == {
            *(("local", "ada", f"words {i}") for i in range(1100)),
            ("other", "ada", "theirs"),
        }
        sealers = {owner.tenant: snapshot.sealer(owner.data_key) for owner in owners}
        assert all(row.sealer is sealers[row.tenant] for row in read)
        ids = list(snapshot.execute(select(statements.c.id)).scalars())
        own = store.known_ids(snapshot, [*ids, "st_none"])
        assert len(own) == 1100, "those of the other tenant are not known"
        assert own < set(ids)


def test_a_subject_that_is_new_gets_one_data_key_and_keeps_it(record: Record) -> None:
    first = record.transact(lambda tx: store.ensure_subject(tx, "ada"))
    again = record.transact(lambda tx: store.ensure_subject(tx, "ada"))
    assert first == again
    assert first.revision == 0
    add(record, "ada", "first")
    with record.snapshot() as snapshot:
        found = store.subject(snapshot, "ada")
        assert found is not None
        assert (found.key, found.data_key) == (first.key, first.data_key)
        rows = snapshot.execute(text("SELECT count(*) FROM data_keys")).scalar_one()
    assert rows == 3, "ada's, and the ledger's two"


# Sealing


SAID = ("Oranges are my secret", "hidden-context", "channel-nobody-knows", "because-of-aunt-Mary")


def test_nothing_that_was_said_lies_in_the_files_in_the_clear(
    record: Record, tmp_path: Path
) -> None:
    words, context, source, reason = SAID
    new = replace(draft(words), contexts=(context,), source=source)
    (version,) = record.transact(lambda tx: write(tx, store.begin_change(tx, "ada"), [new]))
    revise(record, "ada", version.statement.id, f"{words}, still", f"{reason} once")
    assert retire(record, "ada", version.statement.id, reason).end_reason == reason
    with record.snapshot() as snapshot:
        kept = list(snapshot.execute(select(statements.c.body)).scalars())
    assert len(kept) == 2
    record.database.close()
    content = b"".join(path.read_bytes() for path in tmp_path.glob("test.db*"))
    assert version.key.encode() in content
    for secret in SAID:
        assert secret.encode() not in content
    assert hashlib.sha256(words.encode()).digest() not in content, "nor a hash to guess it by"
    assert embedded(1).matrix.tobytes() not in content


def test_equal_texts_of_two_subjects_have_nothing_in_common_on_disk(record: Record) -> None:
    add(record, "ada", "the same words", "the same words")
    add(record, "bo", "the same words")
    with record.snapshot() as snapshot:
        query = select(statements.c.equality, statements.c.body, vectors_table.c.hash).join(
            vectors_table, vectors_table.c.statement_key == statements.c.key
        )
        rows = snapshot.execute(query.order_by(statements.c.subject_key, statements.c.place)).all()
    first, second, another = rows
    assert first.equality == second.equality
    assert first.equality != another.equality
    assert draft("the same words").equality not in {row.equality for row in rows}
    assert first.hash != another.hash, "of the same vector"
    assert len({row.body for row in rows}) == 3


def alter(record: Record, key: str, **values: Any) -> None:
    """Edit the row of a version, with values of any type, past all that is tested here."""
    with record.database.write() as connection:
        for column, value in values.items():
            edit = text(f"UPDATE statements SET {column} = :value WHERE key = :key")
            connection.execute(edit, {"value": value, "key": key})


def check_damaged(record: Record, version: Version) -> None:
    """No way of reading gives what is not what was sealed there."""
    with record.snapshot() as snapshot:
        found = store.subject(snapshot, version.statement.subject)
        assert found is not None
        for read in (
            lambda: store.latest(snapshot, version.statement.id),
            lambda: store.history(snapshot, version.statement.id),
            lambda: store.as_known(snapshot, found, as_of=times.now(), include_retired=True),
            lambda: store.read_texts(snapshot, [version.key]),
        ):
            with pytest.raises(DamagedError, match="holdfast audit verify") as caught:
                read()
            assert "first" not in str(caught.value)


@pytest.mark.parametrize(
    "what", ["a bit", "cut", "empty", "a neighbour's", "another subject's", "a text", "a number"]
)
def test_a_sealed_text_that_was_altered_is_damaged_and_never_shown(
    record: Record, what: str
) -> None:
    def work(tx: Transaction) -> list[Version]:
        return write(tx, store.begin_change(tx, "ada"), [draft("first"), draft("second")])

    version, neighbour = record.transact(work)
    (other,) = record.transact(lambda tx: write(tx, store.begin_change(tx, "bo"), [draft("first")]))
    with record.snapshot() as snapshot:
        rows = snapshot.execute(select(statements.c.key, statements.c.body))
        bodies = {row.key: row.body for row in rows}
    own = bodies[version.key]
    wrong: Any = {
        "a bit": own[:-1] + bytes([own[-1] ^ 1]),
        "a text": "words",
        "a number": 5,
        "cut": own[:20],
        "empty": b"",
        "a neighbour's": bodies[neighbour.key],
        "another subject's": bodies[other.key],
    }[what]
    alter(record, version.key, body=wrong)
    check_damaged(record, version)
    alter(record, version.key, body=own)
    with record.snapshot() as snapshot:
        assert store.latest(snapshot, version.statement.id) == version


def test_a_body_sealed_for_one_version_is_none_for_another_even_with_its_key(
    record: Record,
) -> None:
    (version,) = record.transact(
        lambda tx: write(tx, store.begin_change(tx, "ada"), [draft("first")])
    )
    with record.snapshot() as snapshot:
        found = store.subject(snapshot, "ada")
        assert found is not None
        sealer = snapshot.sealer(found.data_key)
    alter(record, version.key, body=sealer.seal(b"{}", "statement another"))
    check_damaged(record, version)


def test_a_reason_for_an_end_that_was_altered_is_damaged(record: Record) -> None:
    (statement,) = add(record, "ada", "first")
    retire(record, "ada", statement.id, "moved away")
    with record.snapshot() as snapshot:
        version = store.latest(snapshot, statement.id)
        found = store.subject(snapshot, "ada")
        assert found is not None
        row = snapshot.execute(select(statements.c.end_note)).one()
    alter(record, version.key, end_note=row.end_note[:-1] + bytes([row.end_note[-1] ^ 1]))
    with record.snapshot() as snapshot:
        for read in (store.latest, store.history):
            with pytest.raises(DamagedError):
                read(snapshot, statement.id)
        (before,) = store.as_known(snapshot, found, as_of=times.now(), revision=1)
        assert before.statement == statement, "an answer without the reason does not need it"


# The ledger


def test_each_statement_is_an_event_with_every_column_and_what_was_said(record: Record) -> None:
    given = [draft("first", START, None), draft("second")]

    def work(tx: Transaction) -> list[Version]:
        vectors.register(tx, embedder=EMBEDDER, name="fake", dimensions=DIMENSIONS, scale=200)
        change = store.begin_change(tx, "ada")
        return store.write(tx, change, given, embedded(2), {"decision": {"choice": "tea"}})

    written = record.transact(work)
    first = written[0].statement
    revised = revise(record, "ada", first.id, "first, anew", "learnt")
    retired = retire(record, "ada", first.id, "moved")
    noted, *put, superseded, ended = events(record)
    assert (noted.type, noted.subjects) == ("embedder", ())
    assert [event.type for event in put] == ["statement.put"] * 2
    for place, (event, version) in enumerate(zip(put, written, strict=True)):
        held = version.statement
        assert event.subjects == ("ada",)
        assert event.payload.pop("chain") == [
            {"previous": put[0].id if place else None, "sequence": place + 1}
        ]
        equality = event.payload["statement"].pop("equality")
        with record.snapshot() as snapshot:
            here = statements.c.key == version.key
            stored = snapshot.execute(select(statements.c.equality).where(here)).scalar_one()
        assert bytes.fromhex(equality) == stored
        assert event.payload == {
            "statement": {
                "key": version.key, "id": held.id, "version": 1, "kind": "value",
                "strength": "should", "scope": "topical", "valid_from": held.valid_from.isoformat(),
                "valid_to": None, "recorded_at": held.recorded_at.isoformat(),
                "place": place, "revision": 1,
            },
            "text": held.text, "contexts": ["work", "büro"], "source": "subject", "reason": None,
            "vector": {
                "embedder": EMBEDDER,
                "sha256": hashlib.sha256(embedded(2).matrix[place].tobytes()).hexdigest(),
            },
            "decision": {"choice": "tea"},
        }  # fmt: skip
    assert superseded.type == "statement.supersede"
    again = superseded.payload
    assert (again["text"], again["reason"], again["statement"]["version"]) == (
        "first, anew", "learnt", 2,
    )  # fmt: skip
    at = revised.statement.recorded_at.isoformat()
    assert again["ends"] == {
        "key": written[0].key, "revision": 2, "retired_at": at, "ends_at": None,
    }  # fmt: skip
    assert ended.type == "statement.retire"
    ended.payload.pop("chain")
    assert retired.retired_at is not None
    at = retired.retired_at.isoformat()
    assert ended.payload == {
        "id": first.id, "end_reason": "moved",
        "ends": {"key": revised.key, "revision": 3, "retired_at": at, "ends_at": at},
    }  # fmt: skip


def kept(snapshot: Snapshot, subject: str) -> list[Kept]:
    """The versions of a subject as another record would give them; those below are enough."""
    found = store.subject(snapshot, subject)
    assert found is not None
    sealer = snapshot.sealer(found.data_key)
    result: list[Kept] = []
    for row in store.rows_of_subject(snapshot, found):
        body = open_body(row, sealer)
        ends = None
        if row["retired_at"] is not None:
            reason = end_reason(row, sealer)
            ends = Ends(row["retired_at"], row["revision_to"], row["ends_at"], reason)
        given = draft(body["text"], row["valid_from"], row["valid_to"])
        result.append(
            Kept(
                draft=replace(given, key=row["key"]),
                id=row["id"],
                version=row["version"],
                reason=body["reason"],
                recorded_at=row["recorded_at"],
                revision=row["revision_from"],
                place=row["place"],
                ends=ends,
                vector={"embedder": EMBEDDER, "sha256": "0" * 64},
                decision={"choice": "tea"} if body["text"] == "second" else None,
            )
        )
    return result


def test_versions_that_are_restored_read_as_they_did_and_are_events_in_their_order(
    record: Record, tmp_path: Path
) -> None:
    first, second = add(record, "ada", "first", "second")
    revise(record, "ada", first.id, "first, anew", "learnt")
    retire(record, "ada", second.id, "moved")
    retire(record, "ada", first.id)
    (third,) = add(record, "ada", "third")
    with record.snapshot() as snapshot:
        versions = kept(snapshot, "ada")
        histories = [store.history(snapshot, id_) for id_ in (first.id, second.id, third.id)]
    database = Database(f"sqlite:///{tmp_path / 'another.db'}", place="the test's folder")
    vault = open_vault(database, KeySource(folder=tmp_path / "other keys"))
    another = Record(database, vault, "local")

    def work(tx: Transaction) -> None:
        found = store.ensure_subject(tx, "ada")
        store.restore(tx, found, versions, {"imported": {"from": "here"}})
        store.place_change(tx, Change(found, 5, versions[-1].recorded_at))

    another.transact(work)
    with another.snapshot() as snapshot:
        assert [store.history(snapshot, h[0].id) for h in histories] == histories
        found = store.subject(snapshot, "ada")
        assert found is not None
        assert found.revision == 5
        for revision, texts in enumerate(
            [[], ["first", "second"], ["first, anew", "second"], ["first, anew"], [], ["third"]]
        ):
            held = store.as_known(snapshot, found, as_of=times.now(), revision=revision)
            assert sorted(v.statement.text for v in held) == texts
    told = events(another)
    assert [(event.type, event.payload.get("text")) for event in told] == [
        ("statement.put", "first"), ("statement.put", "second"),
        ("statement.supersede", "first, anew"), ("statement.retire", None),
        ("statement.retire", None), ("statement.put", "third"),
    ]  # fmt: skip
    assert all(event.imported for event in told)
    assert {event.payload["imported"]["from"] for event in told} == {"here"}
    assert [event.payload["decision"] for event in told if "decision" in event.payload] == [
        {"choice": "tea"}
    ]
    mine = [event for event in events(record) if event.type != "embedder"]
    assert [event.payload.get("ends") for event in told] == [
        event.payload.get("ends") for event in mine
    ]
    database.close()


# Writers


def test_writers_in_eight_threads_lose_nothing_and_share_no_revision(record: Record) -> None:
    failures: list[BaseException] = []
    revisions: list[tuple[str, int]] = []
    start = threading.Barrier(8)

    def change_once(tx: Transaction, subject: str, words: str) -> int:
        change = store.begin_change(tx, subject)
        write(tx, change, [draft(words)])
        return change.revision

    def work(hand: int) -> None:
        try:
            start.wait(10)
            for number in range(12):
                subject, words = f"subject {number % 2}", f"words {hand} {number}"
                revision = record.transact(
                    lambda tx, subject=subject, words=words: change_once(tx, subject, words)
                )
                revisions.append((subject, revision))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(hand,)) for hand in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(revisions) == [(f"subject {i}", n) for i in (0, 1) for n in range(1, 49)]
    with record.snapshot() as snapshot:
        owners = store.version_owners(snapshot)
        read = store.read_texts(snapshot, [key for owner in owners for key in owner.keys])
        stored = {row.text for row in read}
        recorded = snapshot.execute(text("SELECT subject_key, recorded_at FROM statements")).all()
    assert stored == {f"words {hand} {number}" for hand in range(8) for number in range(12)}
    assert len(set(recorded)) == 96
    told = events(record)
    assert [event.index for event in told] == list(range(97)), "96 and the embedder, no gap"
    for subject in ("subject 0", "subject 1"):
        own = [event for event in told if event.subjects == (subject,)]
        previous = [None, *(event.id for event in own)]
        assert [event.payload["chain"] for event in own] == [
            [{"previous": previous[i], "sequence": i + 1}] for i in range(48)
        ]


def test_a_failing_write_leaves_nothing(record: Record) -> None:
    (kept_one,) = add(record, "ada", "first")
    before = events(record)

    def fail(tx: Transaction) -> None:
        change = store.begin_change(tx, "ada")
        write(tx, change, [draft("second")])
        store.retire(tx, change, store.latest(tx, kept_one.id), None)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        record.transact(fail)
    with record.snapshot() as snapshot:
        found = store.subject(snapshot, "ada")
        assert found is not None
        assert found.revision == 1
        held = store.as_known(snapshot, found, as_of=times.now())
        assert [v.statement for v in held] == [kept_one]
        assert snapshot.execute(text("SELECT count(*) FROM vectors")).scalar_one() == 1
    assert events(record) == before
