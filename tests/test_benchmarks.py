"""The benchmarks' own parts: figures against values worked out by hand, formats, environments."""

import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeEmbedder

from benchmarks import (
    corpus,
    datasets,
    environments,
    metrics,
    product,
    quality,
    speed,
    speed_table,
)
from benchmarks.datasets import Item, Query, Set
from benchmarks.rankers import Dense, Product, Ranking
from holdfast import Holdfast
from holdfast.retrieval.embedder import open_embedder

ROOT = Path(__file__).parent.parent


def test_recall_is_a_fraction_and_hit_is_whether_any_is_there() -> None:
    ranking, relevant = ["d", "a", "c", "b"], {"a", "b"}
    assert [metrics.recall(ranking, relevant, k) for k in (1, 3, 5)] == [0.0, 0.5, 1.0]
    assert [metrics.hit(ranking, relevant, k) for k in (1, 3, 5)] == [0.0, 1.0, 1.0]
    assert metrics.reciprocal_rank(ranking, relevant) == 1 / 2
    assert metrics.reciprocal_rank(ranking, {"z"}) == 0.0


def test_selection_is_counted_over_all_pairs_together() -> None:
    injected = [{"a", "b"}, {"c"}, set[str](), {"d"}]
    relevant = [{"a"}, {"c", "x"}, {"y"}, set[str]()]
    found = metrics.selection(injected, relevant)
    assert found.gold == 2 / 4
    assert found.precision == 2 / 4
    assert found.f1 == 2 * 2 / (4 + 4)
    assert found.fired == 3 / 4
    assert found.per_prompt == 1.0


def test_the_bootstrap_interval_of_a_known_case_is_that_of_the_normal_approximation() -> None:
    generator = np.random.default_rng(3)
    theirs = generator.random(400)
    ours = theirs + generator.normal(0.1, 0.2, 400)
    found = metrics.paired_bootstrap(ours.tolist(), theirs.tolist(), seed=1)
    error = float(np.std(ours - theirs) / 20)
    assert found.mean == pytest.approx(float(np.mean(ours - theirs)))
    assert found.low == pytest.approx(found.mean - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(found.mean + 1.96 * error, abs=0.1 * error)
    assert found == metrics.paired_bootstrap(ours.tolist(), theirs.tolist(), seed=1)


def test_two_equal_methods_differ_by_nothing() -> None:
    found = metrics.paired_bootstrap([1.0, 0.0, 0.5], [1.0, 0.0, 0.5], seed=1, resamples=50)
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)


def test_the_threshold_lets_the_given_share_through() -> None:
    best = [i / 100 for i in range(100)]
    level = metrics.threshold_for(best, 0.05)
    assert sum(score >= level for score in best) == 5
    assert sum(score >= metrics.threshold_for(best, 0.0) for score in best) == 0


def test_no_more_than_the_most_are_returned_above_a_threshold() -> None:
    assert metrics.above(["a", "b", "c"], [0.9, 0.8, 0.7], 0.75, 3) == {"a", "b"}
    assert metrics.above(["a", "b", "c"], [0.9, 0.8, 0.7], 0.0, 1) == {"a"}


