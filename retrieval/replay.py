"""Evidence → the same selection again, or what differs.

The statements in force are rebuilt from the record at the revision that the evidence
names, with the int8 vectors of the embedder of the time, and scored again from the
recorded query vectors. Neither a model nor Chroma is needed.
"""

import hashlib

from ..memory.errors import DamagedError
from ..memory.models import Evidence
from .corpus import Corpus
from .evaluation import Candidates, Outcome, evaluate
from .evidence import Recorded, columns_of, from_payload, versions
from .library import Library
from .results import Explanation, Replay, Retrieval
from .scoring import Scores
from .selection import INJECTED, Selection


def replay(library: Library, evidence: Evidence) -> Replay:
    """Compute a recorded retrieval again and compare every candidate and every byte."""
    recorded = from_payload(evidence.payload)
    corpora = _rebuild(library, recorded)
    differences = _corpus_differences(recorded, corpora)
    differences += [
        f"{name} rules are {now} now, {recorded.versions.get(name)} then"
        for name, now in versions().items()
        if name != "holdfast" and recorded.versions.get(name) != now
    ]
    if [len(corpus) for corpus in corpora] == [s.count for s in recorded.subjects]:
        outcome = evaluate(corpora, recorded.query, recorded.policy, recorded.table)
        differences += _outcome_differences(recorded, outcome)
    return Replay(evidence.id, not differences, differences)


def explain(library: Library, evidence: Evidence) -> Explanation:
    """Read evidence back into statements, scores and verdicts, exactly as recorded."""
    recorded = from_payload(evidence.payload)
    corpora = _rebuild(library, recorded)
    problems = _corpus_differences(recorded, corpora)
    rebuilt = [len(corpus) for corpus in corpora] == [s.count for s in recorded.subjects]
    outcome = _as_recorded(recorded, corpora) if rebuilt else None
    retrieval = Retrieval(
        context=recorded.context,
        status=recorded.status,
        evidence_id=evidence.id,
        injected=[outcome.candidate(r) for r in outcome.selection.injected] if outcome else [],
        candidates=Candidates(outcome, outcome.selection.order) if outcome else (),
    )
    return Explanation(evidence, retrieval, problems)


def _rebuild(library: Library, recorded: Recorded) -> list[Corpus]:
    corpora = [
        library.corpus_at_revision(s.subject, s.revision, recorded.as_of, recorded.embedder)
        for s in recorded.subjects
    ]
    asked = recorded.query.vectors
    if len(asked) and any(len(c) and c.matrix.shape[1] != asked.shape[1] for c in corpora):
        raise DamagedError(
            "the evidence holds vectors of another length than its embedder's; check it with: "
            "holdfast audit verify"
        )
    return corpora


def _corpus_differences(recorded: Recorded, corpora: list[Corpus]) -> list[str]:
    return [
        f"the statements of subject {place} in force then are not those in the record now "
        f"({len(corpus)} now, {then.count} then)"
        for place, (then, corpus) in enumerate(
            zip(recorded.subjects, corpora, strict=True), start=1
        )
        if corpus.digest != then.corpus
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
