"""How a new statement stands to one stored: the same again, a possible revision, or neither.

Pure, and a report only: nothing is merged on its word. The cosine says whether two
statements are about the same matter; the words say whether they say the same about it.
"""

import re
from typing import Literal

Relation = Literal["similar", "possible_revision", "tension"]

MOST_COMPARED = 20
"""Stored statements, the closest ones, that a new one is compared with."""

RELATION_FLOOR = 0.60
"""Least cosine at which two statements can be related (for all-MiniLM-L6-v2).

Of 18,105 pairs of different statements of one memory or one part of life, one reached
it (0.604); of 32 rewordings and revisions written for this, two did not.
"""
_SIMILAR_FLOOR = 0.65
"""Least cosine of statements that say the same again."""

_NUMBERS = {
    word: str(number)
    for number, words in enumerate(
        (
            "zero", "", "two twice second", "three third", "four fourth", "five fifth",
            "six sixth", "seven seventh", "eight eighth", "nine ninth", "ten tenth", "eleven",
            "twelve noon", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen",
            "eighteen", "nineteen", "twenty",
        )
    )
    for word in words.split()
} | {"thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "hundred": "100",
     "thousand": "1000", "midnight": "0"}  # fmt: skip
_QUANTITY = re.compile(r"\d+(?:[.,:]\d+)*")
_TIME = re.compile(
    r"\b(?:mondays?|tuesdays?|wednesdays?|thursdays?|fridays?|saturdays?|sundays?|weekends?|"
    r"weekdays?|january|february|march|april|may|june|july|august|september|october|november|"
    r"december|spring|summer|autumn|winter|mornings?|afternoons?|evenings?|nights?|daily|weekly|"
    r"monthly|yearly)\b|(?<=\d)\s?[ap]\.?m\b"
)
_NEGATION = re.compile(
    r"\b(?:no|not|never|nothing|nobody|none|without|cannot|avoid|stop(?:ped)?|quit|refuse)\b|n't\b"
)
_EXCEPTION = re.compile(r"\b(?:except|unless|only|but|apart from|other than)\b")
_TURN = re.compile(
    r"\b(?:no longer|any ?more|not any longer|from now on|now|instead|changed my mind|used to|"
    r"again|since then|as of|these days|switched|replaces?|correction|update)\b"
)
_WISH = re.compile(r"\b(?:prefer|rather|sooner|like|love|ideally|if possible|try to)\b")
_DEMAND = re.compile(r"\b(?:never|must|always|no exceptions?|only|forbidden|under no)\b")
_WORD = re.compile(r"\w+(?:['-]\w+)*")
_UNWEIGHED = re.compile(r"please|kindly|ever|never|not|don't|doesn't|do|does|an?|the")
"""Left out where words are compared one by one: manners, articles, and what ``_NEGATION`` sees."""
_SWAPPED_WORDS = 2
"""Most words in a row that may be exchanged within otherwise equal words."""


class Words:
    """What is read once of a text, however many others it is compared with."""

    __slots__ = ("exception", "marks", "turn", "weighed", "words")

    def __init__(self, text: str) -> None:
        """Read a statement: what it must share with another to say the same, and its words."""
        plain = " ".join(text.casefold().replace("’", "'").replace("‘", "'").split())
        words = _WORD.findall(plain)
        numbers = {number.replace(":00", "") for number in _QUANTITY.findall(plain)}
        numbers |= {_NUMBERS[word] for word in words if word in _NUMBERS}
        times = {time.strip().replace(".", "").rstrip("s") for time in _TIME.findall(plain)}
        wish = bool(_WISH.search(plain)) and not _DEMAND.search(plain)
        self.words = frozenset(words)
        self.weighed = [word for word in words if not _UNWEIGHED.fullmatch(word)]
        self.turn = bool(_TURN.search(plain))
        self.exception = bool(_EXCEPTION.search(plain))
        negated = bool(_NEGATION.search(plain))
        self.marks: tuple[object, ...] = (
            frozenset(numbers), frozenset(times), negated, self.turn, self.exception, wish
        )  # fmt: skip


def relation(text: str, other: str, cosine: float) -> Relation | None:
    """Say how a new text stands to one already stored.

    Args:
        text: the new statement.
        other: the stored one.
        cosine: of their vectors, -1 to 1.

    Returns:
        ``possible_revision`` where both are about one matter and a number, time,
        negation, exception or strength differs, a word of change stands in only one
        of them, or a word or two are exchanged in otherwise equal words;
        ``similar`` where nothing of that kind tells them apart; None otherwise.
    """
    if cosine < RELATION_FLOOR:
        return None
    new, old = Words(text), Words(other)
    if new.marks != old.marks or _word_exchanged(new, old):
        return "possible_revision"
    return "similar" if cosine >= _SIMILAR_FLOOR else None


def differences(new: Words, old: Words) -> list[float]:
    """Say in numbers how the words of a new text and a stored one differ.

    Returns:
        Whether numbers, times, negation, a word of change, an exception or a wish differ;
        whether a word of change or an exception stands in the new one; whether a word or two are
        exchanged; the share of words in common; and the ratio of the lengths.
    """
    common = len(new.words & old.words) / max(1, len(new.words | old.words))
    return [
        *(float(a != b) for a, b in zip(new.marks, old.marks, strict=True)),
        float(new.turn),
        float(new.exception),
        float(_word_exchanged(new, old)),
        common,
        float(common > 0.5),
        min(3.0, len(new.words) / max(1, len(old.words))),
    ]


def _word_exchanged(new: Words, old: Words) -> bool:
    """Whether one run of words is another in otherwise equal words ("in German", "in French")."""
    left, right = new.weighed, old.weighed
    start = 0
    while start < min(len(left), len(right)) and left[start] == right[start]:
        start += 1
    end = 0
    while end < min(len(left), len(right)) - start and left[-1 - end] == right[-1 - end]:
        end += 1
    ours, theirs = len(left) - start - end, len(right) - start - end
    return 0 < ours <= _SWAPPED_WORDS and 0 < theirs <= _SWAPPED_WORDS and start + end > 0
