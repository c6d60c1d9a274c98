"""Keys that let callers in, and what each of them has done: rows in SQL.

A key reads ``hf_live_<id>_<secret>_<checksum>``. It is found by its id; of its secret (160
random bits) only a hash is stored, keyed with the tenant's data key. The key as a whole is
given once, when it is made. Making, rotating and revoking one is an event of the ledger.
Functions never commit.
"""

import base64
import hashlib
import re
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from hmac import compare_digest
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select, update

from . import ledger, store, times
from .database import insert_missing
from .errors import InvalidInputError, NotFoundError
from .identifiers import ALPHABET, new_id
from .models import Key, Role
from .record import Snapshot, Transaction
from .schema import api_keys, subjects, usage

SECRET_BYTES = 20
FORM = re.compile(r"hf_([a-z]{1,8})_([0-9a-z]{12})_([0-9a-z]{32})_([0-9a-z]{7})")
_SIGNS = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", ALPHABET.encode())
BEFORE = "before.rotation"
"""As an operation: what the key before has done; a sum over several keys leaves it out."""
MOST_SECONDS_OF_OVERLAP = 30 * 24 * 3600
_ALL = select(api_keys, subjects.c.name.label("subject")).outerjoin(
    subjects, subjects.c.key == api_keys.c.subject_key
)
_BY_ID = _ALL.where(api_keys.c.id == bindparam("called"))


def create(
    tx: Transaction,
    *,
    name: str,
    role: Role,
    subject: str | None = None,
    expires_at: int | None = None,
    quota: int | None = None,
) -> tuple[Key, str]:
    """Make a key of the transaction's tenant; give it, and the text that its bearer shows.

    Args:
        tx: it is durable when it is.
        name: what it is for.
        role: what it may do.
        subject: whose a personal key is; only of those.
        expires_at: until when it holds, in microseconds; None: until it is revoked.
        quota: operations a month; None: any number.

    Raises:
        InvalidInputError: a personal key without a subject, or another one with it.
    """
    if (role == "personal") is (subject is None):
        raise InvalidInputError("a personal key names its subject, and no other key does")
    found = None if subject is None else store.ensure_subject(tx, subject)
    key_id = new_id("ky")[3:]
    ledger.begin(tx)
    text, hashed = _new_text(tx, key_id)
    fields = {
        "key": key_id, "role": role, "expires_at": times.written(expires_at), "quota": quota,
        "secret": secret_digest(hashed),
    }  # fmt: skip
    ledger.append(tx, "key.create", fields, subjects=[found.key] if found else [])
    row = {
        "id": key_id,
        "tenant": tx.tenant,
        "name": name,
        "role": role,
        "subject_key": found and found.key,
        "hash": hashed,
        "created_at": times.now(),
        "expires_at": expires_at,
        "quota": quota,
    }
    tx.execute(insert(api_keys), [row])
    return read(tx, key_id), text


def _new_text(tx: Transaction, key_id: str) -> tuple[str, bytes]:
    coded = base64.b32encode(secrets.token_bytes(SECRET_BYTES)).translate(_SIGNS).decode()
    start = f"hf_live_{key_id}_{coded}"
    return f"{start}_{_checksum(start)}", _hash(tx, coded)


def _checksum(start: str) -> str:
    """Give seven signs by which a mistyped or truncated key is known without a look-up."""
    value = zlib.crc32(start.encode()) & 0xFFFFFFFF
    return "".join(ALPHABET[value >> 5 * place & 31] for place in range(7))


def _hash(snapshot: Snapshot, secret: str) -> bytes:
    data_key = ledger.tenant_key(snapshot)
    assert data_key is not None  # its ledger has begun
    return snapshot.sealer(data_key).keyed_hash(b"api key\n" + secret.encode())


def secret_digest(hashed: bytes) -> str:
    """Give what the ledger keeps of a secret: SHA-256 of its keyed hash, in hexadecimal."""
    return hashlib.sha256(hashed).hexdigest()


def authenticate(snapshot: Snapshot, text: str) -> Key | None:
    """Find the key that a caller shows; None: there is none, or its secret is another.

    It may have expired or been revoked (``Key.holds``). The tenant is that of the key.
    """
    match = FORM.fullmatch(text)
    if match is None or _checksum(text[: match.start(4) - 1]) != match[4]:
        return None
    found = snapshot.quick(_BY_ID, called=match[2])
    if found is None:
        return None
    row = dict(zip(_BY_ID.selected_columns.keys(), found, strict=True))
    theirs = replace(snapshot, tenant=row["tenant"])
    return _to_key(row) if compare_digest(_hash(theirs, match[3]), row["hash"]) else None


def read(snapshot: Snapshot, key_id: str) -> Key:
    """Read one key of the tenant.

    Raises:
        NotFoundError: the tenant has none of that id.
    """
    query = _ALL.where(api_keys.c.tenant == snapshot.tenant, api_keys.c.id == key_id)
    row = snapshot.execute(query).mappings().first()
    if row is None:
        raise NotFoundError("there is no such key; list them with: holdfast keys list")
    return _to_key(row)


