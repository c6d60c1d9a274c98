"""The ledger on the command line: what it shows, gives out, checks, erases and refuses."""

import io
import json
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tampering

from holdfast.memory.keys import from_file
from holdfast.memory.leaf import read_field
from holdfast.memory.models import EVENT_TYPES
from holdfast.retrieval.engine import Holdfast
from holdfast.server.cli import cli

HOLDFAST = Path(sys.executable).with_name("holdfast")
NUTS = "I never eat nuts: one crumb of cashew and I'm in hospital."
MAPS = "I collect maps of railways in Réunion."
ASKED = "May I eat the baklava, with its cashew?"
PRIVATE = re.compile("never eat|cashew|hospital|collect|railway|Réunion|baklava|marmalade|walrus")
"""Words of the subject and of what was asked: no complaint repeats them."""


class Standard(io.TextIOWrapper):
    """Standard input that holds given bytes."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8")


def run(*words: object, stdin: bytes = b"") -> tuple[int, str, str]:
    """Run one command line; give status, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(out), redirect_stderr(err):
        patched.setattr(sys, "stdin", Standard(stdin))
        status = cli.run([str(word) for word in words])
    assert not PRIVATE.search(err.getvalue()), "a complaint repeats private words"
    return status, out.getvalue(), err.getvalue()


def said(*words: object, status: int = 0) -> str:
    """Run one command line; give what it says on standard output, and nothing elsewhere."""
    done, out, err = run(*words)
    assert (done, err) == (status, "")
    return out


def answer(*words: object, status: int = 0) -> Any:
    """Run one command line with --json; give what it says, as values."""
    return json.loads(said(*words, "--json", status=status))


def refused(*words: object) -> str:
    """Run a command line that is refused, with --json and without: one line, which is given."""
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert re.fullmatch(r"holdfast: [^\n]+\n", err), err
    assert run(*words, "--json") == (status, out, err)
    return err


def events(*kinds: str) -> list[str]:
    """Give the ids of the events of some types, oldest first."""
    wanted = [word for kind in kinds for word in ("--type", kind)]
    return [each["id"] for each in answer("audit", "list", "--events", *wanted)][::-1]


@dataclass
class Place:
    """A data directory of the tests, and what was given out of it, in a folder of its own."""

    folder: Path
    nuts: str
    """The id of a statement."""
    evidence: str
    """The id of a retrieval in which it was injected."""

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def key_file(self) -> Path:
        (found,) = self.config.rglob("installation.key")
        return found

    @property
    def signed(self) -> Path:
        """What the signer keeps."""
        (found,) = (p for p in self.config.glob("holdfast/checkpoints/*/*") if not p.suffix)
        return found

    @property
    def leaves(self) -> int:
        return self.rows("SELECT COUNT(*) FROM ledger")[0][0]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.data / "holdfast.db")
        found = connection.execute(query).fetchall()
        connection.close()
        return found

    def change(self, *statements: str) -> None:
        """Change rows past Holdfast; ``?`` stands for the evidence's place, st_NUTS for the id."""
        connection = sqlite3.connect(self.data / "holdfast.db")
        (index,) = connection.execute(
            "SELECT position FROM ledger WHERE event = ?", [self.evidence]
        ).fetchone()
        with connection:
            for statement in statements:
                values = [index] * statement.count("?")
                said = statement.replace("st_NUTS", self.nuts)
                assert connection.execute(said, values).rowcount > 0
        connection.close()

    def state(self) -> tuple[list[str], dict[str, bytes]]:
        """Give every row, and every file outside the data directory."""
        files = [p for p in self.folder.rglob("*") if p.is_file() and self.data not in p.parents]
        return tampering.dump(self.data), {
            str(p): p.read_bytes() for p in files if p.suffix != ".lock"
        }


