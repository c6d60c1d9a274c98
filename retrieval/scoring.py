"""Vectors and texts → scores, part by part. Pure: it knows no store, model or verdict.

All scores are integers, in millionths, so that a selection can be replayed bit for
bit on any processor:

- ``dense``: dot products of int8 vectors. Sums of int8 products of normalised vectors
  stay far below 2^24, so a float32 matrix product gives the exact integer in any order
  of summation. Over the segments of a request the best weighted one counts.
- ``lexical``: BM25 (Robertson and Zaragoza 2009) over the subject's own statements,
  brought to a fixed scale by saturation, x / (x + 6): never divided by the best
  candidate, so a score means the same for every request.
- ``total`` = dense + lexical / 10. Rank fusion was measured to hurt here, a larger
  share of BM25 as well.
- ``probability``: the total, corrected for what else is in the memory (``level``), on a
  fitted curve that is given as a table and interpolated in integers.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

VERSION = "scoring-1"
"""Raised whenever the same input would give other scores."""
ONE = 1_000_000
"""Scores are given in millionths."""
LEXICAL_WEIGHT = 100_000  # of ONE
LEXICAL_SATURATION = 6_000  # thousandths of BM25 at which the lexical part is one half
K1, B = 1.2, 0.5
MOST_TERMS = 64

Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

_WORD = re.compile(r"[^\W_]+")
_STOP = frozenset(
    """a about above after again all also am an and any are as at be because been before being
    below between both but by can cannot could did do does doing don down during each few for
    from further get had has have having he her here hers him himself his how i if in into is it
    its itself just let like ll m make me more most my myself need no nor not now of off on once
    only or other our ours ourselves out over own or re s same she should so some such t than that
    the their theirs them themselves then there these they this those through to too under until
    up us ve very want was we were what when where which while who whom why will with would you
    your yours yourself""".split()
)


@dataclass(frozen=True, slots=True)
class Scores:
    """The score parts of n candidates, each an int64 array (n,), in millionths."""

    dense: Int64
    lexical: Int64
    total: Int64


def words(text: str) -> list[str]:
    """Cut a text into the words that the lexical part compares."""
    return [w for w in _WORD.findall(text.casefold()) if len(w) > 1 and w not in _STOP]


class Lexicon:
    """An inverted index of one subject's statements with BM25 weights, in thousandths."""

    __slots__ = ("_places", "_rows", "_starts", "_weights", "size")

    def __init__(self, texts: Sequence[str]) -> None:
        """Index ``texts``; a row is a text's place among them."""
        self.size = len(texts)
        counts = [Counter(words(text)) for text in texts]
        lengths = [count.total() for count in counts]
        average = max(1.0, sum(lengths) / max(1, self.size))
        postings: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
        for row, count in enumerate(counts):
            norm = K1 * (1 - B + B * lengths[row] / average)
            for word, times in count.items():
                postings[word].append((row, times * (K1 + 1) / (times + norm)))
        self._places = {word: place for place, word in enumerate(postings)}
        self._starts = np.cumsum([0, *map(len, postings.values())], dtype=np.int32)
        flat = [posting for entries in postings.values() for posting in entries]
        self._rows = np.array([row for row, _ in flat], np.int32)
        rarity = [
            math.log(1 + (self.size - len(entries) + 0.5) / (len(entries) + 0.5))
            for entries in postings.values()
            for _ in entries
        ]
        self._weights = np.array(
            [round(1000 * r * weight) for r, (_, weight) in zip(rarity, flat, strict=True)],
            np.int32,
        )

    def known(self, terms: Iterable[str]) -> list[str]:
        """Keep the terms that occur in some statement, each once."""
        return [term for term in dict.fromkeys(terms) if term in self._places]

    def score(self, terms: Iterable[str]) -> Int64:
        """Give the lexical part for each row, in millionths of 1."""
        sums = np.zeros(self.size, np.int64)
        for term in self.known(terms):
            place = self._places[term]
            part = slice(self._starts[place], self._starts[place + 1])
            sums[self._rows[part]] += self._weights[part]
        return sums * ONE // (sums + LEXICAL_SATURATION)


def query_terms(texts: Iterable[str]) -> list[str]:
    """Give the words by which a request is compared, at most ``MOST_TERMS``."""
    return list(dict.fromkeys(word for text in texts for word in words(text)))[:MOST_TERMS]


