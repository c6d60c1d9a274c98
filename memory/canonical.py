"""Canonical JSON (RFC 8785) of what the ledger hashes: one spelling for each value. Pure.

Evidence holds no fractions, so this is Python's own JSON with its keys sorted as the RFC
wants and everything else refused. The stand-alone verifier contains this module, so it
needs no package; a test holds it against the package ``rfc8785``.
"""

import json
from json.encoder import encode_basestring
from typing import Any, cast

GREATEST = 2**53 - 1
"""Whole numbers beyond it are read differently by other languages."""


class Rejected(ValueError):  # noqa: N818 - it is a finding
    """What was shown does not hold; the message says why."""


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False)


def canonical(value: Any) -> bytes:
    """Write a value as canonical JSON.

    Args:
        value: made of dicts, lists, tuples, texts, whole numbers, booleans and None.

    Raises:
        Rejected: it holds something else, a number beyond 2^53, or a text that is not
            Unicode.
    """
    try:
        if type(value) is str:  # what most fields are: the short way
            return encode_basestring(value).encode()
        return _ENCODER.encode(_ordered(value)).encode()
    except (UnicodeEncodeError, RecursionError) as error:
        raise Rejected(f"no canonical JSON: {type(error).__name__}") from None


def _ordered(value: Any) -> Any:
    kind = cast("Any", type(value))
    if kind is str or kind is bool or value is None:
        return value
    if kind is int:
        if not -GREATEST <= value <= GREATEST:
            raise Rejected("no canonical JSON: a number is beyond 2^53")
        return value
    if kind is list or kind is tuple:
        return [_ordered(inner) for inner in value]
    if kind is dict:
        if not all(type(name) is str for name in value):
            raise Rejected("no canonical JSON: a key is no text")
        return {name: _ordered(value[name]) for name in sorted(value, key=_utf16)}
    raise Rejected(f"no canonical JSON: {kind.__name__} is not among its values")


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be")


def read_json(text: str) -> Any:
    """Read JSON of any spelling.

    Raises:
        Rejected: it is none.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Rejected("this is no JSON") from None


def read_canonical(text: str) -> Any:
    """Read a value back, and see that this is its one spelling.

    Raises:
        Rejected: it is no JSON, or could be spelled or read in another way.
    """
    value = read_json(text)
    if canonical(value).decode() != text:
        raise Rejected("the JSON is not canonical")
    return value
