"""Opaque, random names: short ones for people to type, long ones for keys.

Lower-case letters and digits without 0, 1, l and o, so that they can be read aloud.
"""

import base64
import re
import secrets

ALPHABET = "23456789abcdefghijkmnpqrstuvwxyz"  # 32 signs, 5 bits each

_SIGNS = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", ALPHABET.encode())
_ID = re.compile(r"[a-z]{2}_[0-9a-z]{1,40}")


def is_id(value: object) -> bool:
    """Tell whether a caller's value has the form of an id; nothing else is looked up."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def quoted(value: object) -> str:
    """Give an id as a message shows it; what is none may be a subject's text, and is left out."""
    return repr(value) if is_id(value) else "with such an id"


def new_id(prefix: str, signs: int = 12) -> str:
    """Give a new id like ``st_7k2m9qx4hd3w``: 5 random bits a sign (12 signs: 60 bits)."""
    coded = base64.b32encode(secrets.token_bytes(-(-signs // 8) * 5)).translate(_SIGNS)
    return f"{prefix}_{coded[:signs].decode()}"


def new_key() -> str:
    """Give a new 128-bit key in hexadecimal, which says nothing about what it names."""
    return secrets.token_hex(16)
