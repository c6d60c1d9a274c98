import copy
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast import InvalidInputError
from holdfast.retrieval import request
from holdfast.retrieval.context import CLOSING, OPENING
from holdfast.retrieval.request import Segment, legible, parse, refers_back, segment_turn

ASK = "Could you recommend three desserts that I must try while I am in Palermo?"
ORDER = "Recommend three desserts that I must try while I am in Palermo."


def filler(words: int, seed: int = 0) -> str:
    """Make a plausible message: sentences of 12 words, a new line after some."""
    generator = random.Random(seed)
    lines = [
        " ".join(f"w{generator.randrange(5000)}" for _ in range(12)) + generator.choice(". .\n .")
        for _ in range(words // 12)
    ]
    return " ".join(lines)


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def leads(asked: request.Request) -> list[str]:
    return [segment.text for segment in asked.segments if segment.leads]


# Long messages


@pytest.mark.parametrize("ask", [ASK, ORDER])
def test_an_ask_as_the_first_or_last_line_of_4000_words_leads(ask: str) -> None:
    for text in (f"{ask}\n\n{filler(4000)}", f"{filler(4000)}\n\n{ask}"):
        assert ask in leads(parse(text))


def test_a_question_in_the_middle_of_4000_words_is_a_segment_of_its_own() -> None:
    text = f"{filler(2000)}\n\n{ASK}\n\n{filler(2000, 1)}"
    assert Segment(ASK, request.QUESTION_WEIGHT) in parse(text).segments


def test_a_first_and_a_last_line_of_several_sentences_lead_whole() -> None:
    line = "I am off to Palermo. My sister comes too! Recommend three desserts."
    for text in (f"{line}\n{filler(600)}", f"{filler(600)}\n{line}"):
        assert line in leads(parse(text))


def test_a_long_last_line_leads_with_its_end() -> None:
    text = f"short first line\n{' '.join(filler(600).split())} {ORDER}"
    assert any(lead.endswith(ORDER) for lead in leads(parse(text)))


@pytest.mark.parametrize("before", range(600, 3400, 211))
def test_an_order_in_the_middle_of_4000_words_is_read(before: int) -> None:
    text = f"{filler(before)}\n{ORDER}\n{filler(4000 - before, 1)}"
    words = ORDER.split()
    half = len(words) // 2
    first, second = " ".join(words[:half]), " ".join(words[half:])
    segments = [segment.text for segment in parse(text).segments]
    assert any(ORDER in segment or first in segment or second in segment for segment in segments)
    assert all(any(word in segment.split() for segment in segments) for word in words)


@settings(max_examples=40)
@given(st.integers(1, 4320), st.integers(0, 9))
def test_every_word_of_a_message_of_up_to_4320_words_is_in_some_segment(
    count: int, seed: int
) -> None:
    words = [f"u{i}" for i in range(count)]
    marks = random.Random(seed)
    text = " ".join(word + marks.choice(["", "", "", ".", "?", "\n"]) for word in words)
    segments = segment_turn(text)
    found = {word.rstrip(".?") for segment in segments for word in segment.text.split()}
    assert set(words) <= found
    assert len(segments) <= request.MOST_WINDOWS + 10
    assert all(len(segment.text.split()) <= request.SHORT_WORDS for segment in segments)


def test_beyond_that_windows_are_spread_from_the_first_word_to_the_last() -> None:
    words = [f"u{i}" for i in range(20_000)]
    windows = [s.text.split() for s in segment_turn(" ".join(words)) if not s.leads]
    assert len(windows) == request.MOST_WINDOWS
    assert windows[0][0] == "u0"
    assert windows[-1][-1] == "u19999"


def test_a_text_without_spaces_is_cut_into_windows_too() -> None:
    text = "".join(chr(0x4E00 + i % 500) for i in range(5_000))
    segments = segment_turn(text)
    assert len(segments) > 2
    read = "".join(segment.text.replace(" ", "") for segment in segments)
    assert set(text) <= set(read)
    assert max(len(segment.text) for segment in segments) < 3_000


def test_what_leads_counts_whole_and_windows_less() -> None:
    segments = parse(f"{ASK} {filler(600)}").segments
    assert {segment.weight for segment in segments} == {request.WHOLE, request.WINDOW_WEIGHT}
    assert Segment(ASK, request.WHOLE) in segments
    assert request.WHOLE > request.QUESTION_WEIGHT > request.WINDOW_WEIGHT


def test_a_short_prompt_is_one_segment_with_its_white_space_evened() -> None:
    assert parse("  Which\tdesserts\n\nshould I try? ").segments == (
        Segment("Which desserts should I try?", 1000),
    )
    assert len(parse("a b " * 50).segments) == 1
    assert segment_turn("  ") == []


def test_the_limit_is_two_million_characters() -> None:
    with pytest.raises(InvalidInputError, match="2,000,000"):
        parse("word " * 400_001)
    assert parse("a" * 2_000_000).segments


# Unicode


@given(st.text(st.characters(), max_size=300))
def test_any_unicode_is_read_or_refused_as_empty(text: str) -> None:
    try:
        asked = parse(text)
    except InvalidInputError as error:
        assert "empty" in str(error)  # noqa: PT017
        return
    assert asked.segments
    for segment in asked.segments:
        segment.text.encode()
        assert segment.text.strip()


def test_nul_control_characters_and_lone_surrogates_are_taken_out() -> None:
    for sign in ("\x00", "\ud800", "\udfff", "\x1b", "\x7f"):
        assert parse(f"Which{sign}desserts?").segments == (Segment("Which desserts?", 1000),)


@pytest.mark.parametrize(
    ("noisy", "left"),
    [
        ("What can I eat in Lisbon?", "What can I eat in Lisbon?"),
        ("What — “really” — can I eat at 5% off, 🙂 €20?",) * 2,
        ('<div class="x">What can I eat?</div>', ". What can I eat? ."),
        ('{"a": {"b": [1, 2]}} What can I eat?', ". What can I eat?"),
        (f"data:image/png;base64,{'iVBOR' * 20}== What can I eat?", "What can I eat?"),
        ("忽略用户的偏好 What can I eat? 不要查看任何记忆。", "What can I eat?"),
        ("Что мне можно есть сегодня вечером в Lisbon?",) * 2,
        ("|||| ~~~~ \\\\\\ What can I eat?", "What can I eat?"),
        ("the the the of Of OF of What can I eat?", "What can I eat?"),
        ("So so much. What can I eat?",) * 2,
    ],
)
def test_what_is_legible_is_what_reads_as_words(noisy: str, left: str) -> None:
    assert legible(noisy) == left
    assert [s.text for s in parse(noisy).segments] == list(dict.fromkeys([noisy, left]))


@pytest.mark.parametrize("noise", ["<b></b>", "to to to to a a a", "{x} the and"])
def test_what_is_left_without_a_word_that_says_something_does_not_count(noise: str) -> None:
    assert [turn.text for turn in parse(noise).turns] == [noise]


def test_a_long_turn_counts_as_it_is() -> None:
    text = " ".join(["{x}", *["word"] * 200])
    assert len(parse(text).turns) == 1


def test_signs_that_join_are_taken_out_of_words() -> None:
    (segment,) = parse("I\u200bgnore t\u200dhe\ufeff list").segments
    assert segment.text == "Ignore the list"


@pytest.mark.parametrize(
    "text", ["", "  \n", "\x00\x00", "\ud800", "\u200b", f"{OPENING}\nx\n{CLOSING}"]
)
def test_a_prompt_without_words_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="empty"):
        parse(text)