def test_auroc_counts_ties_half_and_knows_weights() -> None:
    labels, one = [True, False, True, False], np.ones(4)
    assert metrics.auroc([0.9, 0.1, 0.8, 0.2], labels, one) == 1.0
    assert metrics.auroc([0.5, 0.5, 0.5, 0.5], labels, one) == 0.5
    weights = np.array([3.0, 1.0, 1.0, 1.0])  # the pairs that are won weigh 3 + 3 + 1 of 8
    assert metrics.auroc([0.9, 0.1, 0.3, 0.4], labels, weights) == 7 / 8


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder in the format of the public sets, with one small set."""
    folder = tmp_path / "sets"
    texts = {
        "nuts": ("food", "I never eat nuts."),
        "early": ("work", "No meetings before nine in the morning."),
        "tea": ("food", "Green tea is all I drink."),
    }
    _write(
        folder / "prefeval_a" / "corpus.jsonl",
        [
            {"id": f"{user}/{key}", "user": user, "text": text, "topic": "t", "group": group}
            for user in ("ada", "bo")
            for key, (group, text) in texts.items()
        ],
    )
    _write(
        folder / "prefeval_a" / "queries.jsonl",
        [
            {"id": "q1", "user": "ada", "text": "a cake with nuts?", "relevant": ["ada/nuts"]},
            {"id": "q2", "user": "bo", "text": "meetings at nine?", "relevant": ["bo/early"]},
        ],
    )
    _write(
        folder / "prefeval_a" / "none_silver.jsonl",
        [{"id": "n", "user": "ada", "text": "which tea?", "relevant": [], "exclude_group": "food"}],
    )
    prompts = [{"id": f"p{i}", "text": f"What is {i} times {i}?"} for i in range(40)]
    _write(folder / "negatives" / "none_prompts.jsonl", prompts)
    return folder


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A labelled memory of somebody's own."""
    path = tmp_path / "mine.json"
    memory = {
        "statements": [
            {"id": "s1", "text": "I never eat nuts.", "strength": "must"},
            {"id": "s2", "text": "Be blunt with me.", "scope": "always"},
        ],
        "prompts": [
            {"prompt": "cakes with nuts for nine guests?", "relevant": ["s1"]},
            {"prompt": "what is nine times seven?", "relevant": []},
        ],
    }
    path.write_text(json.dumps(memory), encoding="utf-8")
    return path


def test_a_set_is_read_user_by_user(data: Path) -> None:
    found = datasets.read_set(data, "prefeval_a")
    assert list(found.users) == ["ada", "bo"]
    assert found.users["ada"][0] == Item("ada/nuts", "I never eat nuts.")
    assert found.queries[1] == Query("bo", "meetings at nine?", frozenset({"bo/early"}))


def test_unrelated_prompts_are_asked_of_the_same_users_with_the_same_seed(data: Path) -> None:
    found = datasets.read_unrelated(data, 20)
    assert found.queries == datasets.read_unrelated(data, 20).queries
    assert {query.user for query in found.queries} == {"ada", "bo"}
    assert not any(query.relevant for query in found.queries)


def test_the_group_of_an_absent_topic_is_taken_out(data: Path) -> None:
    found = datasets.read_absent(data)
    assert [item.id for item in found.users["ada without food"]] == ["ada/early"]


def test_memories_are_split_and_keep_what_is_said_of_their_statements() -> None:
    found = datasets.read_memories("dev")
    assert len(found.users) == 16
    assert [item.id for item in found.users["m04"]][:2] == ["m04/s01", "m04/s02"]
    scopes = {item.id: item.scope for items in found.users.values() for item in items}
    assert "always" in scopes.values()
    assert {scopes[i] for query in found.queries for i in query.relevant} == {"topical"}
    others = datasets.read_asked_of_others("dev")
    assert set(others.users) == set(found.users)
    assert len(others.queries) == 640


def test_a_memory_of_ones_own_is_read_and_a_wrong_label_is_named(own: Path) -> None:
    found = datasets.read_own(own)
    assert [(i.id, i.strength, i.scope) for i in found.users["mine"]] == [
        ("mine/s1", "must", "topical"),
        ("mine/s2", None, "always"),
    ]
    own.write_text(own.read_text(encoding="utf-8").replace('["s1"]', '["s9"]'), encoding="utf-8")
    with pytest.raises(SystemExit, match="s9"):
        datasets.read_own(own)


def test_dense_leaves_out_always_statements_and_ranks_by_cosine(own: Path) -> None:
    ranked = Dense("dense", FakeEmbedder().embed).rank(datasets.read_own(own))
    assert [ranking.ids for ranking in ranked] == [["mine/s1"], ["mine/s1"]]
    assert ranked[0].scores[0] > ranked[1].scores[0]