def settle(patched: pytest.MonkeyPatch, folder: Path) -> None:
    """Let commands work in a folder."""
    patched.setenv("HOLDFAST_DATA", str(folder / "data"))
    patched.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    patched.setenv("HOLDFAST_SUBJECT", "ottoline")
    patched.setenv("COLUMNS", "80")
    patched.delenv("HOLDFAST_DEBUG", raising=False)
    patched.chdir(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """What is there before each test; made once, by the commands."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patched:
        settle(patched, folder)
        nuts = answer("add", NUTS, "--no-split")["statements"][0]["id"]
        maps = answer("add", MAPS, "--no-split", "--context", "leisure")["statements"][0]["id"]
        evidence = answer("query", ASKED, "--threshold", "0")["evidence_id"]
        said("audit", "checkpoint", "--out", "kept.txt", "--key-out", "log.key")
        said("revise", maps, "--strength", "should", "--reason", "marmalade")
        said("decide", "--situation", "A walrus", "--choice", "left it", "--reason", "marmalade",
             "--weighed", nuts)  # fmt: skip
        with Holdfast.open() as holdfast:
            offered = holdfast.propose(
                "ottoline", "I like walrus songs.\n\nI like marmalade.", source="t"
            )
            holdfast.confirm(offered[0].id)
            holdfast.reject(offered[1].id)
        said("retire", maps, "--reason", "no walrus")
        said("add", "We serve no walrus.", "--no-split", "--subject", "acme")
        said("audit", "bundle", evidence, "--since", "kept.txt", "--out", "bundle.json")
        yield Place(folder, nuts, evidence)


@pytest.fixture
def place(made: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A copy of it for one test."""
    shutil.copytree(made.folder, tmp_path / "place", ignore=shutil.ignore_patterns("*.lock"))
    settle(monkeypatch, tmp_path / "place")
    return Place(tmp_path / "place", made.nuts, made.evidence)


@pytest.fixture
def look(made: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """The place itself, for tests that change nothing in it; held to that."""
    settle(monkeypatch, made.folder)
    before = made.state()
    yield made
    assert made.state() == before, "the test wrote"


# Reading


def test_every_command_of_the_ledger_is_listed_with_what_it_does(look: Place) -> None:
    listed = re.findall(r"^  ([a-z][a-z-]+)  +\w", said("audit", "--help"), re.MULTILINE)
    assert listed == [
        "bundle", "checkpoint", "list", "publish", "replay", "rotate-key", "show", "verifier",
        "verify",
    ]  # fmt: skip
    for words in (*(["audit", name] for name in listed), ["verify"], ["export"], ["import"]):
        assert "--json" in said(*words, "--help")


def test_events_are_listed_newest_first_by_type_and_subject(look: Place) -> None:
    every = answer("audit", "list", "--events")
    assert [each["index"] for each in every] == list(range(look.leaves))[::-1]
    assert [each["id"] for each in answer("audit", "list")] == [look.evidence]
    (acme,) = answer("audit", "list", "--events", "--subject", "acme")
    assert (acme["type"], acme["subjects"]) == ("statement.put", ["acme"])
    both = answer("audit", "list", "--type", "retrieval", "--type", "policy")
    assert [each["type"] for each in both] == ["retrieval", "policy"]
    assert answer("audit", "list", "--events", "--limit", "2") == every[:2]
    lines = said("audit", "list", "--events").splitlines()
    assert [line.split()[0] for line in lines] == [each["id"] for each in every]
    assert not PRIVATE.search("\n".join(lines))
    assert said("audit", "list", "--subject", "nobody") == ""
    help_text = " ".join(said("audit", "list", "--help").split())
    assert all(kind in help_text for kind in EVENT_TYPES)


def test_every_event_is_shown_with_its_leaf_and_its_fields(look: Place) -> None:
    kinds = set()
    for entry in answer("audit", "list", "--events"):
        kinds.add(entry["type"])
        head = said("audit", "show", entry["id"]).splitlines()
        assert head[0] == f"{entry['type']} {entry['id']}"
        whom = f", for {', '.join(entry['subjects'])}" if entry["subjects"] else ""
        assert re.fullmatch(rf"  \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC{whom}", head[1])
        assert head[2] == f"  leaf {entry['index']}, hash {entry['hash']}"
        value = answer("audit", "show", entry["id"])
        assert value.get("evidence", value) == entry
    assert kinds == {
        "embedder", "policy", "statement.put", "statement.supersede", "statement.retire",
        "retrieval", "proposal.put", "proposal.confirm", "proposal.reject",
    }  # fmt: skip


# Giving out


def test_a_checkpoint_is_printed_written_and_the_same_until_something_is_new(place: Place) -> None:
    value = answer("audit", "checkpoint", "--out", "now.txt", "--key-out", "now.key")
    assert set(value) == {"origin", "size", "note", "key"}
    assert value["size"] == place.leaves
    assert (
        (place.folder / "now.txt").read_text("utf-8") == value["note"] == place.signed.read_text()
    )
    assert (place.folder / "now.key").read_text() == f"{value['key']}\n"
    assert (place.folder / "log.key").read_text() == f"{value['key']}\n"
    assert value["note"].split("\n")[:2] == [value["origin"], str(value["size"])]
    assert said("audit", "checkpoint") == f"{value['note']}\nkey: {value['key']}\n"
    said("add", "I keep bees.")
    assert answer("audit", "checkpoint")["size"] == value["size"] + 1


def test_a_bundle_shows_what_is_asked_for_and_no_words_otherwise(place: Place) -> None:
    printed = said("audit", "bundle", place.evidence, "--since", "kept.txt")
    assert printed == (place.folder / "bundle.json").read_text()
    assert not PRIVATE.search(printed)
    assert "ottoline" not in json.dumps(json.loads(printed)["entries"][0]["disclosed"])
    told = answer("audit", "bundle", place.evidence, "--out", "one.json", "--disclose", "context",
                  "--disclose", "subjects")  # fmt: skip
    assert told == {
        "file": "one.json", "disclosed": 2, "withheld": 15,
        "key": (place.folder / "log.key").read_text().strip(),
    }  # fmt: skip
    shown = json.loads((place.folder / "one.json").read_text())["entries"][0]["disclosed"]
    fields = dict(map(read_field, shown))
    assert fields["subjects"] == ["ottoline"]
    assert NUTS in fields["context"]
    lines = said("audit", "bundle", place.evidence, "--out", "all.json", "--disclose-all")
    assert lines.splitlines() == [
        "all.json: 17 fields shown, 0 withheld",
        f"check it with: holdfast verify all.json --key {told['key']}",
    ]
    for name in ("bundle", "one", "all"):
        assert said("verify", f"{name}.json", "--key", told["key"]).startswith("VERIFIED under ")


def test_every_event_has_a_bundle_that_verifies(place: Place) -> None:
    for event in events():
        out = ("--out", "b.json", "--since", "kept.txt")
        said("audit", "bundle", event, *out, "--disclose-all")
        first, second = said("verify", "b.json", "--key", "log.key", *out[2:]).splitlines()
        assert (
            first
            == f"VERIFIED under {said('audit', 'checkpoint').split()[0]} at {place.leaves} leaves"
        )
        assert re.fullmatch(rf"  leaf \d+: [a-z.]+ {event}, \d+ fields shown, 0 withheld", second)


def test_a_published_log_names_nobody_and_verifies(place: Place) -> None:
    value = answer("audit", "publish", "log")
    assert (value["folder"], value["size"]) == ("log", place.leaves)
    assert said("audit", "publish", "log").splitlines() == [
        f"log: {place.leaves} leaves", f"check it with: holdfast verify log --key {value['key']}",
    ]  # fmt: skip
    for path in (place.folder / "log").rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not PRIVATE.search(content.decode("latin-1"))
        assert b"ottoline" not in content
    checked = said("verify", "log", "--key", "log.key", "--since", "kept.txt")
    assert re.fullmatch(rf"VERIFIED under holdfast/\w+ at {place.leaves} leaves\n", checked)
    (tile,) = (place.folder / "log/tile/entries").rglob("[0-9]*.p/*")
    tile.write_bytes(tile.read_bytes().replace(b'"type":"policy"', b'"type":"poliCy"'))
    failed = said("verify", "log", "--key", "log.key", status=1)
    assert failed == f"FAILED the first {place.leaves} leaves are not those of the checkpoint\n"


def test_the_verifier_is_the_same_on_standard_output_and_in_a_file(
    look: Place, tmp_path: Path
) -> None:
    path = tmp_path / "holdfast_verifier.py"
    assert f"python {path} --help" in said("audit", "verifier", path)
    assert path.read_text("utf-8") == said("audit", "verifier") == said("audit", "verifier", "-")
    compile(path.read_text("utf-8"), "verifier", "exec")


# Checking what was given out


@pytest.mark.parametrize("by", ["text", "file"])
def test_a_bundle_is_verified_and_shows_its_fields(look: Place, by: str) -> None:
    key = (look.folder / "log.key").read_text().strip() if by == "text" else "log.key"
    words = ("verify", "bundle.json", "--key", key, "--since", "kept.txt")
    head, entry, *rest = said(*words).splitlines()
    assert re.fullmatch(rf"VERIFIED under holdfast/\w+ at {look.leaves} leaves", head)
    assert entry == f"  leaf 4: retrieval {look.evidence}, 10 fields shown, 7 withheld"
    assert rest == []
    shown = said(*words, "--show")
    assert f"    injected: {look.nuts}" in shown
    assert re.search(
        rf"^    dense \d+ .* verdict injected statement {look.nuts} version 1$", shown, re.MULTILINE
    )


@pytest.mark.parametrize("what", ["bundle.json", "log"])
def test_a_verified_bundle_or_log_is_told_as_json(place: Place, what: str) -> None:
    said("audit", "publish", "log")
    value = answer("verify", what, "--key", "log.key")
    assert value["verdict"] == "VERIFIED"
    assert value["checkpoint"]["size"] == place.leaves
    if what == "bundle.json":
        assert value["entries"][0]["leaf"]["id"] == place.evidence


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("injected", "degraded", "leaf 4 (EVIDENCE): the fields are not those that were recorded"),
        ("index 4", "index 3", "leaf 3 is not included under the checkpoint's root"),
        ('"type\\":\\"retrieval', '"type\\":\\"check', "leaf 4 is not included under the"),
        ("st_", "st-", "leaf 4 (EVIDENCE): the "),
        ('"disclosed": [', '"disclosed": {}, "was": [', "leaf 4 (EVIDENCE): disclosed is no list"),
        ("holdfast-bundle-1", "holdfast-bundle-9", "this is no bundle of format holdfast-bundle-1"),
        ("{", "", "this is no JSON"),
    ],
)  # fmt: skip
def test_an_altered_bundle_fails_with_the_leaf_and_the_reason(
    place: Place, old: str, new: str, words: str
) -> None:
    text = (place.folder / "bundle.json").read_text()
    assert old in text
    (place.folder / "altered.json").write_text(text.replace(old, new, 1))
    failed = said("verify", "altered.json", "--key", "log.key", status=1)
    assert failed.startswith(f"FAILED {words.replace('EVIDENCE', place.evidence)}")
    assert failed.count("\n") == 1
    value = answer("verify", "altered.json", "--key", "log.key", status=1)
    assert failed == f"{value['verdict']} {value['problem']}\n"


