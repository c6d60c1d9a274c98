"""The page without a browser: who may see what, forms, cookies, headers, and what is escaped."""

import html
import logging
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import httpx
import pytest
from browsing import Visitor, fields
from fastapi.routing import APIRoute
from web import running, watched

from holdfast import Holdfast
from holdfast.memory.checkpoint import read_key
from holdfast.memory.models import EVENT_TYPES, ROLES, Evidence, Role
from holdfast.memory.verifier import verify_bundle
from holdfast.server import (
    pages,
    pages_audit,
    pages_keys,
    pages_map,
    pages_try,
    pages_values,
    visiting,
)
from holdfast.server.app import create_app
from holdfast.server.assets import EVENT_WORDS
from holdfast.server.auth import PERMISSIONS, Permission
from holdfast.server.sessions import IDLE, LONGEST, MOST_OF_A_KEY, Sessions

WORDS = "fudge with saffron"


@dataclass(frozen=True)
class World:
    """A server with people, and a key of every role."""

    holdfast: Holdfast
    url: str
    keys: dict[Role, str]
    lines: list[logging.LogRecord]

    @contextmanager
    def visitor(self, role: Role = "admin") -> Generator[Visitor]:
        with Visitor(self.url) as visitor:
            assert visitor.sign_in(self.keys[role]).status_code == 303
            yield visitor


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with watched(tmp_path_factory.mktemp("pages")) as (holdfast, url, records):
        keys: dict[Role, str] = {}
        for role in ROLES:
            whose = "ada" if role == "personal" else None
            keys[role] = holdfast.access.create(role, role=role, subject=whose)[1]
        for subject in ("ada", "bo"):
            holdfast.add(subject, f"I never eat {WORDS}, says {subject}.")
            holdfast.retrieve(subject, f"eat {WORDS}")
        yield World(holdfast, url, keys, records)


@pytest.fixture
def admin(world: World) -> Iterator[Visitor]:
    with world.visitor() as visitor:
        yield visitor


# Signing in


def test_whoever_is_not_signed_in_is_asked_for_a_key_and_then_led_to_where_they_went(
    world: World,
) -> None:
    with Visitor(world.url) as visitor:
        asked = visitor.get("/values/ada")
        assert asked.status_code == 401
        assert "www-authenticate" not in asked.headers
        assert fields(asked.text)["to"] == "/values/ada"
        let_in = visitor.sign_in(world.keys["admin"], at="/values/ada")
        assert (let_in.status_code, let_in.headers["location"]) == (303, "/values/ada")
        assert "says ada" in visitor.get("/values/ada").text


def test_the_key_is_in_no_cookie_and_no_page(world: World, admin: Visitor) -> None:
    secret = world.keys["admin"].split("_")[3]
    assert secret not in str(admin.cookies)
    for path in ("/values/ada", "/try/ada", "/keys", "/audit"):
        assert secret not in admin.get(path).text


def test_keys_that_let_nobody_in_get_one_answer(world: World) -> None:
    ended, text = world.holdfast.access.create("ended", role="admin")
    world.holdfast.access.revoke(ended.id)
    good, told = world.keys["admin"], set[str]()
    for key in ("", " ", "x", text, good[:-1], good + "2", good.upper(), "hf_live_é", "x" * 5000):
        with Visitor(world.url) as visitor:
            answer = visitor.sign_in(key)
            assert answer.status_code == 401
            assert "holdfast_session" not in visitor.cookies
            told.add(re.sub(r'name="csrf" value="[^"]+"', "", answer.text))
    assert len(told) == 1


def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites(world: World) -> None:
    with Visitor(world.url) as visitor:
        cookie = visitor.sign_in(world.keys["admin"]).headers.get_list("set-cookie")[0]
        assert cookie.startswith("holdfast_session=")
        for wanted in ("HttpOnly", "SameSite=strict", "Path=/"):
            assert wanted in cookie
        assert "Secure" not in cookie
        assert "Max-Age" not in cookie


def test_over_tls_the_cookie_is_for_tls_alone(world: World) -> None:
    behind = {"x-forwarded-proto": "https"}
    with Visitor(world.url) as visitor:
        asked = visitor.get("/sign-in", headers=behind)
        name, _, value = asked.headers["set-cookie"].partition(";")[0].partition("=")
        assert name == "__Host-holdfast_form"
        form = {**fields(asked.text), "key": world.keys["admin"]}
        headers = behind | {"cookie": f"{name}={value}"}
        let_in = visitor.post("/sign-in", data=form, headers=headers)
        assert let_in.status_code == 303
        cookie = let_in.headers.get_list("set-cookie")[0]
        assert cookie.startswith("__Host-holdfast_session=")
        assert "Secure" in cookie


