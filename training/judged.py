"""What a larger model says of pairs of which nobody said whether they bear.

``training.teach`` writes ``training/data/judged.npz``, and its documentation says how. Every
prompt that is asked of a memory to learn from is judged beside the twelve nearest statements
of five other memories much like it, which make a group with it, and beside the seven nearest of
its own memory.
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from . import labelled
from .labelled import Bag

FILE = labelled.DATA / "judged.npz"
NEAR, OWN = 12, 7
EIGHTHS = 8
"""Log-odds are kept as int8, in eighths."""
Floats = NDArray[np.float32]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One memory with all p prompts that are asked of it, and what was judged of these."""

    bag: Bag
    group: int
    first: int
    """The number of its first statement, counted through all memories."""
    near: Places
    """(p, NEAR): numbers of statements of other memories of the group."""
    near_odds: Floats
    """(p, NEAR): log-odds that they bear."""
    own: Places
    """(p, OWN): places of statements of this memory."""
    own_odds: Floats
    """(p, OWN)."""


def whole() -> list[Bag]:
    """Give every memory to learn from, with its own prompts and those of others."""
    asked = {bag.name: bag for bag in labelled.asked_of_others("train")}
    found: list[Bag] = []
    for bag in labelled.memories("train", cued=True):
        other = asked.get(bag.name)
        if other:
            bears = np.concatenate([bag.bears, other.bears])
            bag = replace(bag, prompts=[*bag.prompts, *other.prompts], bears=bears)
        found.append(bag)
    return found


def memories() -> list[Judged]:
    """Read what was judged, for the memories of ``whole``, in that order.

    Raises:
        SystemExit: the texts are no longer those that were judged.
    """
    bags = whole()
    with np.load(FILE) as stored:
        held = {name: stored[name] for name in stored.files}
    if held["digest"].tobytes().hex() != digest(bags):
        raise SystemExit(f"{FILE.name} is of other texts; make it anew: python -m training.teach")
    starts = np.cumsum([0, *(len(bag.statements) for bag in bags)])
    rows = np.cumsum([0, *(len(bag.prompts) for bag in bags)])
    return [
        Judged(
            bag=bag,
            group=int(held["group"][i]),
            first=int(starts[i]),
            near=held["near"][rows[i] : rows[i + 1]].astype(np.int64),
            near_odds=held["near_odds"][rows[i] : rows[i + 1]].astype(np.float32) / EIGHTHS,
            own=held["own"][rows[i] : rows[i + 1]].astype(np.int64),
            own_odds=held["own_odds"][rows[i] : rows[i + 1]].astype(np.float32) / EIGHTHS,
        )
        for i, bag in enumerate(bags)
    ]


def write(
    bags: list[Bag], group: Places, near: Places, near_odds: Floats, own: Places, own_odds: Floats
) -> None:
    """Keep what was judged, rounded."""
    np.savez_compressed(
        FILE,
        digest=np.frombuffer(bytes.fromhex(digest(bags)), np.uint8),
        group=group.astype(np.uint16),
        near=near.astype(np.uint16),
        near_odds=rounded(near_odds),
        own=own.astype(np.uint8),
        own_odds=rounded(own_odds),
    )


def rounded(odds: Floats) -> NDArray[np.int8]:
    """Give log-odds in eighths."""
    return np.clip(np.rint(odds * EIGHTHS), -127, 127).astype(np.int8)


def digest(bags: list[Bag]) -> str:
    """Give a hash of the texts of bags, in their order."""
    texts = [text for bag in bags for text in (bag.name, *bag.statements, *bag.prompts)]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
