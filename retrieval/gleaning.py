"""A conversation → the few sentences in which its user says something lasting. Pure.

Only the user's own turns are read: nothing of the assistant, of tools, or of what Holdfast
put in. What is kept speaks in the first person, of what the speaker values, likes, refuses,
promised, aims at or decided. Left out are questions, requests, quotations, pasted matter,
fiction, and what holds today only. It leans to leaving out: a proposal that the subject
must reject costs more than one that is never made. The rules know English.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from ..memory.errors import InvalidInputError
from . import reading
from .context import OPENING, own_words, strip_context

MOST_GLEANED = 50
"""Sentences kept of one conversation, the newest."""
MOST_CHARACTERS = 400
"""A longer sentence is a story or a paste, not a statement."""
MOST_READ = 200_000
"""Characters read of a conversation, from its end."""

_FENCE = re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_QUOTED_LINES = re.compile(r"^[ \t]*>.*$", re.MULTILINE)
_MARKED = re.compile(r"<(\w[\w-]*)(?: [^<>]*)?>.*?</\1>", re.DOTALL)
_HEADER = re.compile(r"^(?:from|to|subject|sent|date|cc): .*$", re.MULTILINE | re.IGNORECASE)
_TIMES = r"(?:today|tonight|tomorrow|yesterday|right now|just now|at the moment|for now|currently)"
_PASTE = re.compile(
    r"\b(?:translat\w+|proofread\w*|summari[sz]\w+|rewrit\w+|rephras\w+|paraphras\w+|edit|"
    r"correct|improve|polish|shorten|review|grade|fix|classif\w+|analy[sz]\w+|explain|continue|"
    r"complete|below|following|pasted|as follows|(?:here(?:'s| is| are)|this is) "
    r"(?:the|my|an?|what|our|their)|(?:wrote|says?|said|reads?|writes|sent|replied|posted)(?: me|"
    r" us)?)"
    r"\b[^\n]{0,120}:[ \t]*$",
    re.MULTILINE | re.IGNORECASE,
)
"""A line that hands over somebody's words: what follows in that turn is theirs."""
_SENTENCE_END = re.compile(r"(?<=[.!?…])[)\]]*\s+")
_QUOTATION = re.compile(r"[\"“”«»]|(?<!\w)['‘][^'’]{12,}['’](?!\w)")