def other_log(tmp_path: Path) -> tuple[Path, Path]:
    """Make a ledger of somebody else; give a checkpoint of it and its key."""
    with pytest.MonkeyPatch.context() as patched:
        (tmp_path / "other").mkdir()
        settle(patched, tmp_path / "other")
        said("query", "Anything", "--subject", "nobody")
        said("audit", "checkpoint", "--out", "kept.txt", "--key-out", "log.key")
    return tmp_path / "other" / "kept.txt", tmp_path / "other" / "log.key"


def test_what_is_held_against_another_key_or_checkpoint_fails(place: Place, tmp_path: Path) -> None:
    kept, key = other_log(tmp_path)
    own = ("verify", "bundle.json", "--key", "log.key")
    assert said("verify", "bundle.json", "--key", key, status=1).startswith(
        "FAILED the checkpoint is not signed by holdfast/"
    )
    assert "is not signed by" in said(*own, "--since", kept, status=1)
    value = (place.folder / "log.key").read_text().strip()
    assert "copy it whole" in said("verify", "bundle.json", "--key", f"{value[:-2]}AA", status=1)
    assert "no Ed25519 key" in said("verify", "bundle.json", "--key", "a+b+", status=1)
    said("audit", "bundle", place.evidence, "--out", "short.json")
    short = said("verify", "short.json", "--key", "log.key", "--since", "kept.txt", status=1)
    assert "have it made with: holdfast audit bundle --since" in short
    assert "is not signed by" in refused("audit", "bundle", place.evidence, "--since", kept)
    assert said("audit", "verify", "--checkpoint", kept, status=1).startswith(
        "FAILED at checkpoint: "
    )


def test_the_file_of_a_key_may_lie_anywhere(place: Place) -> None:
    folder = place.folder / "c++"
    folder.mkdir()
    shutil.copy(place.folder / "log.key", folder)
    assert said("verify", "bundle.json", "--key", folder / "log.key").startswith("VERIFIED ")


def test_a_key_file_that_is_missing_is_bad_use_and_no_verdict(look: Place) -> None:
    assert "nowhere" in refused("verify", "bundle.json", "--key", "nowhere")


def test_the_process_exits_with_what_was_found(place: Place) -> None:
    (place.folder / "broken.json").write_text("{")
    for words, status, told in (
        (["bundle.json", "--key", "log.key"], 0, "VERIFIED under"),
        (["broken.json", "--key", "log.key"], 1, "FAILED this is no JSON"),
        (["bundle.json"], 2, ""),
    ):
        done = subprocess.run([HOLDFAST, "verify", *words], capture_output=True, text=True)
        assert (done.returncode, done.stdout[: len(told)]) == (status, told)
        assert done.stderr.count("\n") == (status == 2)


# Checking the whole ledger


def test_an_untouched_ledger_holds_also_under_a_checkpoint_that_was_kept(look: Place) -> None:
    for words in ([], ["--checkpoint", "kept.txt"]):
        value = answer("audit", "verify", *words)
        assert (value["verdict"], value["ok"], value["problem"]) == ("VERIFIED", True, None)
        assert (value["checked"], value["covered"]) == (look.leaves, look.leaves)
        counts = f"{look.leaves} leaves, {look.leaves} under a checkpoint"
        assert said("audit", "verify", *words) == f"VERIFIED: {counts}, root {value['root']}\n"


