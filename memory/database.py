"""The SQL database under everything: opening, migrating, transactions.

SQLite in the data directory by default (write-ahead log, every commit synced),
PostgreSQL by setting. It knows no table's meaning. Callers get a connection inside
a transaction and never commit themselves.
"""

import sqlite3
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import (
    Connection,
    Engine,
    Executable,
    Insert,
    NullPool,
    QueuePool,
    Table,
    create_engine,
    event,
    text,
)
from sqlalchemy.exc import DatabaseError, OperationalError, SQLAlchemyError

from .commits import GroupCommit
from .directory import storage_error
from .errors import (
    ConfigurationError,
    DamagedError,
    HoldfastError,
    LockedError,
    NewerVersionError,
    ReadOnlyError,
    StorageError,
)

SCHEMA_VERSION = "0003"
MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT = 5_000  # milliseconds
ONE_WRITER = 7_205_759_403_792_794
"""The advisory lock of PostgreSQL that every writing transaction takes, as SQLite's do."""

Result = TypeVar("Result")


class Database:
    """A pool of connections, and the transactions on them."""

    def __init__(self, url: str, *, place: str, read_only: bool = False) -> None:
        """Open the database and bring its schema up to date.

        Args:
            url: an SQLAlchemy URL, or for SQLite read-only a ``file:`` URI.
            place: what error messages call it (a path, never a URL with a password).
            read_only: neither migrate nor write.

        Raises:
            StorageError: it cannot be opened, is damaged, or is from a newer version.
        """
        self.place = place
        self.read_only = read_only
        self._writing = threading.Lock()
        self._commits = GroupCommit(self.write)
        self.engine = _create_engine(url, read_only)
        self._compiled: dict[int, tuple[str, Sequence[str]]] = {}  # by id: module constants
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        try:
            self._migrate()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Finish what waits and close every connection; SQLite then folds its log back."""
        self._commits.close()
        self.engine.dispose()

    @contextmanager
    def read(self) -> Generator[Connection]:
        """Give a connection on which all reads see one state."""
        with self._translated(), self.engine.connect() as connection:
            if not self.is_sqlite:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    def glance(self, query: Executable, parameters: Mapping[str, Any]) -> Sequence[Any] | None:
        """Read one row by the shortest way: what every request needs.

        The query is compiled once and run on the driver's own cursor; a quarter of what
        ``read`` costs.
        """
        sql, values = self._bound(query, parameters)
        try:
            connection = self.engine.raw_connection()
            try:
                cursor = connection.cursor()
                cursor.execute(sql, values)
                return cursor.fetchone()
            finally:
                connection.close()
        except (SQLAlchemyError, self._driver_error):
            with self.read() as ordinary:  # it tells what is wrong, in our words
                return ordinary.execute(query, parameters).first()

    def quick(
        self, connection: Connection, query: Executable, parameters: Mapping[str, Any]
    ) -> Sequence[Any] | None:
        """Run a statement by the shortest way inside a transaction; give its first row.

        The statement is a module's constant, compiled once and run on the driver's own
        cursor: what every append to the ledger needs.
        """
        cursor = self._ran(connection, query, parameters)
        return cursor.fetchone() if cursor.description else None

    def quick_all(
        self, connection: Connection, query: Executable, parameters: Mapping[str, Any]
    ) -> list[Sequence[Any]]:
        """Run a statement as ``quick`` does; give all its rows."""
        return self._ran(connection, query, parameters).fetchall()

    def _ran(self, connection: Connection, query: Executable, parameters: Mapping[str, Any]) -> Any:
        sql, values = self._bound(query, parameters)
        if not connection.in_transaction():
            connection.begin()  # past SQLAlchemy, which would begin one by itself
        driver: Any = connection.connection.driver_connection
        return driver.execute(sql, values)

    def _bound(self, query: Executable, parameters: Mapping[str, Any]) -> tuple[str, Any]:
        found = self._compiled.get(id(query))
        if found is None:
            compiled: Any = cast("Any", query).compile(dialect=self.engine.dialect)
            found = (str(compiled), tuple(compiled.positiontup or ()))
            self._compiled[id(query)] = found
        sql, names = found
        return sql, [parameters[name] for name in names] if names else dict(parameters)

    @property
    def _driver_error(self) -> type[Exception]:
        return self.engine.dialect.loaded_dbapi.Error

    def transact(self, work: Callable[[Connection], Result]) -> Result:
        """Run work in a transaction that it may share with other threads' (``commits``).

        Returns:
            What it gives, once that is durable.
        """
        self.check_writable()
        with self._translated():
            return self._commits.run(work)

    @contextmanager
    def write(self) -> Generator[Connection]:
        """Give a connection whose changes are durable when the block ends, or undone.

        Writers of one process take turns here rather than in SQLite's busy loop.
        """
        self.check_writable()
        with self._writing, self._translated(), self.engine.connect() as connection:
            if self.is_sqlite:
                connection = connection.execution_options(immediate=True)
            with connection.begin():
                if not self.is_sqlite:
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ONE_WRITER})")
                yield connection

    def purge(self) -> None:
        """Write the database anew, so that nothing that was deleted is left in its files.

        SQLite overwrites what it deletes (``secure_delete``); copies of old pages lie in the
        write-ahead log and in free space until this has run. It takes as long as copying
        the file. On PostgreSQL, what VACUUM FULL and the server's own log retention do is
        the operator's.

        Raises:
            LockedError: another process is reading and keeps the log from being emptied.
        """
        with self._writing, self._translated(), self.engine.connect() as connection:
            if not self.is_sqlite:
                return
            driver: Any = connection.connection.driver_connection
            self._empty_log(driver)
            driver.execute("VACUUM")
            self._empty_log(driver)

    def _empty_log(self, driver: Any) -> None:
        if driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise LockedError(
                f"another process reads {self.place} and keeps what was deleted in its log; "
                "end that process, then finish with: holdfast doctor"
            )

    def check_writable(self) -> None:
        """Refuse where it was opened read-only.

        Raises:
            ReadOnlyError: it was.
        """
        if self.read_only:
            raise ReadOnlyError(
                f"{self.place} was opened read-only; open it without read_only to change it"
            )

    def check(self) -> list[str]:
        """Ask SQLite whether its file is sound; give what it finds wrong."""
        if not self.is_sqlite:
            return []
        try:
            with self.read() as connection:
                rows = connection.execute(text("PRAGMA integrity_check")).scalars().all()
                loose = connection.execute(text("PRAGMA foreign_key_check")).all()
        except DamagedError as error:
            return [str(error)]
        return [row for row in rows if row != "ok"] + [
            f"a row of {row[0]} has lost the row of {row[2]} that it needs" for row in loose
        ]

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except HoldfastError:
            raise
        except OperationalError as error:
            if self.is_sqlite:
                raise storage_error(error, self.place) from None
            raise StorageError(
                f"{self.place} does not answer or refuses ({type(error).__name__}); see that it "
                "runs and has space, and that HOLDFAST_DATABASE_URL names a user who may write"
            ) from None
        except DatabaseError as error:
            if self.is_sqlite and isinstance(error.orig, sqlite3.DatabaseError):
                raise DamagedError(
                    f"the database in {self.place} is damaged ({type(error.orig).__name__}); "
                    "restore it from a backup"
                ) from None
            raise StorageError(
                f"the database {self.place} failed: {type(error).__name__}"
            ) from None
        except sqlite3.DatabaseError as error:  # from ``quick``, past SQLAlchemy
            if isinstance(error, sqlite3.OperationalError):
                raise storage_error(error, self.place) from None
            raise DamagedError(
                f"the database in {self.place} is damaged ({type(error).__name__}); "
                "restore it from a backup"
            ) from None
        except (SQLAlchemyError, self._driver_error) as error:
            raise StorageError(
                f"the database {self.place} failed: {type(error).__name__}"
            ) from None

    def _migrate(self) -> None:
        with self.read() as connection:
            found = _schema_version(connection)
        if found == SCHEMA_VERSION:
            return
        if found is not None and found > SCHEMA_VERSION:
            raise NewerVersionError(
                f"{self.place} was written by a newer Holdfast (schema {found}, this one knows "
                f"{SCHEMA_VERSION}); upgrade with: pip install --upgrade holdfast"
            )
        if self.read_only:
            raise StorageError(
                f"{self.place} is from an older Holdfast; open it once for writing to migrate it"
            )
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        with self.write() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def insert_missing(connection: Connection, table: Table) -> Insert:
    """Begin an INSERT that leaves things as they are where a row with its key is there."""
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert
    else:
        from sqlalchemy.dialects.postgresql import insert
    return insert(table).on_conflict_do_nothing()


def _schema_version(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _create_engine(url: str, read_only: bool) -> Engine:
    if url.startswith("file:"):
        return _sqlite_engine(url, read_only)
    if url.startswith("sqlite"):
        return _sqlite_engine(url.partition("///")[2], read_only)
    try:
        return create_engine(url, hide_parameters=True, pool_pre_ping=True)
    except ModuleNotFoundError:
        raise ConfigurationError(
            "the database URL needs a driver: pip install 'holdfast[postgresql]' "
            "and write the URL as postgresql+psycopg://…"
        ) from None
    except SQLAlchemyError:
        raise ConfigurationError(
            "HOLDFAST_DATABASE_URL is no database URL; write it like "
            "postgresql+psycopg://user:password@host/name"
        ) from None


def _sqlite_engine(path: str, read_only: bool) -> Engine:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            path,
            uri=path.startswith("file:"),
            timeout=BUSY_TIMEOUT / 1000,
            isolation_level=None,  # transactions are begun below, by name
            check_same_thread=False,
        )
        cursor = connection.cursor()
        if not read_only:
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = FULL")
            cursor.execute("PRAGMA secure_delete = ON")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()
        return connection

    engine = create_engine(
        "sqlite://",
        creator=connect,
        poolclass=NullPool if read_only else QueuePool,
        hide_parameters=True,
    )

    def begin(connection: Connection) -> None:
        options: Mapping[str, Any] = connection.get_execution_options()
        connection.exec_driver_sql("BEGIN IMMEDIATE" if "immediate" in options else "BEGIN")

    event.listen(engine, "begin", begin)
    return engine