_FIRST_PERSON = re.compile(r"(?<!\w)(?:i|me|my|mine|we|us|our|ours|myself)(?:'\w+)?(?!\w)")
_QUESTION = re.compile(
    r"\?|^(?:so |and |but |also |then |ok |okay |hi |hello |hey |please |,)*"
    r"(?:what|whats|what's|which|who|whom|whose|when|where|why|how|hows|how's|is|are|am|was|were|"
    r"do|does|did|can|could|should|shall|will|would|may|might|has|have|had|isn't|aren't|don't i|"
    r"any idea|anyone)\b"
)
_REQUEST = re.compile(
    r"^(?:so |and |but |also |then |now |ok |okay |hi |hello |hey |thanks |please |kindly |just )*"
    r"(?:write|draft|give|tell|show|help|make|create|find|list|explain|summari[sz]e|translate|"
    r"plan|suggest|recommend|compare|check|calculate|compute|convert|design|generate|describe|"
    r"recipe|rewrite|rephrase|proofread|edit|fix|debug|solve|add|remove|change|turn|let|imagine|"
    r"pretend|act|continue|complete|finish|build|prepare|outline|book|order|remind|send|search|"
    r"look|figure|walk|teach|name|pick|choose|set|put|read|review|update|run|test|play|tidy|sort|"
    r"call (?!me\b)|what about|how about|need|want|looking for|let's)\b"
    r"|\b(?:i|we)(?:'d| would)? (?:just |really |also |now )?(?:need|want|like|love|wish) "
    r"(?:you\b|help|advice|ideas?|some|an? |the |to (?:know|see|hear|ask|check|find out|understand|"
    r"figure|write|make|create|build|buy|book|order|send|plan|say|tell|get|have|use|add|change|"
    r"compare|draft|print|cook|bake|try|reply|respond|thank|invite|surprise|start with))"
    r"|\bi(?:'m| am) (?:looking|searching|asking|writing|wondering|curious|trying to "
    r"(?:figure|understand|find|decide|write|fix|work out|remember|choose|get))\b"
    r"|\b(?:can|could|would|will) you\b|\bhelp me\b"
)
_PASSING = re.compile(
    rf"\b{_TIMES}\b|\bthis (?:morning|afternoon|evening|weekend|week|time|one|email|essay|"
    r"code|function|letter|text|poem|story|question|answer|file|error|bug|problem|task|chat|"
    r"conversation|recipe|page|song|film|book|photo|picture)\b|\bi (?:just|only) (?:got|had|"
    r"noticed|saw|read|found|tried|ran)\b|\bi(?:'ve| have)? (?:got|get) an? (?:error|message)\b|"
    r"\b(?:maybe|perhaps|probably|might|wonder|guess|supposedly|hypothetically|suppose|imagine|"
    r"what if|not sure (?:if|whether|what|how|which)|don't know (?:if|whether|what|how|which|why|"
    r"where|who))\b|^if (?:i|we)\b|"
    r"\b(?:love|like|hate|enjoy|prefer|liked|loved) (?:it|this|that|these|those|your|how you|the "
    r"(?:first|second|third|last|idea|answer|way you))\b|\b(?:thank|thanks|sorry)\b"
)
_TOLD = re.compile(
    r"\b(?:he|she|they|mum|mom|dad|wife|husband|boss|friend|colleague|teacher|doctor|client|"
    r"customer|everyone|people|who|it) (?:says?|said|wrote|writes|claims?|told|thinks?|asked|"
    r"replied|posted)\b|\basks? (?:me |us )?(?:what|which|if|whether|"
    r"how|when|where|who|for|about)\b|\baccording to\b|\b(?:character|narrator|protagonist|"
    r"persona|role[- ]?play|"
    r"in the (?:story|novel|game|play|film|essay)|essay|homework|exercise|puzzle|riddle)\b"
)

