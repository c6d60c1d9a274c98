"""A request → the pieces that are embedded. Pure: it knows no model and no store.

Only what the user wrote steers retrieval: the last user turn leads, earlier ones
count less, and what tools returned and what Holdfast itself injected count nothing. Where
the last turn only refers back ("yes, do that"), the turn before counts as much, and so does
what the assistant said between the two, for that is what is asked. A short turn is one
segment. Of a long one, and of one of several sentences, the sentences that ask are found
(``asks``), where there is a model for that; elsewhere it is cut into windows, and what is
most likely the ask leads. So pasted matter does not drown it.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ..memory.errors import InvalidInputError
from .blocks import visible
from .context import own_words, reply, strip_context
from .scoring import words

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
REFERRED_WEIGHTS = (WHOLE, WHOLE, 900, 800)
"""The same where the last one refers back."""
MOST_REFERRING = 14
"""Words of a turn that can refer back."""
MOST_SENTENCES = 400
"""Of one turn that are looked at; of more, those that are spread over it."""
MOST_NOISY = 2 * SHORT_WORDS
"""Words of a turn that also counts without what is not legible."""
LONGEST_WORD = 30
"""Signs of a word; what is longer is data."""
MOST_REPEATED = 2
"""Times that a word may stand in a row; more of it says nothing."""
MOST_NESTED = 3
"""Depth to which brackets and tags in one another are taken out."""
LEAST_SENTENCE = 4
"""Words; a shorter sentence goes with the one before it."""

_INVISIBLE = re.compile(r"[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f\ud800-\udfff]")
_JOINING = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_MARKUP = re.compile(r"<[^<>]{0,200}>|\{[^{}]*\}|\[[^\[\]]*\]")
_PUNCTUATION = frozenset(".,:;!?'’‘\"“”„«»()-–—…/%&+€$£")
_BEGINS = (
    "All Also Answer Any As Assume Consider Disregard Do Every For Forget From Here If Ignore "
    "Imagine In It Just Kindly Never No Note Now Only Our Please Pretend Take That The There "
    "These This Those Treat Under We What Whatever When You Your"
)
_SENTENCE_END = re.compile(
    r"(?<=[.!?。！？؟…])[\"'”’)\]]*\s+|\n+|(?<=[。！？])"
    rf"|(?<=[a-z0-9])\s+(?=(?:{_BEGINS.replace(' ', '|')})\s+[a-z])"
)
"""Where a sentence ends; the full stop may be missing before what only begins sentences."""
_TAKES_UP = re.compile(
    r"\W*(?:yes|yeah|yep|okay|ok|sure|fine|good|great|perfect|nice|no|nah|hm+|go|do|let's|the|and|"
    r"but|or|same|why not|make it|put|what about|how about|then|all ?right|right|agreed|done)\b",
    re.IGNORECASE,
)
_REFERS = re.compile(
    r"\b(?:it|that|this|those|these|one|ones|them|same|other|instead|too|then|so)\b", re.IGNORECASE
)


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
class Turn:
    """One turn, in pieces short enough for the embedder to read whole."""

    text: str
    whole: str | None
    """All of it in one piece; None: it is too long."""
    sentences: tuple[str, ...]
    paragraphs: tuple[str, ...]
    """Those of several sentences that are short enough to count in one piece."""
    apart: frozenset[str]
    """Of a long turn the sentences that stand in a short line of their own."""
    weight: int
    """What it counts, in thousandths."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked: a hash that names it, and what stands for it."""

    digest: str
    """SHA-256 of the turns that were read, in hexadecimal."""
    turns: tuple[Turn, ...]
    """The last one first, to pick from with a model (``asks``)."""

    @property
    def segments(self) -> tuple[Segment, ...]:
        """What stands for it, picked by rules alone."""
        weights: dict[str, int] = {}
        for turn in self.turns:
            for segment in segment_turn(turn.text):
                scaled = segment.weight * turn.weight // WHOLE
                weights[segment.text] = max(scaled, weights.get(segment.text, 0))
        return tuple(Segment(text, weight) for text, weight in weights.items())


def parse(request: str | Messages) -> Request:
    """Read a prompt or chat messages.

    Args:
        request: a prompt, or messages in OpenAI's or Anthropic's form.

    Raises:
        InvalidInputError: it is neither, is empty, or is beyond ``MOST_CHARACTERS``.
    """
    turns, between = _turns(request)
    if sum(map(len, turns)) > MOST_CHARACTERS:
        raise InvalidInputError(
            f"the request is longer than {MOST_CHARACTERS:,} characters; send less of it"
        )
    if not _says_something(request, turns):
        raise InvalidInputError("the request is empty; give a prompt or chat messages")
    back = len(turns) > 1 and refers_back(turns[-1])
    weights = REFERRED_WEIGHTS if back else TURN_WEIGHTS
    read = list(zip(reversed(turns[-1 - EARLIER_TURNS :]), weights, strict=False))
    if back and between:
        read.insert(1, (between, WHOLE))
    named = hashlib.sha256()
    for turn in (*turns, *([between] if back and between else [])):
        named.update(hashlib.sha256(turn.encode()).digest())
    pieces = [_pieces_of(text, weight) for turn, weight in read for text in _versions(turn)]
    return Request(named.hexdigest(), tuple(pieces))


