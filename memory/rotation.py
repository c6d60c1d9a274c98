"""Giving an installation a new key: every data key is wrapped anew, and nothing else changes.

What was sealed stays as it is. The work is done in batches, each durable at once; where it
was interrupted it goes on from there, since both keys unwrap until all is done.
"""

from functools import partial
from typing import Any

from . import ledger, vault
from .errors import ConfigurationError
from .keys import KeySource, add_to_file, keep_first
from .record import Record, Transaction, installation_id
from .vectors import Progress

BATCH = 200


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
    """
    record.database.check_writable()
    installation = installation_id(record.database)
    if not _stale(record):
        if not source.is_file:
            raise ConfigurationError(
                "every data key is wrapped with the current key already; put the new key in front "
                "of the old one in HOLDFAST_MASTER_KEY (or in the key service), and rotate then"
            )
        add_to_file(source.path(installation))
    record.vault.wrapper = source.open(installation, is_new=False)
    stale = _stale(record)
    total = len(stale)
    before = ", ".join(sorted(set(stale.values())))
    fields = {"before": before, "after": record.vault.wrapper.current, "data_keys": total}
    event = None
    while event is None:
        left = list(_stale(record))
        event = record.transact(
            partial(_rewrap, names=left[:BATCH], left=left[BATCH:], said=fields)
        )
        if progress:
            progress(total - len(left[BATCH:]), total)
    if drop_old and source.is_file:
        keep_first(source.path(installation))
        record.vault.wrapper = source.open(installation, is_new=False)
    return event


def _stale(record: Record) -> dict[str, str]:
    with record.snapshot() as snapshot:
        return record.vault.stale(snapshot.connection)


def _rewrap(tx: Transaction, names: list[str], left: list[str], said: dict[str, Any]) -> str | None:
    """Wrap a batch; with the last one the rotation is recorded."""
    signing = ledger.signing_purposes(tx)
    for name in names:
        purpose = signing.get(name, vault.DATA)
        tx.vault.rewrap(tx.connection, name, purpose, purpose)
    return None if left else ledger.append(tx, "key.rotate", said)
