"""What the ledger costs: appends, proofs, verification, erasing.

    python -m benchmarks.ledger [--leaves 100000] [--quick]

Each append is durable when it returns. The baseline is a bare commit of one row with the
pragmas of the record, in the same folder and run; figures differ between machines, the
differences to it much less.
"""

import argparse
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from holdfast import Holdfast, Settings
from holdfast.memory import bundle, ledger, merkle, published, store, verifier
from holdfast.memory.canonical import canonical
from holdfast.memory.checkpoint import encode, read_key
from holdfast.memory.chroma import ChromaVectors
from holdfast.memory.database import Database
from holdfast.memory.directory import DataDirectory
from holdfast.memory.ledger import Encoded
from holdfast.memory.record import Record

from .product import Commit
from .telling import Say, telling

WRITERS = 64
LEAST_RATE, MOST_TAIL, MOST_BEYOND_COMMIT = 2_000, 50.0, 1.0  # per second, ms, ms
MOST_VERIFYING, MOST_PROOF = 10.0, 5.0  # seconds, ms
SIZES = (1_000, 10_000, 100_000, 1_000_000)
VECTORS, TO_A_SUBJECT = 100_000, 500
PROMPT = "Can I eat the baklava they serve here?"
MS = 1_000.0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    what: str
    figure: str
    bar: str = ""
    met: bool | None = None


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--leaves", type=int, default=100_000, help="leaves that are verified")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    asked = parser.parse_args()
    scale = 10 if asked.quick else 1
    with telling() as say, tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CONFIG_HOME"] = str(Path(folder, "config"))
        rows = [
            *_appending(Path(folder, "a"), 25, 20_000 // scale, say),
            *_appending(Path(folder, "b"), 500, 4_000 // scale, say),
            *_verifying(Path(folder, "c"), asked.leaves // scale, say),
            *_proofs(SIZES[: len(SIZES) - asked.quick], say),
            *_erasing(Path(folder, "d"), VECTORS // scale, say),
        ]
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    show(f"The ledger. {machine}", rows)


def _appending(folder: Path, candidates: int, count: int, say: Say) -> list[Row]:
    say(f"appending: {candidates} candidates")
    with Holdfast.open(folder) as holdfast:
        subjects, fields = _prepared(holdfast, candidates)
        record = holdfast.audit._record
        size = _payload_size(record)
        commit = Commit(folder)
        one = lambda: _append(record, fields, subjects[0])  # noqa: E731
        for _ in range(50):
            one(), commit()
        alone, bare = [], []
        for _ in range(500):  # in turn, so that the disk's moods meet both
            alone.append(_timed(one))
            bare.append(_timed(commit))
        commit.close()
        together, seconds = _together(record, fields, subjects, count)
    rate, tail = len(together) / seconds, _quantile(together, 0.99)
    beyond = (statistics.median(alone) - statistics.median(bare)) * MS
    is_barred = candidates == 25
    about = f"{candidates} candidates, {size / 1000:.1f} kB"
    return [
        Row(
            f"one writer, {about}: p50",
            f"{statistics.median(alone) * MS:.2f} ms = commit "
            f"{statistics.median(bare) * MS:.2f} {beyond:+.2f} ms",
            f"≤ commit + {MOST_BEYOND_COMMIT:.0f} ms",
            beyond <= MOST_BEYOND_COMMIT,
        ),
        Row(
            f"{WRITERS} writers, {about}: rate",
            f"{rate:,.0f} leaves/s",
            f"≥ {LEAST_RATE:,}" if is_barred else "",
            rate >= LEAST_RATE if is_barred else None,
        ),
        Row(
            f"{WRITERS} writers, {about}: p50, p99, worst",
            f"{statistics.median(together) * MS:.1f}, {tail * MS:.1f}, {max(together) * MS:.1f} ms",
            f"p99 ≤ {MOST_TAIL:.0f} ms" if is_barred else "",
            tail * MS <= MOST_TAIL if is_barred else None,
        ),
    ]


def _prepared(holdfast: Holdfast, candidates: int) -> tuple[list[int], dict[str, Any]]:
    """Give the fields of a real retrieval, and the keys of subjects to record them for."""
    texts = [
        f"I keep my promise number {n} about the garden and the boat." for n in range(candidates)
    ]
    holdfast.add_many("ada", texts, split=False)
    found = holdfast.retrieve("ada", PROMPT)
    assert len(found.candidates) == candidates
    payload = dict(holdfast.audit.entry(str(found.evidence_id)).payload)
    del payload["chain"]
    fields = {
        name: Encoded(canonical(value)) if name in ("policy", "versions") else value
        for name, value in payload.items()
    }
    record = holdfast.audit._record
    names = [f"writer {number}" for number in range(WRITERS)]
    keys = record.transact(lambda tx: [store.ensure_subject(tx, name).key for name in names])
    return keys, fields


def _append(record: Record, fields: dict[str, Any], subject: int) -> None:
    record.transact(lambda tx: ledger.append(tx, "retrieval", fields, subjects=[subject]))


def _together(
    record: Record, fields: dict[str, Any], subjects: Sequence[int], count: int
) -> tuple[list[float], float]:
    """Append from one thread a subject, each waiting for its own; give seconds of each and all."""
    taken: list[list[float]] = [[] for _ in subjects]

    def write(number: int) -> None:
        for _ in range(count // len(subjects)):
            taken[number].append(_timed(lambda: _append(record, fields, subjects[number])))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(len(subjects))]
    before = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [each for own in taken for each in own], time.perf_counter() - before


def _verifying(folder: Path, leaves: int, say: Say) -> list[Row]:
    say(f"a ledger of {leaves:,} leaves")
    with Holdfast.open(folder) as holdfast:
        subjects, fields = _prepared(holdfast, 25)
        record = holdfast.audit._record
        left = leaves - holdfast.audit.checkpoint().size
        _together(record, fields, subjects, left)
        for _ in range(left % len(subjects)):
            _append(record, fields, subjects[0])
        signed = holdfast.audit.checkpoint()
        key = read_key(holdfast.audit.verifier_key)
        say("verifying")
        whole = _timed(lambda: _check(holdfast.verify(checkpoint=signed.note).ok))
        published_to = folder / "published"
        holdfast.audit.export_log(published_to)
        offline = _timed(lambda: published.verify_tiles(published_to, key))
        say("proofs")
        middle = holdfast.audit.events(limit=signed.size // 2)[-1].id
        made = [_timed(lambda: _bundle(record, signed, key, middle)) for _ in range(20)]
        document = _bundle(record, signed, key, middle)
        checked = [_timed(lambda: verifier.verify_bundle(document, key)) for _ in range(200)]
    proof = statistics.median(checked) * MS
    return [
        Row(
            f"verify {signed.size:,} leaves: tree, payloads and the record (audit verify)",
            f"{whole:.1f} s",
            f"≤ {MOST_VERIFYING:.0f} s",
            whole <= MOST_VERIFYING,
        ),
        Row(
            f"verify {signed.size:,} leaves offline, from published tiles (verify DIR)",
            f"{offline:.1f} s",
            f"≤ {MOST_VERIFYING:.0f} s",
            offline <= MOST_VERIFYING,
        ),
        Row("make one bundle, in the middle", f"{statistics.median(made) * MS:.1f} ms"),
        Row("check one bundle", f"{proof:.2f} ms", f"< {MOST_PROOF:.0f} ms", proof < MOST_PROOF),
    ]


def _bundle(record: Record, signed: Any, key: Any, event: str) -> dict[str, Any]:
    with record.snapshot() as snapshot:
        return bundle.build(snapshot, signed, key, event, lambda _: True)


def _proofs(sizes: Sequence[int], say: Say) -> list[Row]:
    """Print how long proofs are, over trees of made-up leaves."""
    return [_proof_row(size, say) for size in sizes]


def _proof_row(size: int, say: Say) -> Row:
    say(f"proofs over {size:,} leaves")
    nodes = _Nodes(size)
    root = merkle.root(nodes, size)
    index, first = size // 3, size * 2 // 3 + 1
    longest = max(len(merkle.inclusion_proof(nodes, each, size)) for each in (0, index, size - 1))
    proof = merkle.inclusion_proof(nodes, index, size)
    seconds = _timed(lambda: merkle.verify_inclusion(nodes(0, index), index, size, proof, root))
    consistency = merkle.consistency_proof(nodes, first, size)
    merkle.verify_consistency(first, size, merkle.root(nodes, first), root, consistency)
    written = len("\n".join(map(encode, proof)))
    return Row(
        f"proofs at {size:,} leaves",
        f"inclusion {longest} hashes ({written} bytes), consistency {len(consistency)}; "
        f"checked in {seconds * MS:.3f} ms",
        f"≤ {(size - 1).bit_length()} hashes",
        longest <= (size - 1).bit_length(),
    )


class _Nodes:
    """All full subtrees of a tree of ``size`` numbered leaves."""

    def __init__(self, size: int) -> None:
        self._levels = [[merkle.hash_leaf(b"%d" % number) for number in range(size)]]
        while len(self._levels[-1]) > 1:
            row = self._levels[-1]
            pairs = zip(row[::2], row[1::2], strict=False)
            self._levels.append([merkle.hash_children(left, right) for left, right in pairs])

    def __call__(self, level: int, index: int) -> bytes:
        return self._levels[level][index]


class _RandomVectors:
    """Stands for an embedder of the bundled one's size: what is measured is the storage."""

    name, dimensions, scale, digest = "random vectors", 384, 400, "0" * 64

    def __init__(self) -> None:
        self._random = np.random.default_rng(1)

    def embed(self, texts: Sequence[str], **_: Any) -> NDArray[np.float32]:
        rows = self._random.standard_normal((len(texts), self.dimensions), np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _erasing(folder: Path, vectors: int, say: Say) -> list[Row]:
    """Erase one subject among many."""
    with _open(folder, _RandomVectors()) as holdfast:
        for subject in range(vectors // TO_A_SUBJECT):
            say(f"loading to erase: {subject * TO_A_SUBJECT:,} of {vectors:,}")
            said = [f"I keep promise {n} of {subject}." for n in range(TO_A_SUBJECT)]
            holdfast.add_many(f"subject {subject}", said, split=False)
        say("erasing")
        files = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        seconds = _timed(lambda: holdfast.erase("subject 3"))
        _check(holdfast.verify().ok)
    return [
        Row(
            f"erase 1 of {vectors // TO_A_SUBJECT} subjects, {vectors:,} vectors in all",
            f"{seconds:.1f} s for {sum(files) / 1e6:,.0f} MB of files",
        )
    ]


def _open(folder: Path, embedder: Any) -> Holdfast:
    directory = DataDirectory(folder)
    directory.acquire(timeout=0)
    return Holdfast(
        database=Database(f"sqlite:///{directory.database}", place=str(folder)),
        chroma=ChromaVectors(folder=directory.chroma),
        embedder=embedder,
        settings=Settings.load(folder),
        tenant="local",
        directory=directory,
    )


def _payload_size(record: Record) -> int:
    with record.snapshot() as snapshot:
        log = ledger.log(snapshot)
        assert log is not None
        last = ledger.entries(snapshot, types=["retrieval"], limit=1)[0]
        return sum(map(len, ledger.lines_of(snapshot, last.index, last.id)))


def _check(holds: bool) -> None:
    if not holds:
        raise SystemExit("the ledger does not verify: this is a fault")


def _timed(work: Callable[[], Any]) -> float:
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def show(title: str, rows: Sequence[Row]) -> None:
    """Print figures beside their bars."""
    table = Table("what", "measured", "bar", "", title=title)
    for row in rows:
        verdict = "" if row.met is None else "met" if row.met else "MISSED"
        table.add_row(row.what, row.figure, row.bar, verdict)
    Console(width=None if Console().is_terminal else 150).print(table)


if __name__ == "__main__":
    main()
