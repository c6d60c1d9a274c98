"""Whether a whole ledger holds, and the record with it. Reads everything, writes nothing.

Three things are computed anew and compared:

- the tree: every leaf, every tile, and the root at each checkpoint, those kept outside
  the database first of all;
- the payloads: each is the one whose hash and commitment stand in its leaf, or an erasure
  names it;
- the record: rows of statements, decisions, proposals, vectors, policies and subjects are
  what the events say, no more and no less (``reconciliation``).

So whoever edits the database is found out for all that lies under a checkpoint which they
could not reach.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Row, func, select

from . import ledger, tiles
from .canonical import Rejected, read_json
from .checkpoint import Checkpoint, VerifierKey, encode, read_checkpoint
from .errors import DamagedError, HoldfastError
from .leaf import LEAF_VERSION, Leaf, field_digest, payload_commit, read_leaf, write_leaf
from .ledger import Log
from .merkle import EMPTY_ROOT, Frontier, hash_leaf, root_of
from .models import Verification
from .reconciliation import TAKEN, UNREADABLE, Broken, Reconciliation
from .record import Record, Snapshot
from .schema import ledger as leaves
from .schema import ledgers, payloads, subject_events, subjects
from .sealing import Sealer
from .signer import Signer, public_key, stored

Progress = Callable[[int, int], None]
BATCH = 500
_NAME_AT = len('["","') + 44  # where a field's name begins, behind its salt in base64


@dataclass(frozen=True)
class Signed:
    """What a signer keeps outside the database of the ledger that stands in it."""

    name: str | None
    """Of the log; None: there is none."""
    kept: Checkpoint | None = None
    settled: Checkpoint | None = None
    folder: Path | None = None
    """Where checkpoints lie, if anything was ever signed for the installation."""
    problem: str | None = None
    """Why it cannot be read."""


def verify(
    record: Record,
    signer: Signer,
    given: str | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Check a tenant's ledger and record as they stand, also while both grow.

    What was signed is read first. Checkpoints only ever join those that are there, so it
    fits every state from then on, until the log starts over under another name.

    Args:
        record: whose.
        signer: knows the last checkpoint that was signed.
        given: a checkpoint that somebody has kept.
        progress: called with (leaves done, leaves in all).
    """
    try:
        while True:
            with record.snapshot() as earlier:
                signed = read_signed(earlier, signer)
            with record.snapshot() as snapshot:
                log = ledger.log(snapshot)
                if signed.name == (log and log.name):
                    return verify_state(snapshot, signed, given, progress)
    except DamagedError as error:  # the database itself cannot read a row
        return _failed("the database", str(error))


def read_signed(snapshot: Snapshot, signer: Signer) -> Signed:
    """Read what was signed of the ledger; what is checked with it is no earlier state."""
    log = ledger.log(snapshot)
    if log is None:
        return Signed(None, folder=signer.folder if signer.has_signed() else None)
    try:
        key = public_key(snapshot, log)
        return Signed(log.name, signer.kept(log, key), signer.settled(log, key))
    except (HoldfastError, *UNREADABLE) as error:
        return Signed(log.name, problem=str(error))


