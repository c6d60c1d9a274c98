"""The REST API under ``/api/v1``: evidence, the ledger, keys, usage and the installation."""

from typing import Annotated, Any

from fastapi import Query, Response

from ..memory.models import Evidence, Key
from ..retrieval.results import Replay
from ..retrieval.settings import MOST_NUMBER
from .answers import checkpoint_value, doctor_value, verification_value
from .api_models import (
    CheckpointOut,
    DoctorOut,
    EventId,
    EvidenceOut,
    KeyMade,
    KeyRotation,
    NewKey,
    Overlap,
    ReplayRequest,
    UsageOut,
    VerificationOut,
    Why,
)
from .asking import (
    MOST_LISTED,
    Asking,
    Id,
    Listed,
    SubjectName,
    answer,
    link,
    needs,
    new_router,
    problems,
)
from .problems import RefusedError

Note = Annotated[
    str | None, Query(max_length=5_000, description="The text of a checkpoint that was kept.")
]
Types = Annotated[
    list[Annotated[str, Query(max_length=64)]],
    Query(
        alias="type",
        max_length=32,
        description="Only events of these types; repeatable. `*`: of every type.",
    ),
]
Most = Annotated[int, Query(ge=0, le=MOST_LISTED, description="Most events.")]
Before = Annotated[
    int | None,
    Query(ge=0, le=MOST_NUMBER, description="Only events whose index is below this."),
]
RETRIEVALS = ["retrieval"]

router = new_router()


# Evidence


@router.get(
    "/subjects/{subject:path}/evidence",
    tags=["evidence"],
    response_model=list[Evidence],
    responses=problems(404),
)
def subject_evidence(
    asking: Annotated[Asking, needs("evidence", "evidence")],
    subject: SubjectName,
    types: Types = RETRIEVALS,
    limit: Most = 100,
    before: Before = None,
) -> Response:
    """List a subject's events, newest first; a personal key sees those about it alone."""
    return answer(asking.events(asking.about(subject), types, before=before, limit=limit))


@router.get("/evidence", tags=["evidence"], response_model=list[Evidence])
def list_evidence(
    asking: Annotated[Asking, needs("evidence", "evidence")],
    types: Types = RETRIEVALS,
    limit: Most = 100,
    before: Before = None,
) -> Response:
    """List the events of the tenant, newest first; of a personal key, its subject's."""
    return answer(asking.events(asking.caller.subject, types, before=before, limit=limit))


@router.get(
    "/evidence/{evidence_id}",
    tags=["evidence"],
    response_model=EvidenceOut,
    responses=problems(404),
)
def show_evidence(
    asking: Annotated[Asking, needs("evidence", "evidence")], evidence_id: Id
) -> Response:
    """Give an event; of a retrieval also every candidate with its scores and verdict."""
    found = asking.evidence(evidence_id)
    is_read = found.type == "retrieval" and not found.erased
    explanation = asking.engine.explain(evidence_id) if is_read else None
    return answer({"evidence": found, "explanation": explanation})


@router.post(
    "/evidence/{evidence_id}/replay",
    tags=["evidence"],
    response_model=Replay,
    responses=problems(404),
)
def replay_evidence(
    asking: Annotated[Asking, needs("evidence", "replay")],
    evidence_id: Id,
    otherwise: ReplayRequest | None = None,
) -> Response:
    """Compute a recorded retrieval again: the same, or with something otherwise."""
    asking.evidence(evidence_id)
    how: dict[str, Any] = {} if otherwise is None else otherwise.model_dump()
    return answer(asking.engine.replay(evidence_id, **how))


@router.get(
    "/evidence/{evidence_id}/bundle",
    tags=["evidence"],
    response_model=dict[str, Any],
    responses=problems(404, 409),
)
def evidence_bundle(
    asking: Annotated[Asking, needs("evidence", "bundle")],
    evidence_id: Id,
    disclose: Annotated[
        list[Annotated[str, Query(max_length=64)]] | None,
        Query(max_length=64, description="Names of the fields to show; repeatable."),
    ] = None,
    disclose_all: Annotated[bool, Query(description="Show every field.")] = False,
    since: Note = None,
) -> Response:
    """Make a bundle: proof of one event that can be checked without this server.

    Without ``disclose`` it shows no words of a subject.
    """
    found = asking.evidence(evidence_id)
    shown = sorted({"subjects", *found.payload}) if disclose_all else disclose
    return answer(asking.engine.audit.bundle(evidence_id, disclose=shown, since=since))


# The ledger


