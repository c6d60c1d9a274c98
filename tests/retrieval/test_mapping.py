import numpy as np
import pytest
from conftest import open_with
from fakes import FakeEmbedder
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from holdfast import Holdfast, InvalidInputError
from holdfast.retrieval import heads, mapping, neighbours
from holdfast.retrieval.mapping import Link, ValuesMap

TEXTS = [
    "I don't eat meat.",
    "I never eat meat.",
    "I eat meat again since last spring.",
    "My brother's workshop gets all our bicycles to repair.",
    "Sundays belong to my father.",
]


def of(seen: ValuesMap, link: Link) -> tuple[str, str, str]:
    texts = {statement.id: statement.text for statement in seen.statements}
    return texts[link.first], texts[link.second], link.relation


def test_it_holds_every_statement_in_force_in_the_order_said(fake: Holdfast) -> None:
    added = fake.add_many("ada", TEXTS, split=False)
    retired = fake.retire(added[3].id)
    seen = fake.map("ada")
    assert seen.statements == [s for s in fake.statements("ada") if s.id != retired.id]
    assert [s.text for s in seen.statements] == [*TEXTS[:3], TEXTS[4]]
    then = fake.map("ada", as_of=added[3].valid_from)
    assert [s.text for s in then.statements] == TEXTS


def test_its_vectors_are_the_stored_ones(fake: Holdfast) -> None:
    fake.add_many("ada", TEXTS, split=False)
    corpus = fake._library.corpus("ada")
    stored = dict(zip(corpus.ids, heads.vectors(corpus.matrix), strict=True))
    before = len(fake.embedder.texts)
    seen = fake.map("ada")
    assert len(fake.embedder.texts) == before, "nothing is embedded again"
    assert seen.vectors.dtype == np.float32
    assert np.linalg.norm(seen.vectors, axis=1) == pytest.approx(1)
    for statement, vector in zip(seen.statements, seen.vectors, strict=True):
        assert (vector == stored[statement.id]).all()


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_statements_are_a_map_too(fake: Holdfast, count: int) -> None:
    fake.add_many("ada", TEXTS[:count], split=False)
    seen = fake.map("ada", prompts=["Which bicycle?", "meat"])
    assert seen.points.shape == (count, 2)
    assert seen.placed.shape == (2, 2)
    assert seen.vectors.shape == (count, fake.embedder.dimensions)
    assert np.isfinite(seen.points).all()
    assert np.isfinite(seen.placed).all()
    assert sum(seen.explained) == pytest.approx(float(count > 1))
    assert f"{count} statements" in str(seen)
    assert seen._repr_html_().startswith("<p>")


def test_statements_that_are_the_same_vector_lie_on_one_point(tmp_path) -> None:
    with open_with(FakeEmbedder(), tmp_path / "data") as holdfast:
        holdfast.add_many("ada", ["no meat", "No MEAT!", "no, meat"], split=False)
        seen = holdfast.map("ada", prompts=["no meat"])
    assert not seen.points.any()
    assert not seen.placed.any()
    assert seen.explained == (0.0, 0.0)
    assert {link.relation for link in seen.links} == {"duplicate"}
    assert all(link.probability is None for link in seen.links), "rules know no chance"


vectors_of_three = arrays(
    np.float32, st.tuples(st.integers(3, 12), st.just(8)), elements=st.floats(-1, 1, width=16)
)


@given(vectors_of_three)
def test_the_axes_are_orthonormal_and_lie_along_the_greatest_variance(matrix) -> None:
    middle, axes, explained = mapping._axes(matrix)
    points = (matrix - middle) @ axes.T
    total = float(((matrix - middle) ** 2).sum())
    for k in (0, 1):
        length = float(axes[k] @ axes[k])
        assert length == pytest.approx(1) or length == 0
        assert float((points[:, k] ** 2).sum()) == pytest.approx(explained[k] * total, abs=1e-4)
        assert axes[k][np.abs(axes[k]).argmax()] >= 0, "the sign of an axis is fixed"
    assert axes[0] @ axes[1] == pytest.approx(0, abs=1e-6)
    assert 1 + 1e-9 >= explained[0] >= explained[1] >= 0
    along = np.random.default_rng(0).standard_normal(matrix.shape[1])
    along /= np.linalg.norm(along)
    assert (((matrix - middle) @ along) ** 2).sum() <= (points[:, 0] ** 2).sum() + 1e-4


