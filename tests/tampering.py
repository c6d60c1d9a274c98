"""What somebody does to a database past Holdfast; tests import it as ``tampering``.

Without the installation's key rows can be overwritten, swapped and deleted (``sql``).
With it, what is sealed can be opened, changed and sealed again (``reword``,
``reseal_vector``, ``reseal_payload``), so that nothing looks damaged.
"""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from holdfast import Holdfast
from holdfast.memory import ledger, schema, store, vectors, versions
from holdfast.memory.canonical import canonical
from holdfast.memory.errors import DamagedError
from holdfast.memory.record import Snapshot
from holdfast.memory.sealing import Sealer
from holdfast.memory.store import Text


def sql(holdfast: Holdfast, statement: str, *values: Any) -> None:
    """Change rows past Holdfast; at least one must have been there."""
    connection = sqlite3.connect(holdfast.settings.data / "holdfast.db", timeout=10)
    with connection:
        assert connection.execute(statement, values).rowcount > 0
    connection.close()


def rows(holdfast: Holdfast, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Read rows past Holdfast."""
    connection = sqlite3.connect(holdfast.settings.data / "holdfast.db", timeout=10)
    found = connection.execute(query, values).fetchall()
    connection.close()
    return found


def dump(folder: Path) -> list[str]:
    """Write out every row of a data directory's database: what was written shows in it."""
    connection = sqlite3.connect(folder / "holdfast.db", timeout=10)
    found = list(connection.iterdump())
    connection.close()
    return found


def snapshot_of(holdfast: Holdfast) -> Any:
    """Open one state of the record, with the key."""
    return holdfast._record.snapshot()


def texts(holdfast: Holdfast) -> list[Text]:
    """Open the texts of all versions."""
    with snapshot_of(holdfast) as snapshot:
        keys = [key for owner in store.version_owners(snapshot) for key in owner.keys]
        return store.read_texts(snapshot, keys)


def key_of(holdfast: Holdfast, text: str) -> str:
    """Give the key of the one version that says ``text``."""
    (key,) = [each.key for each in texts(holdfast) if each.text == text]
    return key


def garble(holdfast: Holdfast, table: str, column: str, where: str, *values: Any) -> None:
    """Turn over one bit of what is sealed in rows: what somebody without the key can do."""
    for rowid, sealed in rows(
        holdfast,
        f"SELECT rowid, {column} FROM {table} WHERE {where}",
        *values,
    ):
        changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
        sql(holdfast, f"UPDATE {table} SET {column} = ? WHERE rowid = ?", changed, rowid)


def reword(holdfast: Holdfast, text: str, /, **said: Any) -> None:
    """Change what the version that says ``text`` says: its text, contexts, source or reason."""
    key = key_of(holdfast, text)
    with snapshot_of(holdfast) as snapshot:
        sealer = sealer_of_version(snapshot, key)
        found = select(schema.statements).where(schema.statements.c.key == key)
        body = versions.open_body(snapshot.execute(found).mappings().one(), sealer)
    sealed = versions.seal_body(sealer, key, body | said)
    sql(holdfast, "UPDATE statements SET body = ? WHERE key = ?", sealed, key)


def reseal_vector(holdfast: Holdfast, text: str, components: NDArray[np.int8]) -> None:
    """Put another vector, with its hash, beside the version that says ``text``."""
    key = key_of(holdfast, text)
    with snapshot_of(holdfast) as snapshot:
        sealer = sealer_of_version(snapshot, key)
    sealed = vectors._sealed(key, holdfast.embedder.digest, components.tobytes(), sealer)
    sql(
        holdfast,
        "UPDATE vectors SET components = ?, hash = ? WHERE statement_key = ?",
        *(sealed["components"], sealed["hash"], key),
    )


def reseal_payload(
    holdfast: Holdfast, event: str, change: Callable[[dict[str, Any]], object]
) -> None:
    """Change the fields of an event's payload in place; its leaf stays as it is."""
    with snapshot_of(holdfast) as snapshot:
        index = ledger.entry(snapshot, event).index
        lines = [json.loads(line) for line in ledger.lines_of(snapshot, index, event)]
        names = schema.subjects.c
        data_keys = [
            snapshot.execute(select(names.data_key).where(names.key == key)).scalar_one()
            for key in ledger.subject_keys(snapshot, index)
        ]
        sealer = Sealer.joint([snapshot.sealer(data_key) for data_key in data_keys])
    salts = {name: salt for salt, name, _ in lines}
    fields = {name: value for _, name, value in lines}
    change(fields)
    written = [canonical([salts[name], name, value]) for name, value in fields.items()]
    sealed = sealer.seal(b"\n".join(written), event)
    sql(holdfast, "UPDATE payloads SET sealed = ? WHERE position = ?", sealed, index)


def sealer_of_version(snapshot: Snapshot, key: str) -> Sealer:
    """Give the sealer of the subject that said a version."""
    data_key = (
        select(schema.subjects.c.data_key)
        .join(schema.statements, schema.statements.c.subject_key == schema.subjects.c.key)
        .where(schema.statements.c.key == key)
    )
    return snapshot.sealer(snapshot.execute(data_key).scalar_one())


def opened_vectors(holdfast: Holdfast) -> dict[tuple[str, str], tuple[bytes | None, bytes]]:
    """Open every vector in SQL: its components (None where they were altered) and its hash.

    Sealing the same twice gives other bytes, so this is how two states are compared.
    """
    found: dict[tuple[str, str], tuple[bytes | None, bytes]] = {}
    with snapshot_of(holdfast) as snapshot:
        for row in snapshot.execute(select(schema.vectors)).all():
            sealer = sealer_of_version(snapshot, row.statement_key)
            try:
                raw = vectors.opened(row, sealer).tobytes()
            except DamagedError:
                raw = None
            found[row.statement_key, row.embedder] = (raw, row.hash)
    return found