@router.get(
    "/ledger/checkpoint",
    tags=["ledger"],
    response_model=CheckpointOut,
    responses=problems(404, 409),
)
def sign_checkpoint(
    asking: Annotated[Asking, needs("ledger", "checkpoint")], since: Note = None
) -> Response:
    """Sign the ledger as it stands; whoever keeps the note sees later that nothing changed."""
    return answer(_checkpoint(asking, asking.engine.audit.checkpoint(since=since)))


@router.post("/ledger/start-over", tags=["ledger"], response_model=CheckpointOut,
             responses=problems(404, 409))  # fmt: skip
def start_over(asking: Annotated[Asking, needs("manage", "checkpoint")], why: Why) -> Response:
    """Go on under a new name, where leaves that were signed are lost for good."""
    return answer(_checkpoint(asking, asking.engine.audit.start_over(why.reason)))


def _checkpoint(asking: Asking, signed: Any) -> dict[str, Any]:
    return checkpoint_value(signed, asking.engine.audit.verifier_key)


@router.get("/ledger/verify", tags=["ledger"], response_model=VerificationOut)
def verify_ledger(
    asking: Annotated[Asking, needs("ledger", "verify")],
    checkpoint: Note = None,
) -> Response:
    """Check the whole ledger, and the record against it."""
    return answer(verification_value(asking.engine.verify(checkpoint=checkpoint)))


# Keys


@router.post(
    "/keys",
    tags=["keys"],
    status_code=201,
    response_model=KeyMade,
    responses=link(201, "key/id", "key_id", "rotate_key", "revoke_key"),
)
def create_key(asking: Annotated[Asking, needs("manage", "keys")], wanted: NewKey) -> Response:
    """Make a key; its text is told only now."""
    made = wanted.model_dump(exclude={"name"})
    key, secret = asking.engine.access.create(wanted.name, **made)
    return answer({"key": key, "secret": secret}, 201)


@router.get("/keys", tags=["keys"], response_model=list[Key])
def list_keys(asking: Annotated[Asking, needs("manage", "keys")], part: Listed) -> Response:
    """List the tenant's keys, oldest first, those that have ended too."""
    return part.answer(asking.engine.access.keys())


@router.delete("/keys/{key_id}", tags=["keys"], response_model=Key, responses=problems(404))
def revoke_key(asking: Annotated[Asking, needs("manage", "keys")], key_id: Id) -> Response:
    """End a key at once."""
    return answer(asking.engine.access.revoke(key_id))


@router.post(
    "/keys/{key_id}/rotate", tags=["keys"], response_model=KeyMade, responses=problems(404)
)
def rotate_key(
    asking: Annotated[Asking, needs("manage", "keys")],
    key_id: Id,
    holds: Overlap | None = None,
) -> Response:
    """Make a key like another one, which holds for ``overlap`` seconds more."""
    overlap = 0 if holds is None else holds.overlap
    asking.service.meter.flush()  # what the old one has done counts towards the new one's quota
    key, secret = asking.engine.access.rotate(key_id, overlap=overlap)
    return answer({"key": key, "secret": secret})


@router.get("/usage", tags=["keys"], response_model=list[UsageOut])
def usage(
    asking: Annotated[Asking, needs("manage", "usage")],
    part: Listed,
    month: Annotated[
        str | None, Query(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])$", examples=["2026-11"])
    ] = None,
) -> Response:
    """List what the tenant's keys have done, by month and operation.

    `before.rotation` is what the key that this one replaced had done of its quota that month; it
    is listed with that key too, so leave it out of sums over several keys.
    """
    asking.service.meter.flush()
    return part.answer(asking.engine.access.usage(month))


# The installation


@router.get("/doctor", tags=["installation"], response_model=DoctorOut)
def check_record(asking: Annotated[Asking, needs("manage", "doctor")]) -> Response:
    """Check the record, the vectors and the ledger against each other."""
    report = asking.engine.doctor(mend=False)
    return answer(doctor_value(report, report.ok and not any(report.findings.values())))


@router.post("/doctor", tags=["installation"], response_model=DoctorOut)
def mend_record(asking: Annotated[Asking, needs("manage", "doctor")]) -> Response:
    """Check them, and mend what can be mended."""
    report = asking.engine.doctor(mend=True)
    return answer(doctor_value(report, report.ok))


@router.post("/installation/rotate-key", tags=["installation"], response_model=EventId)
def rotate_installation_key(
    asking: Annotated[Asking, needs("manage", "rotate")], how: KeyRotation | None = None
) -> Response:
    """Wrap every data key anew, of all tenants: for the owner of the data directory alone."""
    if asking.caller.key_id != "local":
        raise RefusedError(
            403,
            "this concerns every tenant: only the owner of the data directory may do it, through "
            "the socket in it",
        )
    drop_old = how is not None and how.drop_old
    return answer({"evidence_id": asking.engine.audit.rotate_key(drop_old=drop_old)})
