"""How values print, and that nothing in them becomes markup."""

import dataclasses
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from holdfast.memory import errors
from holdfast.memory.models import (
    Decision,
    Erasure,
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
        "pr_a",
        "ada",
        MARKUP,
        "value",
        "should",
        "topical",
        (MARKUP,),
        MARKUP,
        "open",
        WHEN,
        None,
        None,
    ),
    Evidence("ev_a", "t", 3, MARKUP, (MARKUP,), WHEN, {"text": MARKUP}, "{}", "f" * 64),
    Verification(False, 2, "AAAA", 1, 1, "leaf 1 (ev_a)", MARKUP),
    Erasure("ev_a", 2, 1, 7, (MARKUP,)),
]
EVIDENCE, FAILED, ERASURE = VALUES[3:]


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
    assert str(EVIDENCE) == f"ev_a  2026-03-01T09:30:00+00:00  {MARKUP} for {MARKUP}"
    of_nobody = dataclasses.replace(EVIDENCE, type="policy", subjects=())
    assert str(of_nobody) == "ev_a  2026-03-01T09:30:00+00:00  policy for nobody"
    whole = Verification(True, 12, "AAAA", covered=7)
    assert str(whole) == "VERIFIED: 12 leaves, 7 under a checkpoint, root AAAA"
    assert str(FAILED) == f"FAILED at leaf 1 (ev_a): {MARKUP}"
    done = "erased 2 versions, 1 proposals and the payloads of 7 events; recorded as ev_a"
    assert str(dataclasses.replace(ERASURE, left=())) == done
    assert str(ERASURE) == f"{done}\n{MARKUP}", "and what is left to do on lines of its own"


def test_a_statement_shows_why_it_was_written_and_why_it_was_retired() -> None:
    said = dataclasses.replace(STATEMENT, reason="a new test", end_reason="grown out of it")
    html = said._repr_html_()
    for name, value in (("reason", "a new test"), ("reason it was retired", "grown out of it")):
        cells = f">{name}</th><td style='text-align:left'>{value}</td>"
        assert cells in html


def test_a_verification_is_true_if_everything_holds_and_says_whether_something_was_erased() -> None:
    whole = Verification(True, 12, "AAAA", covered=7)
    assert whole
    assert whole.verdict == "VERIFIED"
    erased = dataclasses.replace(whole, erased=3)
    assert erased
    assert erased.verdict == "VERIFIED-ERASED"
    assert str(erased) == (
        "VERIFIED-ERASED: 12 leaves, 3 of them erased, 7 under a checkpoint, root AAAA"
    )
    assert not FAILED
    assert FAILED.verdict == "FAILED", "also where something was erased"


def test_evidence_says_whether_it_was_erased_and_whether_it_was_carried_in() -> None:
    assert not EVIDENCE.erased
    assert not EVIDENCE.imported
    gone = dataclasses.replace(EVIDENCE, type="retrieval", subjects=(), payload={}, erased=True)
    assert str(gone) == "ev_a  2026-03-01T09:30:00+00:00  retrieval erased"
    assert ">erased<" in gone._repr_html_()
    assert ">erased<" not in EVIDENCE._repr_html_()
    assert dataclasses.replace(EVIDENCE, payload={"imported": {}}).imported


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