TAMPERED: dict[str, tuple[list[str], str, str]] = {
    "a payload is garbled": (
        ["UPDATE payloads SET sealed = zeroblob(99) WHERE position = ?"],
        r"leaf 4 \(EVIDENCE\)", "its payload is not the one that was recorded",
    ),
    "a payload is gone": (
        ["DELETE FROM payloads WHERE position = ?"],
        r"leaf 4 \(EVIDENCE\)", "its payload is missing, and no erasure names it",
    ),
    "a payload is another's": (
        ["UPDATE payloads SET sealed = (SELECT sealed FROM payloads WHERE position = 0) "
         "WHERE position = ?"],
        r"leaf 4 \(EVIDENCE\)", "its payload is not the one that was recorded",
    ),
    "a leaf is edited": (
        ["UPDATE ledger SET leaf = CAST(replace(leaf, '\"v\":1', '\"v\":2') AS BLOB) "
         "WHERE position = ?"],
        "leaf 4", "the leaf is of a later version",
    ),
    "a leaf says another time": (
        ["UPDATE ledger SET leaf = CAST(replace(leaf, '\"time\":1', '\"time\":2') AS BLOB) "
         "WHERE position = ?"],
        r"leaf 4|the leaves before 5", "",
    ),
    "a leaf is gone": (["DELETE FROM ledger WHERE position = ?"], "leaf 4", "it is missing"),
    "the tail is gone": (
        ["DELETE FROM ledger WHERE position > ?", "UPDATE ledgers SET size = ? + 1"],
        "leaf 5|tile 0/0", "",
    ),
    "an event's id is no text": (
        ["UPDATE ledger SET event = X'FF' WHERE position = ?"],
        r"leaf 4 \(EVIDENCE\)", "another id",
    ),
    "a text is no UTF-8": (
        ["UPDATE ledger SET event = CAST(X'FF' AS TEXT) WHERE position = ?"],
        "the database", "is no UTF-8: it was altered",
    ),
    "a data key is of no tenant": (
        ["UPDATE data_keys SET tenant = X'FF'"], "checkpoint", "data key .* was altered",
    ),
    "the number of leaves is no number": (
        ["UPDATE ledgers SET size = X'FF'"], "the ledger", "cannot be read",
    ),
    "a key may do more": (
        ["INSERT INTO api_keys (id, tenant, name, role, hash, created_at) "
         "VALUES ('k', 'local', 'n', 'admin', X'00', 0)"],
        "the access key k", "the ledger knows of no such row",
    ),
    "leaves are exchanged": (
        ["UPDATE ledger SET position = -1 WHERE position = ?",
         "UPDATE ledger SET position = ? WHERE position = ? + 1",
         "UPDATE ledger SET position = ? + 1 WHERE position = -1"],
        r"leaf 4 \(ev_\w+\)", "its payload is not the one that was recorded",
    ),
    "a statement is weaker": (
        ["UPDATE statements SET strength = 'prefer' WHERE id = 'st_NUTS'"],
        "statement st_NUTS version 1", "",
    ),
    "a statement is gone": (
        ["DELETE FROM vectors WHERE 1", "DELETE FROM statements WHERE id = 'st_NUTS'"],
        ".*", "",
    ),
    "a proposal is confirmed": (
        ["UPDATE proposals SET status = 'confirmed' WHERE status = 'rejected'"], "proposal .*", "",
    ),
    "a policy is looser": (
        ["UPDATE policies SET body = replace(body, '400', '401') WHERE kind = 'policy'"], ".*", "",
    ),
    "the stored checkpoints are gone": (
        ["DELETE FROM checkpoints"], "the stored checkpoint of .*", "it is missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", TAMPERED)
def test_a_tampered_database_fails_with_the_place_and_the_reason(place: Place, how: str) -> None:
    statements, where, why = TAMPERED[how]
    place.change(*statements)
    value = answer("audit", "verify", "--checkpoint", "kept.txt", status=1)
    assert (value["verdict"], value["ok"]) == ("FAILED", False)
    where = where.replace("EVIDENCE", place.evidence).replace("st_NUTS", place.nuts)
    assert re.fullmatch(where, value["failed_at"]), value
    assert re.search(why, value["problem"])
    assert not PRIVATE.search(value["problem"])
    failed = said("audit", "verify", "--checkpoint", "kept.txt", status=1)
    assert failed == f"FAILED at {value['failed_at']}: {value['problem']}\n"


def put_back(place: Place, copy: Path, *names: str) -> None:
    for name in names:
        shutil.rmtree(place.folder / name)
        shutil.copytree(copy / name, place.folder / name)


def test_an_older_copy_of_the_database_is_found_and_never_signed(
    place: Place, tmp_path: Path
) -> None:
    shutil.copytree(place.folder, tmp_path / "copy")
    said("add", "I keep bees.")
    newest = place.signed.read_bytes()
    said("audit", "checkpoint", "--out", "newest.txt")
    put_back(place, tmp_path / "copy", "data")
    lost = (
        f"it is missing: {place.leaves + 1} leaves were signed, {place.leaves} are here; put the "
        "newer copy of the data back, or see: holdfast audit checkpoint --start-over REASON"
    )
    assert said("audit", "verify", status=1) == f"FAILED at leaf {place.leaves}: {lost}\n"
    before = place.state()
    for words in (
        ["audit", "checkpoint"],
        ["audit", "bundle", place.evidence],
        ["audit", "publish", "log"],
    ):
        assert "Nothing was signed. Put the newer one back" in refused(*words)
    assert place.state() == before
    assert place.signed.read_bytes() == newest
    value = answer(
        "audit", "checkpoint", "--start-over", "the disk was lost", "--key-out", "new.key"
    )
    assert value["size"] == place.leaves
    assert answer("audit", "list", "--type", "gap")[0]["payload"]["reason"] == "the disk was lost"
    assert said("audit", "verify").startswith("VERIFIED: ")
    assert said("audit", "verify", "--checkpoint", "newest.txt", status=1).startswith("FAILED at ")
    said("audit", "bundle", place.evidence, "--out", "new.json")
    assert said("verify", "new.json", "--key", "new.key").startswith("VERIFIED ")
    assert "not signed by" in said("verify", "new.json", "--key", "log.key", status=1)
    assert said("verify", "bundle.json", "--key", "log.key").startswith("VERIFIED ")


@pytest.mark.parametrize("then", ["nothing", "another ending"])
def test_who_holds_every_key_and_rolls_back_is_found_by_the_checkpoint_kept_outside(
    place: Place, tmp_path: Path, then: str
) -> None:
    shutil.copytree(place.folder, tmp_path / "copy")
    said("add", "I keep bees.")
    said("audit", "checkpoint", "--out", "newest.txt")
    size = place.leaves
    put_back(place, tmp_path / "copy", "data", "config")
    if then == "another ending":
        said("add", "I keep wasps.")
        said("add", "I keep hornets.")
    assert said("audit", "verify").startswith("VERIFIED: "), "nothing inside tells"
    assert said("audit", "verify", "--checkpoint", "kept.txt").startswith("VERIFIED: ")
    value = answer("audit", "verify", "--checkpoint", "newest.txt", status=1)
    if then == "nothing":
        assert value["failed_at"] == f"leaf {size - 1}"
        assert f"it is missing: {size} leaves were signed, {size - 1} are" in value["problem"]
    else:
        assert value["failed_at"] == f"the leaves before {size}"
        assert value["problem"].startswith("they are not those that were signed")
    words = ("audit", "bundle", place.evidence, "--since", "newest.txt", "--out", "b.json")
    assert "holdfast audit " in refused(*words)
    assert not (place.folder / "b.json").exists()


def test_a_signer_whose_file_is_lost_or_altered_says_how_to_go_on(place: Place) -> None:
    note = place.signed.read_bytes()
    path = place.signed
    for wrong in (None, b"garbled", note.replace(b"\n4\n", b"\n5\n").replace(b"=", b"A")):
        path.unlink()
        if wrong is not None:
            path.write_bytes(wrong)
        assert "holdfast audit checkpoint --since FILE" in refused("audit", "checkpoint")
        if wrong is None:
            path.write_bytes(b"")
    path.unlink()
    assert answer("audit", "checkpoint", "--since", "kept.txt")["size"] == place.leaves
    assert path.read_bytes() == note
    assert said("audit", "verify").startswith("VERIFIED: ")


# Replaying


def test_a_replay_that_agrees_says_so_and_writes_nothing(look: Place) -> None:
    same = f"SAME  {look.evidence}: same candidates, scores, verdicts and injected bytes\n"
    assert said("audit", "replay", look.evidence) == same
    value = answer("audit", "replay", look.evidence)
    assert (value["same"], value["differences"], value["embedding_cosine"]) == (True, [], None)
    assert NUTS in value["retrieval"]["context"]
    assert answer("audit", "replay", look.evidence, "--prompt", ASKED)["embedding_cosine"] > 0.999
    assert "its hash is another" in refused(
        "audit", "replay", look.evidence, "--prompt", "baklava?"
    )


ANOTHER_CORPUS = "the statements of subject 1 in force then are not those in the record now"


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE statements SET kind = 'goal' WHERE id = 'st_NUTS'", [ANOTHER_CORPUS]),
        ("UPDATE statements SET strength = 'prefer' WHERE id = 'st_NUTS'", [ANOTHER_CORPUS]),
        (
            "UPDATE statements SET revision_from = 99 WHERE id = 'st_NUTS'",
            [rf"{ANOTHER_CORPUS} \(1 now, 2 then\)"],
        ),
        (
            "UPDATE vectors SET components = zeroblob(412)",
            [ANOTHER_CORPUS, r"dense of 2 candidates, first st_\w+: 0 now, -?\d+ then"],
        ),
    ],
)
def test_a_replay_that_differs_names_what_differs(
    place: Place, statement: str, words: list[str]
) -> None:
    place.change(statement)
    value = answer("audit", "replay", place.evidence, status=1)
    assert value["same"] is False
    for pattern, difference in zip(words, value["differences"], strict=False):
        assert re.match(pattern, difference)
    lines = said("audit", "replay", place.evidence, status=1).splitlines()
    assert lines == [f"DIFFERS  {place.evidence}", *(f"  {each}" for each in value["differences"])]
    assert not PRIVATE.search("\n".join(lines))


