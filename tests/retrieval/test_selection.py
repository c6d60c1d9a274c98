from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from holdfast.retrieval.selection import (
    BELOW_THRESHOLD,
    INJECTED,
    MUST,
    OUT_OF_CONTEXT,
    OVER_BUDGET,
    Policy,
    Pool,
    Selection,
    select,
    thresholds,
)

ONE = 1_000_000
ROW = st.tuples(
    st.integers(0, ONE),  # total, and the probability too
    st.integers(0, 2),  # strength
    st.booleans(),  # always
    st.sampled_from([True, True, True, False]),  # in context
    st.integers(1, 40),  # tokens
)
POOLS = st.lists(st.lists(ROW, max_size=14), min_size=1, max_size=3)
POLICIES = st.builds(
    Policy,
    thresholds=st.tuples(*[st.integers(0, ONE)] * 3),
    limit=st.integers(0, 6),
    budget=st.integers(0, 150),
    always_budget=st.integers(0, 150),
)
UNBOUND = {"limit": 10**6, "budget": 10**9, "always_budget": 10**9}


def make_pool(subjects: list[list[tuple[int, int, bool, bool, int]]]) -> Pool:
    """Build a pool; each subject's rows are sorted by id, as a corpus gives them."""
    rows = [row for rows in subjects for row in rows]
    ids = [
        f"st_{(index * 7919 + place * 104729) % 99991:05d}"
        for place, rows in enumerate(subjects)
        for index in range(len(rows))
    ]
    starts = np.cumsum([0, *map(len, subjects)])
    ids = [i for a, b in pairwise(starts.tolist()) for i in sorted(ids[a:b])]
    column = list(zip(*rows, strict=True)) if rows else [(), (), (), (), ()]
    return Pool(
        probability=np.array(column[0], np.int64),
        total=np.array(column[0], np.int64),
        strength=np.array(column[1], np.uint8),
        always=np.array(column[2], np.bool_),
        in_context=np.array(column[3], np.bool_),
        tokens=np.array(column[4], np.int64),
        precedence=np.repeat(np.arange(len(subjects)), [len(rows) for rows in subjects]),
        ids=ids,
    )


def lanes(pool: Pool, found: Selection) -> list[list[int]]:
    always = [row for row in found.injected if pool.always[row]]
    return [always, [row for row in found.injected if not pool.always[row]]]


@given(POOLS, POLICIES)
def test_every_candidate_gets_exactly_the_verdict_that_the_rules_give(
    subjects: list[list[tuple[int, int, bool, bool, int]]], policy: Policy
) -> None:
    pool = make_pool(subjects)
    found = select(pool, policy)
    assert len(found.verdicts) == len(pool.ids)
    assert sorted(found.injected) == np.flatnonzero(found.verdicts == INJECTED).tolist()
    for row, verdict in enumerate(found.verdicts.tolist()):
        needed = 0 if pool.always[row] else policy.thresholds[pool.strength[row]]
        assert found.thresholds[row] == needed
        if not pool.in_context[row]:
            assert verdict == OUT_OF_CONTEXT
        elif pool.probability[row] < needed:
            assert verdict == BELOW_THRESHOLD
        else:
            assert verdict in (INJECTED, OVER_BUDGET)


@given(POOLS, POLICIES)
def test_budgets_and_the_limit_are_never_exceeded(
    subjects: list[list[tuple[int, int, bool, bool, int]]], policy: Policy
) -> None:
    pool = make_pool(subjects)
    always, topical = lanes(pool, select(pool, policy))
    assert pool.tokens[always].sum() <= policy.always_budget
    assert pool.tokens[topical].sum() <= policy.budget
    assert len(topical) <= policy.limit


@given(POOLS, POLICIES)
def test_a_must_is_never_dropped_before_a_weaker_one_of_its_lane(
    subjects: list[list[tuple[int, int, bool, bool, int]]], policy: Policy
) -> None:
    pool = make_pool(subjects)
    found = select(pool, policy)
    for lane in (pool.always, ~pool.always):
        dropped = lane & (found.verdicts == OVER_BUDGET) & (pool.strength == MUST)
        weaker = lane & (found.verdicts == INJECTED) & (pool.strength != MUST)
        assert not (dropped.any() and weaker.any())


@given(POOLS, POLICIES)
def test_the_status_is_degraded_exactly_when_a_must_that_qualified_was_dropped(
    subjects: list[list[tuple[int, int, bool, bool, int]]], policy: Policy
) -> None:
    pool = make_pool(subjects)
    found = select(pool, policy)
    dropped = ((found.verdicts == OVER_BUDGET) & (pool.strength == MUST)).any()
    assert found.status == ("degraded" if dropped else "injected" if found.injected else "none")


