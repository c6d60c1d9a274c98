"""What an engine is made of, opened from settings: a database, a vector store, a directory.

On an error all of it is closed again. It knows nothing of what is done with it.
"""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..memory.chroma import ChromaVectors
from ..memory.database import Database
from ..memory.directory import DataDirectory
from .settings import Settings, data_path


@dataclass(frozen=True, slots=True)
class Parts:
    """What was opened."""

    database: Database
    chroma: ChromaVectors | None
    """None where it is read only."""
    directory: DataDirectory | None
    """None where it is not owned."""


def settled(path: str | Path | None, settings: Settings | None) -> Settings:
    """Give the settings for a path: those given, else those of the environment and the file."""
    settings = settings or Settings.load(path)
    if path is not None and data_path(path) != settings.data:
        settings = settings.model_copy(update={"data": data_path(path)})
    return settings


@contextmanager
def parts(settings: Settings, *, read_only: bool) -> Generator[Parts]:
    """Open the parts, and own the data directory unless it is only read.

    They stay open, unless the block ends with an error.
    """
    directory = DataDirectory(settings.data)
    with ExitStack() as undone:
        if read_only:
            url = settings.database_url or directory.read_only_uri()
            database = Database(url, place=str(directory.path), read_only=True)
            undone.callback(database.close)
            yield Parts(database, None, None)
        else:
            directory.acquire(settings.lock_timeout)
            undone.callback(directory.release)
            database = Database(
                settings.database_url or f"sqlite:///{directory.database}",
                place="the database server" if settings.database_url else str(directory.path),
            )
            undone.callback(database.close)
            chroma = ChromaVectors(folder=directory.chroma, url=settings.chroma_url)
            yield Parts(database, chroma, directory)
        undone.pop_all()
