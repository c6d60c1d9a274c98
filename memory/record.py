"""One tenant's record: what reads and what writes go through.

A ``Snapshot`` is one state of the record; a ``Transaction`` is one that may be changed,
and appends to the ledger (``ledger.append``) what it changes. All of it becomes durable
together, or none. Functions on statements, proposals and evidence take the one or the
other, and never commit.
"""

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sqlalchemy import Connection, Executable, select

from .database import Database
from .errors import DamagedError
from .keys import KeySource
from .schema import data_keys, installation
from .sealing import Sealer
from .vault import Vault

Result = TypeVar("Result")
_INSTALLATION = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One state of a tenant's record, on a connection."""

    connection: Connection
    tenant: str
    vault: Vault
    database: Database

    def quick(self, query: Executable, **parameters: Any) -> Sequence[Any] | None:
        """Run a module's constant statement the short way; give its first row."""
        return self.database.quick(self.connection, query, parameters)

    def quick_all(self, query: Executable, **parameters: Any) -> list[Sequence[Any]]:
        """Do the same; give all rows."""
        return self.database.quick_all(self.connection, query, parameters)

    def execute(self, query: Executable, rows: Sequence[Mapping[str, Any]] | None = None) -> Any:
        """Run a statement; give its result."""
        return self.connection.execute(query, rows)

    def sealer(self, data_key: str) -> Sealer:
        """Give the sealer of a data key."""
        return self.vault.sealer(self.connection, data_key)


@dataclass(frozen=True, slots=True)
class Transaction(Snapshot):
    """A state that is being changed."""

    record: "Record"

    def of(self, tenant: str) -> "Transaction":
        """Give the same transaction for another tenant of the database."""
        return replace(self, tenant=tenant)


class Record:
    """A tenant's statements, proposals and ledger in one database."""

    def __init__(self, database: Database, vault: Vault, tenant: str) -> None:
        self.database = database
        self.vault = vault
        self.tenant = tenant
        self.appended = False
        """Whether this process has added to the ledger."""

    @contextmanager
    def snapshot(self) -> Generator[Snapshot]:
        """Give one state, for reading."""
        with self.database.read() as connection:
            yield Snapshot(connection, self.tenant, self.vault, self.database)

    def transact(self, work: Callable[[Transaction], Result]) -> Result:
        """Run work that changes the record; give its result once that is durable.

        Whatever it raises undoes all of it. It may share the commit with other threads'
        work, and it may be run on another thread.
        """
        return self.database.transact(
            lambda connection: work(
                Transaction(connection, self.tenant, self.vault, self.database, self)
            )
        )


def installation_id(database: Database) -> str:
    """Give the name of the installation that a database belongs to.

    Raises:
        DamagedError: it is none.
    """
    with database.read() as connection:
        found = list(connection.execute(select(installation.c.id)).scalars())
    if len(found) == 1 and isinstance(found[0], str) and _INSTALLATION.fullmatch(found[0]):
        return found[0]
    raise DamagedError(
        f"the name of the installation in {database.place} was altered; restore the database "
        "from a backup"
    )


def open_vault(database: Database, source: KeySource) -> Vault:
    """Open the data keys of a database with the key of its installation.

    Raises:
        KeyUnavailableError: the key is missing, is another one, or is open to others;
            nothing was changed.
        DamagedError: the database names no installation.
    """
    name = installation_id(database)
    with database.read() as connection:
        some = connection.execute(select(data_keys.c.wrapped_by).limit(1)).scalar()
    vault = Vault(source.open(name, is_new=some is None and not database.read_only), name)
    if some is not None:
        vault.wrapper.check(some)
    return vault
