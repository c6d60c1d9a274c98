"""Keys in the record: found by their text, kept as a hash, bound to a tenant, ended for good."""

import re
from typing import Any

import pytest
from conftest import open_with
from fakes import FakeEmbedder
from hypothesis import given
from hypothesis import strategies as st

from holdfast import Holdfast, InvalidInputError, NotFoundError
from holdfast.memory import access, store, times
from holdfast.memory.access import FORM, MOST_SECONDS_OF_OVERLAP
from holdfast.memory.identifiers import ALPHABET
from holdfast.memory.models import ROLES, Key
from holdfast.memory.record import Record

SECOND = 1_000_000


def make(record: Record, **how: Any) -> tuple[Key, str]:
    how = {"name": "x", "role": "app", **how}
    return record.transact(lambda tx: access.create(tx, **how))


def found(record: Record, text: str) -> Key | None:
    with record.snapshot() as snapshot:
        return access.authenticate(snapshot, text)


def other(sign: str) -> str:
    return ALPHABET[(ALPHABET.index(sign) + 1) % len(ALPHABET)]


def checked(start: str) -> str:
    """Write a key with the checksum that fits."""
    return f"{start}_{access._checksum(start)}"  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("role", ROLES)
def test_a_key_is_found_by_the_text_that_was_given_once(record: Record, role: str) -> None:
    subject = "ada" if role == "personal" else None
    key, text = make(record, role=role, subject=subject, quota=7)
    assert FORM.fullmatch(text)
    assert found(record, text) == key
    assert (key.role, key.subject, key.tenant, key.quota) == (role, subject, "local", 7)
    assert key.used_at is key.revoked_at is key.expires_at is None
    assert key.holds(times.now())


def test_no_two_keys_are_alike(record: Record) -> None:
    made = [make(record) for _ in range(20)]
    assert len({text for _, text in made}) == len({key.id for key, _ in made}) == 20


def test_the_secret_is_stored_nowhere(record: Record) -> None:
    _, text = make(record)
    secret = text.split("_")[3]
    raw = record.database.engine.raw_connection()
    try:
        dumped = "\n".join(raw.driver_connection.iterdump())  # type: ignore[union-attr]
    finally:
        raw.close()
    assert secret not in dumped
    assert text.split("_")[2] in dumped


def test_every_wrong_text_is_nobodys(record: Record) -> None:
    _, text = make(record)
    head, _, key_id, secret, checksum = text.split("_")
    wrong = [
        "", "hf_live_", text[:-1], text + "x", text.upper(), " " + text, text + "\n", "x" * 10_000,
        text.replace("live", "test"),
        f"{head}_live_{key_id}_{secret}_{other(checksum[0])}{checksum[1:]}",
        f"{head}_live_{key_id}_{other(secret[0])}{secret[1:]}_{checksum}",
        checked(f"hf_live_{key_id}_{other(secret[0])}{secret[1:]}"),
        checked(f"hf_live_{key_id}_{secret[:-1]}{other(secret[-1])}"),
        checked(f"hf_live_{other(key_id[0])}{key_id[1:]}_{secret}"),
        checked(f"hf_live_{key_id}_{'a' * 32}"),
        text.replace(secret[0], "ａ", 1),
    ]  # fmt: skip
    assert [each for each in wrong if found(record, each) is not None] == []
    assert found(record, text) is not None


@given(st.text(alphabet=ALPHABET, min_size=44, max_size=44), st.integers(0, 50))
def test_a_mistyped_key_is_known_without_a_look_up(signs: str, place: int) -> None:
    text = checked(f"hf_live_{signs[:12]}_{signs[12:]}")
    position = 8 + place + (place >= 12) + (place >= 44)
    typed = text[:position] + other(text[position]) + text[position + 1 :]
    match = FORM.fullmatch(typed)
    assert match is not None
    assert checked(typed[: match.start(4) - 1]) != typed


def test_a_key_of_one_tenant_is_found_from_any_and_managed_from_its_own(record: Record) -> None:
    theirs = Record(record.database, record.vault, "acme")
    key, text = make(theirs)
    make(record)
    assert found(record, text) == key
    assert key.tenant == "acme"
    for call in (access.revoke, lambda tx, id_: access.rotate(tx, id_, overlap=0)):
        with pytest.raises(NotFoundError, match="holdfast keys list"):
            record.transact(lambda tx, call=call: call(tx, key.id))
    with record.snapshot() as snapshot:
        assert key not in access.keys(snapshot)
        with pytest.raises(NotFoundError):
            access.read(snapshot, key.id)
    with theirs.snapshot() as snapshot:
        assert access.keys(snapshot) == [key]


def test_the_same_secret_under_another_tenants_id_is_nobodys(record: Record) -> None:
    theirs = Record(record.database, record.vault, "acme")
    (_, mine), (key, _) = make(record), make(theirs)
    assert found(record, checked(f"hf_live_{key.id}_{mine.split('_')[3]}")) is None


