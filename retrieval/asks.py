"""A request → the segments that stand for it, with their vectors: which of its sentences ask.

Among the sentences of a long turn, or of one with several, a linear head on the embedding
tells what is asked from what is told, pasted or pretended; the best few count whole, with
their neighbours and their paragraph. A short turn counts as a whole, and where part of it only
tells, what asks counts by itself too. Where a sentence would undo what is kept ("ignore my
preferences"), the turn also counts without it: so it cannot push a statement down. Without
heads for the embedder the segments are those that rules pick (``request``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from . import heads
from .embedder import Embedder, quantise
from .request import LEAD_WORDS, SHORT_WORDS, WHOLE, Request, Segment, Turn
from .scoring import Int8

ASKS = 2
"""Sentences of a request that are taken to ask."""
TOLD_BELOW = 0.5
"""Chance of asking below which a sentence only tells, or was pasted."""
UNDOING_FROM = 0.5
"""Chance from which a sentence is taken to be meant to undo what is kept."""
END_WEIGHT = 900
"""What the first and the last sentence of a long turn count at least."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The s segments of a request, with their vectors."""

    segments: tuple[Segment, ...]
    vectors: Int8
    """(s, d)."""


def hear(asked: Request, embedder: Embedder) -> Heard:
    """Pick the segments of a request, and embed them."""

    def embed(texts: Sequence[str]) -> Int8:
        return quantise(embedder.embed(texts, role="query"), embedder.scale)

    head = heads.load(embedder.digest)
    if head is None or all(turn.whole and len(turn.sentences) < 2 for turn in asked.turns):
        ruled = asked.segments
        return Heard(ruled, embed([segment.text for segment in ruled]))
    sentences = [s for turn in asked.turns if turn.weight == WHOLE for s in turn.sentences]
    sentences = list(dict.fromkeys(sentences))
    known = dict(zip(sentences, embed(sentences), strict=True))
    read = heads.vectors(np.stack([known[s] for s in sentences]))
    undoing = {s for s, chance in zip(sentences, head.override(read), strict=True)
               if chance >= UNDOING_FROM}  # fmt: skip
    chances = head.ask(read)
    order: list[int] = np.argsort(-chances, kind="stable").tolist()
    best = set([sentences[i] for i in order if sentences[i] not in undoing][:ASKS])
    told = {s for s, chance in zip(sentences, chances, strict=True) if chance < TOLD_BELOW}
    weights: dict[str, int] = {}
    for turn in asked.turns:
        for text, weight in _pieces(turn, best, told, undoing):
            counts = weight * turn.weight // WHOLE
            weights[text] = max(counts, weights.get(text, 0))
    missing = [text for text in weights if text not in known]
    known |= dict(zip(missing, embed(missing), strict=True))
    segments = tuple(Segment(text, weight) for text, weight in weights.items())
    return Heard(segments, np.stack([known[segment.text] for segment in segments]))


def _pieces(turn: Turn, best: set[str], told: set[str], undoing: set[str]) -> list[tuple[str, int]]:
    """Give what counts of one turn: (text, weight), in thousandths."""
    sentences = turn.sentences
    found: list[tuple[str, int]] = []
    if undoing.intersection(sentences):
        left = " ".join(s for s in sentences if s not in undoing)
        if left and len(left.split()) <= SHORT_WORDS:
            found.append((left, WHOLE))
    if turn.whole is not None:
        parts = sentences if told.intersection(sentences) else ()
        return [(turn.whole, WHOLE), *found, *((s, WHOLE) for s in parts if s in best - told)]
    found += [(s, WHOLE) for s in sentences if s in best]
    found += [(p, WHOLE) for p in turn.paragraphs if any(s in p for s in best)]
    for left, right in pairwise(sentences):
        both = f"{left} {right}"
        if best & {left, right} and len(both.split()) <= LEAD_WORDS:
            found.append((both, WHOLE))
    return [*found, (sentences[0], END_WEIGHT), (sentences[-1], END_WEIGHT)]
