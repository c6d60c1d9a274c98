"""README.md is run: its Python, its commands, its tables."""

import re
import shlex
from pathlib import Path

import pytest

from holdfast import Settings
from holdfast.server.cli import cli

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


@pytest.fixture
def own_data(tmp_path, monkeypatch):
    monkeypatch.setenv("HOLDFAST_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOLDFAST_SUBJECT", "ada")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("own_data")
def test_the_python_of_the_readme_runs(capsys):
    assert blocks("python")
    space: dict[str, object] = {}
    for text in blocks("python"):
        exec(compile(text, "README.md", "exec"), space)
    assert "cashew" in capsys.readouterr().out


@pytest.mark.usefixtures("own_data")
def test_the_commands_of_the_readme_run(capsys):
    commands = [
        line.removeprefix("$ holdfast ")
        for text in blocks("console")
        for line in text.splitlines()
        if line.startswith("$ holdfast ")
    ]
    assert commands
    ids: dict[str, str] = {}
    for command in commands:
        words = [ids.get(word, word) for word in shlex.split(command, comments=True)]
        status = cli.run(words)
        said = capsys.readouterr()
        assert status == 0, f"{command}: {said.err}"
        for name in ("st", "ev"):
            found = re.findall(rf"\b{name}_[0-9a-z]+", said.out)
            if found:
                ids.setdefault(f"{name}_…", found[0])


def test_every_command_is_in_the_readme():
    for name in cli.commands:
        assert f"holdfast {name}" in README, f"README.md does not show: holdfast {name}"


def test_every_setting_is_in_the_readme_with_its_default():
    for name, field in Settings.model_fields.items():
        row = re.search(rf"^\| `HOLDFAST_{name.upper()}` \|([^|]*)\|", README, flags=re.MULTILINE)
        assert row, f"README.md does not list HOLDFAST_{name.upper()}"
        if field.default_factory is None and field.default is not None:
            assert row[1].strip(" `") == str(field.default), name
