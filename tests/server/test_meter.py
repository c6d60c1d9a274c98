"""What callers do is counted, written, and bounded by quota and rate; bad keys get one answer."""

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import open_with
from fakes import FakeEmbedder

from holdfast import Holdfast, NotFoundError
from holdfast.memory import times
from holdfast.memory.errors import StorageFullError
from holdfast.memory.models import ROLES
from holdfast.server import meter as meters
from holdfast.server.auth import LOCAL, PERMISSIONS, Caller, authenticate, is_ours, shown_key
from holdfast.server.meter import Meter
from holdfast.server.problems import RefusedError


@pytest.fixture
def month() -> str:
    return datetime.now(UTC).strftime("%Y-%m")


@pytest.fixture
def meter(fake: Holdfast) -> Meter:
    """A meter without a limit to rates, that writes when it is told to."""
    return Meter(fake, rate_limit=0)


def caller(holdfast: Holdfast, **how: Any) -> Caller:
    key, text = holdfast.access.create("x", role="app", **how)
    found = authenticate(holdfast, {"x-holdfast-key": text})
    assert found == Caller("local", "app", key.id, None, how.get("quota"))
    return found


def test_operations_are_counted_by_key_and_kind(fake: Holdfast, meter: Meter, month: str) -> None:
    one, two = caller(fake), caller(fake)
    for operation in ("add", "add", "list"):
        meter.admit(one, operation)
    meter.admit(two, "add")
    assert fake.access.usage() == []
    meter.flush()
    found = {(each["key"], each["operation"]): each["count"] for each in fake.access.usage(month)}
    assert found == {(one.key_id, "add"): 2, (one.key_id, "list"): 1, (two.key_id, "add"): 1}
    used = fake.access.key(one.key_id).used_at
    assert used is not None
    assert datetime.now(UTC) - used < timedelta(minutes=1)
    meter.flush()
    assert fake.access.counted(one.key_id, month) == 3, "nothing is written twice"


def test_the_owner_of_the_directory_is_not_counted(fake: Holdfast, meter: Meter) -> None:
    for _ in range(3):
        meter.admit(LOCAL, "add")
    meter.flush()
    assert fake.access.usage() == []


def test_over_its_quota_a_key_is_refused_and_not_counted(
    fake: Holdfast, meter: Meter, month: str
) -> None:
    bound = caller(fake, quota=3)
    for _ in range(3):
        meter.admit(bound, "list")
    for _ in range(2):
        with pytest.raises(RefusedError, match=f"3 operations in {month}") as refused:
            meter.admit(bound, "list")
        assert refused.value.status == 429
    meter.flush()
    assert fake.access.counted(bound.key_id, month) == 3
    meter.admit(caller(fake), "list")


def test_a_quota_of_nothing_lets_nothing_through(fake: Holdfast, meter: Meter) -> None:
    with pytest.raises(RefusedError):
        meter.admit(caller(fake, quota=0), "list")


def test_a_quota_counts_what_was_done_before_the_server_started(fake: Holdfast, month: str) -> None:
    bound = caller(fake, quota=3)
    first = Meter(fake, rate_limit=0)
    first.admit(bound, "add")
    first.admit(bound, "add")
    first.close()
    second = Meter(fake, rate_limit=0)
    second.admit(bound, "add")
    with pytest.raises(RefusedError):
        second.admit(bound, "add")
    second.close()
    assert fake.access.counted(bound.key_id, month) == 3


def test_a_quota_holds_over_a_flush(fake: Holdfast, meter: Meter) -> None:
    bound = caller(fake, quota=4)
    for _ in range(4):
        meter.admit(bound, "add")
        meter.flush()
    with pytest.raises(RefusedError):
        meter.admit(bound, "add")


