"""The record's two time axes against their law, in plain Python, and all queries on statements."""

import hashlib
import itertools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from holdfast.memory import store, times
from holdfast.memory.database import Database
from holdfast.memory.errors import InvalidInputError, NotFoundError
from holdfast.memory.identifiers import new_key
from holdfast.memory.models import Statement
from holdfast.memory.store import Draft

TENANT = "local"
START = 1_000_000_000_000_000  # microseconds: September 2001


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


def add(database: Database, subject: str, *words: str, tenant: str = TENANT) -> list[Statement]:
    with database.write() as connection:
        change = store.begin_change(connection, tenant, subject)
        found = store.write(connection, tenant, change, [draft(each) for each in words])
    return [version.statement for version in found]


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """One database for all examples of a property; each has a subject of its own."""
    path = tmp_path_factory.mktemp("record") / "test.db"
    database = Database(f"sqlite:///{path}", place="the test's folder")
    yield database
    database.close()


# The law, in plain Python


@dataclass
class Kept:
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

    kept: list[Kept]
    changed_at: int = 0
    revision: int = 0

    def begin(self, now: int) -> None:
        self.changed_at = max(now, self.changed_at + 1)
        self.revision += 1

    def newest(self, statement: int) -> Kept:
        return [kept for kept in self.kept if kept.statement == statement][-1]

    def open(self) -> list[int]:
        every = dict.fromkeys(kept.statement for kept in self.kept)
        return [statement for statement in every if self.newest(statement).retired_at is None]

    def close(self, statement: int, ends_at: int | None) -> None:
        newest = self.newest(statement)
        newest.retired_at, newest.revision_to = self.changed_at, self.revision
        newest.ends_at = ends_at

    def known(self, known_at: int | None, revision: int | None) -> "list[Kept]":
        """The versions as they were known: without ends that were recorded later."""
        result: list[Kept] = []
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

    def holding(self, at: int, known_at: int | None, revision: int | None) -> list[Kept]:
        known = self.known(known_at, revision)
        result: list[Kept] = []
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

    def last_begun(self, at: int, known_at: int | None, revision: int | None) -> list[Kept]:
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

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.subject = f"subject {next(NUMBERS)}"
        self.model = Model([])
        self.ids: list[str] = []

    def do(self, kind: str, now: int, begins: int | None, lasts: int | None, which: int) -> None:
        model, number = self.model, len(self.model.kept)
        open_ = model.open()
        statement = open_[which % len(open_)] if open_ else None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(times, "now", lambda: now)
            change = store.begin_change(self.connection, TENANT, self.subject)
        model.begin(now)
        assert (change.at, change.revision) == (model.changed_at, model.revision)
        if kind == "retire" and statement is not None:
            old = store.latest(self.connection, TENANT, self.ids[statement])
            store.retire(self.connection, TENANT, change, old, f"reason {number}")
            model.close(statement, model.changed_at)
            return
        valid_from = None if begins is None else now + begins
        at = model.changed_at if valid_from is None else valid_from
        valid_to = None if lasts is None else at + lasts
        new = draft(f"text {number}", valid_from, valid_to)
        if kind == "revise" and statement is not None:
            old = store.latest(self.connection, TENANT, self.ids[statement])
            store.revise(self.connection, TENANT, change, old, new, None)
            version = model.newest(statement).version + 1
            model.close(statement, None)
        else:
            statement, version = len(self.ids), 1
            (written,) = store.write(self.connection, TENANT, change, [new])
            self.ids.append(written.statement.id)
        model.kept.append(
            Kept(
                statement, version, new.text, model.changed_at, model.revision, at, valid_to
            )
        )  # fmt: skip

    def asked(self, **how: Any) -> list[Statement]:
        found = store.subject(self.connection, TENANT, self.subject)
        assert found is not None
        return [v.statement for v in store.as_known(self.connection, found, **how)]

    def said(self, kept: Sequence[Kept]) -> set[tuple[Any, ...]]:
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
    record: Database, steps: list[Any], data: st.DataObject
) -> None:
    with record.write() as connection:
        run, now = Run(connection), START
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
    record: Database, steps: list[Any], moments: list[int]
) -> None:
    with record.write() as connection:
        run, now = Run(connection), START
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
    record: Database, steps: list[Any]
) -> None:
    with record.write() as connection:
        run, now = Run(connection), START
        for kind, tick, *rest in steps:
            now += tick
            run.do(kind, now, *rest)
        found = store.subject(connection, TENANT, run.subject)
        assert found is not None
        for at in run.model.moments():
            ends = store.next_boundary(connection, found, after=at)
            assert ends is None or ends > at
            held = run.said(run.model.holding(at, None, None))
            for later in run.model.moments():
                if at < later and (ends is None or later < ends):
                    assert run.said(run.model.holding(later, None, None)) == held


# Changes


