"""Who may do what over HTTP, and that nothing tells of what is another's.

Two tenants and four roles over every route of the API; keys that do not hold; bodies,
hosts and origins that mean harm; and what is written to logs meanwhile.
"""

import json
import logging
import re
import socket
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.stateful import run_state_machine_as_test
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import allow_header_conformance, negative_data_rejection
from web import serving, watched

from holdfast import Holdfast
from holdfast.memory.models import Role
from holdfast.server import gate
from holdfast.server.auth import PERMISSIONS, Permission

API = "/api/v1"
SECRET_WORDS = "marzipan"
"""Stands in every text of a subject."""
ROLES: tuple[Role, ...] = ("admin", "app", "personal", "auditor")
TENANTS = ("local", "other")


@dataclass(frozen=True)
class Route:
    """A route, what it needs, and a body that it takes."""

    method: str
    path: str
    permission: Permission
    body: Any = None
    query: str = ""

    @property
    def names(self) -> str:
        """What its path names: a subject, a statement …; "" for nothing."""
        found = re.search(r"\{(\w+?)(?:_id)?\}", self.path)
        return found[1] if found else ""


TEXT = {"text": f"I like {SECRET_WORDS}."}
ROUTES = (
    Route("GET", "/subjects", "read"),
    Route("POST", "/subjects/{subject}/statements", "write", TEXT),
    Route("POST", "/subjects/{subject}/read", "write", TEXT),
    Route("GET", "/subjects/{subject}/statements", "read"),
    Route("PATCH", "/statements/{statement_id}", "write", TEXT),
    Route("DELETE", "/statements/{statement_id}", "write"),
    Route("GET", "/statements/{statement_id}/history", "read"),
    Route("POST", "/subjects/{subject}/decisions", "write",
          {"situation": SECRET_WORDS, "choice": "c", "reason": "r"}),
    Route("GET", "/subjects/{subject}/decisions", "read"),
    Route("POST", "/subjects/{subject}/retrieve", "retrieve", {"request": SECRET_WORDS}),
    Route("GET", "/subjects/{subject}/proposals", "read", query="?status=all"),
    Route("POST", "/subjects/{subject}/proposals", "write", {**TEXT, "source": "model:x"}),
    Route("POST", "/proposals/{proposal_id}/confirm", "write"),
    Route("POST", "/proposals/{proposal_id}/reject", "write"),
    Route("GET", "/subjects/{subject}/export", "read"),
    Route("POST", "/subjects/{subject}/import", "write", {}),
    Route("GET", "/subjects/{subject}/evidence", "evidence", query="?type=*"),
    Route("GET", "/evidence", "evidence", query="?type=*&limit=1000"),
    Route("GET", "/evidence/{evidence_id}", "evidence"),
    Route("POST", "/evidence/{evidence_id}/replay", "evidence"),
    Route("GET", "/evidence/{evidence_id}/bundle", "evidence", query="?disclose_all=true"),
    Route("GET", "/ledger/checkpoint", "ledger"),
    Route("POST", "/ledger/start-over", "manage", {"reason": "r"}),
    Route("GET", "/ledger/verify", "ledger"),
    Route("POST", "/keys", "manage", {"name": "k", "role": "auditor"}),
    Route("GET", "/keys", "manage"),
    Route("POST", "/keys/{key_id}/rotate", "manage"),
    Route("DELETE", "/keys/{key_id}", "manage"),
    Route("GET", "/usage", "manage"),
    Route("GET", "/doctor", "manage"),
    Route("POST", "/doctor", "manage"),
    Route("POST", "/installation/rotate-key", "manage"),
    Route("DELETE", "/subjects/{subject}", "erase", query="?confirm={subject}"),
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """A server with two tenants, each with people and a key of every role."""

    holdfast: Holdfast
    url: str
    keys: dict[tuple[str, Role], str]
    records: list[logging.LogRecord]

    def engine(self, tenant: str) -> Holdfast:
        return self.holdfast.of_tenant(tenant)

    def client(self, tenant: str = "local", role: Role = "admin") -> httpx.Client:
        bearer = {"authorization": f"Bearer {self.keys[tenant, role]}"}
        return httpx.Client(base_url=self.url + API, headers=bearer, timeout=30)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with watched(tmp_path_factory.mktemp("security")) as (holdfast, url, records):
        keys: dict[tuple[str, Role], str] = {}
        for tenant in TENANTS:
            for role in ROLES:
                whose = "ada" if role == "personal" else None
                made = holdfast.of_tenant(tenant).access.create(
                    f"{role} of {tenant}", role=role, subject=whose
                )
                keys[tenant, role] = made[1]
        yield World(holdfast, url, keys, records)


def _new(engine: Holdfast, subject: str, kind: str) -> str:
    """Make something of a kind; give what paths call it."""
    words = f"{SECRET_WORDS} at {time.time_ns()}."
    if kind == "statement":
        return engine.add(subject, f"I never eat {words}")[0].id
    if kind == "proposal":
        return engine.propose(subject, f"Likes {words}", source="model:x")[0].id
    if kind == "evidence":
        return str(engine.retrieve(subject, f"eat {words}").evidence_id)
    if kind == "key":
        return engine.access.create("one to be ended", role="auditor")[0].id
    return subject


def made(engine: Holdfast, subject: str) -> dict[str, str]:
    """Make something of each kind."""
    return {kind: _new(engine, subject, kind) for kind in ("subject", *UNKNOWN)}


UNKNOWN = {
    "statement": "st_22222222222w",
    "proposal": "pr_22222222222w",
    "evidence": "ev_2222222222222222222222222w",
    "key": "22222222222w",
}


def ask(client: httpx.Client, route: Route, things: dict[str, str]) -> httpx.Response:
    named = quote(things[route.names], safe="") if route.names else ""
    fill = re.compile(r"\{\w+\}")
    path = fill.sub(lambda _: named, route.path + route.query)
    return client.request(route.method, path, json=route.body)


def seen(answer: httpx.Response, things: dict[str, str], route: Route) -> tuple[Any, ...]:
    """Give what a caller sees of an answer, but for the name it asked about itself."""
    body = answer.json()
    headers = {name for name in answer.headers if name not in ("content-length", "date")}
    if answer.is_success:
        return answer.status_code, shape(body), headers
    body.pop("request_id")
    text = json.dumps(body)
    if route.names:
        text = text.replace(things[route.names], "ID")
    return answer.status_code, text, headers


def shape(value: Any) -> Any:
    """Give the form of a value: names and types, without what differs by chance."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    return type(value).__name__


def state(engine: Holdfast, subject: str) -> Any:
    return [
        engine.statements(subject, include_retired=True),
        engine.proposals(subject, status=None),
        engine.decisions(subject),
        [each.id for each in engine.audit.events(subject, limit=None)],
    ]


def test_the_matrix_covers_every_route_of_the_document(world: World) -> None:
    document = httpx.get(f"{world.url}/openapi.json").json()
    there = {
        (method.upper(), path.removeprefix(API))
        for path, methods in document["paths"].items()
        if path.startswith(API)
        for method in methods
    }
    assert {(route.method, route.path) for route in ROUTES} == there


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("tenant", TENANTS)
def test_what_is_anothers_is_answered_as_what_is_not_there(
    world: World, tenant: str, role: Role
) -> None:
    own, another = world.engine(tenant), world.engine(TENANTS[tenant == "local"])
    is_personal = role == "personal"
    zoe = f"zoe of {role} and {tenant}"
    foreign = {"another tenant's": made(another, zoe)}
    if is_personal:
        foreign["another subject's"] = made(own, "benjamin")
    unknown = {**UNKNOWN, "subject": f"nobody of {role} and {tenant}"}
    before = [state(another, zoe), state(own, "benjamin")]
    with world.client(tenant, role) as client:
        for route in ROUTES:
            if not route.names:
                continue
            expected = seen(ask(client, route, unknown), unknown, route)
            for whose, things in foreign.items():
                found = seen(ask(client, route, things), things, route)
                assert found == expected, f"{route.method} {route.path}: {whose}"
            if route.permission not in PERMISSIONS[role]:
                assert expected[0] == 403
            elif route.names != "subject" or is_personal:
                assert expected[0] == 404
    assert [state(another, zoe), state(own, "benjamin")] == before


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("tenant", TENANTS)
def test_a_role_may_do_what_its_permissions_say_and_no_more(
    world: World, tenant: str, role: Role
) -> None:
    own = world.engine(tenant)
    with world.client(tenant, role) as client:
        for route in ROUTES[:-1]:
            answer = ask(client, route, {route.names: _new(own, "ada", route.names)})
            which = f"{role}: {route.method} {route.path}: {answer.text[:200]}"
            if route.permission not in PERMISSIONS[role]:
                assert answer.status_code == 403, which
                assert f"a key of role {role} may not do this" in answer.text
            elif route.path in ("/installation/rotate-key", "/subjects/{subject}/import"):
                assert answer.status_code in (403, 422), which
            else:
                assert answer.is_success, which
        if role == "app":
            answer = ask(client, ROUTES[-1], {"subject": "somebody to erase"})
            assert answer.status_code == 404
            own.add("somebody to erase", "I like tea.")
            assert ask(client, ROUTES[-1], {"subject": "somebody to erase"}).is_success


GATEWAY = (
    ("POST", "/v1/chat/completions", 400), ("POST", "/v1/responses", 400),
    ("POST", "/v1/messages", 400), ("POST", "/v1/messages/count_tokens", 400),
    ("GET", "/v1/models/..%2Ffiles", 404),
)  # fmt: skip
"""Its routes, and what they say to a request that is no good, which nothing is sent for."""
DOORS = (*GATEWAY, ("GET", "/v1/models", 0), ("POST", "/mcp", 400))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("tenant", TENANTS)
def test_a_role_that_may_not_retrieve_calls_no_model(world: World, tenant: str, role: Role) -> None:
    own = {"x-holdfast-key": world.keys[tenant, role]}
    with httpx.Client(base_url=world.url, headers=own) as client:
        for method, path, status in GATEWAY:
            answer = client.request(method, path, content=b"{")
            if "retrieve" in PERMISSIONS[role]:
                assert answer.status_code == status, path
            else:
                assert answer.status_code == 403, path
                assert f"a key of role {role} may not do this" in answer.text


def test_lists_tell_a_personal_key_of_its_own_subject_alone(world: World) -> None:
    engine = world.engine("local")
    made(engine, "ada")
    made(engine, "bo")
    shared = engine.retrieve(["acme", "ada"], SECRET_WORDS).evidence_id
    with world.client("local", "personal") as client:
        assert client.get("/subjects").json() == ["ada"]
        for path in ("/evidence", "/subjects/ada/evidence"):
            events = client.get(path, params={"type": "*", "limit": 1000}).json()
            assert events
            assert {tuple(each["subjects"]) for each in events} == {("ada",)}
        assert client.get(f"/evidence/{shared}").status_code == 404
    with world.client("local", "app") as client:
        assert client.get(f"/evidence/{shared}").status_code == 200


PRETENCES: dict[str, Callable[[httpx.Client], httpx.Response]] = {
    "a header": lambda c: c.get("/subjects/ada/statements", headers={"x-holdfast-subject": "bo"}),
    "a header on a list": lambda c: c.get("/subjects", headers={"x-holdfast-subject": "bo"}),
    "Open WebUI's header": lambda c: c.get("/subjects", headers={"x-openwebui-user-id": "bo"}),
    "a tenant": lambda c: c.get("/subjects/ada/statements", headers={"x-holdfast-tenant": "other"}),
    "a query": lambda c: c.get("/subjects/ada/statements", params={"subject": "bo", "user": "bo"}),
    "a retrieval's header": lambda c: c.post(
        "/subjects/ada/retrieve",
        json={"request": SECRET_WORDS},
        headers={"x-holdfast-subject": "bo"},
    ),
    "subjects": lambda c: c.post(
        "/subjects/ada/retrieve", json={"request": SECRET_WORDS, "subjects": ["bo"]}
    ),
    "subjects, with its own": lambda c: c.post(
        "/subjects/ada/retrieve", json={"request": SECRET_WORDS, "subjects": ["ada", "bo"]}
    ),
    "a field": lambda c: c.post("/subjects/ada/retrieve", json={"request": "a", "user": "bo"}),
    "metadata": lambda c: c.post(
        "/subjects/ada/retrieve", json={"request": "a", "metadata": {"user_id": "bo"}}
    ),
    "a path": lambda c: c.get("/subjects/bo/statements"),
    "a path with dots": lambda c: c.get("/subjects/ada%2F..%2Fbo/statements"),
    "a path with white space": lambda c: c.get("/subjects/%20bo/statements"),
    "a path in other case": lambda c: c.get("/subjects/BO/statements"),
    "a path coded twice": lambda c: c.get("/subjects/%2562o/statements"),
    "an export": lambda c: c.get("/subjects/bo/export"),
    "an erasure": lambda c: c.delete("/subjects/bo", params={"confirm": "bo"}),
    "an erasure with its own path": lambda c: c.delete("/subjects/ada", params={"confirm": "bo"}),
    "a key of its own making": lambda c: c.post("/keys", json={"name": "k", "role": "admin"}),
}


@pytest.mark.parametrize("pretence", PRETENCES.values(), ids=PRETENCES)
def test_a_personal_key_cannot_act_for_another(
    world: World, pretence: Callable[[httpx.Client], httpx.Response]
) -> None:
    engine = world.engine("local")
    engine.add("bo", "I adore fudge.")
    world.engine("other").add("ada", "I adore fudge.")
    before = state(engine, "bo")
    with world.client("local", "personal") as client:
        answer = pretence(client)
    assert "fudge" not in answer.text
    assert '"bo"' not in answer.text
    if answer.is_success:
        assert answer.json() is not None
    else:
        assert answer.status_code in (403, 404, 422)
    assert state(engine, "bo") == before


def test_what_is_weighed_must_be_the_subjects_own_and_does_not_tell_of_others(
    world: World,
) -> None:
    engine = world.engine("local")
    decision = {"situation": "s", "choice": "c", "reason": "r"}
    told: set[str] = set()
    theirs = [made(engine, "bo")["statement"], made(world.engine("other"), "ada")["statement"]]
    for role in ("personal", "app"):
        with world.client("local", role) as client:
            for id_ in (*theirs, UNKNOWN["statement"]):
                body = {**decision, "weighed": [id_]}
                answer = client.post("/subjects/ada/decisions", json=body)
                assert answer.status_code == 404
                told.add(answer.json()["detail"].replace(id_, "ID"))
    assert len(told) == 1


def test_what_is_anothers_takes_as_long_as_what_is_not_there(world: World) -> None:
    theirs = made(world.engine("local"), "bo")["statement"]
    with world.client("local", "personal") as client:

        def took(id_: str) -> float:
            began = time.perf_counter()
            assert client.get(f"/statements/{id_}/history").status_code == 404
            return time.perf_counter() - began

        took(theirs)
        unknown = UNKNOWN["statement"]  # in turn: whatever else the machine does slows both
        gaps = [took(theirs) - took(unknown) for _ in range(60)]
        assert abs(statistics.median(gaps)) < 0.005


def test_keys_that_do_not_hold_all_get_one_answer(world: World) -> None:
    access = world.engine("local").access
    ended, revoked = access.create("ended", role="admin")
    access.revoke(ended.id)
    _, expired = access.create("short", role="admin", expires_at=_in(0.2))
    good = world.keys["local", "admin"]
    time.sleep(0.3)
    last = "2" if good[-1] != "2" else "3"
    shown: list[dict[str, str]] = [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Basic aGY6aGY="},
        {"authorization": f"Token {good}"},
        *({"authorization": f"Bearer {key}"} for key in (
            revoked, expired, good[:-1], good[:-9], good[: len(good) // 2], good + "2",
            good[:-1] + last, good.upper(), "hf_", "hf_live", "hf_live_" + "2" * 60,
            good.replace("live", "test"), f"{good} {good}", "hf_live_é", "Bearer",
            good[:25] + ("2" if good[25] != "2" else "3") + good[26:], "x" * 5000,
        )),
        {"x-api-key": revoked},
        {"x-holdfast-key": "nonsense", "authorization": f"Bearer {good}"},
        {"cookie": f"key={good}; authorization=Bearer {good}"},
    ]  # fmt: skip
    told: set[str] = set()
    with httpx.Client(base_url=world.url + API) as client:
        for headers in shown:
            raw = {name: value.encode() for name, value in headers.items()}
            answer = client.get("/subjects", headers=raw)
            assert answer.status_code == 401, headers
            assert answer.headers["www-authenticate"] == "Bearer"
            body = answer.json()
            del body["request_id"]
            told.add(json.dumps(body))
            assert _gateway_told(world, raw) == {body["detail"]}
        for name in ("key", "api_key", "token", "access_token", "x-holdfast-key", "authorization"):
            assert client.get("/subjects", params={name: good}).status_code == 401
            assert _gateway_told(world, {}, f"?{name}={good}") == {body["detail"]}
    assert len(told) == 1
    assert "hf_live" not in told.pop()


def _gateway_told(world: World, headers: dict[str, bytes], query: str = "") -> set[str]:
    """Give what the other doors say to whoever has no key, whatever else is wrong."""
    told: set[str] = set()
    with httpx.Client(base_url=world.url, headers=headers) as client:
        for method, path, _ in DOORS:
            answer = client.request(method, path + query, content=b"{")
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"] == "Bearer"
            body = answer.json()
            told.add(body["error"]["message"] if "error" in body else body["detail"])
    return told


def _in(seconds: float) -> str:
    from datetime import UTC, datetime, timedelta

    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def test_each_way_to_show_a_key_lets_its_bearer_in(world: World) -> None:
    good = world.keys["local", "admin"]
    with httpx.Client(base_url=world.url + API) as client:
        for headers in (
            {"authorization": f"Bearer {good}"},
            {"authorization": f"bearer {good}"},
            {"x-holdfast-key": good},
            {"x-api-key": good},
            {"x-holdfast-key": good, "authorization": "Bearer sk-of-a-provider"},
        ):
            assert client.get("/subjects", headers=headers).status_code == 200


# Bodies, hosts, origins


def _raw(world: World, head: str, *parts: bytes, wait: float = 0.0) -> bytes:
    """Send bytes as they are; give all that comes back."""
    port = int(world.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sent:
        lines = f"{head}\r\nAuthorization: Bearer {world.keys['local', 'admin']}\r\n\r\n"
        sent.sendall(lines.encode())
        for part in parts:
            sent.sendall(part)
        time.sleep(wait)
        sent.settimeout(5)
        got = b""
        try:
            while chunk := sent.recv(65536):
                got += chunk
                if b"request_id" in got or b'"code"' in got:
                    break
        except TimeoutError:
            pass
        return got


STATEMENTS = f"POST {API}/subjects/ada/statements HTTP/1.1\r\nHost: localhost"
CHAT = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost"
MCP = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: application/json, text/event-stream"


def test_a_body_that_says_that_it_is_too_large_is_refused_before_it_is_read(world: World) -> None:
    kind = "Content-Type: application/json"
    for where, length in ((STATEMENTS, 9_999_999), (CHAT, 99_999_999), (MCP, 9_999_999)):
        got = _raw(world, f"{where}\r\n{kind}\r\nContent-Length: {length}")
        assert b" 413 " in got.partition(b"\r\n")[0]


@pytest.mark.parametrize("length", ["Content-Length: 999999", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize(
    "path", [f"{API}/subjects/ada/import", f"{API}/subjects/ada/statements", "/v1/messages", "/mcp"]
)
def test_without_a_key_no_large_body_is_waited_for(world: World, path: str, length: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
    began = time.monotonic()
    got = _raw(world, f"{head}\r\n{length}\r\nx-holdfast-key: nonsense")
    assert b" 401 " in got.partition(b"\r\n")[0]
    assert time.monotonic() - began < 3


def test_a_body_that_grows_too_large_without_saying_so_is_refused(world: World) -> None:
    head = f"{STATEMENTS}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked"
    chunk = b"40000\r\n" + b" " * 0x40000 + b"\r\n"
    assert b" 413 " in _raw(world, head, *[chunk] * 5).partition(b"\r\n")[0]


@pytest.mark.parametrize("where", [STATEMENTS, CHAT, MCP])
def test_a_body_that_stalls_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(gate, "BODY_SECONDS", 0.2)
    head = f"{where}\r\nContent-Type: application/json\r\nContent-Length: 100"
    assert b" 408 " in _raw(world, head, b'{"text": ').partition(b"\r\n")[0]


@pytest.mark.parametrize("depth", [100, 900, 5_000, 100_000])
@pytest.mark.parametrize("signs", [("[", "]"), ('{"a":', "}")])
def test_a_deeply_nested_body_is_refused_and_breaks_nothing(
    world: World, depth: int, signs: tuple[str, str]
) -> None:
    nested = signs[0] * depth + "1" + signs[1] * depth
    with world.client() as client:
        for body in (nested, f'{{"request": [{{"role": "user", "content": {nested}}}]}}'):
            answer = client.post(
                "/subjects/ada/retrieve",
                content=body.encode(),
                headers={"content-type": "application/json"},
            )
            assert answer.status_code in (200, 400, 422), answer.text
        assert client.get("/subjects").status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "evil.example:80", "", "127.0.0.1.evil:1"]
)
def test_a_foreign_host_is_refused(world: World, host: str) -> None:
    with world.client() as client:
        answer = client.get("/subjects", headers={"host": host})
    assert answer.status_code == 421
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8790", "127.0.0.1", "[::1]:8790"])
def test_this_machines_own_names_are_let_in(world: World, host: str) -> None:
    with world.client() as client:
        assert client.get("/subjects", headers={"host": host}).status_code == 200


def test_no_page_of_another_origin_may_call_unless_it_is_named(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    wanted = {
        "origin": "https://evil.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    with world.client() as client:
        answer = client.get("/subjects", headers={"origin": "https://evil.example"})
        assert not [name for name in answer.headers if name.startswith("access-control")]
        asked = client.options("/subjects", headers=wanted)
        assert asked.status_code == 405
        assert not [name for name in asked.headers if name.startswith("access-control")]
    mine = "https://mine.example"
    data = tmp_path_factory.mktemp("cors") / "data"
    named = {"allowed_origins": [mine], "allowed_hosts": ["Values.Example"]}
    with serving(data, **named) as (_, url), httpx.Client(base_url=url) as client:
        asked = client.options(f"{API}/subjects", headers=wanted | {"origin": mine})
        assert asked.headers["access-control-allow-origin"] == mine
        asked = client.options(f"{API}/subjects", headers=wanted)
        assert "access-control-allow-origin" not in asked.headers
        for host in ("values.example:443", "Values.Example", "values.example"):
            assert client.get("/healthz", headers={"host": host}).status_code == 200


# The document, held against the server


@pytest.fixture(scope="module")
def document(world: World) -> Any:
    config = SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "headers": {"Authorization": f"Bearer {world.keys['other', 'admin']}"},
            "phases": {"coverage": {"enabled": True}, "examples": {"enabled": True}},
            "generation": {"max-examples": EXAMPLES, "deterministic": True, "database": "none"},
            "checks": {"positive_data_acceptance": {"expected-statuses": FINE}},
        }
    )
    found = schemathesis.openapi.from_url(f"{world.url}/openapi.json", config=config)
    return found.include(path_regex=f"^{API}/")


EXAMPLES = 3
FINE = ["2xx", "401", "403", "404", "409", "422"]
"""What words and times mean, no schema can say."""
QUIET = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
LAX = [allow_header_conformance, negative_data_rejection]
"""A framework's 405 names one route's methods; unknown query parameters are passed over."""


def test_every_operation_answers_as_the_document_says(document: Any) -> None:
    count = 0
    for found in document.get_all_operations():
        operation = found.ok()

        @QUIET
        @given(case=operation.as_strategy() | operation.as_strategy(GenerationMode.NEGATIVE))
        def check(case: Any) -> None:
            case.call_and_validate(excluded_checks=LAX)

        check()
        count += 1
    assert count == len(ROUTES)


def test_what_is_made_can_be_used_by_the_links_of_the_document(document: Any) -> None:
    statuses: Counter[int] = Counter()

    class Workflow(document.as_state_machine()):
        def validate_response(self, response: Any, case: Any, **more: Any) -> None:
            statuses[response.status_code] += 1
            case.validate_response(response, excluded_checks=LAX)

    run_state_machine_as_test(Workflow, settings=settings(QUIET, stateful_step_count=5))
    assert sum(statuses.values()) > 5
    assert not [status for status in statuses if status >= 500]


# Last, for it looks at what all the others left


def test_no_log_tells_a_text_a_subject_or_a_key(world: World) -> None:
    formatter = logging.Formatter("%(name)s %(levelname)s %(message)s")
    lines = [formatter.format(record) for record in world.records]
    assert any(line.startswith("holdfast.access INFO") for line in lines)
    secrets = [SECRET_WORDS, "fudge", "zoe", "nobody of", "somebody to erase", "hf_live_"]
    secrets += [key.split("_")[3] for key in world.keys.values()]
    for line in lines:
        told = [each for each in secrets if each in line]
        assert not told, f"{line[:300]} tells {told}"
