"""Chroma, the vector store: vectors by key in collections; the only importer of chromadb.

Chroma keeps float32. In l2 space int8 components come back exact (in cosine space it
normalises them again). Vectors are fetched by key only; nothing here ranks, and no text
or name of a subject is handed over. Tenants and subjects are spread by hash over a fixed
number of collections for each embedder.
"""

import contextlib
import hashlib
import math
import os
import shutil
import sqlite3
import struct
import threading
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from .directory import FULL, known_storage_error, storage_error
from .errors import ConfigurationError, HoldfastError, StorageError, StorageFullError

Int8 = NDArray[np.int8]

COLLECTIONS = 6
"""Collections for each embedder: each costs about 2.6 MB and 4 file handles while it is
open; erasing a subject rebuilds one of them."""
INDEX = {"space": "l2", "max_neighbors": 8, "ef_construction": 32}
"""A light graph: vectors are fetched by key, and scored exactly elsewhere."""
PATIENCE = 60.0
"""Seconds to wait for an answer of a Chroma server."""
MOST_ROWS = 5_000
"""Rows sent to Chroma at once; it takes at most 5,461."""

GRAIN = 50_000_000
"""Nanoseconds within which two writes of a file may bear the same time."""
LEAST_SPACE = 1 << 20
"""Bytes free below which a failure of Chroma is taken for a full disk."""


