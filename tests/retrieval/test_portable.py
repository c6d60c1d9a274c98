"""A subject's record goes elsewhere and comes back: the same document, the same answers."""

import copy
import hashlib
import itertools
import json
import random
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import tampering
from conftest import open_with
from fakes import FakeEmbedder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast import Holdfast
from holdfast.memory.canonical import canonical
from holdfast.memory.errors import HoldfastError, InvalidInputError, NotFoundError, ReadOnlyError
from holdfast.memory.models import Statement

Document = dict[str, Any]
MICROSECOND = timedelta(microseconds=1)


def tell(hf: Holdfast, subject: str = "ada") -> None:
    """Let a subject say, revise, decide, retire and confirm; both time axes and every field."""
    trains, nuts = hf.add_many(
        subject, ["I love night trains", "I never eat nuts"], split=False,
        contexts=["travel", "work"], source="voice: kitchen",
    )  # fmt: skip
    hf.add(subject, "I live in Rome.", valid_from="2020-01-01", valid_to="2024-06-01")
    hf.add(subject, "I move to Oslo.", valid_from="2100-01-01", kind="goal", strength="must")
    hf.add(subject, "Be blunt with me.", scope="always", kind="value", strength="should")
    hf.revise(trains.id, "I love night trains to Rome", reason="been there")
    hf.decide(
        subject, situation="Two jobs\nin March", choice="the smaller team",
        reason="I work best where I know everyone.", weighed=[trains.id, nuts.id],
    )  # fmt: skip
    hf.revise(trains.id, contexts=[], valid_from="2021-05-05T05:05:05+02:00", reason="a slip")
    hf.retire(nuts.id, reason="grown out of it")
    hf.revise(trains.id, kind="value", valid_to="2099-12-31")
    offered = hf.propose(
        subject,
        "I like boats.\n\nI like buses.\n\nI like cats.",
        source="model:x",
        contexts=["sea"],
    )
    hf.confirm(offered[0].id)
    hf.reject(offered[1].id)
    hf.decide(subject, situation="Lunch", choice="soup", reason="warm")
    hf.retire(hf.add(subject, "I like fog.")[0].id)


def written(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False)


def moments(document: Document) -> list[datetime]:
    """Give every time in a document, and the moments before and after it."""
    times = {
        datetime.fromisoformat(t) for t in re.findall(r'"(\d{4}-[^"]+:00)"', written(document))
    }
    near = {t + step for t in times for step in (-MICROSECOND, timedelta(), MICROSECOND)}
    return [*sorted(near), datetime.now(UTC) + timedelta(days=1)]


def seen(hf: Holdfast, subject: str, times: list[datetime]) -> dict[str, Any]:
    """Ask all that can be asked of the past, as it was and as it was known."""
    by_time = {
        (as_of, known_at, retired): hf.statements(
            subject, as_of=as_of, known_at=known_at, include_retired=retired
        )
        for as_of, known_at in itertools.product([*times[::3], times[-1]], [*times, None])
        for retired in (False, True)
    }
    ids = {s.id for found in by_time.values() for s in found}
    return {
        "statements": by_time,
        "histories": {id_: hf.history(id_) for id_ in sorted(ids)},
        "decisions": [hf.decisions(subject, as_of=each) for each in times],
        "proposals": hf.proposals(subject, status=None),
    }


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holdfast]:
    """The installation that documents come from."""
    folder = tmp_path_factory.mktemp("there")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        with open_with(FakeEmbedder(), folder / "data") as hf:
            tell(hf)
            yield hf


@pytest.fixture(scope="module")
def exported(there: Holdfast) -> Document:
    return json.loads(written(there.export("ada")))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holdfast]:
    """An installation that takes many documents, each for a subject of its own."""
    folder = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        with open_with(FakeEmbedder(), folder / "data") as hf:
            yield hf


NUMBERS = itertools.count()


def renamed(document: Document) -> Document:
    """Give the same document with ids that are nowhere yet, in the same order."""
    number = next(NUMBERS)
    return json.loads(re.sub(r'"(st|pr)_(\w+)"', rf'"\1_{number}x\2"', written(document)))


# There and back


def test_what_is_loaded_elsewhere_exports_to_the_same_bytes(
    exported: Document, fake: Holdfast
) -> None:
    loaded = fake.load("ada", exported)
    assert (loaded.subject, loaded.versions, loaded.proposals, loaded.existing) == ("ada", 12, 3, 0)
    again = fake.export("ada")
    assert written(again) == written(exported)
    assert canonical(again) == canonical(exported)
    assert fake.verify().verdict == "VERIFIED"
    assert not any(fake.doctor().findings.values())


