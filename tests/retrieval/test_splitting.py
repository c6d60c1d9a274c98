import contextlib
import re
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.memory.errors import InvalidInputError
from holdfast.retrieval.reading import (
    MAX_STATEMENT_CHARACTERS,
    MAX_STATEMENTS,
    MAX_TEXT_CHARACTERS,
    clean,
    equality_key,
    split,
)
from holdfast.retrieval.splitting import CONTINUES

SECRET = "cashew"


@pytest.mark.parametrize(
    ("given_text", "names"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("\u200b\u200d\ufeff", "nothing visible"),
        ("\u2800\u3164", "nothing visible"),
        ("\u202e\u00ad", "nothing visible"),
        (f"{SECRET}\x00", "U+0000"),
        (f"{SECRET}\x1b[31m", "U+001B"),
        (f"{SECRET}\x7f", "U+007F"),
        (f"{SECRET}\x9d", "U+009D"),
        ("\x89PNG\x1a", "U+0089"),
        (f"{SECRET}\ud83d", "surrogate"),
        (SECRET * 20_000, f"{MAX_TEXT_CHARACTERS:,}"),
        (SECRET.encode(), "decode bytes"),
        (None, "must be a str"),
        (7, "must be a str"),
    ],
)
def test_what_no_statement_can_be_made_of_is_refused_without_repeating_it(given_text, names):
    with pytest.raises(InvalidInputError) as caught:
        clean(given_text)
    assert names in str(caught.value)
    assert SECRET not in str(caught.value)
    with pytest.raises(InvalidInputError):
        split(given_text)


def test_the_limit_and_the_name_of_the_input_are_in_the_message():
    with pytest.raises(InvalidInputError, match=r"the reason has 11 characters, at most 10"):
        clean("a" * 11, limit=10, what="the reason")
    assert clean("a" * 10, limit=10) == "a" * 10


def test_text_that_grows_past_the_limit_when_normalised_is_refused():
    growing = "\u0958" * 10  # NFC makes two characters of each
    with pytest.raises(InvalidInputError, match="has 20 characters"):
        clean(growing, limit=10)


@pytest.mark.parametrize(
    "text",
    [
        "لا آكل المكسرات",
        "אני לא אוכל אגוזים",
        "🥜🚫",
        "👩‍👩‍👧 first",
        "می‌خواهم",
        "我不吃坚果。",
        "नमस्ते",
        "tab\there",
    ],
)
def test_all_of_unicode_stays_as_it_is(text):
    assert clean(text) == unicodedata.normalize("NFC", text)


def test_line_ends_are_made_one_and_white_space_around_is_taken_off():
    assert clean("  one\r\ntwo\rthree\u2028four\x85five \n") == "one\ntwo\nthree\nfour\nfive"


def test_composed_and_decomposed_spellings_are_the_same_statement():
    assert equality_key("Peri\u0107  is\n my doctor ") == equality_key("Peric\u0301 is my doctor")