def test_only_a_personal_key_names_a_subject(record: Record) -> None:
    for role, subject in (("personal", None), ("app", "ada"), ("admin", "ada"), ("auditor", "a")):
        with pytest.raises(InvalidInputError, match="personal key"):
            make(record, role=role, subject=subject)
    with record.snapshot() as snapshot:
        assert access.is_empty(snapshot)


def test_a_key_ends_at_its_time(record: Record) -> None:
    end = times.now() + 60 * SECOND
    key, text = make(record, expires_at=end)
    assert key.holds(end - 1)
    assert not key.holds(end)
    assert found(record, text) == key, "who asks decides by the clock"


def test_a_revoked_key_ends_at_once_and_never_later(record: Record) -> None:
    key, text = make(record)
    soon = times.now() + 60 * SECOND
    later = record.transact(lambda tx: access.revoke(tx, key.id, at=soon))
    assert later.holds(soon - 1)
    assert not later.holds(soon)
    now = record.transact(lambda tx: access.revoke(tx, key.id))
    assert not now.holds(times.now())
    again = record.transact(lambda tx: access.revoke(tx, key.id, at=soon))
    assert again.revoked_at == now.revoked_at, "an end is never put off"
    there = found(record, text)
    assert there is not None
    assert not there.holds(times.now())


def test_rotation_keeps_what_a_key_is_and_lets_the_old_one_hold_on(record: Record) -> None:
    end = times.now() + 3600 * SECOND
    old, old_text = make(record, role="personal", subject="ada", quota=5, expires_at=end)
    new, text = record.transact(lambda tx: access.rotate(tx, old.id, overlap=60))
    assert new.id != old.id
    for name in ("name", "role", "subject", "quota", "expires_at", "tenant"):
        assert getattr(new, name) == getattr(old, name), name
    former = found(record, old_text)
    assert former is not None
    now = times.now()
    assert former.holds(now), "both hold for a while"
    assert not former.holds(now + 61 * SECOND)
    assert found(record, text) == new
    newest, _ = record.transact(lambda tx: access.rotate(tx, new.id, overlap=0))
    ended = found(record, text)
    assert ended is not None
    assert not ended.holds(times.now())
    assert newest.holds(times.now())


def test_what_a_key_has_done_of_its_quota_goes_over_to_the_one_that_replaces_it(
    record: Record,
) -> None:
    month = times.to_datetime(times.now()).strftime("%Y-%m")
    key, _ = make(record, quota=5)
    done = {(key.id, month, "add"): 2, (key.id, month, "list"): 1, (key.id, "2020-01", "add"): 9}
    record.transact(lambda tx: access.count(tx, done, {}))
    for extra in (0, 2):
        old = key
        key, _ = record.transact(lambda tx, old=old: access.rotate(tx, old.id, overlap=60))
        with record.snapshot() as snapshot:
            assert access.counted(snapshot, key.id, month) == 3 + extra
            assert access.counted(snapshot, key.id, "2020-01") == 0
            rows = [row for row in access.usage_of_tenant(snapshot) if row["key"] == key.id]
        assert rows == [
            {"key": key.id, "month": month, "operation": access.BEFORE, "count": 3 + extra}
        ]
        record.transact(lambda tx, id_=key.id: access.count(tx, {(id_, month, "add"): 2}, {}))
    free, _ = make(record)
    record.transact(lambda tx: access.count(tx, {(free.id, month, "add"): 2}, {}))
    anew, _ = record.transact(lambda tx: access.rotate(tx, free.id, overlap=0))
    with record.snapshot() as snapshot:
        assert access.counted(snapshot, anew.id, month) == 0


def test_what_has_ended_is_not_rotated(record: Record) -> None:
    key, _ = make(record)
    for overlap in (-1, MOST_SECONDS_OF_OVERLAP + 1):
        with pytest.raises(InvalidInputError, match="overlap"):
            record.transact(lambda tx, o=overlap: access.rotate(tx, key.id, overlap=o))
    record.transact(lambda tx: access.revoke(tx, key.id))
    with pytest.raises(InvalidInputError, match="has ended"):
        record.transact(lambda tx: access.rotate(tx, key.id, overlap=0))


def test_usage_adds_up_by_month_and_operation(record: Record) -> None:
    key, _ = make(record)
    at = times.now()
    for _ in range(2):
        done = {(key.id, "2026-11", "add"): 2, (key.id, "2026-12", "add"): 1,
                (key.id, "2026-11", "list"): 3}  # fmt: skip
        record.transact(lambda tx, done=done: access.count(tx, done, {key.id: at}))
    with record.snapshot() as snapshot:
        assert access.counted(snapshot, key.id, "2026-11") == 10
        assert access.counted(snapshot, key.id, "2026-10") == 0
        assert access.counted(snapshot, "nobody", "2026-11") == 0
        assert access.usage_of_tenant(snapshot, "2026-12") == [
            {"key": key.id, "month": "2026-12", "operation": "add", "count": 2}
        ]
        assert len(access.usage_of_tenant(snapshot)) == 3
        assert times.to_micros(access.read(snapshot, key.id).used_at or "") == at
    other_tenant = Record(record.database, record.vault, "acme")
    with other_tenant.snapshot() as snapshot:
        assert access.usage_of_tenant(snapshot) == []


