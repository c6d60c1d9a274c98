"""Holdfast: the one place where the parts are put together.

The record (``memory``) keeps what was said; reading, scoring, selection and context
decide what a request gets; the ledger keeps evidence of it. Every door calls this class.
It may be used from several threads.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

from ..memory import erasure, proposals, store, times, turns, verification
from ..memory.carry import carry
from ..memory.chroma import ChromaVectors
from ..memory.database import Database
from ..memory.directory import DataDirectory
from ..memory.errors import HoldfastError, InvalidInputError, StorageError
from ..memory.models import (
    Decision,
    Erasure,
    Evidence,
    Proposal,
    ProposalStatus,
    Statement,
    Verification,
)
from ..memory.record import Record, installation_id, open_vault
from ..memory.signer import Signer
from ..memory.times import Time
from ..memory.vectors import Progress
from . import context, doctor, gleaning, mapping, portable, replay
from .access import Access
from .audit import Audit, checkpoint_text
from .calibration import read_table
from .conversation import Conversations, Prepare, Turn
from .corpus import CorpusCache, fold
from .embedder import Embedder, open_embedder
from .library import Library
from .mapping import ValuesMap
from .opening import parts, settled
from .request import Messages, parse
from .results import (
    Added,
    DoctorReport,
    Explanation,
    Injection,
    Loaded,
    Replay,
    Retrieval,
    Said,
)
from .retriever import Retriever
from .settings import Settings
from .writing import (
    Writer,
    attributes,
    context_names,
    ids,
    name,
    one_of,
    reason_text,
    subject_names,
)

logger = logging.getLogger("holdfast")

Subjects = str | Sequence[str]
"""One subject, or several in order of precedence."""


class Holdfast:
    """A values memory: add what a subject values, retrieve what bears on a request."""

    def __init__(
        self,
        *,
        database: Database,
        chroma: ChromaVectors | None,
        embedder: Embedder,
        settings: Settings,
        tenant: str,
        directory: DataDirectory | None = None,
        brief: bool = False,
    ) -> None:
        """Put given parts together; ``open`` makes them from settings."""
        self.embedder = embedder
        self.settings = settings
        self.tenant = tenant
        self._directory = directory
        self._tenants: dict[str, Self] = {}
        self._assembling = threading.Lock()
        self._database = database
        self._chroma = chroma
        self._table = read_table(settings.calibration)
        self._vault = open_vault(database, settings.key_source)
        carry(database, self._vault)
        self._assemble(CorpusCache(settings.cache_statements), brief=brief)
        if not database.read_only and erasure.is_unfinished(self._record):
            erasure.purge(self._record, chroma)
        self._warming = threading.Thread(target=chroma and chroma.warm_up, name="holdfast-warm-up")
        if chroma is not None and not brief:
            self._warming.start()

    def _assemble(self, cache: CorpusCache, *, brief: bool) -> None:
        """Put together what belongs to one tenant."""
        source, database = self.settings.key_source, self._database
        self._record = Record(database, self._vault, self.tenant)
        self._signer = Signer(self._record, source.checkpoint_folder(installation_id(database)))
        cache = cache.of(self.tenant)
        self._library = Library(self._record, self._chroma, self.embedder, cache, brief=brief)
        defaults = self.settings.policy(None, None, None)
        self._retriever = Retriever(self._library, self._table, defaults)
        self.audit = Audit(self._record, self._library, self._signer, source)
        self.access = Access(self._record)
        self._writer = Writer(self._library)
        self._conversations = Conversations(self._library)
        self._tenants[self.tenant] = self

    def of_tenant(self, tenant: str) -> Self:
        """Give the same installation for another tenant; it ends with the one that was opened."""
        tenant = name(tenant, "tenant")
        with self._assembling:
            if tenant not in self._tenants:
                other = copy(self)
                other.tenant = tenant
                other._assemble(self._library.cache, brief=False)
            return self._tenants[tenant]

    @classmethod
    def open(
        cls,
        path: str | Path | None = None,
        *,
        tenant: str = "local",
        settings: Settings | None = None,
        read_only: bool = False,
        brief: bool = False,
    ) -> Self:
        """Open a data directory, made when missing; it is owned until ``close``.

        Args:
            path: the directory; None: ``HOLDFAST_DATA``, else the user's own.
            tenant: whose statements these are; tenants never mix.
            settings: None: read from the environment and ``holdfast.toml``.
            read_only: look at statements, history and evidence without owning the
                directory; nothing is written, so ``retrieve`` needs ``record=False``.
            brief: for a process that makes one call: vectors are read from the database
                alone (the same bytes), and Chroma is started only if one is written.

        Raises:
            StorageError: the directory is owned by another process, cannot be written,
                is full, damaged, or from a newer version; the message names the fix.
            ConfigurationError: a setting is wrong.
        """
        settings, tenant = settled(path, settings), name(tenant, "tenant")
        embedder = open_embedder(settings.embedder, threads=settings.threads)
        with parts(settings, read_only=read_only) as found:
            return cls(
                database=found.database, chroma=found.chroma, directory=found.directory,
                embedder=embedder, settings=settings, tenant=tenant, brief=brief,
            )  # fmt: skip

    def close(self) -> None:
        """Sign what was added, close everything and give the data directory back."""
        for each in list(self._tenants.values()):
            each._sign()
        if self._warming.ident is not None:
            self._warming.join()
        if self._chroma is not None:
            self._chroma.close()
        self._database.close()
        if self._directory is not None:
            self._directory.release()

    def announce(self, socket: Path | None) -> None:
        """Tell other processes where the owner of the data directory can be spoken to.

        Args:
            socket: a Unix socket; None: nowhere any more.
        """
        if self._directory is not None:
            self._directory.announce(socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Holdfast tenant={self.tenant!r} embedder={self.embedder.name!r}>"

    # What subjects say

    def add(
        self,
        subject: str,
        text: str,
        *,
        kind: str | None = None,
        strength: str | None = None,
        scope: str | None = None,
        contexts: Sequence[str] = (),
        valid_from: Time | None = None,
        valid_to: Time | None = None,
        source: str = "subject",
        split: bool = True,
    ) -> Added:
        """Store what a text says, split into single statements, in one transaction.

        Args:
            subject: whose values these are: the caller's own name for them.
            text: one sentence, a paragraph, a list, a page; at most 100,000 characters,
                a single statement at most 2,000.
            kind: value, preference, boundary, commitment, goal or decision.
            strength: must, should or prefer.
            scope: topical or always. Of these three, None is read from the words.
            contexts: names of the only contexts in which it applies; none: in all.
            valid_from: when it begins to hold; None: now.
            valid_to: when it ceases to hold; None: never.
            source: through what channel the subject said it. What models, tools or
                imports say goes through ``propose``.
            split: False keeps the text as one statement.

        Returns:
            The statements in the text's order. Text that was stored before is not stored
            twice (``existing``); what lies close is reported, never merged.

        Raises:
            InvalidInputError: nothing was stored.
        """
        given = attributes(
            kind=kind, strength=strength, scope=scope, contexts=contexts,
            valid_from=valid_from, valid_to=valid_to, source=source,
        )  # fmt: skip
        subject = name(subject, "subject")
        return self._writer.add(subject, [text], given, split=split, report=True)

    def add_many(
        self,
        subject: str,
        texts: Sequence[str],
        *,
        kind: str | None = None,
        strength: str | None = None,
        scope: str | None = None,
        contexts: Sequence[str] = (),
        valid_from: Time | None = None,
        valid_to: Time | None = None,
        source: str = "subject",
        split: bool = True,
        progress: Progress | None = None,
    ) -> list[Statement]:
        """Store many texts in one transaction: all of them or, on an error, none.

        Takes what ``add`` takes, for each text alike, and reports no near-duplicates.
        ``progress`` is called with (statements embedded, statements in all).

        Returns:
            With ``split=False`` one statement for each text, in their order.
        """
        listed: object = texts
        if isinstance(listed, (str, bytes)) or not isinstance(listed, Iterable):
            raise InvalidInputError("add_many takes a list of texts; use add for one")
        given = attributes(
            kind=kind, strength=strength, scope=scope, contexts=contexts,
            valid_from=valid_from, valid_to=valid_to, source=source,
        )  # fmt: skip
        subject = name(subject, "subject")
        return list(
            self._writer.add(subject, texts, given, split=split, report=False, progress=progress)
        )

    def read(self, subject: str, text: str, *, split: bool = True, **given: Any) -> list[Said]:
        """Tell how ``add`` would take a text, and store nothing.

        Args:
            subject: whose statements it is read beside.
            text: as ``add`` takes it.
            split: False keeps the text as one statement.
            given: any of ``kind``, ``strength``, ``scope`` and ``contexts``; what is not
                named is read from the words.

        Returns:
            The statements in the text's order, each with what is there that it repeats,
            may revise, or pulls against.

        Raises:
            InvalidInputError: ``add`` would not take it.
        """
        return self._writer.read(name(subject, "subject"), text, attributes(**given), split=split)

    def decide(
        self,
        subject: str,
        *,
        situation: str,
        choice: str,
        reason: str,
        weighed: Sequence[str] = (),
    ) -> Decision:
        """Store a decision as a precedent.

        Args:
            subject: who decided.
            situation: in which situation; each part has at most 2,000 characters.
            choice: what was chosen.
            reason: why.
            weighed: ids of the subject's own statements that were weighed.
        """
        return self._writer.decide(name(subject, "subject"), situation, choice, reason, weighed)

    def revise(
        self,
        statement_id: str,
        text: str | None = None,
        *,
        reason: str | None = None,
        **changes: Any,
    ) -> Statement:
        """Write the next version of a statement; the one before is kept.

        Args:
            statement_id: which.
            text: the new words; None: as before.
            reason: why, for the history.
            changes: any of ``kind``, ``strength``, ``scope``, ``contexts``, ``source``,
                ``valid_from`` (None: from now on; an earlier time corrects the past) and
                ``valid_to``. What is not named stays.
        """
        return self._writer.revise(statement_id, text, reason, changes)

    def retire(self, statement_id: str, *, reason: str | None = None) -> Statement:
        """Note that a statement no longer holds, from now on; it stays in the record."""
        return self._writer.retire(statement_id, reason)

    def propose(
        self,
        subject: str,
        text: str,
        *,
        source: str,
        kind: str | None = None,
        strength: str | None = None,
        scope: str | None = None,
        contexts: Sequence[str] = (),
        split: bool = True,
    ) -> list[Proposal]:
        """Keep what somebody other than the subject put forward; it is never injected.

        Takes what ``add`` takes; ``source`` says who put it forward, such as
        ``model:NAME``. The subject decides with ``confirm`` or ``reject``.
        """
        given = attributes(
            kind=kind, strength=strength, scope=scope, contexts=contexts, source=source
        )
        return self._writer.propose(name(subject, "subject"), text, given, split=split)

    def proposals(self, subject: str, *, status: ProposalStatus | None = "open") -> list[Proposal]:
        """List a subject's proposals, oldest first; ``status=None``: all of them."""
        one_of(status, get_args(ProposalStatus), "status")
        with self._record.snapshot() as snapshot:
            return proposals.of_subject(snapshot, name(subject, "subject"), status)

    def glean(
        self,
        subject: str,
        messages: Messages,
        *,
        source: str = "conversation",
        read: Callable[[str], Sequence[str]] | None = None,
    ) -> list[Proposal]:
        """Propose what a subject says in a conversation that lasts, as far as it is new.

        Only the user's own turns are read. What is a statement already, or was proposed
        before, whatever became of it, is not proposed again.

        Args:
            subject: whose.
            messages: in OpenAI's or Anthropic's form.
            source: who puts it forward.
            read: finds statements in what the user wrote; None: rules do.
        """
        found = gleaning.glean(messages) if read is None else gleaning.glean_with(read, messages)
        return self._writer.glean(name(subject, "subject"), found, attributes(source=source))

    def proposal(self, proposal_id: str) -> Proposal:
        """Give one proposal."""
        with self._record.snapshot() as snapshot:
            return proposals.read(snapshot, proposal_id)

    def confirm(self, proposal_id: str) -> Statement:
        """Make a statement of a proposal, as its subject's own word."""
        return self._writer.confirm(proposal_id)

    def reject(self, proposal_id: str) -> Proposal:
        """Note that the subject does not want a proposal."""
        return self._writer.reject(proposal_id)

    # What is on record

    def statements(
        self,
        subject: str,
        *,
        as_of: Time | None = None,
        known_at: Time | None = None,
        include_retired: bool = False,
    ) -> list[Statement]:
        """List what held at ``as_of``, as far as was recorded by ``known_at``.

        Args:
            subject: whose.
            as_of: valid time; None: now.
            known_at: record time; None: now.
            include_retired: also the last version of statements that had ended by then.

        Returns:
            At most one version of each statement, in the order in which they were said.
        """
        moment = None if as_of is None else times.to_micros(as_of, "as_of")
        known = None if known_at is None else times.to_micros(known_at, "known_at")
        return self._library.statements(
            name(subject, "subject"), moment, known, include_retired=include_retired
        )

    def statement(self, statement_id: str) -> Statement:
        """Give the newest version of a statement."""
        with self._record.snapshot() as snapshot:
            return store.latest(snapshot, statement_id).statement

    def history(self, statement_id: str) -> list[Statement]:
        """Give every version of a statement, oldest first."""
        with self._record.snapshot() as snapshot:
            return store.history(snapshot, statement_id)

    def decisions(self, subject: str, *, as_of: Time | None = None) -> list[Decision]:
        """List the decisions that stand at ``as_of``, oldest first, with what each weighed."""
        moment = None if as_of is None else times.to_micros(as_of, "as_of")
        return self._library.decisions(name(subject, "subject"), moment)

    def subjects(self) -> list[str]:
        """List the subjects of whom anything is on record, retrievals included."""
        with self._record.snapshot() as snapshot:
            return store.subject_names(snapshot)

    def map(
        self, subject: str, *, prompts: Sequence[str | Messages] = (), as_of: Time | None = None
    ) -> ValuesMap:
        """Lay out a subject's statements in the space of their embeddings, to be looked at.

        Args:
            subject: whose.
            prompts: prompts, or chat messages, to be placed on the same axes; nothing is
                recorded of them.
            as_of: the statements that held then, as far as is known now; None: now.

        Returns:
            All statements in force with vectors, points on two axes, and how they relate.
        """
        moment = None if as_of is None else times.to_micros(as_of, "as_of")
        corpus = self._library.corpus_as_of(name(subject, "subject"), moment)
        return mapping.values_map(corpus, self.embedder, prompts)

    # What bears on a request

    def retrieve(
        self,
        subject: Subjects,
        request: str | Messages,
        *,
        limit: int | None = None,
        budget: int | None = None,
        threshold: float | None = None,
        contexts: Sequence[str] = (),
        as_of: Time | None = None,
        record: bool = True,
    ) -> Retrieval:
        """Choose the few statements that bear on a request, and keep evidence of it.

        Args:
            subject: on whose behalf; several in order of precedence.
            request: a prompt, or chat messages in OpenAI's or Anthropic's form.
            limit: most topical statements to inject; None: as set.
            budget: most tokens of topical statements; None: as set.
            threshold: least probability for topical statements of every strength, 0 to 1;
                None: each strength's own.
            contexts: in which contexts the request is made; none: all statements apply.
            as_of: with the statements that held then, as far as is known now.
            record: False writes no evidence (for evaluation).

        Returns:
            What was chosen, with every candidate. Its evidence is durable.
        """
        return self._retriever.retrieve(
            subject_names(subject),
            parse(request),
            self.settings.policy(limit, budget, threshold),
            contexts=frozenset(map(fold, context_names(contexts))),
            moment=None if as_of is None else times.to_micros(as_of, "as_of"),
            record=record,
        )

    def inject(
        self,
        subject: Subjects,
        messages: Messages,
        *,
        placement: Literal["user", "system"] | None = None,
        **how: Any,
    ) -> Injection:
        """Put what bears on a conversation into it.

        Args:
            subject: as in ``retrieve``.
            messages: chat messages; they stay as they are, copies are given back.
            placement: ``user`` (at the end of the last message that the user wrote) or
                ``system``; None: as set.
            how: what else ``retrieve`` takes.
        """
        given: object = messages
        if isinstance(given, (str, Mapping)) or not isinstance(given, Sequence):
            raise InvalidInputError(
                "inject takes a list of chat messages; use retrieve for a prompt"
            )
        placement = placement or self.settings.placement
        if placement not in ("user", "system"):
            raise InvalidInputError("placement must be one of: user, system")
        context.place(messages, "?", placement)  # what cannot be placed is not recorded either
        found = self.retrieve(subject, messages, **how)
        return Injection(context.place(messages, found.context, placement), found)

    def converse(
        self,
        subject: Subjects,
        messages: Messages,
        prepare: Prepare,
        *,
        placement: Literal["user", "system"] | None = None,
        limit: int | None = None,
        budget: int | None = None,
        threshold: float | None = None,
        contexts: Sequence[str] = (),
    ) -> Turn:
        """Put into a conversation what bears on it, and record that a model is to be called.

        The retrieval and the call's intent are durable together before this returns. Earlier
        turns get the same bytes again that they had, so that a provider's prompt cache holds.

        Args:
            subject: as in ``retrieve``.
            messages: the whole conversation as the client has it.
            prepare: takes the messages to be sent, and with ``system`` the context, which it
                places; gives the call that is to be made.
            placement: as in ``inject``.
            limit: this and the others as in ``retrieve``.
        """
        subjects = subject_names(subject)
        spoken = [message for message in messages if "role" in message]
        request = parse(spoken or [{"role": "tool"}])  # where a tool alone has answered
        named = frozenset(map(fold, context_names(contexts)))
        return self._conversations.turn(
            subjects,
            messages,
            prepare,
            self.settings.policy(limit, budget, threshold),
            lambda policy, along: self._retriever.retrieve(
                subjects, request, policy, contexts=named, moment=None, record=True, along=along
            ),
            in_system=(placement or self.settings.placement) == "system",
        )

    def tidy(self) -> int:
        """Forget turns of conversations used longest ago, beyond what is kept; give how many."""
        return self._record.transact(turns.prune)

    # Why it was chosen

    def evidence(self, subject: str | None = None, *, limit: int | None = 50) -> list[Evidence]:
        """List evidence of retrievals, newest first; of one subject, or of all."""
        return self.audit.events(subject, types=["retrieval"], limit=limit)

    def explain(self, evidence_id: str) -> Explanation:
        """Show a recorded retrieval: every candidate with its scores and verdict."""
        return replay.explain(self._library, self.audit.entry(evidence_id))

    def replay(
        self,
        evidence_id: str,
        *,
        without: Sequence[str] = (),
        as_of: Time | None = None,
        request: str | Messages | None = None,
    ) -> Replay:
        """Compute a recorded retrieval again, and say whether every bit is the same.

        Nothing is written.

        Args:
            evidence_id: which.
            without: what would have been injected without these statements (their ids)?
            as_of: what would have been injected with the statements of that date?
            request: what was asked then: it is embedded anew and compared, within a
                tolerance, beside the replay.
        """
        evidence = self.audit.entry(evidence_id)
        leave_out = ids(without, "without")
        if leave_out or as_of is not None:
            moment = None if as_of is None else times.to_micros(as_of, "as_of")
            return replay.counterfactual(self._library, evidence, without=leave_out, as_of=moment)
        return replay.replay(self._library, evidence, request)

    def verify(
        self, *, checkpoint: str | None = None, progress: Progress | None = None
    ) -> Verification:
        """Check the whole ledger, and the record against it.

        It is compared with the last checkpoint that was signed, which is kept outside the
        data directory, and with the one that is given.

        Args:
            checkpoint: the text of one that was kept elsewhere.
            progress: called with (leaves done, leaves in all).
        """
        note = checkpoint_text(checkpoint)
        return verification.verify(self._record, self._signer, note, progress)

    def export(self, subject: str) -> dict[str, Any]:
        """Give a subject's record as a portable document: every version, decision, proposal.

        The export is noted in the ledger. ``load`` takes the document back.
        """
        whose = name(subject, "subject")
        return self._record.transact(lambda tx: portable.record_export(tx, whose))

    def load(self, subject: str, data: object, *, progress: Progress | None = None) -> Loaded:
        """Write what ``export`` gave, here or elsewhere; ids, times and history are kept.

        All of it or, on an error, nothing; what is here already and the same is left.

        Args:
            subject: whose it is here.
            data: the document.
            progress: called with (versions embedded, versions in all).

        Raises:
            InvalidInputError: it is no such document, or something of it is here and
                differs.
        """
        return portable.load(self._library, name(subject, "subject"), data, progress)

    def erase(self, subject: str, *, reason: str | None = None) -> Erasure:
        """Remove everything of a subject: statements, proposals, vectors, evidence, its key.

        The ledger keeps leaves that name nobody, so that every proof given out stays valid,
        and one event that tells which of them were erased. The files are rewritten, so that
        nothing is left in them; it takes as long as copying them.

        Args:
            subject: whose.
            reason: why, for the ledger; without anything personal, for it stays.
        """
        whose = name(subject, "subject")
        erased = erasure.erase(self._record, whose, reason_text(reason))
        self._library.cache.drop(whose)
        self._conversations.forget()
        left = erasure.purge(self._record, self._chroma)
        self._signer.sign()
        return replace(erased, left=left)

    def doctor(self, *, mend: bool = True, progress: Progress | None = None) -> DoctorReport:
        """Check the record, the vectors and the ledger against each other, and mend them.

        Embeds what the present embedder has not embedded yet; an interrupted run goes on
        where it stopped.

        Args:
            mend: False only reports.
            progress: called with (vectors done, vectors in all).
        """
        if self._chroma is None:
            raise StorageError("opened read-only: nothing can be checked against the vector store")
        return doctor.examine(self._library, self._signer, mend=mend, progress=progress)

    # Inside

    def _sign(self) -> None:
        """Sign what this process appended, so that it can no longer be changed unnoticed."""
        if self._record.appended:
            try:
                self._signer.sign()
            except HoldfastError as error:
                logger.warning("no checkpoint was signed: %s", error)