class ChromaVectors:
    """Chroma, embedded in a folder or as a server, opened when first used."""

    def __init__(self, *, folder: Path | None = None, url: str | None = None) -> None:
        self._folder = folder
        self._url = url
        self._client: Any = None
        self._collections: dict[str, Any] = {}
        self._opening = threading.Lock()
        self._use = _Use()
        self._cleared: dict[Path, int] = {}

    @property
    def place(self) -> str:
        """What error messages call it."""
        return str(self._folder) if self._url is None else "the Chroma server"

    def put(
        self, embedder: str, tenant: str, subject: str, keys: Sequence[str], matrix: Int8
    ) -> None:
        """Write vectors under their keys.

        Raises:
            StorageError: Chroma cannot be written to.
        """
        with self._guarded():
            collection = self._collection(collection_name(embedder, tenant, subject), create=True)
            for start in range(0, len(keys), MOST_ROWS):
                part = slice(start, start + MOST_ROWS)
                collection.upsert(ids=list(keys[part]), embeddings=matrix[part].astype(np.float32))

    def get(self, embedder: str, tenant: str, subject: str, keys: Sequence[str]) -> dict[str, Int8]:
        """Read vectors by key; those that Chroma lacks, or holds as no int8, are left out.

        Raises:
            StorageError: Chroma cannot be read.
        """
        result: dict[str, Int8] = {}
        with self._guarded():
            collection = self._collection(collection_name(embedder, tenant, subject), create=False)
            if collection is None:
                return result
            for part in parts_of(keys, MOST_ROWS):
                got = collection.get(ids=part, include=["embeddings"])
                rows = np.asarray(got["embeddings"], dtype=np.float32)
                with np.errstate(invalid="ignore"):
                    matrix = rows.astype(np.int8)
                whole = (matrix == rows).all(axis=-1)
                result.update((key, matrix[i]) for i, key in enumerate(got["ids"]) if whole[i])
        return result

    def keys_by_collection(self) -> Generator[tuple[str, list[str]]]:
        """List every collection of Holdfast and the keys in it."""
        with self._guarded():
            names = sorted(
                c.name for c in self._open().list_collections() if c.name.startswith("holdfast-")
            )
        for name in names:
            with self._guarded():
                collection = self._open().get_collection(name, embedding_function=None)
                keys = list(collection.get(include=[])["ids"])
            yield name, keys

    def delete(self, collection_name: str, keys: Sequence[str]) -> None:
        """Remove vectors from a collection."""
        with self._guarded():
            collection = self._open().get_collection(collection_name, embedding_function=None)
            for part in parts_of(keys, MOST_ROWS):
                collection.delete(ids=part)

    @contextlib.contextmanager
    def alone(self) -> Generator[None]:
        """Keep other threads from the store: they wait until this is over."""
        with self._use.alone():
            yield

    def drop(self, names: Sequence[str]) -> None:
        """Remove whole collections; one that is not there is left out."""
        with self._guarded():
            client = self._open()
            there = {collection.name for collection in client.list_collections()}
            for name in there.intersection(names):
                self._collections.pop(name, None)
                client.delete_collection(name)

    def purge(self) -> bool:
        """Remove from the files what was deleted, which Chroma leaves there.

        Its queue, its free pages and the index of a collection keep vectors after they
        were deleted. The client is closed for it and opens again when it is used.

        Returns:
            Whether that could be done; a server's files are its operator's.

        Raises:
            StorageError: a file cannot be written, or an index was cut off by a crash.
        """
        if self._folder is None:
            self.close()
            return False
        with self.alone():
            self.close()
            shutil.rmtree(self._aside, ignore_errors=True)
            database = self._folder / "chroma.sqlite3"
            if database.exists():
                try:
                    self._purge_files(self._folder, database)
                except (sqlite3.Error, OSError, struct.error) as error:
                    raise storage_error(error, self.place) from None
        return True

    @staticmethod
    def _purge_files(folder: Path, database: Path) -> None:
        connection = sqlite3.connect(database, isolation_level=None)
        try:
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute(
                "DELETE FROM embeddings_queue WHERE NOT EXISTS (SELECT 1 FROM collections "
                "WHERE embeddings_queue.topic LIKE '%/' || collections.id)"
            )
            used = {row[0] for row in connection.execute("SELECT id FROM segments")}
            connection.execute("VACUUM")
        finally:
            connection.close()
        for index in folder.iterdir():
            if index.is_dir() and index.name not in used:
                shutil.rmtree(index)
            elif index.is_dir():
                _clear_unused(index)

    @property
    def _aside(self) -> Path:
        assert self._folder is not None
        return self._folder.with_name(f"{self._folder.name}.damaged")

    def start_over(self) -> bool:
        """Put a damaged folder aside and begin an empty one, to be filled from SQL.

        Returns:
            Whether that could be done; a server's data is its operator's to mend.
        """
        if self._folder is None:
            self.close()
            return False
        with self.alone():
            self.close()
            if self._folder.exists():
                shutil.rmtree(self._aside, ignore_errors=True)
                self._folder.rename(self._aside)
        return True

    def open(self) -> None:
        """Import and open Chroma now rather than at first use."""
        with self._use.shared():
            self._open()

    def warm_up(self) -> None:
        """Open beside the loading of the model; what fails here is told at first use."""
        try:
            self.open()
        except Exception:
            self.close()

    def close(self) -> None:
        """Close the client and what it holds open, once no other thread works with it."""
        with self.alone():
            self._let_go()

    def _let_go(self) -> None:
        with self._opening:
            client, self._client = self._client, None
            self._collections = {}
            if client is not None:
                with contextlib.suppress(Exception):
                    client.close()
                    if self._url is not None:
                        _hang_up(client)

    def _open(self) -> Any:
        self._notice_loss()
        with self._opening:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> Any:
        import chromadb
        from chromadb.config import Settings

        settings = Settings(anonymized_telemetry=False)
        if self._url is None:
            assert self._folder is not None
            try:
                return chromadb.PersistentClient(str(self._folder), settings=settings)
            except BaseException:
                _forget_failed_start(str(self._folder))
                raise
        try:
            parts = urlsplit(self._url)
            port = parts.port
        except ValueError:  # no port, or no address, is written like that
            parts, port = urlsplit(""), None
        secure = parts.scheme == "https"
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError("HOLDFAST_CHROMA_URL must be like http://localhost:8000")
        port = port or (443 if secure else 8000)
        client: Any = chromadb.HttpClient(parts.hostname, port, ssl=secure, settings=settings)
        client._server._session.timeout = PATIENCE  # Chroma's own client waits for ever
        return client

    def _collection(self, name: str, *, create: bool) -> Any:
        self._notice_loss()
        if name not in self._collections:
            client = self._open()
            if create:
                self._collections[name] = client.get_or_create_collection(
                    name, embedding_function=None, configuration={"hnsw": INDEX}
                )
            else:
                from chromadb.errors import NotFoundError

                try:
                    self._collections[name] = client.get_collection(name, embedding_function=None)
                except NotFoundError:
                    return None
        return self._collections[name]

    def _notice_loss(self) -> None:
        """Let go of a folder that was deleted under the open client, which would not notice."""
        if self._client is None or self._folder is None:
            return
        if not (self._folder / "chroma.sqlite3").exists():
            self._let_go()

    def _clear_written(self) -> None:
        """Clear the unused room of the index files that Chroma has just written.

        It writes the whole room that it reserves, with whatever that memory held before:
        words of a subject that was erased, for one.
        """
        if self._folder is None or _written(self._folder) == self._cleared:
            return
        with self.alone():
            for index, written in _written(self._folder).items():
                if self._cleared.get(index) != written:
                    with contextlib.suppress(struct.error):  # cut off: Chroma will fail on it
                        _clear_unused(index)
            self._cleared = _written(self._folder, settled=time.time_ns() - GRAIN)

    def _has_no_space(self) -> bool:
        try:
            return self._folder is not None and shutil.disk_usage(self._folder).free < LEAST_SPACE
        except OSError:
            return False

    @contextlib.contextmanager
    def _guarded(self) -> Generator[None]:
        """Turn whatever Chroma raises into a StorageError, and open it anew next time."""
        try:
            with self._use.shared():
                yield
            self._clear_written()
        except HoldfastError:
            raise
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            self.close()
            if self._has_no_space():  # Chroma often says only that a step failed
                raise StorageFullError(FULL.format(path=self.place)) from None
            if known := known_storage_error(error, self.place):
                raise known from None
            where = f"in {self.place}" if self._url is None else "on the server"
            fix = "" if self._url is None else "see that HOLDFAST_CHROMA_URL names it and it runs, "
            raise StorageError(
                f"the vector store {where} failed ({type(error).__name__}); what was "
                f"acknowledged is safe in the database; {fix}mend the store with: holdfast doctor"
            ) from None


