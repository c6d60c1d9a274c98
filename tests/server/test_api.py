"""The REST API over a real socket: every route, what it refuses, and in what words."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from web import serving

from holdfast import Holdfast
from holdfast.memory.checkpoint import read_key
from holdfast.memory.models import EVENT_TYPES
from holdfast.memory.verifier import verify_bundle
from holdfast.server.api_models import MOST_TEXTS
from holdfast.server.render import plain_value

API = "/api/v1"
ADA = f"{API}/subjects/ada"


@dataclass
class Api:
    """A server, and a client that shows an admin's key."""

    holdfast: Holdfast
    client: httpx.Client
    url: str

    def ask(self, method: str, path: str, status: int = 200, **more: Any) -> Any:
        answer = self.client.request(method, path, **more)
        assert answer.status_code == status, answer.text[:500]
        return answer.json()

    def problem(self, method: str, path: str, status: int, detail: str, **more: Any) -> None:
        """See that a request is refused with exactly these problem details."""
        answer = self.client.request(method, path, **more)
        assert answer.status_code == status, answer.text[:500]
        assert answer.headers["content-type"] == "application/problem+json"
        body = answer.json()
        assert body.pop("request_id") == answer.headers["x-request-id"]
        assert body.pop("error", "") in ERRORS.get(status, ("",))
        assert body == {
            "type": "about:blank",
            "title": TITLES[status],
            "status": status,
            "detail": detail,
        }