@pytest.mark.parametrize(
    "to",
    ["//evil.example", "https://evil.example", "/\\evil.example", "/sign-out", "javascript:1",
     "/a b", "/é", "", "/x\r\nset-cookie: a=b"],
)  # fmt: skip
def test_nobody_is_led_to_another_site(world: World, to: str) -> None:
    with Visitor(world.url) as visitor:
        held = fields(visitor.get("/sign-in").text)
        form = {**held, "to": to, "key": world.keys["admin"]}
        assert visitor.post("/sign-in", data=form).headers["location"] == "/"


def test_signing_out_ends_the_session_on_the_server(world: World) -> None:
    with world.visitor() as visitor:
        token = visitor.cookies["holdfast_session"]
        assert visitor.fill("/sign-out").status_code == 303
        assert "holdfast_session" not in visitor.cookies
        visitor.cookies.set("holdfast_session", token)
        assert visitor.get("/values/ada").status_code == 401


def test_a_key_that_ends_ends_its_sessions_at_once(world: World) -> None:
    key, text = world.holdfast.access.create("short", role="admin")
    with Visitor(world.url) as visitor:
        visitor.sign_in(text)
        assert visitor.get("/values/ada").status_code == 200
        world.holdfast.access.revoke(key.id)
        answer = visitor.get("/values/ada")
        assert answer.status_code == 401
        assert "signed out" in answer.text


def test_a_key_in_a_header_opens_no_page(world: World) -> None:
    headers = {"authorization": f"Bearer {world.keys['admin']}", "accept": "text/html"}
    assert httpx.get(f"{world.url}/values/ada", headers=headers).status_code == 401


def test_a_part_of_a_page_asks_the_browser_to_load_the_page_again(world: World) -> None:
    answer = httpx.post(f"{world.url}/try/ada", headers={"hx-request": "true"}, data={"a": "b"})
    assert (answer.status_code, answer.headers["hx-refresh"]) == (401, "true")


def test_sessions_end_by_idleness_by_age_and_by_number() -> None:
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    token, _ = sessions.begin("local", "k")
    now[0] = IDLE - 1
    assert sessions.find(token)
    now[0] += IDLE
    assert sessions.find(token) is None
    token, _ = sessions.begin("local", "k")
    begun = now[0]
    while now[0] < begun + LONGEST - IDLE / 2:
        assert sessions.find(token)
        now[0] += IDLE / 2
    now[0] = begun + LONGEST
    assert sessions.find(token) is None
    first, _ = sessions.begin("local", "k")
    others = [sessions.begin("local", "other")[0]]
    for _ in range(MOST_OF_A_KEY):
        now[0] += 1
        others.append(sessions.begin("local", "other")[0])
    assert sessions.find(others[0]) is None
    assert sessions.find(others[1])
    assert sessions.find(first), "one key's many sessions do not end another's"


# Forms


def test_a_form_without_the_sessions_token_changes_nothing(world: World, admin: Visitor) -> None:
    before = len(world.holdfast.statements("ada"))
    form = {"keep": "1", "text-1": "Something new.", "kind-1": "value"}
    with world.visitor() as other:
        others = other.csrf()
    for data in (form, {**form, "csrf": ""}, {**form, "csrf": "é"}, {**form, "csrf": others}):
        answer = admin.post("/keep/ada", data=data)
        assert answer.status_code == 403
        assert "another session" in answer.text
    assert len(world.holdfast.statements("ada")) == before


def test_every_form_of_the_page_needs_the_token(world: World, admin: Visitor) -> None:
    doors = (pages, pages_audit, pages_keys, pages_map, pages_try, pages_values)
    paths = [
        route.path
        for door in doors
        for route in door.router.routes
        if isinstance(route, APIRoute) and "POST" in route.methods and route.path != "/sign-in"
    ]
    assert len(paths) > 15
    for path in paths:
        answer = admin.post(re.sub(r"\{[^}]+\}", "ada", path), data={"text": "x"})
        assert answer.status_code == 403, path


def test_signing_in_needs_the_forms_own_cookie(world: World) -> None:
    with Visitor(world.url) as visitor:
        held = fields(visitor.get("/sign-in").text)
        visitor.cookies.clear()
        form = {**held, "key": world.keys["admin"]}
        assert visitor.post("/sign-in", data=form).status_code == 403


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data"])
def test_only_forms_are_read(admin: Visitor, kind: str) -> None:
    token = admin.csrf()
    answer = admin.post(
        "/keep/ada", content=b"{}", headers={"content-type": kind, "x-csrf-token": token}
    )
    assert answer.status_code == 415


@pytest.mark.parametrize("body", [b"text=%ff%fe", b"\xff", b"&".join([b"a=1"] * 6000)])
def test_a_form_that_cannot_be_read_is_refused(admin: Visitor, body: bytes) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded", "x-csrf-token": admin.csrf()}
    assert admin.post("/keep/ada", content=body, headers=headers).status_code == 400


def test_texts_are_read_before_anything_is_stored(world: World, admin: Visitor) -> None:
    before = world.holdfast.audit.events(limit=1)[0].index
    shown = admin.part("/say/bo", {"text": "I like tea.\r\nNever call me before nine."}).text
    assert "Read as 2 statements" in shown
    assert world.holdfast.audit.events(limit=1)[0].index == before


