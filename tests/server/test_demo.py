"""The demo shows real results, and they are the right ones."""

import json

import pytest

from holdfast.memory.models import KINDS, STRENGTHS
from holdfast.server import demo
from holdfast.server.cli import cli
from holdfast.server.demo_data import DECISIONS, PROMPTS, STATEMENTS

EXPECTED = {
    "flour": "coeliac",
    "antibiotics": "No antibiotics without an examination",
    "wine": "stopped drinking",
    "diagnosis": "I wrote what I had seen",
    "leg workout": "left knee",
    "Berlin": "the night train",
}


@pytest.fixture(scope="module")
def configuration(tmp_path_factory):
    """Where the key of the demo's data lies."""
    return tmp_path_factory.mktemp("configuration")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, configuration):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(configuration))
        return demo.run(tmp_path_factory.mktemp("demo") / "kept")


def test_the_subject_is_a_whole_person():
    assert len(STATEMENTS) >= 25
    assert len(DECISIONS) >= 5
    assert {s.kind for s in STATEMENTS} | {"decision"} == set(KINDS)
    assert {s.strength for s in STATEMENTS} == set(STRENGTHS)
    assert any(s.scope == "always" for s in STATEMENTS)


@pytest.mark.parametrize(("word", "statement"), EXPECTED.items())
def test_what_bears_on_a_prompt_is_injected(outcome, word, statement):
    (asked,) = [asked for asked in outcome.prompts if word in asked.prompt]
    assert any(statement in candidate.statement.text for candidate in asked.topical)


def test_nothing_topical_is_injected_where_nothing_bears_on_the_prompt(outcome):
    others = [a for a in outcome.prompts if not any(word in a.prompt for word in EXPECTED)]
    assert len(others) >= 2
    assert len(outcome.prompts) == len(PROMPTS) == 8
    for asked in others:
        assert asked.topical == []
        assert asked.near_misses


def test_every_prompt_left_evidence_and_it_holds(outcome):
    assert len({asked.evidence_id for asked in outcome.prompts}) == 8
    assert outcome.replay.same
    assert outcome.verification.ok
    assert outcome.verification.verdict == "VERIFIED"
    # each statement, decision and retrieval is a leaf, and the embedder and the policy once
    assert outcome.verification.checked == len(STATEMENTS) + len(DECISIONS) + 8 + 2


def test_a_throwaway_directory_does_not_stay(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(demo.tempfile, "tempdir", str(tmp_path))
    assert cli.run(["demo"]) == 0
    assert list(tmp_path.iterdir()) == []
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert out.count("evidence ev_") == 8


def test_as_json_it_says_the_same(monkeypatch, capsys, outcome):
    monkeypatch.setattr(demo, "run", lambda *_: outcome)
    assert cli.run(["demo", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert len(value["prompts"]) == 8
    assert value["replay"]["same"] is True


def test_kept_data_can_be_asked_again(outcome, configuration, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(configuration))
    assert cli.run(["list", "--subject", "tove", "--data", str(outcome.kept), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(STATEMENTS) + len(DECISIONS)


def test_a_directory_that_holds_something_is_refused(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert cli.run(["demo", "--keep", str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err
