"""A leaf, the fields that it commits to, and the columns in which candidates are packed. Pure.

A leaf is what stands in the tree for one event. Each field of its payload is shown as the
canonical JSON of [salt, name, value]; the leaf binds the digests of all of them, so that
one can be shown without the others.
"""

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from .canonical import Rejected, read_canonical
from .checkpoint import decode
from .merkle import HASH_SIZE

LEAF_VERSION = 1
COLUMNS = (("dense", 4), ("lexical", 4), ("total", 4), ("probability", 4), ("verdict", 1))
"""Columns of a retrieval's candidates, and the bytes of each number."""
MOST_UNPACKED = 1 << 26
"""Bytes of unpacked candidates that are looked at: about four million of them."""
VERDICTS = ("injected", "below_threshold", "over_budget", "out_of_context")


@dataclass(frozen=True)
class Leaf:
    """What is hashed into the tree for one event, and never deleted."""

    id: str
    type: str
    time: int
    """Milliseconds since 1970, by the log's own clock."""
    commit: str
    """Hex SHA-256 that binds all fields of the payload."""
    sealed: str
    """Hex SHA-256 of the payload as it was stored, encrypted."""


def write_leaf(leaf: Leaf) -> bytes:
    """Write a leaf as canonical JSON: what is hashed into the tree."""
    return (
        f'{{"commit":"{leaf.commit}","id":"{leaf.id}","sealed":"{leaf.sealed}",'
        f'"time":{leaf.time},"type":"{leaf.type}","v":{LEAF_VERSION}}}'
    ).encode()


def read_leaf(text: str) -> Leaf:
    """Read a leaf.

    Raises:
        Rejected: it is none, or of a later version.
    """
    value = as_object(read_canonical(text), "the leaf")
    kinds = {"commit": str, "id": str, "sealed": str, "time": int, "type": str, "v": int}
    if {name: type(inner) for name, inner in value.items()} != kinds:
        raise Rejected("the leaf has not the fields of a leaf")
    if value.pop("v") != LEAF_VERSION:
        raise Rejected("the leaf is of a later version; take a newer verifier")
    return Leaf(**value)


def read_field(disclosure: str) -> tuple[str, Any]:
    """Read a field as it is shown: the canonical JSON of [salt, name, value].

    Raises:
        Rejected: it is none.
    """
    parts = as_list(read_canonical(disclosure), "a field")
    if len(parts) != 3:
        raise Rejected("a field is not made of salt, name and value")
    if len(decode(as_text(parts[0], "a salt"), "a salt")) != HASH_SIZE:
        raise Rejected("a salt is not 32 bytes long")
    return as_text(parts[1], "a field's name"), parts[2]


def field_digest(disclosure: bytes) -> bytes:
    """Give the digest that stands for a field, from its canonical JSON."""
    return hashlib.sha256(disclosure).digest()


def payload_commit(digests: Sequence[bytes]) -> str:
    """Give what binds all fields of a payload: hex SHA-256 over their sorted digests."""
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def corpus_digest(rows: Sequence[str]) -> str:
    """Give hex SHA-256 over the lines that stand for a subject's statements in force."""
    return hashlib.sha256("".join(f"{row}\n" for row in rows).encode()).hexdigest()


def read_candidates(packed: str) -> list[dict[str, Any]]:
    """Unpack the scores of a retrieval: columns of little-endian integers.

    Each column is written lowest bytes first (all the lowest, then all the next, …), all
    of them are compressed with zlib and written in base64.

    Raises:
        Rejected: they cannot be unpacked.
    """
    try:
        raw = zlib.decompressobj().decompress(decode(packed, "the candidates"), MOST_UNPACKED)
    except zlib.error:
        raise Rejected("the candidates cannot be unpacked") from None
    count, rest = divmod(len(raw), sum(size for _, size in COLUMNS))
    if rest:
        raise Rejected("the candidates are cut off")
    candidates: list[dict[str, Any]] = [{} for _ in range(count)]
    for name, size in COLUMNS:
        for place, candidate in enumerate(candidates):
            is_verdict = name == "verdict"
            of_column = raw[place : size * count : count]
            number = int.from_bytes(of_column, "little", signed=not is_verdict)
            if is_verdict and number >= len(VERDICTS):
                raise Rejected("a candidate has a verdict that there is none of")
            candidate[name] = VERDICTS[number] if is_verdict else number
        raw = raw[size * count :]
    return candidates


def as_object(value: Any, what: str) -> dict[str, Any]:
    """Take a JSON value for an object, or raise ``Rejected``."""
    if not isinstance(value, dict):
        raise Rejected(f"{what} is no object")
    return cast("dict[str, Any]", value)


def as_list(value: Any, what: str) -> list[Any]:
    """Take a JSON value for a list, or raise ``Rejected``."""
    if not isinstance(value, list):
        raise Rejected(f"{what} is no list")
    return cast("list[Any]", value)


def as_text(value: Any, what: str) -> str:
    """Take a JSON value for a text, or raise ``Rejected``."""
    if not isinstance(value, str):
        raise Rejected(f"{what} is no text")
    return value
