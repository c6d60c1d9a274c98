"""Checkpoints: a ledger's size and root, signed. Pure.

C2SP signed-note and tlog-checkpoint: a few lines of text under an Ed25519 signature,
which witnesses may add theirs to. It knows nothing of what was signed before; see
``signer`` for that.
"""

import base64
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from .canonical import Rejected
from .merkle import HASH_SIZE, check_hashes

ED25519 = b"\x01"
"""The signature's type, as signed-note numbers them."""
MOST_SIGNATURES = 64


@dataclass(frozen=True)
class VerifierKey:
    """Whose signature counts: a log's name and its Ed25519 public key (32 bytes).

    Written ``name+hint+base64``, as C2SP's tools read it.
    """

    name: str
    public: bytes

    @property
    def hint(self) -> bytes:
        """Four bytes by which a signature's line names its key."""
        named = self.name.encode() + b"\n" + ED25519 + self.public
        return hashlib.sha256(named).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.hint.hex()}+{encode(ED25519 + self.public)}"


@dataclass(frozen=True)
class Checkpoint:
    """A log's size and root, and the note in which they were signed."""

    origin: str
    size: int
    root: bytes
    note: str


def verifier_key(origin: str, seed: bytes) -> VerifierKey:
    """Give the public side of a signing key of 32 bytes."""
    return VerifierKey(
        origin, Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    )


def sign(origin: str, seed: bytes, size: int, root: bytes) -> Checkpoint:
    """Sign the root of a log's first ``size`` leaves with a key of 32 bytes."""
    text = f"{origin}\n{size}\n{encode(root)}\n"
    signature = Ed25519PrivateKey.from_private_bytes(seed).sign(text.encode())
    key = verifier_key(origin, seed)
    note = f"{text}\n— {origin} {encode(key.hint + signature)}\n"
    return Checkpoint(origin, size, root, note)


def read_key(text: str) -> VerifierKey:
    """Read a verifier key.

    Raises:
        Rejected: it is none, or was not copied whole.
    """
    name, _, rest = text.strip().partition("+")
    hint, _, encoded = rest.partition("+")
    raw = decode(encoded, "the key")
    if not _is_name(name) or raw[:1] != ED25519 or len(raw) != 1 + HASH_SIZE:
        raise Rejected("this is no Ed25519 key; it is written like name+1a2b3c4d+base64")
    key = VerifierKey(name, raw[1:])
    if hint != key.hint.hex():
        raise Rejected("the key's hint does not fit the key; copy it whole")
    return key


def read_checkpoint(note: str, key: VerifierKey) -> Checkpoint:
    """Open a checkpoint: see that the key signed it, then read it.

    Signatures of other keys beside it are left aside, as the format wants.

    Raises:
        Rejected: the key did not sign it, or it is no checkpoint of the key's log.
    """
    text, blank, signatures = note.rpartition("\n\n")
    if not blank or not note.endswith("\n") or any(s < " " and s != "\n" for s in note):
        raise Rejected("this is no signed note")
    text += "\n"
    lines = signatures[:-1].split("\n")
    if len(lines) > MOST_SIGNATURES:
        raise Rejected("the note has too many signatures")
    own = [value for value in (_signature(line, key) for line in lines) if value is not None]
    if not own:
        raise Rejected(f"the checkpoint is not signed by {key.name}")
    for value in own:
        try:
            Ed25519PublicKey.from_public_bytes(key.public).verify(value, text.encode())
        except (InvalidSignature, UnicodeEncodeError):
            raise Rejected("the checkpoint's signature is not that of the key") from None
    origin, size, root = _read_body(text)
    if origin != key.name:
        raise Rejected(f"the checkpoint is one of the log {origin}, the key one of {key.name}")
    return Checkpoint(origin, size, root, note)


def _read_body(text: str) -> tuple[str, int, bytes]:
    lines = text[:-1].split("\n")
    if len(lines) < 3 or not all(lines):
        raise Rejected("this is no checkpoint: it begins with an origin, a size and a root")
    root = decode(lines[2], "the root")
    check_hashes(root)
    return lines[0], read_number(lines[1], "the size"), root


def _signature(line: str, key: VerifierKey) -> bytes | None:
    """Give the signature in a line if it claims to be the key's."""
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    raw = decode(encoded, "a signature")
    if dash != "—" or not _is_name(name) or len(raw) < 5:
        raise Rejected("the line of a signature is damaged")
    return raw[4:] if (name, raw[:4]) == (key.name, key.hint) else None


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(map(str.isspace, name))


def read_number(text: str, what: str) -> int:
    """Read a whole number in its one decimal spelling, of at most 15 digits.

    Raises:
        Rejected: it is none.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= 15) or str(int(text)) != text:
        raise Rejected(f"{what} is no whole number")
    return int(text)


def encode(raw: bytes) -> str:
    """Write bytes as base64 (RFC 4648, section 4)."""
    return base64.b64encode(raw).decode("ascii")


def decode(text: str, what: str) -> bytes:
    """Read base64 in its one spelling.

    Raises:
        Rejected: it is none.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raise Rejected(f"{what} is no base64") from None
    if encode(raw) != text:
        raise Rejected(f"{what} is base64 in another spelling")
    return raw
