"""The tree agrees with RFC 6962, with others' test vectors, and refuses everything else."""

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.memory.canonical import Rejected
from holdfast.memory.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    edge,
    hash_children,
    hash_leaf,
    inclusion_proof,
    root,
    root_of,
    verify_consistency,
    verify_inclusion,
)

VECTORS: dict[str, Any] = json.loads(
    Path(__file__).with_name("merkle_vectors.json").read_text(encoding="utf-8")
)
"""Of github.com/transparency-dev/merkle (Apache-2.0), gathered in one file."""
MOST = int(os.environ.get("HOLDFAST_TEST_TREES", "300"))
"""Sizes of trees; fewer while the verifier's mutants are tried."""
LEAVES = [hash_leaf(str(number).encode()) for number in range(MOST)]


# The definitions of RFC 6962, section 2.1, as they stand there: nothing shared with the code.


def split(count: int) -> int:
    k = 1
    while k * 2 < count:
        k *= 2
    return k


def tree(leaves: list[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return hashlib.sha256(b"\x01" + tree(leaves[:k]) + tree(leaves[k:])).digest()


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), tree(leaves[k:])]
    return [*path(m - k, leaves[k:]), tree(leaves[:k])]


def subproof(m: int, leaves: list[bytes], complete: bool) -> list[bytes]:
    if m == len(leaves):
        return [] if complete else [tree(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], complete), tree(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), tree(leaves[:k])]


def nodes(level: int, index: int) -> bytes:
    return tree(LEAVES[index << level : (index + 1) << level])


ROOTS = [tree(LEAVES[:size]) for size in range(MOST + 1)]


def raw(text: str | None) -> bytes:
    return base64.b64decode(text or "")


@pytest.mark.parametrize("vector", VECTORS["inclusion"], ids=lambda vector: vector["file"])
def test_inclusion_agrees_with_the_vectors_of_others(vector: dict[str, Any]) -> None:
    def check() -> None:
        verify_inclusion(
            raw(vector["leafHash"]), vector["leafIdx"], vector["treeSize"],
            [raw(each) for each in vector["proof"] or []], raw(vector["root"]),
        )  # fmt: skip

    if vector["wantErr"]:
        with pytest.raises(Rejected):
            check()
    else:
        check()


@pytest.mark.parametrize("vector", VECTORS["consistency"], ids=lambda vector: vector["file"])
def test_consistency_agrees_with_the_vectors_of_others(vector: dict[str, Any]) -> None:
    def check() -> None:
        verify_consistency(
            vector["size1"], vector["size2"], raw(vector["root1"]), raw(vector["root2"]),
            [raw(each) for each in vector["proof"] or []],
        )  # fmt: skip

    if vector["wantErr"]:
        with pytest.raises(Rejected):
            check()
    else:
        check()


def test_there_are_vectors_of_both_kinds_with_both_outcomes() -> None:
    for kind, least in (("inclusion", 90), ("consistency", 90)):
        outcomes = [vector["wantErr"] for vector in VECTORS[kind]]
        assert len(outcomes) >= least
        assert {True, False} == set(outcomes)


def test_hashes_carry_the_prefixes_of_the_rfc() -> None:
    assert hash_leaf(b"") == bytes.fromhex(
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    )
    assert (
        hash_children(b"a" * 32, b"b" * 32)
        == hashlib.sha256(b"\x01" + b"a" * 32 + b"b" * 32).digest()
    )