def test_what_was_mended_is_stored_as_it_stands_in_the_form(world: World, admin: Visitor) -> None:
    form = {
        "keep": ["1", "3"],
        "text-1": "I like green tea.", "kind-1": "goal", "strength-1": "must", "scope-1": "always",
        "text-2": "Not this one.", "kind-2": "value",
        "text-3": "Tea. And more tea.", "kind-3": "preference", "strength-3": "prefer",
        "scope-3": "topical", "contexts": "work, home",
    }  # fmt: skip
    assert "Kept" in admin.part("/keep/cy", form).text
    first, second = world.holdfast.statements("cy")
    assert (first.text, first.kind, first.strength, first.scope) == (
        "I like green tea.", "goal", "must", "always",
    )  # fmt: skip
    assert second.text == "Tea. And more tea."
    assert second.contexts == ("work", "home")


def test_of_texts_one_of_which_cannot_be_stored_none_is(world: World, admin: Visitor) -> None:
    form = {"keep": ["1", "2"], "text-1": "I like rain.", "text-2": "x" * 2001}
    assert admin.part("/keep/dee", form).status_code == 422
    assert admin.part("/keep/dee", {"text-1": "I like rain."}).status_code == 422
    assert world.holdfast.statements("dee") == []


def test_a_statement_is_revised_and_retired_with_its_reason(world: World, admin: Visitor) -> None:
    (statement,) = world.holdfast.add("eve", "I eat no meat.")
    answer = admin.fill(
        f"/statement/{statement.id}/revise",
        {"text": "I eat no meat, nor fish.", "strength": "must", "reason": "a new doctor"},
    )
    assert answer.status_code == 303
    assert "a new doctor" in admin.get(f"/statement/{statement.id}").text
    admin.fill(f"/statement/{statement.id}/retire", {"reason": "it passed"})
    shown = admin.get(f"/statement/{statement.id}").text
    for told in ("I eat no meat.", "nor fish", "a new doctor", "Version 2"):
        assert told in shown
    retired = re.search(r"<strong>Retired</strong>.*?</li>", shown, re.DOTALL)
    assert retired is not None
    assert "Why: <bdi>it passed</bdi>" in retired[0]
    assert world.holdfast.statements("eve") == []


def test_a_decision_is_shown_with_what_it_weighed(world: World, admin: Visitor) -> None:
    (weighed,) = world.holdfast.add("fay", "I want to see the sea.")
    form = {"situation": "Two flats", "choice": "the small one", "reason": "the view"}
    admin.part("/decide/fay", {**form, "weighed": weighed.id})
    (decision,) = world.holdfast.decisions("fay")
    shown = admin.get(f"/statement/{decision.id}").text
    for told in ("Two flats", "the small one", "the view", "I want to see the sea."):
        assert told in shown


def test_a_decision_shows_what_it_weighed_in_the_words_of_then(
    world: World, admin: Visitor
) -> None:
    engine = world.holdfast
    said = [engine.add("flo", text)[0] for text in ("I love the sea.", "I rent.", "I hike.")]
    decision = engine.decide(
        "flo", situation="Two flats", choice="the blue one", reason="the view",
        weighed=[each.id for each in said],
    )  # fmt: skip
    engine.revise(said[0].id, "I hate the sea.")
    engine.revise(said[1].id, "I own.")
    engine.retire(said[1].id)
    shown = admin.get(f"/statement/{decision.id}").text
    items = re.findall(r'<li><a href="/statement/st_[^>]+>(.*?)</li>', shown)
    assert [re.sub(r"<[^>]+>", "", item) for item in items] == [
        "I love the sea. since revised", "I rent. since retired", "I hike.",
    ]  # fmt: skip


@pytest.mark.parametrize("given", [["Paris, France"], ["Paris, France", "work"]])
def test_a_context_whose_name_has_a_comma_stays_unless_the_field_is_changed(
    world: World, admin: Visitor, given: list[str]
) -> None:
    (statement,) = world.holdfast.add("gus", "I walk everywhere.", contexts=given)
    form = {"text": "I walk a lot.", "contexts": f" {', '.join(given)} "}
    admin.fill(f"/statement/{statement.id}/revise", form)
    revised = world.holdfast.statement(statement.id)
    assert (revised.text, revised.contexts) == ("I walk a lot.", statement.contexts)
    admin.fill(f"/statement/{statement.id}/revise", {"text": "I walk.", "contexts": "work, home"})
    assert world.holdfast.statement(statement.id).contexts == ("work", "home")
    admin.fill(f"/statement/{statement.id}/revise", {"text": "I run.", "contexts": ""})
    assert world.holdfast.statement(statement.id).contexts == ()