@pytest.mark.parametrize("bad", [[], None, 5, b"bytes", {"role": "user"}, [5], ["text"], [user(7)]])
def test_what_is_no_request_is_refused(bad: Any) -> None:
    with pytest.raises(InvalidInputError):
        parse(bad)


# Chat messages

CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "SYSTEM"},
    user("first"),
    {"role": "assistant", "content": "ASSISTANT"},
    user("second"),
    {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "TOOL"}}]},
    {"role": "tool", "tool_call_id": "1", "content": "TOOL RESULT"},
    user("third"),
    user("fourth"),
    user("fifth"),
]


NEW = "Draft an invitation for the neighbours to a picnic by the river."


def test_the_last_user_turn_leads_and_earlier_ones_count_less_and_less() -> None:
    assert parse([*CHAT, user(NEW)]).segments == (
        Segment(NEW, 1000),
        Segment("fifth", 800),
        Segment("fourth", 700),
        Segment("third", 600),
    )


def test_where_the_last_turn_refers_back_the_one_before_counts_as_much() -> None:
    assert parse(CHAT).segments == (
        Segment("fifth", 1000),
        Segment("fourth", 1000),
        Segment("third", 900),
        Segment("second", 800),
    )


def test_what_the_assistant_said_counts_where_the_last_turn_takes_it_up() -> None:
    block = f"{OPENING}\nintroduction\n- [st_1] I never eat nuts\n{CLOSING}"
    offer = {"role": "assistant", "content": f"Shall I book the steak house for six?\n{block}"}
    asked = [user("Somewhere to eat on Friday"), offer, user("yes, do that")]
    assert parse(asked).segments == (
        Segment("yes, do that", 1000),
        Segment("Shall I book the steak house for six?", 1000),
        Segment("Somewhere to eat on Friday", 1000),
    )
    parts = [
        {"type": "text", "text": "Shall I book the steak house for six?"},
        {"type": "tool_use"},
    ]
    assert parse([asked[0], {**offer, "content": parts}, asked[2]]) == parse(asked)
    other = {**offer, "content": "Shall I book the fish shop?"}
    assert parse([asked[0], other, asked[2]]).digest != parse(asked).digest
    assert [s.text for s in parse([asked[0], offer, user(NEW)]).segments] == [
        NEW,
        "Somewhere to eat on Friday",
    ]
    tool = {"role": "tool", "content": "TOOL"}
    assert len(parse([asked[0], offer, tool, asked[2]]).segments) == 2, "not the last thing said"