TITLES = {
    400: "Bad request", 401: "No valid key", 403: "Not allowed", 404: "Not found",
    405: "Method not allowed", 413: "Too large", 422: "Cannot be used", 429: "Too many requests",
}  # fmt: skip
ERRORS = {404: ("NotFoundError", ""), 422: ("InvalidInputError", "")}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server for all tests of this file: each has subjects of its own."""
    folder = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.delenv("HOLDFAST_DATA", raising=False)
        with serving(folder / "data", rate_limit=0) as (holdfast, url):
            _, secret = holdfast.access.create("tests", role="admin")
            bearer = {"authorization": f"Bearer {secret}"}
            with httpx.Client(base_url=url, headers=bearer, timeout=30) as client:
                yield Api(holdfast, client, url)


@pytest.fixture
def api(server: Api) -> Iterator[Api]:
    yield server
    for subject in server.holdfast.subjects():
        server.holdfast.erase(subject)


# Statements


def test_a_text_becomes_statements_as_the_engine_gives_them(api: Api) -> None:
    said = {"text": "I never eat nuts. Be blunt with me.", "source": "form", "contexts": ["home"]}
    added = api.ask("POST", f"{ADA}/statements", 201, json=said)
    assert added["statements"] == plain_value(api.holdfast.statements("ada"))
    assert [each["text"] for each in added["statements"]] == [
        "I never eat nuts.",
        "Be blunt with me.",
    ]
    assert {each["source"] for each in added["statements"]} == {"form"}
    assert (added["existing"], added["similar"], added["possible_revisions"]) == ([], [], [])
    again = api.ask("POST", f"{ADA}/statements", 201, json=said)
    assert again["statements"] == added["statements"]
    assert len(again["existing"]) == 2


def test_many_texts_are_stored_in_one_call(api: Api) -> None:
    said = {"texts": ["I like tea.", "I like rain."], "kind": "value", "split": False}
    added = api.ask("POST", f"{ADA}/statements", 201, json=said)
    assert [(each["text"], each["kind"]) for each in added["statements"]] == [
        ("I like tea.", "value"),
        ("I like rain.", "value"),
    ]


def test_a_list_comes_in_parts_with_its_length_in_a_header(api: Api) -> None:
    api.holdfast.add_many("ada", [f"I like number {n}." for n in range(5)])
    part = api.client.get(f"{ADA}/statements", params={"limit": 2, "offset": 1})
    assert [each["text"] for each in part.json()] == ["I like number 1.", "I like number 2."]
    assert part.headers["x-total-count"] == "5"
    assert api.ask("GET", f"{ADA}/statements?limit=0") == []


def test_what_held_and_was_known_at_a_time_is_listed(api: Api) -> None:
    api.holdfast.add("ada", "I like tea.", valid_from="2020-01-01", valid_to="2021-01-01")
    assert api.ask("GET", f"{ADA}/statements") == []
    then = api.ask("GET", f"{ADA}/statements", params={"as_of": "2020-06-01"})
    assert [each["text"] for each in then] == ["I like tea."]
    then = {"as_of": "2020-06-01", "known_at": "2020-06-01"}
    assert api.ask("GET", f"{ADA}/statements", params=then) == []
    assert len(api.ask("GET", f"{ADA}/statements", params={"include_retired": True})) == 1


def test_a_revision_changes_what_it_names_and_null_opens_an_end(api: Api) -> None:
    (old,) = api.holdfast.add("ada", "I like tea.", valid_to="2099-01-01", contexts=["work"])
    path = f"{API}/statements/{old.id}"
    new = api.ask("PATCH", path, json={"text": "I like green tea.", "reason": "sleep"})
    assert (new["text"], new["version"], new["reason"]) == ("I like green tea.", 2, "sleep")
    assert (new["valid_to"], new["contexts"]) == ("2099-01-01T00:00:00+00:00", ["work"])
    new = api.ask("PATCH", path, json={"valid_to": None, "contexts": [], "strength": "must"})
    assert (new["valid_to"], new["contexts"], new["strength"]) == (None, [], "must")
    history = api.client.get(f"{path}/history")
    assert [each["version"] for each in history.json()] == [1, 2, 3]
    assert history.headers["x-total-count"] == "3"
    nothing = "the revision changes nothing; give a new text or attribute"
    api.problem("PATCH", path, 422, nothing, json={})


def test_a_statement_is_retired_with_or_without_a_reason(api: Api) -> None:
    first, second = api.holdfast.add_many("ada", ["I like tea.", "I like rain."])
    gone = api.ask("DELETE", f"{API}/statements/{first.id}")
    assert gone["retired_at"] is not None
    why = {"json": {"reason": "moved to the desert"}}
    gone = api.ask("DELETE", f"{API}/statements/{second.id}", **why)
    assert (gone["reason"], gone["end_reason"]) == (None, "moved to the desert")
    assert api.ask("GET", f"{ADA}/statements") == []


@pytest.mark.parametrize(
    "subject", ["a/b", "a b", "ü/ö?#&=%2F", "../..", "x/statements", "日本 語", "a%20b", "+", "a;b"]
)
def test_a_subject_of_any_signs_is_one_part_of_the_path(api: Api, subject: str) -> None:
    path = f"{API}/subjects/{quote(subject, safe='')}"
    api.ask("POST", f"{path}/statements", 201, json={"text": "I like tea."})
    assert api.holdfast.subjects() == [subject] == api.ask("GET", f"{API}/subjects")
    (found,) = api.ask("GET", f"{path}/statements")
    assert found["subject"] == subject
    assert api.ask("GET", f"{path}/export")["subject"] == subject
    erased = api.ask("DELETE", path, params={"confirm": subject}, json={"reason": "asked to"})
    assert erased["statements"] == 1
    assert api.holdfast.subjects() == []


# Decisions and retrieval


def test_a_decision_is_kept_with_what_it_weighed(api: Api) -> None:
    (value,) = api.holdfast.add("ada", "I work best where I know everyone.")
    made = {"situation": "two offers", "choice": "the small team", "reason": "I know them",
            "weighed": [value.id]}  # fmt: skip
    decision = api.ask("POST", f"{ADA}/decisions", 201, json=made)
    assert decision["weighed"] == [{"statement_id": value.id, "version": 1}]
    assert api.ask("GET", f"{ADA}/decisions") == [decision]
    assert api.ask("GET", f"{ADA}/decisions", params={"as_of": "2020-01-01"}) == []
    missing = "there is no statement 'st_none'; list them with: holdfast list"
    api.problem("POST", f"{ADA}/decisions", 404, missing, json=made | {"weighed": ["st_none"]})


def test_a_retrieval_is_what_the_engine_gives_and_says_so_in_headers(api: Api) -> None:
    api.holdfast.add_many("ada", ["I never eat nuts.", "I like rain."])
    found = api.client.post(f"{ADA}/retrieve", json={"request": "never eat nuts", "threshold": 0.3})
    body = found.json()
    assert found.headers["x-holdfast-evidence"] == body["evidence_id"]
    assert found.headers["x-holdfast-status"] == body["status"] == "injected"
    assert found.headers["x-holdfast-injected"] == str(len(body["injected"])) == "1"
    assert len(body["candidates"]) == 2
    assert "I never eat nuts." in body["context"]
    evidence = api.ask("GET", f"{API}/evidence/{body['evidence_id']}")
    assert evidence["explanation"]["retrieval"]["candidates"] == body["candidates"]


def test_a_retrieval_can_be_for_several_unrecorded_and_without_its_candidates(api: Api) -> None:
    api.holdfast.add("acme", "We never eat nuts.")
    api.holdfast.add("ada", "I never eat nuts.")
    request = [{"role": "user", "content": "never eat nuts"}]
    wanted = {"request": request, "subjects": ["acme", "ada"], "record": False,
              "candidates": False, "limit": 2, "budget": 500}  # fmt: skip
    found = api.client.post(f"{ADA}/retrieve", json=wanted)
    assert "candidates" not in found.json()
    assert "x-holdfast-evidence" not in found.headers
    assert {c["statement"]["subject"] for c in found.json()["injected"]} == {"acme", "ada"}
    assert api.ask("GET", f"{ADA}/evidence") == []


def test_retrievals_are_counted_by_what_came_of_them(api: Api) -> None:
    api.ask("POST", f"{ADA}/retrieve", json={"request": "anything"})
    numbers = api.client.get("/metrics").text
    assert 'holdfast_retrievals_total{door="rest",status="none"}' in numbers
    assert '"/api/v1/subjects/{subject:path}/retrieve"' in numbers
    assert "ada" not in numbers


# Evidence and the ledger


def test_a_text_is_read_and_not_stored(api: Api) -> None:
    read = api.ask(
        "POST", f"{ADA}/read", json={"text": "I like tea. Never call me.", "kind": "goal"}
    )
    assert [each["text"] for each in read] == ["I like tea.", "Never call me."]
    assert {each["kind"] for each in read} == {"goal"}
    assert api.ask("GET", f"{ADA}/statements") == []


def test_evidence_is_listed_shown_replayed_and_bundled(api: Api) -> None:
    (nuts,) = api.holdfast.add("ada", "I never eat nuts.")
    evidence = str(api.holdfast.retrieve("ada", "never eat nuts", threshold=0.1).evidence_id)
    api.holdfast.retrieve("bo", "tea")
    assert [each["id"] for each in api.ask("GET", f"{ADA}/evidence")] == [evidence]
    first = api.ask("GET", f"{API}/evidence", params={"limit": 2})
    assert len(first) == 2
    older = {"before": first[0]["index"], "limit": 1}
    assert api.ask("GET", f"{API}/evidence", params=older) == first[1:]
    types = {e["type"] for e in api.ask("GET", f"{ADA}/evidence", params={"type": "*"})}
    assert types == {"retrieval", "statement.put"}
    two = {"type": ["statement.put", "import"]}
    assert {e["type"] for e in api.ask("GET", f"{ADA}/evidence", params=two)} == {"statement.put"}
    path = f"{API}/evidence/{evidence}"
    assert api.ask("POST", f"{path}/replay")["same"] is True
    otherwise = api.ask("POST", f"{path}/replay", json={"without": [nuts.id]})
    assert [each["statement"]["id"] for each in otherwise["removed"]] == [nuts.id]
    key = api.ask("GET", f"{API}/ledger/checkpoint")["key"]
    bundle = api.client.get(f"{path}/bundle").text
    assert "never eat nuts" not in bundle
    assert verify_bundle(json.loads(bundle), read_key(key)).verdict == "VERIFIED"
    shown = api.client.get(f"{path}/bundle", params={"disclose_all": True}).text
    assert "I never eat nuts." in shown
    named = api.client.get(f"{path}/bundle", params={"disclose": ["status", "injected"]})
    assert nuts.id in named.text


@pytest.mark.parametrize("path", ["/evidence", "/subjects/ada/evidence"])
def test_a_type_that_no_event_has_is_refused_with_those_there_are(api: Api, path: str) -> None:
    asked = {"params": {"type": ["retrieval", "statement.added"]}}
    detail = f"types are of these: {', '.join(EVENT_TYPES)}"
    api.problem("GET", f"{API}{path}", 422, detail, **asked)
    assert api.ask("GET", f"{API}{path}", params={"type": "gap"}) == []


def test_an_event_that_is_no_retrieval_has_no_explanation(api: Api) -> None:
    api.holdfast.add("ada", "I like tea.")
    event = api.holdfast.audit.events("ada", types=["statement.put"])[0]
    shown = api.ask("GET", f"{API}/evidence/{event.id}")
    assert shown == {"evidence": plain_value(event), "explanation": None}
    api.problem(
        "POST", f"{API}/evidence/{event.id}/replay", 422,
        f"{event.id} is evidence of statement.put, not of a retrieval",
    )  # fmt: skip


def test_the_ledger_is_signed_verified_and_compared_with_a_checkpoint(api: Api) -> None:
    api.holdfast.add("ada", "I like tea.")
    first = api.ask("GET", f"{API}/ledger/checkpoint")
    assert first["note"].startswith(first["origin"])
    assert api.ask("GET", f"{API}/ledger/checkpoint", params={"since": first["note"]})
    found = api.ask("GET", f"{API}/ledger/verify", params={"checkpoint": first["note"]})
    assert (found["ok"], found["outside"]) == (True, first["size"])
    assert found["verdict"].startswith("VERIFIED")
    anew = api.ask("POST", f"{API}/ledger/start-over", json={"reason": "the disk failed"})
    assert anew["origin"] != first["origin"]


# Proposals


def test_a_proposal_waits_for_its_subject(api: Api) -> None:
    put = {"text": "Prefers trains. Never flies.", "source": "model:x", "contexts": ["travel"]}
    first, second = api.ask("POST", f"{ADA}/proposals", 201, json=put)
    listed = api.ask("GET", f"{ADA}/proposals")
    assert sorted(each["id"] for each in listed) == sorted([first["id"], second["id"]])
    made = api.ask("POST", f"{API}/proposals/{first['id']}/confirm")
    assert (made["text"], made["contexts"], made["source"]) == (
        "Prefers trains.",
        ["travel"],
        "model:x",
    )
    no = api.ask("POST", f"{API}/proposals/{second['id']}/reject")
    assert no["status"] == "rejected"
    assert api.ask("GET", f"{ADA}/proposals") == []
    assert len(api.ask("GET", f"{ADA}/proposals", params={"status": "all"})) == 2
    again = f"proposal {first['id']} was confirmed before"
    api.problem("POST", f"{API}/proposals/{first['id']}/confirm", 422, again)


def test_a_conversation_is_read_for_what_lasts(api: Api) -> None:
    messages = [
        {"role": "user", "content": "I never eat nuts. What could I cook?"},
        {"role": "assistant", "content": "I always suggest soup."},
    ]
    (made,) = api.ask("POST", f"{ADA}/proposals", 201, json={"messages": messages})
    assert (made["text"], made["source"]) == ("I never eat nuts.", "conversation")
    named = {"messages": [{"role": "user", "content": "I'm vegan."}], "source": "chat"}
    assert api.ask("POST", f"{ADA}/proposals", 201, json=named)[0]["source"] == "chat"
    assert api.ask("POST", f"{ADA}/proposals", 201, json=named) == []


# A subject's record


def test_a_record_is_exported_erased_and_loaded_again(api: Api) -> None:
    api.holdfast.add("ada", "I like tea.")
    api.holdfast.propose("ada", "I like rain.", source="model:x")
    document = api.ask("GET", f"{ADA}/export")
    path = f"{API}/subjects/ada"
    wrong = "confirm is not the name of the subject; nothing was erased"
    api.problem("DELETE", path, 422, wrong, params={"confirm": "Ada"})
    api.problem("DELETE", path, 422, "query.confirm: Field required")
    erased = api.ask("DELETE", path, params={"confirm": "ada"})
    assert (erased["statements"], erased["proposals"]) == (1, 1)
    loaded = api.ask("POST", f"{path}/import", json=document)
    assert loaded == {"subject": "ada", "versions": 1, "proposals": 1, "existing": 0}
    again = api.ask("GET", f"{ADA}/export")
    assert again["statements"] == document["statements"]
    gone = "there is no such subject here; nothing was erased"
    api.problem("DELETE", f"{API}/subjects/nobody", 404, gone, params={"confirm": "nobody"})


# Keys and the installation


def test_a_key_is_made_listed_rotated_and_revoked(api: Api) -> None:
    wanted = {"name": "shop", "role": "app", "quota": 2, "expires_at": "2099-01-01T00:00:00Z"}
    made = api.ask("POST", f"{API}/keys", 201, json=wanted)
    bearer = {"authorization": f"Bearer {made['secret']}"}
    key = made["key"]
    assert (key["name"], key["role"], key["quota"]) == ("shop", "app", 2)
    assert made["secret"] not in api.client.get(f"{API}/keys").text
    assert api.client.get(f"{API}/subjects", headers=bearer).status_code == 200
    anew = api.ask("POST", f"{API}/keys/{key['id']}/rotate", json={"overlap": 60})
    assert anew["secret"] != made["secret"]
    assert api.client.get(f"{API}/subjects", headers=bearer).status_code == 200
    over = api.client.get(f"{API}/subjects", headers=bearer)
    assert over.status_code == 429
    assert "the quota of this key is used up: 2 operations in" in over.json()["detail"]
    ended = api.ask("DELETE", f"{API}/keys/{key['id']}")
    assert ended["revoked_at"] is not None
    assert api.client.get(f"{API}/subjects", headers=bearer).status_code == 401
    rows = api.ask("GET", f"{API}/usage", params={"limit": 1000})
    assert [row["count"] for row in rows if row["key"] == key["id"]] == [2]
    assert api.ask("GET", f"{API}/usage", params={"month": "1999-01"}) == []


def test_an_unknown_key_id_is_not_found(api: Api) -> None:
    gone = "there is no such key; list them with: holdfast keys list"
    api.problem("DELETE", f"{API}/keys/none", 404, gone)
    api.problem("POST", f"{API}/keys/none/rotate", 404, gone)


def test_the_record_is_checked_and_mended(api: Api) -> None:
    api.holdfast.add("ada", "I like tea.")
    assert api.ask("GET", f"{API}/doctor")["ok"] is True
    assert api.ask("POST", f"{API}/doctor")["ok"] is True


def test_the_installations_key_is_not_for_the_admin_of_one_tenant(api: Api) -> None:
    only = ("this concerns every tenant: only the owner of the data directory may do it, through "
            "the socket in it")  # fmt: skip
    api.problem("POST", f"{API}/installation/rotate-key", 403, only)


# What is refused


@pytest.mark.parametrize(
    ("method", "path", "more", "status", "detail"),
    [
        ("POST", f"{ADA}/statements", {"json": {}}, 422, "body: Value error, give text, or texts"),
        ("POST", f"{ADA}/statements", {"json": {"text": "a", "texts": ["b"]}}, 422,
         "body: Value error, give text, or texts"),
        ("POST", f"{ADA}/statements", {"json": {"text": " "}}, 422,
         "text is empty or has nothing visible in it; write some words"),
        ("POST", f"{ADA}/statements", {"json": {"text": "I like tea.", "txt": "x"}}, 422,
         "body.txt: Extra inputs are not permitted"),
        ("POST", f"{ADA}/statements", {"json": {"text": "x" * 100_001}}, 422,
         "text has 100,001 characters, at most 100,000 are allowed; shorten or divide it"),
        ("POST", f"{ADA}/statements", {"json": {"texts": ["tea"] * (MOST_TEXTS + 1)}}, 422,
         f"body.texts: List should have at most {MOST_TEXTS} items after validation, "
         f"not {MOST_TEXTS + 1}"),
        ("POST", f"{ADA}/statements", {"json": {"text": "a", "contexts": ["c"] * 33}}, 422,
         "at most 32 contexts; give fewer"),
        ("POST", f"{ADA}/statements", {"json": {"text": "a", "valid_from": "soon"}}, 422,
         "valid_from is no ISO 8601 time; write it like 2026-03-01 or 2026-03-01T09:30:00+01:00"),
        ("POST", f"{ADA}/statements", {"json": {"text": "a", "source": "model:x"}}, 422,
         "what comes from 'model:x' is not the subject's own word; put it forward with "
         "propose(), and the subject confirms it"),
        ("POST", f"{API}/subjects/{'s' * 201}/statements", {"json": {"text": "a"}}, 422,
         "subject has 201 characters, at most 200 are allowed; shorten or divide it"),
        ("POST", f"{API}/subjects/a%00b/statements", {"json": {"text": "a"}}, 422,
         "subject holds the control character U+0000; give plain text (tab and line ends are "
         "allowed), not the bytes of a file"),
        ("POST", f"{ADA}/statements", {"content": b"{"}, 422,
         "body.1: JSON decode error"),
        ("POST", f"{ADA}/statements", {"content": b'"\xff"'}, 400,
         "There was an error parsing the body"),
        ("GET", f"{ADA}/statements?limit=1001", {}, 422,
         "query.limit: Input should be less than or equal to 1000"),
        ("GET", f"{ADA}/statements?offset=-1", {}, 422,
         "query.offset: Input should be greater than or equal to 0"),
        ("GET", f"{ADA}/statements?as_of=never", {}, 422,
         "as_of is no ISO 8601 time; write it like 2026-03-01 or 2026-03-01T09:30:00+01:00"),
        ("GET", f"{ADA}/proposals?status=lost", {}, 422,
         "query.status: Input should be 'open', 'confirmed', 'rejected' or 'all'"),
        ("PATCH", f"{API}/statements/st_none", {"json": {"text": "a"}}, 404,
         "there is no statement 'st_none'; list them with: holdfast list"),
        ("DELETE", f"{API}/statements/st_none", {}, 404,
         "there is no statement 'st_none'; list them with: holdfast list"),
        ("GET", f"{API}/statements/my%20secret/history", {}, 404,
         "there is no statement with such an id; list them with: holdfast list"),
        ("POST", f"{API}/proposals/pr_none/confirm", {}, 404,
         "there is no proposal 'pr_none'; proposals() lists them"),
        ("POST", f"{API}/proposals/pr_none/reject", {}, 404,
         "there is no proposal 'pr_none'; proposals() lists them"),
        ("GET", f"{API}/evidence/ev_none", {}, 404,
         "there is no evidence 'ev_none'; list it with: holdfast audit list"),
        ("GET", f"{API}/evidence/ev_none/bundle", {}, 404,
         "there is no evidence 'ev_none'; list it with: holdfast audit list"),
        ("POST", f"{API}/evidence/ev_none/replay", {}, 404,
         "there is no evidence 'ev_none'; list it with: holdfast audit list"),
        ("GET", f"{ADA}/export", {}, 404,
         "there is no such subject here; holdfast list shows its statements"),
        ("POST", f"{ADA}/retrieve", {"json": {"request": ""}}, 422,
         "the request is empty; give a prompt or chat messages"),
        ("POST", f"{ADA}/retrieve", {"json": {"request": "a", "subjects": []}}, 422,
         "body.subjects: List should have at least 1 item after validation, not 0"),
        ("POST", f"{ADA}/retrieve", {"json": {"request": "a", "subjects": ["b"] * 17}}, 422,
         "body.subjects: List should have at most 16 items after validation, not 17"),
        ("POST", f"{ADA}/retrieve", {"json": {"request": "a", "threshold": 1.5}}, 422,
         "body.threshold: Input should be less than or equal to 1"),
        ("POST", f"{ADA}/retrieve", {"content": b'{"request": "a", "threshold": NaN}'}, 422,
         "body.threshold: Input should be a finite number"),
        ("POST", f"{ADA}/proposals", {"json": {"text": "a"}}, 422,
         "body: Value error, say in source who puts the text forward"),
        ("POST", f"{ADA}/proposals", {"json": {"messages": [{}], "kind": "goal"}}, 422,
         "body: Value error, of messages, only source can be given: the rest is read"),
        ("POST", f"{ADA}/proposals", {"json": {"messages": []}}, 422,
         "body.messages: List should have at least 1 item after validation, not 0"),
        ("POST", f"{API}/keys", {"json": {"name": "x", "role": "personal"}}, 422,
         "a personal key names its subject, and no other key does"),
        ("POST", f"{API}/keys", {"json": {"name": "x", "role": "king"}}, 422,
         "body.role: Input should be 'admin', 'app', 'personal' or 'auditor'"),
        ("GET", f"{API}/usage?month=2026-13", {}, 422,
         "query.month: String should match pattern '^[0-9]{4}-(0[1-9]|1[0-2])$'"),
        ("POST", f"{API}/ledger/start-over", {"json": {"reason": " "}}, 422, None),
        ("GET", f"{API}/nothing", {}, 404, "Not Found"),
        ("PUT", f"{ADA}/statements", {}, 405, "Method Not Allowed"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_words_that_name_the_fix(
    api: Api, method: str, path: str, more: dict[str, Any], status: int, detail: str | None
) -> None:
    if "content" in more:
        more = {**more, "headers": {"content-type": "application/json"}}
    if detail is None:
        assert api.client.request(method, path, **more).status_code == status
    else:
        api.problem(method, path, status, detail, **more)
    assert api.holdfast.subjects() == []


def test_an_import_that_is_no_document_is_refused_without_its_words(api: Api) -> None:
    answer = api.client.post(f"{ADA}/import", json={"format": "my secret", "also": "my secret"})
    assert answer.status_code == 422
    assert "this is no document of a subject" in answer.json()["detail"]
    assert "my secret" not in answer.text


def test_a_body_without_its_type_or_of_another_is_refused(api: Api) -> None:
    body = json.dumps({"text": "I like tea."}).encode()
    for kind in ({}, {"content-type": "text/plain"}, {"content-type": "multipart/form-data"}):
        answer = api.client.post(f"{ADA}/statements", content=body, headers=kind)
        assert answer.status_code == 422
    assert api.holdfast.subjects() == []


def test_a_key_is_asked_for_before_a_body_is_looked_at(api: Api) -> None:
    with httpx.Client(base_url=api.url) as nobody:
        for body in ({"text": "I like tea."}, {"nonsense": 1}):
            answer = nobody.post(f"{ADA}/statements", json=body)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"


# The document


def test_the_openapi_document_tells_of_every_route(api: Api) -> None:
    document = api.client.get("/openapi.json").json()
    operations = [
        (path, operation)
        for path, methods in document["paths"].items()
        if path.startswith(API)
        for operation in methods.values()
    ]
    names = [operation["operationId"] for _, operation in operations]
    assert len(names) == len(set(names)) == 33
    for path, operation in operations:
        assert operation["summary"], path
        assert operation["description"], path
        assert operation["tags"], path
        assert operation["security"] == [{"key": []}], path
        assert {"400", "401", "403", "422", "429"} <= set(operation["responses"]), path
        if "{" in path:
            assert "404" in operation["responses"], path
        refused = operation["responses"]["422"]["content"]["application/problem+json"]
        assert refused["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert set(document["components"]["schemas"]["Problem"]["properties"]) == {
        "type", "title", "status", "detail", "request_id", "error",
    }  # fmt: skip


def test_every_example_in_the_document_is_one_that_the_server_takes(api: Api) -> None:
    document = api.client.get("/openapi.json").json()
    bodies = document["paths"][f"{API}/subjects/{{subject}}/retrieve"]["post"]["requestBody"]
    for example in bodies["content"]["application/json"]["examples"].values():
        api.ask("POST", f"{ADA}/retrieve", json=example["value"])


def test_the_pages_of_the_document_are_served(api: Api) -> None:
    assert api.client.get("/docs").status_code == 200


def test_a_large_import_may_be_larger_than_other_bodies(api: Api, tmp_path: Path) -> None:
    large = {"format": "x" * 1_100_000}
    assert api.client.post(f"{ADA}/import", json=large).status_code == 422
    too_large = "the body is larger than 1,048,576 bytes; send less"
    api.problem("POST", f"{ADA}/statements", 413, too_large, json=large)