def test_the_document_holds_all_that_is_on_record_and_nothing_of_the_installation(
    there: Holdfast, exported: Document
) -> None:
    assert list(exported) == [
        "format", "subject", "revision", "changed_at", "statements", "decisions", "proposals",
    ]  # fmt: skip
    assert (exported["format"], exported["subject"]) == ("holdfast-subject-1", "ada")
    held = there.statements("ada", include_retired=True, as_of="2100-06-01")
    histories = {s.id: there.history(s.id) for s in held}
    versions = {(v["id"], v["version"]): v for v in exported["statements"]}
    assert len(versions) == len(exported["statements"])
    assert versions.keys() == {(s.id, s.version) for each in histories.values() for s in each}
    for statement in itertools.chain(*histories.values()):
        check_version(versions[statement.id, statement.version], statement)
    order = [(v["revision"], v["place"]) for v in exported["statements"]]
    assert order == sorted(order)
    assert exported["revision"] == 15
    for key in tampering.rows(there, "SELECT key FROM statements UNION SELECT key FROM data_keys"):
        assert key[0] not in written(exported)
    assert there.embedder.digest not in written(exported)


def check_version(version: Document, statement: Statement) -> None:
    for name in ("text", "kind", "strength", "scope", "source"):
        assert version[name] == getattr(statement, name)
    assert tuple(version["contexts"]) == statement.contexts
    for name in ("valid_from", "valid_to", "recorded_at"):
        moment = getattr(statement, name)
        assert version[name] == (moment and moment.isoformat())
    ends = version["ends"] or {"retired_at": None, "reason": None}
    assert ends["retired_at"] == (statement.retired_at and statement.retired_at.isoformat())
    assert (version["reason"], ends["reason"]) == (statement.reason, statement.end_reason)


def test_decisions_and_proposals_stand_in_the_document(there: Holdfast, exported: Document) -> None:
    decisions = {d.id: d for d in there.decisions("ada")}
    assert [part["id"] for part in exported["decisions"]] == list(decisions)
    for part in exported["decisions"]:
        decision = decisions[part["id"]]
        assert (part["situation"], part["choice"], part["reason"], part["version"]) == (
            decision.situation, decision.choice, decision.reason, 1,
        )  # fmt: skip
        assert [(w["id"], w["version"]) for w in part["weighed"]] == [
            (w.statement_id, w.version) for w in decision.weighed
        ]
    assert [w["version"] for w in exported["decisions"][0]["weighed"]] == [2, 1]
    proposals = there.proposals("ada", status=None)
    assert {p.status for p in proposals} == {"open", "confirmed", "rejected"}
    assert [part["id"] for part in exported["proposals"]] == [p.id for p in proposals]
    for part, proposal in zip(exported["proposals"], proposals, strict=True):
        for name in ("text", "kind", "strength", "scope", "source", "status", "statement_id"):
            assert part[name] == getattr(proposal, name)
        assert part["contexts"] == ["sea"]
        assert part["proposed_at"] == proposal.proposed_at.isoformat()


def test_every_question_about_the_past_has_the_same_answer(
    there: Holdfast, exported: Document, fake: Holdfast
) -> None:
    fake.load("ada", exported)
    times = moments(exported)
    assert seen(fake, "ada", times) == seen(there, "ada", times)
    assert fake.subjects() == ["ada"]


def test_what_was_loaded_is_retrieved_as_it_was_where_it_came_from(
    there: Holdfast, exported: Document, fake: Holdfast
) -> None:
    fake.load("ada", exported)
    for request, how in (
        ("Which night trains to Rome?", {}),
        ("boats and nuts", {"contexts": ["sea"]}),
        ("Where do I live?", {"as_of": "2022-01-01"}),
        ("two jobs in March", {"threshold": 0.0, "limit": 2}),
    ):
        found, expected = (hf.retrieve("ada", request, **how) for hf in (fake, there))
        assert found.candidates
        assert list(found.candidates) == list(expected.candidates)
        assert list(found.injected) == list(expected.injected)
        assert (found.context, found.status) == (expected.context, expected.status)
        assert found.repaired == 0
        assert fake.replay(str(found.evidence_id))


def test_the_subject_goes_on_where_it_was_loaded(exported: Document, fake: Holdfast) -> None:
    fake.load("ada", exported)
    assert fake.add("ada", "I like boats.").existing
    trains = next(s for s in fake.statements("ada") if s.text.startswith("I love night trains"))
    revised = fake.revise(trains.id, "I love slow trains", reason="older")
    assert (revised.version, revised.recorded_at > trains.recorded_at) == (5, True)
    (left,) = fake.proposals("ada")
    assert fake.confirm(left.id).text == "I like cats."
    fake.retire(revised.id)
    found = fake.retrieve("ada", "trains")
    assert fake.replay(str(found.evidence_id))
    assert fake.export("ada")["revision"] == exported["revision"] + 3
    assert fake.verify()


