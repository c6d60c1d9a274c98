"""What an auditor and whoever answers to one do: ``Holdfast.audit``.

Checkpoints, bundles, exported logs, the events behind the record, the installation's key,
and what became of a model's call. It knows what fields a retrieval's evidence has, and
leaves trees, proofs and seals to ``memory``.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from ..memory import bundle, ledger, rotation, times, timestamps
from ..memory.checkpoint import Checkpoint
from ..memory.errors import InvalidInputError, NotFoundError
from ..memory.keys import KeySource
from ..memory.models import EVENT_TYPES, EventType, Evidence
from ..memory.record import Record
from ..memory.signer import Signer, public_key
from ..memory.times import Time
from ..memory.timestamps import Timestamp
from ..memory.vectors import Progress
from . import replay
from .library import Library
from .settings import MOST_NUMBER, folder_path
from .writing import ids, name, one_of, reason_text

PRIVATE = frozenset(
    """subjects request segments terms contexts context context_sha256 text source reason
    end_reason decision vector vectors sha256 request_sha256 response_sha256""".split()
)
"""Fields that hold words or vectors of a subject, or a hash by which they could be guessed:
a bundle shows them only when they are asked for by name."""

MOST_CHARACTERS = 500
"""Of what a provider said about a call."""
Judgement = Literal["kept", "broken", "unclear"]


class Audit:
    """The ledger of one tenant."""

    def __init__(self, record: Record, library: Library, signer: Signer, source: KeySource) -> None:
        self._record = record
        self._library = library
        self._signer = signer
        self._source = source

    # Reading

    def entry(self, event_id: str) -> Evidence:
        """Give one event of any type; of an erased one, what is left."""
        with self._record.snapshot() as snapshot:
            return ledger.entry(snapshot, event_id)

    def events(
        self,
        subject: str | None = None,
        *,
        types: Sequence[str] | None = None,
        before: int | None = None,
        limit: int | None = 50,
    ) -> list[Evidence]:
        """List events, newest first.

        Args:
            subject: only those about this subject; None: of all.
            types: only of these, such as ``statement.put``; None: of every type.
            before: only those whose place in the ledger (``Evidence.index``) is below this;
                None: from the newest.
            limit: at most so many; None: all.

        Raises:
            InvalidInputError: a type that no event has, or a number out of its range.
        """
        for what, given in (("limit", limit), ("before", before)):
            if given is not None and (type(given) is not int or not 0 <= given <= MOST_NUMBER):
                raise InvalidInputError(
                    f"{what} is a whole number, 0 to {MOST_NUMBER}, or None for all"
                )
        subject = None if subject is None else name(subject, "subject")
        wanted = None if types is None else ids(types, "types")
        if not set(EVENT_TYPES).issuperset(wanted or ()):
            raise InvalidInputError(f"types are of these: {', '.join(EVENT_TYPES)}")
        with self._record.snapshot() as snapshot:
            return ledger.entries(
                snapshot, subject=subject, types=wanted, before=before, limit=limit
            )

    @property
    def verifier_key(self) -> str:
        """The ledger's public key, which an auditor needs; "" before its first event."""
        with self._record.snapshot() as snapshot:
            log = ledger.log(snapshot)
            return "" if log is None else str(public_key(snapshot, log))

    # Giving out

    def checkpoint(self, *, since: str | None = None) -> Checkpoint:
        """Sign the ledger as it stands.

        Whoever keeps the ``note`` can later see that nothing under it was changed.

        Args:
            since: the newest checkpoint known, where the signer's own file is lost.

        Raises:
            ForkError: the ledger does not continue what was signed before.
            NotFoundError: the ledger is empty.
        """
        signed = self._signer.sign(since=checkpoint_text(since))
        if signed is None:
            raise NotFoundError("the ledger is empty; there is nothing to sign yet")
        return signed

    @staticmethod
    def timestamp(checkpoint: Checkpoint, url: str) -> Timestamp:
        """Have a checkpoint time-stamped (RFC 3161); the authority is sent its hash alone.

        Args:
            checkpoint: as it was signed.
            url: of the time-stamping authority.

        Raises:
            ConfigurationError: the extra ``timestamp`` is missing, or no time-stamp came.
        """
        return timestamps.fetch(checkpoint.note, url)

    def last_checkpoint(self) -> Checkpoint | None:
        """Give the last checkpoint that was signed, without signing."""
        with self._record.snapshot() as snapshot:
            log = ledger.log(snapshot)
            return None if log is None else self._signer.kept(log, public_key(snapshot, log))

    def bundle(
        self,
        event_id: str,
        *,
        disclose: Sequence[str] | None = None,
        since: str | None = None,
    ) -> dict[str, Any]:
        """Make a bundle: proof of one event that can be checked without this ledger.

        A ledger that is opened for writing is signed for it; one that is not shows the
        event under the last checkpoint.

        Args:
            event_id: of any event.
            disclose: names of the fields to show; None: all but those that hold words or
                vectors of a subject (``PRIVATE``). Of the others the bundle has digests.
            since: the text of a checkpoint that the auditor has kept; the bundle then
                shows that the ledger continues it.

        Raises:
            ForkError: the ledger does not continue what was signed before.
            NotFoundError: there is no such event, or nothing was signed yet.
        """
        evidence = self.entry(event_id)
        checkpoint = self._newest()
        scored: list[list[str]] = []
        if evidence.type == "retrieval" and not evidence.erased:
            scored = replay.scored_rows(self._library, evidence)
        wanted = None if disclose is None else frozenset(ids(disclose, "disclose"))
        known = checkpoint_text(since)
        fields = {"subjects", *evidence.payload}
        if wanted and not wanted <= fields:
            raise InvalidInputError(f"disclose names fields of: {', '.join(sorted(fields))}")
        with self._record.snapshot() as snapshot:
            log = ledger.log(snapshot)
            assert log is not None
            key = public_key(snapshot, log)
            return bundle.build(
                snapshot,
                checkpoint,
                key,
                event_id,
                lambda field: field not in PRIVATE if wanted is None else field in wanted,
                corpora=scored,
                since=None if known is None else self._signer.given(known, key),
            )

    def export_log(self, folder: str | Path, *, progress: Progress | None = None) -> Checkpoint:
        """Write the leaves and the tree as static files (C2SP tlog-tiles), signed.

        They name nobody and hold no texts. The verifier and independent tools read them. A
        ledger that is not opened for writing is given as far as it was signed.

        Args:
            folder: made where it is missing.
            progress: called with (leaves done, leaves in all).
        """
        path = folder_path(folder, "the folder")
        checkpoint = self._newest()
        with self._record.snapshot() as snapshot:
            bundle.write_tiles(snapshot, checkpoint, path, progress)
        return checkpoint

    def _newest(self) -> Checkpoint:
        """Sign the ledger if it can be written, else give the last checkpoint."""
        writes = not self._record.database.read_only
        checkpoint = self.checkpoint() if writes else self.last_checkpoint()
        if checkpoint is None:
            raise NotFoundError("nothing was signed yet; sign with: holdfast audit checkpoint")
        return checkpoint

    # Keeping

    def start_over(self, reason: str) -> Checkpoint:
        """Go on under a new name, where leaves that were signed are lost for good.

        Whoever holds a checkpoint under the old name sees that it is no longer continued.
        The loss is recorded as a ``gap``.
        """
        self._signer.start_over(_why(reason))
        return self.checkpoint()

    def rotate_key(self, *, drop_old: bool = False, progress: Progress | None = None) -> str:
        """Wrap every data key anew with a new key of the installation.

        A key file gets a new key in front; with ``HOLDFAST_MASTER_KEY`` or a hook, put the
        new one in front before. What was interrupted goes on when it is called again.

        Args:
            drop_old: take the old keys out of the key file; backups of the database from
                before can then no longer be read.
            progress: called with (data keys done, data keys in all).

        Returns:
            The id of the event that records it.
        """
        return rotation.rotate(self._record, self._source, drop_old=drop_old, progress=progress)

    # What became of it

    def begin_call(
        self, evidence_id: str, *, provider: str, model: str, request_sha256: str | None = None
    ) -> str:
        """Note that a model is about to be called with what was retrieved; durable first.

        Args:
            evidence_id: of the retrieval.
            provider: who runs the model.
            model: the model that is asked for.
            request_sha256: of the bytes that are sent, in hexadecimal.

        Returns:
            The event's id, for ``end_call``.
        """
        if request_sha256 is not None and not _is_sha256(request_sha256):
            raise InvalidInputError("request_sha256 is 64 hexadecimal digits in lower case")
        fields = {
            "retrieval": evidence_id,
            "provider": name(provider, "provider"),
            "model": name(model, "model"),
            "request_sha256": request_sha256,
        }
        return self._follow(evidence_id, ("retrieval",), "call.intent", fields)

    def end_call(
        self,
        call_id: str,
        *,
        model: str | None = None,
        response_id: str | None = None,
        response: str | bytes | None = None,
        response_sha256: str | None = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        finish_reason: str | None = None,
        error: str | None = None,
    ) -> str:
        """Note what became of a call.

        Args:
            call_id: what ``begin_call`` gave.
            model: the model that answered, as it named itself.
            response_id: the provider's own.
            response: the answer; only its SHA-256 is kept.
            response_sha256: that hash itself, in hexadecimal, where the answer is not at hand.
            input_tokens: as the provider counted.
            output_tokens: the same.
            finish_reason: why the answer ended.
            error: what went wrong, without anybody's words.
        """
        raw = response.encode("utf-8", "surrogatepass") if isinstance(response, str) else response
        if raw is not None and not isinstance(raw, bytes):
            raise InvalidInputError("response is a text or bytes")
        said = {"model": model, "response_id": response_id, "finish_reason": finish_reason}
        said["error"] = error
        counted = {"input_tokens": input_tokens, "output_tokens": output_tokens}
        for what, text in said.items():
            _check_short(text, what)
        for what, tokens in counted.items():
            if tokens is not None and (type(tokens) is not int or not 0 <= tokens <= MOST_NUMBER):
                raise InvalidInputError(f"{what} is a whole number, 0 to {MOST_NUMBER}, or None")
        if response_sha256 is not None and not _is_sha256(response_sha256):
            raise InvalidInputError("response_sha256 is 64 hexadecimal digits in lower case")
        digest = response_sha256 if raw is None else hashlib.sha256(raw).hexdigest()
        fields = {"intent": call_id, **said, **counted, "response_sha256": digest}
        return self._follow(call_id, ("call.intent",), "call.outcome", fields)

    def record_check(
        self,
        event_id: str,
        *,
        judgement: Judgement,
        by: str,
        statements: Sequence[str] = (),
        why: str | None = None,
    ) -> str:
        """Note somebody's judgement of an answer: were the statements kept?

        Args:
            event_id: of the call's outcome, or of the retrieval.
            judgement: kept, broken or unclear.
            by: who or what judged.
            statements: ids of those that it is about.
            why: what for.
        """
        fields = {
            "of": event_id,
            "judgement": one_of(judgement or "", get_args(Judgement), "judgement"),
            "by": name(by, "judge"),
            "statements": ids(statements, "statements"),
            "reason": reason_text(why),
        }
        return self._follow(event_id, ("call.outcome", "retrieval"), "check", fields)

    def record_gap(self, reason: str, *, since: Time, until: Time | None = None) -> str:
        """Note that nothing was recorded for a while, such as when the disk was full.

        Args:
            reason: why.
            since: from when on.
            until: to when; None: now.
        """
        begin = times.to_micros(since, "since")
        end = times.now() if until is None else times.to_micros(until, "until")
        if end < begin:
            raise InvalidInputError("until must not be earlier than since; give both in order")
        fields = {
            "reason": _why(reason),
            "since": times.written(begin),
            "until": times.written(end),
        }
        return self._record.transact(lambda tx: ledger.append(tx, "gap", fields))

    def _follow(
        self, event_id: str, of: Sequence[str], kind: EventType, fields: dict[str, Any]
    ) -> str:
        """Append an event about the same subjects as another."""

        return self._record.transact(lambda tx: ledger.follow(tx, event_id, of, kind, fields))


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _check_short(text: object, what: str) -> None:
    if text is not None and not (isinstance(text, str) and len(text) <= MOST_CHARACTERS):
        raise InvalidInputError(
            f"{what} is a text of at most {MOST_CHARACTERS} characters, or None"
        )


def _why(reason: str) -> str:
    checked = reason_text(reason)
    if checked is None:
        raise InvalidInputError("reason is empty; say why, for whoever reads the ledger")
    return checked


def checkpoint_text(given: object) -> str | None:
    """Check the text of a checkpoint; None: none is given."""
    if given is not None and not isinstance(given, str):
        raise InvalidInputError("a checkpoint is given as its text")
    return given
