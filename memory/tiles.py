"""The ledger's tree in SQL: full tiles of 256 hashes, so that proofs read a few rows.

As in C2SP tlog-tiles: level 0 holds the hashes of leaves, each level above the roots of
the full tiles below. The last leaves, which fill no tile yet, are hashed when needed.
"""

from collections.abc import Iterator

from sqlalchemy import bindparam, insert, select, update

from .errors import DamagedError
from .merkle import HASH_SIZE, hash_leaf, root_of
from .published import TILE_WIDTH as WIDTH
from .record import Snapshot, Transaction
from .schema import ledger, tiles

HEIGHT = 8
"""Levels of the tree in one tile: 2**8 hashes."""

_TILE = select(tiles.c.hashes).where(
    tiles.c.tenant == bindparam("of"),
    tiles.c.level == bindparam("at"),
    tiles.c.number == bindparam("called"),
)
_LEAVES = (
    select(ledger.c.leaf)
    .where(
        ledger.c.tenant == bindparam("of"),
        ledger.c.position >= bindparam("first"),
        ledger.c.position < bindparam("end"),
    )
    .order_by(ledger.c.position)
)


def extend(tx: Transaction, size: int) -> None:
    """Keep the tile that the last of ``size`` leaves has filled, and what it fills above."""
    number, level = size // WIDTH - 1, 0
    hashes = leaf_hashes(tx, size - WIDTH, size)
    _write(tx, level, number, hashes)
    while len(hashes) == WIDTH:
        level, place, above = level + 1, number % WIDTH, number // WIDTH
        hashes = [*(_read(tx, level, above)[:place] if place else []), root_of(hashes)]
        _write(tx, level, above, hashes)
        number = above


def leaf_hashes(snapshot: Snapshot, first: int, end: int) -> list[bytes]:
    """Hash the leaves from ``first`` on, before ``end``.

    Raises:
        DamagedError: some are not there.
    """
    found = [hash_leaf(leaf) for leaf in leaves(snapshot, first, end)]
    if len(found) != end - first:
        raise DamagedError(
            f"leaves between {first} and {end} are missing from the ledger; see what was altered "
            "with: holdfast audit verify"
        )
    return found


def leaves(snapshot: Snapshot, first: int, end: int) -> Iterator[bytes]:
    """Read leaves in their order."""
    span = {"of": snapshot.tenant, "first": first, "end": end}
    yield from snapshot.connection.execute(_LEAVES, span).scalars()


class TileNodes:
    """Gives the nodes of a ledger's tree (``merkle.Nodes``), from tiles and the last leaves."""

    def __init__(self, snapshot: Snapshot, size: int) -> None:
        self._snapshot = snapshot
        self._size = size
        self._held: dict[tuple[int, int], list[bytes]] = {}

    def __call__(self, level: int, index: int) -> bytes:
        """Give the root of the full subtree of ``2**level`` leaves from ``index << level`` on."""
        tile_level, height = divmod(level, HEIGHT)
        first = index << height
        hashes = self._tile(tile_level, first // WIDTH)
        within = hashes[first % WIDTH : first % WIDTH + (1 << height)]
        if len(within) != 1 << height:
            raise DamagedError(
                f"tile {tile_level}/{first // WIDTH} of the ledger is cut off; see what was "
                "altered with: holdfast audit verify"
            )
        return root_of(within)

    def _tile(self, level: int, number: int) -> list[bytes]:
        held = self._held.get((level, number))
        if held is None:
            end = (number + 1) * WIDTH
            if level == 0 and end > self._size:
                held = leaf_hashes(self._snapshot, number * WIDTH, self._size)
            else:
                held = _read(self._snapshot, level, number)
            self._held[level, number] = held
        return held


def stored(snapshot: Snapshot) -> Iterator[tuple[int, int, bytes]]:
    """Read every tile: its level, its number, its hashes."""
    query = select(tiles.c.level, tiles.c.number, tiles.c.hashes)
    for row in snapshot.execute(query.where(tiles.c.tenant == snapshot.tenant)):
        yield row.level, row.number, row.hashes


def split(raw: bytes) -> list[bytes]:
    """Cut the bytes of a tile into hashes."""
    return [raw[i : i + HASH_SIZE] for i in range(0, len(raw), HASH_SIZE)]


def _read(snapshot: Snapshot, level: int, number: int) -> list[bytes]:
    row = snapshot.quick(_TILE, of=snapshot.tenant, at=level, called=number)
    if row is None:
        raise DamagedError(
            f"tile {level}/{number} of the ledger is missing; see what was altered with: "
            "holdfast audit verify"
        )
    return split(row[0])


def _write(tx: Transaction, level: int, number: int, hashes: list[bytes]) -> None:
    place = {"tenant": tx.tenant, "level": level, "number": number}
    joined = b"".join(hashes)
    if len(hashes) > 1 and level:
        where = [tiles.c[name] == value for name, value in place.items()]
        tx.execute(update(tiles).where(*where).values(hashes=joined))
    else:
        tx.execute(insert(tiles), [{**place, "hashes": joined}])
