import re
from collections import Counter

import numpy as np
import pytest

from holdfast.memory.models import KINDS, SCOPES, STRENGTHS
from training import labelled


def plain(text: str) -> str:
    return re.sub(r"\W+", " ", text.casefold()).strip()


def test_every_statement_says_what_it_is_in_the_words_that_there_are() -> None:
    rows = list(labelled.statements())
    assert len(rows) > 4_000
    for row in rows:
        assert row["kind"] in KINDS
        assert row["strength"] in STRENGTHS
        assert row["scope"] in SCOPES
        assert row["text"].strip() == row["text"]


def test_a_scene_asks_the_same_twelve_prompts_of_each_of_its_five_statements() -> None:
    bags = labelled.scenes()
    assert len(bags) == 456
    for bag in bags:
        assert bag.bears.shape == (12, 5), bag.name
        assert len(set(bag.prompts)) == 12
        assert bag.bears.any(0).all(), "every statement bears on something"
        assert not bag.bears.all(0).any(), "and on something not"


@pytest.mark.parametrize("name", labelled.MEMORIES)
def test_labels_of_memories_name_their_topical_statements(name: str) -> None:
    for memory in labelled.rows(name):
        scopes = {s["id"]: s["scope"] for s in memory["statements"]}
        whole = name in labelled.CHECKED
        assert len(scopes) in ([20] if whole else range(17, 21))
        assert len(memory["prompts"]) in ([55] if whole else range(35, 49))
        assert all(prompt["prompt"].strip() for prompt in memory["prompts"])
        for prompt in memory["prompts"]:
            assert {scopes[i] for i in prompt["relevant"]} <= {"topical"}


@pytest.mark.parametrize(
    "name", ["asked_of_others.jsonl", "mined.jsonl", "conversations.jsonl", "asks.jsonl"]
)
def test_what_is_asked_of_a_memory_is_labelled_with_its_topical_statements(name: str) -> None:
    scopes = {
        (memory["id"], s["id"]): s["scope"]
        for file in labelled.MEMORIES
        for memory in labelled.rows(file)
        for s in memory["statements"]
    }
    rows = labelled.rows(name)
    assert len(rows) >= 100
    for row in rows:
        assert all(scopes[row["memory"], i] == "topical" for i in row["relevant"])


@pytest.mark.parametrize("split", ["dev", "test"])
def test_nothing_asked_of_a_memory_that_is_reported_on_is_learnt_from(split: str) -> None:
    dev = labelled.memories(split, cued=True)
    train = labelled.memories("train", cued=True)
    learnt = {plain(p) for bag in train for p in bag.prompts}
    for name in ("asked_of_others.jsonl", "mined.jsonl"):
        learnt |= {plain(p) for bag in labelled.asked_of_others("train", name) for p in bag.prompts}
    learnt |= {plain(p) for bag in labelled.scenes() for p in bag.prompts}
    others = labelled.asked_of_others("dev") if split == "dev" else []
    asked = [plain(p) for bag in (*dev, *others) for p in bag.prompts]
    assert len(asked) > 600
    assert not learnt.intersection(asked)


def test_no_text_of_what_was_added_is_in_the_data_given() -> None:
    given = {plain(row["statement"]) for row in labelled.rows("groups.jsonl")}
    given |= {
        plain(entry["prompt"])
        for row in labelled.rows("groups.jsonl")
        for entry in (*row["applies"], *row["not_applies"])
    }
    given |= {plain(s["text"]) for m in labelled.rows("memories.jsonl") for s in m["statements"]}
    given |= {plain(p["prompt"]) for m in labelled.rows("memories.jsonl") for p in m["prompts"]}
    added = {plain(text) for bag in labelled.scenes() for text in (*bag.statements, *bag.prompts)}
    for name in labelled.MEMORIES[1:]:
        added |= {plain(s["text"]) for m in labelled.rows(name) for s in m["statements"]}
        added |= {plain(p["prompt"]) for m in labelled.rows(name) for p in m["prompts"]}
    assert len(added) > 40_000
    assert not added & given


def test_pairs_are_labelled_and_none_stands_twice() -> None:
    pairs = labelled.rows("pairs.jsonl")
    counts = Counter(pair["label"] for pair in pairs)
    assert counts == {"none": 260, "duplicate": 130, "revision": 130, "tension": 120}
    assert len({(pair["first"], pair["second"]) for pair in pairs}) == len(pairs)


def test_older_groups_come_without_their_near_misses() -> None:
    assert all(bag.bears.all() and len(bag.statements) == 1 for bag in labelled.groups())
    cued, plain_ = labelled.memories("train", cued=True), labelled.memories("train")
    dropped = sum(len(bag.prompts) for bag in cued) - sum(len(bag.prompts) for bag in plain_)
    quiet = [~bag.bears.any(1) for bag in cued]
    assert 0 < dropped < np.concatenate(quiet).sum()
