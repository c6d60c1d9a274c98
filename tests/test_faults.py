"""Killed or interrupted at any moment, what was acknowledged is there and nothing is half there.

``HOLDFAST_TEST_KILLS`` sets how often a working process is killed.
"""

import multiprocessing
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import open_with
from crashing import PRELOADED, Order, work
from fakes import FakeEmbedder
from sqlalchemy import text

from holdfast import Holdfast
from holdfast.memory.checkpoint import read_key
from holdfast.memory.verifier import verify_bundle
from holdfast.retrieval.embedder import BundledEmbedder

KILLS = int(os.environ.get("HOLDFAST_TEST_KILLS", "20"))
SEED = int(os.environ.get("HOLDFAST_TEST_SEED", "2"))
LONGEST = 0.7  # seconds from the start of a worker's writing, or opening, to its end
ROUNDS_A_PLACE = 50  # every check reads the whole record, so a directory is not used for ever


@dataclass
class Model:
    """What a directory must hold by what was acknowledged."""

    versions: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    subjects: dict[str, str] = field(default_factory=dict[str, str])
    retired: set[str] = field(default_factory=set[str])
    decisions: dict[str, tuple[str, tuple[str, ...]]] = field(
        default_factory=dict[str, tuple[str, tuple[str, ...]]]
    )
    evidence: dict[str, tuple[str, list[str]]] = field(
        default_factory=dict[str, tuple[str, list[str]]]
    )
    checkpoints: list[str] = field(default_factory=list[str])
    forgotten: dict[str, str] = field(default_factory=dict[str, str])

    def in_force(self) -> dict[str, list[str]]:
        """Give what the next worker may revise: nothing but plain statements."""
        found: dict[str, list[str]] = {}
        for id_, subject in self.subjects.items():
            if id_ not in self.retired and id_ not in self.decisions:
                found.setdefault(subject, []).append(id_)
        return {subject: ids[-60:] for subject, ids in found.items()}


@dataclass
class Heard:
    """What a worker told before it died."""

    begun: dict[Any, tuple[str, str, list[str]]] = field(default_factory=dict[Any, Any])
    done: dict[Any, tuple[str, list[Any]]] = field(default_factory=dict[Any, Any])
    opened: bool = False

    def note(self, what: tuple[Any, ...]) -> None:
        if what[0] == "open":
            self.opened = True
        elif what[0] == "begin":
            self.begun[what[1]] = what[2:]
        elif what[0] == "done":
            self.done[what[1]] = what[2:]

    @property
    def cut_off(self) -> list[tuple[str, str, list[str]]]:
        """What had begun and was not acknowledged."""
        return [begun for number, begun in self.begun.items() if number not in self.done]


