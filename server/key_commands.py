"""The commands for the keys with which callers come in through a server.

A key is shown once, when it is made: what is kept of it lets nobody in.
"""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ..memory import times
from ..memory.models import ROLES, Key, Role
from .options import Commands, Door, common
from .render import Page, plain_value, shown_time

if TYPE_CHECKING:
    from ..retrieval.access import Access
    from .client import RemoteAccess

tenant_option = click.option(
    "--tenant", metavar="NAME", help="Whose keys (default: the data directory's own, or the key's)."
)


@click.group(cls=Commands)
@common(subject=None)
def keys() -> None:
    """Make, list, replace and end keys for a server."""


@keys.command("create")
@click.argument("name")
@click.option(
    "--role", type=click.Choice(ROLES), required=True,
    help="admin: everything; app: acts for any subject; personal: for one; auditor: reads "
    "evidence and checks the ledger.",
)  # fmt: skip
@click.option("--for", "subject", metavar="SUBJECT", help="Whose a personal key is.")
@click.option("--expires", metavar="TIME", help="Until when it holds (ISO 8601).")
@click.option("--quota", type=click.IntRange(0), metavar="N", help="Most operations in a month.")
@tenant_option
@common(subject=None)
@click.pass_obj
def create(
    door: Door,
    name: str,
    role: Role,
    subject: str | None,
    expires: str | None,
    quota: int | None,
    tenant: str | None,
) -> None:
    """Make a key; NAME says what it is for.

    The key is shown only now. Send it as Authorization: Bearer, or set HOLDFAST_KEY.
    """
    with _access(door, tenant) as access:
        key, text = access.create(name, role=role, subject=subject, expires_at=expires, quota=quota)
    _show(door, key, text)


@keys.command("list")
@tenant_option
@common(subject=None)
@click.pass_obj
def list_(door: Door, tenant: str | None) -> None:
    """List the keys, with what each has done this month."""
    month = times.this_month()
    with _access(door, tenant, read_only=True) as access:
        used, found = access.usage(month), access.keys()
    done = {key.id: Counter[str]() for key in found}
    for each in used:
        if each["key"] in done:
            done[each["key"]][each["operation"]] += each["count"]
    value = [
        {**plain_value(key), "month": month, "operations": done[key.id].total(),
         "by_operation": done[key.id]}
        for key in found
    ]  # fmt: skip
    door.answer(value, lambda page: _write_keys(page, found, done))


@keys.command("rotate")
@click.argument("key_id", metavar="ID")
@click.option(
    "--overlap", type=click.IntRange(0), default=0, metavar="SECONDS",
    help="For so long the old key holds on.",
)  # fmt: skip
@tenant_option
@common(subject=None)
@click.pass_obj
def rotate(door: Door, key_id: str, overlap: int, tenant: str | None) -> None:
    """Replace a key by a new one like it, which is shown only now."""
    with _access(door, tenant) as access:
        key, text = access.rotate(key_id, overlap=overlap)
    _show(door, key, text)


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
@tenant_option
@common(subject=None)
@click.pass_obj
def revoke(door: Door, key_id: str, tenant: str | None) -> None:
    """End a key at once."""
    with _access(door, tenant) as access:
        key = access.revoke(key_id)
    door.answer(key, lambda page: page.line(f"{key.id} ({key.name}) lets nobody in now", "good"))


@contextmanager
def _access(
    door: Door, tenant: str | None, *, read_only: bool = False
) -> "Generator[Access | RemoteAccess]":
    with door.open(read_only=read_only) as holdfast:
        yield (holdfast if tenant is None else holdfast.of_tenant(tenant)).access


def _show(door: Door, key: Key, text: str) -> None:
    value = {"key": key, "secret": text}
    door.answer(value, lambda page: write_key(page, key, text))


def write_key(page: Page, key: Key, text: str) -> None:
    """Write a key that was just made, and what it is."""
    page.line(text, "good")
    of = [f"for {key.subject}"] if key.subject else []
    quota = [] if key.quota is None else [f"{key.quota} operations a month"]
    until = [f"until {shown_time(key.expires_at)} UTC"] if key.expires_at else []
    page.line(" · ".join([f"{key.role} key {key.id}", key.name, *of, *quota, *until]), "dim")
    page.line("It is shown only now; keep it where nobody else reads it.", "warn")


def _write_keys(page: Page, found: list[Key], done: dict[str, Counter[str]]) -> None:
    rows = [
        (
            key.id,
            key.role,
            key.subject or "",
            _state(key),
            str(done[key.id].total()) + ("" if key.quota is None else f" of {key.quota}"),
            shown_time(key.used_at) or "never",
            key.name,
        )
        for key in found
    ]
    names = ("key", "role", "subject", "state", "this month", "used (UTC)", "name")
    if rows:
        page.table(names, rows)


def _state(key: Key) -> str:
    now = datetime.now(UTC)
    if key.revoked_at is not None:
        return "revoked" if key.revoked_at <= now else f"until {shown_time(key.revoked_at)}"
    if key.expires_at is None:
        return "holds"
    return "expired" if key.expires_at <= now else f"until {shown_time(key.expires_at)}"