class _Use:
    """Many threads may use the store at once, or one may have it alone.

    The one that has it alone may use it too. One that uses it never asks for more.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._users = 0
        self._owner: int | None = None
        self._depth = 0

    @contextlib.contextmanager
    def shared(self) -> Generator[None]:
        if self._owner == threading.get_ident():
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: self._owner is None)
            self._users += 1
        try:
            yield
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def alone(self) -> Generator[None]:
        own = threading.get_ident()
        with self._changed:
            if self._owner != own:
                self._changed.wait_for(lambda: self._owner is None)
                self._owner = own  # from here on nobody new comes in
            self._depth += 1
        try:
            with self._changed:
                self._changed.wait_for(lambda: not self._users)
            yield
        finally:
            with self._changed:
                self._depth -= 1
                if not self._depth:
                    self._owner = None
                    self._changed.notify_all()


def _written(folder: Path, settled: float = math.inf) -> dict[Path, int]:
    """Tell when each index was last written, in ns; none that was later than ``settled``."""
    times = {links.parent: links.stat().st_mtime_ns for links in folder.glob("*/length.bin")}
    return {index: written for index, written in times.items() if written <= settled}


def _clear_unused(index: Path) -> None:
    """Overwrite the room in an index's files that no element uses (hnswlib's format)."""
    header, rows, links = (index / f"{n}.bin" for n in ("header", "data_level0", "length"))
    if not header.exists():
        return
    _, room, used, size = struct.unpack_from("<4xQQQQ", header.read_bytes())
    for path, width in ((rows, size), (links, 4)):
        if path.stat().st_size != room * width:
            continue  # of another version: nothing is known of it
        with path.open("r+b") as file:
            file.seek(used * width)
            if file.read().strip(b"\0"):
                file.seek(used * width)
                file.write(bytes((room - used) * width))
                file.flush()
                os.fsync(file.fileno())


def _hang_up(client: Any) -> None:
    """Close the connections of a client to a server, which Chroma leaves open."""
    for each in (client, client._admin_client):
        each._server._session.close()


def _forget_failed_start(folder: str) -> None:
    """Take back what Chroma keeps of a folder that it failed to open.

    It would hand the same half-started system to every later client of this process.
    """
    from chromadb.api.shared_system_client import SharedSystemClient

    shared: Any = SharedSystemClient
    shared._identifier_to_system.pop(folder, None)


def collection_name(embedder: str, tenant: str, subject: str) -> str:
    """Tell which collection holds a subject's vectors of an embedder."""
    number = hashlib.sha256(f"{tenant}\0{subject}".encode()).digest()[0] % COLLECTIONS
    return f"holdfast-{embedder[:16]}-{number:02d}"


def parts_of(keys: Sequence[str], size: int) -> Generator[list[str]]:
    """Cut keys into lists of at most ``size``."""
    for start in range(0, len(keys), size):
        yield list(keys[start : start + size])