def test_the_reasons_of_a_revision_and_of_a_retirement_are_carried_apart(
    fake: Holdfast,
) -> None:
    other = fake.of_tenant("other")
    (boats,) = fake.add("eli", "I like boats.")
    fake.revise(boats.id, "I like small boats.", reason="the big one sank")
    retired = fake.retire(boats.id, reason="I moved inland")
    other.load("eli", fake.export("eli"))
    assert other.history(boats.id) == fake.history(boats.id)
    assert (retired.reason, retired.end_reason) == ("the big one sank", "I moved inland")


def test_it_may_be_anothers_here(there: Holdfast, exported: Document, fake: Holdfast) -> None:
    assert fake.load(" carol ", exported).subject == "carol"
    assert fake.export("carol") == exported | {"subject": "carol"}
    assert {s.subject for s in fake.statements("carol")} == {"carol"}
    assert fake.subjects() == ["carol"]


def test_it_survives_closing_and_another_embedder(exported: Document, tmp_path: Path) -> None:
    with open_with(FakeEmbedder("other", 32), tmp_path / "data") as hf:
        hf.load("ada", exported)
    with open_with(FakeEmbedder(), tmp_path / "data") as hf:
        assert written(hf.export("ada")) == written(exported)
        assert hf.retrieve("ada", "night trains").candidates
        assert hf.verify()


def test_an_erased_subject_can_come_back(exported: Document, fake: Holdfast) -> None:
    fake.load("ada", exported)
    fake.erase("ada")
    assert fake.load("ada", exported).existing == 0
    assert written(fake.export("ada")) == written(exported)
    assert fake.verify().verdict == "VERIFIED-ERASED"


def test_progress_is_told(exported: Document, fake: Holdfast) -> None:
    steps: list[tuple[int, int]] = []
    fake.load("ada", exported, progress=lambda *step: steps.append(step))
    assert steps == [(12, 12)]


# The ledger knows


def digest(document: Document) -> str:
    return hashlib.sha256(canonical(document)).hexdigest()


def test_an_export_is_an_event_of_the_subject(there: Holdfast) -> None:
    document = there.export("ada")
    (event,) = there.audit.events(limit=1)
    assert (event.type, event.subjects) == ("export", ("ada",))
    assert event.payload["sha256"] == digest(document)
    assert event.payload["statements"] == 12
    assert there.export("ada") == document  # the export itself is no part of it
    assert there.verify()


def test_a_load_is_recorded_version_by_version_and_says_where_from(
    exported: Document, fake: Holdfast
) -> None:
    fake.load("ada", exported)
    events = fake.audit.events("ada", limit=None)[::-1]
    types = [event.type for event in events]
    assert types[:14] == [
        *["statement.put"] * 5, "statement.supersede", "statement.put", "statement.supersede",
        "statement.retire", "statement.supersede", *["statement.put"] * 3, "statement.retire",
    ]  # fmt: skip
    assert sorted(types[14:-1]) == [  # those put forward at one moment stand in any order
        "proposal.confirm", *["proposal.put"] * 3, "proposal.reject",
    ]  # fmt: skip
    assert types[-1] == "import"
    assert all(event.imported for event in events[:-1])
    done = events[-1]
    assert (done.payload["revision"], done.payload["versions"]) == (exported["revision"], 12)
    assert done.payload["changed_at"] == exported["changed_at"]
    assert {event.payload["sha256"] for event in events[:-1]} == {done.payload["sha256"]}


def test_an_import_is_tied_to_the_export_by_the_same_hash(there: Holdfast, fake: Holdfast) -> None:
    document = there.export("ada")
    noted = there.audit.events(limit=1)[0].payload["sha256"]
    fake.load("ada", json.loads(written(document)))
    assert fake.audit.events(types=["import"])[0].payload["sha256"] == noted == digest(document)


def test_an_unknown_subject_is_not_exported_and_nothing_is_recorded(fake: Holdfast) -> None:
    fake.retrieve("bo", "nuts")
    before = tampering.dump(fake.settings.data)
    with pytest.raises(NotFoundError, match="no such subject here"):
        fake.export("ada")
    assert tampering.dump(fake.settings.data) == before
    assert fake.export("bo")["statements"] == []  # something was asked for it


def test_a_subject_of_whom_nothing_was_said_loads_to_nothing(fake: Holdfast) -> None:
    fake.retrieve("bo", "nuts")
    document = fake.export("bo")
    size = len(fake.audit.events(limit=None))
    assert str(fake.load("carol", document)) == "loaded 0 versions and 0 proposals"
    assert fake.subjects() == ["bo"]
    assert len(fake.audit.events(limit=None)) == size


