"""README.md and docs/ are run: their Python, their commands, their tables."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast import Settings
from holdfast.memory.models import EVENT_TYPES
from holdfast.server.cli import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
AUDIT = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")


class Reader:
    """Does what a document says, from top to bottom."""

    def __init__(self, capsys):
        self.capsys = capsys
        self.space: dict[str, object] = {}
        self.ids: dict[str, str] = {}
        self.said: list[str] = []

    def follow(self, document: str, *languages: str) -> str:
        """Run its Python, its commands, or both; give all that they print."""
        blocks = re.findall(r"^```(\w+)\n(.*?)^```$", document, flags=re.MULTILINE | re.DOTALL)
        for language, text in blocks:
            if language not in languages:
                continue
            for part in [text] if language == "python" else text.splitlines():
                if language == "python":
                    exec(compile(part, "document", "exec"), self.space)
                else:
                    self.run(part.removeprefix("$ "))
                self.remember(self.capsys.readouterr().out)
        return "".join(self.said)

    def run(self, line: str) -> None:
        program, *words = (self.ids.get(word, word) for word in shlex.split(line, comments=True))
        if program == "python":
            run = subprocess.run([sys.executable, *words], capture_output=True, text=True)
            self.remember(run.stdout)
            assert run.returncode == 0, f"{line}: {run.stdout}{run.stderr}"
        else:
            assert program == "holdfast"
            status = cli.run(words)
            said = self.capsys.readouterr()
            self.remember(said.out)
            assert status == 0, f"{line}: {said.out}{said.err}"

    def remember(self, said: str) -> None:
        self.said.append(said)
        for name in ("st", "ev"):
            found = re.findall(rf"\b{name}_[0-9a-z]{{8,}}", said)
            if found:
                self.ids.setdefault(f"{name}_…", found[0])


@pytest.fixture
def reader(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOLDFAST_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOLDFAST_SUBJECT", "ada")
    monkeypatch.chdir(tmp_path)
    return Reader(capsys)


def test_the_python_of_the_readme_runs(reader):
    assert "cashew" in reader.follow(README, "python")


def test_the_commands_of_the_readme_run(reader):
    reader.follow(README, "console")
    assert len(reader.said) > 20


def test_the_page_for_auditors_does_what_it_says(reader):
    said = reader.follow(AUDIT, "console", "python")
    assert said.count("\nVERIFIED under holdfast/") >= 3
    assert said.count("VERIFIED-ERASED") == 2
    assert "corpora [{'count': 1" in said, "the program that checks by hand prints the fields"
    assert "cashew" not in said.partition("corpora [{")[2].partition("VERIFIED-ERASED")[0]


def test_the_program_that_checks_by_hand_finds_what_was_altered(reader, tmp_path):
    reader.follow(AUDIT.partition("## What is in it")[0], "console")
    (program,) = re.findall(r"^```python\n(.*?)^```$", AUDIT, flags=re.MULTILINE | re.DOTALL)
    bundle = (tmp_path / "bundle.json").read_text()
    for old, new in (
        ("injected", "degraded"),
        ('"leaf": "{', '"leaf": "{ '),
        ("index 3", "index 2"),
    ):
        assert old in bundle
        (tmp_path / "bundle.json").write_text(bundle.replace(old, new, 1))
        with pytest.raises(Exception):  # noqa: B017, PT011 - whichever step finds it
            exec(compile(program, "document", "exec"), {})


def test_every_event_type_and_field_of_a_retrieval_is_on_the_page():
    for kind in EVENT_TYPES:
        assert f"`{kind}`" in AUDIT or f"`.{kind.partition('.')[2]}`" in AUDIT, kind


def test_the_field_that_the_notebook_names_shows_the_injected_bytes(fake):
    notebook = (ROOT / "notebooks" / "03_why_this_was_injected.ipynb").read_text(encoding="utf-8")
    (field,) = re.findall(r'disclose=\[\\"(\w+)\\"\]\)` shows a stranger the inj', notebook)
    fake.add("ada", "I never eat nuts.")
    found = fake.retrieve("ada", "nuts", threshold=0.0)
    (entry,) = fake.audit.bundle(found.evidence_id, disclose=[field])["entries"]
    assert found.context
    assert found.context in [json.loads(line)[2] for line in entry["disclosed"]]


def test_every_command_is_in_the_readme():
    for name in cli.commands:
        assert f"holdfast {name}" in README, f"README.md does not show: holdfast {name}"


def test_every_setting_is_in_the_readme_with_its_default():
    for name, field in Settings.model_fields.items():
        row = re.search(rf"^\| `HOLDFAST_{name.upper()}` \|([^|]*)\|", README, flags=re.MULTILINE)
        assert row, f"README.md does not list HOLDFAST_{name.upper()}"
        if field.default_factory is None and field.default is not None:
            assert row[1].strip(" `") == str(field.default), name
