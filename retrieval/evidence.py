"""A retrieval ↔ the payload of its evidence. Pure: integers, texts and packed columns.

The payload holds what is needed to compute the same selection again without a model:
every segment's int8 vector, the words that counted, the revision and digest of every
subject's statements in force, the whole policy with its calibration table, and every
candidate's score parts, total and verdict. It does not hold the request, only its hash.
"""

import base64
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import __version__
from ..memory.errors import DamagedError
from . import context, scoring, selection
from .evaluation import Outcome, Query, Table
from .results import Status
from .selection import Policy

FORMAT = "retrieval-1"
COLUMNS = {"dense": "<i4", "lexical": "<i4", "total": "<i4", "probability": "<i4", "verdict": "u1"}
"""Columns of the candidates in their order, with their NumPy types (little-endian).

They are packed as byte planes, compressed with zlib, and written in base64."""


@dataclass(frozen=True, slots=True)
class Considered:
    """One subject of a retrieval: where it stood."""

    subject: str
    revision: int
    corpus: str
    """SHA-256 over what all statements in force say, and their vectors' hashes."""
    count: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """A payload, read back."""

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


def to_payload(
    outcome: Outcome,
    query: Query,
    *,
    request_digest: str,
    as_of: int,
    embedder: str,
    policy: Policy,
    table: Table,
) -> dict[str, Any]:
    """Give what is recorded of one retrieval."""
    return {
        "format": FORMAT,
        "versions": versions(),
        "request": {
            "sha256": request_digest,
            "weights": list(query.weights),
            "vectors": _encode(query.vectors.tobytes()),
            "terms": list(query.terms),
            "contexts": sorted(query.contexts),
        },
        "as_of": as_of,
        "embedder": {"digest": embedder, "scale": query.scale},
        "subjects": [
            {
                "subject": corpus.subject,
                "revision": corpus.revision,
                "corpus": corpus.digest,
                "count": len(corpus),
            }
            for corpus in outcome.corpora
        ],
        "policy": {**policy.to_json(), "calibration": _written(table)},
        "candidates": _pack(columns_of(outcome)),
        "injected": [outcome.statement(row).id for row in outcome.selection.injected],
        "status": outcome.selection.status,
        "context": {
            "text": outcome.context,
            "sha256": hashlib.sha256(outcome.context.encode()).hexdigest(),
        },
    }


def from_payload(payload: Mapping[str, Any]) -> Recorded:
    """Read a payload back.

    Raises:
        DamagedError: it is not the payload of a retrieval, or cannot be read.
    """
    try:
        if payload["format"] != FORMAT:
            raise DamagedError(f"the evidence has format {payload['format']!r}, not {FORMAT!r}")
        request, policy = payload["request"], payload["policy"]
        weights = tuple(request["weights"])
        raw = np.frombuffer(_decode(request["vectors"]), np.int8)
        return Recorded(
            request_digest=request["sha256"],
            subjects=tuple(Considered(**subject) for subject in payload["subjects"]),
            as_of=payload["as_of"],
            query=Query(
                vectors=raw.reshape(len(weights), -1) if weights else raw.reshape(0, 0),
                weights=weights,
                terms=tuple(request["terms"]),
                contexts=frozenset(request["contexts"]),
                scale=payload["embedder"]["scale"],
            ),
            embedder=payload["embedder"]["digest"],
            policy=Policy.from_json(policy),
            table={
                name: tuple(map(int, policy["calibration"][name].split()))
                for name in ("totals", "probabilities")
            },
            columns=_unpack(payload["candidates"], sum(s["count"] for s in payload["subjects"])),
            injected=tuple(payload["injected"]),
            status=payload["status"],
            context=payload["context"]["text"],
            context_digest=payload["context"]["sha256"],
            versions=payload["versions"],
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


def _written(table: Table) -> dict[str, str]:
    """Write the calibration as two lines of numbers: quicker to encode than two lists."""
    return {name: " ".join(map(str, column)) for name, column in table.items()}


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