def test_a_reader_neither_loads_nor_exports(exported: Document, fake: Holdfast) -> None:
    fake.load("ada", exported)
    before = tampering.dump(fake.settings.data)
    with Holdfast.open(fake.settings.data, read_only=True) as reader:
        for call in (lambda: reader.export("ada"), lambda: reader.load("bo", renamed(exported))):
            with pytest.raises(ReadOnlyError):
                call()
    assert tampering.dump(fake.settings.data) == before


# What is here already


def check_refused(hf: Holdfast, subject: str, document: Any, words: str) -> None:
    before = tampering.dump(hf.settings.data)
    with pytest.raises(InvalidInputError) as refused:
        hf.load(subject, document)
    assert re.search(words, str(refused.value)), str(refused.value)
    assert tampering.dump(hf.settings.data) == before


def test_the_same_document_twice_changes_nothing(exported: Document, fake: Holdfast) -> None:
    fake.load("ada", exported)
    before = tampering.dump(fake.settings.data)
    again = fake.load("ada", exported)
    assert (again.versions, again.proposals, again.existing) == (0, 0, 15)
    assert str(again) == "loaded 0 versions and 0 proposals; 15 were there already"
    assert tampering.dump(fake.settings.data) == before


def test_where_it_came_from_a_document_finds_itself(there: Holdfast, exported: Document) -> None:
    assert there.load("ada", exported).existing == 15
    assert there.export("ada") == exported


def test_what_is_another_subjects_stays_theirs(exported: Document, fake: Holdfast) -> None:
    fake.load("ada", exported)
    check_refused(fake, "carol", exported, r"^st_\w+ is here already, and it is another's or")
    alone = exported | {"statements": [], "decisions": []}
    check_refused(fake, "carol", alone, r"^pr_\w+ is here already, and it is another's or")
    fake.add("carol", "I like fog.")
    check_refused(fake, "carol", exported, "erase the subject here first")
    fake.erase("ada")
    assert fake.load("carol", exported).versions == 12
    assert fake.verify()


CHANGES_HERE: dict[str, Callable[[Holdfast, Document], Any]] = {
    "a statement was revised": lambda hf, d: hf.revise(d["statements"][4]["id"], "Be kind."),
    "a statement was retired": lambda hf, d: hf.retire(d["statements"][4]["id"]),
    "a proposal was confirmed": lambda hf, d: hf.confirm(hf.proposals("ada")[0].id),
    "a proposal was rejected": lambda hf, d: hf.reject(hf.proposals("ada")[0].id),
}


@pytest.mark.parametrize("change", CHANGES_HERE)
def test_what_was_changed_here_meanwhile_is_not_overwritten(
    exported: Document, fake: Holdfast, change: str
) -> None:
    fake.load("ada", exported)
    CHANGES_HERE[change](fake, exported)
    check_refused(fake, "ada", exported, r"^(st|pr)_\w+ is here already, .* differs")
    assert fake.verify()


def test_what_was_said_here_meanwhile_stays_beside_it(exported: Document, fake: Holdfast) -> None:
    said = fake.add_many("ada", ["I like cake", "I love night trains to Rome"], split=False)
    decided = fake.decide(
        "ada", situation="Cake", choice="yes", reason="sweet", weighed=[said[0].id]
    )
    fake.revise(said[0].id, "I like apple cake")
    asked = [str(fake.retrieve("ada", r, threshold=0.0).evidence_id) for r in ("cake", "trains")]
    fake.load("ada", exported)
    for evidence in asked:  # is evidence of the time before, still
        assert fake.replay(evidence)
        assert fake.explain(evidence).problems == []
    texts = [s.text for s in fake.statements("ada")]
    assert {"I like apple cake", "I like boats."} < set(texts)
    assert decided in fake.decisions("ada")
    assert fake.verify()
    later = fake.export("ada")
    assert later["revision"] == 3 + exported["revision"]
    assert len(later["statements"]) == 4 + 12
    found = fake.retrieve("ada", "trains and cake", threshold=0.0)
    assert len(found.candidates) == len(texts)
    assert fake.replay(str(found.evidence_id))


def test_a_later_document_brings_what_is_new(fake: Holdfast, tmp_path: Path) -> None:
    with open_with(FakeEmbedder(), tmp_path / "there") as there:
        cake = there.add("ada", "I like cake.")[0]
        fake.load("ada", there.export("ada"))
        there.add("ada", "I like tea.")
        there.decide("ada", situation="Cake", choice="yes", reason="sweet", weighed=[cake.id])
        there.propose("ada", "I like fog.", source="tool")
        later = there.export("ada")
        loaded = fake.load("ada", later)
        assert (loaded.versions, loaded.proposals, loaded.existing) == (2, 1, 1)
        assert fake.statements("ada") == there.statements("ada")
        assert fake.decisions("ada") == there.decisions("ada")
        assert fake.proposals("ada") == there.proposals("ada")
    again = fake.export("ada")
    for part in ("decisions", "proposals", "changed_at"):
        assert again[part] == later[part]
    assert fake.load("ada", later).existing == 4
    assert fake.verify()


