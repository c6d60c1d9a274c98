"""Opaque, random names: short ones for people to type, long ones for keys.

Lower-case letters and digits without 0, 1, l and o, so that they can be read aloud.
"""

import secrets

ALPHABET = "23456789abcdefghijkmnpqrstuvwxyz"  # 32 signs, 5 bits each


def new_id(prefix: str, signs: int = 12) -> str:
    """Give a new id like ``st_7k2m9qx4hd3w``: 5 random bits a sign (12 signs: 60 bits)."""
    number = secrets.randbits(5 * signs)
    return f"{prefix}_" + "".join(ALPHABET[number >> 5 * i & 31] for i in range(signs))


def new_key() -> str:
    """Give a new 128-bit key in hexadecimal, which says nothing about what it names."""
    return secrets.token_hex(16)
