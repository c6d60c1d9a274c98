"""Time-stamps of checkpoints (RFC 3161): somebody else's word on when one was there.

The authority is sent a hash and a random number, nothing else. Whether it is to be trusted
is for the auditor to say: ``openssl ts -verify`` checks the answer by its certificate.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPException
from urllib.request import Request, urlopen

from .errors import ConfigurationError, InvalidInputError

PATIENCE = 20.0  # seconds
MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Timestamp:
    """What a time-stamping authority answered."""

    response: bytes
    """The whole response in DER, as ``openssl ts -verify -in`` reads it."""
    time: datetime
    """When the authority says it saw the checkpoint."""


def fetch(note: str, url: str) -> Timestamp:
    """Have a checkpoint time-stamped.

    Args:
        note: the checkpoint's text.
        url: of the authority, http or https.

    Raises:
        InvalidInputError: the URL is none.
        ConfigurationError: the package is missing, or the authority did not give a
            time-stamp of this checkpoint.
    """
    try:
        from rfc3161_client import (
            HashAlgorithm,
            TimestampRequestBuilder,
            decode_timestamp_response,
        )
    except ImportError:
        raise ConfigurationError(
            "a time-stamp needs another package: pip install 'holdfast[timestamp]'"
        ) from None
    if not url.startswith(("http://", "https://")):
        raise InvalidInputError("give the time-stamping authority's URL like https://…")
    text = note.encode()
    builder = TimestampRequestBuilder().data(text).hash_algorithm(HashAlgorithm.SHA256)
    request = builder.build()
    try:
        headers = {"Content-Type": "application/timestamp-query"}
        asked = Request(url, data=request.as_bytes(), headers=headers)
        with urlopen(asked, timeout=PATIENCE) as answer:
            raw = answer.read(MOST_BYTES)
    except (OSError, HTTPException, ValueError) as error:
        raise _refused(f"it did not answer ({error})") from None
    try:
        response = decode_timestamp_response(raw)
        if response.status > 1:  # granted, or granted with changes
            raise _refused(f"it refused ({', '.join(response.status_string) or response.status})")
        info = response.tst_info
        same = info.message_imprint.message == hashlib.sha256(text).digest()
        if not same or info.nonce != request.nonce:
            raise _refused("its answer is to something else")
    except ValueError as error:
        raise _refused(f"it answered with no time-stamp ({error})") from None
    return Timestamp(raw, info.gen_time)


def _refused(why: str) -> ConfigurationError:
    return ConfigurationError(
        f"the time-stamping authority gave nothing: {why}. The checkpoint is signed; ask again, "
        "or ask another authority"
    )