def test_proposals_are_confirmed_and_rejected(world: World, admin: Visitor) -> None:
    first, second = world.holdfast.propose("gil", "Likes tea. Hates rain.", source="model:x")
    assert "2 proposals wait" in admin.get("/values/gil").text
    assert "Confirmed" in admin.part(f"/proposal/{first.id}/confirm").text
    assert "Rejected" in admin.part(f"/proposal/{second.id}/reject").text
    assert [s.text for s in world.holdfast.statements("gil")] == [first.text]
    assert world.holdfast.proposals("gil") == []


def test_every_form_works_without_javascript(world: World, admin: Visitor) -> None:
    asked = {"text": "I like slow trains."}
    whole = admin.fill("/say/hal", asked).text
    assert "<!doctype html>" in whole
    assert "Read as 1 statement" in whole
    form = {"keep": "1", "text-1": "I like slow trains.", "kind-1": "preference"}
    assert "Kept" in admin.fill("/keep/hal", form).text
    assert "slow trains" in admin.fill("/values/hal", {"q": "TRAINS slow"}).text
    assert "Nothing fits" in admin.fill("/values/hal", {"q": "planes"}).text
    tried = admin.fill("/try/hal", {"prompt": "slow trains", "limit": "3"}).text
    assert "<!doctype html>" in tried
    assert "I like slow trains." in tried
    assert "I like slow trains." in admin.fill("/map/hal", {"prompt": "trains"}).text
    evidence = world.holdfast.retrieve("hal", "slow trains").evidence_id
    assert "The same" in admin.fill(f"/evidence/{evidence}/replay").text
    assert admin.fill("/ledger/verify").status_code == 303


# Trying a prompt


def test_a_trial_leaves_nothing_in_the_ledger_and_recording_does(
    world: World, admin: Visitor
) -> None:
    before = world.holdfast.audit.events(limit=1)[0].index
    shown = admin.part("/try/ada", {"prompt": f"eat {WORDS}"}).text
    assert "nothing of it is recorded" in shown
    assert world.holdfast.audit.events(limit=1)[0].index == before
    recorded = admin.part("/record/ada", {"prompt": f"eat {WORDS}"}).text
    (event,) = world.holdfast.audit.events(limit=1)
    assert event.index == before + 1
    assert event.id in recorded


def test_the_context_shown_is_the_engines_own(world: World, admin: Visitor) -> None:
    prompt = f"May I eat {WORDS}, says ada?"
    found = world.holdfast.retrieve("ada", prompt, threshold=0.01, limit=1, record=False)
    assert found.context
    form = {"prompt": prompt, "own": "1", "threshold": "1", "limit": "1"}
    shown = admin.part("/try/ada", form).text
    block = re.search(r'<pre id="context"[^>]*>(.*?)</pre>', shown, re.DOTALL)
    assert block is not None
    assert html.unescape(block[1]) == found.context
    assert "given nothing" in admin.part("/try/ada", {**form, "limit": "0"}).text
    assert "was in force then" in admin.part("/try/ada", {**form, "as_of": "2001-01-01"}).text


def test_as_of_a_day_is_as_of_its_end_and_the_field_keeps_the_day(
    world: World, admin: Visitor
) -> None:
    engine, today = world.holdfast, f"{datetime.now(UTC):%Y-%m-%d}"
    form = {"prompt": f"eat {WORDS}", "own": "1", "threshold": "0"}
    engine.add("jan", f"I eat {WORDS}.", valid_from="2020-03-01T12:00Z")
    engine.add("jan", f"I eat {WORDS} on Sundays.")
    for as_of, shown in (("2020-02-29", 0), ("2020-03-01", 1), ("2020-03-01T11:59", 0), (today, 2)):
        page = admin.fill("/try/jan", {**form, "as_of": as_of}).text
        assert page.count('<li class="injected">') == shown, as_of
        assert f'name="as_of" type="date" value="{as_of}"' in page
    admin.part("/record/jan", {**form, "as_of": today})
    (event,) = engine.audit.events("jan", types=["retrieval"])
    asked = datetime.fromisoformat(event.payload["as_of"])
    assert timedelta(0) <= event.recorded_at - asked < timedelta(minutes=1), "today is now"
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    engine.add("jan", f"I eat {WORDS} on Mondays.", valid_from=tomorrow)
    admin.part("/record/jan", {**form, "as_of": f"{tomorrow:%Y-%m-%d}"})
    event = engine.audit.events("jan", types=["retrieval"])[0]
    assert event.payload["as_of"] == f"{tomorrow:%Y-%m-%d}T23:59:59.999999+00:00"
    assert len(event.payload["injected"]) == 3


def test_what_held_at_the_end_of_a_day_is_what_would_have_been_injected(
    world: World, admin: Visitor
) -> None:
    engine = world.holdfast
    engine.add("joy", f"I eat {WORDS}.")
    found = engine.retrieve("joy", f"eat {WORDS}", threshold=0.0)
    path = f"/evidence/{found.evidence_id}/otherwise"
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert "Nothing would have been otherwise" in admin.part(path, {"as_of": today}).text
    assert f'name="as_of" value="{today}"' in admin.fill(path, {"as_of": today}).text
    assert "would be left out" in admin.part(path, {"as_of": "2020-01-01"}).text
    engine.add("joy", f"I eat {WORDS} always.", valid_from="2020-01-01T12:00Z")
    assert "would come in" in admin.part(path, {"as_of": "2020-01-01"}).text


