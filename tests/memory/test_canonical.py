"""Canonical JSON is that of RFC 8785, and reads back in one way only."""

import json
import math
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from holdfast.memory.canonical import GREATEST, Rejected, canonical, read_canonical, read_json

values = st.recursive(
    st.none() | st.booleans() | st.integers(-GREATEST, GREATEST) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(values)
def test_it_is_what_the_library_of_the_rfc_writes(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)
    assert read_canonical(canonical(value).decode()) == value


def test_keys_are_sorted_by_their_utf_16() -> None:
    """The RFC's own example: sorted by code points, U+FB33 would stand after U+1F600."""
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    sorted_keys = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert list(json.loads(canonical(dict.fromkeys(keys, 0)))) == sorted_keys


def test_texts_are_escaped_as_little_as_the_rfc_allows() -> None:
    text = '\u20ac$\u000f\nA\'B"\\\\"/\u007f\u2028'
    assert canonical(text) == '"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/\u007f\u2028"'.encode()
    assert canonical("\b\t\f\r") == b'"\\b\\t\\f\\r"'


def test_tuples_are_lists_and_nothing_stands_between() -> None:
    assert canonical({"b": (1, 2), "a": [True, None, False]}) == (
        b'{"a":[true,null,false],"b":[1,2]}'
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1.5, "float is not among its values"),
        (math.nan, "float"),
        ([{"deep": 1.0}], "float"),
        (b"bytes", "bytes"),
        ({1: 2}, "a key is no text"),
        ({"a": {None: 1}}, "a key is no text"),
        (GREATEST + 1, "beyond 2\\^53"),
        (-GREATEST - 1, "beyond 2\\^53"),
        ("\ud800", "UnicodeEncodeError"),
        ({"\udfff": 1}, "UnicodeEncodeError"),
        ({1, 2}, "set"),
    ],
)
def test_what_has_no_one_spelling_is_refused(value: Any, words: str) -> None:
    with pytest.raises(Rejected, match=words):
        canonical(value)


def test_the_greatest_numbers_are_written() -> None:
    assert canonical([GREATEST, -GREATEST]) == b"[9007199254740991,-9007199254740991]"


def test_a_value_nested_too_deeply_is_refused_and_not_a_crash() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(Rejected, match="RecursionError"):
        canonical(deep)
    with pytest.raises(Rejected, match="no JSON"):
        read_json("[" * 100_000)


@pytest.mark.parametrize(
    "text",
    [
        '{"b":1,"a":2}',
        '{"a": 1}',
        '{"a":1,"a":1}',
        '{"a":1,"a":2}',
        "[1,2] ",
        " 1",
        "1.0",
        "1e3",
        "-0",
        "01",
        '"\\u0041"',
        '"\\/"',
        '"\\u000F"',
        '"\\ud83d\\ude00"',
        '"\\ud800"',
        "NaN",
        "Infinity",
        "9007199254740993",
        "",
        "{",
        "true false",
    ],
)
def test_another_spelling_of_a_value_is_refused(text: str) -> None:
    with pytest.raises(Rejected):
        read_canonical(text)


def test_a_text_with_a_lone_surrogate_is_refused_as_it_stands() -> None:
    with pytest.raises(Rejected):
        read_canonical('"\ud800"')
