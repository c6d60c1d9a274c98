"""Signs checkpoints, and never two that contradict each other.

The last checkpoint that was signed is kept in a file beside the installation's key,
outside the data directory. Before the next one is signed, the ledger must still begin
with it: an older copy of the database that was put back, or one that was rewritten, is
refused, since signing it would fork the log. The new root is computed from the leaves
themselves, on top of what was signed before.
"""

from pathlib import Path

from sqlalchemy import insert, select, update

from . import ledger, merkle, tiles
from .canonical import Rejected
from .checkpoint import Checkpoint, VerifierKey, read_checkpoint, sign, verifier_key
from .directory import held, storage_error
from .errors import DamagedError, ForkError, InvalidInputError
from .keys import write_durably
from .ledger import Log
from .record import Record, Snapshot, Transaction
from .schema import checkpoints

LOCK_TIMEOUT = 10.0  # seconds


class Signer:
    """Signs the ledgers of one installation, and keeps what it signed last."""

    def __init__(self, record: Record, folder: Path) -> None:
        """Keep the last checkpoint of each log in ``folder``."""
        self._record = record
        self.folder = folder

    def kept(self, log: Log, key: VerifierKey) -> Checkpoint | None:
        """Give the last checkpoint of a log that was signed, from outside the database.

        Raises:
            DamagedError: a file was altered.
        """
        both = [self._read(path, key) for path in (self._path(log), self._pending(log))]
        known = [checkpoint for checkpoint in both if checkpoint is not None]
        return max(known, key=lambda checkpoint: checkpoint.size, default=None)

    def settled(self, log: Log, key: VerifierKey) -> Checkpoint | None:
        """Give the last checkpoint that was signed and stored in the database too."""
        return self._read(self._path(log), key)

    def _read(self, path: Path, key: VerifierKey) -> Checkpoint | None:
        try:
            return read_checkpoint(path.read_text(encoding="utf-8"), key)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise storage_error(error, path) from None
        except ValueError as error:
            raise DamagedError(
                f"{path} was altered ({error}); put a copy of it back, or remove it and give the "
                "newest checkpoint that you have with: holdfast audit checkpoint --since FILE"
            ) from None

    @staticmethod
    def given(note: str, key: VerifierKey) -> Checkpoint:
        """Open a checkpoint that a caller has kept.

        Raises:
            InvalidInputError: it is none of this log.
        """
        try:
            return read_checkpoint(note, key)
        except Rejected as error:
            raise InvalidInputError(f"the checkpoint cannot be used: {error}") from None

    def has_signed(self) -> bool:
        """Tell whether anything was ever signed for this installation."""
        return self.folder.is_dir() and any(p.suffix == "" for p in self.folder.iterdir())

    def sign(self, *, since: str | None = None) -> Checkpoint | None:
        """Sign the ledger as it stands; None before its first event.

        Args:
            since: the newest checkpoint known, where the signer's own file is lost.

        Raises:
            ForkError: the ledger does not continue what was signed before.
            DamagedError: the ledger's tiles are not those of its leaves.
        """
        self._record.database.check_writable()  # before a file is written
        with self._record.snapshot() as snapshot:
            log = ledger.log(snapshot)
            if log is None:
                return None
            key, seed = public_key(snapshot, log), _seed(snapshot, log)
        with held(self._path(log).with_suffix(".lock"), LOCK_TIMEOUT, "signing"):
            before = self._base(log, key, since)
            with self._record.snapshot() as snapshot:
                log = ledger.log(snapshot) or log
                root = _next_root(snapshot, log.size, before)
            signed = before
            if signed is None or signed.size < log.size:
                signed = sign(log.origin, seed, log.size, root)
            write_durably(self._pending(log), signed.note)  # known before anybody has it
            self._record.transact(lambda tx: _store(tx, signed))
            self._pending(log).replace(self._path(log))
        return signed

    def start_over(self, reason: str) -> None:
        """Go on under a new name, where leaves that were signed are lost for good.

        What was signed under the old name no longer speaks for this ledger, and whoever
        holds such a checkpoint sees it. The loss is recorded as a ``gap``.
        """

        def work(tx: Transaction) -> Path:
            log = ledger.log(tx)
            if log is None:
                raise InvalidInputError("the ledger is empty; there is nothing to start over")
            last = self.kept(log, public_key(tx, log))
            signed = last and {"origin": last.origin, "size": last.size, "root": last.root.hex()}
            ledger.append(tx, "gap", {"reason": reason, "signed": signed, "leaves": log.size})
            ledger.rename(tx, log)
            return self._path(log)

        old = self._record.transact(work)
        if old.exists():
            old.rename(old.with_suffix(".old"))

    def _base(self, log: Log, key: VerifierKey, since: str | None) -> Checkpoint | None:
        """Give the checkpoint that the next one must continue."""
        kept = self.kept(log, key)
        given = None if since is None else self.given(since, key)
        if kept is None and given is None:
            with self._record.snapshot() as snapshot:
                if any(True for _ in stored(snapshot, log)):
                    raise ForkError(
                        f"{self._path(log)} is missing: it told what was signed last. Put it back, "
                        "or give the newest checkpoint that you have with: "
                        "holdfast audit checkpoint --since FILE"
                    )
        if kept is None or given is None:
            return kept or given
        return max(kept, given, key=lambda checkpoint: checkpoint.size)

    def _path(self, log: Log) -> Path:
        return self.folder / log.name

    def _pending(self, log: Log) -> Path:
        """Where a checkpoint is kept until the database has it too."""
        return self.folder / f"{log.name}.new"