def test_record_time_rises_strictly_also_when_the_clock_is_set_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [START, START, START - 3_600_000_000, START + 5]
    recorded: list[Any] = []
    for number, now in enumerate(clock):
        monkeypatch.setattr(times, "now", lambda now=now: now)
        recorded += [s.recorded_at for s in add(database, "ada", f"words {number}")]
    assert [times.to_micros(t) - START for t in recorded] == [0, 1, 2, 5]


def test_every_change_raises_the_revision_of_its_subject_alone_by_one(database: Database) -> None:
    (statement,) = add(database, "ada", "first")
    add(database, "bo", "other")
    with database.write() as connection:
        change = store.begin_change(connection, TENANT, "ada")
        old = store.latest(connection, TENANT, statement.id)
        store.revise(connection, TENANT, change, old, draft("second"), "better")
    with database.write() as connection:
        change = store.begin_change(connection, TENANT, "ada")
        old = store.latest(connection, TENANT, statement.id)
        store.retire(connection, TENANT, change, old, None)
    add(database, "ada", "third", "fourth")  # one change, however much is in it
    with database.read() as connection:
        ada, bo = (store.subject(connection, TENANT, name) for name in ("ada", "bo"))
        assert ada is not None
        assert bo is not None
        assert (ada.revision, bo.revision) == (4, 1)
        assert store.subject(connection, TENANT, "nobody") is None


@pytest.mark.parametrize(("begins", "ends"), [(START, START), (START, START - 1), (None, START)])
def test_what_would_end_before_it_begins_is_refused_and_nothing_is_stored(
    database: Database, begins: int | None, ends: int
) -> None:
    def write() -> None:
        with database.write() as connection:
            change = store.begin_change(connection, TENANT, "ada")
            store.write(connection, TENANT, change, [draft("first"), draft("no", begins, ends)])

    with pytest.raises(InvalidInputError, match="give both in order"):
        write()
    with database.read() as connection:
        assert store.subject(connection, TENANT, "ada") is None
        assert store.version_owners(connection) == []
    (kept,) = add(database, "ada", "first")

    def revise() -> None:
        with database.write() as connection:
            change = store.begin_change(connection, TENANT, "ada")
            old = store.latest(connection, TENANT, kept.id)
            store.revise(connection, TENANT, change, old, draft("no", begins, ends), None)

    with pytest.raises(InvalidInputError, match="give both in order"):
        revise()
    with database.read() as connection:
        assert store.history(connection, TENANT, kept.id) == [kept]
        found = store.subject(connection, TENANT, "ada")
        assert found is not None
        assert found.revision == 1


def test_a_version_that_was_closed_meanwhile_is_not_closed_again(database: Database) -> None:
    (statement,) = add(database, "ada", "first")
    with database.write() as connection:
        stale = store.latest(connection, TENANT, statement.id)
        change = store.begin_change(connection, TENANT, "ada")
        store.revise(connection, TENANT, change, stale, draft("second"), None)

    def again(how: str) -> None:
        with database.write() as connection:
            change = store.begin_change(connection, TENANT, "ada")
            if how == "retire":
                store.retire(connection, TENANT, change, stale, None)
            else:
                store.revise(connection, TENANT, change, stale, draft("third"), None)

    for how in ("retire", "revise"):
        with pytest.raises(InvalidInputError, match="meanwhile"):
            again(how)
    with database.read() as connection:
        assert [s.text for s in store.history(connection, TENANT, statement.id)] == [
            "first", "second",
        ]  # fmt: skip
        assert store.latest(connection, TENANT, statement.id).statement.retired_at is None


def test_what_is_written_reads_back_as_it_was_given_back(database: Database) -> None:
    with database.write() as connection:
        change = store.begin_change(connection, TENANT, "Ægir 海")
        given = [draft("مرحبا\nI never 🥜 eat nuts", START, START + 10), draft("plain")]
        written = store.write(connection, TENANT, change, given)
    assert [v.key for v in written] == [d.key for d in given]
    first = written[0].statement
    assert (first.subject, first.text, first.contexts, first.version) == (
        "Ægir 海", "مرحبا\nI never 🥜 eat nuts", ("work", "büro"), 1,
    )  # fmt: skip
    assert first.valid_to == times.to_datetime(START + 10)
    assert written[1].statement.valid_from == written[1].statement.recorded_at
    with database.read() as connection:
        for version in written:
            assert store.latest(connection, TENANT, version.statement.id) == version


def test_a_retirement_and_a_revision_keep_their_reasons_in_the_history(database: Database) -> None:
    (statement,) = add(database, "ada", "first")
    with database.write() as connection:
        change = store.begin_change(connection, TENANT, "ada")
        old = store.latest(connection, TENANT, statement.id)
        revised = store.revise(connection, TENANT, change, old, draft("second"), "learnt more")
    with database.write() as connection:
        change = store.begin_change(connection, TENANT, "ada")
        retired = store.retire(connection, TENANT, change, revised, "moved away")
    with database.read() as connection:
        first, second = store.history(connection, TENANT, statement.id)
    assert (first.text, first.reason, first.retired_at) == (
        "first", None, revised.statement.recorded_at,
    )  # fmt: skip
    assert second == retired
    assert revised.statement.reason == "learnt more"
    assert retired.reason == "moved away"
    assert retired.retired_at is not None


