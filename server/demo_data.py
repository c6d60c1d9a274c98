"""Whom the demo is about: a vet on an island, in her own words, and what she asks.

Written for the demo; no person is meant. It knows nothing of how it is stored.
"""

from typing import NamedTuple

from ..memory.models import Kind, Scope, Strength

SUBJECT = "tove"
WHO = "Tove, 47, a vet who runs a two-person practice on an island and looks after her father"


class Said(NamedTuple):
    """One statement and how she means it."""

    text: str
    kind: Kind
    strength: Strength
    scope: Scope = "topical"


class Decided(NamedTuple):
    """One decision that she took, and why."""

    situation: str
    choice: str
    reason: str


STATEMENTS = (
    # how to answer her, whatever the topic
    Said("Put the answer first; I read these between two patients.", "preference", "should",
         "always"),
    Said("Never make up a dose, a source or a price: say that you don't know.", "boundary",
         "must", "always"),
    Said("Metric units and the 24-hour clock, please.", "preference", "prefer", "always"),
    # the practice
    Said("I won't put an animal through a treatment that serves the owner's hope more than the "
         "animal.", "value", "must"),
    Said("No antibiotics without an examination, however well I know the farmer.", "boundary",
         "must"),
    Said("Nobody on my team works two night duties in a row.", "commitment", "must"),
    Said("Clients' names and addresses stay on our own computers; no cloud service sees them.",
         "boundary", "must"),
    Said("We tell people what a treatment will cost before we start it, even when that is "
         "awkward.", "value", "should"),
    Said("I promised the animal shelter one free morning of neutering every month.", "commitment",
         "must"),
    Said("By the end of 2028 I want Jonas to own half of the practice.", "goal", "should"),
    Said("I'd rather buy used equipment and have it repaired than lease new.", "preference",
         "prefer"),
    Said("I don't write references for people whose work I haven't seen myself.", "boundary",
         "should"),
    # family
    Said("My father has had two strokes. Sundays are his, and nothing gets booked over them.",
         "commitment", "must"),
    Said("My daughter Liv has coeliac disease: nothing with gluten is cooked or baked in our "
         "house.", "boundary", "must"),
    Said("I don't post pictures of Liv anywhere on the internet.", "boundary", "must"),
    Said("I want Liv to be able to disagree with me without being afraid.", "value", "should"),
    Said("Phones stay out of the bedrooms after nine.", "commitment", "should"),
    # money
    Said("Six months of wages stay in the practice's account before anything new is bought.",
         "value", "should"),
    Said("I don't put money into anything that I couldn't explain to my father.", "boundary",
         "should"),
    Said("I borrowed the money for the roof from my brother Erik and give some back every month.",
         "commitment", "must"),
    Said("I'd like the house to be paid off before I turn 55.", "goal", "prefer"),
    # body and free time
    Said("I stopped drinking in 2019: no alcohol for me, not even in a sauce.", "boundary",
         "must"),
    Said("I'm training for the Vasaloppet in 2027 and go out on skis or roller skis four times a "
         "week.", "goal", "should"),
    Said("The cartilage in my left knee is gone: no running on asphalt and no deep squats.",
         "boundary", "must"),
    Said("I eat fish and vegetables, and meat only from farms that I have visited.", "preference",
         "should"),
    Said("I'd rather take the night train than fly.", "preference", "prefer"),
    Said("For holidays I like small places by the water better than cities.", "preference",
         "prefer"),
    Said("I like slow novels in which hardly anything happens, best of all Norwegian ones.",
         "preference", "prefer"),
    # the island
    Said("The island's school has to stay open; it gets my Thursday evenings.", "commitment",
         "should"),
    Said("Animals that nobody pays for are still treated: an hour of my week belongs to them.",
         "value", "should"),
)  # fmt: skip

DECISIONS = (
    Decided(
        "A veterinary chain offered to buy the practice in 2024",
        "I said no",
        "they would have closed the night line, and the farmers out here have nobody else",
    ),
    Decided(
        "Jonas overlooked a twisted stomach and the dog died",
        "I told the owner the truth myself and kept Jonas on",
        "a mistake that is admitted is worth more than a clean record",
    ),
    Decided(
        "An insurer would have paid if I had written down a different diagnosis",
        "I wrote what I had seen",
        "my signature has to mean something",
    ),
    Decided(
        "After his second stroke my father wanted to go on living at home",
        "we rebuilt his ground floor and did not look for a nursing home",
        "he would rather have fewer years in his own place than more somewhere else",
    ),
    Decided(
        "We needed an X-ray machine and the bank offered a loan",
        "we bought a used one and paid for it at once",
        "a loan would have decided how many hours I work",
    ),
)

PROMPTS = (
    "Which flour should I buy for the pancakes at home?",
    "Can I give a farmer antibiotics over the phone?",
    "Pick a wine for me to drink with grilled salmon.",
    "A client wants a different diagnosis on the form so that the insurance pays. "
    "What do I write back?",
    "Build me a leg workout for the gym.",
    "How do I get to Berlin in March: plane or train?",
    "How many moons does Jupiter have?",
    "Write a regular expression that matches an IPv4 address.",
)
