"""Fixtures shared by all tests."""

import gc
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import FakeEmbedder
from hypothesis import settings
from upstreams import Upstream

from holdfast import Holdfast, Settings
from holdfast.memory.chroma import ChromaVectors
from holdfast.memory.database import Database
from holdfast.memory.directory import DataDirectory
from holdfast.memory.keys import KeySource
from holdfast.memory.record import Record, open_vault

settings.register_profile("holdfast", deadline=None)  # a shared machine stalls now and then
settings.load_profile("holdfast")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep tests off the user's own data and settings."""
    for name in (
        "DATA", "SUBJECT", "EMBEDDER", "DATABASE_URL", "CHROMA_URL", "URL", "DEBUG", "MASTER_KEY",
        "KEY", "KEY_FILE", "KEY_HOOK", "CHECKPOINT_DIR",
    ):  # fmt: skip
        monkeypatch.delenv(f"HOLDFAST_{name}", raising=False)
    for name in [each for each in os.environ if each.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOLDFAST_DATA", str(tmp_path / "default-data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture(autouse=True, scope="module")
def _left_behind() -> Iterator[None]:
    """Collect what a file's clients of other packages left open, so that no other is blamed."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """A provider on loopback."""
    with Upstream() as up:
        yield up


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An empty database with the whole schema."""
    database = Database(f"sqlite:///{tmp_path / 'test.db'}", place="the test's folder")
    yield database
    database.close()


@pytest.fixture
def record(database: Database, tmp_path: Path) -> Record:
    """An empty record of the tenant ``local`` in ``database``, with a key of its own."""
    return Record(database, open_vault(database, KeySource(folder=tmp_path / "keys")), "local")


def open_with(
    embedder: FakeEmbedder, path: Path, tenant: str = "local", **settings: object
) -> Holdfast:
    """Open a real data directory with a fake embedder."""
    directory = DataDirectory(path)
    directory.acquire(timeout=0)
    try:
        return Holdfast(
            database=Database(f"sqlite:///{directory.database}", place=str(path)),
            chroma=ChromaVectors(folder=directory.chroma),
            embedder=embedder,
            settings=Settings.load(path, **settings),
            tenant=tenant,
            directory=directory,
        )
    except BaseException:
        directory.release()
        raise


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Holdfast]:
    """A whole Holdfast on real SQLite and Chroma, with a fake embedder."""
    with open_with(FakeEmbedder(), tmp_path / "data") as holdfast:
        yield holdfast


@pytest.fixture
def bundled(tmp_path: Path) -> Iterator[Holdfast]:
    """A whole Holdfast as users get it."""
    with Holdfast.open(tmp_path / "bundled-data") as holdfast:
        yield holdfast