# Isolation


def test_the_same_subject_name_in_two_tenants_is_two_subjects(database: Database) -> None:
    (here,) = add(database, "ada", "mine")
    (there,) = add(database, "ada", "theirs", tenant="other")
    with database.read() as connection:
        for tenant, own, foreign in ((TENANT, here, there), ("other", there, here)):
            found = store.subject(connection, tenant, "ada")
            assert found is not None
            assert found.revision == 1
            held = store.as_known(connection, found, as_of=times.now())
            assert [v.statement for v in held] == [own]
            assert store.latest(connection, tenant, own.id).statement == own
            equal = store.equal_statements(
                connection, found, [draft("mine").equality, draft("theirs").equality], as_of=0
            )
            assert [v.statement for v in equal.values()] == [own]
            for reading in (store.latest, store.history):
                with pytest.raises(NotFoundError, match="holdfast list"):
                    reading(connection, tenant, foreign.id)
        assert store.subject_names(connection, "other") == ["ada"]
        assert store.subject_names(connection, "third") == []


# Looking up


def test_equal_statements_are_those_that_have_not_ended(database: Database) -> None:
    now = times.now()
    old, kept, gone = draft("old", START, START + 10), draft("kept"), draft("gone")
    with database.write() as connection:
        change = store.begin_change(connection, TENANT, "ada")
        versions = store.write(connection, TENANT, change, [old, kept, gone, draft("kept")])
    with database.write() as connection:
        change = store.begin_change(connection, TENANT, "ada")
        store.retire(connection, TENANT, change, versions[2], None)
    many = [hashlib.sha256(str(i).encode()).digest() for i in range(1200)]
    with database.read() as connection:
        found = store.subject(connection, TENANT, "ada")
        assert found is not None
        wanted = [*many, old.equality, kept.equality, gone.equality]
        equal = store.equal_statements(connection, found, wanted, as_of=now)
        assert set(equal) == {kept.equality}
        firsts = {versions[1].statement.id, versions[3].statement.id}
        assert equal[kept.equality].statement.id in firsts
        equal = store.equal_statements(connection, found, wanted, as_of=START)
        assert set(equal) == {old.equality, kept.equality}


def test_texts_and_owners_cover_every_version_of_every_tenant(database: Database) -> None:
    add(database, "ada", *(f"words {i}" for i in range(1100)))
    add(database, "ada", "theirs", tenant="other")
    with database.read() as connection:
        owners = store.version_owners(connection)
        assert [(tenant, name, len(keys)) for tenant, name, keys in owners] == [
            (TENANT, "ada", 1100),
            ("other", "ada", 1),
        ]
        keys = [key for _, _, each in owners for key in each]
        read = store.read_texts(connection, [*keys, "unknown"])
        assert {row.key for row in read} == set(keys)
        assert {(row.tenant, row.name, row.text) for row in read} == {
            *((TENANT, "ada", f"words {i}") for i in range(1100)),
            ("other", "ada", "theirs"),
        }


# Writers


def test_writers_in_eight_threads_lose_nothing_and_share_no_revision(database: Database) -> None:
    failures: list[BaseException] = []
    revisions: list[tuple[str, int]] = []
    start = threading.Barrier(8)

    def work(hand: int) -> None:
        try:
            start.wait(10)
            for number in range(12):
                subject = f"subject {number % 2}"
                with database.write() as connection:
                    change = store.begin_change(connection, TENANT, subject)
                    store.write(connection, TENANT, change, [draft(f"words {hand} {number}")])
                    revisions.append((subject, change.revision))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(hand,)) for hand in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(revisions) == [(f"subject {i}", n) for i in (0, 1) for n in range(1, 49)]
    with database.read() as connection:
        owners = store.version_owners(connection)
        read = store.read_texts(connection, [key for _, _, keys in owners for key in keys])
        stored = {row.text for row in read}
        recorded = connection.execute(text("SELECT subject_key, recorded_at FROM statements")).all()
    assert stored == {f"words {hand} {number}" for hand in range(8) for number in range(12)}
    assert len(set(recorded)) == 96


def test_a_failing_write_leaves_nothing(database: Database) -> None:
    (kept,) = add(database, "ada", "first")

    def fail() -> None:
        with database.write() as connection:
            change = store.begin_change(connection, TENANT, "ada")
            store.write(connection, TENANT, change, [draft("second")])
            store.retire(
                connection, TENANT, change, store.latest(connection, TENANT, kept.id), None
            )
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with database.read() as connection:
        found = store.subject(connection, TENANT, "ada")
        assert found is not None
        assert found.revision == 1
        held = store.as_known(connection, found, as_of=times.now())
        assert [v.statement for v in held] == [kept]
