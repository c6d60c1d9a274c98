"""docs/deploy.md, done as it says: backup while a server writes, and restore."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from holdfast import Holdfast, Settings

PAGE = (Path(__file__).parent.parent / "docs" / "deploy.md").read_text(encoding="utf-8")


def block(language: str, words: str) -> str:
    """Give the block of the page in which some words stand."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    return next(text for text in blocks if words in text)


def shell(script: str, folder: Path, data: Path) -> str:
    """Run a block with the programs of this environment first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-eu", "-c", script], cwd=folder, capture_output=True, text=True, timeout=120,
        env=os.environ | {"HOLDFAST_DATA": str(data), "PATH": path}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_copy_made_while_it_is_written_is_restored_without_chroma(tmp_path: Path) -> None:
    data, there = tmp_path / "data", tmp_path / "there"
    (tmp_path / "backup").mkdir()
    with Holdfast.open(data) as hf:
        hf.add("ada", "I never eat nuts. I love night trains.")
        evidence = hf.retrieve("ada", "nuts?").evidence_id
        hf.audit.checkpoint()
        shell(block("sh", "source.backup"), tmp_path, data)
    there.mkdir()
    shutil.copy(tmp_path / "backup" / "holdfast.db", there)
    said = shell(block("sh", "holdfast doctor"), tmp_path, there)
    assert "missing in Chroma: 2 found, 2 mended" in said
    assert "clean" in said
    assert "VERIFIED: 5 leaves" in said
    with Holdfast.open(there) as hf:
        assert len(hf.statements("ada")) == 2
        assert hf.replay(str(evidence))


def test_a_copy_that_is_older_than_the_last_checkpoint_is_told_and_nothing_is_signed(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    (tmp_path / "backup").mkdir()
    with Holdfast.open(data) as hf:
        hf.add("ada", "I never eat nuts.")
        shell(block("sh", "source.backup"), tmp_path, data)
        hf.add("ada", "I love night trains.")
    shutil.copy(tmp_path / "backup" / "holdfast.db", data)
    for name in ("holdfast.db-wal", "holdfast.db-shm"):
        (data / name).unlink(missing_ok=True)
    with Holdfast.open(data) as hf:
        found = hf.verify()
        assert not found.ok
    said = shell(block("sh", "--start-over"), tmp_path, data)
    assert "VERIFIED: " in said
    with Holdfast.open(data) as hf:
        assert hf.audit.events(types=["gap"])[0].payload["reason"].startswith("restored from")


def test_the_settings_of_the_page_are_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = block("toml", "allowed_hosts")
    (tmp_path / "holdfast.toml").write_text(text)
    monkeypatch.delenv("HOLDFAST_DATA", raising=False)
    found = Settings.load(tmp_path)
    assert list(found.routes) == list(tomllib.loads(text)["routes"])
    assert found.allowed_hosts == ["values.example.org"]
    for row in re.findall(r"^\| (`[a-z_, `]+`) \|", PAGE, flags=re.MULTILINE):
        for name in re.findall(r"`(\w+)`", row):
            assert name in Settings.model_fields or name in {
                "admin", "app", "personal", "auditor"
            }, name  # fmt: skip
