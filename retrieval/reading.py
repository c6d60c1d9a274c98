"""Plain text → statements: where they begin and end, and what kind, strength and scope they have.

The engine's one door to reading. The splitting lies in ``splitting`` and ``blocks``;
how two statements relate in ``relation``; here are the rules for kind, strength and
scope. They are tables of (name, what it says, pattern): the first that matches decides. A
trained reader (``heads``) weighs them beside the embedding where there is one for the
embedder. They know English; of any other language they read
the careful default (``value``, ``should``, ``topical``).

Two mistakes are worse than the others, and the order of the rules avoids them: a hard
boundary read as a wish, and a topical statement read as ``always``, which would
then come with every request.
"""

import re
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..memory.models import Kind, Scope, Strength
from .relation import RELATION_FLOOR, Relation, relation
from .splitting import (
    MAX_STATEMENT_CHARACTERS,
    MAX_STATEMENTS,
    MAX_TEXT_CHARACTERS,
    clean,
    equality_key,
    split,
)

__all__ = [
    "MAX_STATEMENTS",
    "MAX_STATEMENT_CHARACTERS",
    "MAX_TEXT_CHARACTERS",
    "RELATION_FLOOR",
    "Reading",
    "Relation",
    "clean",
    "equality_key",
    "read",
    "relation",
    "split",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reading:
    """How a statement was read: its kind, strength and scope."""

    kind: Kind
    strength: Strength
    scope: Scope


class Rules(Generic[T]):
    """Ordered rules (name, what it says, pattern): the first whose pattern is found decides.

    A pattern begins after a space of the text that ``_plain`` makes.
    """

    def __init__(self, *rules: tuple[str, T, str]) -> None:
        self._rules = [(name, re.compile(f" (?:{found})"), says) for name, says, found in rules]

    def fired(self, words: str) -> list[bool]:
        """Tell for each rule whether its pattern is found."""
        return [found.search(words) is not None for _, found, _ in self._rules]

    def decide(self, words: str) -> tuple[str, T] | None:
        """Return the name of the rule that decides and what it says; None if none does."""
        return next(
            ((name, says) for name, found, says in self._rules if found.search(words)), None
        )


_SENTENCE_START = re.compile(r"[.!?:;]+(?=\s|$)")
_QUOTES = str.maketrans(dict.fromkeys('"“”()[]*_–—', " "))
_DAY_OR_YEAR = (
    r"(?:(?:19|20)\d\d|january|february|march|april|may|june|july|august|september|october|"
    r"november|december|spring|summer|autumn|winter|christmas|easter|next|the end|my \w+)"
)
_REPLY = r"(?:repl(?:y|ies)|answers?|respon(?:d|ses?)|messages? to me|(?:talk|speak|write) to me)"

KIND_RULES = Rules[Kind](
    (
        "a word given to somebody",
        "commitment",
        r"promis(?:e|ed|es)\b|(?:gave|given|give) .{0,30}\bword\b|(?:my|our) word\b|"
        r"(?:swore|sworn|vow(?:ed|s)?|pledged?)\b|shook hands\b|¶ (?:i|we)(?: will|'ll) (?!not|"
        r"never)\w+|i made a commitment\b|"
        r"(?:i|i've|we|we've) told (?!you)[\w' ]{1,40}\b(?:i'd|i would|that i|we'd|i'll|could)\b|"
        r"(?:counts?|counting|rel(?:y|ies)|depends?) on (?:me|us)\b|i(?:'m| am)? commit(?:ted)?\b|"
        r"i (?:owe|signed (?:up|on))\b",
    ),
    (
        "how to be answered, said as a wish",
        "preference",
        r"(?:answer|conclusion) first\b|(?:short|plain|easy|simple) (?:sentences|words|english)\b|"
        r"spelling\b|bullets?\b|keep (?:it|answers|replies) \w+|flatter me\b|emojis?\b|metric\b|"
        r"call me (?!before|after|on|at|during|if|when|back|in)\w+|(?:be|stay) (?:blunt|brief|"
        r"direct|concise|formal|honest) with me\b|(?:answer|reply|respond|write to me|talk to me|"
        r"speak to me)"
        r" (?:me )?(?:only |always )?in\b",
    ),
    (
        "what is aimed at",
        "goal",
        rf"¶ by {_DAY_OR_YEAR}|(?:my|our) (?:\w+ )?(?:goal|aim|target|ambition)\b|"
        r"i(?:'m| am)? (?:aim(?:ing)?|trying|training|saving|working towards?|learning|hop(?:e|"
        r"ing))\b|"
        r"we(?:'re| are) (?:aiming|trying|saving|working towards?)\b|¶ (?:aiming|learning|saving|"
        r"training) |"
        r"(?:i|we) (?:want to|plan to|mean to|intend to|would love to|dream)\b|i'd (?:like|"
        r"love) to\b|"
        r"that(?:'s| is) the (?:plan|target|goal)\b|by the end of\b|before (?:i'm|i turn)\b|"
        rf"(?:i|we) want .{{1,60}} by {_DAY_OR_YEAR}",
    ),
    (
        "what body, law or consent forbids",
        "boundary",
        r"allerg|anaphyla|c(?:o)?eliac|intoleran|epilep|migraine|diabet|ptsd\b|"
        r"in recovery\b|(?:could|would|will) kill\b|(?:i|we) (?:don't|do not|won't|can't|"
        r"cannot) (?:eat|drink|take|touch|have)\b|sober\b|pregnan|wheelchair|guide dog|"
        r"screen reader|hospital\b|"
        r"off[- ]limits\b|forbid|banned\b|not allowed\b|under no circumstances\b|confidential|"
        r"without (?:my|our|asking|their|her|his|a signed|written)\b|not for sale\b|in my name\b",
    ),
    (
        "what was decided, and when or after what",
        "decision",
        r"(?:decided|decision|chose|chosen|voted|settled|agreed|resolved|ruled out|switched|"
        r"adopted|"
        r"dropped|turned down|sold|quit|gave up|stopped|opted|cut contact|pulled out|"
        r"moved (?:from|to))\b|"
        r"(?:in|since|of|from|until) (?:\w+ )?(?:19|20)\d\d\b|¶ after (?:the|my|our|two|three|"
        r"that|last|dad|mum)|"
        r"¶ since (?:the|my|our)|we (?:tried|left|went)\b|no more\b|(?:i'm|we're) done with\b",
    ),
    (
        "what is liked, or wished of the reader",
        "preference",
        r"i(?:'d| would)? (?:really |do |much )?(?:like|love|prefer|enjoy|fancy)\b|prefer|"
        r"favou?rite|"
        r"(?:give|tell|show|hand|seat|spare|find|feed|send) me\b|makes? me\b|bores? me\b|"
        r"please\b|kindly\b|(?:suits|works for) me\b|skip\b|i (?:hate|dislike|can't stand|"
        r"can't bear)\b|"
        r"don't (?:you|give|push|bring|show|send|make|build|use|treat)\b|when(?:ever)? you\b",
    ),
    (
        "a line that is not crossed",
        "boundary",
        r"not even\b|nothing\b|nobody\b|no one\b|¶ no \b|never\b|no \w+, no \w+|so no\b|"
        r"must\b|ever\b|nor\b|unless\b|i (?:cannot|can't)\b|cannot\b|do not (?!like)\w+|"
        r"(?:leaves?|stays?) (?:in|on|out|off|my|our|at|with)\b|¶ (?:no|nothing|never) ",
    ),
)
"""What kind of statement it is; of what matches none: a value."""

STRENGTH_OF_KIND: dict[Kind, Strength] = {
    "boundary": "must",
    "commitment": "must",
    "decision": "should",
    "goal": "should",
    "value": "should",
    "preference": "should",
}
"""What a statement of that kind is where no word says more: never the weakest."""

STRENGTH_RULES = Rules[Strength](
    (
        "harm, or no exception",
        "must",
        r"allerg|anaphyla|c(?:o)?eliac|epilep|hospital\b|kills?\b|fatal|die[sd]?\b|"
        r"no exceptions?\b|not negotiable\b|non-negotiable\b|not up for\b|off the table\b|"
        r"off[- ]limits\b|not even\b|not (?:one|a single)\b|under no circumstances\b|forbid|"
        r"banned\b|must(?:n't)?\b|no matter\b|full stop\b|ever\b|nobody\b|no one\b|nor\b|"
        r"without (?:my|our|asking|their|a signed|written)\b|or nothing\b|at all\b|not for sale\b",
    ),
    (
        "wished, not required",
        "prefer",
        r"i(?:'d| would)? (?:really |do |much )?(?:like|love|enjoy|fancy|prefer)\b|i'd (?:rather|"
        r"sooner)\b|"
        r"favou?rite|if (?:possible|you can)\b|ideally\b|would be nice\b|bores? me\b|"
        r"suits me\b|makes me (?:happy|sad|smile|sleepy)\b",
    ),
    (
        "forbidden or bound in plain words",
        "must",
        r"no \w+|not\b|cannot\b|(?:i|we) (?:don't|do not|won't|can't) (?:eat|drink|take|touch|"
        r"have)\b|never\b|nothing\b|none\b|promised\b|swore\b|sworn\b|my word\b|"
        r"our word\b|"
        r"policy\b|contract\b|court\b|the law\b|no \w+(?: \w+)?, (?:and )?no\b|do not\b|"
        r"i (?:cannot|can't) (?:have|eat|take|use)\b|we don't\b|(?:i|we) won't\b|¶ no \b|"
        r"¶ nothing\b|"
        r"only if\b|in my name\b|unless\b|not for\b|i(?:'m| am) blind\b|again\b",
    ),
)
"""How binding it is; of what matches none: ``STRENGTH_OF_KIND``."""

SCOPE_RULES = Rules[Scope](
    (
        "about one matter, person or place",
        "topical",
        r"(?:whenever|when) (?:it's about|the topic is|i (?:travel|cook|eat|run|drive|buy|shop|"
        r"fly|play))\b|"
        r"(?:with|about|for|explain|on) (?:decisions|laws|recipes|news|food|travel|work|maths?|"
        r"code)\b|"
        r"(?:they|customers?|staff|guests)\b|brand\b|\w+'s voice\b|"
        r"in (?:our|my) (?:mails?|newsletter|code|reports?|posts?|shop|house|kitchen)\b|"
        r"(?:our|my) (?:readers|customers|guests|clients|pupils|students|members|team|staff)\b",
    ),
    (
        "how to address the person",
        "always",
        r"¶ (?:please )?(?:never |don't )?(?:address me|call me (?!before|after|on|at|during|if|"
        r"when|unless|between|back|in|by|first|late|early))\b|formal address\b|"
        r"first[- ]name terms\b",
    ),
    (
        "how answers sound",
        "always",
        r"be (?:blunt|brief|direct|concise|frank|honest|kind|gentle|polite|formal|"
        r"straight) with me\b|"
        r"¶ (?:please )?(?:always )?be (?:blunt|brief|direct|concise|frank|formal)\b|"
        r"¶ (?:please |always )*(?:talk|speak|write|answer|reply|"
        r"respond)(?: to)?(?: me)?(?: only| always)? "
        r"(?:in|to me|me|normal|as|like|briefly|plainly)\b|"
        r"(?:plain|simple|easy) english\b|(?:short|simple|easy) (?:sentences|paragraphs)\b|"
        r"(?:use|with) (?:simple|easy|plain) words\b|me in (?:short|plain|easy|simple) \w+|"
        r"(?:no|skip|without) flattery\b|(?:never|don\'t|do not) flatter me\b|pep talk|"
        r"no moralising\b|compliments? on my question|"
        r"great question|sugar[- ]?coat|level voice\b|no cheering|cheer(?:leader| me up)",
    ),
    (
        "how answers look",
        "always",
        r"(?:answer|conclusion) (?:first|in the first)|first sentence the answer|(?:british|nz|"
        r"american) spelling\b|"
        r"(?:under|below|at most) [\w-]+ (?:words|lines)\b|[\w-]+ lines(?:,| at)|"
        r"no (?:emojis?|exclamation marks|bullets|tables|jargon|ascii)\b|(?:never|"
        r"don't) use (?:an? )?emojis?\b|"
        r"metric(?: units)?(?: ¶| only|$)|24-hour clock\b|iso dates\b|one (?:step|"
        r"instruction) (?:at a time|a line)|"
        rf"one recommendation\b|(?:in|of|keep) (?:your |all )?{_REPLY}\b|your {_REPLY}\b|"
        r"(?:anything|everything|whatever) you (?:write|draw|claim|tell|hand|give|recommend|"
        r"draft|quote)\b|whenever you (?:quote|cite|tell|claim)\b|keep (?:it|answers|"
        r"replies) (?:short|brief|under|below)\b|show (?:your|the) working\b",
    ),
    (
        "honesty towards the person",
        "always",
        r"if you don't know\b.{0,60} (?:say|tell)\b|say (?:\W|so|that|you)*(?:i )?don't know\b|"
        r"how sure you are\b|you're (?:not |un)(?:sure|certain)|you are (?:not |un)(?:sure|"
        r"certain)|"
        r"(?:if|when) you're guessing\b|(?:sources?|where) .{0,12}\b(?:fact|claim|facts)\b|"
        r"for what you claim\b|"
        r"when you claim\b|tell me when i'm\b|tell me when my\b|if i(?:'m| am) about to do\b|"
        r"ask me which\b|ask before you assume\b|question can be read\b|soften bad news\b|"
        r"news is bad\b|¶ challenge me\b",
    ),
    (
        "nothing done without a yes",
        "always",
        r"before you (?:\w+, )*(?:send|run|delete|book|buy|install|order)\b|without my (?:yes|ok|"
        r"okay)\b|"
        r"(?:ring|book|order|pay)\b.{0,30}\bin my name until\b|pretend to be me\b",
    ),
)
"""When it holds: ``always`` only for how to act whatever is asked; otherwise topical."""


def read(text: str) -> Reading:
    """Read kind, strength and scope from the words of one statement."""
    words = _plain(text)
    kind, strength, scope = (
        KIND_RULES.decide(words),
        STRENGTH_RULES.decide(words),
        SCOPE_RULES.decide(words),
    )
    kind = kind[1] if kind else "value"
    return Reading(
        kind=kind,
        strength=strength[1] if strength else STRENGTH_OF_KIND[kind],
        scope=scope[1] if scope else "topical",
    )


def fired(text: str) -> list[bool]:
    """Tell for every rule of all three tables whether its pattern is found in a statement."""
    words = _plain(text)
    return [
        hit for rules in (KIND_RULES, STRENGTH_RULES, SCOPE_RULES) for hit in rules.fired(words)
    ]


def _plain(text: str) -> str:
    """Lower case, every word after one space, ¶ at the start of each sentence.

    All patterns begin at a space, which the search finds five times faster than ``\\b``.
    """
    words = _SENTENCE_START.sub(" ¶ ", text.casefold().replace("’", "'").replace("‘", "'"))
    return " ¶ " + " ".join(words.translate(_QUOTES).split())