def test_what_would_have_been_otherwise_is_told_and_nothing_is_written(look: Place) -> None:
    size = look.leaves
    for how, first in (
        (["--without", look.nuts], "It would have been otherwise"),
        (["--as-of", "2001-01-01"], "It would have been otherwise"),
        (["--without", look.nuts, "--as-of", "2100-01-01"], "It would have been otherwise"),
        (["--as-of", "2100-01-01"], "It would have been otherwise"),  # the maps are retired
    ):
        value = answer("audit", "replay", look.evidence, *how)
        gone = {each["statement"]["id"] for each in value["removed"]}
        assert (look.nuts in gone) == (how != ["--as-of", "2100-01-01"])
        assert said("audit", "replay", look.evidence, *how).splitlines()[0] == first
        assert look.leaves == size
    assert "there is no candidate 'st_none'" in refused(
        "audit", "replay", look.evidence, "--without", "st_none"
    )


# Erasing


@pytest.mark.parametrize("name", ["bo", "Ottoline", "ottoline ", "acme", "yes"])
def test_erase_asks_for_the_name_and_another_erases_nothing(look: Place, name: str) -> None:
    status, out, err = run("erase", stdin=f"{name}\n".encode())
    assert (status, out) == (2, "")
    assert err.startswith("Everything of ottoline will be erased for good. Type the subject's name")
    assert err.endswith("holdfast: that is not the subject's name; nothing was erased\n")


@pytest.mark.parametrize("given", [b"", b"\n", b"\n\n"])
def test_erase_that_is_not_answered_erases_nothing(look: Place, given: bytes) -> None:
    status, out, err = run("erase", stdin=given)
    assert (status, out) == (130, "")
    assert "Traceback" not in err


@pytest.mark.parametrize("way", ["the name", "--yes", "--json"])
def test_erase_leaves_the_proofs_and_nothing_else(place: Place, way: str) -> None:
    words = {"the name": [], "--yes": ["--yes"], "--json": ["--yes", "--json"]}[way]
    status, out, err = run("erase", "--reason", "asked", *words, stdin=b"ottoline\n")
    assert status == 0
    assert ("Type the subject's name" in err) == (way == "the name")
    (erasure,) = events("erasure")
    if way == "--json":
        value = json.loads(out)
        assert value["evidence_id"] == erasure
        assert (value["statements"], value["proposals"], value["left"]) == (5, 2, [])
    else:
        assert re.fullmatch(
            r"erased 5 versions, 2 proposals and the payloads of \d+ events; "
            rf"recorded as {erasure}\n", out,
        )  # fmt: skip
    for path in place.data.rglob("*"):
        left = path.read_bytes() if path.is_file() else b""
        assert not re.search(rb"cashew|railway|marmalade|\bada\b", left), path
    value = answer("audit", "verify", "--checkpoint", "kept.txt")
    assert (value["verdict"], value["ok"]) == ("VERIFIED-ERASED", True)
    assert re.match(r"VERIFIED-ERASED: \d+ leaves, \d+ of them erased", said("audit", "verify"))
    assert said("verify", "bundle.json", "--key", "log.key").startswith("VERIFIED under ")
    told = said("audit", "bundle", place.evidence, "--since", "kept.txt", "--out", "gone.json")
    assert told.startswith("gone.json: 0 fields shown, 0 withheld\n")
    first, gone, by = said(
        "verify", "gone.json", "--key", "log.key", "--since", "kept.txt"
    ).splitlines()
    assert first.startswith("VERIFIED-ERASED under ")
    assert gone == f"  leaf 4: retrieval {place.evidence}, erased"
    assert re.fullmatch(rf"  leaf \d+: erasure {erasure}, 1 fields shown, 2 withheld", by)
    assert answer("list", "--all") == []
    assert len(answer("list", "--subject", "acme")) == 1
    assert "no such subject" in refused("erase", "--yes")
    assert "holdfast audit bundle" in refused("audit", "replay", place.evidence)


