import numpy as np
import pytest

from holdfast import Holdfast
from holdfast.memory.models import KINDS, SCOPES, STRENGTHS
from holdfast.retrieval import heads
from holdfast.retrieval.embedder import BundledEmbedder


@pytest.fixture(scope="module")
def embedder() -> BundledEmbedder:
    return BundledEmbedder()


@pytest.fixture(scope="module")
def trained(embedder: BundledEmbedder) -> heads.Heads:
    found = heads.load(embedder.digest)
    assert found is not None, "the heads are of another embedder: python -m training.heads"
    return found


def test_heads_are_used_for_the_embedder_they_were_fitted_for_alone() -> None:
    assert heads.load("0" * 64) is None


def test_a_softmax_is_a_distribution_whatever_the_size_of_the_logits() -> None:
    weights = np.array([[1000.0, 0.0], [0.0, 1.0]], np.float32)
    found = heads.softmax(np.array([[1.0], [-1.0], [0.0]], np.float32), weights)
    assert found.sum(axis=1) == pytest.approx(1)
    assert found[0, 0] == pytest.approx(1)
    assert found[2, 1] == pytest.approx(np.e / (1 + np.e))


def test_always_needs_more_than_the_likelier_choice() -> None:
    at = SCOPES.index("always")
    for chance, scope in ((0.55, "topical"), (0.65, "always")):
        chances = np.full(2, 1 - chance, np.float32)
        chances[at] = chance
        assert heads.choose("scope", chances) == scope
    strengths = np.array([0.2, 0.5, 0.3], np.float32)
    assert heads.choose("strength", strengths) == STRENGTHS[1]


@pytest.mark.parametrize(
    ("text", "kind", "strength", "scope"),
    [
        ("I never eat nuts: one crumb and I'm in hospital.", "boundary", "must", "topical"),
        ("I swore to my brother never to drink again.", "commitment", "must", "topical"),
        ("I gave my mother my word that the house is never sold.", "commitment", "must", "topical"),
        ("I'd rather sit by the window on trains.", "preference", "prefer", "topical"),
        ("By next summer I want to run ten kilometres.", "goal", "should", "topical"),
        ("Keep your answers short, conclusion first.", "preference", "should", "always"),
    ],
)  # fmt: skip
def test_plain_statements_are_read_as_what_they_are(
    trained: heads.Heads, embedder: BundledEmbedder, text: str, kind: str, strength: str, scope: str
) -> None:
    read = trained.read(text, embedder.embed([text])[0])
    assert (read.kind, read.strength, read.scope) == (kind, strength, scope)


def test_a_relation_is_reported_where_it_is_sure_enough() -> None:
    def said(none: float, duplicate: float, revision: float, tension: float) -> str | None:
        return heads.related(np.array([none, duplicate, revision, tension], np.float32))

    assert said(0.3, 0.4, 0.3, 0.0) == "similar"
    assert said(0.3, 0.3, 0.4, 0.0) == "possible_revision"
    assert said(0.5, 0.3, 0.2, 0.0) is None
    assert said(0.3, 0.05, 0.05, 0.6) == "tension"
    assert said(0.45, 0.05, 0.05, 0.45) is None


def test_what_is_stored_is_read_by_the_heads_unless_it_is_given(
    bundled: Holdfast, trained: heads.Heads, embedder: BundledEmbedder
) -> None:
    text = "We turned down the exclusive deal in March because it cut off our small shops."
    vector = heads.vectors(bundled._library.quantised([text]))[0]
    read = trained.read(text, vector)
    added = bundled.add("shop", text)[0]
    assert (added.kind, added.strength, added.scope) == (read.kind, read.strength, read.scope)
    given = bundled.add("other", text, kind="value", strength="prefer")[0]
    assert (given.kind, given.strength, given.scope) == ("value", "prefer", read.scope)
    proposed = bundled.propose("third", text, source="model:x")[0]
    assert (proposed.kind, proposed.strength) == (read.kind, read.strength)
    assert {read.kind} <= set(KINDS)


def test_what_says_the_same_again_or_anew_is_reported(bundled: Holdfast) -> None:
    bundled.add("ada", "I don't eat meat.")
    again = bundled.add("ada", "I never eat meat.")
    assert [pair.other.text for pair in again.similar + again.possible_revisions] == [
        "I don't eat meat."
    ]
    changed = bundled.add("ada", "I eat meat again since last spring.")
    assert {pair.other.text for pair in changed.possible_revisions + changed.similar} >= {
        "I don't eat meat."
    }
    other = bundled.add("ada", "My brother's workshop gets all our bicycles to repair.")
    assert not other.similar
    assert not other.possible_revisions
