"""Text as a person writes it → single statements, in their words.

``clean`` refuses what no statement can be made of, ``split`` finds the statements:
first the blocks of the page (paragraphs, hard-wrapped lines, list items, headings),
then the sentences of each block (``sentencex``), then which of those sentences
belong to one matter. It knows nothing of kinds, strengths, storage or vectors.

A sentence stays with the one before when it only explains or restricts it
(``CONTINUES``) or when the one before only introduces it (``INTRODUCES``);
otherwise it is a statement of its own. A heading is left out, but one that its items
need in order to be true ("Never:", "I'm allergic to:") is put before each of them.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import cast

from ..memory.errors import InvalidInputError
from .blocks import blocks, pieces, visible

MAX_STATEMENT_CHARACTERS = 2_000
"""Most characters of one statement."""
MAX_TEXT_CHARACTERS = 100_000
"""Most characters of one text given to ``add``."""
MAX_STATEMENTS = 1_000
"""Most statements read from one text: about what fits its characters at 100 each."""

_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_LINE_END = re.compile(r"\r\n?|[\u2028\u2029]")


def clean(text: str, *, limit: int = MAX_TEXT_CHARACTERS, what: str = "text") -> str:
    """Validate and normalise: Unicode NFC, line ends as ``\\n``, no white space around.

    Args:
        text: what a caller gave.
        limit: most characters allowed, before and after normalising.
        what: the name of the input, for messages.

    Raises:
        InvalidInputError: not a str, nothing visible in it, too long, or it holds
            control characters or lone surrogates. The message never holds the text.
    """
    given = cast(object, text)
    if not isinstance(given, str):
        raise InvalidInputError(
            f"{what} must be a str, not {type(given).__name__}; decode bytes as UTF-8 first"
        )
    if len(given) > limit:
        raise _over_long(what, limit, len(given))
    if _SURROGATE.search(given):
        raise InvalidInputError(
            f"{what} holds a lone surrogate (U+D800 to U+DFFF), which no encoding can store; "
            "decode it again from its source, or replace those characters"
        )
    found = _FORBIDDEN.search(_LINE_END.sub("\n", given.replace("\x85", "\n")))
    if found:
        raise InvalidInputError(
            f"{what} holds the control character U+{ord(found.group()):04X}; give plain text "
            "(tab and line ends are allowed), not the bytes of a file"
        )
    cleaned = unicodedata.normalize("NFC", _LINE_END.sub("\n", given.replace("\x85", "\n"))).strip()
    if not any(visible(character) for character in cleaned):
        raise InvalidInputError(f"{what} is empty or has nothing visible in it; write some words")
    if len(cleaned) > limit:
        raise _over_long(what, limit, len(cleaned))
    return cleaned


def equality_key(text: str) -> str:
    """Return what two texts share when they are the same statement.

    NFC with runs of white space as one space; case and punctuation count.
    """
    return unicodedata.normalize("NFC", " ".join(unicodedata.normalize("NFC", text).split()))


def split(text: str) -> list[str]:
    """Find the single statements of a text, in its order and its words; it is cleaned first.

    Bullets, numbers, heading marks and quote marks at the start of a line are not
    part of a statement. Each statement has at most ``MAX_STATEMENT_CHARACTERS``.

    Raises:
        InvalidInputError: as ``clean``; or one sentence is longer than a statement may
            be (it is not cut), or there are more than ``MAX_STATEMENTS``.
    """
    text = clean(text)
    statements: list[str] = []
    found = blocks(text)
    texts = list(pieces(found))
    for piece in texts:
        statements.extend(_matters(piece, apart=len(texts) > 1))
    if not statements:  # nothing but headings or marks: then they are what was said
        statements = [" ".join(block.text for block in found) or " ".join(text.split())]
    for statement in statements:
        if len(statement) > MAX_STATEMENT_CHARACTERS:
            raise _over_long("one sentence of the text", MAX_STATEMENT_CHARACTERS, len(statement))
    if len(statements) > MAX_STATEMENTS:
        raise InvalidInputError(
            f"the text makes {len(statements)} statements, at most {MAX_STATEMENTS} are read "
            "from one text; give it in several calls"
        )
    return statements


def _over_long(what: str, limit: int, given: int) -> InvalidInputError:
    return InvalidInputError(
        f"{what} has {given:,} characters, at most {limit:,} are allowed; shorten or divide it"
    )


_FIRST_WORD = r"^[\"'“‘«(\[*_]*"
CONTINUES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(_FIRST_WORD + pattern, re.IGNORECASE))
    for name, pattern in (
        (
            "points back",
            r"(?:it|its|it['’]\w+|that|that['’]s|this (?:is|was|goes|means|includes|applies)|"
            r"they|they['’]\w+|them|their|theirs|he|he['’]\w+|she|she['’]\w+|his|him|those|these|"
            r"the (?:last|first|same|other|rest|others) (?:one|time|is|goes|applies|of|are)?|"
            r"if (?:it|they|he|she|so|not|that|there)\b|when (?:it|they|he|she) )(?!\w)",
        ),
        (
            "connects",
            r"(?:because|so|and|but|or|nor|otherwise|even|also|hence|therefore|thus|since then|"
            r"partly|mainly|except|anything|everything else|whatever|nothing|too|still|then|"
            r"instead|not|same (?:for|goes)|for example|e\.g\.|i\.e\.)(?!\w)",
        ),
        (
            "says what one of them does",
            r"(?:one|a single|just one|a)(?: \S+){1,4} and (?:i|i['’]\w+|we|we['’]\w+|my|it)\b",
        ),
        (
            "insists",
            r"(?:no (?:exceptions?|excuses?|matter|ifs|arguments?|debate|discussion|compromise)|"
            r"full stop|end of|period|ever|always|absolutely|seriously)\b.{0,40}$",
        ),
        (
            "gives one's word on it",
            r"(?=.{0,60}$).*\b(?:promised|(?:gave|given) (?:my|our|him|her|them)|my word|"
            r"shook hands|swore|said yes)\b",
        ),
        (
            "short, about what was named before",
            r"(?!\S+(?:\s+\S+){10}).*\b(?:it|them|him|they|he|she)\b",
        ),
    )
)
"""Sentences that say nothing alone, or explain and restrict what stands before them.

