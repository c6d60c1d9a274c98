"""Keys on the command line: made once, shown once, listed with what they did, ended."""

import io
import json
import re
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from doors import Served, served

from holdfast import Holdfast
from holdfast.memory.models import ROLES
from holdfast.server.cli import cli

KEY = re.compile(r"^hf_live_[0-9a-z]{12}_[0-9a-z]{32}_[0-9a-z]{7}$", re.MULTILINE)


def run(*words: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = cli.run([str(word) for word in words])
    return status, out.getvalue(), err.getvalue()


def answer(*words: object) -> Any:
    status, out, err = run(*words, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory on which commands work, and no server."""
    monkeypatch.setenv("HOLDFAST_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOLDFAST_SUBJECT", "ada")
    monkeypatch.delenv("HOLDFAST_DEBUG", raising=False)
    return tmp_path / "data"


@pytest.fixture(params=["directory", "socket", "url"])
def place(
    request: pytest.FixtureRequest, data: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The same commands, on a directory, through its owner's socket, at a URL."""
    if request.param == "directory":
        with Holdfast.open(data, brief=True) as holdfast:
            holdfast.access.create("tests", role="admin")
        yield request.param
        return
    fake: Holdfast = request.getfixturevalue("fake")
    with served(fake) as at:
        if request.param == "url":
            monkeypatch.setenv("HOLDFAST_URL", at.url)
            monkeypatch.setenv("HOLDFAST_KEY", at.key)
        yield request.param


def test_a_key_is_made_listed_replaced_and_ended(place: str) -> None:
    status, out, err = run("keys", "create", "web shop", "--role", "app", "--quota", "9")
    assert (status, err) == (0, "")
    assert KEY.match(out), "its first line is the key itself"
    assert "app key" in out
    assert "9 operations a month" in out
    made = answer(
        "keys", "create", "Ada's phone", "--role", "personal", "--for", "ada",
        "--expires", "2099-01-01",
    )  # fmt: skip
    assert KEY.match(made["secret"])
    assert made["key"]["id"] in made["secret"]
    assert (made["key"]["role"], made["key"]["subject"]) == ("personal", "ada")
    listed = answer("keys", "list")
    assert [each["name"] for each in listed] == ["tests", "web shop", "Ada's phone"]
    assert listed[1]["operations"] == 0
    assert "secret" not in json.dumps(listed)
    anew = answer("keys", "rotate", made["key"]["id"], "--overlap", "60")
    assert anew["key"]["id"] != made["key"]["id"]
    assert (anew["key"]["name"], anew["key"]["subject"]) == ("Ada's phone", "ada")
    gone = answer("keys", "revoke", anew["key"]["id"])
    assert gone["revoked_at"]
    assert run("keys", "revoke", anew["key"]["id"])[0] == 0, "it has ended already"
    _, out, _ = run("keys", "list")
    states = {line.split()[0]: line for line in out.splitlines()}
    assert "until" in states[made["key"]["id"]]
    assert "revoked" in states[anew["key"]["id"]]
    assert "0 of 9" in out
    assert not KEY.search(out)


def test_what_cannot_be_done_is_one_line_and_status_2(place: str) -> None:
    for words in (
        ("create", "x", "--role", "personal"),
        ("create", "x", "--role", "app", "--for", "ada"),
        ("create", "x", "--role", "app", "--expires", "2001-01-01"),
        ("create", "x", "--role", "app", "--expires", "soon"),
        ("create", "", "--role", "app"),
        ("create", "x"),
        ("create", "x", "--role", "king"),
        ("rotate", "nokey"),
        ("revoke", "nokey"),
        ("rotate", "nokey", "--overlap", "99999999"),
    ):
        status, out, err = run("keys", *words)
        assert (status, out) == (2, ""), words
        assert re.fullmatch(r"holdfast: [^\n]+\n", err), words


def test_a_tenants_keys_are_its_own(place: str) -> None:
    if place == "url":
        assert "belongs to one tenant" in run("keys", "list", "--tenant", "acme")[2]
        return
    made = answer("keys", "create", "acme's", "--role", "admin", "--tenant", "acme")
    assert made["key"]["tenant"] == "acme"
    assert [each["name"] for each in answer("keys", "list")] == ["tests"]
    assert [each["name"] for each in answer("keys", "list", "--tenant", "acme")] == ["acme's"]
    assert run("keys", "revoke", made["key"]["id"])[0] == 2
    assert run("keys", "revoke", made["key"]["id"], "--tenant", "acme")[0] == 0


def test_the_list_shows_what_a_key_did_this_month(fake: Holdfast, data: Path) -> None:
    with served(fake) as at:
        key = answer("keys", "create", "app", "--role", "app", "--quota", "3")
        said = ("--url", at.url, "--key", key["secret"])
        assert run("add", "I keep bees.", *said)[0] == 0
        assert run("list", *said)[0] == 0
        assert run("query", "bees?", *said)[0] == 0
        status, _, err = run("list", *said)
        assert status == 2
        assert "quota" in err
        (shown,) = (each for each in answer("keys", "list") if each["name"] == "app")
        assert (shown["operations"], shown["quota"]) == (3, 3)
        assert shown["by_operation"] == {"add": 1, "list": 1, "retrieve": 1}
        assert shown["used_at"]
        assert "3 of 3" in run("keys", "list")[1]


def test_a_key_that_replaces_one_whose_quota_is_used_up_is_over_it_at_once(
    fake: Holdfast, data: Path
) -> None:
    with served(fake) as at:
        key = answer("keys", "create", "app", "--role", "app", "--quota", "2")
        for _ in range(2):
            assert run("list", "--url", at.url, "--key", key["secret"])[0] == 0
        anew = answer("keys", "rotate", key["key"]["id"])
        status, _, err = run("list", "--url", at.url, "--key", anew["secret"])
        assert status == 2
        assert "quota" in err
        (shown,) = (each for each in answer("keys", "list") if each["id"] == anew["key"]["id"])
        assert (shown["operations"], shown["by_operation"]) == (2, {"before.rotation": 2})
        assert run("keys", "list")[1].count("2 of 2") == 2


def test_a_key_that_has_ended_lets_nobody_in(fake: Holdfast, data: Path) -> None:
    with served(fake) as at:
        key = answer("keys", "create", "app", "--role", "app")
        said = ("list", "--url", at.url, "--key", key["secret"])
        assert run(*said)[0] == 0
        answer("keys", "revoke", key["key"]["id"])
        assert "no valid key" in run(*said)[2]


def test_only_an_admin_manages_keys(fake: Holdfast, data: Path) -> None:
    with served(fake) as at:
        for role in ROLES:
            whose = ("--for", "ada") if role == "personal" else ()
            key = answer("keys", "create", role, "--role", role, *whose)
            status, _, err = run("keys", "list", "--url", at.url, "--key", key["secret"])
            assert status == (0 if role == "admin" else 2), role
            assert role == "admin" or f"role {role} may not" in err


def test_a_key_is_in_no_file_of_the_directory(data: Path) -> None:
    made = answer("keys", "create", "x", "--role", "admin")
    secret = made["secret"].split("_")[3].encode()
    files = [path for path in data.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if secret in path.read_bytes()]


def test_an_empty_directory_has_no_keys_to_list(data: Path) -> None:
    status, out, err = run("keys", "list")
    assert (status, out) == (2, "")
    assert "holds no Holdfast data" in err


@pytest.fixture
def at(fake: Holdfast) -> Iterator[Served]:
    with served(fake) as place:
        yield place


def test_a_personal_key_is_its_subjects_alone(at: Served, data: Path) -> None:
    at.holdfast.add("bo", "I keep bees.")
    key = answer("keys", "create", "phone", "--role", "personal", "--for", "ada")
    said = ("--url", at.url, "--key", key["secret"])
    assert run("add", "I keep cats.", *said)[0] == 0
    assert "cats" in run("list", *said)[1]
    for words in (("list",), ("add", "x"), ("query", "x"), ("export",), ("erase", "--yes")):
        status, out, err = run(*words, "--subject", "bo", *said)
        assert (status, out) == (2, ""), words
        assert "no such subject here" in err
    assert "no such subject" in run("query", "x", "--subject", "ada", "--subject", "bo", *said)[2]
    assert at.holdfast.statements("bo")[0].text == "I keep bees."