def killed_at_work(order: Order, chance: random.Random, *, opening: bool) -> Heard:
    """Let a worker work, kill it at a random moment, and give what it told."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(order, theirs))
    process.start()
    theirs.close()
    heard = Heard()
    try:
        assert ours.poll(60), "the worker did not start"
        heard.note(ours.recv())
        while not opening and not heard.opened:
            assert ours.poll(60), "the worker did not open the directory"
            heard.note(ours.recv())
        deadline = time.monotonic() + chance.uniform(0, 0.12 if opening else LONGEST)
        while (left := deadline - time.monotonic()) > 0:
            if ours.poll(left):
                heard.note(ours.recv())
    finally:
        process.kill()
        process.join()
    _drain(ours, heard)
    return heard


def _drain(pipe: Connection, heard: Heard) -> None:
    try:
        while True:
            heard.note(pipe.recv())
    except EOFError:
        pipe.close()


def take_over(model: Model, heard: Heard) -> None:
    """Note in the model what was acknowledged."""
    for number, (operation, result) in heard.done.items():
        subject = heard.begun[number][1]
        for item in result:
            if operation in ("add", "add_many"):
                model.versions[item[0]] = [item[1]]
                model.subjects[item[0]] = subject
            elif operation == "decide":
                model.decisions[item[0]] = item[1:]
                model.subjects[item[0]] = subject
            elif operation == "revise":
                model.versions[item[0]].append(item[2])
                assert len(model.versions[item[0]]) == item[1]
            elif operation == "retire":
                model.retired.add(item)
            elif operation == "checkpoint":
                model.checkpoints.append(item)
            elif operation == "forget":
                forget(model, subject, item)
            else:
                model.evidence[item[0]] = item[1:]


def forget(model: Model, subject: str, text: str) -> None:
    """Note in the model that a subject was erased, which had said this."""
    model.forgotten[subject] = text
    for id_ in [id_ for id_, whose in model.subjects.items() if whose == subject]:
        del model.subjects[id_], model.versions[id_]


def check_cut_off(model: Model, heard: Heard, holdfast: Holdfast) -> None:
    """What was begun and not acknowledged is there as a whole, or not at all."""
    for operation, subject, about in heard.cut_off:
        if operation in ("add", "add_many", "decide"):
            texts = {s.text: s for s in holdfast.statements(subject)}
            if operation == "decide":
                texts = {d.situation: d.statement for d in holdfast.decisions(subject)}
            stored = [texts[given] for given in about if given in texts]
            assert len(stored) in (0, len(about)), f"{operation} was stored by half"
            for statement in stored:
                model.subjects[statement.id] = subject
                if operation == "decide":
                    (decision,) = [d for d in holdfast.decisions(subject) if d.id == statement.id]
                    weighed = tuple(w.statement_id for w in decision.weighed)
                    model.decisions[statement.id] = (decision.situation, weighed)
                else:
                    model.versions[statement.id] = [statement.text]
        elif operation == "revise":
            found = [version.text for version in holdfast.history(about[0])]
            before = model.versions[about[0]]
            assert found in (before, [*before, about[1]])
            model.versions[about[0]] = found
        elif operation == "retire" and holdfast.statement(about[0]).retired_at is not None:
            model.retired.add(about[0])
        elif operation == "forget" and subject not in holdfast.subjects():
            forget(model, subject, about[0])


def check_acknowledged(model: Model, holdfast: Holdfast) -> None:
    """Every acknowledged write is there, and nothing else."""
    found = {
        statement.id: statement
        for subject in holdfast.subjects()
        for statement in holdfast.statements(subject, include_retired=True)
    }
    assert set(found) == set(model.subjects)
    for id_, texts in model.versions.items():
        assert found[id_].text == texts[-1]
        assert found[id_].version == len(texts)
        assert (found[id_].retired_at is not None) == (id_ in model.retired)
        if len(texts) > 1:
            assert [version.text for version in holdfast.history(id_)] == texts
    decided = {d.id: d for subject in holdfast.subjects() for d in holdfast.decisions(subject)}
    assert set(decided) == set(model.decisions)
    for id_, (situation, weighed) in model.decisions.items():
        assert decided[id_].situation == situation
        assert tuple(w.statement_id for w in decided[id_].weighed) == weighed


def check_evidence(model: Model, holdfast: Holdfast, ids: list[str]) -> None:
    """Acknowledged evidence is what the caller was given, and replays the same."""
    for id_ in ids:
        context, injected = model.evidence[id_]
        explanation = holdfast.explain(id_)
        assert explanation.retrieval.context == context
        assert [c.statement.id for c in explanation.retrieval.injected] == injected
        replay = holdfast.replay(id_)
        assert replay.same, replay


def check_ledger(model: Model, holdfast: Holdfast, ids: list[str], notes: list[str]) -> None:
    """Acknowledged evidence is proved to be in the ledger, which continues every checkpoint."""
    if not holdfast.audit.verifier_key:
        assert not model.subjects
        return
    key = read_key(holdfast.audit.verifier_key)
    for id_ in ids:
        assert verify_bundle(holdfast.audit.bundle(id_), key).verdict == "VERIFIED"
    (last,) = holdfast.audit.events(limit=1)
    for told in notes:
        bundle = holdfast.audit.bundle(last.id, since=told)
        assert verify_bundle(bundle, key, since=told).entries[0].index == last.index
    holdfast.audit.checkpoint()
    verified = holdfast.verify(checkpoint=notes[-1] if notes else None)
    assert verified, verified
    assert verified.covered == verified.checked


def check_erased(model: Model, holdfast: Holdfast) -> None:
    """Of a subject that was erased, no vector is in any file."""
    assert not set(model.forgotten) & set(holdfast.subjects())
    vectors = holdfast._library.quantised(list(model.forgotten.values()))
    parts = [row.astype(np.float32).tobytes()[:128] for row in vectors]
    for path in holdfast.settings.data.rglob("*"):
        raw = path.read_bytes() if path.is_file() else b""
        assert not any(part in raw for part in parts), path.name


HALF_THERE = {
    "a version without its vector": """
        SELECT s.key FROM statements s LEFT JOIN vectors v ON v.statement_key = s.key
        WHERE v.statement_key IS NULL""",
    "a decision without its parts": """
        SELECT s.key FROM statements s LEFT JOIN decisions d ON d.statement_key = s.key
        WHERE s.kind = 'decision' AND d.statement_key IS NULL""",
    "a revision number that no change has": """
        WITH used AS (SELECT subject_key, revision_from AS r FROM statements
                      UNION SELECT subject_key, revision_to FROM statements
                      WHERE revision_to IS NOT NULL)
        SELECT u.name FROM subjects u LEFT JOIN used ON used.subject_key = u.key
        GROUP BY u.key HAVING coalesce(max(r), 0) <> u.revision OR count(r) <> u.revision""",
    "a statement with two open versions, or a gap": """
        SELECT id FROM statements GROUP BY tenant, id
        HAVING max(version) <> count(*) OR sum(retired_at IS NULL) > 1
        OR sum(retired_at IS NULL) + sum(ends_at IS NOT NULL) <> 1""",
    "a ledger whose size is not the number of its leaves": """
        SELECT tenant FROM ledgers l
        WHERE size <> (SELECT count(*) FROM ledger e WHERE e.tenant = l.tenant)
        OR size <> (SELECT max(position) + 1 FROM ledger e WHERE e.tenant = l.tenant)""",
    "a payload without its leaf": """
        SELECT p.position FROM payloads p LEFT JOIN ledger l
        ON l.tenant = p.tenant AND l.position = p.position WHERE l.position IS NULL""",
}


def check_nothing_half_there(holdfast: Holdfast) -> None:
    with holdfast._database.read() as connection:
        for what, query in HALF_THERE.items():
            assert connection.execute(text(query)).all() == [], what
    verification = holdfast.verify()
    assert verification.ok, verification


def check_doctor_mends(holdfast: Holdfast) -> Counter[str]:
    """One run mends what the kill left, a second one finds nothing; gives what was found."""
    report = holdfast.doctor()
    assert report.problems == []
    assert {k: n for k, n in report.findings.items() if n != report.mended.get(k, 0)} == {}
    again = holdfast.doctor()
    assert not any(again.findings.values()), again
    assert again.ok
    return Counter(report.findings)


@dataclass
class Place:
    """A directory that workers die on, round after round."""

    path: Path
    model: Model
    embedder: Any


def test_a_process_killed_at_any_moment_loses_nothing_acknowledged_and_leaves_nothing_half_done(
    tmp_path: Path,
) -> None:
    chance = random.Random(SEED)
    embedders: dict[bool, Any] = {False: FakeEmbedder(), True: BundledEmbedder()}
    places: dict[tuple[int, bool], Place] = {}
    totals: Counter[str] = Counter()
    left: Counter[str] = Counter()
    started = time.monotonic()
    for round_ in range(KILLS):
        opening = round_ % 8 == 7  # killed while it opens the directory, half of them a new one
        name = (round_ // ROUNDS_A_PLACE, bundled := round_ % 5 == 4)
        if name not in places:
            path = tmp_path / f"{name[0]}-{bundled}"
            places[name] = Place(path, Model(), embedders[bundled])
        place = places[name]
        if round_ % 16 == 15:
            place = Place(tmp_path / f"new-{round_}", Model(), embedders[bundled])
        threads = chance.choice((1, 1, 3))
        known = place.model.in_force()
        order = Order(place.path, SEED * 100_000 + round_, threads, bundled, known)
        heard = killed_at_work(order, chance, opening=opening)
        with open_with(place.embedder, place.path, lock_timeout=0) as holdfast:
            recorded, kept = set(place.model.evidence), len(place.model.checkpoints)
            take_over(place.model, heard)
            check_cut_off(place.model, heard, holdfast)
            check_nothing_half_there(holdfast)
            check_acknowledged(place.model, holdfast)
            new = sorted(set(place.model.evidence) - recorded)
            check_evidence(place.model, holdfast, new)
            check_ledger(place.model, holdfast, new, place.model.checkpoints[kept:])
            check_erased(place.model, holdfast)
            left += check_doctor_mends(holdfast)
            check_nothing_half_there(holdfast)
        totals["acknowledged"] += len(heard.done)
        totals.update(f"cut off in {operation}" for operation, _, _ in heard.cut_off)
        totals["cut off while opening"] += not heard.opened
    for place in places.values():
        with open_with(place.embedder, place.path, lock_timeout=0) as holdfast:
            check_acknowledged(place.model, holdfast)
            check_evidence(place.model, holdfast, sorted(place.model.evidence))
            check_ledger(place.model, holdfast, [], place.model.checkpoints)
            check_erased(place.model, holdfast)
            totals["checkpoints"] += len(place.model.checkpoints)
            totals["erased subjects"] += len(place.model.forgotten)
            totals["statements"] += len(place.model.subjects)
            totals["evidence"] += len(place.model.evidence)
            check_doctor_mends(holdfast)
    shown = ", ".join(f"{count} {what}" for what, count in sorted(totals.items()))
    mended = ", ".join(f"{count} {what}" for what, count in sorted(left.items())) or "nothing"
    print(  # noqa: T201 - shown by pytest -s
        f"\n{KILLS} kills in {time.monotonic() - started:.0f} s: {shown}; "
        f"doctor found and mended: {mended}"
    )
    if KILLS >= 20:
        assert totals["acknowledged"] > KILLS / 2
        assert sum(n for what, n in totals.items() if what.startswith("cut off in")) > KILLS / 2


class Interrupted(FakeEmbedder):
    """Is interrupted with Ctrl-C while it embeds the text that says so."""

    armed = True

    def embed(self, texts: Any, **how: Any) -> Any:
        if self.armed and any("Interrupt here" in each for each in texts):
            raise KeyboardInterrupt
        return super().embed(texts, **how)


def test_an_interrupt_while_embedding_stores_nothing_and_the_engine_goes_on(
    tmp_path: Path,
) -> None:
    embedder = Interrupted()
    with open_with(embedder, tmp_path / "data") as holdfast:
        kept = holdfast.add("ada", "I keep the evening free for my children.")[0]
        texts = [f"I never schedule a call before {n} o'clock." for n in range(600)]
        texts[-1] = "Interrupt here."
        with pytest.raises(KeyboardInterrupt):
            holdfast.add_many("ada", texts, split=False)
        assert holdfast.statements("ada") == [kept]
        check_nothing_half_there(holdfast)
        found = check_doctor_mends(holdfast)
        assert found["orphaned in Chroma"] == 512  # two batches lay in Chroma, no row anywhere
        embedder.armed = False
        assert len(holdfast.add_many("ada", texts, split=False)) == 600
        assert holdfast.retrieve("ada", "a call at 9 o'clock").evidence_id
        assert not any(holdfast.doctor().findings.values())


def test_an_interrupt_inside_the_transaction_undoes_all_of_it(
    fake: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    kept = fake.add("ada", "I keep the evening free for my children.")[0]
    with monkeypatch.context() as patched:
        patched.setattr("holdfast.memory.vectors.save", interrupt)
        for write in (
            lambda: fake.add("ada", "I never eat nuts."),
            lambda: fake.revise(kept.id, "I keep Sundays free."),
            lambda: fake.decide("ada", situation="An offer", choice="no", reason="it is too far"),
        ):
            with pytest.raises(KeyboardInterrupt):
                write()
    with monkeypatch.context() as patched:
        patched.setattr("holdfast.memory.ledger.append", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fake.retrieve("ada", "evening plans")
    assert fake.statements("ada") == [kept]
    assert fake.evidence() == []
    check_nothing_half_there(fake)
    check_doctor_mends(fake)
    assert fake.add("ada", "I never eat nuts.")[0].text == "I never eat nuts."


def test_threads_erase_beside_threads_that_write_and_none_of_them_fails(fake: Holdfast) -> None:
    failures: list[BaseException] = []

    def write(hand: int) -> None:
        for n in range(25):
            fake.add(f"writer {hand}", f"I never skip walk {n}.")
            assert fake.retrieve(f"writer {hand}", f"the walk of day {n}").evidence_id

    def erase(hand: int) -> None:
        for n in range(12):
            fake.add(f"gone {hand} {n}", "I was here.")
            fake.erase(f"gone {hand} {n}")

    def attempt(what: Callable[[int], None], hand: int) -> None:
        try:
            what(hand)
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=attempt, args=(what, hand))
        for what in (write, erase)
        for hand in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert fake.subjects() == [f"writer {hand}" for hand in range(3)]
    assert all(len(fake.statements(subject)) == 25 for subject in fake.subjects())
    check_nothing_half_there(fake)
    check_doctor_mends(fake)


def test_threads_that_write_and_read_at_once_lose_nothing(fake: Holdfast) -> None:
    failures: list[BaseException] = []

    def write(hand: int) -> None:
        try:
            for n in range(12):
                statement = fake.add("ada", f"I never skip walk {hand} of day {n}.")[0]
                fake.revise(statement.id, f"I never skip run {hand} of day {n}.")
                assert fake.retrieve(["ada", "bo"], f"the run of day {n}").evidence_id
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(hand,)) for hand in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    expected = {f"I never skip run {hand} of day {n}." for hand in range(4) for n in range(12)}
    assert {s.text for s in fake.statements("ada")} == expected
    assert len(fake.evidence(limit=None)) == 48
    check_nothing_half_there(fake)
    assert all(fake.replay(entry.id).same for entry in fake.evidence(limit=None))
