"""A data key for each subject: sealing what it said, and making that unreadable at once.

Data keys are random, 32 bytes, kept in SQL wrapped by the installation's key
(``keys``). Deleting one erases what was sealed with it, wherever copies of it lie. What
concerns several subjects is sealed with a key derived from all of theirs, so that the
erasure of any of them erases it.
"""

import secrets
import threading
from collections import OrderedDict
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from .errors import DamagedError, ErasedError
from .identifiers import new_key
from .keys import Wrapper
from .schema import data_keys
from .sealing import KEY_SIZE, Sealer

MOST_SEALERS = 10_000
"""Data keys held in memory, unwrapped."""
DATA = "data"
"""The purpose of keys that seal; others sign."""

_WRAPPED = select(data_keys.c.tenant, data_keys.c.wrapped, data_keys.c.wrapped_by).where(
    data_keys.c.key == bindparam("called")
)


class Vault:
    """The data keys of one database, unwrapped when first needed; safe between threads."""

    def __init__(self, wrapper: Wrapper, installation: str) -> None:
        self.wrapper = wrapper
        self._installation = installation
        self._held: OrderedDict[str, Sealer] = OrderedDict()
        self._lock = threading.Lock()

    def create(self, connection: Connection, tenant: str, purpose: str = DATA) -> str:
        """Make a secret of 32 bytes, in the caller's transaction; give its name."""
        name, secret = new_key(), secrets.token_bytes(KEY_SIZE)
        row = {"key": name, "tenant": tenant, **self._wrapped(secret, tenant, name, purpose)}
        connection.execute(insert(data_keys), [row])
        return name

    def secret(self, connection: Connection, name: str, purpose: str = DATA) -> bytes:
        """Unwrap a secret.

        Raises:
            ErasedError: it was erased.
            KeyUnavailableError: the installation's key that wrapped it is not here.
            DamagedError: it was altered, or made for another purpose or installation.
        """
        row = connection.execute(_WRAPPED, {"called": name}).first()
        if row is None:
            raise ErasedError("the data key is gone: its subject was erased")
        if not isinstance(row.tenant, str):
            raise DamagedError(
                f"the row of the data key {name} was altered in the database; see what else was "
                "with: holdfast audit verify, and restore the database from a backup"
            )
        context = self._context(row.tenant, name, purpose)
        return self.wrapper.unwrap(row.wrapped, row.wrapped_by, context)

    def rewrap(self, connection: Connection, name: str, purpose: str, purpose_now: str) -> None:
        """Wrap a secret anew, with the current key, for what it is called for now."""
        secret = self.secret(connection, name, purpose)
        found = select(data_keys.c.tenant).where(data_keys.c.key == name)
        tenant = connection.execute(found).scalar_one()
        connection.execute(
            update(data_keys)
            .where(data_keys.c.key == name)
            .values(**self._wrapped(secret, tenant, name, purpose_now))
        )

    def stale(self, connection: Connection) -> dict[str, str]:
        """List the secrets that another key than the current one wraps, and which does."""
        query = select(data_keys.c.key, data_keys.c.wrapped_by)
        rows = connection.execute(query.where(data_keys.c.wrapped_by != self.wrapper.current))
        return {row.key: row.wrapped_by for row in rows}

    def wrapped_by(self, connection: Connection) -> list[str]:
        """List the keys with which secrets are wrapped."""
        return list(connection.execute(select(data_keys.c.wrapped_by).distinct()).scalars())

    def _wrapped(self, secret: bytes, tenant: str, name: str, purpose: str) -> dict[str, Any]:
        wrapper = self.wrapper  # a rotation puts another one in its place
        wrapped = wrapper.wrap(secret, self._context(tenant, name, purpose))
        return {"wrapped": wrapped, "wrapped_by": wrapper.current}

    def _context(self, tenant: str, name: str, purpose: str) -> str:
        """Give what a secret is bound to, so that no other can be put in its place."""
        return "\n".join(["holdfast", self._installation, tenant, name, purpose])

    def sealer(self, connection: Connection, name: str) -> Sealer:
        """Give the sealer of a data key, as ``secret`` finds it."""
        with self._lock:
            held = self._held.get(name)
            if held is not None:
                self._held.move_to_end(name)
                return held
        sealer = Sealer(self.secret(connection, name))
        with self._lock:
            self._held[name] = sealer
            while len(self._held) > MOST_SEALERS:
                self._held.popitem(last=False)
        return sealer

    def erase(self, connection: Connection, name: str) -> None:
        """Delete a secret, in the caller's transaction; ``forget`` once that is durable."""
        connection.execute(delete(data_keys).where(data_keys.c.key == name))

    def forget(self) -> None:
        """Let go of the keys that are held in memory."""
        with self._lock:
            self._held.clear()
