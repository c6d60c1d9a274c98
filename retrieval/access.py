"""Who may come in through the server, as what, and what they have done: ``Holdfast.access``."""

from typing import Any

from ..memory import access, times
from ..memory.errors import InvalidInputError
from ..memory.models import ROLES, Key, Role
from ..memory.record import Record
from ..memory.times import Time
from .settings import MOST_NUMBER
from .writing import name, one_of


class Access:
    """The keys of one tenant."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def create(
        self,
        label: str,
        *,
        role: Role,
        subject: str | None = None,
        expires_at: Time | None = None,
        quota: int | None = None,
    ) -> tuple[Key, str]:
        """Make a key; give it, and the text that its bearer shows, which is told only now.

        Args:
            label: what it is for.
            role: ``admin`` (everything of the tenant), ``app`` (acts for any subject),
                ``personal`` (its own subject alone), ``auditor`` (reads evidence).
            subject: whose a personal key is.
            expires_at: until when it holds; None: until it is revoked.
            quota: most operations in a month; None: any number.
        """
        one_of(role or "", ROLES, "role")
        until = None if expires_at is None else times.to_micros(expires_at, "expires_at")
        if until is not None and until <= times.now():
            raise InvalidInputError("expires_at has passed already; give a later time")
        if quota is not None and (type(quota) is not int or not 0 <= quota <= MOST_NUMBER):
            raise InvalidInputError(f"quota is a whole number, 0 to {MOST_NUMBER}, or None")
        whose = None if subject is None else name(subject, "subject")
        what = name(label, "name of a key")
        return self._record.transact(
            lambda tx: access.create(
                tx, name=what, role=role, subject=whose, expires_at=until, quota=quota
            )
        )

    def keys(self) -> list[Key]:
        """List the keys, oldest first; those that have ended too."""
        with self._record.snapshot() as snapshot:
            return access.keys(snapshot)

    def key(self, key_id: str) -> Key:
        """Give one key."""
        with self._record.snapshot() as snapshot:
            return access.read(snapshot, key_id)

    def revoke(self, key_id: str) -> Key:
        """End a key at once."""
        return self._record.transact(lambda tx: access.revoke(tx, key_id))

    def rotate(self, key_id: str, *, overlap: int = 0) -> tuple[Key, str]:
        """Make a key like another one, which holds for ``overlap`` seconds more."""
        if type(overlap) is not int:
            raise InvalidInputError("the overlap is a whole number of seconds")
        return self._record.transact(lambda tx: access.rotate(tx, key_id, overlap=overlap))

    def usage(self, month: str | None = None) -> list[dict[str, Any]]:
        """List what keys have done, by month (``2026-11``) and kind of operation."""
        with self._record.snapshot() as snapshot:
            return access.usage_of_tenant(snapshot, month)

    # For the server, over all tenants

    def authenticate(self, text: str) -> Key | None:
        """Find the key, of any tenant, that a caller shows; None: there is none."""
        with self._record.snapshot() as snapshot:
            return access.authenticate(snapshot, text)

    def is_empty(self) -> bool:
        """Tell whether no key was ever made, of any tenant."""
        with self._record.snapshot() as snapshot:
            return access.is_empty(snapshot)

    def counted(self, key_id: str, month: str) -> int:
        """Give how many operations a key has done in a month."""
        with self._record.snapshot() as snapshot:
            return access.counted(snapshot, key_id, month)

    def count(self, done: dict[tuple[str, str, str], int], used: dict[str, int]) -> None:
        """Add to what keys have done, and when they were last used."""
        self._record.transact(lambda tx: access.count(tx, done, used))
