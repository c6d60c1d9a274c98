"""A running server's ledger and keys, as the engine has them; and how its answers are read."""

import base64
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..memory.errors import HoldfastError, InvalidInputError
from ..memory.models import Evidence, Key, Role
from .wire import Wire, segment

if TYPE_CHECKING:
    from ..memory.checkpoint import Checkpoint
    from ..memory.times import Time
    from ..memory.timestamps import Timestamp
    from ..memory.vectors import Progress

T = TypeVar("T")
API = "/api/v1"
PAGE = 1000
"""Entries of a list that are asked for at once; a server gives no more."""


class RemoteAudit:
    """The ledger of a server's tenant."""

    def __init__(self, wire: Wire, data: Path | None) -> None:
        self._wire = wire
        self._data = data
        self._key: str | None = None

    def entry(self, event_id: str) -> Evidence:
        """Give one event of any type."""
        given = self._wire.ask("GET", f"{API}/evidence/{segment(event_id)}").value
        return read(Evidence, given["evidence"])

    def events(
        self,
        subject: str | None = None,
        *,
        types: Sequence[str] | None = None,
        before: int | None = None,
        limit: int | None = 50,
    ) -> list[Evidence]:
        """List events, newest first; a server gives no more than ``PAGE``."""
        if limit is None or limit > PAGE:
            raise InvalidInputError(
                f"a server lists at most {PAGE} events; give a lower --limit, or run this on the "
                "data directory while the server is stopped"
            )
        path = "/evidence" if subject is None else f"{of_subject(subject)}/evidence"
        query: dict[str, Any] = {"type": ["*"] if types is None else list(types)}
        query |= {"before": before, "limit": limit}
        return read(list[Evidence], self._wire.ask("GET", API + path, query=query).value)

    @property
    def verifier_key(self) -> str:
        """The ledger's public key."""
        if self._key is None:
            self.checkpoint()
        return self._key or ""

    def checkpoint(self, *, since: str | None = None) -> "Checkpoint":
        """Sign the ledger as it stands."""
        return self._signed("GET", "/ledger/checkpoint", query={"since": since})

    def start_over(self, reason: str) -> "Checkpoint":
        """Go on under a new name."""
        return self._signed("POST", "/ledger/start-over", body={"reason": reason})

    def _signed(self, method: str, path: str, **more: Any) -> "Checkpoint":
        from ..memory.checkpoint import Checkpoint

        given = self._wire.ask(method, API + path, **more).value
        self._key = given["key"]
        root = base64.b64decode(given["note"].split("\n")[2])
        return Checkpoint(given["origin"], given["size"], root, given["note"])

    @staticmethod
    def timestamp(checkpoint: "Checkpoint", url: str) -> "Timestamp":
        """Have a checkpoint time-stamped, from here."""
        from ..memory import timestamps

        return timestamps.fetch(checkpoint.note, url)

    def bundle(
        self,
        event_id: str,
        *,
        disclose: Sequence[str] | None = None,
        since: str | None = None,
    ) -> dict[str, Any]:
        """Make a bundle."""
        query = {"disclose": disclose and list(disclose), "since": since}
        return self._wire.ask(
            "GET", f"{API}/evidence/{segment(event_id)}/bundle", query=query
        ).value

    def export_log(self, folder: str | Path, *, progress: "Progress | None" = None) -> "Checkpoint":
        """Write the log as static files: the server signs, and the files are written here.

        Raises:
            InvalidInputError: the data directory is elsewhere.
        """
        if self._data is None:
            raise InvalidInputError(
                "a log is published where its data directory is: run this there, without --url "
                "(the server may go on running)"
            )
        from ..retrieval.engine import Holdfast

        self.checkpoint()
        with Holdfast.open(self._data, read_only=True) as holdfast:
            return holdfast.audit.export_log(folder, progress=progress)

    def rotate_key(
        self,
        *,
        drop_old: bool = False,
        progress: "Progress | None" = None,  # noqa: ARG002
    ) -> str:
        """Give the installation a new key; no progress is told."""
        path = f"{API}/installation/rotate-key"
        return self._wire.ask("POST", path, body={"drop_old": drop_old}).value["evidence_id"]


class RemoteAccess:
    """The keys of a server's tenant."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def create(
        self,
        label: str,
        *,
        role: Role,
        subject: str | None = None,
        expires_at: "Time | None" = None,
        quota: int | None = None,
    ) -> tuple[Key, str]:
        """Make a key."""
        said = {"name": label, "role": role, "subject": subject, "quota": quota}
        said["expires_at"] = plain_time(expires_at)
        return _key_and_text(self._wire.ask("POST", f"{API}/keys", body=said).value)

    def keys(self) -> list[Key]:
        """List the keys, oldest first."""
        return read(list[Key], whole_list(self._wire, "/keys"))

    def revoke(self, key_id: str) -> Key:
        """End a key at once."""
        return read(Key, self._wire.ask("DELETE", f"{API}/keys/{segment(key_id)}").value)

    def rotate(self, key_id: str, *, overlap: int = 0) -> tuple[Key, str]:
        """Make a key like another one."""
        path = f"{API}/keys/{segment(key_id)}/rotate"
        return _key_and_text(self._wire.ask("POST", path, body={"overlap": overlap}).value)

    def usage(self, month: str | None = None) -> list[dict[str, Any]]:
        """List what keys have done."""
        return whole_list(self._wire, "/usage", {"month": month})


def _key_and_text(given: Mapping[str, Any]) -> tuple[Key, str]:
    return read(Key, given["key"]), given["secret"]


def whole_list(wire: Wire, path: str, query: Mapping[str, Any] | None = None) -> list[Any]:
    """Ask for a whole list, part by part."""
    found: list[Any] = []
    while True:
        part = {**(query or {}), "limit": PAGE, "offset": len(found)}
        given = wire.ask("GET", API + path, query=part)
        found += given.value
        if len(given.value) < PAGE or len(found) >= int(given.headers.get("x-total-count", 0)):
            return found


def of_subject(subject: str) -> str:
    """Give the path of what is about a subject."""
    return f"/subjects/{segment(subject)}"


def plain_time(value: Any) -> Any:
    """Write a time as a caller may give it; anything else stays."""
    return value.isoformat() if isinstance(value, date) else value


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def read(kind: type[T], value: Any) -> T:
    """Turn plain values back into what they were.

    Raises:
        HoldfastError: the server gave something else.
    """
    from pydantic import ValidationError

    try:
        return _adapter(kind).validate_python(value)
    except ValidationError:
        raise HoldfastError(
            "the server answered in a form that is not known here; have both of one version"
        ) from None
