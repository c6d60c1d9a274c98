"""A request → the segments that stand for it, with their vectors: which of its sentences ask.

Among the sentences of a long turn a linear head on the embedding tells what is asked from what
is told, pasted or pretended; the best few count whole, with their neighbours and their
paragraph. A short turn counts as a whole, and where a sentence of it has nothing to do with the
rest, what asks counts by itself too. Where a sentence would undo what is kept ("ignore my
preferences"), the turn also counts without it, and from and up to each other sentence: so
neither it nor what is pasted with it can push a statement down. Without heads for the embedder
the segments are those that rules pick (``request``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from . import heads
from .embedder import Embedder, quantise
from .request import LEAD_WORDS, SHORT_WORDS, WHOLE, Request, Segment, Turn
from .scoring import Int8

ASKS = 2
"""Sentences of a request that are taken to ask."""
APART = 50
"""Times that the odds of asking are raised of what stands in a short line of a long turn: who
pastes a page writes what they want above it, below it, or between, in a line of its own."""
TOLD_BELOW = 0.5
"""Chance of asking below which a sentence only tells, or was pasted."""
UNDOING_FROM = 0.4
"""Chance from which a sentence is taken to be meant to undo what is kept."""
DOUBTED_FROM = 0.35
"""Chance of it from which a turn of at most ``MOST_RUNS`` sentences also counts from each of
them to its end, and from its beginning up to each."""
MOST_RUNS = 8
FOREIGN = 0.15
"""Cosine to every other sentence of a short turn below which one was pasted, or is to distract:
what asks then counts by itself. In a story that leads up to a request it would only mislead."""
CUTS = 6
"""Parts of a sentence that would undo: how it begins and how it ends may not."""
LEAST_CUT = 8
"""Words of a sentence that is cut."""
END_WEIGHT = 900
"""What the first and the last sentence of a long turn, and its first and last short paragraph,
count at least; a sentence in a short line of its own counts whole there."""


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
    if head is None or not asked.turns:
        ruled = asked.segments
        return Heard(ruled, embed([segment.text for segment in ruled]))
    sentences = [s for turn in asked.turns if turn.weight == WHOLE for s in turn.sentences]
    sentences = list(dict.fromkeys(sentences))
    known = dict(zip(sentences, embed(sentences), strict=True))
    read = heads.vectors(np.stack([known[s] for s in sentences]))
    undone = dict(zip(sentences, head.override(read), strict=True))
    undoing = {s for s in sentences if undone[s] >= UNDOING_FROM}
    doubted = {s for s in sentences if undone[s] >= DOUBTED_FROM}
    saved = {s: _saved(s, head, embed) for s in undoing}
    read_of = dict(zip(sentences, read, strict=True))
    chances = head.ask(read)
    apart = {s for turn in asked.turns for s in turn.apart}
    odds = chances / (1 - chances + 1e-9) * [APART if s in apart else 1 for s in sentences]
    order: list[int] = np.argsort(-odds, kind="stable").tolist()
    best = set([sentences[i] for i in order if sentences[i] not in undoing][:ASKS])
    told = {s for s, chance in zip(sentences, chances, strict=True) if chance < TOLD_BELOW}
    weights: dict[str, int] = {}
    for turn in asked.turns:
        is_doubted = not doubted.isdisjoint(turn.sentences)
        around = _around(turn, saved) if is_doubted else []
        is_mixed = is_doubted or _holds_foreign(turn, read_of)
        for text, weight in [*_pieces(turn, best, told if is_mixed else set()), *around]:
            counts = weight * turn.weight // WHOLE
            weights[text] = max(counts, weights.get(text, 0))
    missing = [text for text in weights if text not in known]
    known |= dict(zip(missing, embed(missing), strict=True))
    segments = tuple(Segment(text, weight) for text, weight in weights.items())
    return Heard(segments, np.stack([known[segment.text] for segment in segments]))


def _saved(sentence: str, head: heads.Heads, embed: Callable[[Sequence[str]], Int8]) -> list[str]:
    """Give how a sentence begins and how it ends, as far as that undoes nothing.

    Text that was pasted around a request without a full stop between is one sentence with it.
    """
    words = sentence.split()
    if len(words) < LEAST_CUT:
        return []
    cuts = sorted({len(words) * i // CUTS for i in range(1, CUTS)})
    parts = [" ".join(words[:cut]) for cut in cuts], [" ".join(words[cut:]) for cut in cuts]
    undone = head.override(heads.vectors(embed([*parts[0], *parts[1]]))).reshape(2, -1)
    begins, ends = (
        [part for part, chance in zip(own, chances, strict=True) if chance < DOUBTED_FROM]
        for own, chances in zip(parts, undone, strict=True)
    )
    return [*begins[-1:], *ends[:1]]


def _around(turn: Turn, saved: Mapping[str, Sequence[str]]) -> list[tuple[str, int]]:
    """Give a turn without what undoes, and, where it is of few sentences, from and up to each."""
    left = [s for s in turn.sentences if s not in saved]
    mended = [part for s in turn.sentences for part in saved.get(s, (s,))]
    runs: dict[str, int] = {}
    for kept in (left, mended):
        ends = range(len(kept) if len(kept) <= MOST_RUNS else 1)
        for run in (part for end in ends for part in (kept[end:], kept[: len(kept) - end])):
            if 0 < sum(len(s.split()) for s in run) <= SHORT_WORDS:
                runs[" ".join(run)] = WHOLE
    return list(runs.items())


def _holds_foreign(turn: Turn, read: Mapping[str, heads.Floats]) -> bool:
    """Tell whether a sentence of a short turn has nothing to do with any other of it."""
    if turn.whole is None or turn.weight < WHOLE or len(turn.sentences) < 2:
        return False
    own = np.stack([read[sentence] for sentence in turn.sentences])
    alike = own @ own.T
    np.fill_diagonal(alike, -1)
    return bool(alike.max(axis=1).min() < FOREIGN)


def _pieces(turn: Turn, best: set[str], told: set[str]) -> list[tuple[str, int]]:
    """Give what counts of one turn: (text, weight), in thousandths."""
    sentences = turn.sentences
    if turn.whole is not None:
        parts = sentences if told.intersection(sentences) else ()
        return [(turn.whole, WHOLE), *((s, WHOLE) for s in parts if s in best - told)]
    found = [(s, WHOLE) for s in sentences if s in best]
    found += [(p, WHOLE) for p in turn.paragraphs if any(s in p for s in best)]
    for left, right in pairwise(sentences):
        both = f"{left} {right}"
        if best & {left, right} and len(both.split()) <= LEAD_WORDS:
            found.append((both, WHOLE))
    ends = {s: WHOLE if s in turn.apart else END_WEIGHT for s in (sentences[0], sentences[-1])}
    ends |= dict.fromkeys(turn.paragraphs[:1] + turn.paragraphs[-1:], END_WEIGHT)
    return [*found, *ends.items()]