def stored(snapshot: Snapshot, log: Log) -> list[tuple[int, str]]:
    """Read the checkpoints in the database: the size and the note of each."""
    rows = snapshot.execute(
        select(checkpoints.c.size, checkpoints.c.note)
        .where(checkpoints.c.log == log.name)
        .order_by(checkpoints.c.size)
    )
    return [(row.size, row.note) for row in rows]


def public_key(snapshot: Snapshot, log: Log) -> VerifierKey:
    """Give the key with which others check what a log signed."""
    return verifier_key(log.origin, _seed(snapshot, log))


def _seed(snapshot: Snapshot, log: Log) -> bytes:
    purpose = ledger.signing(log.name)
    return snapshot.vault.secret(snapshot.connection, log.signing_key, purpose)


def _next_root(snapshot: Snapshot, size: int, before: Checkpoint | None) -> bytes:
    """Compute the root from the leaves, on top of what was signed before."""
    if before is not None and before.size > size:
        raise ForkError(
            f"the ledger has {size} leaves, and {before.size} were signed: an older copy of the "
            "database was put back. Nothing was signed. Put the newer one back; if it is lost, "
            "go on under a new name with: holdfast audit checkpoint --start-over REASON"
        )
    nodes = tiles.TileNodes(snapshot, size)
    start = 0 if before is None else before.size
    frontier = merkle.Frontier(merkle.edge(nodes, start), start)
    if before is not None and frontier.root() != before.root:
        raise ForkError(
            f"the first {before.size} leaves are not those that were signed: the ledger was "
            "rewritten, or another copy of the database was put back. Nothing was signed. See "
            "what differs with: holdfast audit verify; go on under a new name with: "
            "holdfast audit checkpoint --start-over REASON"
        )
    for leaf in tiles.leaves(snapshot, start, size):
        frontier.push(merkle.hash_leaf(leaf))
    root = merkle.root(nodes, size)
    if frontier.size != size or frontier.root() != root:
        raise DamagedError(
            "the ledger's tiles are not those of its leaves; see what was altered with: "
            "holdfast audit verify"
        )
    return root


def _store(tx: Transaction, signed: Checkpoint) -> None:
    row = {"log": signed.origin.removeprefix("holdfast/"), "size": signed.size}
    same = [checkpoints.c[name] == value for name, value in row.items()]
    done = tx.execute(update(checkpoints).where(*same).values(note=signed.note))
    if not done.rowcount:
        tx.execute(insert(checkpoints), [{**row, "note": signed.note}])