# Tenants


def test_another_tenant_has_it_beside_and_apart(exported: Document, tmp_path: Path) -> None:
    document = exported | {"proposals": []}
    for tenant in ("one", "two"):
        with open_with(FakeEmbedder(), tmp_path / "data", tenant=tenant) as hf:
            assert hf.subjects() == []
            assert hf.load("ada", document).existing == 0
            assert written(hf.export("ada")) == written(document)
            assert hf.verify()
            hf.retire(document["statements"][4]["id"])
    with open_with(FakeEmbedder(), tmp_path / "data", tenant="one") as one:
        assert one.history(document["statements"][4]["id"])[0].retired_at is not None
        one.erase("ada")
    with open_with(FakeEmbedder(), tmp_path / "data", tenant="two") as two:
        assert two.export("ada")["decisions"] == document["decisions"]
        assert two.verify().verdict == "VERIFIED"
        assert not any(two.doctor().findings.values())


def test_another_tenant_of_the_same_data_takes_proposals_too(
    exported: Document, tmp_path: Path
) -> None:
    """A refused document is told to go into another tenant."""
    for tenant in ("one", "two"):
        with open_with(FakeEmbedder(), tmp_path / "data", tenant=tenant) as hf:
            assert hf.load("ada", exported).proposals == 3
            assert written(hf.export("ada")) == written(exported)