def test_the_last_day_that_a_statement_holds_belongs_to_it(world: World, admin: Visitor) -> None:
    (said,) = world.holdfast.add("jim", "I eat no meat.", valid_from="2020-01-01")
    today, path = f"{datetime.now(UTC):%Y-%m-%d}", f"/statement/{said.id}/revise"
    form = {"text": "I eat no meat.", "valid_from": "2020-02-01", "valid_to": "2020-03-01"}
    assert admin.fill(path, form).status_code == 303
    held = [
        len(world.holdfast.statements("jim", as_of=f"2020-{day}"))
        for day in ("03-01T23:59:59.999999Z", "03-02")
    ]
    assert held == [1, 0]
    shown = admin.get(f"/statement/{said.id}").text
    assert 'datetime="2020-03-02T00:00:00+00:00"' in shown
    assert "the end of 1 Mar 2020 UTC" in shown
    tried = admin.part("/try/jim", {"prompt": "meat", "as_of": "2020-03-01"}).text
    assert "I eat no meat." in tried
    assert admin.fill(path, {"text": "I eat meat.", "valid_to": today}).status_code == 303
    assert len(world.holdfast.statements("jim")) == 1, "today it still holds"
    assert admin.fill(path, {**form, "valid_to": "9999-12-31"}).status_code == 303
    assert admin.fill(path, {**form, "valid_to": "2020-03-01T12:00"}).status_code == 303
    assert "to <time" in admin.get(f"/statement/{said.id}").text


@pytest.mark.parametrize(
    "form",
    [{"threshold": "101", "own": "1"}, {"limit": "many"}, {"as_of": "soon"}, {"offset": "-1"}],
)
def test_what_cannot_be_used_is_told_and_is_no_error_of_the_server(
    admin: Visitor, form: dict[str, str]
) -> None:
    answer = admin.part("/try/ada", {"prompt": "tea", **form})
    assert answer.status_code == 422
    assert 'class="problem"' in answer.text


# Who may see what

VIEWS: dict[str, Permission] = {
    "/subjects": "read",
    "/values/ada": "read",
    "/try/ada": "retrieve",
    "/map/ada": "read",
    "/audit": "evidence",
    "/keys": "manage",
}


@pytest.mark.parametrize("role", ROLES)
def test_a_view_opens_for_the_roles_that_the_api_lets_in(world: World, role: Role) -> None:
    with world.visitor(role) as visitor:
        for path, permission in VIEWS.items():
            may = permission in PERMISSIONS[role]
            assert visitor.get(path).status_code == (200 if may else 403), path
        token = visitor.get("/", follow_redirects=True)
        assert token.status_code == 200
        named = {m for m in ("Values", "Keys", "Audit") if f">{m}</a>" in token.text}
        assert named == {
            m
            for m, permission in (("Values", "read"), ("Keys", "manage"), ("Audit", "evidence"))
            if permission in PERMISSIONS[role]
        }
        ledger = visitor.part("/ledger/verify")
        assert ledger.status_code == (200 if "ledger" in PERMISSIONS[role] else 403)


def test_what_is_anothers_looks_like_what_is_not_there(world: World) -> None:
    theirs = world.holdfast.statements("bo")[0].id
    evidence = world.holdfast.evidence("bo")[0].id
    with world.visitor("personal") as visitor:
        for path in (
            "/values/bo", "/values/nobody", "/try/bo", "/map/bo", f"/statement/{theirs}",
            "/statement/st_22222222222w", f"/evidence/{evidence}",
            "/evidence/ev_2222222222222222222222222w",
        ):  # fmt: skip
            answer = visitor.get(path)
            assert answer.status_code == 404, path
            assert "says bo" not in answer.text
        for path in ("/say/bo", "/keep/bo", "/decide/bo", "/try/bo", "/record/bo", "/map/bo",
                     f"/statement/{theirs}/revise", f"/statement/{theirs}/retire",
                     f"/evidence/{evidence}/replay", f"/evidence/{evidence}/bundle"):  # fmt: skip
            form = {"text": "x", "keep": "1", "text-1": "x", "prompt": WORDS}
            answer = visitor.fill(path, form)
            assert answer.status_code == 404, path
            assert "says bo" not in answer.text
        assert visitor.part("/audit", {"subject": "bo"}).status_code == 404
        listed = visitor.get("/audit").text
        assert evidence not in listed
        assert world.holdfast.evidence("ada")[0].id in listed


