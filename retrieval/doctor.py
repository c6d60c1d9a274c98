"""What is wrong between SQL, Chroma and the embedder, and mending it, both ways.

SQL is the truth: Chroma is filled again from it, and loses what SQL does not know.
Versions that the present embedder never embedded are embedded, batch by batch, each
durable at once, so an interrupted run goes on where it stopped. The texts are only
read to embed them.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..memory import ledger, store, vectors
from ..memory.errors import LockedError, ReadOnlyError, StorageError, StorageFullError
from ..memory.vectors import Progress
from .library import Library
from .results import DoctorReport

BATCH = 1000


class _Findings:
    """What was found, mended and left."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self.mended: Counter[str] = Counter()
        self.problems: list[str] = []


def examine(library: Library, *, mend: bool, progress: Progress | None) -> DoctorReport:
    """Check every vector of the present embedder both ways, and the chain of evidence.

    Args:
        library: what to check.
        mend: put right what can be; otherwise only report.
        progress: called with (vectors done, vectors in all).
    """
    findings = _Findings()
    _check_database(library, findings)
    _check_chroma_opens(library, findings, mend)
    _embed_missing(library, findings, mend, progress)
    checked = _check_vectors(library, findings, mend, progress)
    _sweep_orphans(library, findings, mend)
    library.cache.clear()
    left = {name: n - findings.mended[name] for name, n in findings.found.items()}
    if not mend:
        findings.problems += [
            f"{count} vectors {name}; mend with: holdfast doctor"
            for name, count in left.items()
            if count
        ]
    return DoctorReport(checked, dict(findings.found), dict(findings.mended), findings.problems)


def _check_database(library: Library, findings: _Findings) -> None:
    for problem in library.database.check():
        findings.problems.append(f"the database is damaged ({problem}); restore it from a backup")
    with library.database.read() as connection:
        chain = ledger.verify(connection, library.tenant)
    if not chain.ok:
        findings.problems.append(
            f"the chain of evidence breaks at {chain.failed_at}: {chain.problem}; "
            "it was altered outside Holdfast: compare with a backup"
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
    with library.database.read() as connection:
        keys = vectors.unembedded(connection, library.embedder.digest)
    findings.found["not of this embedder"] += len(keys)
    if mend and keys:
        library.embed_versions(keys, lambda done: progress and progress(done, len(keys)))
        findings.mended["not of this embedder"] += len(keys)


def _check_vectors(
    library: Library, findings: _Findings, mend: bool, progress: Progress | None
) -> int:
    """Compare every vector in SQL with its hash, and every one in Chroma with SQL."""
    embedder = library.embedder.digest
    with library.database.read() as connection:
        owners = store.version_owners(connection)
    total, done = sum(len(keys) for _, _, keys in owners), 0
    for tenant, subject, keys in owners:
        for start in range(0, len(keys), BATCH):
            part = keys[start : start + BATCH]
            with library.database.read() as connection:
                held = vectors.read(
                    connection, None, embedder=embedder,
                    dimensions=library.embedder.dimensions,
                    tenant=tenant, subject=subject, keys=part,
                )  # fmt: skip
            _check_sql(library, findings, mend, part, held)
            _check_chroma(library, findings, mend, (tenant, subject), part, held)
            done += len(part)
            if progress:
                progress(done, total)
    return total


def _check_sql(
    library: Library, findings: _Findings, mend: bool, keys: Sequence[str], held: vectors.Found
) -> None:
    """Find int8 bytes in SQL that do not match their hash; the text gives them again."""
    damaged = set(held.damaged)
    wrong = [i for i, key in enumerate(keys) if key in damaged]
    if not wrong:
        return
    findings.found["altered in SQL"] += len(wrong)
    if not mend:
        return
    with library.database.read() as connection:
        texts = {row.key: row.text for row in store.read_texts(connection, keys)}
    again = library.quantised([texts[keys[i]] for i in wrong])
    same = [
        (i, row)
        for i, row in zip(wrong, again, strict=True)
        if vectors.digest(row) == held.hashes[i]
    ]
    for i, row in same:
        held.matrix[i] = row
    with library.database.write() as connection:
        for i, row in same:
            vectors.restore(connection, library.embedder.digest, keys[i], row)
    findings.mended["altered in SQL"] += len(same)
    if len(same) < len(wrong):
        findings.problems.append(
            f"{len(wrong) - len(same)} vectors in SQL, or their hashes or texts, were altered; "
            "restore the database from a backup"
        )


def _check_chroma(
    library: Library,
    findings: _Findings,
    mend: bool,
    owner: tuple[str, str],
    keys: Sequence[str],
    held: vectors.Found,
) -> None:
    assert library.chroma is not None
    embedder = library.embedder.digest
    wanted = [
        i
        for i, recorded in enumerate(held.hashes)
        if recorded and vectors.digest(held.matrix[i]) == recorded
    ]
    try:
        got = library.chroma.get(embedder, *owner, [keys[i] for i in wanted])
    except StorageError as error:
        if str(error) not in findings.problems:
            findings.problems.append(str(error))
        return
    missing = [i for i in wanted if keys[i] not in got]
    altered = [
        i for i in wanted if keys[i] in got and not np.array_equal(got[keys[i]], held.matrix[i])
    ]
    findings.found["missing in Chroma"] += len(missing)
    findings.found["altered in Chroma"] += len(altered)
    wrong = missing + altered
    if mend and wrong:
        library.chroma.put(embedder, *owner, [keys[i] for i in wrong], held.matrix[wrong])
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
        with library.database.read() as connection:
            own = vectors.belonging(connection, name, keys)
        orphans = [key for key in keys if key not in own]
        findings.found["orphaned in Chroma"] += len(orphans)
        if mend and orphans:
            library.chroma.delete(name, orphans)
            findings.mended["orphaned in Chroma"] += len(orphans)
