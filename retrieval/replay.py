"""Evidence → the same selection again, or what differs; or what would have been otherwise.

The statements in force are rebuilt from the record at the revision that the evidence
names, with the int8 vectors of the embedder of the time, and scored again from the
recorded query vectors. Neither a model nor Chroma is needed. Nothing is written.
"""

import hashlib
from collections.abc import Collection, Sequence

from ..memory.errors import DamagedError, InvalidInputError
from ..memory.identifiers import quoted
from ..memory.models import Evidence
from . import asks, heads
from .corpus import Corpus
from .evaluation import Outcome, evaluate
from .evidence import FIRST_FORMAT, Recorded, columns_of, from_evidence, versions
from .library import Library
from .request import Messages, parse
from .results import Explanation, Replay, Retrieval
from .scoring import Scores
from .selection import INJECTED, Selection

LEAST_COSINE = 0.999
"""Cosine between a recorded request vector (int8) and one embedded anew, from which both
count as the same: rounding to int8 alone leaves 0.9998 of MiniLM's."""


def replay(library: Library, evidence: Evidence, request: str | Messages | None = None) -> Replay:
    """Compute a recorded retrieval again and compare every candidate and every byte.

    Args:
        library: with the record.
        evidence: of the retrieval.
        request: what was asked then, to embed it anew too; None leaves that out.
    """
    recorded = from_evidence(evidence)
    differences = [
        f"{name} rules are {now} now, {recorded.versions.get(name)} then"
        for name, now in versions().items()
        if name != "holdfast" and recorded.versions.get(name) != now
    ]
    cosine = None if request is None else _embedding_cosine(library, recorded, request)
    if cosine is not None and cosine < LEAST_COSINE:
        differences.append(f"the request embeds otherwise: cosine {cosine:.4f} to what it was then")
    try:
        corpora = _rebuild(library, recorded)
    except DamagedError as error:
        return Replay(evidence.id, False, [str(error), *differences], embedding_cosine=cosine)
    differences = _corpus_differences(recorded, corpora) + differences
    retrieval = None
    if [len(corpus) for corpus in corpora] == [s.count for s in recorded.subjects]:
        outcome = evaluate(corpora, recorded.query, recorded.policy, recorded.table)
        differences += _outcome_differences(recorded, outcome)
        retrieval = outcome.retrieval()
    return Replay(evidence.id, not differences, differences, cosine, retrieval)


def counterfactual(
    library: Library,
    evidence: Evidence,
    *,
    without: Collection[str] = (),
    as_of: int | None = None,
) -> Replay:
    """Say what would have been injected without some statements, or at another date.

    Args:
        library: with the record.
        evidence: of the retrieval; its request, policy and model are kept.
        without: ids of statements to leave out.
        as_of: valid time in microseconds: with what held then, as far as is known now;
            None: with what was in force when it was recorded.
    """
    recorded = from_evidence(evidence)
    explained = explain(library, evidence)
    if explained.problems:
        return Replay(evidence.id, False, explained.problems)
    before = explained.retrieval
    corpora = _rebuild(library, recorded, as_of)
    there = {id_ for corpus in corpora for id_ in corpus.ids}
    if unknown := sorted(set(without) - there):
        raise InvalidInputError(
            f"there is no candidate {', '.join(map(quoted, unknown))}; see them with: "
            f"holdfast audit show {evidence.id}"
        )
    left = [corpus.without(without) for corpus in corpora]
    after = evaluate(left, recorded.query, recorded.policy, recorded.table).retrieval()
    was = {c.statement.id for c in before.injected}
    now = {c.statement.id for c in after.injected}
    added = [c for c in after.injected if c.statement.id not in was]
    removed = [c for c in before.injected if c.statement.id not in now]
    differences = [f"{c.statement.id} would have been injected" for c in added]
    differences += [f"{c.statement.id} would not have been injected" for c in removed]
    if after.status != before.status:
        differences.append(f"status: {after.status} instead of {before.status}")
    if after.context != before.context and not differences:
        differences.append("the injected bytes")
    return Replay(evidence.id, not differences, differences, None, after, added, removed)


def explain(library: Library, evidence: Evidence) -> Explanation:
    """Read evidence back into statements, scores and verdicts, exactly as recorded."""
    recorded = from_evidence(evidence)
    try:
        corpora = _rebuild(library, recorded)
        problems = _corpus_differences(recorded, corpora)
    except DamagedError as error:
        corpora, problems = [], [str(error)]
    rebuilt = [len(corpus) for corpus in corpora] == [s.count for s in recorded.subjects]
    if rebuilt:
        retrieval = _as_recorded(recorded, corpora).retrieval(evidence.id)
    else:
        retrieval = Retrieval(recorded.context, recorded.status, evidence.id, [], ())
    return Explanation(evidence, retrieval, problems)


