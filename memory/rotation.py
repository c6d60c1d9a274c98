"""Giving an installation a new key: every data key is wrapped anew, and nothing else changes.

What was sealed stays as it is. The work is done in batches, each durable at once; where it
was interrupted it goes on from there, since both keys unwrap until all is done. One
rotation of a key file runs at a time, and an old key is only let go of once no data key
needs it.
"""

import contextlib
from functools import partial
from pathlib import Path
from typing import Any

from . import ledger, vault
from .directory import held
from .errors import ConfigurationError, KeyUnavailableError
from .keys import KeySource, add_to_file, keep_only
from .record import Record, Transaction, installation_id
from .vectors import Progress

BATCH = 200
LOCK_TIMEOUT = 10.0  # seconds


def rotate(
    record: Record, source: KeySource, *, drop_old: bool = False, progress: Progress | None = None
) -> str:
    """Wrap all data keys of a database with a new key of the installation.

    Args:
        record: of any tenant of the database; the data keys of all are wrapped.
        source: where the key comes from.
        drop_old: take the old keys out of the key file when all is done.
        progress: called with (data keys done, data keys in all).

    Returns:
        The id of the event that records it.

    Raises:
        ConfigurationError: the key comes from elsewhere than a file, and no new one is there.
        KeyUnavailableError: a key that is still needed is not where the key comes from.
        LockedError: another rotation of this key file is going on.
    """
    record.database.check_writable()
    path = source.path(installation_id(record.database)) if source.is_file else None
    with contextlib.ExitStack() as stack:
        if path is not None:
            lock = path.with_name(f"{path.name}.lock")
            stack.enter_context(held(lock, LOCK_TIMEOUT, "rotating the installation's key"))
        _open(record, source)  # another rotation may have added one meanwhile
        if not _stale(record):
            _add(path)
            _open(record, source)
        event = _rewrap_all(record, progress)
        if drop_old and path is not None:
            _drop_old(record, path)
            _open(record, source)
    return event


def _open(record: Record, source: KeySource) -> None:
    """Take up the keys as they are now, if those are among them that are needed."""
    wrapper = source.open(installation_id(record.database), is_new=False)
    with record.snapshot() as snapshot:
        for name in record.vault.wrapped_by(snapshot.connection):
            wrapper.check(name)
    record.vault.wrapper = wrapper


def _add(path: Path | None) -> None:
    if path is None:
        raise ConfigurationError(
            "every data key is wrapped with the current key already; put the new key in front "
            "of the old one in HOLDFAST_MASTER_KEY (or in the key service), and rotate then"
        )
    add_to_file(path)


def _rewrap_all(record: Record, progress: Progress | None) -> str:
    """Wrap every data key with the current key; give the event that records it."""
    stale = _stale(record)
    total = len(stale)
    before = ", ".join(sorted(set(stale.values())))
    fields = {"before": before, "after": record.vault.wrapper.current, "data_keys": total}
    event = None
    while event is None:
        event, left = record.transact(partial(_rewrap, said=fields))
        if progress:
            progress(max(0, total - left), total)
    return event


def _drop_old(record: Record, path: Path) -> None:
    current = record.vault.wrapper.current
    if left := _stale(record):
        raise KeyUnavailableError(
            f"{len(left)} data keys were wrapped with {', '.join(sorted(set(left.values())))} "
            "meanwhile, by another process; no key was dropped. Start that process again, so that "
            "it takes up the new key, and rotate once more"
        )
    keep_only(path, current)


def _stale(record: Record) -> dict[str, str]:
    with record.snapshot() as snapshot:
        return record.vault.stale(snapshot.connection)


def _rewrap(tx: Transaction, said: dict[str, Any]) -> tuple[str | None, int]:
    """Wrap a batch; with the last one the rotation is recorded.

    Returns:
        The event that records it, and how many data keys are left.
    """
    stale = list(tx.vault.stale(tx.connection))
    signing = ledger.signing_purposes(tx)
    for name in stale[:BATCH]:
        purpose = signing.get(name, vault.DATA)
        tx.vault.rewrap(tx.connection, name, purpose, purpose)
    left = len(stale[BATCH:])
    return None if left else ledger.append(tx, "key.rotate", said), left
