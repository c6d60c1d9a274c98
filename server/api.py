"""The REST API under ``/api/v1``: what is about one subject.

Statements, decisions, retrieval, proposals, and a subject's record as a whole. Evidence,
ledger, keys and the installation are in ``api_admin``. Routes are synchronous: the
framework runs each in a thread.
"""

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import Body, FastAPI, Query, Response

from ..memory.errors import InvalidInputError
from ..memory.models import Decision, Erasure, Proposal, Statement
from ..retrieval.portable import Document
from ..retrieval.results import Added, Loaded, Said
from . import api_admin
from .answers import added_value, retrieval_headers
from .api_models import (
    AddedOut,
    NewDecision,
    NewProposals,
    NewStatements,
    Problem,
    Reason,
    RetrievalOut,
    RetrievalRequest,
    Revision,
    ToRead,
    When,
)
from .asking import Asking, Id, Listed, SubjectName, answer, link, needs, new_router, problems
from .service import Service

AsOf = Annotated[When | None, Query(description="Valid time; none: now.")]
REQUEST_EXAMPLES: Any = {
    "a prompt": {"value": {"request": "Which desserts should I try in Sicily?"}},
    "a conversation, for an organisation and a person": {
        "value": {
            "request": [{"role": "user", "content": "Which desserts should I try in Sicily?"}],
            "subjects": ["acme", "ada"],
            "limit": 3,
            "candidates": False,
        }
    },
}

router = new_router()


def add(app: FastAPI, service: Service) -> None:  # noqa: ARG001
    """Add the routes, and what the OpenAPI document says of all of them."""
    app.include_router(router)
    app.include_router(api_admin.router)
    described = app.openapi

    def openapi() -> dict[str, Any]:
        document = described()
        document["components"]["schemas"]["Problem"] = Problem.model_json_schema()
        return document

    app.openapi = openapi


# Statements


@router.get("/subjects", tags=["subjects"], response_model=list[str])
def list_subjects(asking: Annotated[Asking, needs("read", "list")], part: Listed) -> Response:
    """List the subjects of whom anything is on record; a personal key sees its own alone."""
    own = asking.caller.subject
    return part.answer(asking.engine.subjects() if own is None else [own])


@router.post(
    "/subjects/{subject:path}/statements",
    tags=["statements"],
    status_code=201,
    response_model=AddedOut,
    responses=problems(404) | link(201, "statements/0/id", "statement_id",
                                   "revise_statement", "retire_statement", "statement_history"),
)  # fmt: skip
def add_statements(
    asking: Annotated[Asking, needs("write", "add")], subject: SubjectName, said: NewStatements
) -> Response:
    """Store what a subject says, split into single statements; nothing is merged."""
    whose = asking.about(subject)
    if said.text is not None:
        added = asking.engine.add(whose, said.text, **said.said())
    else:
        added = Added(asking.engine.add_many(whose, said.texts or [], **said.said()))
    return answer(added_value(added), 201)


@router.post(
    "/subjects/{subject:path}/read",
    tags=["statements"],
    response_model=list[Said],
    responses=problems(404),
)
def read_text(
    asking: Annotated[Asking, needs("write", "read")], subject: SubjectName, said: ToRead
) -> Response:
    """Tell how a text would be split and read, and what it lies close to; nothing is stored."""
    return answer(asking.engine.read(asking.about(subject), **said.model_dump()))


@router.get(
    "/subjects/{subject:path}/statements",
    tags=["statements"],
    response_model=list[Statement],
    responses=problems(404),
)
def list_statements(
    asking: Annotated[Asking, needs("read", "list")],
    subject: SubjectName,
    part: Listed,
    as_of: AsOf = None,
    known_at: Annotated[When | None, Query(description="Record time; none: now.")] = None,
    include_retired: Annotated[bool, Query(description="Also what had ended by then.")] = False,
) -> Response:
    """List what held at a time, as far as was known at another; ``x-total-count`` counts all."""
    found = asking.engine.statements(
        asking.about(subject), as_of=as_of, known_at=known_at, include_retired=include_retired
    )
    return part.answer(found)


