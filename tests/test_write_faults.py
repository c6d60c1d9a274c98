"""Whichever write or fsync of an append fails, the ledger verifies and keeps what it told.

Every call that changes a file of the record or of the signer is made to fail in turn: with
an I/O error, for want of space, killed before it, torn in half, and by a power cut that
takes back all that no fsync has made durable. ``HOLDFAST_TEST_FAULTS=1`` tries each call
of an append; otherwise every seventh is tried.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import open_with
from failing import MODES, SUBJECT, TEXT
from fakes import FakeEmbedder
from test_faults import check_nothing_half_there

from holdfast.memory.checkpoint import read_key
from holdfast.memory.verifier import verify_bundle

HERE = Path(__file__).parent
STEP = int(os.environ.get("HOLDFAST_TEST_FAULTS", "7"))
SAMPLED = {"full disk": 3, "kill": 3}  # much like an I/O error, and a write that is torn
COMPILER = shutil.which("cc")
pytestmark = pytest.mark.skipif(
    COMPILER is None or sys.platform != "linux", reason="needs Linux and a C compiler (cc)"
)


class Worker:
    """The process that fails, and the folders it is sent to."""

    def __init__(self, shim: Path, root: Path) -> None:
        self.root = root
        environment = os.environ | {"LD_PRELOAD": str(shim), "PYTHONPATH": str(HERE)}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "failing.py"), str(shim)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def run(self, mode: str, at: int, *, opening: bool) -> tuple[Path, list[list[Any]]]:
        """Run with one failing call; give the folder and what was told."""
        folder = self.root / f"{mode} {at}{' opening' if opening else ''}".replace(" ", "-")
        if opening:
            folder.mkdir()
        else:
            shutil.copytree(self.root / "before", folder)
        order = {"folder": str(folder), "mode": mode, "at": at, "opening": opening}
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return folder, json.loads(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        assert self._process.wait(20) == 0
        assert self._process.stdout
        self._process.stdout.close()


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    root = tmp_path_factory.mktemp("faults")
    shim = root / f"failing{sysconfig.get_config_var('SHLIB_SUFFIX')}"
    source = HERE / "failing_writes.c"
    flags = ["-shared", "-fPIC", "-Wall", "-Werror", "-o", str(shim)]
    subprocess.run([str(COMPILER), *flags, str(source), "-ldl", "-pthread"], check=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CONFIG_HOME", str(root / "before" / "config"))
        with open_with(FakeEmbedder(), root / "before" / "data") as holdfast:
            holdfast.add(SUBJECT, "I never eat nuts.")
            holdfast.retrieve(SUBJECT, "nuts?")
            holdfast.audit.checkpoint()
    worker = Worker(shim, root)
    yield worker
    worker.close()


def check(folder: Path, told: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger verifies, holds all that was told, continues what was signed, and goes on."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    with open_with(FakeEmbedder(), folder / "data", lock_timeout=0) as holdfast:
        check_nothing_half_there(holdfast)
        assert holdfast.verify(checkpoint=told.get("checkpoint"))
        if "add" in told:
            assert holdfast.statement(told["add"][0]).text == TEXT
        holdfast.add(SUBJECT, "I like tea.")
        assert holdfast.audit.checkpoint().size == len(holdfast.audit.events(limit=None))
        if "retrieve" in told:
            assert holdfast.replay(told["retrieve"])
            bundle = holdfast.audit.bundle(told["retrieve"], since=told.get("checkpoint"))
            verify_bundle(
                bundle, read_key(holdfast.audit.verifier_key), since=told.get("checkpoint")
            )
        assert holdfast.verify()
    shutil.rmtree(folder)


@pytest.mark.parametrize("opening", [False, True], ids=["appending", "opening"])
@pytest.mark.parametrize("mode", MODES[1:])
def test_whichever_write_or_fsync_fails_what_was_told_is_there(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, mode: str, opening: bool
) -> None:
    folder, counted = worker.run("count", MODES.index(mode), opening=opening)
    assert counted[-1][0] == "end", counted
    check(folder, dict(counted), monkeypatch)
    calls = dict(counted)["calls"]
    assert calls > 40
    step = STEP * SAMPLED.get(mode, 1) * (8 if opening else 1)
    struck = 0
    for at in range(1 + MODES.index(mode) % step, calls + 1, step):
        folder, told = worker.run(mode, at, opening=opening)
        results = dict(told)
        lost = [line for line in told if line[0] in ("failed", "raised")]
        assert all(line[1].startswith(("StorageError", "StorageFullError")) for line in lost), lost
        struck += bool(lost) or "end" not in results
        if "end" not in results and not lost:
            assert mode in ("kill", "torn write", "power cut")
        check(folder, results, monkeypatch)
    assert struck