def by_segment(matrix: Int8, queries: Int8, weights: Sequence[int], *, scale: int) -> Int64:
    """Score every statement against each segment of a request, exactly.

    Args:
        matrix: (n, d), the statements' vectors.
        queries: (s, d), the segments' vectors.
        weights: s weights of the segments, in thousandths.
        scale: by which normalised vectors were multiplied to become int8.

    Returns:
        The dense part: (n, s), in millionths.
    """
    if not len(queries) or not len(matrix):
        return np.zeros((len(matrix), len(queries)), np.int64)
    dots = _exact_dots(matrix, queries).astype(np.int64)
    return dots * np.asarray(weights, np.int64) * (ONE // 1000) // (scale * scale)


def best(dense: Int64, lexical: Int64) -> Scores:
    """Give the scores of what counts most over the segments.

    Args:
        dense: (n, s), as ``by_segment`` gives it.
        lexical: (n,), the lexical part, in millionths.
    """
    most = dense.max(axis=1) if dense.shape[1] else np.zeros(len(dense), np.int64)
    return Scores(most, lexical, most + lexical_share(lexical))


def lexical_share(lexical: Int64) -> Int64:
    """Give what the lexical part adds to a total."""
    return lexical * LEXICAL_WEIGHT // ONE


def _exact_dots(matrix: Int8, queries: Int8) -> NDArray[np.float32]:
    columns = queries.T.astype(np.float32)
    result = np.empty((len(matrix), len(queries)), np.float32)
    for start in range(0, len(matrix), 8192):  # keeps the float32 copy small
        part = matrix[start : start + 8192].astype(np.float32)
        np.matmul(part, columns, out=result[start : start + 8192])
    return result


def levels(
    dense: Int64, lexical: Int64, counted: NDArray[np.bool_], table: Mapping[str, Sequence[int]]
) -> Int64:
    """Give the highest level of each statement over the segments of a request: (n,).

    Each segment is looked at by itself (``level``), so that what else a request holds cannot
    push a statement down that leads for the sentence that asks.

    Args:
        dense: (n, s), as ``by_segment`` gives it.
        lexical: (n,), the lexical part.
        counted: as for ``level``.
        table: as for ``level``.
    """
    share = lexical_share(lexical)
    if not dense.shape[1]:
        return level(share, counted, table)
    found = level(dense[:, 0] + share, counted, table)
    for column in range(1, dense.shape[1]):
        found = np.maximum(found, level(dense[:, column] + share, counted, table))
    return found


def level(totals: Int64, counted: NDArray[np.bool_], table: Mapping[str, Sequence[int]]) -> Int64:
    """Correct totals for the memory that they come from, so that one curve fits all.

    A statement that stands out from all others bears more likely than one of many alike, and
    among many statements one scores high by chance.

    Args:
        totals: (n,), in millionths.
        counted: (n,), the statements that compete: topical, and in context.
        table: ``gap``, what the lead over the best other statement counts, in thousandths;
            ``floor``, what that other has at least; ``sizes``, what is taken off in a
            memory of 1, 2, 4, 8 ... statements. Without these, totals stay as they are.

    Returns:
        (n,), in millionths; their order among the counted is that of the totals.
    """
    if "gap" not in table:
        return totals
    own = totals[counted]
    if not own.size:
        return totals
    (gap,), (floor,) = table["gap"], table["floor"]
    first = max(int(own.max()), floor)
    found = totals + (totals - first) * gap // 1000 - _size_offset(own.size, table["sizes"])
    leaders = np.flatnonzero(counted & (totals == int(own.max())))
    if leaders.size == 1:  # its best rival is the second
        second = max(int(np.partition(own, -2)[-2]), floor) if own.size > 1 else floor
        found[leaders] += ((totals[leaders] - second) * gap // 1000) - (
            (totals[leaders] - first) * gap // 1000
        )
    return found


def _size_offset(size: int, offsets: Sequence[int]) -> int:
    """Interpolate between memories of a power of two of statements."""
    power = min(size.bit_length() - 1, len(offsets) - 1)
    if power == len(offsets) - 1:
        return offsets[-1]
    below, above = offsets[power], offsets[power + 1]
    return below + (above - below) * (size - (1 << power)) // (1 << power)


@lru_cache(maxsize=8)
def _columns(totals: tuple[int, ...], chances: tuple[int, ...]) -> tuple[Int64, Int64]:
    return np.array(totals, np.int64), np.array(chances, np.int64)


def probabilities(totals: Int64, table: Mapping[str, Sequence[int]]) -> Int64:
    """Turn totals, as ``level`` corrects them, into probabilities, both in millionths.

    Args:
        totals: (n,).
        table: ``totals`` (ascending) and ``probabilities`` at these; between two entries
            the straight line counts, outside them the nearest.
    """
    xs, ys = _columns(tuple(table["totals"]), tuple(table["probabilities"]))
    clipped = np.clip(totals, xs[0], xs[-1])
    right = np.clip(np.searchsorted(xs, clipped, side="right"), 1, len(xs) - 1)
    left = right - 1
    return ys[left] + (clipped - xs[left]) * (ys[right] - ys[left]) // (xs[right] - xs[left])