def test_a_quota_begins_anew_each_month(
    fake: Holdfast, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = caller(fake, quota=1)
    for month in (11, 12):
        moment = times.to_micros(datetime(2026, month, 30, 23, 59, tzinfo=UTC))
        monkeypatch.setattr(times, "now", lambda at=moment: at)
        meter.admit(bound, "add")
        with pytest.raises(RefusedError):
            meter.admit(bound, "add")
    meter.flush()
    assert [each["month"] for each in fake.access.usage()] == ["2026-11", "2026-12"]


def test_many_threads_get_no_more_than_the_quota(fake: Holdfast, meter: Meter, month: str) -> None:
    bound = caller(fake, quota=100)
    let_in: list[int] = []

    def work() -> None:
        for _ in range(50):
            try:
                meter.admit(bound, "add")
            except RefusedError:
                continue
            let_in.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        meter.flush()
    for thread in threads:
        thread.join()
    meter.flush()
    assert len(let_in) == fake.access.counted(bound.key_id, month) == 100


def test_a_key_may_make_so_many_requests_a_minute(
    fake: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(meters.time, "monotonic", lambda: now[0])
    meter = Meter(fake, rate_limit=60)
    one, two = caller(fake), caller(fake)
    for _ in range(60):
        meter.admit(one, "list")
    with pytest.raises(RefusedError, match="60 a minute") as refused:
        meter.admit(one, "list")
    assert refused.value.status == 429
    assert int(refused.value.headers["retry-after"]) >= 1
    meter.admit(two, "list")
    now[0] += 1
    meter.admit(one, "list")
    with pytest.raises(RefusedError):
        meter.admit(one, "list")
    now[0] += 3600
    for _ in range(60):
        meter.admit(one, "list")
    with pytest.raises(RefusedError):
        meter.admit(one, "list")


def test_what_a_rate_refuses_does_not_use_up_the_quota(fake: Holdfast, month: str) -> None:
    meter = Meter(fake, rate_limit=1)
    bound = caller(fake, quota=5)
    meter.admit(bound, "list")
    for _ in range(9):
        with pytest.raises(RefusedError, match="a minute"):
            meter.admit(bound, "list")
    meter.flush()
    assert fake.access.counted(bound.key_id, month) == 1


def test_counts_are_written_every_second_and_at_the_end(
    fake: Holdfast, month: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meters, "FLUSH_SECONDS", 0.02)
    meter, one = Meter(fake, rate_limit=0), caller(fake)
    meter.start()
    meter.admit(one, "add")
    end = time.monotonic() + 20
    while not fake.access.counted(one.key_id, month) and time.monotonic() < end:
        time.sleep(0.01)
    assert fake.access.counted(one.key_id, month) == 1
    meter.admit(one, "add")
    meter.close()
    assert fake.access.counted(one.key_id, month) == 2
    meter.close()  # again


def test_what_cannot_be_written_is_kept_for_the_next_time(
    fake: Holdfast, month: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter, one = Meter(fake, rate_limit=0), caller(fake)
    meter.admit(one, "add")

    def full(*_: object) -> None:
        raise StorageFullError("no space")

    with monkeypatch.context() as patched:
        patched.setattr(fake.access, "count", full)
        meter.flush()
        meter.admit(one, "add")
        meter.flush()
    meter.flush()
    assert fake.access.counted(one.key_id, month) == 2
    assert fake.access.key(one.key_id).used_at is not None


def test_what_a_key_did_whose_subject_is_erased_is_no_obstacle(fake: Holdfast, month: str) -> None:
    meter, one = Meter(fake, rate_limit=0), caller(fake)
    key, text = fake.access.create("phone", role="personal", subject="ada")
    theirs = authenticate(fake, {"x-api-key": text})
    meter.admit(theirs, "add")
    meter.admit(one, "add")
    fake.erase("ada")
    meter.flush()
    assert [each["key"] for each in fake.access.usage(month)] == [one.key_id]
    with pytest.raises(RefusedError):
        authenticate(fake, {"x-api-key": text})
    with pytest.raises(NotFoundError):
        fake.access.key(key.id)


def test_counts_of_every_tenant_are_written(fake: Holdfast, month: str) -> None:
    meter, other = Meter(fake, rate_limit=0), fake.of_tenant("acme")
    _, text = other.access.create("x", role="app")
    theirs = authenticate(fake, {"x-holdfast-key": text})
    assert theirs.tenant == "acme"
    meter.admit(theirs, "add")
    meter.flush()
    assert fake.access.usage() == []
    assert [each["operation"] for each in other.access.usage(month)] == ["add"]


def test_counting_leaves_nothing_in_the_ledger(tmp_path: Any) -> None:
    with open_with(FakeEmbedder(), tmp_path / "data") as holdfast:
        meter, one = Meter(holdfast, rate_limit=0), caller(holdfast)
        before = len(holdfast.audit.events(limit=None))
        meter.admit(one, "add")
        meter.flush()
        assert len(holdfast.audit.events(limit=None)) == before
        assert holdfast.verify()


# Who comes in


def test_every_bad_key_gets_the_same_answer(fake: Holdfast) -> None:
    soon = datetime.now(UTC) + timedelta(milliseconds=150)
    _, good = fake.access.create("x", role="app")
    _, short = fake.access.create("x", role="app", expires_at=soon)
    ended, revoked = fake.access.create("x", role="app")
    fake.access.revoke(ended.id)
    last = "a" if good[-1] != "a" else "b"
    time.sleep(0.2)
    bad = {
        "none": None, "empty": "", "malformed": "hf_nonsense", "truncated": good[:-1],
        "mistyped": good[:-1] + last, "expired": short, "revoked": revoked,
        "unknown": good.replace(good[8:20], "z" * 12),
    }  # fmt: skip
    said: set[tuple[int, str, str]] = set()
    for text in bad.values():
        with pytest.raises(RefusedError) as refused:
            authenticate(fake, {} if text is None else {"x-holdfast-key": text})
        error = refused.value
        said.add((error.status, str(error), str(error.headers)))
    assert len(said) == 1
    ((status, words, headers),) = said
    assert (status, headers) == (401, "{'www-authenticate': 'Bearer'}")
    assert "holdfast keys create" in words
    assert authenticate(fake, {"x-holdfast-key": good}).role == "app"


def test_a_rotated_key_lets_both_in_for_its_overlap(fake: Holdfast) -> None:
    old, old_text = fake.access.create("x", role="app")
    new, text = fake.access.rotate(old.id, overlap=60)
    assert authenticate(fake, {"x-holdfast-key": old_text}).key_id == old.id
    assert authenticate(fake, {"x-holdfast-key": text}).key_id == new.id
    _, newest = fake.access.rotate(new.id)
    with pytest.raises(RefusedError):
        authenticate(fake, {"x-holdfast-key": text})
    assert authenticate(fake, {"x-holdfast-key": newest})


def test_a_key_is_read_from_three_headers_in_order(fake: Holdfast) -> None:
    b, c = (fake.access.create("x", role="app")[1] for _ in range(2))
    assert shown_key({"x-holdfast-key": " a "}) == "a"
    assert shown_key({"authorization": f"Bearer {b}"}) == b
    assert shown_key({"authorization": f"bearer  {b} "}) == b
    assert shown_key({"x-api-key": c}) == c
    every = {"x-holdfast-key": "a", "authorization": f"Bearer {b}", "x-api-key": c}
    assert shown_key(every) == "a"
    del every["x-holdfast-key"]
    assert shown_key(every) == b
    for theirs in ({"authorization": "Bearer sk-1"}, {"x-api-key": "sk-1"}, {},
                   {"authorization": f"Basic {b}"}, {"authorization": ""}):  # fmt: skip
        assert shown_key(theirs) is None, "a provider's key is not ours"
    assert shown_key({"authorization": f"Bearer {HUGGING_FACE}", "x-api-key": c}) == c


HUGGING_FACE = "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH"


def test_a_key_of_ours_is_told_from_others_also_when_it_is_mistyped(fake: Holdfast) -> None:
    key = fake.access.create("x", role="app")[1]
    for ours in (key, key[:-1], key[:22], key[:25], key[:10] + key[11:], key.upper(), f"a {key}"):
        assert is_ours(ours), ours
    for other in (HUGGING_FACE, "sk-ant-abchf_xyz", "hf_", "sk-hf_a_b", "", "half_life_of_a_thing"):
        assert not is_ours(other), other


def test_a_role_may_do_what_it_is_for() -> None:
    assert set(PERMISSIONS) == set(ROLES)
    asks = Caller("local", "auditor", "k")
    asks.need("ledger")
    for permission in ("read", "write", "retrieve", "erase", "manage"):
        with pytest.raises(RefusedError, match="role auditor") as refused:
            asks.need(permission)
        assert refused.value.status == 403


def test_a_personal_key_is_bound_to_its_subject() -> None:
    bound = Caller("local", "personal", "k", subject="ada")
    assert bound.about("ada") == "ada"
    assert bound.whose(["bo", "cy"]) == ["ada"]
    assert bound.may_see(["ada"])
    assert not bound.may_see(["ada", "bo"])
    assert not bound.may_see([])
    free = replace(bound, role="app", subject=None)
    assert free.whose(["bo", "", "cy", "bo"]) == ["bo", "cy"]
    assert free.may_see(["bo"])