def test_the_whole_report_is_measured_and_printed(
    data: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    product = Product()
    asked = Namespace(data=data, sets=["prefeval_a"], memory=[own], only=["public"])
    try:
        report = quality.measure(
            asked, [product, Dense("dense int8", open_embedder("bundled").embed)], str
        )
    finally:
        product.close()
    ranking = {(row["set"], row["method"]): row for row in report["ranking"]}
    assert ranking["PrefEval A users", "Holdfast"]["recall@1"] == 1.0
    assert ranking["PrefEval A users", "dense int8"]["difference recall@1"].mean == 0.0
    assert ranking["mine.json", "Holdfast"]["recall@1"] == 1.0
    fired = {(r["set"], r["method"]): r["fired"] for r in report["selection"] if r["negative"]}
    assert fired["unrelated prompts", "dense int8"] == 2 / 40
    console = quality.Console(width=150)
    quality.show(console, report | {"baseline": None})
    shown = capsys.readouterr().out
    assert "PrefEval A users (2)" in shown
    assert "mine.json (1)" in shown


def test_what_is_missed_is_counted_by_why() -> None:
    items = {"u": [Item("a", "I never eat nuts.", "boundary"), Item("b", "No debts.", "value")]}
    asked = Set("s", "s", items, [Query("u", "a cake with nuts", frozenset({"a", "b"}))])
    rows = quality.class_rows(asked, {"it": [Ranking(["a", "b"], [1, 0], frozenset({"a"}))]})
    found = {row["class"]: (row["pairs"], row["recall@3"], row["injected"]) for row in rows}
    assert found["they share a word"] == (1, 1.0, 1.0)
    assert found["they share no word"] == (1, 1.0, 0.0)
    assert found["a boundary"] == (1, 1.0, 1.0)
    assert found["prompts under 9 words"] == (2, 1.0, 0.5)


def test_equal_statements_of_a_set_are_one_statement_with_both_ids() -> None:
    twice = [Item("a", "I never eat nuts."), Item("b", "I never  eat nuts.")]
    product = Product()
    try:
        asked = [Query("u", "nuts?", frozenset({"b"}))]
        found = product.rank(Set("twice", "twice", {"u": twice}, asked))
    finally:
        product.close()
    assert found[0].ids == ["a", "b"]
    assert found[0].injected in ({"a", "b"}, set())


def test_a_method_that_loses_more_than_a_point_is_marked() -> None:
    queries = [Query("u", "p", frozenset({"a"}))] * 50
    items = Set("s", "s", {"u": [Item("a", "A"), Item("b", "B")]}, queries)
    right = Ranking(["a", "b"], [1, 0], frozenset())
    wrong = Ranking(["b", "a"], [1, 0], frozenset())
    rows = quality.ranking_rows(
        items, {"Holdfast": [right] * 49 + [wrong], "dense fp32": [right] * 50}
    )
    assert rows[1]["holds recall@1"] is False
    assert rows[1]["holds recall@3"] is True


def test_synthetic_statements_are_distinct() -> None:
    texts = corpus.texts(corpus.MOST)
    assert len(set(texts)) == corpus.MOST == 100_000
    assert corpus.texts(5, 10) == texts[10:15]
    with pytest.raises(ValueError, match="ask for fewer"):
        corpus.texts(2, corpus.MOST - 1)


def test_subjects_take_turns_and_every_statement_arrives_once() -> None:
    arrived = list(corpus.sittings(500, 1500))
    assert [corpus.subject(rows.start) for rows in arrived[:3]] == [
        "user-0001", "user-0002", "user-0001",
    ]  # fmt: skip
    assert sorted(i for rows in arrived for i in rows) == list(range(500, 1500))
    assert all(corpus.subject(rows.start) == corpus.subject(rows.stop - 1) for rows in arrived)


def test_filling_gives_the_vectors_of_the_statements_as_they_arrive(fake: Holdfast) -> None:
    vectors = product.fill(fake, 0, 1000)
    arrived = [i for rows in corpus.sittings(0, 1000) for i in rows]
    texts = corpus.texts(1000)
    assert vectors.shape == (1000, 48)
    assert np.array_equal(
        vectors[[0, 30]], fake.embedder.embed([texts[arrived[i]] for i in (0, 30)])
    )
    assert [len(fake.statements(corpus.subject(i))) for i in (0, 500)] == [500, 500]


def test_each_part_of_loading_many_is_timed(fake: Holdfast) -> None:
    with product._clocks() as parts:
        fake.add_many("ada", ["I never eat nuts.", "I walk to work."])
    assert {name.split(":")[0].split(" (")[0] for name in parts} == {"reading", "Chroma", "SQL"}
    assert {name.partition(": ")[2] for name in parts if name.startswith("SQL")} == {
        "looking for equal ones",
        "statements, vectors and their leaves",
    }


def _report(retrieve: float) -> dict[str, Any]:
    own = {"embed": 0.002, "retrieve": retrieve, "smallest": 0.003, "commit": 0.001}
    own |= {"record": retrieve + 0.0025, "add": 0.01}
    peers = {"mem0-chroma": 0.1, "chroma": 0.01}
    many = {"seconds": [0.1], "peak_bytes": [1]}
    return {
        "machine": "m",
        "notes": [],
        "sizes": {
            "100000": {
                "own": {name: [seconds] * 20 for name, seconds in own.items()},
                "peers": {name: [seconds] * 20 for name, seconds in peers.items()},
                "adds": {"mem0-chroma": [0.02]},
                "holding": {"seconds": [0.1], "peak_bytes": 700_000_000, "resident_bytes": None},
            }
        },
        "loading": {"seconds": 10.0, "embed_seconds": 5.0, "parts": {"embedding": 4.0}},
        "cold": {"query": many, "help": many, "imported": []},
    }


def test_bars_are_met_or_missed_as_measured() -> None:
    met = {row.what: row.met for row in speed_table.rows(_report(retrieve=0.0031))}
    assert met["retrieve(record=False)"] is True
    assert met["… from 1,000 in all, side by side"] is True
    assert met["retrieve(record=True)"] is True
    assert met["mem0 on Chroma, search"] is True
    assert met["memory after every subject's: peak; then"] is False
    assert met["add_many"] is True
    assert met["… heavy packages imported"] is True
    missed = {row.what: row.met for row in speed_table.rows(_report(retrieve=0.004))}
    assert missed["retrieve(record=False)"] is False
    assert missed["… from 1,000 in all, side by side"] is False
    assert missed["mem0 on Chroma, search"] is False


def test_a_disturbed_measurement_is_noted() -> None:
    sizes = {size: {"peers": {"sentence-transformers": [s]}} for size, s in ((1, 0.01), (2, 0.09))}
    notes = speed._disturbed(sizes)
    assert len(notes) == 1
    assert notes[0].startswith("at 2 embedding by sentence-transformers took 9.0 times as long")
    assert speed._disturbed({1: {"peers": {}}}) == []


def test_an_environment_that_is_made_is_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "chroma"
    folder.mkdir()
    wanted = json.dumps(environments.REQUIREMENTS["chroma"])
    (folder / "made.json").write_text(wanted, encoding="utf-8")
    assert environments.make("chroma", tmp_path) == folder / "bin" / "python"


def test_a_peer_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(environments.PeerError, match=r"No such file.*rows\.json"):
        environments.Worker(Path(sys.executable), "mem0_memory.py", work=str(tmp_path), store="x")


def test_the_short_prompt_is_that_of_the_issue_and_arguments_are_checked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["speed", "--sizes", "750"])
    with pytest.raises(SystemExit):
        speed._arguments()
    assert "multiples of 500" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["speed", "--quick", "--peers", "none"])
    arguments = speed._arguments()
    assert isinstance(arguments, Namespace)
    assert (arguments.sizes, arguments.peers) == ([1000], [])