@router.patch(
    "/statements/{statement_id}",
    tags=["statements"],
    response_model=Statement,
    responses=problems(404),
)
def revise_statement(
    asking: Annotated[Asking, needs("write", "revise")], statement_id: Id, revision: Revision
) -> Response:
    """Write the next version of a statement; the one before is kept."""
    asking.statement(statement_id)
    revised = asking.engine.revise(
        statement_id, revision.text, reason=revision.reason, **revision.changes()
    )
    return answer(revised)


@router.delete(
    "/statements/{statement_id}",
    tags=["statements"],
    response_model=Statement,
    responses=problems(404),
)
def retire_statement(
    asking: Annotated[Asking, needs("write", "retire")],
    statement_id: Id,
    why: Reason | None = None,
) -> Response:
    """Note that a statement no longer holds, from now on; it stays in the record."""
    asking.statement(statement_id)
    return answer(asking.engine.retire(statement_id, reason=why and why.reason))


@router.get(
    "/statements/{statement_id}/history",
    tags=["statements"],
    response_model=list[Statement],
    responses=problems(404),
)
def statement_history(
    asking: Annotated[Asking, needs("read", "list")], statement_id: Id, part: Listed
) -> Response:
    """Give every version of a statement, oldest first."""
    asking.statement(statement_id)
    return part.answer(asking.engine.history(statement_id))


# Decisions


@router.post(
    "/subjects/{subject:path}/decisions",
    tags=["decisions"],
    status_code=201,
    response_model=Decision,
    responses=problems(404),
)
def add_decision(
    asking: Annotated[Asking, needs("write", "decide")], subject: SubjectName, made: NewDecision
) -> Response:
    """Store a decision as a precedent."""
    whose = asking.about(subject)
    for statement_id in made.weighed:
        asking.statement(statement_id, of=whose)
    return answer(asking.engine.decide(whose, **made.model_dump()), 201)


@router.get(
    "/subjects/{subject:path}/decisions",
    tags=["decisions"],
    response_model=list[Decision],
    responses=problems(404),
)
def list_decisions(
    asking: Annotated[Asking, needs("read", "list")],
    subject: SubjectName,
    part: Listed,
    as_of: AsOf = None,
) -> Response:
    """List the decisions that stand, oldest first, with what each weighed."""
    return part.answer(asking.engine.decisions(asking.about(subject), as_of=as_of))


# Retrieval


@router.post(
    "/subjects/{subject:path}/retrieve",
    tags=["retrieval"],
    response_model=RetrievalOut,
    responses=problems(404, 503) | link(200, "evidence_id", "evidence_id",
                                        "show_evidence", "replay_evidence", "evidence_bundle"),
)  # fmt: skip
def retrieve(
    asking: Annotated[Asking, needs("retrieve", "retrieve")],
    subject: SubjectName,
    wanted: Annotated[RetrievalRequest, Body(openapi_examples=REQUEST_EXAMPLES)],
) -> Response:
    """Choose the few statements that bear on a request; evidence of it is durable first."""
    whose = [asking.about(each) for each in (subject, *(wanted.subjects or ()))]
    found = asking.engine.retrieve(
        whose if wanted.subjects is None else whose[1:],
        wanted.request,
        **wanted.model_dump(include={"limit", "budget", "threshold", "contexts", "as_of"}),
        record=wanted.record,
    )
    asking.service.metrics.retrieved("rest", found.status)
    value: dict[str, Any] = {
        "context": found.context,
        "status": found.status,
        "evidence_id": found.evidence_id,
        "injected": found.injected,
        "repaired": found.repaired,
    }
    if wanted.candidates:
        value["candidates"] = found.candidates
    told = retrieval_headers(found.status, len(found.injected), found.evidence_id)
    return answer(value, headers=told)


# Proposals