def keys(snapshot: Snapshot) -> list[Key]:
    """List the tenant's keys, oldest first."""
    query = _ALL.where(api_keys.c.tenant == snapshot.tenant)
    rows = snapshot.execute(query.order_by(api_keys.c.created_at, api_keys.c.id)).mappings()
    return [_to_key(row) for row in rows]


def is_empty(snapshot: Snapshot) -> bool:
    """Tell whether no key of any tenant was ever made."""
    return snapshot.execute(select(api_keys.c.id).limit(1)).first() is None


def revoke(tx: Transaction, key_id: str, *, at: int | None = None) -> Key:
    """End a key; ``at``: only from that time on, in microseconds. An end is never put off."""
    key = read(tx, key_id)
    end = times.now() if at is None else at
    if key.revoked_at is not None:
        end = min(end, times.to_micros(key.revoked_at))
    here = (api_keys.c.tenant == tx.tenant, api_keys.c.id == key_id)
    tx.execute(update(api_keys).where(*here).values(revoked_at=end))
    about = [] if key.subject is None else [store.ensure_subject(tx, key.subject).key]
    fields = {"key": key_id, "revoked_at": times.written(end)}
    ledger.append(tx, "key.revoke", fields, subjects=about)
    return read(tx, key_id)


def rotate(tx: Transaction, key_id: str, *, overlap: int) -> tuple[Key, str]:
    """Make a key like another one, which ends after ``overlap`` seconds.

    What counts towards its quota this month counts towards the new one's.

    Raises:
        InvalidInputError: it has ended already, or the overlap is too long.
    """
    old = read(tx, key_id)
    if not old.holds(times.now()):
        raise InvalidInputError("that key has ended; make a new one with: holdfast keys create")
    if not 0 <= overlap <= MOST_SECONDS_OF_OVERLAP:
        raise InvalidInputError("the overlap is given in seconds, 0 to 2592000 (30 days)")
    expires = None if old.expires_at is None else times.to_micros(old.expires_at)
    made = create(
        tx, name=old.name, role=old.role, subject=old.subject, expires_at=expires, quota=old.quota
    )
    revoke(tx, key_id, at=times.now() + overlap * 1_000_000)
    month = times.this_month()
    if old.quota is not None and (done := counted(tx, key_id, month)):
        count(tx, {(made[0].id, month, BEFORE): done}, {})
    return made


def count(
    tx: Transaction, done: Mapping[tuple[str, str, str], int], used: Mapping[str, int]
) -> None:
    """Add to what keys have done.

    Args:
        tx: the transaction.
        done: operations by key id, month (``2026-11``) and kind.
        used: when each key was last used, in microseconds.
    """
    ids = {key_id for key_id, _, _ in done} | set(used)
    there = set(tx.execute(select(api_keys.c.id).where(api_keys.c.id.in_(ids))).scalars())
    for (key_id, month, operation), number in done.items():
        if key_id not in there:  # its subject was erased meanwhile
            continue
        row = {"key_id": key_id, "month": month, "operation": operation}
        tx.execute(insert_missing(tx.connection, usage), [{**row, "count": 0}])
        here = [usage.c[name] == value for name, value in row.items()]
        tx.execute(update(usage).where(*here).values(count=usage.c.count + number))
    for key_id, at in used.items():
        tx.execute(update(api_keys).where(api_keys.c.id == key_id).values(used_at=at))


def counted(snapshot: Snapshot, key_id: str, month: str) -> int:
    """Give how many operations a key has done in a month."""
    query = select(func.sum(usage.c.count)).where(usage.c.key_id == key_id, usage.c.month == month)
    return snapshot.execute(query).scalar() or 0


def usage_of_tenant(snapshot: Snapshot, month: str | None = None) -> list[dict[str, Any]]:
    """List what the tenant's keys have done: key, month, operation and count."""
    query = select(usage).join(api_keys, api_keys.c.id == usage.c.key_id)
    query = query.where(api_keys.c.tenant == snapshot.tenant)
    if month is not None:
        query = query.where(usage.c.month == month)
    query = query.order_by(usage.c.month, usage.c.key_id, usage.c.operation)
    return [
        {"key": row["key_id"], **{name: row[name] for name in ("month", "operation", "count")}}
        for row in snapshot.execute(query).mappings()
    ]


def remove(tx: Transaction, subject_key: int) -> None:
    """Remove the keys of a subject that is erased."""
    theirs = select(api_keys.c.id).where(api_keys.c.subject_key == subject_key)
    tx.execute(delete(usage).where(usage.c.key_id.in_(theirs)))
    tx.execute(delete(api_keys).where(api_keys.c.subject_key == subject_key))


def _to_key(row: Mapping[Any, Any]) -> Key:
    def when(name: str) -> datetime | None:
        return None if row[name] is None else times.to_datetime(row[name])

    return Key(
        id=row["id"],
        tenant=row["tenant"],
        name=row["name"],
        role=row["role"],
        subject=row["subject"],
        created_at=times.to_datetime(row["created_at"]),
        expires_at=when("expires_at"),
        revoked_at=when("revoked_at"),
        used_at=when("used_at"),
        quota=row["quota"],
    )
