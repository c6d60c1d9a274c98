"""A retrieval ↔ the fields of its evidence. Pure: whole numbers, texts and packed columns.

The fields hold what is needed to compute the same selection again without a model:
every segment's int8 vector, the words that counted, the revision and digest of every
subject's statements in force, the whole policy with its calibration table, and every
candidate's score parts, total and verdict. They do not hold the request, only its hash.
Each can be shown without the others: the scores without the texts.
"""

import base64
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from .. import __version__
from ..memory import times
from ..memory.canonical import canonical
from ..memory.errors import DamagedError, ErasedError, InvalidInputError
from ..memory.ledger import Encoded
from ..memory.models import Evidence
from . import context, scoring, selection
from .evaluation import Outcome, Query, Table
from .results import Status
from .selection import Policy

FORMAT = "retrieval-2"
FIRST_FORMAT = "retrieval-1"
"""Of evidence from before the ledger, as it was carried in."""
COLUMNS = {"dense": "<i4", "lexical": "<i4", "total": "<i4", "probability": "<i4", "verdict": "u1"}
"""Columns of the candidates in their order, with their NumPy types (little-endian).

They are packed as byte planes, compressed with zlib, and written in base64."""


@dataclass(frozen=True, slots=True)
class Considered:
    """One subject of a retrieval: where it stood."""

    subject: str
    revision: int
    digest: str
    """SHA-256 over all statements in force (``Corpus.digest``)."""
    count: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """A payload, read back."""

    format: str
    request_digest: str
    subjects: tuple[Considered, ...]
    as_of: int
    query: Query
    embedder: str
    policy: Policy
    table: Table
    columns: dict[str, Any]
    injected: tuple[str, ...]
    status: Status
    context: str
    context_digest: str
    versions: dict[str, str]


def to_fields(
    outcome: Outcome,
    query: Query,
    *,
    request_digest: str,
    as_of: int,
    embedder: str,
    policy: Policy,
    table: Table,
) -> dict[str, Any]:
    """Give what is recorded of one retrieval; the ledger adds the subjects' names."""
    return {
        "format": FORMAT,
        "versions": _encoded_versions(),
        "request": request_digest,
        "segments": {
            "weights": list(query.weights),
            "vectors": _encode(query.vectors.tobytes()),
        },
        "terms": list(query.terms),
        "contexts": sorted(query.contexts),
        "as_of": times.written(as_of),
        "embedder": {"digest": embedder, "scale": query.scale},
        "corpora": [
            {"revision": corpus.revision, "digest": corpus.digest, "count": len(corpus)}
            for corpus in outcome.corpora
        ],
        "policy": _encoded_policy(policy, _written(table)),
        "candidates": _pack(columns_of(outcome)),
        "injected": [outcome.statement(row).id for row in outcome.selection.injected],
        "status": outcome.selection.status,
        "context": outcome.context,
        "context_sha256": hashlib.sha256(outcome.context.encode()).hexdigest(),
    }


def policy_fields(policy: Policy, table: Table) -> dict[str, Any]:
    """Give a policy in full, with its calibration table."""
    return {**policy.to_json(), "calibration": dict(_written(table))}


@lru_cache(maxsize=64)
def _encoded_policy(policy: Policy, table: tuple[tuple[str, str], ...]) -> Encoded:
    return Encoded(canonical({**policy.to_json(), "calibration": dict(table)}))


@lru_cache(maxsize=1)
def _encoded_versions() -> Encoded:
    return Encoded(canonical(versions()))


