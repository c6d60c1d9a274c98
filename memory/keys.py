"""The installation's key: where it comes from, and wrapping data keys with it.

It lies outside the data directory, so that a copy of the directory alone tells nothing:
in a file with mode 0600 (made when first needed), in ``HOLDFAST_MASTER_KEY``, or in a key
management service behind a hook. Several keys may be given: the first one wraps, the
others still unwrap what was wrapped with them before (see ``rotation``). It knows
nothing of subjects.
"""

import base64
import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from .directory import storage_error
from .errors import ConfigurationError, KeyUnavailableError
from .sealing import KEY_SIZE, Sealer

KEY_NAME = "installation.key"
_HEADER = "# Holdfast: the key of one installation. Without it nothing can be read: keep a copy.\n"


class Wrapper(Protocol):
    """What wraps data keys: the keys below, or a hook to a key management service."""

    @property
    def current(self) -> str:
        """Name of the key with which is wrapped from now on."""
        ...

    def check(self, key: str) -> None:
        """See that the key of this name is here.

        Raises:
            KeyUnavailableError: it is not; the message says what to do.
        """
        ...

    def wrap(self, data_key: bytes, context: str) -> bytes:
        """Wrap 32 bytes with the current key, bound to ``context``."""
        ...

    def unwrap(self, wrapped: bytes, key: str, context: str) -> bytes:
        """Undo ``wrap``.

        Args:
            wrapped: what ``wrap`` gave.
            key: the name of the key with which it was wrapped.
            context: as given to ``wrap``.

        Raises:
            KeyUnavailableError: that key is not here.
            DamagedError: this is not what was wrapped with it.
        """
        ...


class LocalKeys:
    """Keys of 32 bytes, the first one current; wraps with AES-256-GCM."""

    def __init__(self, keys: Sequence[bytes], place: str) -> None:
        """Keep the keys; ``place`` is what messages call where they came from."""
        self._keys = {key_name(key): Sealer(key) for key in keys}
        self.current = key_name(keys[0])
        self.place = place

    @property
    def names(self) -> list[str]:
        """The names of all keys, the current one first."""
        return list(self._keys)

    def check(self, key: str) -> None:
        """See that the key of this name is here."""
        if key not in self._keys:
            raise KeyUnavailableError(
                f"the data were sealed with the key {key}, and {self.place} holds "
                f"{', '.join(self._keys)}; put the right key back. Nothing was changed"
            )

    def wrap(self, data_key: bytes, context: str) -> bytes:
        """Wrap 32 bytes with the current key, bound to ``context``."""
        return self._keys[self.current].seal(data_key, context)

    def unwrap(self, wrapped: bytes, key: str, context: str) -> bytes:
        """Undo ``wrap``, with whichever key it was."""
        self.check(key)
        return self._keys[key].open(wrapped, context)


@dataclass(frozen=True)
class KeySource:
    """Where the key of an installation comes from, and where its signer keeps checkpoints."""

    folder: Path
    """In which each installation has a folder of its own, unless told otherwise below."""
    master_key: str | None = None
    """One or more keys, as ``HOLDFAST_MASTER_KEY`` has them."""
    hook: str | None = None
    """``package.module:attribute`` of a ``Wrapper``."""
    file: Path | None = None
    """A key file; None: one in the folder that the installation has for itself."""
    checkpoints: Path | None = None
    """Where the signer keeps what it signed last; None: beside the key."""

    @property
    def is_file(self) -> bool:
        """Whether the key lies in a file that is Holdfast's to write."""
        return not self.master_key and not self.hook

    def path(self, installation: str) -> Path:
        """Give the key file's path."""
        return self.file or self.folder / installation / KEY_NAME

    def checkpoint_folder(self, installation: str) -> Path:
        """Give the folder in which the signer keeps the last checkpoint of each log."""
        beside = self.file.parent if self.file else self.folder
        return (self.checkpoints or beside / "checkpoints") / installation

    def open(self, installation: str, *, is_new: bool) -> Wrapper:
        """Open the keys; for a new installation a key file is made.

        Raises:
            KeyUnavailableError: the key is missing, cannot be read, or is open to others.
        """
        if self.master_key:
            return from_text(self.master_key, "HOLDFAST_MASTER_KEY")
        if self.hook:
            return from_hook(self.hook)
        path = self.path(installation)
        if is_new and not path.exists():
            write_file(path, [secrets.token_bytes(KEY_SIZE)], replace=False)
        return from_file(path)


def key_name(key: bytes) -> str:
    """Name a key without telling it: 16 hexadecimal digits."""
    return hashlib.sha256(b"holdfast key\n" + key).hexdigest()[:16]