LASTING = reading.Rules[str](
    (
        "how it is with the speaker, always",
        "value",
        r"(?:i|we)(?:'ll)? (?:always|never|only|no longer|rarely|seldom)(?: ever)? \w|"
        r"(?:i|we) (?:usually|normally|generally|mostly) (?:eat|drink|cook|work|sleep|buy|read|"
        r"write|travel|run|train|avoid)\b|"
        r"(?:never|always|don't ever|do not ever|please don't|no need to) \w+.{0,80} (?:me|my|i|"
        r"us|our|"
        r"i'm|i've)\b|(?:from now on|in (?:the )?future|whenever you|any ?time you|"
        r"every time you)\b",
    ),
    (
        "what matters",
        "value",
        r"(?:i|we) (?:\w+ )?(?:value|believe in|believe that|care (?:about|deeply|a lot|most)|"
        r"stand for|"
        r"trust|respect|refuse|insist|treasure|can't stand|cannot stand|can't bear|"
        r"don't believe)\b|"
        r"(?:matters?|important|sacred|means?) (?:\w+ ){0,3}(?:to|for) (?:me|us)\b|"
        r"(?:my|our) (?:\w+ )?(?:values?|principles?|priority|priorities|rule|rules|faith|"
        r"religion|conscience|policy)\b|(?:come|comes) first (?:for|with|to) (?:me|us)\b|"
        r"(?:i|we) (?:would )?(?:put|keep) .{1,60}\b(?:first|above|before|sacred|separate|free)\b",
    ),
    (
        "what the body, faith or law asks",
        "boundary",
        r"i(?:'m| am) (?:\w+ )?(?:allergic|coeliac|celiac|vegan|vegetarian|pescatarian|diabetic|"
        r"lactose|gluten|sober|teetotal|muslim|jewish|hindu|buddhist|christian|catholic|kosher|"
        r"halal|pregnant|"
        r"blind|deaf|dyslexic|autistic|epileptic|colou?r-?blind|intolerant|in recovery|on "
        r"(?:warfarin|insulin|lithium))\b|"
        r"i have (?:\w+ ){0,3}(?:allerg(?:y|ies)|intolerance|diabetes|epilepsy|asthma|migraines?|"
        r"coeliac disease|celiac disease|ptsd|adhd|dyslexia|anxiety)\b|"
        r"(?:i|we) (?:can't|cannot|don't|do not|won't|will not|mustn't|must not|may not) (?:\w+ )?"
        r"(?:eat|drink|touch|smoke|drive|fly|work|buy|sell|lend|borrow|gamble|own|use|share|sign|"
        r"wear|"
        r"take|have|accept|allow|answer|travel|attend|discuss|support|invest|vote|swear|lie|"
        r"tolerate)\b|"
        r"(?:i|we) keep (?:kosher|halal|sabbath|shabbat|the sabbath|ramadan)\b",
    ),
    (
        "what is liked or not",
        "preference",
        r"(?<!what )(?:i|we) (?:\w+ )?(?:prefer|enjoy|dislike|hate|detest|loathe|adore|love|like|"
        r"fancy|favou?r|avoid)\b|(?:i|we) (?:have|had|feel|hold) (?:\w+ ){0,4}(?:preference|"
        r"dislike|aversion|distaste|love|passion|soft spot|fondness)\b|(?:i|we)(?:'d|"
        r" would) (?:rather|sooner)\b|"
        r"(?:i|we) (?:don't|do not|can't|cannot|never) (?:really |much )?(?:like|enjoy|stand|bear|"
        r"care for)\b|"
        r"(?:my|our) (?:\w+ )?(?:favou?rite|preference|preferred)\b|(?:suits|bores|annoys|upsets|"
        r"irritates|works for|works best for) (?:me|us)\b|"
        r"(?:call|address) me (?!before|after|on|at|when|if|back|later|crazy|a )\w+|"
        r"(?:be|stay) (?:blunt|brief|direct|concise|formal|honest|gentle|frank|patient) with me\b|"
        r"(?:answer|reply|speak|talk|write) (?:to )?me (?:only |always )?in\b",
    ),
    (
        "a word given",
        "commitment",
        r"(?:i|we)(?:'ve| have)? (?:promised|pledged|vowed|swore|sworn|committed|signed up)\b|"
        r"(?:gave|given) (?:\w+ ){0,3}(?:my|our) word\b|(?:i|we)(?:'m| am| are|'re) (?:\w+ )?"
        r"committed to\b|i made (?:a|my \w+ a) (?:promise|vow|commitment|pledge)\b|"
        r"i owe (?:it )?to\b",
    ),
    (
        "an aim beyond the day",
        "goal",
        r"(?:my|our) (?:\w+ ){0,2}(?:goal|aim|target|ambition|dream|resolution)s? (?:is|are|was|"
        r"for)\b|"
        r"(?:i|we)(?:'m| am| are|'re)? (?:saving (?:up )?(?:for|to)|training (?:for|to)|"
        r"working towards?|"
        r"aiming (?:for|to)|learning (?:to|how|\w+)|studying (?:for|to)|hoping to)\b|"
        r"i(?:'m| am)? trying to (?:quit|stop|give up|cut|eat|drink|spend|save|lose|gain|sleep|"
        r"exercise|live|become|be|use less|reduce|stay|keep)\b|"
        r"(?:i|we) (?:want|intend|plan|mean|hope) to (?:\w+ ){1,12}(?:by|before|within|this year|"
        r"next year|one day|some ?day) ?|(?:i|we) (?:want|intend) to (?:become|quit|stop|retire|be "
        r"able|stay|live|raise|learn)\b",
    ),
    (
        "what is left out of one's life",
        "boundary",
        r"(?:i|we) (?:don't|do not|won't|will not) (?!(?:\w+ )?(?:know|understand|get|see|think|"
        r"want|"
        r"need|remember|have|mind|care|believe|recall|agree|follow|speak|feel|even|seem)\b)\w|"
        r"¶ (?:no|not a|not one|nothing|nobody|none of) (?!idea|problem|worries|rush|clue|luck|"
        r"thanks|need|longer|one (?:is|was|has|told)|matter)\w.{0,200} (?:me|my|i|we|our|us|i've|"
        r"i'm|"
        r"we've|we're)\b",
    ),
    (
        "what was decided",
        "decision",
        r"(?:i|we)(?:'ve| have)? (?:\w+ )?(?:decided|chose|chosen|resolved|ruled out|settled on|"
        r"agreed|opted|"
        r"quit|gave up|given up|stopped|switched|sworn off)\b|(?:i'm|we're|i am|"
        r"we are) done with\b|"
        r"(?:my|our) decision\b",
    ),
)
"""What a sentence must say to be kept: (name, the kind that it mostly is, pattern)."""