def test_what_a_key_did_that_is_gone_is_dropped(record: Record) -> None:
    key, _ = make(record)
    gone = {("nobodyatall1", "2026-11", "add"): 1, (key.id, "2026-11", "add"): 1}
    record.transact(lambda tx: access.count(tx, gone, {"nobodyatall1": times.now()}))
    with record.snapshot() as snapshot:
        assert [each["key"] for each in access.usage_of_tenant(snapshot)] == [key.id]


def test_making_and_ending_keys_is_in_the_ledger_without_names_or_secrets(fake: Holdfast) -> None:
    key, text = fake.access.create("Ada's phone", role="personal", subject="ada", quota=3)
    fake.access.rotate(key.id, overlap=5)
    fake.access.revoke(key.id)
    events = [e for e in fake.audit.events() if e.type.startswith("key.")][::-1]
    assert [e.type for e in events] == ["key.create", "key.create", "key.revoke", "key.revoke"]
    assert all(e.subjects == ("ada",) for e in events)
    assert events[0].payload["key"] == key.id
    told = "".join(f"{e.leaf}{e.payload}" for e in events)
    assert "phone" not in told
    assert text.split("_")[3] not in told
    assert fake.verify()


def test_an_erased_subjects_keys_go_with_it(fake: Holdfast) -> None:
    key, text = fake.access.create("phone", role="personal", subject="ada")
    kept, _ = fake.access.create("app", role="app")
    fake.add("ada", "I keep bees.")
    fake.access.count({(key.id, "2026-11", "add"): 1, (kept.id, "2026-11", "add"): 1}, {})
    fake.erase("ada")
    assert fake.access.authenticate(text) is None
    assert fake.access.keys() == [kept]
    assert [each["key"] for each in fake.access.usage()] == [kept.id]
    with pytest.raises(NotFoundError):
        fake.access.revoke(key.id)
    again, _ = fake.access.create("phone", role="personal", subject="ada")
    assert fake.access.authenticate(text) is None, "a new subject of that name has new keys"
    assert again.id != key.id
    with fake._record.snapshot() as snapshot:  # pyright: ignore[reportPrivateUsage]
        assert store.subject(snapshot, "ada") is not None
    assert fake.verify()


def test_keys_outlive_the_process_and_the_installations_key(tmp_path: Any) -> None:
    with open_with(FakeEmbedder(), tmp_path / "data") as holdfast:
        key, text = holdfast.access.create("x", role="admin")
        holdfast.audit.rotate_key()
        assert holdfast.access.authenticate(text) == key
    with open_with(FakeEmbedder(), tmp_path / "data") as holdfast:
        assert holdfast.access.authenticate(text) == key


# Holdfast.access


def test_what_a_caller_gives_is_checked(fake: Holdfast) -> None:
    create = fake.access.create
    for wrong in (
        {"role": "king"}, {"role": ""}, {"role": None}, {"role": "app", "quota": -1},
        {"role": "app", "quota": 1.5}, {"role": "app", "quota": True},
        {"role": "app", "expires_at": "2001-01-01"}, {"role": "app", "expires_at": "soon"},
        {"role": "personal", "subject": ""}, {"role": "personal", "subject": "a\nb"},
    ):  # fmt: skip
        with pytest.raises(InvalidInputError):
            create("x", **wrong)  # pyright: ignore[reportArgumentType, reportCallIssue]
    for label in ("", "a\nb", "x" * 10_000, None, 7):
        with pytest.raises(InvalidInputError):
            create(label, role="app")  # pyright: ignore[reportArgumentType]
    for overlap in (1.5, "1", None):
        with pytest.raises(InvalidInputError, match="whole number"):
            fake.access.rotate("x", overlap=overlap)  # pyright: ignore[reportArgumentType]
    assert fake.access.is_empty()


def test_a_key_of_any_tenant_makes_an_installation_not_empty(fake: Holdfast) -> None:
    assert fake.access.is_empty()
    fake.of_tenant("acme").access.create("x", role="admin")
    assert not fake.access.is_empty()
    assert fake.access.keys() == []


def test_a_key_is_read_by_its_id(fake: Holdfast) -> None:
    key, _ = fake.access.create("x", role="admin")
    assert fake.access.key(key.id) == key
    assert re.fullmatch("[0-9a-z]{12}", key.id)
    with pytest.raises(NotFoundError):
        fake.access.key("nobody")