@router.get(
    "/subjects/{subject:path}/proposals",
    tags=["proposals"],
    response_model=list[Proposal],
    responses=problems(404),
)
def list_proposals(
    asking: Annotated[Asking, needs("read", "list")],
    subject: SubjectName,
    part: Listed,
    status: Annotated[Literal["open", "confirmed", "rejected", "all"], Query()] = "open",
) -> Response:
    """List what others put forward for a subject, oldest first."""
    wanted = None if status == "all" else status
    return part.answer(asking.engine.proposals(asking.about(subject), status=wanted))


@router.post(
    "/subjects/{subject:path}/proposals",
    tags=["proposals"],
    status_code=201,
    response_model=list[Proposal],
    responses=problems(404) | link(201, "0/id", "proposal_id",
                                   "confirm_proposal", "reject_proposal"),
)  # fmt: skip
def add_proposals(
    asking: Annotated[Asking, needs("write", "propose")], subject: SubjectName, put: NewProposals
) -> Response:
    """Keep what somebody else puts forward, or what a conversation says; it is never injected.

    Of a conversation only the user's own turns are read, and only what lasts is kept.
    """
    whose = asking.about(subject)
    if put.text is not None:
        return answer(asking.engine.propose(whose, put.text, **put.said()), 201)
    settings = asking.engine.settings
    said: dict[str, Any] = {}
    if settings.reader_model is not None:
        from .reader import read_with_model

        said["source"] = f"model:{settings.reader_model}"
        said["read"] = partial(read_with_model, settings)
    if put.source is not None:
        said["source"] = put.source
    return answer(asking.engine.glean(whose, put.messages or [], **said), 201)


@router.post(
    "/proposals/{proposal_id}/confirm",
    tags=["proposals"],
    response_model=Statement,
    responses=problems(404),
)
def confirm_proposal(
    asking: Annotated[Asking, needs("write", "confirm")], proposal_id: Id
) -> Response:
    """Make a statement of a proposal, as its subject's own word."""
    asking.proposal(proposal_id)
    return answer(asking.engine.confirm(proposal_id))


@router.post(
    "/proposals/{proposal_id}/reject",
    tags=["proposals"],
    response_model=Proposal,
    responses=problems(404),
)
def reject_proposal(
    asking: Annotated[Asking, needs("write", "confirm")], proposal_id: Id
) -> Response:
    """Note that the subject does not want a proposal."""
    asking.proposal(proposal_id)
    return answer(asking.engine.reject(proposal_id))


# A subject's record as a whole


@router.get(
    "/subjects/{subject:path}/export",
    tags=["subjects"],
    response_model=Document,
    responses=problems(404),
)
def export_subject(
    asking: Annotated[Asking, needs("read", "export")], subject: SubjectName
) -> Response:
    """Give a subject's record as a portable document; the ledger notes that it was given."""
    return answer(asking.engine.export(asking.about(subject)))


@router.post(
    "/subjects/{subject:path}/import",
    tags=["subjects"],
    response_model=Loaded,
    responses=problems(404),
)
def import_subject(
    asking: Annotated[Asking, needs("write", "import")],
    subject: SubjectName,
    document: Annotated[
        dict[str, Any], Body(description="What export gave, unchanged.", examples=[{}])
    ],
) -> Response:
    """Write what export gave; ids, times and history are kept. All of it, or nothing."""
    return answer(asking.engine.load(asking.about(subject), document))


@router.delete(
    "/subjects/{subject:path}",
    tags=["subjects"],
    response_model=Erasure,
    responses=problems(404),
)
def erase_subject(
    asking: Annotated[Asking, needs("erase", "erase")],
    subject: SubjectName,
    confirm: Annotated[str, Query(description="The subject's name again.")],
    why: Reason | None = None,
) -> Response:
    """Remove everything of a subject but the proofs; it cannot be undone."""
    whose = asking.about(subject)
    if confirm != subject:
        raise InvalidInputError("confirm is not the name of the subject; nothing was erased")
    return answer(asking.engine.erase(whose, reason=why and why.reason))
