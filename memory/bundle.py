"""What is handed to an auditor: a bundle for one event, or the whole log as static tiles.

A bundle holds the event's leaf, its inclusion proof under a signed checkpoint, and those
of its fields that are to be seen, with their salts; of the others their digests. Of an
erased event it holds the erasure that names it. Everything that is handed out is checked
first by the very verifier that the auditor will run.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from . import ledger, merkle, tiles
from .canonical import Rejected
from .checkpoint import Checkpoint, VerifierKey, encode
from .errors import DamagedError, InvalidInputError, NotFoundError
from .leaf import field_digest, read_field
from .models import Evidence
from .published import TILE_WIDTH, tile_path
from .record import Snapshot
from .verifier import BUNDLE_FORMAT, PROOF_FORMAT, verify_bundle

Shown = Callable[[str], bool]
Progress = Callable[[int, int], None]


def build(
    snapshot: Snapshot,
    checkpoint: Checkpoint,
    key: VerifierKey,
    event: str,
    shown: Shown,
    *,
    corpora: Sequence[Sequence[str]] = (),
    since: Checkpoint | None = None,
) -> dict[str, Any]:
    """Make a bundle.

    Args:
        snapshot: the state in which the ledger is.
        checkpoint: under which the event is proved.
        key: of the log.
        event: its id.
        shown: tells of a field's name whether it is disclosed.
        corpora: for a retrieval, the rows that stand for what was scored, by subject.
        since: an earlier checkpoint; the bundle then shows that it is continued.

    Raises:
        NotFoundError: there is no such event, or none under the checkpoint.
        InvalidInputError: ``since`` is newer than the checkpoint.
        DamagedError: what the ledger holds does not verify.
    """
    found = ledger.entry(snapshot, event)
    entry = _entry(snapshot, checkpoint, found, shown)
    if corpora and "corpora" in _names(entry):
        entry["corpora"] = [list(rows) for rows in corpora]
    entries = [entry]
    if found.erased:
        erasure, field = _erasure_of(snapshot, event)
        entries.append(_entry(snapshot, checkpoint, erasure, lambda name: name == field))
    bundle: dict[str, Any] = {
        "format": BUNDLE_FORMAT,
        "key": str(key),
        "entries": entries,
    }
    if since is not None:
        if since.size > checkpoint.size:
            raise InvalidInputError(
                f"the checkpoint given has {since.size} leaves, and the last one signed here has "
                f"{checkpoint.size}; where none can be signed, leaves are missing: see what was "
                "altered with: holdfast audit verify"
            )
        nodes = tiles.TileNodes(snapshot, checkpoint.size)
        proof = merkle.consistency_proof(nodes, since.size, checkpoint.size)
        bundle["consistency"] = list(map(encode, proof))
    try:
        verify_bundle(bundle, key, since=since and since.note)
    except Rejected as error:
        raise DamagedError(
            f"what would be handed out does not verify ({error}); see what was altered with: "
            "holdfast audit verify"
        ) from None
    return bundle


def _entry(
    snapshot: Snapshot, checkpoint: Checkpoint, found: Evidence, shown: Shown
) -> dict[str, Any]:
    if found.index >= checkpoint.size:
        raise NotFoundError(
            f"{found.id} is not under a checkpoint yet; sign one with: holdfast audit checkpoint"
        )
    nodes = tiles.TileNodes(snapshot, checkpoint.size)
    proof = merkle.inclusion_proof(nodes, found.index, checkpoint.size)
    lines = [PROOF_FORMAT, f"index {found.index}", *map(encode, proof), "", checkpoint.note]
    entry: dict[str, Any] = {"leaf": found.leaf, "proof": "\n".join(lines)}
    if found.erased:
        return entry
    fields = [line.decode() for line in ledger.lines_of(snapshot, found.index, found.id)]
    named = [(read_field(line)[0], line) for line in fields]
    hidden = [line for name, line in named if not shown(name)]
    entry["disclosed"] = [line for name, line in named if shown(name)]
    entry["withheld"] = sorted(field_digest(line.encode()).hex() for line in hidden)
    return entry


def _names(entry: dict[str, Any]) -> set[str]:
    return {read_field(line)[0] for line in entry.get("disclosed", ())}


def _erasure_of(snapshot: Snapshot, event: str) -> tuple[Evidence, str]:
    """Find the erasure that names an event, and the field in which it does."""
    for erasure in ledger.entries(snapshot, types=["erasure"]):
        for name, value in erasure.payload.items():
            if name.startswith("events.") and event in value:
                return erasure, name
    raise DamagedError(
        f"the payload of {event} is missing, and no erasure names it; see what was altered with: "
        "holdfast audit verify"
    )


def write_tiles(
    snapshot: Snapshot, checkpoint: Checkpoint, folder: Path, progress: Progress | None = None
) -> None:
    """Write the log below a checkpoint as static files (C2SP tlog-tiles).

    Leaves name nobody and hold no texts, so the files can be published. Files that are
    there already are written over.

    Raises:
        InvalidInputError: they cannot be written there.
    """
    size = checkpoint.size
    try:
        for start in range(0, size, TILE_WIDTH):
            leaves = list(tiles.leaves(snapshot, start, min(start + TILE_WIDTH, size)))
            packed = b"".join(len(leaf).to_bytes(2) + leaf for leaf in leaves)
            _write(folder / tile_path("entries", start // TILE_WIDTH, len(leaves)), packed)
            if progress:
                progress(min(start + TILE_WIDTH, size), size)
        for level, number, hashes in _tiles(snapshot, size):
            path = tile_path(level, number, len(hashes))
            _write(folder / path, b"".join(hashes))
        _write(folder / "checkpoint", checkpoint.note.encode())
    except OSError as error:
        raise InvalidInputError(f"{folder} cannot be written: {error.strerror}") from None


def _tiles(snapshot: Snapshot, size: int) -> Iterator[tuple[int, int, list[bytes]]]:
    """Give every tile over ``size`` leaves, full and partial: level, number, hashes."""
    nodes = tiles.TileNodes(snapshot, size)
    level = 0
    while count := size >> tiles.HEIGHT * level:
        for number in range(-(-count // TILE_WIDTH)):
            places = range(number * TILE_WIDTH, min((number + 1) * TILE_WIDTH, count))
            yield level, number, [nodes(tiles.HEIGHT * level, place) for place in places]
        level += 1


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
