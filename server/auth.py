"""Who comes in: a key → a tenant, a role, and for whom it may act.

Unknown, malformed, truncated, expired and revoked keys get one and the same answer. A key
is taken from ``x-holdfast-key``, else from ``Authorization: Bearer``, else from
``x-api-key``; it is never read from a URL.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from ..memory import times
from ..memory.errors import NotFoundError
from ..memory.models import Key, Role
from .problems import RefusedError

if TYPE_CHECKING:
    from ..retrieval.engine import Holdfast

Permission = Literal["read", "write", "retrieve", "evidence", "ledger", "erase", "manage"]

PERMISSIONS: Mapping[Role, frozenset[Permission]] = {
    "admin": frozenset({"read", "write", "retrieve", "evidence", "ledger", "erase", "manage"}),
    "app": frozenset({"read", "write", "retrieve", "evidence", "erase"}),
    "personal": frozenset({"read", "write", "retrieve", "evidence", "erase"}),
    "auditor": frozenset({"evidence", "ledger"}),
}
"""What each role may do: read and write statements, retrieve (and call a model), read
evidence, check the whole ledger, erase a subject, manage keys and the installation."""

SUBJECT_HEADERS = ("x-holdfast-subject", "x-openwebui-user-id")
"""In which a caller may say for whom it asks."""
NO_SUBJECT = "there is no such subject here"
_OURS = re.compile(r"hf_[a-z]{1,8}_[0-9a-z]{8}|HF_[A-Z]{1,8}_[0-9A-Z]{8}")
"""How a key of ours begins (``memory.access``), one mistyped or cut off included. Tokens of
Hugging Face begin with ``hf_`` too, but have no second underscore."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: one key, or whoever owns the data directory (``local``)."""

    tenant: str
    role: Role
    key_id: str
    subject: str | None = None
    """Whose it is, of a personal key: it acts for nobody else."""
    quota: int | None = None

    def may(self, permission: Permission) -> bool:
        """Tell whether the caller's role lets it do this."""
        return permission in PERMISSIONS[self.role]

    def need(self, permission: Permission) -> None:
        """Refuse whoever may not do this (403): it depends on the role alone."""
        if not self.may(permission):
            raise RefusedError(403, f"a key of role {self.role} may not do this")

    def about(self, subject: str) -> str:
        """Give a subject that a path or a body names, if the caller may act for it.

        Raises:
            NotFoundError: it may not; the same as of a subject that is not there.
        """
        if self.subject is not None and subject != self.subject:
            raise NotFoundError(NO_SUBJECT)
        return subject

    def may_see(self, subjects: Sequence[str]) -> bool:
        """Tell whether something about these subjects is the caller's to see."""
        return self.subject is None or list(subjects) == [self.subject]

    def whose(self, named: Sequence[str]) -> list[str]:
        """Give on whose behalf a request is made that may name subjects itself.

        A personal key is bound to its own: naming others in it changes nothing.
        """
        if self.subject is not None:
            return [self.subject]
        return list(dict.fromkeys(each for each in named if each))


LOCAL = Caller("local", "admin", "local")
"""Whoever speaks through the socket in the data directory: only its owner can."""


def shown_key(headers: Mapping[str, str]) -> str | None:
    """Give what a caller shows as a key of ours; None: nothing that looks like one."""
    own = headers.get("x-holdfast-key")
    if own:
        return own.strip()
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and is_ours(bearer):
        return bearer.strip()
    other = headers.get("x-api-key", "").strip()
    return other if is_ours(other) else None


def is_ours(text: str) -> bool:
    """Tell whether something that looks like a key of ours stands in a text."""
    return _OURS.search(text) is not None


def subject_in_body(body: Mapping[str, Any]) -> str | None:
    """Give whom a request in a provider's form names as its user; None: nobody."""
    metadata = body.get("metadata")
    fields: Mapping[str, Any] = {}
    if isinstance(metadata, Mapping):
        fields = cast("Mapping[str, Any]", metadata)
    named = (body.get("safety_identifier"), body.get("user"), fields.get("user_id"))
    return next((each for each in named if isinstance(each, str) and each), None)


def header_text(value: str) -> str:
    """Read a header's bytes as UTF-8, where they are."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def authenticate(holdfast: "Holdfast", headers: Mapping[str, str]) -> Caller:
    """Find who asks.

    Raises:
        RefusedError: 401, for whatever reason the key does not let its bearer in.
    """
    shown = shown_key(headers)
    key: Key | None = None if shown is None else holdfast.access.authenticate(shown)
    if key is None or not key.holds(times.now()):
        raise RefusedError(
            401,
            "no valid key: send one as Authorization: Bearer hf_…, or as x-holdfast-key; an admin "
            "makes them with: holdfast keys create",
            headers={"www-authenticate": "Bearer"},
        )
    return Caller(key.tenant, key.role, key.id, key.subject, key.quota)
