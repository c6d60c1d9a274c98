"""Sealing: AES-256-GCM with a random 96-bit nonce in front, and keyed hashes.

What is sealed is bound to what it belongs to, so that two sealed values cannot be swapped.
It knows nothing of where keys come from.
"""

import hashlib
import hmac
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .errors import DamagedError

KEY_SIZE = 32
NONCE_SIZE = 12


class Sealer:
    """One key of 32 bytes at work."""

    __slots__ = ("_aes", "_key", "_mac")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._aes = AESGCM(key)
        self._mac = hmac.digest(key, b"holdfast keyed hash", "sha256")

    def seal(self, plain: bytes, about: str) -> bytes:
        """Encrypt, bound to what it belongs to."""
        nonce = os.urandom(NONCE_SIZE)
        return nonce + self._aes.encrypt(nonce, plain, about.encode())

    def open(self, sealed: bytes, about: str) -> bytes:
        """Decrypt.

        Raises:
            DamagedError: it is not what was sealed, or belongs to something else.
        """
        try:
            return self._aes.decrypt(sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], about.encode())
        except (InvalidTag, ValueError, TypeError):
            raise DamagedError(
                f"what was sealed for {about} was altered in the database; see what else was with: "
                "holdfast audit verify, and restore the database from a backup"
            ) from None

    def keyed_hash(self, message: bytes) -> bytes:
        """Give HMAC-SHA-256: equal for equal messages, and nothing to guess them by."""
        return hmac.digest(self._mac, message, "sha256")

    @staticmethod
    def joint(sealers: Sequence["Sealer"]) -> "Sealer":
        """Give the sealer that needs all of these keys; of one, that one."""
        if len(sealers) == 1:
            return sealers[0]
        keys = b"".join(sealer._key for sealer in sealers)
        return Sealer(hashlib.sha256(b"holdfast joint key\n" + keys).digest())