def verify_state(
    snapshot: Snapshot,
    signed: Signed,
    given: str | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Check one state of a tenant's ledger and record, as ``verify`` does."""
    log = ledger.log(snapshot)
    if log is None:
        return _verify_empty(snapshot, signed, given)
    if not isinstance(log.size, int):
        return _failed("the ledger", "how many leaves it has cannot be read")
    try:
        if signed.problem is not None:
            return _failed("checkpoint", signed.problem)
        key = public_key(snapshot, log)
        outside = [signed.kept] if signed.kept else []
        if given is not None:
            outside.append(read_checkpoint(given, key))
        settled, notes = signed.settled, dict(stored(snapshot, log))
        if settled and settled.size <= log.size and notes.get(settled.size) != settled.note:
            return _failed(
                f"the stored checkpoint of {settled.size} leaves",
                "it is missing; if you put a copy of the database back, sign it again with: "
                "holdfast audit checkpoint",
            )
    except (HoldfastError, *UNREADABLE) as error:
        return _failed("checkpoint", str(error))
    check = _Check(snapshot, log, key, outside)
    try:
        check.run(progress)
    except Broken as broken:
        return check.found(broken.where, broken.problem)
    except HoldfastError as error:
        return check.found("the ledger", str(error))
    except UNREADABLE as error:
        return check.found("the ledger", f"what is in the database cannot be read ({error})")
    return check.found()


def _verify_empty(snapshot: Snapshot, signed: Signed, given: str | None) -> Verification:
    """See that where there is no ledger there is nothing that one would have recorded."""
    problem = None
    held = (leaves, subjects)
    if any(
        snapshot.execute(select(table.c.tenant).where(table.c.tenant == snapshot.tenant)).first()
        for table in held
    ):
        problem = "it is missing, and what it recorded is there"
    elif given is not None:
        problem = "it is empty, and a checkpoint was kept of it"
    elif signed.folder and snapshot.execute(select(ledgers.c.tenant)).first() is None:
        problem = f"it is missing, and checkpoints of it are in {signed.folder}"
    return _failed("the ledger", problem) if problem else Verification(True, 0, encode(EMPTY_ROOT))


def _failed(where: str, problem: str) -> Verification:
    return Verification(False, 0, encode(EMPTY_ROOT), failed_at=where, problem=problem)


class _Check:
    """One run over a ledger."""

    def __init__(
        self, snapshot: Snapshot, log: Log, key: VerifierKey, outside: Sequence[Checkpoint]
    ) -> None:
        self._snapshot = snapshot
        self._log = log
        self._key = key
        self._outside = outside
        self._frontier = Frontier()
        self._erased = 0
        self._covered = 0
        self._roots: dict[int, list[bytes]] = {}
        self._edge: list[list[bytes]] = [[]]  # hashes that fill no tile yet, by level
        self._tiles: dict[tuple[int, int], bytes] = {}

    def found(self, where: str | None = None, problem: str | None = None) -> Verification:
        """Give the result."""
        return Verification(
            ok=problem is None,
            checked=self._frontier.size,
            root=encode(self._frontier.root()),
            erased=self._erased,
            covered=self._covered,
            outside=max((checkpoint.size for checkpoint in self._outside), default=0),
            failed_at=where,
            problem=problem,
        )

    def run(self, progress: Progress | None) -> None:
        """Read everything; raises ``Broken`` at the first thing that does not hold."""
        self._collect_roots()
        self._collect_tiles()
        self._erasures = self._collect_erasures()
        self._reconciliation = Reconciliation(self._snapshot)
        self._tenant_sealer = self._snapshot.sealer(self._log.data_key)
        size = self._log.size
        for row, about in self._rows():
            self._take_leaf(row, about)
            if progress and self._frontier.size % BATCH == 0:
                progress(self._frontier.size, max(size, self._frontier.size))
        self._check_end()
        self._reconciliation.finish()
        if progress:
            progress(size, size)

    # Before

    def _collect_roots(self) -> None:
        """Gather what is signed: the root for each size, those kept outside and those stored."""
        for size, note in stored(self._snapshot, self._log):
            try:
                checkpoint = read_checkpoint(note, self._key)
            except UNREADABLE as error:
                raise Broken(f"the stored checkpoint of {size} leaves", str(error)) from None
            if checkpoint.size != size:
                raise Broken(f"the stored checkpoint of {size} leaves", "it is of another size")
            self._roots.setdefault(size, []).append(checkpoint.root)
        for checkpoint in self._outside:
            self._roots.setdefault(checkpoint.size, []).append(checkpoint.root)

    def _collect_tiles(self) -> None:
        for level, number, raw in tiles.stored(self._snapshot):
            if not isinstance(raw, bytes):
                raise Broken(f"tile {level}/{number}", "it cannot be read")
            self._tiles[level, number] = raw

    def _collect_erasures(self) -> dict[str, int]:
        """Gather which events erasures name, and at which leaf the erasure stands."""
        query = (
            select(leaves.c.position, leaves.c.event, payloads.c.sealed)
            .join(payloads, (payloads.c.tenant == leaves.c.tenant)
                  & (payloads.c.position == leaves.c.position))
            .where(leaves.c.tenant == self._snapshot.tenant, leaves.c.type == "erasure")
        )  # fmt: skip
        named: dict[str, int] = {}
        sealer = self._snapshot.sealer(self._log.data_key)
        for row in self._snapshot.execute(query):
            try:
                lines = sealer.open(row.sealed, row.event).split(b"\n")
                for name, line in map(_named, lines):
                    if name.startswith("events."):
                        named |= dict.fromkeys(_value(line), row.position)
            except UNREADABLE as error:
                raise Broken(f"leaf {row.position}", f"it cannot be read ({error})") from None
        return named

    # One leaf

    def _rows(self) -> Iterator[tuple[Row[Any], list[Row[Any]]]]:
        """Read leaves with their payloads and what subjects they are about, in order."""
        of, here = self._snapshot.tenant, leaves.c
        both = (payloads.c.tenant == here.tenant) & (payloads.c.position == here.position)
        last = self._snapshot.execute(
            select(func.max(here.position)).where(here.tenant == of)
        ).scalar()
        for start in range(0, (last if isinstance(last, int) else -1) + 1, BATCH):
            span = (start, start + BATCH - 1)
            about: dict[int, list[Row[Any]]] = {}
            for row in self._snapshot.execute(
                select(subject_events)
                .where(subject_events.c.tenant == of, subject_events.c.position.between(*span))
                .order_by(subject_events.c.position, subject_events.c.place)
            ):
                about.setdefault(row.position, []).append(row)
            for row in self._snapshot.execute(
                select(leaves, payloads.c.sealed)
                .outerjoin(payloads, both)
                .where(here.tenant == of, here.position.between(*span))
                .order_by(here.position)
            ):
                yield row, about.pop(row.position, [])
            if about:
                raise Broken(f"leaf {min(about)}", "a subject is named for it, and it is missing")

    def _take_leaf(self, row: Row[Any], about: list[Row[Any]]) -> None:
        index = self._frontier.size
        where = f"leaf {index}"
        if row.position != index:
            raise Broken(where, "it is missing")
        try:
            leaf = _leaf(row.leaf)
            where = f"leaf {index} ({leaf.id})"
            if (leaf.id, leaf.type) != (row.event, row.type):
                raise Rejected("its row says another id or type than the leaf")
            self._take_payload(row, leaf, about)
        except KeyError as error:
            raise Broken(where, f"its payload has no field {error}") from None
        except (ValueError, TypeError, AttributeError, HoldfastError) as error:
            raise Broken(where, str(error)) from None
        self._edge[0].append(hash_leaf(row.leaf))
        self._frontier.push(self._edge[0][-1])
        self._compare_tiles()
        self._compare_root()

    def _take_payload(self, row: Row[Any], leaf: Leaf, named: list[Row[Any]]) -> None:
        index, by = row.position, self._erasures.get(leaf.id)
        about = [(each.subject_key, each.sequence) for each in named]
        if row.sealed is None:
            if by is None or by <= index:
                raise Rejected("its payload is missing, and no erasure names it")
            self._erased += 1
            self._reconciliation.link(about, leaf.id, None)
            return
        if by is not None:
            raise Rejected("it was erased, and its payload is there")
        if [each.place for each in named] != list(range(len(named))):
            raise Rejected("its subjects are not in their order")
        if hashlib.sha256(row.sealed).hexdigest() != leaf.sealed:
            raise Rejected("its payload is not the one that was recorded")
        keys = [self._reconciliation.sealer(subject) for subject, _ in about]
        sealer = Sealer.joint(keys or [self._tenant_sealer])
        lines = sealer.open(row.sealed, leaf.id).split(b"\n")
        if payload_commit([field_digest(line) for line in lines]) != leaf.commit:
            raise Rejected("its payload is not the one that the leaf commits to")
        wanted = lines if leaf.type in TAKEN else [line for line in lines if _links(line)]
        held = dict(map(_named, wanted))
        linked = ("subjects", "chain")
        said = tuple(_value(held[name]) if name in held else [] for name in linked)
        self._reconciliation.link(about, leaf.id, said)
        if leaf.type in TAKEN:
            fields = {name: _value(line) for name, line in held.items()}
            self._reconciliation.take(leaf.type, index, fields, about)

    def _compare_tiles(self) -> None:
        """Compare the tiles that the last leaf has filled with what is stored."""
        for level, row in enumerate(self._edge):
            if len(row) < tiles.WIDTH:
                return
            self._compare_tile(level, self._frontier.size // tiles.WIDTH ** (level + 1) - 1, row)
            if level + 1 == len(self._edge):
                self._edge.append([])
            self._edge[level + 1].append(root_of(row))
            self._edge[level] = []

    def _compare_tile(self, level: int, number: int, row: Sequence[bytes]) -> None:
        held = tiles.split(self._tiles.pop((level, number), b""))
        for place, node in enumerate(row):
            if held[place : place + 1] != [node]:
                first = (number * tiles.WIDTH + place) * tiles.WIDTH**level
                raise Broken(f"leaf {first}", "it is not the one in the tree's tiles")
        if len(held) > len(row):
            raise Broken(f"tile {level}/{number}", "it holds more than its leaves")

    def _compare_root(self) -> None:
        for root in self._roots.get(self._frontier.size, ()):
            if root != self._frontier.root():
                raise Broken(
                    f"the leaves before {self._frontier.size}",
                    f"they are not those that were signed; {self._covered} leaves before still are",
                )
            self._covered = self._frontier.size

    # After

    def _check_end(self) -> None:
        size, recorded = self._frontier.size, self._log.size
        if (signed := max(self._roots, default=0)) > size:
            raise Broken(
                f"leaf {size}",
                f"it is missing: {signed} leaves were signed, {size} are here; put the newer copy "
                "of the data back, or see: holdfast audit checkpoint --start-over REASON",
            )
        if size < recorded:
            raise Broken(f"leaf {size}", f"it is missing: {recorded} leaves were recorded")
        if size > recorded:
            raise Broken(f"leaf {recorded}", f"it is there, and {recorded} leaves were recorded")
        for level, row in enumerate(self._edge[1:], start=1):
            if row:
                self._compare_tile(level, size // tiles.WIDTH ** (level + 1), row)
        if self._tiles:
            level, number = next(iter(self._tiles))
            raise Broken(f"tile {level}/{number}", "it is over no leaves")
        for table in (payloads, subject_events):
            position = table.c.position
            stray = select(position).where(table.c.tenant == self._snapshot.tenant)
            count = self._snapshot.execute(stray.where((position < 0) | (position >= size))).first()
            if count is not None:
                raise Broken(f"leaf {size}", f"a row of {table.name} belongs to no leaf")


def _leaf(raw: bytes) -> Leaf:
    """Read a leaf; the longer way only where it is not what ``write_leaf`` writes."""
    value = read_json(raw.decode())
    with contextlib.suppress(TypeError, AttributeError, KeyError):
        if value.pop("v") == LEAF_VERSION and write_leaf(Leaf(**value)) == raw:
            return Leaf(**value)
    return read_leaf(raw.decode())


def _links(line: bytes) -> bool:
    """Tell whether a field says where an event stands among those of its subjects."""
    return line.startswith((b'chain"', b'subjects"'), _NAME_AT)


def _named(line: bytes) -> tuple[str, bytes]:
    """Give a field's name and its whole disclosure, without reading its value."""
    return line[_NAME_AT : line.index(b'"', _NAME_AT)].decode(), line


def _value(line: bytes) -> Any:
    return read_json(line.decode())[2]