def test_an_erasure_that_never_was_is_no_excuse(place: Place) -> None:
    said("erase", "--yes")
    said("audit", "bundle", place.evidence, "--out", "gone.json")
    bundle = json.loads((place.folder / "gone.json").read_text())
    bundle["entries"] = bundle["entries"][:1]
    (place.folder / "gone.json").write_text(json.dumps(bundle))
    assert said("verify", "gone.json", "--key", "log.key", status=1) == (
        f"FAILED leaf 4 ({place.evidence}): its payload is missing, and no erasure in the bundle "
        "names it\n"
    )


def test_erase_is_about_one_subject_that_is_there(look: Place) -> None:
    assert "no such subject here; nothing was erased" in refused(
        "erase", "--yes", "--subject", "bo"
    )
    assert "--subject once" in refused(
        "erase", "--yes", "--subject", "ottoline", "--subject", "acme"
    )
    status, _, err = run("erase", "--subject", "bo", stdin=b"bo\n")
    assert status == 2
    assert err.endswith("there is no such subject here; nothing was erased\n")


# Carrying a subject elsewhere


def test_what_is_exported_comes_back_the_same_from_another_directory(
    place: Place, tmp_path: Path
) -> None:
    printed = said("export")
    told = answer("export", "--out", "ottoline.json")
    assert told == {"file": "ottoline.json", "versions": 5}
    assert said("export", "--out", "ottoline.json") == "ottoline.json: 5 versions\n"
    assert (place.folder / "ottoline.json").read_text("utf-8") == printed
    assert len(events("export")) == 3
    there = ("--data", tmp_path / "there")
    assert (
        said("import", "ottoline.json", *there) == "ottoline: loaded 5 versions and 2 proposals\n"
    )
    assert said("export", *there) == printed
    for words in (
        ["list", "--all"],
        ["history", place.nuts],
        ["history", json.loads(printed)["statements"][1]["id"]],
    ):
        assert answer(*words, *there) == answer(*words)
    recorded = answer("audit", "list", "--events", "--type", "import", *there)
    assert [each["subjects"] for each in recorded] == [["ottoline"]]
    assert recorded[0]["payload"]["versions"] == 5
    assert "carried in" in said("audit", "list", "--events", *there)
    assert said("audit", "verify", *there).startswith("VERIFIED: ")
    size = answer("audit", "verify", *there)["checked"]
    again = answer("import", "ottoline.json", *there)
    assert again == {"subject": "ottoline", "versions": 0, "proposals": 0, "existing": 7}
    assert answer("audit", "verify", *there)["checked"] == size
    found = answer("query", ASKED, "--threshold", "0", *there)
    assert place.nuts in {each["statement"]["id"] for each in found["injected"]}


def test_a_document_may_come_from_standard_input_and_be_anothers_here(
    place: Place, tmp_path: Path
) -> None:
    document = said("export").encode()
    there = ("--data", tmp_path / "there")
    status, out, _ = run("import", "-", "--subject", "eve", *there, stdin=document)
    assert (status, out) == (0, "eve: loaded 5 versions and 2 proposals\n")
    assert answer("list", *there) == []
    theirs = json.loads(said("export", "--subject", "eve", *there))
    assert theirs == json.loads(document) | {"subject": "eve"}


def cut(text: str) -> list[str]:
    """Cut a document off at some places."""
    return [text[:at] for at in random.Random(7).sample(range(len(text) - 2), 6)]


def changed(whole: str, **said: Any) -> str:
    return json.dumps(json.loads(whole) | said)


def with_first(whole: str, **said: Any) -> str:
    document = json.loads(whole)
    document["statements"][0] |= said
    return json.dumps(document)


