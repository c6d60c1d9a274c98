"""The tree over a ledger's leaves: hashes, proofs, and checking them. Pure.

RFC 6962, section 2.1, with SHA-256. A tree is never held as a whole: ``Nodes`` gives the
roots of full subtrees, and ``Frontier`` grows a tree leaf by leaf. What ``verify_…``
returns from is true; what is not raises ``Rejected`` and says why.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence

from .canonical import Rejected

HASH_SIZE = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

Nodes = Callable[[int, int], bytes]
"""Gives, by (level, index), the root of the full subtree of the ``2**level`` leaves that
begin at leaf ``index << level``; level 0: the leaf's own hash."""


def hash_leaf(data: bytes) -> bytes:
    """Hash a leaf; the prefix keeps it apart from inner nodes."""
    return hashlib.sha256(b"\x00" + data).digest()


def hash_children(left: bytes, right: bytes) -> bytes:
    """Hash an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


# Checking


def verify_inclusion(
    leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """See that a leaf stands at ``index`` in the tree of ``size`` leaves with this root.

    Args:
        leaf_hash: of the leaf (32 bytes).
        index: from 0.
        size: number of leaves.
        proof: the siblings from the leaf up (RFC 6962, 2.1.1).
        root: the tree's.

    Raises:
        Rejected: it does not.
    """
    check_hashes(leaf_hash, root, *proof)
    if not 0 <= index < size:
        raise Rejected(f"leaf {index} lies outside a tree of {size}")
    inner = (index ^ (size - 1)).bit_length()
    wanted = inner + (index >> inner).bit_count()
    if len(proof) != wanted:
        raise Rejected(f"the inclusion proof has {len(proof)} hashes where {wanted} belong")
    if _up_border(_up(leaf_hash, proof[:inner], index), proof[inner:]) != root:
        raise Rejected(f"leaf {index} is not included under the checkpoint's root")


def verify_consistency(
    first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]
) -> None:
    """See that the tree of ``first`` leaves is the beginning of the one of ``second``.

    Args:
        first: leaves of the earlier tree. An empty tree is the beginning of every tree and
            shows nothing: 0 is refused, unless ``second`` is 0 too.
        second: leaves of the later tree.
        first_root: root of the earlier tree (32 bytes).
        second_root: root of the later tree.
        proof: as in RFC 6962, 2.1.2.

    Raises:
        Rejected: it is not: the later tree is a fork, or shorter.
    """
    if not 0 <= first <= second:
        raise Rejected(f"a tree of {first} leaves is no beginning of one of {second}")
    if first == second:
        if proof or first_root != second_root or (first == 0 and first_root != EMPTY_ROOT):
            raise Rejected(f"two trees of {first} leaves differ")
        return
    if first == 0:
        raise Rejected("consistency with an empty tree shows nothing")
    check_hashes(first_root, second_root, *proof)
    span = ((first - 1) ^ (second - 1)).bit_length()
    shift = (first ^ (first - 1)).bit_length() - 1  # height of its last full subtree
    inner, path = span - shift, (first - 1) >> shift
    is_full = first == 1 << shift  # then its root is known, and left out of the proof
    wanted = inner + ((first - 1) >> span).bit_count() + (not is_full)
    if len(proof) != wanted:
        raise Rejected(f"the consistency proof has {len(proof)} hashes where {wanted} belong")
    seed, rest = (first_root, proof) if is_full else (proof[0], proof[1:])
    before = [sibling for level, sibling in enumerate(rest[:inner]) if path >> level & 1]
    if _up_border(_up_border(seed, before), rest[inner:]) != first_root:
        raise Rejected("the proof does not begin with the earlier tree")
    if _up_border(_up(seed, rest[:inner], path), rest[inner:]) != second_root:
        raise Rejected("the later tree does not continue the earlier one")


def check_hashes(*hashes: bytes) -> None:
    """See that these are hashes by their length.

    Raises:
        Rejected: one is not.
    """
    if any(len(each) != HASH_SIZE for each in hashes):
        raise Rejected("a hash is not 32 bytes long")


def _up(node: bytes, proof: Sequence[bytes], path: int) -> bytes:
    """Go up where siblings stand on either side, as the bits of ``path`` say."""
    for level, sibling in enumerate(proof):
        is_right = path >> level & 1
        node = hash_children(sibling, node) if is_right else hash_children(node, sibling)
    return node


def _up_border(node: bytes, proof: Sequence[bytes]) -> bytes:
    """Go up along the tree's right edge, where siblings stand on the left only."""
    for sibling in proof:
        node = hash_children(sibling, node)
    return node