Chosen where, of all sentences in the training statements and of random neighbours, at
least four in five that match stand inside one statement.
"""
INTRODUCES: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "a condition, named",
        re.compile(
            r"(?=\S+(?: \S+){0,5}\.$)(?!(?:no|not|never|i|we)\b)(?:\w+\.$|.*\b(?:users?|allerg\w+|"
            r"disease|diagnosed|recovery|autis\w+|dyslex\w+|blind|deaf|diabet\w+|vegan|vegetarian)\b)",
            re.IGNORECASE,
        ),
    ),
    (
        "who one is",
        re.compile(
            r"(?:i['’]m|i am|we['’]re|we are|in recovery|as an?)\b(?!\S*(?:\s+\S+){7}).*\.$",
            re.IGNORECASE,
        ),
    ),
)
"""Sentences that only say why the next one holds ("Guide dog user. Never suggest …")."""
_NO_SUBJECT = re.compile(
    r"(?:no|never|nothing|please|don['’]t|name|give|seat|stop|use|short|one|only|any|quiet)\b",
    re.IGNORECASE,
)
_ABBREVIATED = re.compile(
    r"\b(?:[Aa]pprox|ca|[Ii]ncl|excl|max|min|resp|[Tt]el|ext|vs|cf|Mrs|Str|a\.m\.?/p\.m)\.$"
)
_ADDRESSED = re.compile(
    r"(?:please |kindly )?(?:(?:don['’]t|never|always) )?"
    r"(?:be|answer|reply|respond|speak|talk|write|call me|address me|explain)\b",
    re.IGNORECASE,
)
"""Says how to answer: another matter than what the person eats, owes or wants."""
_WHOLE_SENTENCES = 2
"""A statement often has this many: what holds, and why or how far."""
_SAYS_WHAT_HOLDS = re.compile(
    r"\b(?:no|never|not|nothing|nobody|cannot|avoid|without|only|must|always|every|stays?|"
    r"wants?|likes?|loves?|hates?|prefers?|rather|sooner|keeps?|please|use|give|tell|show|ask|"
    r"write|skip|say|answer|be|stop|promised|swore|agreed|decided|allerg\w+|vegan|vegetarian|"
    r"goal|plan|aim|believe|value|matters?|important|until|at most|comes? first)\b|n['’]t\b",
    re.IGNORECASE,
)
"""Words of a sentence that can be a statement by itself."""
_BEFORE_I = re.compile(
    r"\b(?!(?:dr|mr|mrs|ms|prof|st|sr|jr|eg|ie|etc|vs|cf|no|approx)\.)[a-z]{2,20}\.\s+(?=I(?:['’]\w+)?\s)"
)
_SPEAKER = re.compile(r"(?:i|we)(?:['’]\w+)?\b", re.IGNORECASE)
_NUMBER = re.compile(r"\(?\d{1,3}[.)]")
_CLOSED_QUOTE = re.compile(r"[\"”’»)\]]$")


def _matters(piece: str, *, apart: bool) -> Iterator[str]:
    """Join the sentences of one paragraph or item that are one statement.

    Two sentences are one matter where the writer set them apart from others
    (``apart``: an item, a line, a paragraph among several), which says more than
    their words; and where they are all of the text and only one of them says what holds.
    What says how to answer is always another matter.
    """
    sentences = list(_sentences(piece))
    together = len(sentences) == _WHOLE_SENTENCES and (
        apart or _one_carries_the_other(sentences[0], sentences[1])
    )
    gathered = ""
    before = ""
    for sentence in sentences:
        joined = f"{gathered} {sentence}"
        same = gathered and _one_matter(before, sentence, together=together)
        if same and len(joined) <= MAX_STATEMENT_CHARACTERS:
            gathered = joined
        else:
            if gathered:
                yield gathered
            gathered = sentence
        before = sentence
    if gathered:
        yield gathered


def _one_matter(before: str, sentence: str, *, together: bool = False) -> bool:
    if not any(character.isalnum() for character in sentence):
        return True
    if any(pattern.match(sentence) for _, pattern in CONTINUES):
        return True
    label, identity = (pattern.match(before) for _, pattern in INTRODUCES)
    if not together and (label or (identity and _NO_SUBJECT.match(sentence))):
        together = True
    return together and not (_ADDRESSED.match(sentence) or _ADDRESSED.match(before))


def _one_carries_the_other(first: str, second: str) -> bool:
    if _SPEAKER.match(first) and _SPEAKER.match(second):
        return False
    return bool(_SAYS_WHAT_HOLDS.search(first)) != bool(_SAYS_WHAT_HOLDS.search(second))


def _sentences(piece: str) -> Iterator[str]:
    """Sentences by ``sentencex``; what it cuts too early or too late is mended."""
    held = ""
    for part in _segments(" ".join(piece.split())):
        if _NUMBER.fullmatch(part):  # "1." of a list within one line
            continue
        if held and not _cut_too_early(held[-12:], part):
            yield held
            held = part
        else:
            held = f"{held} {part}".strip()
    if held:
        yield held


def _segments(line: str) -> Iterator[str]:
    import sentencex  # pyright: ignore[reportMissingTypeStubs]

    segment = cast(
        Callable[[str, str], list[str]],
        sentencex.segment,  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    )
    for found in segment("en", line):
        start = 0
        for cut in _BEFORE_I.finditer(found):  # "with me. I": taken for the initial of a name
            if _quotes_closed(found[start : cut.end()]):
                yield found[start : cut.end()].strip()
                start = cut.end()
        if rest := found[start:].strip():
            yield rest


def _quotes_closed(text: str) -> bool:
    return text.count('"') % 2 == 0 and text.count("“") == text.count("”")


def _cut_too_early(tail: str, part: str) -> bool:
    return bool(_ABBREVIATED.search(tail) or (part[0].islower() and _CLOSED_QUOTE.search(tail)))