def test_a_prompt_that_says_a_statement_lands_nearest_to_it(bundled: Holdfast) -> None:
    bundled.add_many("ada", TEXTS, split=False)
    again = bundled.map("ada", prompts=[TEXTS[3], TEXTS[4]])
    away = np.linalg.norm(again.placed[:, None] - again.points[None], axis=2)
    assert away.argmin(axis=1).tolist() == [3, 4]
    assert away.min(axis=1).max() < 0.2
    chat = [{"role": "user", "content": TEXTS[3]}]
    assert bundled.map("ada", prompts=[chat]).placed == pytest.approx(again.placed[:1])


def test_it_is_the_same_each_time_and_writes_nothing(bundled: Holdfast) -> None:
    bundled.add_many("ada", TEXTS, split=False)
    leaves = bundled.verify().checked
    first, second = (bundled.map("ada", prompts=["meat"]) for _ in range(2))
    assert (first.points == second.points).all()
    assert (first.placed == second.placed).all()
    assert first.links == second.links
    assert bundled.verify().checked == leaves


def test_links_are_what_add_reports_one_after_the_other(bundled: Holdfast) -> None:
    reported: set[tuple[str, str, str]] = set()
    for text in (
        *TEXTS,
        "We pay every supplier within ten days, whatever our own cash looks like.",
        "Suppliers get their money after thirty days from now on.",
        "I told my sister she can count on me for the school run every Wednesday.",
        "My master wants me on the early shift Wednesdays, and I said yes for the whole winter.",
    ):
        added = bundled.add("ada", text, split=False)
        for relation, pairs in (
            ("duplicate", added.similar),
            ("revision", added.possible_revisions),
            ("tension", added.tensions),
        ):
            reported |= {(pair.other.text, pair.statement.text, relation) for pair in pairs}
    seen = bundled.map("ada")
    assert {of(seen, link) for link in seen.links} == reported
    assert {relation for _, _, relation in reported} == {"duplicate", "revision", "tension"}
    chances = [link.probability for link in seen.links]
    assert chances == sorted(chances, reverse=True)
    assert all(0 < chance <= 1 for chance in chances)


def test_decisions_and_what_lies_far_apart_have_no_links(bundled: Holdfast) -> None:
    bundled.add_many("vet", ["Metric units, please.", "I'd rather take the night train than fly."])
    home = {"situation": "My father wanted to stay at home", "choice": "we rebuilt his floor"}
    for reason in ("he would rather have fewer years there", "his years there count for more"):
        bundled.decide("vet", **home, reason=reason)
    assert bundled.map("vet").links == []
    added = bundled.add("vet", "My father wanted to stay at home, so we rebuilt his floor.")
    assert not added.similar + added.possible_revisions + added.tensions
    assert neighbours.closest(np.array([0.05, 0.3, 0.2], np.float32)) == [1, 2]


def test_links_are_found_across_the_blocks_in_which_cosines_are_held(tmp_path) -> None:
    texts = [f"bicycle number {i} is kept in cellar {i * 7}" for i in range(600)]
    texts[:0] = ["no meat on Sundays"]
    texts.append("no meat on Sundays, please")
    with open_with(FakeEmbedder(), tmp_path / "data") as holdfast:
        holdfast.add_many("ada", texts, split=False)
        seen = holdfast.map("ada")
    found = {of(seen, link) for link in seen.links}
    assert (texts[0], texts[-1], "duplicate") in found


def test_it_shows_escaped_texts(fake: Holdfast) -> None:
    markup = "<script>alert('no meat')</script>"
    fake.add_many("ada", [markup, f"{markup}!"], split=False)
    seen = fake.map("ada", prompts=["<b>meat</b>"])
    shown = seen._repr_html_()
    assert "&lt;script&gt;" in shown
    assert "<script" not in shown
    assert "<b>" not in shown
    assert "<svg" in shown
    assert "duplicate" in str(seen)
    assert repr(seen) == "<ValuesMap of 2 statements, 1 links>"


def test_many_links_are_counted_and_the_first_are_shown(fake: Holdfast) -> None:
    fake.add_many("ada", ["no meat" + "!" * i for i in range(10)], split=False)
    seen = fake.map("ada")
    assert len(seen.links) == 45
    assert seen._repr_html_().count("<tr>") == 1 + mapping._LINKS_SHOWN
    assert "and 25 more" in seen._repr_html_()


@pytest.mark.parametrize("prompts", ["one prompt", 5, [""], [5]])
def test_prompts_are_a_list_of_requests(fake: Holdfast, prompts) -> None:
    with pytest.raises(InvalidInputError):
        fake.map("ada", prompts=prompts)
