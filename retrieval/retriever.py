"""A request → the few statements that bear on it, and durable evidence of what was chosen.

It gathers what ``evaluate`` needs, and records what came of it. It knows nothing of
where a context is put.
"""

from collections.abc import Callable, Sequence
from typing import Any

from ..memory import ledger, policies, store
from ..memory.errors import ErasedError
from ..memory.record import Transaction
from . import asks
from .corpus import Corpus
from .evaluation import Query, Table, evaluate
from .evidence import policy_fields, to_fields
from .library import Library
from .request import Request
from .results import Retrieval
from .scoring import query_terms
from .selection import Policy

Along = Callable[[Transaction, str, Sequence[int]], None]
"""Records something in the transaction of a retrieval: takes its event and the subjects' keys."""


class Retriever:
    """Every retrieval of one tenant."""

    def __init__(self, library: Library, table: Table, default: Policy) -> None:
        """Take where statements are, the calibration, and the policy that is set."""
        self._library = library
        self._table = table
        self._default = policies.Basis("policy", policy_fields(default, table))

    def retrieve(
        self,
        subjects: Sequence[str],
        asked: Request,
        policy: Policy,
        *,
        contexts: frozenset[str],
        moment: int | None,
        record: bool,
        along: Callable[[str], Along] | None = None,
    ) -> Retrieval:
        """Choose for the subjects, in order of precedence; with ``record`` keep evidence.

        Args:
            subjects: on whose behalf.
            asked: the request.
            policy: thresholds and budgets.
            contexts: names, folded.
            moment: valid time in microseconds; None: now.
            record: whether the result waits for durable evidence.
            along: called with the context; what it gives is recorded together with the
                evidence.
        """
        embedder = self._library.embedder
        heard = asks.hear(asked, embedder)
        held = self._library.corpus_as_of
        corpora = [held(subject, moment) for subject in subjects]
        latest = max(corpus.at for corpus in corpora)
        if any(corpus.ends is not None and corpus.ends <= latest for corpus in corpora):
            corpora = [held(subject, latest) for subject in subjects]  # all at one moment
        terms = query_terms(segment.text for segment in heard.segments if segment.leads)
        query = Query(
            vectors=heard.vectors,
            weights=tuple(segment.weight for segment in heard.segments),
            terms=tuple(t for t in terms if any(c.lexicon.known([t]) for c in corpora)),
            contexts=contexts,
            scale=embedder.scale,
        )
        outcome = evaluate(corpora, query, policy, self._table)
        evidence_id = None
        if record:
            fields = to_fields(
                outcome,
                query,
                request_digest=asked.digest,
                as_of=moment if moment is not None else max(c.at for c in corpora),
                embedder=embedder.digest,
                policy=policy,
                table=self._table,
            )
            also = along(outcome.context) if along else None
            evidence_id = self._library.record.transact(
                lambda tx: self._append(tx, corpora, fields, also)
            )
        return outcome.retrieval(evidence_id, sum(corpus.repaired for corpus in corpora))

    def _append(
        self,
        tx: Transaction,
        corpora: Sequence[Corpus],
        fields: dict[str, Any],
        also: Along | None,
    ) -> str:
        policies.note(tx, self._default)
        keys: list[int] = []
        for corpus in corpora:
            found = store.ensure_subject(tx, corpus.subject)
            if corpus.data_key not in (None, found.data_key):
                raise ErasedError("the subject was erased while this was retrieved; ask again")
            keys.append(found.key)
        event = ledger.append(tx, "retrieval", fields, subjects=keys)
        if also is not None:
            also(tx, event, keys)
        return event