def from_text(text: str, place: str) -> LocalKeys:
    """Read keys from a text: one or more of 32 bytes in base64 or hexadecimal.

    They stand on lines, or apart by spaces or commas; what follows ``#`` is left out.

    Raises:
        KeyUnavailableError: there is none, or one is not 32 bytes.
    """
    return LocalKeys(_read(text, place), place)


def from_file(path: Path) -> LocalKeys:
    """Read a key file that is only its owner's to read.

    Raises:
        KeyUnavailableError: it is missing, others may read it, or it holds no key.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise KeyUnavailableError(
            f"the key file {path} is missing, and without it nothing here can be read; restore "
            "it from a copy, or name where it is with HOLDFAST_KEY_FILE. Nothing was changed"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise KeyUnavailableError(
            f"the key file {path} cannot be read ({why}); restore it from a copy"
        ) from None
    if os.name == "posix" and mode & 0o077:
        raise KeyUnavailableError(
            f"others may read the key file {path} (mode {mode:04o}); guard it with: "
            f"chmod 600 {path}"
        )
    return from_text(text, f"the key file {path}")


def from_hook(name: str) -> Wrapper:
    """Load a hook to a key management service.

    Args:
        name: ``package.module:attribute`` of an object that is a ``Wrapper``.

    Raises:
        ConfigurationError: there is no such object.
    """
    module, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"HOLDFAST_KEY_HOOK={name} cannot be loaded ({type(error).__name__}); write it like "
            "package.module:attribute, and see that the package is installed"
        ) from None
    if not all(hasattr(found, member) for member in ("current", "check", "wrap", "unwrap")):
        raise ConfigurationError(
            f"HOLDFAST_KEY_HOOK={name} needs the members current, check, wrap and unwrap"
        )
    return found


def write_file(path: Path, keys: Iterable[bytes], *, replace: bool = True) -> None:
    """Write a key file whole or not at all, durably, for its owner only.

    Args:
        path: where.
        keys: of 32 bytes, the current one first.
        replace: False leaves a file that is there as it is.

    Raises:
        StorageError: it cannot be written; what was there stays.
    """
    lines = [base64.b64encode(key).decode("ascii") + "\n" for key in keys]
    write_durably(path, _HEADER + "".join(lines), replace=replace)


def add_to_file(path: Path) -> None:
    """Put a new key in front of those in a key file; the others stay, to unwrap with."""
    held = _read(path.read_text(encoding="utf-8"), str(path))
    write_file(path, [secrets.token_bytes(KEY_SIZE), *held])


def keep_only(path: Path, name: str) -> None:
    """Take all keys but the one of this name out of a key file.

    Raises:
        KeyUnavailableError: it is not in the file, which stays as it is.
    """
    held = _read(path.read_text(encoding="utf-8"), str(path))
    kept = [key for key in held if key_name(key) == name]
    if not kept:
        raise KeyUnavailableError(
            f"the key {name}, with which the data are sealed now, is not in {path}; put it back. "
            "No key was dropped"
        )
    write_file(path, kept[:1])


def write_durably(path: Path, text: str, *, replace: bool = True) -> None:
    """Write a small private file so that it is whole on disk or as before.

    Raises:
        StorageError: it cannot be written.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        changed = [path.parent, *(each.parent for each in path.parents if not each.exists())]
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as f:
                f.write(text)
                f.flush()
                os.fsync(f.fileno())
            if replace:
                beside.replace(path)
            else:
                with contextlib.suppress(FileExistsError):
                    os.link(beside, path)
        finally:
            beside.unlink(missing_ok=True)
        for folder in changed:
            _sync_directory(folder)
    except OSError as error:
        raise storage_error(error, path.parent) from None


def _sync_directory(path: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(text: str, place: str) -> list[bytes]:
    lines = (line.partition("#")[0].replace(",", " ") for line in text.splitlines())
    keys = [_read_word(word, place) for line in lines for word in line.split()]
    if not keys:
        raise KeyUnavailableError(f"{place} holds no key; restore it from a copy")
    return keys


def _read_word(word: str, place: str) -> bytes:
    for decode in (bytes.fromhex, base64.b64decode):
        with contextlib.suppress(ValueError):
            key = decode(word)
            if len(key) == KEY_SIZE:
                return key
    raise KeyUnavailableError(
        f"{place} holds something that is no key of 32 bytes in base64 or hexadecimal; restore "
        "it from a copy (for new data: openssl rand -base64 32)"
    )