@pytest.mark.parametrize(
    ("one", "other"),
    [("No nuts", "no nuts"), ("No nuts", "No nuts."), ("after 8", "after 9")],
)
def test_case_punctuation_and_numbers_tell_statements_apart(one, other):
    assert equality_key(one) != equality_key(other)


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        (
            "Be blunt with me. I never eat nuts: one crumb of cashew and I'm in hospital.",
            ["Be blunt with me.", "I never eat nuts: one crumb of cashew and I'm in hospital."],
        ),
        ("I see Dr. Perić at 8 a.m. on Mondays.", None),
        ("I read J. R. R. Tolkien, e.g. The Hobbit, every winter.", None),
        ("I live in the U.S. Army base near St. John.", None),
        ("Prices in euros, 3.5 at most, see https://a.example/b.html?c=1. or a.b@c.example.", None),
        ('He said "No. Never." and I agree.', None),
        ("Well… I like tea.", None),
        ("I never fly because of the climate.", None),
        ("I never eat nuts. One crumb and I'm in hospital.", None),
        ("No alcohol. That's why I skip wine tastings.", None),
        ("I don't fly. Because of the climate.", None),
        ("No calls after nine. No exceptions.", None),
        ("I ring Mum on Sundays. Otherwise she worries.", None),
        ("I give to the shelter. They took my dog in.", None),
        ("No plastic. Not even straws.", None),
        ("I'm on warfarin since 2019. No pills without asking Dr. Perić.", None),
        ("Never call me late 🙂. 🙏", None),
        (
            "I'm allergic to peanuts. I prefer window seats.",
            ["I'm allergic to peanuts.", "I prefer window seats."],
        ),
        ("Write to me. I know the rules.", ["Write to me.", "I know the rules."]),
        ("I live in Rijeka. I hate flying.", ["I live in Rijeka.", "I hate flying."]),
        (
            "Call me Max. I pay by cash only. Never use emojis!",
            ["Call me Max.", "I pay by cash only.", "Never use emojis!"],
        ),
        ("我不吃坚果。请用中文回答！", ["我不吃坚果。", "请用中文回答！"]),
        ("Я не ем мясо. Отвечай по-русски.", ["Я не ем мясо.", "Отвечай по-русски."]),
        ("هل تحب الشاي؟ لا آكل اللحم.", ["هل تحب الشاي؟", "لا آكل اللحم."]),
        (
            "Ich esse kein Fleisch. Antworte auf Deutsch.",
            ["Ich esse kein Fleisch.", "Antworte auf Deutsch."],
        ),
        (
            "1. No nuts. 2. No milk. 3. Answer in German.",
            ["No nuts.", "No milk.", "Answer in German."],
        ),
    ],
)
def test_a_sentence_is_a_statement_unless_it_explains_the_one_before(text, statements):
    assert split(clean(text)) == (statements or [text])


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("- No nuts\n* Answer in German\n• I run", ["No nuts", "Answer in German", "I run"]),
        ("1. No nuts\n2) No milk\n(3) No eggs", ["No nuts", "No milk", "No eggs"]),
        ("- [x] No nuts\n- [ ] No milk", ["No nuts", "No milk"]),
        ("No nuts\nanswer in German\nI run", ["No nuts", "answer in German", "I run"]),
        ("no nuts\nno emojis", ["no nuts", "no emojis"]),
        ("My rules:\n- No nuts ever\n- Be brief", ["No nuts ever", "Be brief"]),
        ("# My rules\n\n## Food\nI never eat nuts.", ["I never eat nuts."]),
        ("Rules\n=====\nI never eat nuts.", ["I never eat nuts."]),
        (
            "**Food**\nNo nuts ever\n\n**Never call me buddy**",
            ["No nuts ever", "Never call me buddy"],
        ),
        ("> - No nuts\n> - No milk", ["No nuts", "No milk"]),
        ("I never eat nuts\n\n---\n\nBe brief", ["I never eat nuts", "Be brief"]),
        (
            "- I like tea\n  with milk.\n    - Green tea is best of all\n\n      after lunch",
            ["I like tea with milk.", "Green tea is best of all after lunch"],
        ),
        (
            "- Nothing goes out without my yes. I was burned twice.\n- Be brief. I fly in May.",
            ["Nothing goes out without my yes. I was burned twice.", "Be brief.", "I fly in May."],
        ),
        (
            "I was raised on a farm outside the town, and so I never throw\n"
            "food away, not even the stems and crusts that others leave\n"
            "on the plate.",
            [
                "I was raised on a farm outside the town, and so I never throw food away, "
                "not even the stems and crusts that others leave on the plate."
            ],
        ),
        ("I never eat nuts:\none crumb and I'm ill.", ["I never eat nuts: one crumb and I'm ill."]),
    ],
)
def test_lists_headings_and_wrapped_lines_are_read_as_they_look(text, statements):
    assert split(clean(text)) == statements


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        (
            "Never:\n- share my address\n- book without asking",
            ["Never: share my address", "Never: book without asking"],
        ),
        (
            "## Never\nShare my address.\n\n## Food\nI like tea.",
            ["Never: Share my address.", "I like tea."],
        ),
        ("Never:\nshare my address\n\nI like tea.", ["Never: share my address", "I like tea."]),
        ("I'm allergic to:\n- cashew, also in sauces", ["I'm allergic to: cashew, also in sauces"]),
        (
            "Favourite colours:\n- red\n- deep blue",
            ["Favourite colours: red", "Favourite colours: deep blue"],
        ),
    ],
)
def test_a_heading_without_which_its_items_would_be_untrue_stays_with_them(text, statements):
    assert split(clean(text)) == statements