def legible(text: str) -> str:
    """Leave out what nobody reads as words: tags, code, one word again and again, and scripts
    other than Latin.

    A text of which three quarters are in another script keeps it.
    """
    left = text
    for _ in range(MOST_NESTED):
        left = _MARKUP.sub(" . ", left)
    kept = [word for word in left.split() if _is_word(word)]
    letters = [sign for word in kept for sign in word if sign.isalpha()]
    if 4 * sum(map(_is_latin, letters)) > len(letters):
        kept = [w for w in kept if all(_is_latin(sign) for sign in w if sign.isalpha())]
    runs = [list(run) for _, run in groupby(kept, str.casefold)]
    return " ".join(word for run in runs if len(run) <= MOST_REPEATED for word in run)


def _versions(turn: str) -> list[str]:
    """Give a turn, and what of it is legible where that is less, so that noise hides nothing."""
    if len(turn.split()) > MOST_NOISY:
        return [turn]
    left = legible(turn)
    return [turn, left] if words(left) and left.split() != turn.split() else [turn]


def _is_word(text: str) -> bool:
    readable = sum(sign.isalnum() or sign in _PUNCTUATION for sign in text)
    return len(text) == 1 or (len(text) <= LONGEST_WORD and 4 * readable >= 3 * len(text))


def _is_latin(sign: str) -> bool:
    return sign < "\u0250"


def refers_back(text: str) -> bool:
    """Tell whether a turn asks for nothing by itself: "yes, do that", "and the second one?"."""
    if len(text.split()) > MOST_REFERRING:
        return False
    content = len(words(text))
    return (
        content <= 1
        or (content <= 3 and _TAKES_UP.match(text) is not None)
        or (content <= 5 and _REFERS.search(text) is not None)
    )


def _pieces_of(turn: str, weight: int) -> Turn:
    plain = turn.split()
    whole = " ".join(plain) if _is_short(turn, plain) else None
    if whole is not None and _SENTENCE_END.search(turn) is None:
        return Turn(turn, whole, (whole,), (), frozenset(), weight)
    lines = [line for line in turn.splitlines() if line.strip()]
    told = [_sentences(line) for line in lines]
    short = [pair for pair in zip(lines, told, strict=True) if _is_short(pair[0], pair[0].split())]
    paragraphs = [" ".join(line.split()) for line, own in short if len(own) > 1]
    apart = () if whole is not None else (sentence for _, own in short for sentence in own)
    sentences = list(dict.fromkeys(sentence for own in told for sentence in own))
    step = -(-len(sentences) // MOST_SENTENCES) or 1
    spread = (*sentences[:-1:step], *sentences[-1:])
    return Turn(turn, whole, spread, tuple(dict.fromkeys(paragraphs)), frozenset(apart), weight)


def _is_short(turn: str, plain: Sequence[str]) -> bool:
    return len(plain) <= SHORT_WORDS and len(turn) <= 12 * SHORT_WORDS


def _sentences(text: str) -> list[str]:
    """Cut a line into sentences; a very short one goes with the one before it."""
    found: list[str] = []
    for part in _SENTENCE_END.split(text):
        sentence = " ".join((part or "").split())
        if found and sentence and len(sentence.split()) < LEAST_SENTENCE:
            found[-1] = f"{found[-1]} {sentence}"
        elif sentence:
            found.append(sentence)
    return [part for sentence in found for part in _readable(sentence)]


def _says_something(request: str | Messages, turns: Sequence[str]) -> bool:
    """Tell whether there is a prompt that shows something, or at least one message."""
    if isinstance(request, str):
        return any(visible(sign) for turn in turns for sign in turn)
    return bool(request)


def segment_turn(text: str) -> list[Segment]:
    """Cut one turn into segments, each short enough for the embedder to read whole."""
    plain = text.split()
    if not plain:
        return []
    if _is_short(text, plain):
        return [Segment(" ".join(plain), WHOLE)]
    segments = _leads(text)
    for window in _windows(text):
        segments.setdefault(window, WINDOW_WEIGHT)
    return [Segment(window, weight) for window, weight in segments.items()]


def _turns(request: str | Messages) -> tuple[list[str], str]:
    """Give the user's own turns, oldest first, and what the assistant said before the last."""
    if isinstance(request, str):
        texts, replies = [request], [""]
    elif isinstance(request, Sequence):
        texts = [own_words(message) for message in request]
        replies = [reply(message) for message in request]
    else:
        raise InvalidInputError("a request is a text, or a list of chat messages")
    turns = [_clean(text) for text in texts]
    last = max((i for i, text in enumerate(turns) if text), default=0)
    between = _clean(replies[last - 1]) if last else ""
    return [text for text in turns if text], " ".join(between.split()[:SHORT_WORDS])


def _readable(sentence: str) -> list[str]:
    """Cut a sentence that is too long for one segment, by words or by signs, into several."""
    parts = [part for word in sentence.split() for part in _pieces(word, 24)]
    if len(parts) <= LEAD_WORDS:
        return [sentence]
    return [" ".join(parts[i : i + LEAD_WORDS]) for i in range(0, len(parts), LEAD_WORDS)]


def _clean(text: str) -> str:
    return strip_context(_INVISIBLE.sub(" ", _JOINING.sub("", text))).strip()


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
    parts = [part for word in text.split() for part in _pieces(word, 24)]
    last = max(0, len(parts) - WINDOW_WORDS)  # where the last window starts
    steps = min(MOST_WINDOWS - 1, -(-last // (WINDOW_WORDS * 2 // 3)))
    starts = [last * i // steps for i in range(steps + 1)] if steps else [0]
    return [" ".join(parts[start : start + WINDOW_WORDS]) for start in starts]


def _pieces(word: str, size: int) -> list[str]:
    return [word[i : i + size] for i in range(0, len(word), size)]