# A document that was edited


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the path of every value in a document, but for those of whole lists."""
    if path and not isinstance(value, list):
        yield path
    parts: Any = ()
    if isinstance(value, (dict, list)):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
    for name, inner in parts:
        yield from places(inner, (*path, name))


def edited(document: Document, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    made = copy.deepcopy(document)
    holder: Any = made
    for name in path[:-1]:
        holder = holder[name]
    change(holder, path[-1])
    return made


def put(value: Any) -> Callable[[Any, Any], None]:
    return lambda holder, name: holder.__setitem__(name, value)


NULLABLE = {"reason", "valid_to", "ends", "ends_at", "decided_at", "statement_id"}
TIMES = {"changed_at", "valid_from", "valid_to", "recorded_at", "retired_at", "ends_at",
         "proposed_at", "decided_at"}  # fmt: skip
WRONG: list[Any] = [None, True, 1.5, -1, 7, "", "no such thing", [], [7], {}, {"x": 1}]


def is_wrong(name: Any, held: Any, value: Any) -> bool:
    """Tell whether a value cannot stand where another does; times are looked at below."""
    if value is None:
        return name not in NULLABLE
    if isinstance(value, str):
        free = {"text", "situation", "choice", "reason", "source", "subject"}
        return not isinstance(held, str) or (name not in free and not isinstance(name, int))
    if isinstance(value, (int, float)) and name in TIMES:
        return value is True
    return type(value) is not int or type(held) is not int or value < 0


def test_a_value_of_another_kind_is_refused_by_its_place_and_nothing_is_stored(
    exported: Document, fake: Holdfast
) -> None:
    fake.load("ada", exported)
    document = renamed(exported)
    before = tampering.dump(fake.settings.data)
    tried = 0
    for path in places(document):
        held: Any = document
        for name in path:
            held = held[name]
        if path[-1] in NULLABLE and held is None:
            continue
        for value in WRONG:
            if not is_wrong(path[-1], held, value) or value == held:
                continue
            tried += 1
            with pytest.raises(InvalidInputError) as refused:
                fake.load("carol", edited(document, path, put(value)))
            message = str(refused.value)
            assert f"{'.'.join(map(str, path))}" in message, (path, value, message)
            assert "Nothing was stored" in message
            assert "no such thing" not in message
    assert tried > 1500
    assert tampering.dump(fake.settings.data) == before


def test_a_field_that_is_missing_or_unknown_is_refused_by_its_place(
    exported: Document, fake: Holdfast
) -> None:
    document = renamed(exported)
    before = tampering.dump(fake.settings.data)
    for path in places(document):
        if isinstance(path[-1], int):
            continue
        gone = edited(document, path, lambda holder, name: holder.pop(name))
        more = edited(document, path, lambda holder, _: holder.update(colour="my secret"))
        place = ".".join(map(str, path))
        above = ".".join(map(str, path[:-1])) or "the document"
        for wrong, words in (
            (gone, f"{place}: Field required"),
            (more, f"({above}: there is an unknown field"),
        ):
            with pytest.raises(InvalidInputError) as refused:
                fake.load("carol", wrong)
            assert words in str(refused.value)
            assert "secret" not in str(refused.value)
    assert tampering.dump(fake.settings.data) == before
    assert fake.subjects() == []


def index(document: Document, test: Callable[[Document], Any], part: str = "statements") -> int:
    return next(i for i, each in enumerate(document[part]) if test(each))


def is_retired(version: Document) -> bool:
    return bool(version["ends"] and version["ends"]["ends_at"])


def is_superseded(version: Document) -> bool:
    return bool(version["ends"] and not version["ends"]["ends_at"])


EDITS: dict[str, tuple[str, Callable[[Document], Any], str, Any]] = {
    "text": ("statements", is_retired, "text", "I never eat cake"),
    "a text of another script": ("statements", is_retired, "text", "Я не ем орехи 🥜\nникогда"),
    "kind": ("statements", is_superseded, "kind", "boundary"),
    "strength": ("statements", is_superseded, "strength", "must"),
    "scope": ("statements", is_superseded, "scope", "always"),
    "contexts": ("statements", is_superseded, "contexts", ["Home", "work"]),
    "no contexts": ("statements", is_superseded, "contexts", []),
    "source": ("statements", is_superseded, "source", "letter"),
    "reason": ("statements", is_superseded, "reason", "why not"),
    "no reason": ("statements", lambda v: v["reason"], "reason", None),
    "valid_from": (
        "statements", lambda v: v["valid_to"], "valid_from", "2019-02-03T04:05:06.000007+00:00",
    ),
    "valid_to": (
        "statements", lambda v: v["valid_to"], "valid_to", "2030-02-03T04:05:06+00:00",
    ),
    "no end": ("statements", lambda v: v["valid_to"], "valid_to", None),
    "situation": ("decisions", lambda d: d["weighed"], "situation", "Three jobs"),
    "choice": ("decisions", lambda d: d["weighed"], "choice", "none"),
    "reason of a decision": ("decisions", lambda d: d["weighed"], "reason", "tired"),
    "nothing weighed": ("decisions", lambda d: d["weighed"], "weighed", []),
    "text of a proposal": ("proposals", lambda p: True, "text", "I like fish."),
    "kind of a proposal": ("proposals", lambda p: True, "kind", "goal"),
    "strength of a proposal": ("proposals", lambda p: True, "strength", "must"),
    "scope of a proposal": ("proposals", lambda p: True, "scope", "always"),
    "contexts of a proposal": ("proposals", lambda p: True, "contexts", []),
    "source of a proposal": ("proposals", lambda p: True, "source", "model:y"),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_what_was_edited_is_loaded_as_it_says(
    exported: Document, here: Holdfast, edit: str
) -> None:
    part, test, name, value = EDITS[edit]
    place = index(exported, test, part)
    assert exported[part][place][name] != value
    document = renamed(edited(exported, (part, place, name), put(value)))
    document["subject"] = f"subject {next(NUMBERS)}"
    here.load(document["subject"], document)
    assert here.export(document["subject"]) == document
    assert here.verify()


def test_words_are_taken_as_add_takes_them(exported: Document, here: Holdfast) -> None:
    document = renamed(exported)
    document["statements"][4]["text"] = "  Cafe\u0301,\r\nplease. "
    here.load("words", document)
    assert "Café,\nplease." in {s.text for s in here.statements("words")}


def test_a_time_of_another_zone_is_the_same_moment(exported: Document, here: Holdfast) -> None:
    document = renamed(exported) | {"subject": "zone"}
    moved = json.loads(written(document))
    moved["statements"][2]["valid_from"] = "2020-01-01T05:30:00+05:30"
    here.load("zone", moved)
    assert here.export("zone") == document


def drop(document: Document, which: Callable[[Document], Any]) -> Document:
    kept = [each for each in document["statements"] if not which(each)]
    return document | {"statements": kept}


INCONSISTENT: dict[str, tuple[Callable[[Document], Any], str]] = {
    "a version is missing": (
        lambda d: drop(d, lambda v: v["version"] == 2), "not numbered from 1 in their order",
    ),
    "the first version is missing": (
        lambda d: drop(d, lambda v: is_superseded(v) and v["version"] == 1), "not numbered from 1",
    ),
    "versions out of order": (lambda d: d["statements"].reverse(), "not numbered from 1"),
    "a version twice": (
        lambda d: d["statements"].append(d["statements"][0]), "not numbered from 1",
    ),
    "an open version before the last": (
        lambda d: d["statements"][index(d, is_superseded)].update(ends=None),
        "version 1 of st_.* does not end where the next begins",
    ),
    "a version retired before the next": (
        lambda d: d["statements"][index(d, is_superseded)]["ends"].update(ends_at=d["changed_at"]),
        "version 1 of st_.* does not end where the next begins",
    ),
    "a gap in record time": (
        lambda d: d["statements"][index(d, is_superseded)]["ends"].update(
            retired_at=d["changed_at"]
        ),
        "version 1 of st_.* does not end where the next begins",
    ),
    "a gap in revisions": (
        lambda d: d["statements"][index(d, is_superseded)]["ends"].update(revision=7),
        "version 1 of st_.* does not end where the next begins",
    ),
    "a decision of a version that is not there": (
        lambda d: d["decisions"][0].update(version=2), "beside no version of a statement",
    ),
    "a decision twice": (
        lambda d: d["decisions"].append(d["decisions"][0]), "a decision stands twice",
    ),
    "a proposal twice": (
        lambda d: d["proposals"].append(d["proposals"][0]), "a proposal stands twice",
    ),
    "a weighed version that is not there": (
        lambda d: d["decisions"][0]["weighed"][0].update(version=9),
        "weighed a version that is not in the document",
    ),
    "an end before the beginning": (
        lambda d: d["statements"][2].update(valid_to="2019-01-01T00:00:00+00:00"),
        "valid_to must be later than valid_from",
    ),
    "a time before year 1": (
        lambda d: d["statements"][2].update(valid_from="0001-01-01T00:00:00+14:00"), "1 to 9999",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", INCONSISTENT)
def test_a_history_that_no_record_has_is_refused(
    exported: Document, fake: Holdfast, case: str
) -> None:
    change, words = INCONSISTENT[case]
    document = copy.deepcopy(exported)
    document = change(document) or document
    assert document != exported
    check_refused(fake, "ada", document, words)


@pytest.mark.parametrize(
    "case",
    ["an end before the beginning", "a weighed version that is not there", "a time before year 1"],
)
def test_of_a_document_that_is_refused_no_vector_stays(
    exported: Document, fake: Holdfast, case: str
) -> None:
    """A vector tells what was said; the subject is not here, so it could not be erased."""
    document = copy.deepcopy(exported)
    INCONSISTENT[case][0](document)
    with pytest.raises(InvalidInputError):
        fake.load("ada", document)
    found = fake.doctor(mend=False).findings
    assert not any(found.values()), found


def of_retired(document: Document, name: str, value: Any) -> None:
    document["statements"][index(document, is_retired)]["ends"][name] = value


def of_proposal(document: Document, status: str, **changes: Any) -> None:
    place = index(document, lambda p: p["status"] == status, "proposals")
    document["proposals"][place] |= changes


FAR = "9999-12-31T23:59:59.999999+00:00"
HARMFUL: dict[str, Callable[[Document], Any]] = {
    "a revision below that of its statements": lambda d: d.update(revision=3),
    "a revision of nought": lambda d: [v.update(revision=0) for v in d["statements"][:4]],
    "changed at the end of time": lambda d: d.update(changed_at=FAR),
    "superseded for a reason": lambda d: d["statements"][index(d, is_superseded)]["ends"].update(
        reason="why"
    ),
    "an open proposal that was decided": lambda d: of_proposal(d, "open", decided_at=FAR),
    "an open proposal with its statement": lambda d: of_proposal(
        d, "open", statement_id=d["statements"][0]["id"]
    ),
    "retired, and from no time on": lambda d: of_retired(d, "ends_at", None),
}


@pytest.mark.parametrize("case", HARMFUL)
def test_a_record_is_whole_whatever_document_was_loaded(
    exported: Document, fake: Holdfast, case: str
) -> None:
    """Either such a document is refused, or all that is promised of a record still holds."""
    document = copy.deepcopy(exported)
    fake.add("ada", "I like cake.")
    before = str(fake.retrieve("ada", "cake").evidence_id)
    HARMFUL[case](document)
    assert document != exported
    try:
        fake.load("ada", document)
    except InvalidInputError:
        return
    assert fake.verify(), str(fake.verify())
    assert fake.replay(before)
    assert fake.replay(str(fake.retrieve("ada", "night trains").evidence_id))
    for statement in fake.statements("ada"):
        fake.retire(statement.id)
    fake.add("ada", "I like tea.")
    assert [s.text for s in fake.statements("ada")] == ["I like tea."]
    assert fake.verify()


@pytest.mark.parametrize("value", [5, 1767225600, 1.5, "5", "1767225600", "2026-01-01"])
def test_a_time_is_written_out(exported: Document, fake: Holdfast, value: Any) -> None:
    """A number is no time: it would come out as another value than it went in."""
    document = copy.deepcopy(exported)
    document["statements"][2]["valid_from"] = value
    check_refused(fake, "ada", document, r"statements\.2\.valid_from")


# Large ones


def test_a_large_history_goes_through(fake: Holdfast) -> None:
    """More statements than are looked up or embedded at once, and one long history."""
    generator = random.Random(7)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    versions: list[Document] = []
    for number in range(1200):
        at = start + timedelta(seconds=number)
        versions.append(
            version(
                id=f"st_{number}", text=f"I like number {generator.random()}", revision=number + 1,
                recorded_at=at.isoformat(), valid_from=at.isoformat(), place=0,
                ends=None,
            )
        )  # fmt: skip
    at = start + timedelta(days=1)
    for number in range(1, 301):
        begins, ends = (at + timedelta(seconds=n) for n in (number, number + 1))
        closing = {
            "retired_at": ends.isoformat(), "revision": 1200 + number + 1, "ends_at": None,
            "reason": None,
        }  # fmt: skip
        versions.append(
            version(
                id="st_long", version=number, text=f"I have {number} cats", revision=1200 + number,
                recorded_at=begins.isoformat(), valid_from=begins.isoformat(),
                ends=None if number == 300 else closing,
            )
        )  # fmt: skip
    document = {
        "format": "holdfast-subject-1", "subject": "ada", "revision": 1500,
        "changed_at": (at + timedelta(seconds=300)).isoformat(), "statements": versions,
        "decisions": [], "proposals": [],
    }  # fmt: skip
    assert fake.load("ada", document).versions == 1500
    assert fake.export("ada") == document
    assert len(fake.statements("ada")) == 1201
    assert len(fake.history("st_long")) == 300
    assert fake.load("ada", document).existing == 1500
    assert fake.verify().checked == 1500 + 3
    assert not any(fake.doctor().findings.values())


def version(**changes: Any) -> Document:
    plain: Document = {
        "id": "st_1", "version": 1, "text": "I like cats", "kind": "preference",
        "strength": "prefer", "scope": "topical", "contexts": [], "source": "subject",
        "reason": None, "valid_from": None, "valid_to": None, "recorded_at": None, "revision": 1,
        "place": 0, "ends": None,
    }  # fmt: skip
    return plain | changes


# Any history


WORDS = st.sampled_from(
    ["tea", "Zürich", "🥜 nuts", "my sister's boat", "Café", "line\nbreak", "多い", "naïve"]
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "many", "decide", "revise", "move", "retire", "propose", "settle"]),
        WORDS,
        st.integers(0, 9),
    ),
    min_size=1,
    max_size=9,
)


def step(hf: Holdfast, subject: str, what: str, word: str, number: int) -> None:
    """Change one thing; what cannot be changed is left."""
    current = hf.statements(subject, as_of="2090-01-01")
    one = current[number % len(current)] if current else None
    text, day = f"I like {word} {number}", f"20{10 + number}-01-01"
    if what == "add":
        hf.add(subject, text, split=False, valid_from=day, valid_to="2095-01-01")
    elif what == "many":
        hf.add_many(subject, [text, f"No {word}"], split=False, contexts=[f"c{number}"])
    elif what == "decide":
        hf.decide(
            subject, situation=word, choice=text, reason=f"{number}",
            weighed=[s.id for s in current[:number]],
        )  # fmt: skip
    elif what == "revise" and one:
        hf.revise(one.id, f"{one.text} and {word}", reason=word)
    elif what == "move" and one:
        hf.revise(one.id, valid_from=day, valid_to=None, contexts=[word.split("\n")[0]])
    elif what == "retire" and one:
        hf.retire(one.id, reason=word if number % 2 else None)
    elif what == "propose":
        hf.propose(subject, text, source="tool", contexts=["c"] * (number % 2))
    elif what == "settle" and (left := hf.proposals(subject)):
        (hf.confirm if number % 2 else hf.reject)(left[0].id)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_history_comes_out_as_it_went_in(
    there: Holdfast, here: Holdfast, steps: list[tuple[str, str, int]]
) -> None:
    subject = f"subject {next(NUMBERS)}"
    there.retrieve(subject, "it begins")
    for each in steps:
        step(there, subject, *each)
    document = there.export(subject)
    loaded = here.load(subject, json.loads(written(document)))
    assert (loaded.versions, loaded.existing) == (len(document["statements"]), 0)
    if loaded.versions or loaded.proposals:
        assert written(here.export(subject)) == written(document)
    times = moments(document)
    times = [*times[:: max(1, len(times) // 6)], times[-1]]
    assert seen(here, subject, times) == seen(there, subject, times)
    assert here.verify()


def test_a_loading_that_fails_leaves_nothing(
    exported: Document, fake: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tampering.dump(fake.settings.data)
    with monkeypatch.context() as patched:
        patched.setattr(
            "holdfast.memory.proposals.restore", lambda *_: (_ for _ in ()).throw(HoldfastError())
        )
        with pytest.raises(HoldfastError):
            fake.load("ada", exported)
    assert tampering.dump(fake.settings.data) == before
    assert fake.load("ada", exported).existing == 0
    assert written(fake.export("ada")) == written(exported)