# Building


class Frontier:
    """The right edge of a growing tree: all that appending and its root need."""

    def __init__(self, edge: Iterable[bytes] = (), size: int = 0) -> None:
        """Start from the roots of the full subtrees of ``size`` leaves, largest first."""
        self._edge = list(edge)
        self.size = size

    def push(self, leaf_hash: bytes) -> None:
        """Append a leaf."""
        node, size = leaf_hash, self.size
        while size & 1:
            node = hash_children(self._edge.pop(), node)
            size >>= 1
        self._edge.append(node)
        self.size += 1

    def root(self) -> bytes:
        """Give the root of what was appended so far."""
        return root_over(self._edge)


def root_over(edge: Sequence[bytes]) -> bytes:
    """Give the root over the roots of full subtrees, largest first."""
    return _up_border(edge[-1], edge[-2::-1]) if edge else EMPTY_ROOT


def root_of(hashes: Iterable[bytes]) -> bytes:
    """Give the root of a tree from the hashes of its leaves."""
    frontier = Frontier()
    for each in hashes:
        frontier.push(each)
    return frontier.root()


def edge(nodes: Nodes, size: int) -> list[bytes]:
    """Give the roots of the full subtrees of ``size`` leaves, largest first."""
    levels = [level for level in range(size.bit_length()) if size >> level & 1]
    return [nodes(level, (size >> level) - 1) for level in reversed(levels)]


def root(nodes: Nodes, size: int) -> bytes:
    """Give the root of the tree of ``size`` leaves."""
    return root_over(edge(nodes, size))


def inclusion_proof(nodes: Nodes, index: int, size: int) -> list[bytes]:
    """Give the proof that leaf ``index`` is in the tree of ``size`` leaves (RFC 6962, 2.1.1)."""
    return _path(nodes, index, 0, size)


def consistency_proof(nodes: Nodes, first: int, second: int) -> list[bytes]:
    """Give the proof that ``first`` leaves are the beginning of ``second`` (RFC 6962, 2.1.2)."""
    if first in (0, second):
        return []
    return _subproof(nodes, first, 0, second)


def _split(count: int) -> int:
    """Give the largest power of two below ``count``."""
    return 1 << (count - 1).bit_length() - 1


def _span(nodes: Nodes, start: int, end: int) -> bytes:
    """Give the root over leaves ``start`` to ``end``, where ``start`` begins a subtree."""
    count = end - start
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return nodes(level, start >> level)
    middle = start + _split(count)
    return hash_children(_span(nodes, start, middle), _span(nodes, middle, end))


def _path(nodes: Nodes, index: int, start: int, end: int) -> list[bytes]:
    if end - start == 1:
        return []
    middle = start + _split(end - start)
    if index < middle:
        return [*_path(nodes, index, start, middle), _span(nodes, middle, end)]
    return [*_path(nodes, index, middle, end), _span(nodes, start, middle)]


def _subproof(nodes: Nodes, first: int, start: int, end: int) -> list[bytes]:
    if first == end:  # the earlier tree itself, from 0 on, is known to whoever checks
        return [] if start == 0 else [_span(nodes, start, end)]
    middle = start + _split(end - start)
    if first <= middle:
        return [*_subproof(nodes, first, start, middle), _span(nodes, middle, end)]
    return [*_subproof(nodes, first, middle, end), _span(nodes, start, middle)]
