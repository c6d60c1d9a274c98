"""What is wrong between SQL, Chroma, the ledger and the embedder, and mending it.

SQL is the truth: Chroma is filled again from it, and loses what SQL does not know.
Versions that the present embedder never embedded are embedded, batch by batch, each
durable at once, so an interrupted run goes on where it stopped. What an erasure has yet to
purge from the files is purged. The texts are only read to embed them.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from ..memory import erasure, store, vectors, verification
from ..memory.errors import DamagedError, LockedError, ReadOnlyError, StorageError, StorageFullError
from ..memory.record import Snapshot
from ..memory.signer import Signer
from ..memory.store import Owner
from ..memory.vectors import Progress
from .library import Library
from .results import DoctorReport
from .scoring import Int8

BATCH = 1000


class _Findings:
    """What was found, mended and left."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self.mended: Counter[str] = Counter()
        self.problems: list[str] = []


def examine(
    library: Library, signer: Signer, *, mend: bool, progress: Progress | None
) -> DoctorReport:
    """Check every vector of the present embedder both ways, and the ledger.

    Args:
        library: what to check.
        signer: knows what was signed.
        mend: put right what can be; otherwise only report.
        progress: called with (vectors done, vectors in all).
    """
    findings = _Findings()
    _finish_erasures(library, findings, mend)
    _check_database(library, findings)
    _check_chroma_opens(library, findings, mend)
    _embed_missing(library, findings, mend, progress)
    checked = _check_vectors(library, findings, mend, progress)
    _sweep_orphans(library, findings, mend)
    _check_ledger(library, signer, findings)
    library.cache.clear()
    left = {name: n - findings.mended[name] for name, n in findings.found.items()}
    if not mend:
        findings.problems += [
            f"{count} vectors {name}; mend with: holdfast doctor"
            for name, count in left.items()
            if count
        ]
    return DoctorReport(checked, dict(findings.found), dict(findings.mended), findings.problems)


def _finish_erasures(library: Library, findings: _Findings, mend: bool) -> None:
    if not erasure.is_unfinished(library.record):
        return
    findings.found["left by an erasure"] += 1
    if mend:
        findings.problems += erasure.purge(library.record, library.chroma)
        findings.mended["left by an erasure"] += 1


def _check_database(library: Library, findings: _Findings) -> None:
    for problem in library.record.database.check():
        findings.problems.append(f"the database is damaged ({problem}); restore it from a backup")


def _check_ledger(library: Library, signer: Signer, findings: _Findings) -> None:
    """Check the ledger, and the record against it, once the vectors are mended."""
    checked = verification.verify(library.record, signer)
    if not checked.ok:
        findings.problems.append(
            f"the ledger does not hold at {checked.failed_at}: {checked.problem}; it was altered "
            "outside Holdfast: compare with a backup"
        )


def _check_chroma_opens(library: Library, findings: _Findings, mend: bool) -> None:
    assert library.chroma is not None
    try:
        for _ in library.chroma.keys_by_collection():
            pass
    except StorageError as error:
        findings.found["unreadable store"] += 1
        if not mend or isinstance(error, (StorageFullError, ReadOnlyError, LockedError)):
            findings.problems.append(str(error))  # no damage: what is there is to stay
        elif library.chroma.start_over():
            findings.mended["unreadable store"] += 1
        else:
            findings.problems.append(str(error))


def _embed_missing(
    library: Library, findings: _Findings, mend: bool, progress: Progress | None
) -> None:
    with library.record.snapshot() as snapshot:
        keys = vectors.unembedded(snapshot, library.embedder.digest)
    findings.found["not of this embedder"] += len(keys)
    if mend and keys:
        library.embed_versions(keys, lambda done: progress and progress(done, len(keys)))
        findings.mended["not of this embedder"] += len(keys)


def _check_vectors(
    library: Library, findings: _Findings, mend: bool, progress: Progress | None
) -> int:
    """Compare every vector in SQL with its hash, and every one in Chroma with SQL."""
    with library.record.snapshot() as snapshot:
        owners = store.version_owners(snapshot)
    total, done = sum(len(owner.keys) for owner in owners), 0
    for owner in owners:
        for start in range(0, len(owner.keys), BATCH):
            part = owner.keys[start : start + BATCH]
            held = _check_sql(library, findings, mend, owner, part)
            _check_chroma(library, findings, mend, owner, held)
            done += len(part)
            if progress:
                progress(done, total)
    return total


def _check_sql(
    library: Library, findings: _Findings, mend: bool, owner: Owner, keys: Sequence[str]
) -> dict[str, Int8]:
    """Find vectors in SQL that are not what was sealed there; the text gives them again.

    Returns:
        Those that are whole, or were made whole, by key.
    """
    embedder = library.embedder.digest
    with library.record.snapshot() as snapshot:
        sealer = snapshot.sealer(owner.data_key)
        held = vectors.load(snapshot, embedder, keys, sealer)
        wrong = [key for key, components in held.items() if components is None]
        texts = _texts(snapshot, wrong)
    whole = {key: components for key, components in held.items() if components is not None}
    findings.found["altered in SQL"] += len(wrong)
    if not mend or not wrong:
        return whole
    anew = dict(zip(texts, library.quantised(list(texts.values())), strict=True))
    mended = library.record.transact(
        lambda tx: [key for key in anew if vectors.restore(tx, embedder, key, anew[key], sealer)]
    )
    findings.mended["altered in SQL"] += len(mended)
    if len(mended) < len(wrong):
        findings.problems.append(
            f"{len(wrong) - len(mended)} vectors in SQL, or their hashes or texts, were altered; "
            "restore the database from a backup"
        )
    return whole | {key: anew[key] for key in mended}


def _texts(snapshot: Snapshot, keys: Sequence[str]) -> dict[str, str]:
    """Read the texts of versions; one that was altered is left out."""
    found: dict[str, str] = {}
    for key in keys:
        with suppress(DamagedError):
            found |= {each.key: each.text for each in store.read_texts(snapshot, [key])}
    return found


def _check_chroma(
    library: Library, findings: _Findings, mend: bool, owner: Owner, held: dict[str, Int8]
) -> None:
    assert library.chroma is not None
    embedder, whose = library.embedder.digest, (owner.tenant, owner.name)
    try:
        got = library.chroma.get(embedder, *whose, list(held))
    except StorageError as error:
        if str(error) not in findings.problems:
            findings.problems.append(str(error))
        return
    missing = [key for key in held if key not in got]
    altered = [key for key in held if key in got and not np.array_equal(got[key], held[key])]
    findings.found["missing in Chroma"] += len(missing)
    findings.found["altered in Chroma"] += len(altered)
    wrong = missing + altered
    if mend and wrong:
        matrix = np.stack([held[key] for key in wrong])
        library.chroma.put(embedder, *whose, wrong, matrix)
        findings.mended["missing in Chroma"] += len(missing)
        findings.mended["altered in Chroma"] += len(altered)


def _sweep_orphans(library: Library, findings: _Findings, mend: bool) -> None:
    """Find vectors in Chroma that SQL does not know, or that lie in the wrong collection."""
    assert library.chroma is not None
    try:
        found = list(library.chroma.keys_by_collection())
    except StorageError:
        return  # reported before
    for name, keys in found:
        with library.record.snapshot() as snapshot:
            own = vectors.belonging(snapshot, name, keys)
        orphans = [key for key in keys if key not in own]
        findings.found["orphaned in Chroma"] += len(orphans)
        if mend and orphans:
            library.chroma.delete(name, orphans)
            findings.mended["orphaned in Chroma"] += len(orphans)