def test_tenants_do_not_mix(world: World) -> None:
    other = world.holdfast.of_tenant("other")
    _, text = other.access.create("theirs", role="admin")
    with Visitor(world.url) as visitor:
        visitor.sign_in(text)
        assert "says ada" not in visitor.get("/values/ada").text
        mine = world.holdfast.statements("ada")[0].id
        assert visitor.get(f"/statement/{mine}").status_code == 404


def test_the_page_is_metered_as_the_api_is(world: World) -> None:
    key, text = world.holdfast.access.create("counted", role="app", quota=4)
    with Visitor(world.url) as visitor:
        visitor.sign_in(text)
        token = fields(visitor.get("/values/ada").text)["csrf"]
        form = {"csrf": token, "prompt": "tea", "keep": "1", "text-1": "I like quotas."}
        assert visitor.post("/try/ada", data=form).status_code == 200
        assert visitor.post("/keep/mo", data=form).status_code == 200
        assert visitor.get("/audit").status_code == 200
        refused = visitor.get("/values/ada")
        assert refused.status_code == 429
        assert "quota" in refused.text
    with world.visitor() as visitor:
        visitor.get("/keys")
    used = {row["operation"]: row["count"] for row in world.holdfast.access.usage()
            if row["key"] == key.id}  # fmt: skip
    assert used == {"list": 1, "retrieve": 1, "add": 1, "evidence": 1}


# Audit


def test_evidence_is_filtered_and_paged(
    world: World, admin: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages_audit, "PAGE", 2)
    ids = [str(world.holdfast.retrieve("ida", f"prompt {n}").evidence_id) for n in range(5)]
    seen: list[str] = []
    form = {"family": "retrieval", "subject": "ida"}
    for _ in range(3):
        shown = admin.part("/audit", form).text
        seen += re.findall(r'href="/evidence/(ev_\w+)"', shown)
        form["before"] = fields(shown).get("before", "")
    assert seen == ids[::-1]
    assert not form["before"]
    assert "Nothing of this" in admin.part("/audit", {"family": "calls", "subject": "ida"}).text
    today, yesterday = (f"{datetime.now(UTC) - timedelta(n):%Y-%m-%d}" for n in (0, 1))
    newest = {"family": "retrieval", "subject": "ida", "until": today}
    assert ids[-1] in admin.part("/audit", newest).text
    assert "Nothing of this" in admin.part("/audit", {**newest, "until": yesterday}).text
    assert admin.part("/audit", {**newest, "until": "soon"}).status_code == 422
    assert admin.part("/audit", {"family": "magic"}).status_code == 422