@given(POOLS, POLICIES)
def test_candidates_are_ordered_by_total_and_equals_by_id(
    subjects: list[list[tuple[int, int, bool, bool, int]]], policy: Policy
) -> None:
    pool = make_pool(subjects)
    found = select(pool, policy)
    expected = sorted(range(len(pool.ids)), key=lambda row: (-pool.total[row], pool.ids[row]))
    assert list(found.order) == expected


@given(POOLS, st.randoms())
def test_the_order_of_subjects_does_not_change_the_order_of_candidates(
    subjects: list[list[tuple[int, int, bool, bool, int]]], random: object
) -> None:
    pool = make_pool(subjects)
    rows = list(range(len(pool.ids)))
    random.shuffle(rows)  # type: ignore[attr-defined]
    shuffled = Pool(
        **{
            name: getattr(pool, name)[rows]
            for name in ("probability", "total", "strength", "always", "in_context", "tokens")
        },
        precedence=np.ones(len(rows), np.int64),
        ids=[pool.ids[row] for row in rows],
    )
    policy = Policy((0, 0, 0), **UNBOUND)
    by_id = [pool.ids[row] for row in select(pool, policy).order]
    assert [shuffled.ids[row] for row in select(shuffled, policy).order] == by_id


@given(POOLS, POLICIES, st.tuples(*[st.integers(0, ONE)] * 3))
def test_raising_a_threshold_adds_nothing_while_budgets_do_not_bind(
    subjects: list[list[tuple[int, int, bool, bool, int]]],
    policy: Policy,
    raised: tuple[int, int, int],
) -> None:
    pool = make_pool(subjects)
    policy = replace(policy, **UNBOUND)
    higher = tuple(a + b for a, b in zip(policy.thresholds, raised, strict=True))
    before = set(select(pool, policy).injected)
    assert set(select(pool, replace(policy, thresholds=higher)).injected) <= before  # type: ignore[arg-type]


@given(POOLS, POLICIES)
def test_a_policy_survives_evidence(
    subjects: list[list[tuple[int, int, bool, bool, int]]], policy: Policy
) -> None:
    assert Policy.from_json(policy.to_json()) == policy


def pool_of(*rows: tuple[int, int, bool, bool, int]) -> Pool:
    return make_pool([list(rows)])


def test_an_always_statement_needs_no_score_and_a_topical_one_does() -> None:
    pool = pool_of((0, 1, True, True, 5), (0, 1, False, True, 5))
    found = select(pool, Policy((1, 1, 1), 5, 100, 100))
    assert found.verdicts.tolist() == [INJECTED, BELOW_THRESHOLD]


def test_the_lanes_have_budgets_of_their_own() -> None:
    pool = pool_of((9, 1, True, True, 10), (9, 1, False, True, 10))
    assert select(pool, Policy((0, 0, 0), 5, 0, 10)).verdicts.tolist() == [INJECTED, OVER_BUDGET]
    assert select(pool, Policy((0, 0, 0), 5, 10, 0)).verdicts.tolist() == [OVER_BUDGET, INJECTED]


def test_a_must_comes_before_what_scores_higher() -> None:
    pool = pool_of((900, 1, False, True, 10), (100, 0, False, True, 10), (500, 2, False, True, 10))
    found = select(pool, Policy((0, 0, 0), 2, 100, 100))
    assert found.injected == [1, 0]
    assert found.verdicts.tolist() == [INJECTED, INJECTED, OVER_BUDGET]


def test_where_something_weaker_is_too_long_a_shorter_one_takes_the_room() -> None:
    pool = pool_of((900, 1, False, True, 50), (100, 1, False, True, 10))
    assert select(pool, Policy((0, 0, 0), 5, 10, 0)).injected == [1]
    must = pool_of((900, 0, False, True, 50), (100, 1, False, True, 10))
    found = select(must, Policy((0, 0, 0), 5, 10, 0))
    assert (found.injected, found.status) == ([], "degraded")


def test_the_earlier_subject_comes_first_among_musts() -> None:
    pool = make_pool([[(100, 0, False, True, 10)], [(900, 0, False, True, 10)]])
    assert select(pool, Policy((0, 0, 0), 1, 100, 0)).injected == [0]


def test_thresholds_are_turned_into_millionths() -> None:
    assert thresholds(0.07, 0.16, 1) == (70_000, 160_000, ONE)
