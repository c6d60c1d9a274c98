from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from training import judged, labelled
from training.judged import Judged


@pytest.fixture(scope="module")
def memories() -> list[Judged]:
    return judged.memories()


@pytest.fixture(scope="module")
def tune() -> ModuleType:
    pytest.importorskip("sentence_transformers", reason="training is an extra of its own")
    from training import tune

    return tune


def test_what_was_judged_are_statements_of_other_memories_of_the_group(
    memories: list[Judged],
) -> None:
    owner = np.repeat(np.arange(len(memories)), [len(m.bag.statements) for m in memories])
    group = np.array([memory.group for memory in memories])
    assert np.bincount(group).max() == 6
    for number, memory in enumerate(memories):
        assert memory.near.shape == (len(memory.bag.prompts), judged.NEAR)
        assert memory.own.shape == (len(memory.bag.prompts), judged.OWN)
        owners = owner[memory.near]
        assert (owners != number).all()
        assert (group[owners] == memory.group).all()
        assert memory.own.max() < len(memory.bag.statements)


def test_the_judgements_agree_with_the_labels_where_there_are_some(
    memories: list[Judged],
) -> None:
    bears = np.concatenate(
        [np.take_along_axis(m.bag.bears, m.own, axis=1).ravel() for m in memories]
    )
    odds = np.concatenate([memory.own_odds.ravel() for memory in memories])
    said = odds > 0
    assert (said & bears).sum() / said.sum() > 0.8
    assert (said & bears).sum() / bears.sum() > 0.8


def test_other_texts_than_those_judged_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bags = judged.whole()
    bags[3] = replace(bags[3], prompts=["Something else?", *bags[3].prompts[1:]])
    monkeypatch.setattr(judged, "whole", lambda: bags)
    with pytest.raises(SystemExit, match=r"python -m training\.teach"):
        judged.memories()


def test_a_batch_holds_labels_and_judgements_where_they_belong(
    memories: list[Judged], tune: ModuleType
) -> None:
    group = [memory for memory in memories if memory.group == memories[0].group]
    scene = labelled.scenes()[0]
    pieces = [
        *(tune.Piece(memory.bag, np.array([1, 4]), memory) for memory in group),
        tune.Piece(scene, np.arange(12)),
    ]
    batch = tune.gather(pieces)
    assert batch.prompts[:2] == [group[0].bag.prompts[1], group[0].bag.prompts[4]]
    assert batch.statements[-5:] == scene.statements
    np.testing.assert_array_equal(batch.belief[-12:, -5:], scene.bears)
    assert not batch.judged[-12:].any()
    every = [text for memory in memories for text in memory.bag.statements]
    for number, odds in zip(group[0].near[4], group[0].near_odds[4], strict=True):
        column = batch.statements.index(every[number])
        expected = 1 / (1 + np.exp(-(odds + tune.NEAR_SHIFT)))
        assert batch.belief[1, column] == pytest.approx(expected)
        assert batch.near[1, column]
    unjudged = batch.labelled & ~batch.judged
    own = group[0].bag.bears[[1, 4]]
    height, width = own.shape
    some = unjudged[:height, :width]
    np.testing.assert_array_equal(batch.belief[:height, :width][some], own[some])


def test_an_epoch_holds_every_labelled_prompt_once(
    memories: list[Judged], tune: ModuleType
) -> None:
    scenes = labelled.scenes()[:20]
    some = memories[:60]
    (epoch,) = tune.plan(some, scenes, [], 1)
    asked = [p.bag.prompts[i] for pieces in epoch for p in pieces for i in p.rows]
    wanted = [prompt for memory in some for prompt in memory.bag.prompts]
    wanted += [prompt for scene in scenes for prompt in scene.prompts]
    assert sorted(asked) == sorted(wanted)
