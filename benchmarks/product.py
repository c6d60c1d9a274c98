"""Timing Holdfast itself: retrieving, adding, loading many, and the command line from cold."""

import contextlib
import json
import random
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast import Holdfast
from holdfast.memory import store
from holdfast.memory.chroma import ChromaVectors
from holdfast.retrieval import reading, splitting
from holdfast.retrieval.embedder import BundledEmbedder

from . import corpus

LAUNCH = Path(__file__).with_name("launch.py")
HEAVY = ("chromadb", "litellm", "torch", "onnxruntime")
MANY = 10_000
IN_A_ROW = 10
Seconds = dict[str, list[float]]


class Commit:
    """A durable commit of one row, with the pragmas of the record, in the same folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "bare-commit.db"
        self._connection = sqlite3.connect(self._path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, text TEXT)")

    def __call__(self) -> None:
        """Commit."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("INSERT INTO rows (text) VALUES (?)", ("x" * 100,))
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Remove the file."""
        self._connection.close()
        for path in self._path.parent.glob("bare-commit.db*"):
            path.unlink()


def fill(holdfast: Holdfast, begin: int, end: int) -> NDArray[np.float32]:
    """Add the statements from number ``begin`` up to ``end``, as they arrive.

    Returns:
        Their vectors in that order, float32 (end - begin, d): peers are filled with the same,
        since what a search costs them depends on how the vectors lie.
    """
    parts: list[NDArray[np.float32]] = []
    embedder: Any = holdfast.embedder
    embed = embedder.embed

    def kept(texts: Sequence[str], **how: Any) -> NDArray[np.float32]:
        parts.append(embed(texts, **how))
        return parts[-1]

    embedder.embed = kept
    try:
        for rows in corpus.sittings(begin, end):
            texts = corpus.texts(len(rows), rows.start)
            holdfast.add_many(corpus.subject(rows.start), texts, split=False, scope="topical")
    finally:
        embedder.embed = embed
    return np.concatenate(parts)


def calls(
    holdfast: Holdfast, smallest: Holdfast, users: Sequence[str], commit: Commit
) -> dict[str, Callable[[int], object]]:
    """Give what is timed side by side; each takes the number of the round.

    ``smallest`` holds 1,000 statements in a data directory of its own: the same retrieval
    from it shows what the number of statements in all costs.
    """
    prompt = corpus.PROMPT
    few = [corpus.subject(0), corpus.subject(corpus.PER_SUBJECT)]
    return {
        "embed": lambda _: holdfast.embedder.embed([prompt], role="query"),
        "retrieve": lambda i: holdfast.retrieve(users[i % len(users)], prompt, record=False),
        "smallest": lambda i: smallest.retrieve(few[i % 2], prompt, record=False),
        "record": lambda i: holdfast.retrieve(users[i % len(users)], prompt, record=True),
        "commit": lambda _: commit(),
    }


def interleaved(
    timed: dict[str, Callable[[int], object]], turns: int, generator: random.Random
) -> Seconds:
    """Time each call ten times in a row, as peers are, in turns of a random order.

    What else the machine does then meets all alike.
    """
    seconds: Seconds = {name: [] for name in timed}
    names = list(timed)
    for _ in range(turns):
        generator.shuffle(names)
        for name in names:
            for i in range(IN_A_ROW):
                before = time.perf_counter()
                timed[name](i)
                seconds[name].append(time.perf_counter() - before)
    return seconds


def adding(holdfast: Holdfast, times: int) -> list[float]:
    """Time ``add`` of one short statement to a subject that already has 500."""
    if not holdfast.statements("adder"):
        texts = corpus.texts(corpus.PER_SUBJECT)
        holdfast.add_many("adder", texts, split=False, scope="topical")
        holdfast.retrieve("adder", corpus.PROMPT, record=False)
    held = len(holdfast.statements("adder"))
    seconds: list[float] = []
    for i in range(held, held + times):
        before = time.perf_counter()
        holdfast.add("adder", f"I keep promise number {i}.")
        seconds.append(time.perf_counter() - before)
    return seconds


def loading(folder: Path) -> dict[str, Any]:
    """Load 10,000 statements with ``add_many``, between two halves of embedding them barely.

    Returns:
        ``seconds`` and ``embed_seconds`` for all of them, and ``parts``: seconds by part,
        those of threads side by side both counted.
    """
    texts = corpus.texts(MANY)
    with Holdfast.open(folder) as holdfast:
        holdfast.embedder.embed(texts[:50])
        holdfast.add("warm-up", "I like tea.")
        embedding = -time.perf_counter()
        holdfast.embedder.embed(texts[: MANY // 2])
        embedding += time.perf_counter()
        with _clocks() as parts:
            whole = -time.perf_counter()
            added = holdfast.add_many("many", texts)
            whole += time.perf_counter()
        embedding -= time.perf_counter()
        holdfast.embedder.embed(texts[MANY // 2 :])
        embedding += time.perf_counter()
    if len(added) != MANY:
        raise RuntimeError(f"{len(added)} statements were read from {MANY} texts")
    return {"seconds": whole, "embed_seconds": embedding, "parts": parts}


@contextlib.contextmanager
def _clocks() -> Iterator[dict[str, float]]:
    """Put a clock around the parts of a write, while the block lasts."""
    places: list[tuple[Any, str, str]] = [
        (splitting, "split", "reading (split, kind, strength, scope)"),
        (reading, "read", "reading (split, kind, strength, scope)"),
        (BundledEmbedder, "embed", "embedding"),
        (ChromaVectors, "put", "Chroma (beside embedding)"),
        (store, "equal_statements", "SQL: looking for equal ones"),
        (store, "write", "SQL: statements, vectors and their leaves"),
    ]
    parts: dict[str, float] = {}
    lock = threading.Lock()

    def clocked(function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            before = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                with lock:
                    parts[part] = parts.get(part, 0.0) + time.perf_counter() - before

        return run

    kept = [(owner, name, getattr(owner, name), part) for owner, name, part in places]
    for owner, name, function, part in kept:
        setattr(owner, name, clocked(function, part))
    try:
        yield parts
    finally:
        for owner, name, function, _ in kept:
            setattr(owner, name, function)


def cold(command: Sequence[str], times: int) -> dict[str, list[float]]:
    """Run a command in new processes; give wall seconds and peak bytes of each."""
    results = [
        json.loads(_output([sys.executable, "-I", str(LAUNCH), *command])) for _ in range(times)
    ]
    return {name: [r[name] for r in results] for name in ("seconds", "peak_bytes")}


def holding(data: Path) -> dict[str, Any]:
    """Retrieve from every subject in a new process; what ``holder`` prints."""
    return json.loads(
        _output([sys.executable, "-m", "benchmarks.holder", str(data), corpus.PROMPT])
    )


def command_line() -> list[str]:
    """Give the installed command."""
    script = Path(sys.executable).with_name("holdfast")
    if not script.is_file():
        raise RuntimeError("the command holdfast is not installed here: pip install -e .")
    return [str(script)]


def imported_for_help() -> list[str]:
    """Give the heavy packages that ``holdfast --help`` imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command_line(), "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    names = set(re.findall(r"\|\s+([\w]+)(?:\.|\s*$)", done.stderr, re.MULTILINE))
    return sorted(names.intersection(HEAVY))


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return done.stdout.splitlines()[-1]