def test_the_end_of_a_day_is_found_among_events_of_several(fake: Holdfast) -> None:
    first = fake.audit.events  # its times are what they are: those of a few days are put in
    fake.add_many("ada", [f"I like number {n}." for n in range(9)], split=False)
    size = first(limit=1)[0].index + 1
    start = datetime(2026, 3, 1, 12, tzinfo=UTC)

    class Days:
        def events(self, *, before: int | None = None, limit: int) -> list[Evidence]:
            return [
                replace(each, recorded_at=start + timedelta(each.index // 3))
                for each in first(before=before, limit=limit)
            ]

    fake.audit = Days()  # pyright: ignore[reportAttributeAccessIssue]
    ends = [pages_audit._end_of(fake, f"2026-{day}") for day in ("02-28", "03-01", "03-02")]
    assert ends == [0, 3, 6]
    assert pages_audit._end_of(fake, "2027-01-01") == size


def test_a_record_is_replayed_and_a_statement_left_out(world: World, admin: Visitor) -> None:
    (statement,) = world.holdfast.add("jo", f"I never eat {WORDS}.")
    found = world.holdfast.retrieve("jo", f"eat {WORDS}", threshold=0.0)
    shown = admin.get(f"/evidence/{found.evidence_id}").text
    assert html.escape(found.context, quote=False)[:40] in shown.replace("&#34;", '"')
    same = admin.part(f"/evidence/{found.evidence_id}/replay").text
    assert "The same" in same
    assert "differs" not in same
    other = admin.part(f"/evidence/{found.evidence_id}/otherwise", {"without": statement.id}).text
    assert "would be left out" in other
    assert admin.part(f"/evidence/{found.evidence_id}/otherwise").status_code == 422


def test_a_replay_that_differs_shows_both_sides(world: World) -> None:
    world.holdfast.add("kit", f"I never eat {WORDS}.")
    found = world.holdfast.retrieve("kit", f"eat {WORDS}", threshold=0.0, record=False)
    other = world.holdfast.retrieve("kit", f"eat {WORDS}", threshold=1.0, record=False)
    (beside,) = pages_audit.side_by_side(found, other)
    assert not beside.same
    assert (beside.then and beside.then.verdict) == "injected"
    assert (beside.now and beside.now.verdict) == "below_threshold"
    assert pages_audit.side_by_side(found, None)[0].now is None


def test_an_event_of_every_type_is_in_one_family_and_has_words() -> None:
    found = [kind for family in pages_audit.FAMILIES.values() for kind in family]
    assert sorted(found) == sorted(EVENT_TYPES)
    assert set(EVENT_WORDS) == set(EVENT_TYPES)


def test_an_import_is_found_among_the_events_of_keeping(world: World, admin: Visitor) -> None:
    other = world.holdfast.of_tenant("other")
    other.add("kai", "I like tea.")
    world.holdfast.load("kai", other.export("kai"))
    shown = admin.part("/audit", {"family": "keeping", "subject": "kai"}).text
    assert "Record imported" in shown
    assert "Record imported" not in admin.part("/audit", {"family": "statements"}).text


def test_a_bundle_is_a_file_that_verifies(world: World, admin: Visitor) -> None:
    evidence = world.holdfast.evidence("ada")[0].id
    answer = admin.fill(f"/evidence/{evidence}/bundle")
    assert answer.headers["content-disposition"] == f'attachment; filename="{evidence}.json"'
    assert WORDS not in answer.text
    assert "says ada" in admin.fill(f"/evidence/{evidence}/bundle", {"all": "1"}).text
    report = verify_bundle(answer.json(), read_key(world.holdfast.audit.verifier_key))
    assert report.verdict == "VERIFIED"


def test_the_whole_ledger_is_checked_beside_the_page(world: World, admin: Visitor) -> None:
    assert admin.part("/ledger/verify").status_code == 200
    for _ in range(600):
        shown = admin.get("/ledger/verify", headers={"hx-request": "true"}).text
        if "It holds" in shown:
            break
    assert "It holds" in shown
    assert "hx-trigger" not in shown, "it asks no more once it is done"


def test_a_check_that_runs_is_shown_with_how_far_it_is(world: World) -> None:
    application = create_app(world.holdfast)
    with running(application) as url, Visitor(url) as visitor:
        visitor.sign_in(world.keys["auditor"])
        check = pages_audit.Check(datetime.now(UTC), done=500, total=2000)
        application.state.checks._checks["local"] = check
        shown = visitor.get("/ledger/verify", headers={"hx-request": "true"}).text
        assert "500 of 2,000" in shown
        assert 'value="500" max="2000"' in shown
        assert "hx-trigger" in shown
        assert "500 of 2,000" in visitor.get("/audit").text
        check.problem = "the disk is full"
        assert "the disk is full" in visitor.get("/audit").text


def test_one_check_of_a_tenant_runs_at_a_time_and_ends_with_the_server(
    fake: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    told, go_on, checks = threading.Event(), threading.Event(), pages_audit.Checks()

    def verify(*, progress: object) -> None:
        assert callable(progress)
        progress(500, 2000)
        told.set()
        go_on.wait(20)
        progress(1000, 2000)

    monkeypatch.setattr(fake, "verify", verify)
    check = checks.begin(fake)
    assert told.wait(20)
    assert (check.done, check.total, check.is_running) == (500, 2000, True)
    assert checks.begin(fake) is check
    checks.stop()
    go_on.set()
    checks.close()
    assert not check.is_running
    assert check.done == 500


# Keys


def test_a_key_is_shown_once_and_can_be_replaced_and_ended(world: World, admin: Visitor) -> None:
    form = {"name": "the shop", "role": "personal", "subject": "ada", "quota": "10"}
    shown = admin.part("/keys", form).text
    secret = re.search(r"hf_live_\w+", shown)
    assert secret is not None
    assert secret[0] not in admin.get("/keys").text
    known = world.holdfast.access.keys()
    (key,) = [each for each in known if each.name == "the shop"]
    assert (key.role, key.subject, key.quota) == ("personal", "ada", 10)
    replaced = admin.part(f"/keys/{key.id}/rotate", {"overlap": "3600"}).text
    assert re.search(r"hf_live_\w+", replaced)[0] != secret[0]  # pyright: ignore[reportOptionalSubscript]
    assert "has ended" in admin.part(f"/keys/{key.id}/revoke").text
    assert admin.part("/keys", {**form, "role": "king"}).status_code == 422


# What is on the way


@pytest.mark.parametrize("role", ROLES)
def test_every_answer_has_the_headers_of_the_page(world: World, role: Role) -> None:
    with world.visitor(role) as visitor:
        answers = [visitor.get(path) for path in (*VIEWS, "/nowhere", "/statement/x", "/sign-in")]
        answers += [visitor.part("/try/ada", {"prompt": "x"}), visitor.post("/keep/ada")]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


def test_no_page_has_inline_scripts_or_styles_or_names_another_host(
    world: World, admin: Visitor
) -> None:
    evidence = world.holdfast.evidence("ada")[0].id
    statement = world.holdfast.statements("ada")[0].id
    pages = [admin.get(path).text for path in (
        *VIEWS, f"/evidence/{evidence}", f"/statement/{statement}", "/nowhere", "/sign-in",
    )]  # fmt: skip
    pages.append(admin.part("/try/ada", {"prompt": f"eat {WORDS}"}).text)
    for page in pages:
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]* src=)", page)
        assert not re.search(r"(?:src|href|action)=\"(?!/|#)", page)
        assert "hx-vals" not in page


def test_static_files_are_kept_for_good_and_change_their_path_with_their_content(
    admin: Visitor,
) -> None:
    paths = set(re.findall(r'"(/static/[^"]+)"', admin.get("/values/ada").text))
    assert len(paths) == 4
    for path in paths:
        answer = admin.get(path)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        digest = path.split("/")[2]
        assert admin.get(path.replace(digest, "0" * 16)).status_code == 404
    assert admin.get("/static/x/..%2F..%2Fpages.py").status_code == 404


SIGNS = [
    "<script>alert(1)</script>", '" onmouseover="alert(1)', "</textarea><img src=x>",
    "{{ 1234567*7 }}",
    "&lt;b&gt;", "\u202eright to left", "שלום עולם", "x" * 1500, "</pre><h1>out",
]  # fmt: skip


@pytest.mark.parametrize("sign", SIGNS, ids=range(len(SIGNS)))
def test_texts_of_subjects_are_shown_as_text(world: World, admin: Visitor, sign: str) -> None:
    subject = f"liv {sign[:60]}"
    text = f"I like {sign} a lot."
    (statement,) = world.holdfast.add(subject, text, split=False, contexts=[sign[:60]])
    world.holdfast.propose(subject, text, source=f"model:{sign[:60]}", split=False)
    found = world.holdfast.retrieve(subject, text, threshold=0.0)
    named = quote(subject, safe="")
    pages = [
        admin.get(path).text
        for path in (f"/values/{named}", f"/map/{named}", f"/statement/{statement.id}",
                     f"/evidence/{found.evidence_id}", "/subjects", "/audit")
    ]  # fmt: skip
    form = {"prompt": text, "text": text, "q": sign[:60]}
    pages += [admin.part(f"/{door}/{named}", form).text for door in ("try", "say", "map", "values")]
    pages.append(admin.fill(f"/say/{named}", form).text)
    pages.append(admin.part(f"/evidence/{found.evidence_id}/replay").text)
    for page in pages:
        for bad in ("<script>alert", '" onmouseover="', "<img", "</pre><h1>", "8641969"):
            assert bad not in page
    assert html.escape(text) in pages[0].replace("&#34;", "&quot;").replace("&#39;", "&#x27;")


def test_long_lists_are_given_in_parts(
    world: World, admin: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages_values, "PAGE", 3)
    texts = [f"I like number {n}." for n in range(7)]
    world.holdfast.add_many("max", texts, split=False)
    first = admin.get("/values/max").text
    assert "Show more (4 left)" in first
    seen = re.findall(r"I like number \d", first)
    for offset in ("3", "6"):
        rows = admin.part("/values/max", {"offset": offset}).text
        assert "<ol" not in rows
        seen += re.findall(r"I like number \d", rows)
    assert seen == [f"I like number {n}" for n in range(6, -1, -1)]


def test_errors_are_pages_to_people_and_problems_to_programs(world: World, admin: Visitor) -> None:
    page = admin.get("/nowhere")
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "<h1>Not found</h1>" in page.text
    plain = httpx.get(f"{world.url}/nowhere", headers={"accept": "application/json"})
    assert plain.headers["content-type"] == "application/problem+json"
    api = admin.get("/api/v1/subjects")
    assert api.headers["content-type"] == "application/problem+json"
    assert admin.put("/values/ada").status_code == 405
    wrong = admin.get("/", headers={"host": "evil.example"})
    assert (wrong.status_code, "Wrong host" in wrong.text) == (421, True)
    large = admin.post("/say/ada", content=b"x" * 1_100_000)
    assert large.status_code == 413


def test_an_error_of_ours_tells_nothing_but_its_id(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(*_: object, **__: object) -> None:
        raise RuntimeError(WORDS)

    with running(create_app(world.holdfast)) as url, Visitor(url) as visitor:
        visitor.sign_in(world.keys["admin"])
        monkeypatch.setattr(pages_values, "_values", break_off)
        answer = visitor.get("/values/ada")
    assert answer.status_code == 500
    assert WORDS not in answer.text
    assert answer.headers["x-request-id"] in answer.text
    assert answer.headers["content-security-policy"] == visiting.POLICY


# Last, for it looks at what all the others left


def test_no_log_tells_a_text_a_subject_or_a_key(world: World) -> None:
    formatter = logging.Formatter("%(name)s %(levelname)s %(message)s")
    lines = [formatter.format(record) for record in world.lines]
    assert any("/values/{subject:path}" in line for line in lines)
    secrets = ["fudge", "saffron", "hf_live_", "green tea", "slow trains", "gil", "liv "]
    secrets += [key.split("_")[3] for key in world.keys.values()]
    for line in lines:
        told = [each for each in secrets if each in line]
        assert not told, f"{line[:300]} tells {told}"