@pytest.mark.parametrize("text", ["# Food", "My rules:", "🥜🚫", "?!"])
def test_text_that_is_only_a_heading_or_marks_is_still_a_statement(text):
    assert split(clean(text)) == [text.removeprefix("# ")]


def test_a_sentence_that_is_too_long_is_refused_and_not_cut():
    with pytest.raises(InvalidInputError, match="one sentence of the text has 2,001 characters"):
        split("a" * (MAX_STATEMENT_CHARACTERS + 1))
    assert split("a" * MAX_STATEMENT_CHARACTERS) == ["a" * MAX_STATEMENT_CHARACTERS]


def test_explanations_are_not_joined_past_the_longest_statement():
    text = "I keep my word. " + "Because it matters to me and mine. " * 100
    assert len(split(clean(text))) > 1
    assert all(len(statement) <= MAX_STATEMENT_CHARACTERS for statement in split(clean(text)))


def test_more_statements_than_are_read_from_one_text_are_refused():
    with pytest.raises(InvalidInputError, match=f"at most {MAX_STATEMENTS}"):
        split("- I run\n" * (MAX_STATEMENTS + 1))
    with pytest.raises(InvalidInputError, match="lines"):
        split("a\n" * 20_000)


@pytest.mark.parametrize(
    "unit",
    ["- ", "a.", "a. ", "a ", "1. ", ">", "#", "*", "(", '"a. ', "**a", "a:\n", "- a\n", "? ",
     "no a:\n", "approx. ", "_ ", "me. I ", "I keep my word to people. ", "\n", "a\n\n", "swore "],
)  # fmt: skip
def test_no_text_of_full_length_takes_a_second(unit):
    text = clean("x" + (unit * MAX_TEXT_CHARACTERS)[: MAX_TEXT_CHARACTERS - 2] + "x")
    started = time.process_time()
    with contextlib.suppress(InvalidInputError):
        split(text)
    assert time.process_time() - started < 1.0


def test_every_rule_that_joins_sentences_is_reached_by_an_example():
    examples = ["It hurts.", "Because I said so.", "No exceptions.", "I gave my word.",
                "My mother hates it.", "One crumb and I'm ill."]  # fmt: skip
    reached = {name for name, pattern in CONTINUES for text in examples if pattern.match(text)}
    assert reached == {name for name, _ in CONTINUES}


@given(st.text(max_size=300))
def test_cleaned_text_has_no_control_characters_and_stays_the_same_when_cleaned_again(text):
    try:
        cleaned = clean(text)
    except InvalidInputError:
        return
    assert not any(unicodedata.category(c) == "Cc" and c not in "\n\t" for c in cleaned)
    assert cleaned == cleaned.strip()
    assert clean(cleaned) == cleaned


@given(st.text(max_size=200))
def test_the_equality_key_of_an_equality_key_is_itself(text):
    assert equality_key(equality_key(text)) == equality_key(text)
    assert equality_key(f"  {text}\n") == equality_key(text)


WORDS = st.sampled_from(
    ["I", "never", "Dr.", "tea", "Always", "it", "Because", "8", "a.m.", "nuts,", "say", "no.",
     "Yes!", "Why?", "“so”", "e.g.", "我。", "don't", "That's", "(ever)", "me."]
)  # fmt: skip
LINES = st.tuples(
    st.sampled_from(["", "- ", "* ", "1. ", "  - ", "> ", "• "]),
    st.lists(WORDS, min_size=1, max_size=12).map(" ".join),
    st.sampled_from(["\n", "\n\n"]),
)


@given(st.lists(LINES, min_size=1, max_size=12))
def test_splitting_loses_no_word_and_keeps_their_order(lines):
    text = clean("".join(mark + words + end for mark, words, end in lines))
    statements = split(text)
    assert all(statement.strip() for statement in statements)
    assert all(len(statement) <= MAX_STATEMENT_CHARACTERS for statement in statements)
    said = [word for _, words, _ in lines for word in re.findall(r"[^\W\d]+", words)]
    assert re.findall(r"[^\W\d]+", " ".join(statements)) == said


@given(st.text(max_size=400))
def test_any_text_is_split_or_refused_and_never_breaks(text):
    try:
        statements = split(clean(text))
    except InvalidInputError:
        return
    assert statements
    assert all(statement.strip() for statement in statements)