BAD_DOCUMENTS: dict[str, Any] = {
    "nothing": lambda _: [""],
    "cut off": cut,
    "no JSON": lambda _: ["[" * 100_000, "cashew", "\ufeff", "NaN", "[]", '"cashew"', "5", "null"],
    "of another kind": lambda text: [changed(text, format="cashew"), "{}", '{"subject": "bo"}'],
    "whose it is is no name": lambda text: [
        changed(text, subject=each) for each in (5, None, [], {}, "", " ", "a\nb", "a" * 300)
    ],
    "a part is missing": lambda text: [
        json.dumps({n: v for n, v in json.loads(text).items() if n != name})
        for name in json.loads(text)
        if name != "subject"
    ],
    "a part is no list": lambda text: [
        changed(text, **{name: "cashew"}) for name in ("statements", "decisions", "proposals")
    ],
    "a value is another": lambda text: [
        with_first(text, **each)
        for each in (
            {"text": 5}, {"text": ""}, {"text": "cashew\x00"}, {"kind": "cashew"}, {"version": 2},
            {"id": "cashew"}, {"recorded_at": "cashew"}, {"strength": None}, {"cashew": 1},
            {"contexts": "cashew"}, {"valid_from": 0}, {"place": -1},
        )
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def document(made: Place) -> str:
    """What export gives; a copy of the place is left as it is."""
    with pytest.MonkeyPatch.context() as patched:
        copy = made.folder.with_name("exported")
        shutil.copytree(made.folder, copy)
        settle(patched, copy)
        return said("export")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory in which nothing is on record."""
    folder = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patched:
        settle(patched, folder)
        said("doctor")
    return folder


@pytest.mark.parametrize("what", BAD_DOCUMENTS)
def test_a_bad_document_leaves_nothing_behind(
    what: str, document: str, empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch, empty)
    before = tampering.dump(empty / "data")
    path = tmp_path / "document.json"
    for text in BAD_DOCUMENTS[what](document):
        path.write_text(text, "utf-8")
        refused("import", path)
    assert tampering.dump(empty / "data") == before
    assert answer("audit", "list", "--events") == []
    assert answer("audit", "verify")["checked"] == 0


def test_a_document_that_differs_from_what_is_here_is_refused_whole(
    look: Place, document: str, tmp_path: Path
) -> None:
    path = tmp_path / "document.json"
    path.write_text(with_first(document, strength="prefer"), "utf-8")
    assert "it is another's or differs; nothing was stored" in refused("import", path)
    path.write_text(document, "utf-8")
    assert re.search(r"\w+ is here already", refused("import", path, "--subject", "acme"))


class Page(io.TextIOWrapper):
    """Standard output in an encoding of its own."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)

    def written(self) -> bytes:
        self.flush()
        return self.buffer.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "encoding",
    [
        "utf-8",
        *(pytest.param(each) for each in ("ascii", "latin-1")),
    ],
)
def test_an_export_reads_back_whatever_signs_standard_output_has(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    page = Page(encoding)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", page)
        assert cli.run(["export"]) == 0
    (tmp_path / "ottoline.json").write_bytes(page.written())
    assert "Réunion" in json.dumps(json.loads(page.written()), ensure_ascii=False)
    said("import", tmp_path / "ottoline.json", "--data", tmp_path / "there")


# The installation's key

COPY = "restore it from a copy"
KEY_FILES = [
    pytest.param("lost", f"is missing.*{COPY}.*HOLDFAST_KEY_FILE.*Nothing was changed", id="lost"),
    pytest.param("wrong", "put the right key back. Nothing was changed", id="wrong"),
    pytest.param("one sign", "put the right key back. Nothing was changed", id="one sign"),
    pytest.param("empty", COPY, id="empty"),
    pytest.param("0644", "chmod 600", id="0644"),
    pytest.param("0640", "chmod 600", id="0640"),
    pytest.param("cut off", "copy", id="cut off"),
    pytest.param("garbled", "copy", id="garbled"),
    pytest.param("no text", "copy", id="no text"),
    pytest.param("a folder", "copy", id="a folder"),
]
NEED_THE_KEY = [
    ["list"], ["add", "I keep bees."], ["query", "baklava?"], ["export"], ["erase", "--yes"],
    ["audit", "verify"], ["audit", "checkpoint"], ["audit", "rotate-key"], ["doctor"],
]  # fmt: skip


def spoil(path: Path, how: str) -> None:
    """Do something to a key file."""
    right = path.read_bytes()
    if how.isdigit():
        path.chmod(int(how, 8))
        return
    path.unlink()
    if how == "lost":
        return
    if how == "a folder":
        path.mkdir()
        return
    sign = b"A" if right[-10:-9] != b"A" else b"B"
    path.write_bytes({
        "wrong": b"00" * 32, "one sign": right[:-10] + sign + right[-9:], "empty": b"",
        "cut off": right[:-9], "garbled": b"# key\n" + b"?" * 44, "no text": b"\xff\xfe\x00\x01",
    }[how])  # fmt: skip
    path.chmod(0o600)


@pytest.mark.parametrize(("how", "words"), KEY_FILES)
def test_without_the_right_key_a_line_names_the_fix_and_nothing_is_destroyed(
    place: Place, tmp_path: Path, how: str, words: str
) -> None:
    path = place.key_file
    shutil.copy2(path, tmp_path / "right.key")
    spoil(path, how)
    before, is_there = place.state(), path.exists()
    complaints = {refused("audit", "bundle", place.evidence, "--out", "b.json")}
    for command in NEED_THE_KEY:
        status, out, err = run(*command)
        assert (status, out) == (2, ""), command
        complaints.add(err)
    assert place.state() == before
    assert path.exists() == is_there
    assert said("verify", "bundle.json", "--key", "log.key").startswith("VERIFIED "), "needs none"
    if path.is_dir():
        path.rmdir()
    shutil.copy2(tmp_path / "right.key", path)
    assert answer("list")[0]["text"] == NUTS
    assert said("audit", "verify", "--checkpoint", "kept.txt").startswith("VERIFIED: ")
    assert answer("audit", "replay", place.evidence)["same"] is True
    said("add", "I keep bees.")
    assert len(complaints) == 1
    assert str(path) in complaints.copy().pop()
    assert re.search(words, complaints.pop())


def test_a_key_in_the_environment_goes_before_the_file_and_must_be_the_right_one(
    look: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = look.key_file.read_text().split("\n")[1]
    monkeypatch.setenv("HOLDFAST_MASTER_KEY", text)
    assert answer("list")[0]["text"] == NUTS
    monkeypatch.setenv("HOLDFAST_MASTER_KEY", "00" * 32)
    assert "HOLDFAST_MASTER_KEY holds" in refused("list")
    monkeypatch.setenv("HOLDFAST_MASTER_KEY", "my secret")
    complaint = refused("list")
    assert "HOLDFAST_MASTER_KEY" in complaint
    assert "secret" not in complaint


@pytest.mark.parametrize("drop", [[], ["--drop-old"]])
def test_a_new_key_wraps_all_and_what_was_given_out_still_verifies(
    place: Place, tmp_path: Path, drop: list[str]
) -> None:
    shutil.copytree(place.data, tmp_path / "backup")
    shutil.copy2(place.key_file, tmp_path / "old.key")
    old = from_file(place.key_file).names
    told = said("audit", "rotate-key", *drop)
    (event,) = events("key.rotate")
    assert told == f"done; recorded as {event}\n"
    names = from_file(place.key_file).names
    assert names[1:] == ([] if drop else old)
    assert names[0] not in old
    assert {row[0] for row in place.rows("SELECT wrapped_by FROM data_keys")} == {names[0]}
    assert place.key_file.stat().st_mode & 0o777 == 0o600
    assert answer("list")[0]["text"] == NUTS
    assert said("verify", "bundle.json", "--key", "log.key", "--since", "kept.txt").startswith(
        "VERIFIED "
    )
    assert answer("audit", "verify", "--checkpoint", "kept.txt")["covered"] == place.leaves
    said("audit", "bundle", place.evidence, "--since", "kept.txt", "--out", "new.json")
    assert said("verify", "new.json", "--key", "log.key", "--since", "kept.txt").startswith(
        "VERIFIED "
    )
    assert answer("audit", "replay", place.evidence)["same"] is True
    if drop:
        assert "put the right key back" in refused("list", "--data", tmp_path / "backup")
    else:
        assert answer("list", "--data", tmp_path / "backup")[0]["text"] == NUTS
    new = place.key_file.read_bytes()
    shutil.copy2(tmp_path / "old.key", place.key_file)
    assert f"sealed with the key {names[0]}" in refused("list")
    place.key_file.write_bytes(new)
    again = answer("audit", "rotate-key", *drop)
    assert events("key.rotate") == [event, again["evidence_id"]]
    assert answer("audit", "show", event)["payload"]["after"] == names[0]


# What is not there, and where nothing can be written


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["audit", "show", "ev_none"], "evidence 'ev_none'; list it with: holdfast audit list"),
        (["audit", "replay", "ev_none"], "there is no evidence 'ev_none'"),
        (["audit", "replay", "ev_none", "--without", "st_none"], "there is no evidence 'ev_none'"),
        (["audit", "bundle", "ev_none"], "there is no evidence 'ev_none'"),
        (["audit", "bundle", "ev_none", "--disclose-all", "--out", "none.json"], "no evidence 'ev"),
        (["audit", "show", "I ate a cashew"], "no evidence with such an id"),
        (["audit", "replay", "STATEMENT.PUT"], "is evidence of statement.put, not of a retrieval"),
        (["audit", "bundle", "EVIDENCE", "--disclose", "text"], "names fields of: as_of"),
        (["audit", "bundle", "EVIDENCE", "--disclose", "cashew"], "names fields of: as_of"),
        (["audit", "bundle", "EVIDENCE", "--since", "bundle.json"], "this is no signed note"),
        (["audit", "bundle", "EVIDENCE", "--since", "nowhere"], "nowhere cannot be read: No such"),
        (["audit", "replay", "EVIDENCE", "--as-of", "soon"], "no ISO 8601 time; write it like"),
        (["audit", "verify", "--checkpoint", "nowhere"], "nowhere cannot be read: No such file"),
        (["audit", "verify", "--checkpoint", "data"], "'data' is a directory"),
        (["audit", "verify", "--data", "nowhere"], "add a statement first"),
        (["audit", "list", "--data", "nowhere"], "add a statement first"),
        (["audit", "list", "--limit", "0"], "limit"),
        (["audit", "list", "--type", "nonsense"], "is not one of 'statement.put', 'statement.s"),
        (["audit", "list", "--type", "gap", "--type", "*"], "'key.revoke', 'gap'. Try: holdfast"),
        (["audit", "checkpoint", "--timestamp", "https://authority.example"], "needs --out FILE"),
        (["audit", "checkpoint", "--since", "bundle.json"], "this is no signed note"),
        (["audit", "checkpoint", "--start-over", " "], "reason is empty"),
        (["verify", "nowhere", "--key", "log.key"], "'nowhere' does not exist"),
        (["verify", "bundle.json"], "Missing option '--key'"),
        (["verify", "bundle.json", "--key", "log.key", "--since", "nowhere"], "cannot be read"),
        (["export", "--subject", "nobody"], "there is no such subject here"),
        (["import", "nowhere"], "nowhere cannot be read: No such file"),
        (["import", "data"], "data cannot be read: Is a directory"),
        (["import", "kept.txt"], "this is no JSON document; give the file that export wrote"),
        (["import", "bundle.json"], "this is no document of a subject"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_one_line_and_nothing_is_written(
    look: Place, words: list[str], told: str
) -> None:
    known = {"EVIDENCE": look.evidence, "STATEMENT.PUT": events("statement.put")[0]}
    assert told in refused(*(known.get(word, word) for word in words))


WRITERS = {
    "checkpoint": ["audit", "checkpoint", "--out", "FILE"],
    "key": ["audit", "checkpoint", "--key-out", "FILE"],
    "bundle": ["audit", "bundle", "EVIDENCE", "--out", "FILE"],
    "verifier": ["audit", "verifier", "FILE"],
    "export": ["export", "--out", "FILE"],
}


@pytest.mark.parametrize("what", WRITERS)
@pytest.mark.parametrize("path", ["nowhere/file", "kept.txt/file", "data", "x" * 300])
def test_a_file_that_cannot_be_written_is_named(place: Place, what: str, path: str) -> None:
    known = {"EVIDENCE": place.evidence, "FILE": path}
    complaint = refused(*(known.get(word, word) for word in WRITERS[what]))
    assert path in complaint
    assert re.search("cannot be written: |is a directory", complaint)
    assert said("audit", "verify").startswith("VERIFIED: ")
    assert (place.folder / "kept.txt").is_file()


@pytest.mark.parametrize("what", WRITERS)
def test_a_file_that_is_there_is_written_over_whole(place: Place, what: str) -> None:
    for name in ("new", "old"):
        if name == "old":
            (place.folder / "old").write_bytes(b"older, and longer\n" * 9999)
        known = {"EVIDENCE": place.evidence, "FILE": name}
        said(*(known.get(word, word) for word in WRITERS[what]))
    new, old = ((place.folder / name).read_text("utf-8") for name in ("new", "old"))
    assert old == new.replace("verifier.py new", "verifier.py old").replace(
        "python new", "python old"
    )


def test_a_folder_that_cannot_be_written_to_is_named_and_a_log_is_published_again(
    place: Place,
) -> None:
    assert "'kept.txt' is a file" in refused("audit", "publish", "kept.txt")
    assert "kept.txt/log" in refused("audit", "publish", "kept.txt/log")
    (place.folder / "log").mkdir()
    (place.folder / "log" / "mine.txt").write_text("mine")
    for text in ("I keep bees.", "I keep wasps."):
        said("add", text)
        said("audit", "publish", "log")
        assert said("verify", "log", "--key", "log.key").startswith("VERIFIED ")
    assert (place.folder / "log" / "mine.txt").read_text() == "mine"


def test_an_empty_ledger_has_nothing_to_sign_or_to_give_out(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch, empty)
    for words in (["audit", "checkpoint"], ["audit", "publish", "log"]):
        assert "the ledger is empty; there is nothing to sign yet" in refused(*words)
    assert "no evidence" in refused("audit", "bundle", "ev_none")
    assert said("audit", "list") == ""
    assert said("audit", "verify").startswith("VERIFIED: 0 leaves")


def test_it_is_said_when_what_was_signed_is_kept_nowhere_outside(place: Place) -> None:
    said("audit", "checkpoint", "--out", "newest.txt")
    assert "only in the database" not in said("audit", "verify")
    (place.key_file.parent.parent / "checkpoints").rename(place.folder / "moved")
    assert "only in the database" in said("audit", "verify")
    assert "only in the database" not in said("audit", "verify", "--checkpoint", "newest.txt")
