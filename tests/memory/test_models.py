"""How values print, and that nothing in them becomes markup."""

import dataclasses
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from holdfast.memory import errors
from holdfast.memory.models import (
    Decision,
    Evidence,
    Proposal,
    Statement,
    Verification,
    Weighed,
    html_table,
)

WHEN = datetime(2026, 3, 1, 9, 30, 0, 5, tzinfo=UTC)
MARKUP = "<script>alert('&\"')</script>"
STATEMENT = Statement(
    "st_a", MARKUP, MARKUP, "boundary", "must", "topical", (MARKUP,), 2, WHEN, WHEN, WHEN, WHEN,
    MARKUP, MARKUP,
)  # fmt: skip
VALUES: list[Any] = [
    STATEMENT,
    Decision(STATEMENT, MARKUP, MARKUP, MARKUP, (Weighed(MARKUP, 1),)),
    Proposal(
        "pr_a", "ada", MARKUP, "value", "should", "topical", (MARKUP,), MARKUP, "open", WHEN, None,
        None,
    ),
    Evidence("ev_a", "t", 3, MARKUP, (MARKUP,), WHEN, {"text": MARKUP}, "0" * 64, "f" * 64),
    Verification(False, 2, "f" * 64, "ev_a", MARKUP),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_shows_its_parts_and_escapes_them_in_html(value: Any) -> None:
    html = value._repr_html_()
    assert "<script" not in html
    assert set(re.findall(r"<(/?\w+)", html)) == {
        "table",
        "tr",
        "th",
        "td",
        "/table",
        "/tr",
        "/th",
        "/td",
    }
    assert MARKUP in str(value)
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_frozen_and_comparable(value: Any) -> None:
    assert dataclasses.replace(value) == value
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, "another")


def test_values_print_on_one_line_what_a_reader_looks_for() -> None:
    plain = dataclasses.replace(STATEMENT, text="I never eat nuts")
    assert str(plain) == "st_a  must · boundary: I never eat nuts"
    decision = Decision(plain, "Two offers", "the small one", "calm", ())
    assert str(decision) == "st_a  Two offers → the small one, because calm"
    assert str(VALUES[3]).startswith("ev_a  2026-03-01T09:30:00+00:00  ")
    whole = Verification(True, 2, "f" * 64)
    assert str(whole) == f"VERIFIED: 2 entries, head {'f' * 16}"
    assert whole
    assert not VALUES[4]


def test_a_table_leaves_out_what_is_empty() -> None:
    html = html_table([("a", None), ("b", ()), ("c", ""), ("d", 0), ("e<", "f")])
    assert re.findall(r"<th[^>]*>(.*?)</th>", html) == ["d", "e&lt;"]


def test_the_tree_of_errors_is_as_its_docstring_draws_it() -> None:
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"( +[│├└─ ]*)(\w+Error)", line)
        if found:
            depth = (len(found[1]) - 4) // 4
            above[depth:] = [found[2]]
            drawn[found[2]] = above[depth - 1] if depth else "Exception"
    classes = {name: each for name, each in vars(errors).items() if name.endswith("Error")}
    assert drawn == {name: each.__bases__[0].__name__ for name, each in classes.items()}
    assert issubclass(errors.InvalidInputError, ValueError)
    assert issubclass(errors.NotFoundError, LookupError)