@pytest.mark.parametrize("size", range(1, MOST + 1))
def test_every_leaf_of_every_tree_is_proved_as_the_rfc_defines_it(size: int) -> None:
    assert root(nodes, size) == ROOTS[size]
    for index in range(size) if size < 40 else {0, 1, size // 2, size - 2, size - 1}:
        proof = inclusion_proof(nodes, index, size)
        assert proof == path(index, LEAVES[:size])
        verify_inclusion(LEAVES[index], index, size, proof, ROOTS[size])


@pytest.mark.parametrize("second", range(1, MOST + 1))
def test_every_tree_is_proved_to_begin_every_later_one(second: int) -> None:
    for first in range(1, second + 1):
        proof = consistency_proof(nodes, first, second)
        if second < 60 or first % 17 == 0:
            assert proof == subproof(first, LEAVES[:second], True)
        verify_consistency(first, second, ROOTS[first], ROOTS[second], proof)


def test_a_frontier_grows_to_the_same_roots_and_starts_anywhere() -> None:
    grown = Frontier()
    assert grown.root() == EMPTY_ROOT == ROOTS[0]
    for size, leaf in enumerate(LEAVES, start=1):
        grown.push(leaf)
        assert (grown.size, grown.root()) == (size, ROOTS[size])
    for start in range(MOST):
        later = Frontier(edge(nodes, start), start)
        assert later.root() == ROOTS[start]
        later.push(LEAVES[start])
        assert later.root() == ROOTS[start + 1]
    assert root_of(LEAVES[: MOST - 1]) == ROOTS[MOST - 1]


@given(st.data())
def test_an_inclusion_proof_that_was_altered_is_refused(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, MOST))
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(nodes, index, size)
    leaf, top = LEAVES[index], ROOTS[size]
    wrong = [
        (leaf, index + 1, size, proof, top),
        (leaf, index - 1, size, proof, top),
        (leaf, index ^ 2, size, proof, top),
        (leaf, -1, size, proof, top),
        (leaf, size, size, proof, top),
        (leaf, index, size * 2, proof, top),
        (leaf, index, 0, proof, top),
        (leaf, index, size, [*proof, top], top),
        (leaf, index, size, [top, *proof], top),
        (leaf, index, size, [*proof, b""], top),
        (leaf, index, size, [b"", *proof], top),
        (leaf, index, size, proof, ROOTS[size - 1]),
        (hash_leaf(b"another"), index, size, proof, top),
        (leaf[:31], index, size, proof, top),
        (leaf, index, size, proof, top[:31]),
    ]  # fmt: skip
    if size > 1:
        wrong += [
            (leaf, index, size // 2, proof, top),
            (leaf, index, size, proof[:-1], top),
            (leaf, index, size, proof[1:], top),
            (leaf, index, size, [*proof[:-1], flipped(proof[-1])], top),
            (leaf, index, size, [flipped(proof[0]), *proof[1:]], top),
            (leaf, index, size, [*proof[:-1], proof[-1][:31]], top),
        ]
    for leaf_hash, at, of, shown, under in wrong:
        with pytest.raises(Rejected):
            verify_inclusion(leaf_hash, at, of, shown, under)


@given(st.data())
def test_a_consistency_proof_that_was_altered_is_refused(data: st.DataObject) -> None:
    second = data.draw(st.integers(2, MOST))
    first = data.draw(st.integers(1, second - 1))
    proof = consistency_proof(nodes, first, second)
    one, two = ROOTS[first], ROOTS[second]
    wrong = [
        (first, second, two, one, proof),
        (first, second, one, one, proof),
        (first, second, two, two, proof),
        (first, second, flipped(one), two, proof),
        (first, second, one, flipped(two), proof),
        (first, second, one, two, []),
        (first, second, one, two, proof[:-1]),
        (first, second, one, two, proof[1:]),
        (first, second, one, two, [*proof, two]),
        (first, second, one, two, [one, *proof]),
        (first, second, one, two, [*proof[:-1], flipped(proof[-1])]),
        (first, second, one, two, [flipped(proof[0]), *proof[1:]]),
        (first, second, one, two, [proof[0][:31], *proof[1:]]),
        (first, second * 2, one, two, proof),
        (first * 2, second, one, two, proof),
        (second, first, two, one, proof),
        (0, second, EMPTY_ROOT, two, []),
        (-1, second, one, two, proof),
        (first, first, one, one, proof),
        (first, first, one, two, []),
        (first, second, one[:31], two, proof),
        (first, second, one, two[:31], proof),
    ]  # fmt: skip
    for start, end, before, after, shown in wrong:
        with pytest.raises(Rejected):
            verify_consistency(start, end, before, after, shown)


def test_empty_trees_are_consistent_only_as_what_they_are() -> None:
    verify_consistency(0, 0, EMPTY_ROOT, EMPTY_ROOT, [])
    verify_consistency(1, 1, ROOTS[1], ROOTS[1], [])
    with pytest.raises(Rejected, match="differ"):
        verify_consistency(0, 0, ROOTS[1], ROOTS[1], [])
    with pytest.raises(Rejected, match="shows nothing"):
        verify_consistency(0, 1, EMPTY_ROOT, ROOTS[1], [])


def test_an_inner_node_cannot_be_passed_off_as_a_leaf() -> None:
    """The preimage of an inner node is no leaf: the prefixes keep them apart."""
    two = root_of(LEAVES[:2])
    with pytest.raises(Rejected):
        verify_inclusion(hash_leaf(LEAVES[0] + LEAVES[1]), 0, 1, [], two)
    proof = inclusion_proof(nodes, 0, 4)
    verify_inclusion(LEAVES[0], 0, 4, proof, ROOTS[4])
    with pytest.raises(Rejected):
        verify_inclusion(two, 0, 4, proof[1:], ROOTS[4])
    with pytest.raises(Rejected):
        verify_inclusion(hash_leaf(LEAVES[0] + LEAVES[1]), 0, 2, proof[1:], ROOTS[4])


def test_a_refusal_says_why() -> None:
    proof = inclusion_proof(nodes, 3, 7)
    for shown, index, words in (
        (proof, 7, "leaf 7 lies outside a tree of 7"),
        (proof[1:], 3, "the inclusion proof has 2 hashes where 3 belong"),
        (proof, 2, "leaf 2 is not included under the checkpoint's root"),
        ([*proof[1:], b"short"], 3, "a hash is not 32 bytes long"),
    ):
        with pytest.raises(Rejected) as refused:
            verify_inclusion(LEAVES[3], index, 7, shown, ROOTS[7])
        assert str(refused.value) == words
    for leaf, top in ((LEAVES[3][1:], ROOTS[7]), (LEAVES[3], ROOTS[7][1:])):
        with pytest.raises(Rejected, match="a hash is not 32 bytes long"):
            verify_inclusion(leaf, 3, 7, proof, top)
    proof = consistency_proof(nodes, 3, 7)
    for sizes, roots, shown, words in (
        ((7, 3), (7, 3), proof, "a tree of 7 leaves is no beginning of one of 3"),
        ((3, 3), (3, 7), [], "two trees of 3 leaves differ"),
        ((3, 7), (3, 7), proof[1:], "the consistency proof has 3 hashes where 4 belong"),
        ((4, 7), (4, 7), proof, "the consistency proof has 4 hashes where 1 belong"),
        ((3, 7), (4, 7), proof, "the proof does not begin with the earlier tree"),
        ((3, 7), (3, 6), proof, "the later tree does not continue the earlier one"),
    ):
        with pytest.raises(Rejected) as refused:
            verify_consistency(*sizes, ROOTS[roots[0]], ROOTS[roots[1]], shown)
        assert str(refused.value) == words
    for before, after, shown in (
        (ROOTS[3][1:], ROOTS[7], proof),
        (ROOTS[3], ROOTS[7][1:], proof),
        (ROOTS[3], ROOTS[7], [proof[0][1:], *proof[1:]]),
    ):
        with pytest.raises(Rejected, match="a hash is not 32 bytes long"):
            verify_consistency(3, 7, before, after, shown)


def flipped(node: bytes) -> bytes:
    return bytes([node[0] ^ 1]) + node[1:]
