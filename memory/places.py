"""Where an installation lies on this machine, and where its owner can be spoken to.

It imports next to nothing, so that a command which only speaks to a running server starts
at once.
"""

import json
import stat
from pathlib import Path
from typing import Any, cast

import platformdirs

OWNER_NAME = "owner.json"


def data_directory() -> Path:
    """Where the embedded default keeps its data, as the operating system wants it."""
    return Path(platformdirs.user_data_dir("holdfast", appauthor=False))


def config_directory() -> Path:
    """Where the installation's key and its last checkpoints lie, unless told otherwise."""
    return Path(platformdirs.user_config_dir("holdfast", appauthor=False))


def owner_of(directory: Path) -> dict[str, Any]:
    """Say who holds a data directory: ``pid``, and ``address`` if it can be spoken to.

    Whoever was killed is still named: it is never taken as the lock.
    """
    try:
        said = json.loads((directory / OWNER_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", said) if isinstance(said, dict) else {}


def owner_socket(directory: Path) -> Path | None:
    """Give the socket of a data directory's owner; None: it has none.

    It must belong to the user whose directory it is: others can write to the folder for
    temporary files, in which a socket lies whose path would be too long.
    """
    address = owner_of(directory).get("address")
    if not isinstance(address, str) or not address or "\0" in address:
        return None
    try:
        found = Path(address).lstat()
        whose = directory.stat().st_uid
    except OSError:
        return None
    return Path(address) if stat.S_ISSOCK(found.st_mode) and found.st_uid == whose else None