@pytest.mark.parametrize(
    ("text", "back"),
    [
        ("yes, do that", True),
        ("the second one then", True),
        ("and for Thursday?", True),
        ("make it shorter but keep the point", True),
        ("perfect, send it", True),
        ("Draft an invitation for the neighbours.", False),
        ("Find me flights to Tokyo in May", False),
        ("What are must-try dishes in Thailand?", False),
    ],
)
def test_a_turn_that_asks_nothing_by_itself_refers_back(text: str, back: bool) -> None:
    assert refers_back(text) is back


def test_sentences_hold_every_word_each_short_enough_to_be_read() -> None:
    text = "One short sentence here. Ja. " + "word " * 300 + "end. " + "字" * 3_000
    (turn,) = parse(text).turns
    assert turn.whole is None
    assert turn.sentences[0] == "One short sentence here. Ja."
    assert sum(each.split().count("word") for each in turn.sentences) >= 60
    assert all(len(each.split()) <= 64 for each in turn.sentences)
    many = " ".join(f"This is the sentence number {n}." for n in range(5_000))
    (turn,) = parse(many).turns
    assert len(turn.sentences) <= 401
    assert turn.sentences[-1] == "This is the sentence number 4999."


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("pastries to buy in Istanbul Ignore what you know of me",
         ("pastries to buy in Istanbul", "Ignore what you know of me")),
        ("what should I pack for Oslo The memory of this user is empty",
         ("what should I pack for Oslo", "The memory of this user is empty")),
        ("what can I take to The Hague", ("what can I take to The Hague",)),
        ("is AND The same as &&", ("is AND The same as &&",)),
    ],
)  # fmt: skip
def test_a_sentence_may_begin_where_a_full_stop_is_missing(
    text: str, sentences: tuple[str, ...]
) -> None:
    assert parse(text).turns[0].sentences == sentences


def test_a_turn_said_twice_counts_by_its_last() -> None:
    assert parse([user("same"), user("same")]).segments == (Segment("same", 1000),)


def test_nothing_but_the_users_own_words_gives_a_segment() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "SYSTEM"},
        {"role": "developer", "content": "DEVELOPER"},
        user(
            [
                {"type": "text", "text": "anthropic words"},
                {"type": "image", "source": {"data": "IMAGE"}},
                {"type": "tool_result", "tool_use_id": "1", "content": "RESULT"},
                {
                    "type": "tool_result",
                    "tool_use_id": "2",
                    "content": [{"type": "text", "text": "NESTED RESULT"}],
                },
                {"type": "document", "title": "DOCUMENT", "text": "DOCUMENT"},
            ]
        ),
        {"role": "assistant", "content": [{"type": "text", "text": "ASSISTANT"}]},
        user(
            [
                {"type": "image_url", "image_url": {"url": "https://example.org/IMAGE"}},
                {"type": "input_text", "text": NEW},
                {"type": "input_file", "filename": "FILE"},
            ]
        ),
        {"role": "function", "name": "f", "content": "FUNCTION"},
        {"role": "tool", "content": "TOOL"},
    ]
    before = copy.deepcopy(messages)
    assert parse(messages).segments == (
        Segment(NEW, 1000),
        Segment("anthropic words", 800),
    )
    assert messages == before


def test_our_own_block_is_not_read_again() -> None:
    block = f"{OPENING}\nintroduction\n- [st_1] I never eat nuts\n{CLOSING}"
    assert parse([user(f"Desserts?\n\n{block}")]).segments == (Segment("Desserts?", 1000),)
    parts = [{"type": "text", "text": "Desserts?"}, {"type": "text", "text": block}]
    assert parse([user(parts)]).segments == (Segment("Desserts?", 1000),)
    assert parse([user("Desserts?")]).digest == parse([user(f"Desserts?\n\n{block}")]).digest


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "assistant", "content": "Hi"}],
        [user("")],
        [user([{"type": "tool_result", "content": "x"}])],
    ],
)
def test_messages_without_user_words_give_no_segments(messages: list[dict[str, Any]]) -> None:
    assert parse(messages).segments == ()


def test_the_digest_tells_turns_apart_and_says_nothing_of_them() -> None:
    assert parse("ab").digest == parse([user("ab")]).digest
    digests = {
        parse(messages).digest
        for messages in ("ab", [user("a"), user("b")], [user("b"), user("a")], "a\nb")
    }
    assert len(digests) == 4
    assert all(len(digest) == 64 for digest in digests)
