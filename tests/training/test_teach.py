import numpy as np
import pytest

from training import judged
from training.labelled import Bag

pytest.importorskip("sentence_transformers", reason="training is an extra of its own")
from training import teach


@pytest.fixture(scope="module")
def bags() -> list[Bag]:
    return judged.whole()[:20]


@pytest.fixture(scope="module")
def known(bags: list[Bag]) -> teach.Vectors:
    chance = np.random.default_rng(5)
    texts = dict.fromkeys(text for bag in bags for text in (*bag.statements, *bag.prompts))
    made = chance.normal(size=(len(texts), 8)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return dict(zip(texts, made, strict=True))


def test_each_prompt_is_learnt_with_all_that_bears_and_the_nearest_that_do_not(
    bags: list[Bag], known: teach.Vectors
) -> None:
    found = teach.lists(bags, known)
    assert len(found) == sum(len(bag.prompts) for bag in bags)
    for bag, row, places in found:
        assert len(set(places)) == len(places)
        assert set(np.flatnonzero(bag.bears[row])) <= set(places)
        likeness = {i: known[bag.prompts[row]] @ known[bag.statements[i]] for i in places}
        quiet = [i for i in places if not bag.bears[row, i]]
        hard = teach.HARD if bag.bears[row].any() else teach.QUIET_HARD
        assert len(quiet) == hard + teach.RANDOM
        hardest = min(likeness[i] for i in quiet[:hard])
        assert all(likeness[i] <= hardest for i in quiet[hard:])


def test_every_memory_is_in_one_group_of_six_at_most(bags: list[Bag], known: teach.Vectors) -> None:
    group = teach.grouped(bags, known)
    assert sorted(np.bincount(group)) == [2, 6, 6, 6]


def test_what_is_judged_is_nearest_and_of_another_memory(
    bags: list[Bag], known: teach.Vectors
) -> None:
    group = teach.grouped(bags, known)
    near, own = teach.candidates(bags, group, known)
    every = [text for bag in bags for text in bag.statements]
    owner = np.repeat(np.arange(len(bags)), [len(bag.statements) for bag in bags])
    of = np.repeat(np.arange(len(bags)), [len(bag.prompts) for bag in bags])
    prompts = [text for bag in bags for text in bag.prompts]
    for number, prompt, numbers, places in zip(of, prompts, near, own, strict=True):
        assert (owner[numbers] != number).all()
        assert (group[owner[numbers]] == group[number]).all()
        cosines = [float(known[prompt] @ known[every[i]]) for i in numbers]
        assert cosines == sorted(cosines, reverse=True)
        bag = bags[number]
        best = max(
            range(len(bag.statements)), key=lambda i: known[prompt] @ known[bag.statements[i]]
        )
        assert places[0] == best
