from pathlib import Path

from conftest import open_with
from fakes import FakeEmbedder

from holdfast import Holdfast
from holdfast.retrieval.results import Added, DoctorReport, Loaded, Pair, Replay, Retrieval

MARKUP = "<script>alert('x')</script> & nuts"


def test_everything_that_prints_says_what_it_is(fake: Holdfast) -> None:
    added = fake.add("ada", "I never eat nuts. I prefer night trains over planes.")
    found = fake.retrieve("ada", "I never eat nuts", threshold=0)
    assert str(added) == "\n".join(map(str, added))
    assert str(added[0]).endswith("must · boundary: I never eat nuts.")
    first = str(found).splitlines()
    assert first[0] == "injected: 2 of 2 statements"
    assert first[1].split(maxsplit=2)[1:] == ["injected", "I never eat nuts."]
    assert "%" in first[1]
    assert repr(fake) == "<Holdfast tenant='local' embedder='fake'>"
    assert "Candidate(" in repr(found.candidates)


def test_html_escapes_markup(fake: Holdfast) -> None:
    added = fake.add("<b>ada</b>", MARKUP, split=False, contexts=["<i>work</i>"])
    found = fake.retrieve("<b>ada</b>", "nuts", threshold=0)
    decision = fake.decide("<b>ada</b>", situation=MARKUP, choice=MARKUP, reason=MARKUP)
    proposal = fake.propose("<b>ada</b>", f"{MARKUP} too", source="model:<i>x</i>")[0]
    shown = [
        added,
        added[0],
        found,
        found.injected[0],
        decision,
        proposal,
        fake.inject("<b>ada</b>", [{"role": "user", "content": MARKUP}], threshold=0),
        fake.add("<b>ada</b>", f"{MARKUP}!", split=False),
        fake.explain(str(found.evidence_id)),
        fake.replay(str(found.evidence_id), without=[added[0].id]),
        fake.evidence()[0],
        fake.replay(str(found.evidence_id)),
        fake.verify(),
        fake.audit.events(types=["statement.put"])[0],
        fake.erase("<b>ada</b>", reason="<script>"),
        fake.evidence()[0],
    ]
    for each in shown:
        html = each._repr_html_()
        assert html.startswith(("<table>", "<p>"))
        assert not any(tag in html for tag in ("<script", "<b>", "<i>")), type(each)
    for each in shown[:10]:
        assert "&lt;script&gt;" in each._repr_html_()
    assert "not recorded" in fake.retrieve("a", "b", record=False)._repr_html_()


def test_tables_say_what_a_reader_looks_for(fake: Holdfast) -> None:
    fake.add("ada", "I never eat nuts.")
    again = fake.add("ada", "I never eat nuts. I never eat nuts!")._repr_html_()
    assert "was there" in again
    assert "said before" in again
    found = fake.retrieve("ada", "I never eat nuts")
    assert f"<td style='text-align:left'>{found.injected[0].parts['threshold']:.2f}</td>" in (
        found._repr_html_()
    )
    parts = [{"type": "text", "text": "May I eat nuts?"}, {"type": "image_url"}]
    injected = fake.inject("ada", [{"role": "user", "content": parts}])
    assert str(injected).startswith("user: May I eat nuts?\n")
    assert "May I eat nuts?" in injected._repr_html_()
    assert "image_url" not in injected._repr_html_()
    explained = fake.explain(str(found.evidence_id))
    assert "injected: " in str(explained)
    without = fake.replay(str(found.evidence_id), without=[found.injected[0].statement.id])
    assert "would not have been injected" in without._repr_html_()
    assert "otherwise" in without._repr_html_()
    assert "the same" in fake.replay(str(found.evidence_id))._repr_html_()
    assert "VERIFIED" in fake.verify()._repr_html_()


def test_a_long_retrieval_shows_its_best_and_counts_the_others(fake: Holdfast) -> None:
    fake.add_many("ada", [f"I like boat number {i}" for i in range(25)], split=False)
    shown = fake.retrieve("ada", "boat", record=False)._repr_html_()
    assert shown.count("<tr>") == 21
    assert "and 5 more" in shown


def test_added_tells_new_from_existing(fake: Holdfast) -> None:
    fake.add("ada", "I never eat nuts.")
    added = fake.add("ada", "I never eat nuts. I prefer trains.")
    assert isinstance(added, list)
    assert [s.text for s in added.existing] == ["I never eat nuts."]
    assert [s.text for s in added.new] == ["I prefer trains."]
    assert Added() == []
    assert str(Pair(added[0], added[1], 0.5)).endswith("(0.50): I prefer trains.")


def test_a_replay_is_true_when_the_same_and_says_what_differs() -> None:
    assert Replay("ev_1", True)
    assert str(Replay("ev_1", True)).startswith("ev_1: same")
    differing = Replay("ev_1", False, ["one", "two"])
    assert not differing
    assert str(differing) == "ev_1: differs: one; two"


def test_what_was_loaded_what_was_there_and_what_was_erased_is_counted(fake: Holdfast) -> None:
    assert str(Loaded("ada", 3, 1, 0)) == "loaded 3 versions and 1 proposals"
    assert str(Loaded("ada", 0, 0, 4)).endswith("; 4 were there already")
    fake.add("ada", "I never eat nuts.")
    fake.propose("ada", "I love boats.", source="tool")
    erased = fake.erase("ada")
    assert str(erased) == (
        "erased 1 versions, 1 proposals and the payloads of 2 events; "
        f"recorded as {erased.evidence_id}"
    )
    assert str(fake.verify()).startswith("VERIFIED-ERASED: 4 leaves, 2 of them erased, 4 under a")


def test_a_doctors_report_is_ok_when_nothing_is_left() -> None:
    assert str(DoctorReport(3, {}, {}, [])) == "3 vectors checked: clean"
    sick = DoctorReport(3, {"missing": 2, "altered": 0}, {}, ["gone: restore it"])
    assert not sick.ok
    assert str(sick) == "3 vectors checked: found 2 missing\n  gone: restore it"
    assert DoctorReport(3, {"missing": 2}, {"missing": 2}, []).ok
    assert "gone: restore it" in sick._repr_html_()
    assert Loaded("<b>", 3, 1, 0)._repr_html_().count("&lt;b&gt;") == 1


def test_candidates_are_a_sequence(tmp_path: Path) -> None:
    with open_with(FakeEmbedder(), tmp_path / "data") as holdfast:
        holdfast.add_many("ada", ["I never eat nuts", "I like trains", "No planes"], split=False)
        found: Retrieval = holdfast.retrieve("ada", "nuts")
    candidates = found.candidates
    assert len(candidates) == 3
    assert candidates[0] == list(candidates)[0]  # noqa: RUF015
    assert candidates[-1] == list(candidates)[2]
    assert list(candidates[1:]) == list(candidates)[1:]
    assert candidates == list(candidates)
    assert candidates != list(candidates)[1:]
    assert candidates != 5
    assert candidates[0] in candidates
