import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.memory.models import KINDS, SCOPES, STRENGTHS
from holdfast.retrieval.reading import (
    KIND_RULES,
    RELATION_FLOOR,
    SCOPE_RULES,
    STRENGTH_RULES,
    read,
    relation,
)


@pytest.mark.parametrize(
    ("text", "kind", "strength"),
    [
        ("I'm allergic to peanuts", "boundary", "must"),
        ("I never eat nuts: one crumb of cashew and I'm in hospital.", "boundary", "must"),
        ("I don’t eat meat", "boundary", "must"),
        ("Shellfish could kill me", "boundary", "must"),
        ("No alcohol after 8", "boundary", "must"),
        ("We never sell customer data", "boundary", "must"),
        ("Never share my address", "boundary", "must"),
        ("I promised my daughter to quit smoking", "commitment", "must"),
        ("I gave Marija my word that the house is not for sale", "commitment", "must"),
        ("I'll visit my mother on Sundays", "commitment", "must"),
        ("We decided to leave that provider in 2021", "decision", "should"),
        ("I want to finish my thesis by June", "goal", "should"),
        ("I'd like to run a marathon in May", "goal", "prefer"),
        ("I prefer trains over planes", "preference", "prefer"),
        ("I love jazz", "preference", "prefer"),
        ("Family comes first", "value", "should"),
        ("I believe in second chances", "value", "should"),
        ("Я не ем мясо", "value", "should"),
    ],
)
def test_kind_and_strength_are_read_from_plain_words(text, kind, strength):
    reading = read(text)
    assert (reading.kind, reading.strength, reading.scope) == (kind, strength, "topical")


@pytest.mark.parametrize(
    "text",
    [
        "Be blunt with me.",
        "Answer in German",
        "Never use emojis with me",
        "Call me Max.",
        "Keep answers short",
        "Talk to me in plain English",
        "Use metric units",
        "Don't flatter me",
        "If you don't know, say so.",
        "Tell me how sure you are.",
        "Before you send, delete or book anything, show me what you'll do.",
    ],
)
def test_how_to_act_whatever_is_asked_is_always(text):
    assert read(text).scope == "always"


@pytest.mark.parametrize(
    "text",
    [
        "Please don't call me before nine.",
        "I'm learning German.",
        "No emojis in our newsletter.",
        "Bad news travels by phone from me, never by text.",
        "Our staff answer customers in plain words.",
        "When you explain laws, use easy words.",
        "I never eat nuts.",
    ],
)
def test_what_bears_on_one_matter_is_topical(text):
    assert read(text).scope == "topical"


@pytest.mark.parametrize("wish", ["I like it, but ", "Please, ", "Ideally, "])
@pytest.mark.parametrize(
    "harm", ["I'm allergic to nuts", "nuts put me in hospital", "no nuts, no exceptions"]
)
def test_what_harms_is_a_must_however_politely_it_is_said(wish, harm):
    assert read(wish + harm).strength == "must"


def test_the_rule_that_decided_has_a_name():
    assert KIND_RULES.decide(" ¶ i promised") == ("a word given to somebody", "commitment")
    assert STRENGTH_RULES.decide(" ¶ tea") is None
    assert SCOPE_RULES.decide(" ¶ call me max") == ("how to address the person", "always")


@given(st.text(max_size=300))
def test_any_text_has_a_reading(text):
    reading = read(text)
    assert reading.kind in KINDS
    assert reading.strength in STRENGTHS
    assert reading.scope in SCOPES


def test_reading_the_longest_statement_takes_milliseconds():
    for unit in ("no ", "i ", "in 2019 ", "i want to ", "if you don't know ", "a", "gave "):
        text = (unit * 2_000)[:2_000]
        assert min(timeit.repeat(lambda text=text: read(text), number=1, repeat=3)) < 0.05


SAME_AGAIN = [
    ("I never eat nuts", "I don't ever eat nuts"),
    ("I prefer trains over planes", "I'd rather take the train than fly"),
    ("No phones at the dinner table", "We don't use phones during dinner"),
    ("I want to finish my thesis by June", "My goal is to have my thesis done by June"),
    ("I am allergic to peanuts", "Peanuts make me ill, I have an allergy"),
    ("We never sell customer data", "Customer data is never sold by us"),
    ("I donate a tenth of my income", "10 percent of what I earn goes to charity"),
    ("Calls end at 9:00", "My calls end at 9"),
]
REVISED = [
    ("No alcohol after 8", "No alcohol after 9"),
    ("Meetings end by five", "Meetings end by six"),
    ("Never call me before 9", "Never call me before 10:30"),
    ("I run every Tuesday", "I run every Thursday"),
    ("I want it done by June", "I want it done by December"),
    ("I avoid caffeine after noon", "I avoid caffeine after three in the afternoon"),
    ("I don't drink alcohol", "I drink alcohol again"),
    ("I like long answers", "I don't like long answers"),
    ("I am vegetarian", "I am no longer vegetarian"),
    ("I never work on Sundays", "I prefer not to work on Sundays"),
    ("I don't fly", "I don't fly unless there is no train"),
    ("Answer in German", "Answer in French"),
    ("Call me Max", "Call me Maximilian instead"),
    ("I eat at 8 am", "I eat at 8 pm"),
]


@pytest.mark.parametrize(("new", "old"), SAME_AGAIN)
def test_the_same_in_other_words_is_similar(new, old):
    assert relation(new, old, 0.8) == relation(old, new, 0.8) == "similar"


@pytest.mark.parametrize(("new", "old"), REVISED)
def test_another_number_time_negation_or_strength_is_a_possible_revision(new, old):
    assert relation(new, old, 0.95) == relation(old, new, 0.95) == "possible_revision"


@given(st.text(max_size=80), st.text(max_size=80), st.floats(-1, 1))
def test_below_the_floor_nothing_is_related_and_the_order_does_not_matter(new, old, cosine):
    found = relation(new, old, cosine)
    assert found == relation(old, new, cosine)
    if cosine < RELATION_FLOOR:
        assert found is None