def glean(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Find what the user of a conversation says of themselves that lasts, oldest first.

    Args:
        messages: in OpenAI's or Anthropic's form; items without a role are passed over.

    Raises:
        InvalidInputError: these are no chat messages.
    """
    found: dict[str, str] = {}
    for turn in _own_turns(messages):
        for sentence in reversed([*_sentences(turn)]):
            if is_lasting(sentence):
                found.setdefault(reading.equality_key(sentence), sentence)
    return [*found.values()][:MOST_GLEANED][::-1]


def glean_with(
    read: Callable[[str], Sequence[str]], messages: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Find statements as ``read`` does, from what the user of a conversation wrote."""
    words = own_text(messages)
    return [each for text in (read(words) if words else ()) for each in reading.split(text)]


def own_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """Give what the user of a conversation wrote, the newest of it; "" where that is nothing."""
    return "\n\n".join(turn for turn in reversed([*_own_turns(messages)]) if turn)


def _own_turns(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Give what the user wrote in each turn, the newest first, up to ``MOST_READ`` in all."""
    left = MOST_READ
    for message in reversed([each for each in messages if "role" in each]):
        words = own_words(message)[: max(left, 0)]
        left -= len(words)
        yield _own(words)


def is_lasting(sentence: str) -> bool:
    """Tell whether a sentence says, in the first person, something that outlasts the day."""
    plain = _plain(sentence)
    if len(sentence) > MOST_CHARACTERS or not _FIRST_PERSON.search(plain):
        return False
    if _asks(plain) or _PASSING.search(plain) or _TOLD.search(plain):
        return False
    return LASTING.decide(f" ¶ {plain}") is not None


def _own(words: str) -> str:
    """Take out what is not the user's own: our blocks, code, quotations, what is pasted."""
    words = strip_context(words)
    words = words.partition(OPENING)[0]  # a block that was cut off
    for pattern in (_FENCE, _MARKED, _QUOTED_LINES):
        words = pattern.sub("\n", words)
    for pattern in (_PASTE, _HEADER):
        if handed := pattern.search(words):
            words = words[: handed.start()]
    return words.strip()


def _sentences(words: str) -> Iterator[str]:
    """Split a turn; a paragraph that no statements can be read from is passed over."""
    if not words:
        return
    found: list[str] = []
    try:
        found = reading.split(words)
    except InvalidInputError:
        for paragraph in re.split(r"\n\s*\n", words):
            with suppress(InvalidInputError):
                found += reading.split(paragraph)
    for each in found:
        if not _QUOTATION.search(each) and (left := _told(each)):
            yield left


def _told(statement: str) -> str:
    """Give of a statement of several sentences those that tell, and ask for nothing."""
    sentences = _SENTENCE_END.split(statement)
    return " ".join(each for each in sentences if not _asks(_plain(each)))


def _asks(plain: str) -> bool:
    return bool(_QUESTION.search(plain) or _REQUEST.search(plain))


def _plain(text: str) -> str:
    return " ".join(text.casefold().replace("’", "'").replace("‘", "'").split())
