"""Reading a conversation for what its user says that lasts."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import Holdfast, InvalidInputError
from holdfast.retrieval import context
from holdfast.retrieval.gleaning import MOST_GLEANED, glean, is_lasting


def user(*turns: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": turn} for turn in turns]


LASTING = {
    "value": "Honesty matters more to me than being liked.",
    "value, as a habit": "I always pay my musicians before I pay myself.",
    "preference": "I prefer trains to planes.",
    "preference, strong": "I have a strong dislike for graphic tees.",
    "boundary": "I don't lend money to friends.",
    "boundary of the body": "I'm allergic to cashews.",
    "boundary of others": "No photos of my children go online.",
    "commitment": "I promised Anna to be home by six on Fridays.",
    "goal": "I'm saving for a house by the sea.",
    "goal with a date": "I want to run a marathon by October.",
    "decision": "We decided in 2020 to stop flying.",
    "how to be called": "Never call me Liz when I write to you.",
}


@pytest.mark.parametrize("said", LASTING.values(), ids=LASTING)
def test_what_somebody_says_of_themselves_that_lasts_is_kept(said: str) -> None:
    assert glean(user(said)) == [said]


PASSING = {
    "a question": "Do I like trains?",
    "a question about oneself": "What should I never eat with my allergy?",
    "a question without its mark": "how do i always wake up at six",
    "a request": "Write me a poem about how I love trains.",
    "a polite request": "Could you please tell me why I never win.",
    "a wish for this once": "I'd like a recipe for tonight.",
    "a need": "I need some ideas for my talk.",
    "what holds today": "I don't want to cook tonight.",
    "what holds for this thing": "I hate this bug.",
    "what is pointed at": "I love it!",
    "a guess": "Maybe I prefer trains.",
    "a condition": "If I always lose, then the game is unfair.",
    "thanks": "Thanks, I really like your answer.",
    "somebody else's words": "My boss said I never finish anything.",
    "a quotation": 'The sign reads "I never eat nuts".',
    "a quotation in curly quotes": "“We always close at six.”",
    "somebody else": "Berta never eats nuts.",
    "a fact": "Water boils at 100 degrees.",
    "fiction": "The narrator of my novel believes that I always lie.",
}


@pytest.mark.parametrize("said", PASSING.values(), ids=PASSING)
def test_questions_requests_quotations_and_passing_moods_are_not_kept(said: str) -> None:
    assert glean(user(said)) == []


def test_a_question_or_a_request_beside_a_statement_takes_nothing_away_from_it() -> None:
    said = "I never eat nuts. What now? I'm vegan. Give me a recipe for tonight."
    assert glean(user(said)) == ["I never eat nuts.", "I'm vegan."]


@pytest.mark.parametrize(
    "words",
    [
        "> I never eat meat.\n> I promised Anna to come.",
        "```\nI never eat meat.\n```",
        "```\nI never eat meat.",
        "<document>\nI never eat meat.\n</document>",
        "Please proofread this:\n\nI never eat meat. I promised Anna to come.",
        "Here is my sister's letter:\nI never eat meat.\n\nI promised Anna to come.",
        "From: bo@example.org\nSubject: dinner\n\nI never eat meat.",
    ],
)
def test_what_is_quoted_or_pasted_is_not_the_users_own_word(words: str) -> None:
    assert glean(user(words)) == []


def test_only_the_turns_of_the_user_are_read_and_of_those_only_the_text() -> None:
    others: list[dict[str, Any]] = [
        {"role": "system", "content": "I never eat nuts."},
        {"role": "assistant", "content": "I always answer briefly."},
        {"role": "tool", "tool_call_id": "t", "content": "I prefer trains."},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t", "content": "I'm vegan."},
            {"type": "image_url", "image_url": {"url": "I don't drink."}},
            {"type": "text", "text": "I never fly."},
        ]},
        {"type": "function_call_output", "call_id": "c", "output": "I love trains."},
    ]  # fmt: skip
    assert glean(others) == ["I never fly."]


def test_our_own_blocks_are_not_read_again_even_where_one_was_cut_off() -> None:
    block = f"{context.OPENING}\nI never eat nuts.\n{context.CLOSING}"
    assert glean(user(f"I'm vegan.\n\n{block}")) == ["I'm vegan."]
    assert glean(user(f"I'm vegan.\n\n{context.OPENING}\nI never eat nuts.")) == ["I'm vegan."]


def test_what_is_said_twice_is_kept_once_where_it_was_said_last() -> None:
    said = user("I'm vegan.", "I never fly.", "I'm  vegan.")
    assert glean(said) == ["I never fly.", "I'm vegan."]


def test_of_a_very_long_conversation_the_newest_is_kept() -> None:
    said = user(*(f"I never eat in street number {number}." for number in range(200)))
    found = glean(said)
    assert len(found) == MOST_GLEANED
    assert found[-1] == "I never eat in street number 199."


def test_a_paragraph_that_cannot_be_read_does_not_hide_the_others() -> None:
    assert glean(user(f"I'm vegan.\n\n{'word ' * 1000}\n\nI never fly.")) == [
        "I'm vegan.",
        "I never fly.",
    ]


@pytest.mark.parametrize("bad", [[{"role": 5}], [{"role": "user", "content": 5}]])
def test_what_are_no_chat_messages_is_refused(bad: list[Mapping[str, Any]]) -> None:
    with pytest.raises(InvalidInputError):
        glean(bad)


@given(st.text(max_size=300))
def test_any_text_is_read_without_an_error_and_only_its_own_words_come_back(text: str) -> None:
    for found in glean(user(text)):
        assert set(found.split()) <= set(text.split()) or is_lasting(found)


def test_what_is_gleaned_becomes_proposals_and_is_never_injected(fake: Holdfast) -> None:
    made = fake.glean("ada", user("I never eat nuts. What could I cook?", "I prefer trains."))
    assert [(each.text, each.source, each.status) for each in made] == [
        ("I never eat nuts.", "conversation", "open"),
        ("I prefer trains.", "conversation", "open"),
    ]
    assert made[0].strength == "must"
    assert fake.statements("ada") == []
    assert fake.retrieve("ada", "nuts").injected == []


def test_what_is_known_or_was_proposed_before_is_not_proposed_again(fake: Holdfast) -> None:
    fake.add("ada", "I'm vegan.")
    said = user("I'm vegan. I never fly.", "I prefer trains.")
    first, second = fake.glean("ada", said, source="chat")
    assert (first.text, second.text, second.source) == ("I never fly.", "I prefer trains.", "chat")
    fake.reject(first.id)
    fake.confirm(second.id)
    assert fake.glean("ada", said) == []
    assert [each.text for each in fake.glean("bo", said)][1:] == [
        "I never fly.",
        "I prefer trains.",
    ]


def test_a_conversation_that_says_nothing_of_that_kind_changes_nothing(fake: Holdfast) -> None:
    assert fake.glean("ada", user("What is the capital of Peru?")) == []
    assert fake.subjects() == []
