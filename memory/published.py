"""Checks a whole log that was exported as static files (C2SP tlog-tiles).

Every leaf, every full tile and the root are compared. It needs the files and the log's
public key.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from .canonical import Rejected
from .checkpoint import Checkpoint, VerifierKey, read_checkpoint
from .leaf import read_leaf
from .merkle import Frontier, hash_leaf, root_of

TILE_WIDTH = 256
Progress = Callable[[int, int], None]


class Unreadable(Rejected):
    """A file cannot be read: where a caller named it, that is no verdict."""


def verify_tiles(
    folder: Path, key: VerifierKey, *, since: str | None = None, progress: Progress | None = None
) -> Checkpoint:
    """Check a log that was exported as tiles: every leaf, every full tile, and the root.

    Args:
        folder: holds ``checkpoint`` and ``tile/``.
        key: the log's.
        since: a checkpoint that the auditor has kept.
        progress: called with (leaves done, leaves in all).

    Raises:
        Rejected: something does not hold; the message names the leaf or the file.
    """
    checkpoint = read_checkpoint(read_text(folder / "checkpoint"), key)
    roots = {checkpoint.size: checkpoint.root}
    if since is not None:
        before = read_checkpoint(since, key)
        if before.size > checkpoint.size:
            raise Rejected(f"the log ends before the {before.size} leaves of the kept checkpoint")
        if roots.setdefault(before.size, before.root) != before.root:
            raise Rejected("the log is not the one of the kept checkpoint")
    frontier = Frontier()
    rows: list[list[bytes]] = [[]]
    _check_root(frontier, roots)
    for leaf in _entries(folder, checkpoint.size):
        try:
            read_leaf(leaf.decode())
        except ValueError as error:
            raise Rejected(f"leaf {frontier.size}: {error}") from None
        rows[0].append(hash_leaf(leaf))
        frontier.push(rows[0][-1])
        _check_full_tiles(folder, rows, frontier.size)
        _check_root(frontier, roots)
        if progress and (frontier.size % 1024 == 0 or frontier.size == checkpoint.size):
            progress(frontier.size, checkpoint.size)
    return checkpoint


def _check_root(frontier: Frontier, roots: Mapping[int, bytes]) -> None:
    if frontier.size in roots and frontier.root() != roots[frontier.size]:
        raise Rejected(f"the first {frontier.size} leaves are not those of the checkpoint")


def _check_full_tiles(folder: Path, rows: list[list[bytes]], size: int) -> None:
    """Compare each tile that has just become full with the hashes below it."""
    for level, row in enumerate(rows):
        if len(row) < TILE_WIDTH:
            return
        path = tile_path(level, size // TILE_WIDTH ** (level + 1) - 1)
        if read_bytes(folder / path) != b"".join(row):
            raise Rejected(f"{path} does not hold the hashes below it")
        if level + 1 == len(rows):
            rows.append([])
        rows[level + 1].append(root_of(row))
        rows[level] = []


def _entries(folder: Path, size: int) -> Iterator[bytes]:
    for start in range(0, size, TILE_WIDTH):
        width = min(TILE_WIDTH, size - start)
        path = tile_path("entries", start // TILE_WIDTH, width)
        rest = read_bytes(folder / path)
        for _ in range(width):
            end = 2 + int.from_bytes(rest[:2])
            if len(rest) < end:
                raise Rejected(f"{path} is cut off")
            yield rest[2:end]
            rest = rest[end:]
        if rest:
            raise Rejected(f"{path} holds more than its leaves")


def tile_path(level: int | str, number: int, width: int | None = None) -> str:
    """Give the path of a tile, or of a bundle of ``entries``; partial with a smaller width."""
    parts = [f"{number % 1000:03d}"]
    while number >= 1000:
        number //= 1000
        parts.insert(0, f"x{number % 1000:03d}")
    return f"tile/{level}/{'/'.join(parts)}" + (
        "" if width in (None, TILE_WIDTH) else f".p/{width}"
    )


def read_bytes(path: Path) -> bytes:
    """Read a file, or raise ``Unreadable``."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror}") from None


def read_text(path: Path) -> str:
    """Read a file of UTF-8 text, or raise ``Unreadable`` or ``Rejected``."""
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError:
        raise Rejected(f"{path} is no UTF-8 text") from None
