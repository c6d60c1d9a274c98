"""What callers send the gateway beside messages: names, queries, headers, keys and options.

A real server in front of a real upstream; what matters is what the upstream is asked.
"""

import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import Request, Response
from starlette.datastructures import Headers
from upstreams import Upstream
from web import GatewayDoor, serving

from holdfast.retrieval.context import OPENING
from holdfast.server import gate, incoming
from holdfast.server.protocols import INTERNAL, LEFT
from holdfast.server.upstreams import Client

NUTS = "I never eat nuts."
ASK = [{"role": "user", "content": "May I eat nuts?"}]
BODY = {"model": "echo", "messages": ASK, "max_tokens": 9}
ANTHROPIC = {"anthropic-version": "2023-06-01"}
HUGGING_FACE = "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH"
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"


@dataclass
class Door(GatewayDoor):
    """A gateway that has keys for its upstream, and a key for it."""

    headers: dict[str, str] = field(default_factory=dict[str, str])

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(self.url + path, headers={"x-holdfast-key": self.key, **headers})

    def post(
        self, path: str, body: Any = BODY, headers: Any = (), *, subject: str | None = "ada"
    ) -> httpx.Response:
        own = {"x-holdfast-key": self.key, "x-holdfast-subject": subject}
        sent = [(name, value) for name, value in own.items() if value is not None]
        given = headers.items() if isinstance(headers, Mapping) else headers
        return httpx.post(self.url + path, json=body, headers=[*sent, *given], timeout=30)

    @property
    def asked(self) -> dict[str, Any]:
        """What came to the upstream last."""
        return self.up.requests[-1]

    def raw(self, text: str) -> bytes:
        """Send bytes as they are, and read one answer in JSON."""
        got, port = b"", int(self.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sent:
            sent.sendall(text.encode())
            while not got.endswith(b"}"):
                got += sent.recv(65536)
        return got


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as up:

        @up.app.get("/v1/files/{rest:path}")
        def _() -> dict[str, str]:
            return {"secret": "a file of the provider's account"}

        @up.app.get("/v1/models/{name:path}")
        def _(name: str, request: Request) -> Response:
            told = json.dumps({"id": name, "query": request.url.query})
            return Response(told, media_type="application/json", headers=OF_ITS_HOST)

        yield up


OF_ITS_HOST = {
    "access-control-allow-origin": "*", "access-control-allow-credentials": "true",
    "alt-svc": 'h3=":443"', "strict-transport-security": "max-age=31536000; includeSubDomains",
    "clear-site-data": '"*"', "nel": "{}", "report-to": "{}", "set-cookie": "a=b",
    "content-security-policy": "sandbox", "content-security-policy-report-only": "sandbox",
}  # fmt: skip


def opened(up: Upstream) -> dict[str, Any]:
    return {
        "upstream": f"{up.url}/v1", "upstream_key": "sk-of-the-installation",
        "upstream_anthropic": up.url, "upstream_anthropic_key": "sk-of-the-installation",
        "rate_limit": 0,
        "routes": {
            "theirs-*": {"protocol": "anthropic", "url": up.url, "key": "sk-theirs"},
            "elsewhere-*": {"protocol": "litellm", "model": "groq/echo", "key": "sk-theirs"},
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def shared(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    data = tmp_path_factory.mktemp("incoming") / "data"
    with serving(data, **opened(upstream)) as (hf, url):
        hf.add("ada", NUTS)
        yield Door(hf, url, upstream, hf.access.create("a test", role="app")[1])


@pytest.fixture
def door(shared: Door) -> Door:
    shared.up.requests.clear()
    return shared


@pytest.fixture
def callers(upstream: Upstream, tmp_path: Path) -> Iterator[Door]:
    """A gateway that has no key for its upstream: callers bring their own."""
    upstream.requests.clear()
    keyless = {"upstream": f"{upstream.url}/v1", "upstream_anthropic": upstream.url}
    with serving(tmp_path / "data", **keyless) as (hf, url):
        yield Door(hf, url, upstream, hf.access.create("a test", role="app")[1])


# Names of models


AWAY = (
    "..%2Ffiles%2Ffile-123%2Fcontent", "..%2F..%2Fsecret", "%2e%2e/files/x", "../files/x",
    "a/../../files/x", "a/./b", ".", "..", "", "a//b", "/a", "a/", "..%5Cfiles", "a%5Cb",
)  # fmt: skip


@pytest.mark.parametrize("name", AWAY)
@pytest.mark.parametrize("version", ["", "anthropic-version: 2023-06-01\r\n"])
def test_a_name_that_leads_elsewhere_in_the_upstream_is_no_models(
    door: Door, name: str, version: str
) -> None:
    head = f"GET /v1/models/{name} HTTP/1.1\r\nHost: localhost\r\nx-holdfast-key: {door.key}\r\n"
    got = door.raw(f"{head}{version}\r\n")
    status, _, said = got.partition(b"\r\n")
    assert b" 404 " in status
    body = json.loads(said.partition(b"\r\n\r\n")[2])
    assert ("request_id" in body) == bool(version)
    assert body["error"]["type"] == "not_found_error"
    assert door.up.requests == []


@pytest.mark.parametrize(
    "name",
    ["echo", "org/model:tag", "publishers/google/models/a@001", "x?a=b", "x#y", "x%2Fy", "x%3Fy",
     "Küche", "a b", "...", "a..b"],
)  # fmt: skip
def test_a_models_name_comes_to_the_upstream_as_it_is(door: Door, name: str) -> None:
    answer = door.get(f"/v1/models/{quote(name, safe='/')}")
    assert answer.status_code == 200
    assert answer.json() == {"id": name, "query": ""}
    assert door.asked["headers"]["authorization"] == "Bearer sk-of-the-installation"


def test_models_that_are_not_relayed_are_not_described(door: Door) -> None:
    assert door.get("/v1/models/elsewhere-1").status_code == 404
    assert door.get("/v1/models").status_code == 200


# Queries


def test_a_query_comes_to_an_upstream_of_the_same_protocol(door: Door) -> None:
    door.get("/v1/models?after_id=m5&limit=5", **ANTHROPIC)
    assert (door.asked["path"], door.asked["query"]) == ("/v1/models", "after_id=m5&limit=5")
    assert door.get("/v1/models/echo?a=%20b&c").json() == {"id": "echo", "query": "a=%20b&c"}
    for path in (MESSAGES, f"{MESSAGES}/count_tokens"):
        assert door.post(f"{path}?beta=true", headers=ANTHROPIC).status_code == 200
        assert (door.asked["path"], door.asked["query"]) == (path, "beta=true")
    door.post(f"{CHAT}?api-version=2026-01-01&x={quote('é/?', safe='')}")
    assert door.asked["query"] == "api-version=2026-01-01&x=%C3%A9%2F%3F"
    door.post(CHAT)
    assert door.asked["query"] == ""


def test_a_query_does_not_come_to_an_upstream_of_another_protocol(door: Door) -> None:
    assert door.post(f"{CHAT}?a=b", BODY | {"model": "theirs-echo"}).status_code == 200
    assert (door.asked["path"], door.asked["query"]) == (MESSAGES, "")


@pytest.mark.parametrize("path", [CHAT, MESSAGES, f"{MESSAGES}/count_tokens", "/v1/models"])
def test_a_key_of_ours_in_a_query_goes_no_further(door: Door, path: str) -> None:
    everywhere = "".join(f"%{ord(sign):02x}" for sign in door.key)
    for shown in (door.key, everywhere, quote(everywhere), f"a=b&key={door.key[:-3]}"):
        where = f"{path}?{shown}"
        answer = door.get(where) if path == "/v1/models" else door.post(where)
        assert answer.status_code == 400
        assert "holdfast keys rotate" in answer.text
        assert door.key not in answer.text
    assert door.up.requests == []


# Headers


@pytest.mark.parametrize("title", ["café".encode(), "café".encode("latin-1"), "日本".encode()])
def test_a_headers_bytes_are_passed_on_unchanged(door: Door, title: bytes) -> None:
    assert door.post(CHAT, headers=[(b"x-title", title)]).status_code == 200
    assert door.asked["headers"]["x-title"].encode("latin-1") == title


def test_a_header_that_comes_twice_is_passed_on_as_one_list(door: Door) -> None:
    beta = [("anthropic-beta", "a-1"), *ANTHROPIC.items(), ("anthropic-beta", "b-2")]
    assert door.post(MESSAGES, headers=beta).status_code == 200
    assert door.asked["headers"]["anthropic-beta"] == "a-1, b-2"


def test_a_subject_that_is_named_twice_is_asked_for_once(door: Door) -> None:
    answer = door.post(CHAT, headers=[("x-holdfast-subject", "bo")])
    assert answer.status_code == 400
    assert "x-holdfast-subject came twice" in answer.json()["error"]["message"]
    assert door.up.requests == []


def test_what_an_upstream_tells_browsers_of_its_host_is_not_passed_back(door: Door) -> None:
    answer = door.get("/v1/models/echo", origin="https://evil.example")
    assert answer.status_code == 200
    assert not set(OF_ITS_HOST) & set(answer.headers)


# Keys of the provider, and ours


@pytest.mark.parametrize("key", [HUGGING_FACE, "sk-ant-abchf_xyz"])
def test_a_providers_key_that_resembles_ours_is_passed_on(callers: Door, key: str) -> None:
    for headers in ({"authorization": f"Bearer {key}"}, {"x-holdfast-upstream-key": key}):
        assert callers.post(CHAT, headers=headers).status_code == 200
        assert callers.asked["headers"]["authorization"] == f"Bearer {key}"
    headers = {"x-api-key": key, **ANTHROPIC}
    assert callers.post(MESSAGES, headers=headers).status_code == 200
    assert callers.asked["headers"]["x-api-key"] == key


def test_a_key_of_ours_in_any_header_is_never_passed_on(callers: Door) -> None:
    for ours in (callers.key, callers.key[:-1], callers.key.upper()):
        for headers in (
            {"x-api-key": ours}, {"authorization": f"Token {ours}"}, {"api-key": ours},
            {"x-holdfast-upstream-key": ours},
        ):  # fmt: skip
            callers.post(CHAT, headers=headers)
            callers.post(MESSAGES, headers=headers | ANTHROPIC)
            told = json.dumps(callers.up.requests).lower()
            assert ours.lower()[:-1] not in told, headers
    wrong = callers.post(CHAT, headers={"x-holdfast-upstream-key": callers.key})
    assert wrong.status_code == 400
    assert "x-holdfast-upstream-key" in wrong.json()["error"]["message"]


# Before the body: the key


@pytest.mark.parametrize("path", [CHAT, "/v1/responses", MESSAGES, f"{MESSAGES}/count_tokens"])
def test_a_key_is_asked_for_before_a_body_is_looked_at(door: Door, path: str) -> None:
    auditor = door.hf.access.create("an auditor", role="auditor")[1]
    for body in (b"{", b"{}", b"[" * 100_000, b"", json.dumps({"model": "echo"}).encode()):
        answer = httpx.post(door.url + path, content=body)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        answer = httpx.post(door.url + path, content=body, headers={"x-holdfast-key": auditor})
        assert answer.status_code == 403


@pytest.mark.parametrize("size", [incoming.SMALL // 2, incoming.SMALL * 2])
def test_a_body_of_any_size_is_answered_and_its_key_checked_once(
    door: Door, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    access, checked = type(door.hf.access), []
    authenticate = access.authenticate

    def counting(self: Any, text: str) -> Any:
        checked.append(threading.current_thread().name)
        return authenticate(self, text)

    monkeypatch.setattr(access, "authenticate", counting)
    assert door.post(CHAT, BODY | {"padding": "x" * size}).status_code == 200
    assert len(checked) == 1
    assert json.loads(door.asked["body"])["padding"] == "x" * size


def test_a_body_that_trickles_is_given_up(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "BODY_SECONDS", 0.5)
    port, began = int(door.url.rpartition(":")[2]), time.monotonic()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=0.1) as sent:
        sent.sendall(head.encode())
        got = b""
        while not got and time.monotonic() - began < 5:
            sent.sendall(b" ")
            try:
                got = sent.recv(65536)
            except TimeoutError:
                continue
    assert b" 408 " in got.partition(b"\r\n")[0]
    assert time.monotonic() - began < 2


def test_a_large_body_over_a_slow_line_has_its_time(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "BODY_SECONDS", 0.5)
    monkeypatch.setattr(gate, "SLOWEST", 50_000)
    body = json.dumps(BODY | {"padding": "x" * 100_000}).encode()

    def slowly() -> Iterator[bytes]:
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]
            time.sleep(0.1)

    own = {"x-holdfast-key": door.key, "x-holdfast-subject": "ada"}
    began = time.monotonic()
    assert httpx.post(door.url + CHAT, content=slowly(), headers=own).status_code == 200
    assert time.monotonic() - began > 0.9


# Options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"subjects": 5}, "holdfast.subjects takes names"),
        ({"subjects": [["a"]]}, "holdfast.subjects takes names"),
        ({"subjects": {"a": 1}}, "holdfast.subjects takes names"),
        ({"subjects": ["a", None]}, "holdfast.subjects takes names"),
        ({"subject": {"a": 1}}, "holdfast.subject takes names"),
        ({"subject": True}, "holdfast.subject takes names"),
        ({"subject": "ada", "contexts": 5}, "holdfast.contexts takes a list"),
        ({"subject": "ada", "contexts": "work"}, "holdfast.contexts takes a list"),
        ({"subject": "ada", "contexts": [["a"]]}, "holdfast.contexts takes a list"),
        ([], "holdfast takes: subject"),
        (None, "holdfast takes: subject"),
    ],
)
@pytest.mark.parametrize("path", [CHAT, f"{MESSAGES}/count_tokens"])
def test_an_option_of_the_wrong_form_is_told(
    door: Door, path: str, options: Any, words: str
) -> None:
    answer = door.post(path, BODY | {"holdfast": options})
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]
    assert door.up.requests == []
    assert door.hf.evidence("a") == []


@pytest.mark.parametrize("coding", ["utf-8", "latin-1"])
def test_contexts_in_a_header_are_read_as_subjects_are(door: Door, coding: str) -> None:
    said = door.hf.add("gil", "I cook nuts without garlic.", contexts=["Küche"])
    asked = BODY | {"messages": [{"role": "user", "content": "May I cook nuts with garlic?"}]}
    elsewhere = [("x-holdfast-subject", "gil"), ("x-holdfast-contexts", "work")]
    assert door.post(CHAT, asked, elsewhere, subject=None).headers["x-holdfast-injected"] == "0"
    here = [("x-holdfast-subject", "gil"), ("x-holdfast-contexts", "work, Küche".encode(coding))]
    assert door.post(CHAT, asked, here, subject=None).headers["x-holdfast-injected"] == "1"
    assert said[0].contexts == ("Küche",)


# What is counted is what would be sent


def counted_and_sent(door: Door, body: dict[str, Any]) -> tuple[Any, Any]:
    size = len(door.hf.audit.events(limit=None))
    answer = door.post(f"{MESSAGES}/count_tokens", body, ANTHROPIC)
    assert answer.status_code == 200
    counted = json.loads(door.asked["body"])
    assert len(door.hf.audit.events(limit=None)) == size
    door.post(MESSAGES, body, ANTHROPIC).raise_for_status()
    return counted, json.loads(door.asked["body"])


def test_tokens_are_counted_of_what_was_put_into_earlier_turns_too(door: Door) -> None:
    conversation: list[dict[str, Any]] = []
    for question in ("May I eat nuts?", "And nuts in bread?", "And nuts in cake?"):
        conversation.append({"role": "user", "content": question})
        counted, sent = counted_and_sent(door, BODY | {"messages": conversation})
        assert counted == sent
        conversation.append({"role": "assistant", "content": "No."})
    assert json.dumps(sent).count(OPENING) == 3
    use = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": "nuts"}
    conversation[-1] = {"role": "assistant", "content": [use]}
    conversation.append({"role": "user", "content": [result]})
    counted, sent = counted_and_sent(door, BODY | {"messages": conversation})
    assert counted == sent


def test_tokens_are_counted_with_the_callers_options(door: Door) -> None:
    fewer = BODY | {"holdfast": {"limit": 0}, "messages": [{"role": "user", "content": "Nuts?"}]}
    counted, sent = counted_and_sent(door, fewer)
    assert counted == sent
    assert OPENING not in json.dumps(counted)


def test_tokens_are_counted_where_the_context_will_stand(
    upstream: Upstream, tmp_path: Path
) -> None:
    with serving(tmp_path / "data", placement="system", **opened(upstream)) as (hf, url):
        hf.add("ada", NUTS)
        door = Door(hf, url, upstream, hf.access.create("a test", role="app")[1])
        counted, sent = counted_and_sent(door, BODY | {"system": "Be kind."})
        assert counted == sent
        assert counted["system"].startswith("Be kind.\n\n" + OPENING)


# Errors


def test_errors_about_models_have_the_callers_form(door: Door) -> None:
    for path in ("/v1/models", "/v1/models/echo"):
        for version, form in ((ANTHROPIC, "error"), ({}, None)):
            body = httpx.get(door.url + path, headers=version).json()
            assert body.get("type") == form
            assert body["error"]["type"] == "authentication_error"


def test_what_fails_here_is_not_recorded_as_a_client_that_left(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise TypeError("a secret word")

    with monkeypatch.context() as patched:
        patched.setattr(Client, "send", broken)
        answer = door.post(CHAT)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    outcome = door.hf.audit.events(types=["call.outcome"])[0].payload
    assert outcome["error"] == INTERNAL != LEFT
    assert "secret" not in json.dumps(outcome)


def test_a_list_of_headers_keeps_what_came_once_as_it_is() -> None:
    raw = [(b"a", b"1"), (b"b", b"x, y"), (b"a", b"2")]
    assert incoming.joined(Headers(raw=raw)) == {"a": "1, 2", "b": "x, y"}