def scored_rows(library: Library, evidence: Evidence) -> list[list[str]]:
    """Give the lines that stand for what was scored, by subject, where they still agree."""
    recorded = from_evidence(evidence)
    corpora = _rebuild(library, recorded)
    agree = recorded.format != FIRST_FORMAT and not _corpus_differences(recorded, corpora)
    return [corpus.rows for corpus in corpora] if agree else []


def _embedding_cosine(library: Library, recorded: Recorded, request: str | Messages) -> float:
    """Embed a request anew; give the least cosine to its recorded vectors."""
    asked = parse(request)
    if asked.digest != recorded.request_digest:
        raise InvalidInputError("this is not the request that was recorded: its hash is another")
    if library.embedder.digest != recorded.embedder:
        raise InvalidInputError(
            "the request was embedded with another model; open with that one "
            "(HOLDFAST_EMBEDDER) to embed it again"
        )
    heard = asks.hear(asked, library.embedder)
    if not heard.segments:
        return 1.0
    if len(heard.segments) != len(recorded.query.weights):
        return 0.0  # other sentences were taken to ask
    anew, then = heads.vectors(heard.vectors), heads.vectors(recorded.query.vectors)
    return float((anew * then).sum(axis=1).min())


def _rebuild(library: Library, recorded: Recorded, as_of: int | None = None) -> list[Corpus]:
    corpora = [
        library.corpus_at_revision(
            s.subject,
            s.revision if as_of is None else None,
            recorded.as_of if as_of is None else as_of,
            recorded.embedder,
        )
        for s in recorded.subjects
    ]
    asked = recorded.query.vectors
    if len(asked) and any(len(c) and c.matrix.shape[1] != asked.shape[1] for c in corpora):
        raise DamagedError(
            "the evidence holds vectors of another length than its embedder's; check it with: "
            "holdfast audit verify"
        )
    return corpora


def _corpus_differences(recorded: Recorded, corpora: Sequence[Corpus]) -> list[str]:
    first = recorded.format == FIRST_FORMAT
    return [
        f"the statements of subject {place} in force then are not those in the record now "
        f"({len(corpus)} now, {then.count} then)"
        for place, (then, corpus) in enumerate(
            zip(recorded.subjects, corpora, strict=True), start=1
        )
        if (corpus.first_digest if first else corpus.digest) != then.digest
    ]


def _outcome_differences(recorded: Recorded, outcome: Outcome) -> list[str]:
    differences: list[str] = []
    for name, now in columns_of(outcome).items():
        changed = (now != recorded.columns[name]).nonzero()[0]
        if len(changed):
            row = int(changed[0])
            differences.append(
                f"{name} of {len(changed)} candidates, first {outcome.statement(row).id}: "
                f"{int(now[row])} now, {int(recorded.columns[name][row])} then"
            )
    if outcome.selection.status != recorded.status:
        differences.append(f"status: {outcome.selection.status} now, {recorded.status} then")
    if tuple(outcome.statement(row).id for row in outcome.selection.injected) != recorded.injected:
        differences.append("the list of injected statements")
    if outcome.context != recorded.context:
        differences.append("the injected bytes")
    if hashlib.sha256(recorded.context.encode()).hexdigest() != recorded.context_digest:
        differences.append("the hash of the injected bytes")
    return differences


def _as_recorded(recorded: Recorded, corpora: list[Corpus]) -> Outcome:
    """Put the recorded columns beside the rebuilt statements, computing nothing anew."""
    now = evaluate(corpora, recorded.query, recorded.policy, recorded.table)
    columns = recorded.columns
    verdicts = columns["verdict"]
    injected = [row for row in now.selection.injected if verdicts[row] == INJECTED]
    injected += [row for row in (verdicts == INJECTED).nonzero()[0] if row not in injected]
    return Outcome(
        corpora=now.corpora,
        scores=Scores(columns["dense"], columns["lexical"], columns["total"]),
        probability=columns["probability"],
        selection=Selection(
            verdicts=verdicts,
            thresholds=now.selection.thresholds,
            order=sorted(
                range(len(verdicts)),
                key=lambda row: (-int(columns["total"][row]), now.statement(row).id),
            ),
            injected=injected,
            status=recorded.status,
        ),
        context=recorded.context,
    )
