"""The command line, on the real engine in a directory of its own."""

import dataclasses
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast import Candidate, Evidence, Statement
from holdfast.retrieval.engine import Holdfast
from holdfast.server.cli import cli
from holdfast.server.render import Page, percent, shown, to_json

HOLDFAST = Path(sys.executable).with_name("holdfast")
NUTS = "I never eat nuts: one crumb of cashew and I'm in hospital."
FIELDS = {
    kind: {field.name for field in dataclasses.fields(kind)}
    for kind in (Statement, Candidate, Evidence)
}


class Standard(io.TextIOWrapper):
    """Standard input that holds given bytes."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8")


class Terminal(io.StringIO):
    """A stream at which a person sits."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("HOLDFAST_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOLDFAST_SUBJECT", "ada")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("HOLDFAST_DEBUG", raising=False)
    return tmp_path / "data"


@pytest.fixture
def run(capsys):
    """Run one command line; give status, standard output and standard error."""

    def command(*words: object) -> tuple[int, str, str]:
        status = cli.run([str(word) for word in words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return command


@pytest.fixture
def answer(run):
    """Run one command line with --json; give what it says, as values."""

    def command(*words: object, status: int = 0):
        done, out, err = run(*words, "--json")
        assert (done, err) == (status, "")
        return json.loads(out)

    return command


@pytest.fixture
def nuts(answer) -> str:
    """The id of a statement on record."""
    return answer("add", NUTS, "--no-split")["statements"][0]["id"]


@pytest.fixture
def evidence(answer, nuts) -> str:
    """The id of the evidence of a retrieval."""
    return answer("query", "May I eat cashew nuts?", "--threshold", "0")["evidence_id"]


def test_add_stores_single_statements_and_says_how_it_read_them(run):
    status, out, err = run("add", f"Be blunt with me. {NUTS}")
    assert (status, err) == (0, "")
    assert "Be blunt with me." in out
    assert NUTS in out
    assert re.search(r"must · boundary · st_\w+", out)


def test_add_takes_every_trait_as_an_option(answer):
    (statement,) = answer(
        "add", "No meetings on Fridays. Really.", "--no-split", "--kind", "commitment",
        "--strength", "prefer", "--scope", "topical", "--context", "work", "--context", "club",
        "--valid-from", "2026-01-01", "--valid-to", "2027-01-01", "--source", "form",
    )["statements"]  # fmt: skip
    assert set(statement) == FIELDS[Statement]
    assert (statement["kind"], statement["strength"]) == ("commitment", "prefer")
    assert sorted(statement["contexts"]) == ["club", "work"]
    assert statement["valid_from"] == "2026-01-01T00:00:00+00:00"
    assert statement["valid_to"] == "2027-01-01T00:00:00+00:00"
    assert statement["source"] == "form"


def test_add_reports_what_is_already_there_and_what_lies_close(run, answer, nuts):
    again = answer("add", NUTS, "--no-split")
    assert [s["id"] for s in again["existing"]] == [nuts]
    assert "already there" in run("add", NUTS, "--no-split")[1]
    close = answer(
        "add", "I never eat nuts: one crumb of almond and I'm in hospital.", "--no-split"
    )
    reported = [pair["other"]["id"] for pair in (*close["similar"], *close["possible_revisions"])]
    assert nuts in reported
    _, out, _ = run("add", "I never eat nuts: one crumb of peanut and I'm in hospital.")
    assert "nothing was" in out


def test_a_dash_reads_standard_input(answer, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Standard(b"\xef\xbb\xbf" + NUTS.encode()))
    assert [s["text"] for s in answer("add", "-", "--no-split")["statements"]] == [NUTS]
    monkeypatch.setattr(sys, "stdin", Standard(b"May I eat nuts?"))
    assert len(answer("query", "-")["candidates"]) == 1


def test_a_text_may_begin_with_a_dash(answer, run):
    assert answer("add", "- I keep bees.\n- I keep my word.")["statements"][1]
    assert answer("query", "-- bees? --")["candidates"]
    assert run("add", "x", "--kin d")[0] == 2
    assert run("add", "x", "--strenght=must")[0] == 2


def test_lines_are_texts_of_their_own(answer, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Standard(b"I keep bees.\n\nI keep my word.\n"))
    added = answer("add", "--lines", "-")["statements"]
    assert [s["text"] for s in added] == ["I keep bees.", "I keep my word."]


def test_decide_keeps_situation_choice_reason_and_what_was_weighed(run, answer, nuts):
    words = ("decide", "--situation", "Dinner at the fair", "--choice", "I ate at home",
             "--reason", "nobody knew what was in it", "--weighed", nuts)  # fmt: skip
    decision = answer(*words)
    assert decision["choice"] == "I ate at home"
    assert [w["statement_id"] for w in decision["weighed"]] == [nuts]
    _, out, _ = run(*words)
    assert "because nobody knew what was in it" in out


def test_query_shows_what_is_injected_the_near_misses_and_the_evidence(run, nuts):
    run("add", "I collect maps of railways.", "--no-split")
    status, out, err = run("query", "Do these cookies contain cashew nuts?", "--limit", "1",
                           "--threshold", "0")  # fmt: skip
    assert (status, err) == (0, "")
    injected, missed = out.split("Near misses")
    assert NUTS in injected
    assert nuts in injected
    assert "no room left" in missed
    assert "I collect maps of railways." in missed
    assert re.search(r"status injected · evidence ev_\w+", out)


def test_query_as_json_is_the_retrieval(answer, evidence):
    found = answer("query", "May I eat cashew nuts?", "--threshold", "0")
    assert set(found) == {
        "context", "status", "evidence_id", "injected", "candidates", "repaired",
    }  # fmt: skip
    assert set(found["candidates"][0]) == FIELDS[Candidate]
    assert set(found["candidates"][0]["statement"]) == FIELDS[Statement]
    assert NUTS in found["context"]


def test_query_without_record_leaves_no_evidence(answer, nuts):
    assert answer("query", "nuts", "--no-record")["evidence_id"] is None
    assert answer("audit", "list") == []


def test_query_where_nothing_bears_on_the_prompt_says_so(run, nuts):
    _, out, _ = run("query", "Prove that there are infinitely many primes", "--threshold", "1")
    assert out.startswith("Nothing of 1 statements bears on this")
    _, out, _ = run("query", "anything", "--subject", "nobody")
    assert "holdfast add" in out


def test_query_for_several_subjects_keeps_their_order(answer, nuts):
    answer("add", "We serve no nuts to anyone.", "--no-split", "--subject", "acme")
    found = answer("query", "nuts?", "--subject", "acme", "--subject", "ada", "--threshold", "0")
    assert {c["statement"]["subject"] for c in found["candidates"]} == {"acme", "ada"}
    assert found["context"].index("We serve no nuts") < found["context"].index("I never eat nuts")


def test_query_all_shows_every_candidate(run, answer):
    for number in range(6):
        answer("add", f"My lucky number is {number}.", "--no-split", "--scope", "topical")
    assert run("query", "primes", "--threshold", "1")[1].count("lucky") == 3
    assert run("query", "primes", "--threshold", "1", "--all")[1].count("lucky") == 6


def test_revise_retire_and_history_tell_the_whole_story(run, answer, nuts):
    revised = answer("revise", nuts, "I never eat nuts, nor sesame.", "--reason", "new test")
    assert (revised["version"], revised["reason"]) == (2, "new test")
    assert answer("revise", nuts, "--strength", "should")["strength"] == "should"
    assert answer("retire", nuts, "--reason", "grown out of it")["retired_at"]
    versions = answer("history", nuts)
    assert [v["version"] for v in versions] == sorted(v["version"] for v in versions)
    assert versions[0]["text"] == NUTS
    _, out, _ = run("history", nuts)
    assert "reason: new test" in out
    assert "reason it was retired: grown out of it" in out
    assert answer("list") == []
    assert [s["id"] for s in answer("list", "--all")] == [nuts]
    assert "retired" in run("list", "--all")[1]


def test_the_list_of_an_earlier_time_is_still_to_be_had(answer, nuts):
    recorded = answer("list")[0]["recorded_at"]
    answer("revise", nuts, "I eat everything now.")
    (then,) = answer("list", "--as-of", recorded, "--known-at", recorded)
    assert then["text"] == NUTS


def test_an_empty_list_is_said_on_standard_error_only(run, nuts):
    status, out, err = run("list", "--subject", "nobody")
    assert (status, out) == (0, "")
    assert "holdfast add" in err
    assert json.loads(run("list", "--subject", "nobody", "--json")[1]) == []


def test_audit_list_is_newest_first_and_by_subject(run, answer, evidence):
    newer = answer("query", "nuts")["evidence_id"]
    entries = answer("audit", "list")
    assert [e["id"] for e in entries] == [newer, evidence]
    assert set(entries[0]) == FIELDS[Evidence]
    assert len(answer("audit", "list", "--limit", "1")) == 1
    assert answer("audit", "list", "--subject", "nobody") == []
    assert newer in run("audit", "list")[1]


def test_audit_show_gives_every_candidate_with_its_score_parts(run, answer, evidence):
    shown_value = answer("audit", "show", evidence)
    assert shown_value["evidence"]["id"] == evidence
    assert set(shown_value["retrieval"]["candidates"][0]) == FIELDS[Candidate]
    status, out, _ = run("audit", "show", evidence)
    assert status == 0
    assert re.search(r"injected · dense \d\.\d+ \+ lexical \d\.\d+", out)
    assert "What the model was given" in out
    assert "vectors" not in out
    assert "dense:" not in out


def test_replay_and_verify_hold_on_an_untouched_record(run, answer, evidence):
    assert answer("audit", "replay", evidence)["same"] is True
    assert answer("audit", "verify")["ok"] is True
    assert run("audit", "verify")[1].startswith("VERIFIED")
    assert run("audit", "replay", evidence)[1].startswith("SAME")


def change(data: Path, statement: str, *values: object) -> None:
    """Change rows past Holdfast."""
    with sqlite3.connect(data / "holdfast.db") as database:
        assert database.execute(statement, values).rowcount == 1
    database.close()


def test_a_changed_ledger_fails_with_status_1(run, answer, evidence, data):
    index = answer("audit", "show", evidence)["evidence"]["index"]
    change(data, "UPDATE payloads SET sealed = zeroblob(99) WHERE position = ?", index)
    verified = answer("audit", "verify", status=1)
    assert (verified["verdict"], verified["ok"]) == ("FAILED", False)
    assert verified["failed_at"] == f"leaf {index} ({evidence})"
    status, out, _ = run("audit", "verify")
    assert (status, out) == (1, f"FAILED at leaf {index} ({evidence}): {verified['problem']}\n")


def test_a_changed_leaf_fails_with_status_1_once_it_was_signed(run, answer, evidence, data):
    leaf = answer("audit", "show", evidence)["evidence"]["leaf"]
    size = answer("audit", "checkpoint")["size"]
    later = re.sub(r'"time":(\d+)', lambda found: f'"time":{int(found[1]) + 1}', leaf)
    change(data, "UPDATE ledger SET leaf = ? WHERE event = ?", later.encode(), evidence)
    assert answer("audit", "verify", status=1)["failed_at"] == f"the leaves before {size}"
    status, out, _ = run("audit", "verify")
    assert (status, out[:6]) == (1, "FAILED")


def test_a_changed_record_fails_with_status_1(run, answer, nuts, evidence, data):
    change(data, "UPDATE statements SET kind = 'goal' WHERE id = ?", nuts)
    assert answer("audit", "verify", status=1)["failed_at"] == f"statement {nuts} version 1"
    assert answer("audit", "replay", evidence, status=1)["same"] is False
    status, out, _ = run("audit", "replay", evidence)
    assert (status, out.splitlines()[0]) == (1, f"DIFFERS  {evidence}")
    assert "the statements of subject 1 in force then are not those" in out


def test_replay_tells_what_would_have_been_otherwise_and_writes_nothing(
    run, answer, nuts, evidence
):
    before = answer("audit", "list", "--events")
    otherwise = answer("audit", "replay", evidence, "--without", nuts)
    assert (otherwise["same"], otherwise["added"]) == (False, [])
    assert [c["statement"]["id"] for c in otherwise["removed"]] == [nuts]
    assert set(otherwise["removed"][0]) == FIELDS[Candidate]
    status, out, _ = run("audit", "replay", evidence, "--without", nuts)
    assert status == 0
    assert out.startswith("It would have been otherwise\n")
    assert re.search(rf"^ *-  {re.escape(NUTS)}$", out, re.MULTILINE)
    assert out.endswith("The model would have been given nothing.\n")
    status, out, _ = run("audit", "replay", evidence, "--as-of", "2100-01-01")
    assert (status, out.splitlines()[0]) == (0, "Nothing would have been otherwise")
    assert NUTS in out
    assert run("audit", "replay", evidence, "--as-of", "2001-01-01")[1].startswith("It would")
    assert answer("audit", "list", "--events") == before


def test_replay_embeds_the_prompt_anew_where_it_is_given(run, answer, evidence, monkeypatch):
    prompt = "May I eat cashew nuts?"
    again = answer("audit", "replay", evidence, "--prompt", prompt)
    assert again["same"] is True
    assert again["embedding_cosine"] > 0.999
    monkeypatch.setattr(sys, "stdin", Standard(prompt.encode()))
    status, out, _ = run("audit", "replay", evidence, "--prompt", "-")
    assert status == 0
    assert re.search(r"^the request embeds with cosine (0\.999|1\.000)\d+ to", out, re.MULTILINE)
    status, out, err = run("audit", "replay", evidence, "--prompt", "May I eat almonds?")
    assert (status, out) == (2, "")
    assert "almonds" not in err
    assert answer("audit", "replay", evidence)["embedding_cosine"] is None


def test_erased_evidence_is_shown_as_that_and_cannot_be_replayed(run, answer, evidence):
    assert run("erase", "--yes")[0] == 0
    entry = answer("audit", "show", evidence)
    assert set(entry) == FIELDS[Evidence]
    assert (entry["erased"], entry["payload"], entry["subjects"]) == (True, {}, [])
    assert "erased" in run("audit", "list")[1]
    assert "its leaf is still proved" in run("audit", "show", evidence)[1]
    for words in (["audit", "replay", evidence], ["audit", "replay", evidence, "--without", "x"]):
        status, out, err = run(*words)
        assert (status, out) == (2, "")
        assert f"holdfast audit bundle {evidence}" in err
    assert answer("audit", "verify")["verdict"] == "VERIFIED-ERASED"
    assert run("audit", "verify")[1].startswith("VERIFIED-ERASED: ")


def test_doctor_reports_with_check_and_mends_without(run, answer, nuts, data):
    assert answer("doctor", "--check")["ok"] is True
    shutil.rmtree(data / "chroma")
    checked = answer("doctor", "--check", status=1)
    assert sum(checked["findings"].values()) > 0
    assert run("doctor", "--check")[1].endswith("not clean\n")
    status, out, _ = run("doctor")
    assert (status, out.splitlines()[-1]) == (0, "clean")
    assert answer("doctor", "--check")["ok"] is True


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["add"],
        ["add", ""],
        ["add", "a\x00b"],
        ["add", "x", "--kind", "whim"],
        ["add", "x", "--valid-from", "soon"],
        ["add", "x", "--valid-from", "2027-01-01", "--valid-to", "2026-01-01"],
        ["add", "x", "--subject", "a", "--subject", "b"],
        ["add", "--lines", " \n "],
        ["decide", "--situation", "x", "--choice", "y"],
        ["query", "x", "--threshold", "7"],
        ["query", ""],
        ["revise", "st_none", "x"],
        ["revise", "st_none"],
        ["retire", "st_none"],
        ["history", "st_none"],
        ["audit", "show", "ev_none"],
        ["audit", "replay", "ev_none"],
        ["audit", "nonsense"],
    ],
    ids=" ".join,
)
def test_bad_use_is_one_clear_line_and_status_2(run, nuts, words):
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert err.startswith("holdfast: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_input_that_is_not_text_is_refused(run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Standard(b"\xff\xfe\x00\x01"))
    status, _, err = run("add", "-")
    assert status == 2
    assert "UTF-8" in err


def test_without_data_reading_says_what_to_do(run, tmp_path):
    status, _, err = run("list", "--data", tmp_path / "elsewhere")
    assert status == 2
    assert "add a statement first" in err


def test_a_data_directory_in_use_is_named_with_its_owner(run, data, monkeypatch):
    monkeypatch.setenv("HOLDFAST_LOCK_TIMEOUT", "0.05")
    with Holdfast.open(data):
        status, _, err = run("add", "I keep bees.")
    assert status == 2
    assert "pid" in err


def test_options_may_stand_before_the_command_too(answer, run, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    status, out, _ = run("--data", elsewhere, "--subject", "bo", "--json", "add", "I keep bees.")
    assert status == 0
    assert json.loads(out)["statements"][0]["subject"] == "bo"
    assert len(answer("list", "--data", elsewhere, "--subject", "bo")) == 1


def test_the_subject_is_the_login_name_where_nothing_else_is_said(answer, monkeypatch):
    monkeypatch.delenv("HOLDFAST_SUBJECT")
    monkeypatch.setenv("LOGNAME", "grace")
    assert answer("add", "I keep bees.")["statements"][0]["subject"] == "grace"


def test_an_interrupted_command_ends_with_130(run, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Holdfast, "open", interrupted)
    assert run("add", "x")[0] == 130


def test_an_error_that_nobody_foresaw_is_one_line_unless_asked_for(run, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret words")

    monkeypatch.setattr(Holdfast, "open", broken)
    status, _, err = run("add", "x")
    assert status == 2
    assert "ZeroDivisionError" in err
    assert "secret words" not in err
    monkeypatch.setenv("HOLDFAST_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run("add", "x")


def test_a_terminal_shows_a_subjects_words_as_text(run, monkeypatch):
    run("add", "My [bold]motto[/bold] is [link=x]:smile: \u202eevil", "--no-split")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert cli.run(["list"]) == 0
    assert cli.run(["query", "motto", "--threshold", "0"]) == 0
    seen = terminal.getvalue()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", seen)
    assert plain.count("[bold]motto[/bold]") == 2
    assert ":smile:" in plain
    assert "\u202e" not in seen
    assert set(re.findall(r"\x1b.", seen)) <= {"\x1b["}
    assert max(map(len, plain.splitlines())) <= 80


def test_every_page_fits_a_terminal_of_80_columns(run, monkeypatch, nuts, evidence):
    run("add", "word " * 60, "--no-split")
    run("add", "界" * 100, "--no-split")
    for words in (["list"], ["query", "nuts", "--all"], ["audit", "list"],
                  ["audit", "show", evidence], ["audit", "verify"], ["doctor"],
                  ["audit", "list", "--events"], ["audit", "replay", evidence],
                  ["audit", "replay", evidence, "--without", nuts],
                  ["audit", "replay", evidence, "--prompt", "May I eat cashew nuts?"]):  # fmt: skip
        terminal = Terminal()
        monkeypatch.setattr(sys, "stdout", terminal)
        assert cli.run(words) == 0
        plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
        from rich.cells import cell_len

        assert max(map(cell_len, plain.splitlines())) <= 80, words


def test_unseen_signs_are_shown_as_escapes():
    assert shown("a\x1b[2Jb") == "a\\u001b[2Jb"
    assert shown("a\u202eb\u200bc\ud800") == "a\\u202eb\\u200bc\\ud800"
    assert shown("two\nlines\tand\u00a0more") == "two lines and more"
    assert shown("👩\u200d🚀 نص") == "👩\u200d🚀 نص"


def test_json_holds_no_unseen_sign_and_reads_back_the_same():
    value = {"text": "a\x9b\u202e\u2028\x7f\U000e0001 é 界\n"}
    text = to_json(value)
    assert all(sign == "\n" or sign.isprintable() for sign in text)
    assert "é 界" in text
    assert json.loads(text) == value


def test_only_certainty_is_shown_as_certain():
    assert [percent(p) for p in (0, 0.001, 0.5, 0.999, 1)] == ["0%", "<1%", "50%", ">99%", "100%"]


def test_a_plain_page_wraps_only_when_told_to():
    narrow, free = io.StringIO(), io.StringIO()
    Page(narrow, width=40).entry("1%", "word " * 20)
    Page(free).entry("1%", "word " * 20)
    assert max(map(len, narrow.getvalue().splitlines())) <= 40
    assert free.getvalue().count("\n") == 1


def test_help_is_shown_without_loading_anything_heavy():
    program = (
        "import sys\nfrom holdfast.server.cli import cli\n"
        "cli.run(['--help'])\ncli.run(['query', '--help'])\nprint(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd="/"
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    heavy = "chromadb litellm torch onnxruntime sqlalchemy numpy tokenizers pydantic rich".split()
    assert not loaded & set(heavy)


def test_a_command_without_arguments_shows_its_help(run):
    for words in ([], ["audit"]):
        status, out, err = run(*words)
        assert (status, err) == (2, "")
        assert "Commands:" in out


def test_a_reader_that_leaves_early_is_no_failure(run, data):
    run("add", "\n".join(f"- I keep promise number {n}." for n in range(400)))
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; '{HOLDFAST}' list --json | head -n 1"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "[\n", "")


def test_a_stream_that_lacks_a_sign_still_gets_an_answer(run, data):
    run("add", "Café at 界, always.", "--no-split")
    for words in (["list"], ["list", "--json"]):
        done = subprocess.run(
            [HOLDFAST, *words], capture_output=True, check=True, env={
                "PYTHONIOENCODING": "ascii", "HOLDFAST_DATA": str(data), "HOLDFAST_SUBJECT": "ada",
                "XDG_CONFIG_HOME": os.environ["XDG_CONFIG_HOME"],
            },
        )  # fmt: skip
    assert json.loads(done.stdout)[0]["text"] == "Café at 界, always."