def from_evidence(evidence: Evidence) -> Recorded:
    """Read evidence back.

    Raises:
        ErasedError: its subject was erased.
        InvalidInputError: it is evidence of something else than a retrieval.
        DamagedError: it cannot be read.
    """
    if evidence.erased:
        raise ErasedError(
            f"what {evidence.id} recorded was erased with its subject; its leaf is still proved: "
            f"holdfast audit bundle {evidence.id}"
        )
    if evidence.type != "retrieval":
        raise InvalidInputError(f"{evidence.id} is evidence of {evidence.type}, not of a retrieval")
    fields = evidence.payload
    try:
        if fields["format"] not in (FORMAT, FIRST_FORMAT):
            raise DamagedError(
                f"the evidence has format {fields['format']!r}; take a newer Holdfast to read it"
            )
        segments, policy = fields["segments"], fields["policy"]
        weights = tuple(segments["weights"])
        raw = np.frombuffer(_decode(segments["vectors"]), np.int8)
        corpora = [
            Considered(subject=subject, **corpus)
            for subject, corpus in zip(evidence.subjects, fields["corpora"], strict=True)
        ]
        return Recorded(
            format=fields["format"],
            request_digest=fields["request"],
            subjects=tuple(corpora),
            as_of=times.to_micros(fields["as_of"]),
            query=Query(
                vectors=raw.reshape(len(weights), -1) if weights else raw.reshape(0, 0),
                weights=weights,
                terms=tuple(fields["terms"]),
                contexts=frozenset(fields["contexts"]),
                scale=fields["embedder"]["scale"],
            ),
            embedder=fields["embedder"]["digest"],
            policy=Policy.from_json(policy),
            table=_read_table(policy["calibration"]),
            columns=_unpack(fields["candidates"], sum(each.count for each in corpora)),
            injected=tuple(fields["injected"]),
            status=fields["status"],
            context=fields["context"],
            context_digest=fields["context_sha256"],
            versions=fields["versions"],
        )
    except (KeyError, TypeError, ValueError, AttributeError, zlib.error) as error:
        raise DamagedError(
            f"the evidence cannot be read ({type(error).__name__}); check it with: "
            "holdfast audit verify"
        ) from None


def columns_of(outcome: Outcome) -> dict[str, Any]:
    """Give the columns that are recorded of an outcome's candidates."""
    return {
        "dense": outcome.scores.dense,
        "lexical": outcome.scores.lexical,
        "total": outcome.scores.total,
        "probability": outcome.probability,
        "verdict": outcome.selection.verdicts,
    }


def versions() -> dict[str, str]:
    """Name what took part: the package and each rule that shapes a selection."""
    return {
        "holdfast": __version__,
        "scoring": scoring.VERSION,
        "selection": selection.VERSION,
        "context": context.VERSION,
    }


def _written(table: Table) -> tuple[tuple[str, str], ...]:
    """Write the calibration as lines of numbers: quicker to encode than lists."""
    return tuple((name, " ".join(map(str, column))) for name, column in table.items())


def _read_table(written: Mapping[str, str]) -> Table:
    table = {name: tuple(map(int, column.split())) for name, column in written.items()}
    if not {"totals", "probabilities"} <= set(table):
        raise KeyError("calibration")
    return table


def _pack(columns: Mapping[str, Any]) -> str:
    """Pack columns byte plane by byte plane (all lowest bytes first), which compress well."""
    raw = b"".join(
        columns[name].astype(kind).view(np.uint8).reshape(-1, np.dtype(kind).itemsize).T.tobytes()
        for name, kind in COLUMNS.items()
    )
    return _encode(zlib.compress(raw, 1))


def _unpack(packed: str, count: int) -> dict[str, Any]:
    raw = np.frombuffer(zlib.decompress(_decode(packed)), np.uint8)
    if len(raw) != count * sum(np.dtype(kind).itemsize for kind in COLUMNS.values()):
        raise ValueError("columns of another length")
    result: dict[str, Any] = {}
    start = 0
    for name, kind in COLUMNS.items():
        size = np.dtype(kind).itemsize
        planes = raw[start : start + size * count].reshape(size, count)
        result[name] = np.ascontiguousarray(planes.T).view(kind).reshape(count)
        start += size * count
    return result


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _decode(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
