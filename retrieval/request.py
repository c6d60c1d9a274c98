"""A request → the segments that are embedded. Pure: it knows no model and no store.

Only what the user wrote steers retrieval: the last user turn leads, earlier ones
count less, and what tools returned, what the assistant said and what Holdfast itself
injected count nothing. A short turn is one segment. A long one is cut into windows,
since the ask may be its first line, its last, or anywhere between; what is most likely
the ask leads and the rest counts less, so that pasted matter does not drown it.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..memory.errors import InvalidInputError
from .blocks import visible
from .context import own_words, strip_context

Messages = Sequence[Mapping[str, Any]]

SHORT_WORDS = 100
"""A turn of at most so many words is one segment (MiniLM reads 256 tokens)."""
WINDOW_WORDS = 90
LEAD_WORDS = 60
MOST_WINDOWS = 48
"""Windows embedded for one turn: they meet up to 4,320 words; of a longer one they are spread."""
MOST_CHARACTERS = 2_000_000
EARLIER_TURNS = 3
WHOLE = 1000
"""Weight of what leads, in thousandths."""
QUESTION_WEIGHT = 900
WINDOW_WEIGHT = 700
TURN_WEIGHTS = (WHOLE, 800, 700, 600)
"""Weights of the last user turn and of the three before it."""

_INVISIBLE = re.compile(r"[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f\ud800-\udfff]")
_SENTENCE_END = re.compile(r"(?<=[.!?。！？؟…])[\"'”’)\]]*\s+|\n+|(?<=[。！？])")


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a request, and how much it counts, in thousandths."""

    text: str
    weight: int

    @property
    def leads(self) -> bool:
        """Whether its words also count for the lexical part."""
        return self.weight == WHOLE


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked: a hash that names it, and the segments that stand for it."""

    digest: str
    """SHA-256 of the user's turns, in hexadecimal."""
    segments: tuple[Segment, ...]


def parse(request: str | Messages) -> Request:
    """Read a prompt or chat messages.

    Args:
        request: a prompt, or messages in OpenAI's or Anthropic's form.

    Raises:
        InvalidInputError: it is neither, is empty, or is beyond ``MOST_CHARACTERS``.
    """
    turns = _turns(request)
    if sum(map(len, turns)) > MOST_CHARACTERS:
        raise InvalidInputError(
            f"the request is longer than {MOST_CHARACTERS:,} characters; send less of it"
        )
    if not _says_something(request, turns):
        raise InvalidInputError("the request is empty; give a prompt or chat messages")
    named = hashlib.sha256()
    for turn in turns:
        named.update(hashlib.sha256(turn.encode()).digest())
    segments: dict[str, int] = {}
    for turn, weight in zip(reversed(turns[-1 - EARLIER_TURNS :]), TURN_WEIGHTS, strict=False):
        for segment in segment_turn(turn):
            scaled = segment.weight * weight // WHOLE
            segments[segment.text] = max(scaled, segments.get(segment.text, 0))
    return Request(
        named.hexdigest(), tuple(Segment(text, weight) for text, weight in segments.items())
    )


def _says_something(request: str | Messages, turns: Sequence[str]) -> bool:
    """Tell whether there is a prompt that shows something, or at least one message."""
    if isinstance(request, str):
        return any(visible(sign) for turn in turns for sign in turn)
    return bool(request)


def segment_turn(text: str) -> list[Segment]:
    """Cut one turn into segments, each short enough for the embedder to read whole."""
    words = text.split()
    if not words:
        return []
    if len(words) <= SHORT_WORDS and len(text) <= 12 * SHORT_WORDS:
        return [Segment(" ".join(words), WHOLE)]
    segments = _leads(text)
    for window in _windows(text):
        segments.setdefault(window, WINDOW_WEIGHT)
    return [Segment(window, weight) for window, weight in segments.items()]


def _turns(request: str | Messages) -> list[str]:
    """Give the user's own turns, cleaned, oldest first."""
    if isinstance(request, str):
        texts: Iterable[str] = [request]
    elif isinstance(request, Sequence):
        texts = [own_words(message) for message in request]
    else:
        raise InvalidInputError("a request is a text, or a list of chat messages")
    cleaned = (strip_context(_INVISIBLE.sub(" ", text)).strip() for text in texts)
    return [text for text in cleaned if text]


def _leads(text: str) -> dict[str, int]:
    """Pick what is most likely the ask: how it begins and ends, then questions within."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    sentences = [" ".join(s.split()) for s in _SENTENCE_END.split(text) if s and s.strip()]
    leads = {
        _cut(lines[0]): WHOLE,
        " ".join(lines[-1][-12 * LEAD_WORDS :].split()[-LEAD_WORDS:]): WHOLE,
        _cut(sentences[0]): WHOLE,
        _cut(sentences[-1]): WHOLE,
        _cut(" ".join(sentences[:2])): WHOLE,
        _cut(" ".join(sentences[-2:])): WHOLE,
    }
    asked = [s for s in sentences[1:-1] if s.endswith(("?", "？", "؟"))]
    for sentence in (*asked[:2], *asked[-2:]):
        leads.setdefault(_cut(sentence), QUESTION_WEIGHT)
    return leads


def _cut(sentence: str) -> str:
    return " ".join(sentence[: 12 * LEAD_WORDS].split()[:LEAD_WORDS])


def _windows(text: str) -> list[str]:
    """Cut a text into overlapping windows of whole words, or of signs where none are spaced."""
    words = [part for word in text.split() for part in _pieces(word, 24)]
    last = max(0, len(words) - WINDOW_WORDS)  # where the last window starts
    steps = min(MOST_WINDOWS - 1, -(-last // (WINDOW_WORDS * 2 // 3)))
    starts = [last * i // steps for i in range(steps + 1)] if steps else [0]
    return [" ".join(words[start : start + WINDOW_WORDS]) for start in starts]


def _pieces(word: str, size: int) -> list[str]:
    return [word[i : i + size] for i in range(0, len(word), size)]
