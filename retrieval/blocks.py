"""The lines of a page → its blocks: paragraphs, list items, and the headings they need.

Markdown and plain text alike: bullets, numbers, nested lists, ``#`` and underlined
headings, lines that end in a colon, quote marks, hard-wrapped lines. It knows nothing
of sentences, nor of what a block says beyond whether a heading is needed by its items.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from ..memory.errors import InvalidInputError

MAX_BLOCKS = 10_000
"""Most lines, items and paragraphs that are looked at in one text."""
_INVISIBLE = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f")
"""Letters, marks and symbols by category that show nothing (fillers, the blank Braille cell)."""
_BULLET = re.compile(
    r"(?P<indent>[ \t]*)(?:[-*+•‣▪◦●○–—·]|\(?\d{1,3}[.)]|\(?[a-zA-Z]\))[ \t]+"
    r"(?:\[[ xX]\][ \t]+)?(?=\S)"
)
_HEADING = re.compile(r"[ \t]{0,3}#{1,6}[ \t]+(?P<text>\S.*)")
_BOLD_LINE = re.compile(r"(?P<mark>\*\*|__)(?P<text>[^*_]+)(?P=mark):?")
_RULER = re.compile(r"[ \t]*([-*_=~])(?:[ \t]*\1){2,}[ \t]*")
_UNDERLINE = re.compile(r"(?:={3,}|-{3,})[ \t]*")
_QUOTE = re.compile(r"[ \t]*>[ \t]?")
_SENTENCE_END = re.compile(r"[.!?…。！？؟।][\"'”’»)\]*_]*$")
_WRAP_WIDTH = 50
"""Lines shorter than this are not taken for the lines of a hard-wrapped paragraph."""
_LONG_LINE = 40
"""A shorter line is not continued by the next, whatever its case: it is an entry of its own."""
_LABEL_WORDS = 8
"""A line that ends in a colon is a heading up to this many words."""
_BARE_WORDS = 2
"""A heading of up to this many words ("Never", "Please avoid") may need its paragraphs too."""
_FRAGMENT_WORDS = 3
"""Items of up to this many words make sense only together with their heading."""

_NEEDED = re.compile(
    r"\b(?:never|no|not|nothing|nobody|none|without|cannot|avoid|hates?|dislikes?|refuses?|stop|"
    r"skip|forbid\w*|banned|allerg\w*|intoleran\w*|except|unless|if|when|whenever|until|since|"
    r"before|after|during|only|always|must)\b|n['’]ts?\b|^(?:i|i['’]\w+|we|we['’]\w+|please)\b|"
    r"\b(?:to|for|with|from|by|of)$",
    re.IGNORECASE,
)
"""A heading with one of these says something that its items lose without it."""
_RULE_WORD = re.compile(
    r"(?:no|not|never|nothing|always|don['’]t|do|please|be|i|i['’]\w+|we|if)\b",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Block:
    """A paragraph, list item or heading; ``depth`` is an item's indent (0: not an item)."""

    text: str
    depth: int = 0
    heading: bool = False
    section: bool = False
    """True for a heading that holds up to the next one, not only up to a blank line."""
    closed: bool = False
    """True after a blank line: what follows without indent is not part of it."""


def blocks(text: str) -> list[Block]:
    """Find the blocks of a cleaned text, in its order.

    Raises:
        InvalidInputError: there are more than ``MAX_BLOCKS`` lines to look at.
    """
    found: list[Block] = []
    paragraph: list[str] = []

    def close() -> None:
        found.extend(Block(line) for line in _unwrap(paragraph))
        paragraph.clear()

    if text.count("\n") >= MAX_BLOCKS:
        raise InvalidInputError(
            f"the text has more than {MAX_BLOCKS:,} lines; give it in several calls"
        )
    for raw in text.split("\n"):
        line = _QUOTE.sub("", raw, count=1) if raw.lstrip().startswith(">") else raw
        stripped = line.strip()
        item = _BULLET.match(line)
        if _UNDERLINE.fullmatch(stripped) and len(paragraph) == 1:
            found.append(Block(paragraph.pop(), heading=True, section=True))
        elif not stripped or _RULER.fullmatch(line):
            close()
            if found:
                found[-1].closed = True
        elif heading := _HEADING.fullmatch(line):
            close()
            found.append(Block(heading["text"].rstrip("# \t"), heading=True, section=True))
        elif item:
            close()
            depth = 1 + len(item["indent"].expandtabs(4))
            found.append(Block(line[item.end() :].strip(), depth=depth))
        elif not paragraph and _continues_item(found, line):
            found[-1].text += " " + stripped
        elif not paragraph and _is_label(stripped):
            found.append(Block(stripped.strip("*_ "), heading=True))
        else:
            bold = _BOLD_LINE.fullmatch(stripped)
            paragraph.append(bold["text"].strip() if bold else stripped)
    close()
    return [block for block in found if any(map(visible, block.text))]


