"""Statements made of lists, for measuring speed only.

100,000 distinct ones, as long as those that people write. They are no measure of quality.
"""

from collections.abc import Iterator

PER_SUBJECT = 500
SITTING = 25
"""Statements that a subject adds at a time, before it is the next subject's turn."""
PROMPT = "Which desserts should I try in Sicily?"

_STANCES = """I never want anyone to suggest
I would rather avoid
I promised my family to think twice about
I always look forward to
I decided two years ago to give up
I care more than most people about
I am trying this year to learn more about
I do not spend money on
I feel uneasy when somebody brings up
I want to hear the honest price of
I get anxious about
I made a rule for myself concerning
My doctor told me to be careful with
My partner and I agreed on limits for
I have loved since childhood
I only trust people I know with
I refuse to compromise on
I prefer to plan well ahead for
I no longer have patience for
I am proud of how I handle""".splitlines()
_THINGS = """dishes with tree nuts
long flights with connections
team meetings before nine
loud restaurants
second-hand furniture
contracts without a notice period
group tours of old cities
horror films
high-interest loans
early morning runs
surprise parties
spicy street food
open-plan offices
social media for children
imported fruit in winter
sharing my location
cruise holidays
team-building weekends
unpaid overtime
genetic tests
electric cars
piano lessons
wedding speeches
volunteering at the shelter
single-use plastic
competitive board games
medication without a leaflet
camping near water
phone calls after eight
lending money to friends
animal experiments
dogs off the lead
subscription boxes
renovating the kitchen
political arguments at dinner
fasting for a whole day
museums on a Sunday
driving at night
online courses with deadlines
public speaking
hunting and fishing
tattoos and piercings
buying on credit
gardening with chemicals
working with competitors
white lies to customers
strict grading of pupils
cheap flights within the country
recording private conversations
meat from large farms""".splitlines()
_TIMES = """when I travel for work
while the children are small
on weekdays
since I moved to the coast
unless my sister asks
during the winter months
even if it costs more
at least until the house is paid
when guests are around
because of what happened last spring
no matter who recommends it
whenever I am tired
as long as my father lives with us
if there is another way
after a hard week
in front of my students
when the budget is tight
on holidays with my in-laws
now that I work from home
except on birthdays
until my knee has healed
when nobody else is affected
for the sake of my health
out of respect for my neighbours
before a big decision
when I am on call
in the first month of a project
with people I barely know
on the days I fast
when the weather is bad
if my team depends on it
while I am saving for a boat
at my own expense
when it comes to my company
as far as my faith allows
under any kind of pressure
when there is time to think
in the company of my boss
through the whole of Lent
in small amounts
without talking to my wife first
when I pay for it myself
in my own town
if the source is trustworthy
once the exams are over
in every contract I sign
when I am abroad alone
for my mother's sake
if a friend is in trouble
for as long as I can
when I host
on principle
after midnight
in shared houses
when I cook for others
if it helps the younger ones
in the months before the harvest
while the case is open
when the press is involved
if it can be undone
before I have slept on it
when I represent the club
on long train rides
if the seller is honest
when my hearing aids are off
until the audit is done
while I train for the marathon
when I look after my nephew
at the end of a quarter
in writing
if I am asked twice
when tempers are high
between two jobs
on the first date
with my pension in mind
when the roads are icy
for the next five years
when the dog is with us
on nights before a shift
if the law leaves room
when I teach beginners
with the lights off
while I am on antibiotics
if it saves a long drive
when the baby sleeps
in a foreign language
at altitude
when I owe somebody a favour
at the yearly meeting
in emergencies
when the choir rehearses
after the divorce
when I write a reference
on my own land
if it keeps the peace
during the night shift
when I am the eldest in the room
in the village where I was born
while my visa is pending
when all the others agree""".splitlines()
MOST = len(_STANCES) * len(_THINGS) * len(_TIMES)
_STEP = 37_501
"""Coprime to MOST: neighbours have little in common, and no text comes twice."""


def texts(count: int, start: int = 0) -> list[str]:
    """Make distinct statements: those from number ``start`` on; at most ``MOST`` in all."""
    if start + count > MOST:
        raise ValueError(f"there are {MOST:,} statements; ask for fewer")
    return [_text(i * _STEP % MOST) for i in range(start, start + count)]


def _text(number: int) -> str:
    rest, time = divmod(number, len(_TIMES))
    stance, thing = divmod(rest, len(_THINGS))
    return f"{_STANCES[stance]} {_THINGS[thing]} {_TIMES[time]}."


def subject(number: int) -> str:
    """Give the name of the subject of a statement."""
    return f"user-{number // PER_SUBJECT:04d}"


def sittings(begin: int, end: int) -> Iterator[range]:
    """Give the order in which the statements from ``begin`` up to ``end`` arrive.

    All subjects take turns, so that one subject's lie scattered in a store, as they would.
    """
    for offset in range(0, PER_SUBJECT, SITTING):
        for first in range(begin, end, PER_SUBJECT):
            yield range(first + offset, first + offset + SITTING)