def _continues_item(blocks: list[Block], line: str) -> bool:
    if not blocks or not blocks[-1].depth:
        return False
    return not blocks[-1].closed or line[:1].isspace()


def _is_label(line: str) -> bool:
    if len(line.split()) > _LABEL_WORDS:
        return False
    if line.rstrip("*_").endswith((":", "：")):
        return True
    bold = _BOLD_LINE.fullmatch(line)
    return bool(bold and not _SENTENCE_END.search(bold["text"]) and not _is_rule(bold["text"]))


def _is_rule(heading: str) -> bool:
    return bool(_RULE_WORD.match(heading) or _NEEDED.search(heading))


def _unwrap(lines: list[str]) -> Iterator[str]:
    """Join hard-wrapped lines; leave lines that are statements of their own apart.

    A paragraph is hard-wrapped when no line but the last had room for the first
    word of the next. Otherwise a line goes on only in lower case, after a long
    line that did not end a sentence, or after a comma.
    """
    if not lines:
        return
    width = max(map(len, lines))
    wrapped = width >= _WRAP_WIDTH and all(
        len(line) + 1 + len(following.split(maxsplit=1)[0]) > width
        for line, following in pairwise(lines)
    )
    lower = sum(line[0].islower() for line in lines) == len(lines)
    parts = [lines[0]]
    for line, following in pairwise(lines):
        goes_on = (
            len(line) >= _LONG_LINE
            and following[0].islower()
            and not lower
            and not _SENTENCE_END.search(line)
        )
        if wrapped or goes_on or line.endswith((",", ";")):
            parts.append(following)
        else:
            yield " ".join(parts)
            parts = [following]
    yield " ".join(parts)


def pieces(found: list[Block]) -> Iterator[str]:
    """Leave headings out, or put them before the items that need them to be true."""
    at = 0
    while at < len(found):
        block = found[at]
        colon = block.text.endswith((":", "："))
        items = _under(found, at)
        lead = block.text.rstrip(":： \t")
        needed = bool(_NEEDED.search(lead))
        at += 1
        if not block.heading and not (items and colon):
            yield block.text
        elif items and (needed or _all_fragments(items)):
            yield from (f"{lead}: {item.text}" for item in items)
            at += len(items)
        elif colon and at < len(found) and not found[at].heading and _is_rule(lead):
            found[at].text = f"{block.text} {found[at].text}"
        elif _is_rule(lead) or (colon and at == len(found)):
            yield block.text


def _under(found: list[Block], at: int) -> list[Block]:
    """Find the items under a heading, a line that ends in a colon, or an item.

    Under a bare heading such as "Never" these are its lines and paragraphs as well.
    """
    block = found[at]
    if not (block.heading or block.depth or block.text.endswith((":", "："))):
        return []
    bare = block.heading and len(block.text.split()) <= _BARE_WORDS
    items: list[Block] = []
    for following in found[at + 1 :]:
        if following.heading or (following.depth <= block.depth and not bare):
            break
        if bare and not following.depth and items and items[-1].closed and not block.section:
            break
        items.append(following)
    return items


def _all_fragments(items: list[Block]) -> bool:
    return all(
        len(item.text.split()) <= _FRAGMENT_WORDS
        and not _RULE_WORD.match(item.text)
        and not _SENTENCE_END.search(item.text)
        for item in items
    )


def visible(character: str) -> bool:
    """Return True for a character that shows something: no space, format or control character."""
    return unicodedata.category(character)[0] in "LNPSM" and character not in _INVISIBLE
