"""The tools that models have: in memory, over HTTP with every kind of key, and over stdio."""

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import httpx2
import pytest
from conftest import open_with
from fakes import FakeEmbedder
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from web import running

from holdfast.retrieval.engine import Holdfast
from holdfast.server import mcp_server
from holdfast.server.app import create_app
from holdfast.server.auth import LOCAL
from holdfast.server.tools import Session

NUTS = "I never eat nuts."
DESSERT = "Which nuts may I eat in this dessert?"
NAMES = [
    "recall_values_for_request", "propose_statement", "record_decision", "list_statements",
    "explain_retrieval",
]  # fmt: skip


def in_memory(session: Session) -> Client:
    return Client(mcp_server.build(lambda _: session))


@pytest.fixture
def ada(fake: Holdfast) -> Session:
    """A session about ada, who has said something."""
    fake.add("ada", NUTS)
    fake.add("bob", "I love cashew nuts.")
    return Session(fake, LOCAL, bound="ada")


async def result(client: Client, name: str, **arguments: object):
    answer = await client.call_tool(name, arguments)
    assert not answer.is_error, answer.content
    assert json.loads(answer.content[0].text) == answer.structured_content
    return answer.structured_content


async def refusal(client: Client, name: str, **arguments: object) -> str:
    answer = await client.call_tool(name, arguments)
    assert answer.is_error
    assert answer.structured_content is None
    return answer.content[0].text


def run(work) -> None:
    asyncio.run(work())


class TestTools:
    def test_there_are_five_and_they_take_less_than_4_kb_of_context(self, fake, ada):
        async def work():
            for session in (ada, Session(fake, LOCAL)):
                async with in_memory(session) as client:
                    tools = (await client.list_tools()).tools
                assert [tool.name for tool in tools] == NAMES
                whole = json.dumps(
                    [tool.model_dump(by_alias=True, exclude_none=True) for tool in tools],
                    separators=(",", ":"),
                )
                print(len(whole), "bytes of tools/list")  # noqa: T201
                assert len(whole) < 4000
                for tool in tools:
                    assert tool.description.startswith("Call ")
                    assert tool.input_schema["additionalProperties"] is False
                    assert "subject" not in tool.input_schema["properties"] or session is not ada

        run(work)

    def test_only_those_that_write_say_so(self, ada):
        async def work():
            async with in_memory(ada) as client:
                tools = (await client.list_tools()).tools
            assert [tool.annotations.read_only_hint for tool in tools] == [
                True, False, False, True, True,
            ]  # fmt: skip

        run(work)

    def test_recall_gives_the_context_and_evidence_of_it(self, fake, ada):
        async def work():
            async with in_memory(ada) as client:
                return await result(client, NAMES[0], request=DESSERT)

        found = asyncio.run(work())
        entry = fake.audit.entry(found["evidence_id"])
        assert NUTS in found["context"]
        assert found["status"] == "injected"
        assert entry.subjects == ("ada",)
        assert entry.payload["context"] == found["context"]

    def test_what_a_model_writes_is_a_proposal_until_it_is_confirmed(self, fake, ada):
        async def work():
            async with in_memory(ada) as client:
                said = await result(client, NAMES[1], text="I walk to work.", strength="must")
                held = await result(client, "list_statements")
                assert [each["text"] for each in held["statements"]] == [NUTS]
                return said

        said = asyncio.run(work())
        (proposal,) = fake.proposals("ada")
        assert said["proposals"] == [{"id": proposal.id, "text": "I walk to work."}]
        assert (proposal.strength, proposal.source) == ("must", "model:mcp")
        fake.confirm(proposal.id)
        assert len(fake.statements("ada")) == 2

    def test_a_decision_is_one_proposal_of_situation_choice_and_reason(self, fake, ada):
        async def work():
            async with in_memory(ada) as client:
                await result(
                    client, "record_decision", situation="Two offers. Both in Rome.",
                    choice="the smaller team", reason="I know everyone there",
                )  # fmt: skip

        run(work)
        (proposal,) = fake.proposals("ada")
        assert proposal.kind == "decision"
        assert proposal.text == (
            "Two offers. Both in Rome. Chosen: the smaller team. Because: I know everyone there."
        )
        assert fake.decisions("ada") == []

    def test_a_list_is_bounded_and_tells_how_many_there_are(self, fake, ada):
        fake.add_many("ada", [f"I like the number {n}." for n in range(40)], split=False)

        async def work():
            async with in_memory(ada) as client:
                assert len((await result(client, "list_statements"))["statements"]) == 30
                few = await result(client, "list_statements", limit=2)
                assert [each["text"][-3:] for each in few["statements"]] == ["38.", "39."]
                assert few["total"] == 41
                assert "limit: " in await refusal(client, "list_statements", limit=1000)

        run(work)

    def test_an_explanation_gives_each_candidate_its_verdict(self, fake, ada):
        fake.add("ada", "I sing on Sundays.")

        async def work():
            async with in_memory(ada) as client:
                found = await result(client, NAMES[0], request=DESSERT)
                return await result(client, NAMES[4], evidence_id=found["evidence_id"])

        told = asyncio.run(work())
        assert told["total"] == 2
        assert {each["text"]: each["verdict"] for each in told["candidates"]} == {
            NUTS: "injected", "I sing on Sundays.": "below_threshold",
        }  # fmt: skip

    def test_anothers_evidence_is_like_none_at_all(self, fake, ada):
        foreign = fake.retrieve("bob", DESSERT).evidence_id
        both = (["bob", "ada"], ["ada", "bob"])
        shared = [fake.retrieve(each, DESSERT).evidence_id for each in both]
        put = fake.audit.events("ada", types=["statement.put"])[0].id

        async def work():
            async with in_memory(ada) as client:
                return {
                    await refusal(client, NAMES[4], evidence_id=each)
                    for each in (foreign, *shared, put, "ev_nothing", "")
                }

        assert len(asyncio.run(work())) == 1

    def test_a_bound_session_is_about_nobody_else(self, ada):
        async def work():
            async with in_memory(ada) as client:
                for name, more in (
                    (NAMES[0], {"request": "x"}), (NAMES[1], {"text": "x"}), (NAMES[3], {}),
                ):  # fmt: skip
                    assert "no such subject" in await refusal(client, name, subject="bob", **more)
                await result(client, NAMES[3], subject="ada")

        run(work)

    def test_errors_repeat_nothing_that_was_given(self, ada):
        secret = "sesame-opens"

        async def work():
            async with in_memory(ada) as client:
                return [
                    await refusal(client, NAMES[0], request="x", **{secret: 1}),
                    await refusal(client, NAMES[0], request={secret: secret}),
                    await refusal(client, NAMES[0], request=""),
                    await refusal(client, NAMES[0]),
                    await refusal(client, NAMES[1], text=secret, strength=secret),
                    await refusal(client, NAMES[1], text=secret * 1000),
                    await refusal(client, NAMES[1], text=secret + "\0"),
                    await refusal(client, NAMES[3], subject=secret),
                    await refusal(client, NAMES[4], evidence_id=secret),
                    await refusal(client, secret),
                ]

        told = asyncio.run(work())
        assert not [text for text in told if secret in text or "pydantic" in text]
        assert told[0] == "unknown arguments; it takes: subject, request"
        assert all(told)

    def test_without_anybody_named_it_asks_whom_it_is_about(self, fake):
        async def work():
            async with in_memory(Session(fake, LOCAL)) as client:
                tools = (await client.list_tools()).tools
                assert "subject" in tools[0].input_schema["required"]
                assert "whom" in await refusal(client, NAMES[3])
            async with in_memory(Session(fake, LOCAL, default="ada")) as client:
                assert (await result(client, NAMES[3]))["total"] == 0
                assert (await result(client, NAMES[3], subject="bob"))["total"] == 0

        run(work)

    def test_what_breaks_inside_says_nothing_of_itself(self, ada, monkeypatch, caplog):
        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("I never eat nuts")

        monkeypatch.setattr(ada.engine, "retrieve", broken)

        async def work():
            async with in_memory(ada) as client:
                return await refusal(client, NAMES[0], request="x")

        with caplog.at_level(logging.INFO):
            assert "went wrong" in asyncio.run(work())
        assert "RuntimeError" in caplog.text
        assert "nuts" not in caplog.text

    def test_building_it_leaves_the_logging_of_the_process_alone(self, fake):
        before = list(logging.getLogger().handlers)
        mcp_server.build(lambda _: Session(fake, LOCAL))
        assert logging.getLogger().handlers == before


@asynccontextmanager
async def client_of(url: str, key: str, mode: str = "auto", **headers: str):
    given = {"Authorization": f"Bearer {key}", **headers}
    async with (
        httpx2.AsyncClient(headers=given, timeout=30) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


def post(url: str, **headers: str) -> httpx.Response:
    given = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    body = {
        "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {},
    }  # fmt: skip
    return httpx.post(f"{url}/mcp", headers=given | headers, json=body)


@pytest.fixture(scope="module")
def installation(tmp_path_factory) -> Iterator[tuple[str, Holdfast]]:
    """A server with two tenants; ada and bob are subjects of the first, eve of the second."""
    folder: Path = tmp_path_factory.mktemp("mcp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        known = {"allowed_hosts": ["holdfast.example"], "allowed_origins": ["https://app.example"]}
        with open_with(FakeEmbedder(), folder / "data", **known) as holdfast:
            holdfast.add("ada", NUTS)
            holdfast.add("bob", "I love cashew nuts.")
            holdfast.of_tenant("other").add("ada", "I sing about nuts.")
            with running(create_app(holdfast)) as url:
                yield url, holdfast


@pytest.fixture
def url(installation) -> str:
    return installation[0]


@pytest.fixture
def holdfast(installation) -> Holdfast:
    return installation[1]


def key_of(holdfast: Holdfast, role: str, **more: object) -> str:
    return holdfast.access.create(f"a {role} key", role=role, **more)[1]


class TestOverHttp:
    @pytest.mark.parametrize("mode", ["auto", "legacy"])
    def test_a_personal_key_is_about_its_own_subject(self, url, holdfast, mode):
        key = key_of(holdfast, "personal", subject="ada")
        foreign = holdfast.retrieve("bob", DESSERT).evidence_id

        async def work():
            async with client_of(url, key, mode, **{"x-holdfast-subject": "bob"}) as client:
                tools = (await client.list_tools()).tools
                assert [tool.name for tool in tools] == NAMES
                assert "subject" not in tools[0].input_schema["properties"]
                found = await result(client, NAMES[0], request=DESSERT)
                assert NUTS in found["context"]
                assert "cashew" not in found["context"]
                for name, more in ((NAMES[0], {"request": "x"}), (NAMES[3], {})):
                    assert "no such subject" in await refusal(client, name, subject="bob", **more)
                assert await refusal(client, NAMES[4], evidence_id=foreign) == await refusal(
                    client, NAMES[4], evidence_id="ev_x"
                )

        run(work)

    def test_an_app_key_names_the_subject_by_argument_or_header(self, url, holdfast):
        key = key_of(holdfast, "app")

        async def work():
            async with client_of(url, key) as client:
                held = await result(client, NAMES[3], subject="bob")
                assert held["statements"][0]["text"] == "I love cashew nuts."
                assert "whom" in await refusal(client, NAMES[3])
            async with client_of(url, key, **{"x-holdfast-subject": "ada"}) as client:
                held = await result(client, NAMES[3])
                assert held["statements"][0]["text"] == NUTS
                assert "no such subject" in await refusal(client, NAMES[3], subject="bob")

        run(work)

    def test_an_auditor_only_explains(self, url, holdfast):
        key = key_of(holdfast, "auditor")
        evidence = holdfast.retrieve("ada", DESSERT).evidence_id

        async def work():
            async with client_of(url, key) as client:
                assert [tool.name for tool in (await client.list_tools()).tools] == [NAMES[4]]
                assert (await result(client, NAMES[4], evidence_id=evidence))["total"] >= 1
                for name in NAMES[:4]:
                    assert "auditor may not" in await refusal(client, name)

        run(work)

    def test_tenants_never_meet(self, url, holdfast):
        other = holdfast.of_tenant("other")
        key = key_of(other, "admin")
        foreign = holdfast.retrieve("ada", DESSERT).evidence_id

        async def work():
            async with client_of(url, key) as client:
                held = await result(client, NAMES[3], subject="ada")
                assert [each["text"] for each in held["statements"]] == ["I sing about nuts."]
                assert (await result(client, NAMES[3], subject="bob"))["total"] == 0
                assert await refusal(client, NAMES[4], evidence_id=foreign) == await refusal(
                    client, NAMES[4], evidence_id="ev_x"
                )

        run(work)

    def test_many_callers_at_once_each_see_their_own(self, url, holdfast):
        subjects = [f"person {n}" for n in range(12)]
        for subject in subjects:
            holdfast.add(subject, f"I am {subject}.")
        keys = {each: key_of(holdfast, "personal", subject=each) for each in subjects}

        async def one(subject: str) -> None:
            async with client_of(url, keys[subject]) as client:
                for _ in range(3):
                    held = await result(client, NAMES[3])
                    assert [s["text"] for s in held["statements"]] == [f"I am {subject}."]

        async def work():
            await asyncio.gather(*map(one, subjects))

        run(work)

    def test_calls_are_metered_and_end_with_the_quota(self, url, holdfast):
        made, key = holdfast.access.create("few", role="personal", subject="ada", quota=2)

        async def work():
            async with client_of(url, key) as client:
                await result(client, NAMES[0], request=DESSERT)
                await result(client, NAMES[3])
                assert "quota" in await refusal(client, NAMES[0], request=DESSERT)

        run(work)
        wanted = {("mcp.recall", 1), ("mcp.list", 1)}
        for _ in range(50):
            used = {(u["operation"], u["count"]) for u in holdfast.access.usage()
                    if u["key"] == made.id}  # fmt: skip
            if used == wanted:
                break
            time.sleep(0.1)
        assert used == wanted

    def test_metrics_count_recalls_without_names(self, url, holdfast):
        key = key_of(holdfast, "personal", subject="ada")

        async def work():
            async with client_of(url, key) as client:
                await result(client, NAMES[0], request=DESSERT)

        run(work)
        told = httpx.get(f"{url}/metrics").text
        assert 'holdfast_retrievals_total{door="mcp",status="injected"}' in told
        assert 'route="/mcp"' in told

    def test_whoever_shows_no_valid_key_gets_the_same_401_as_elsewhere(self, url, holdfast):
        made, revoked = holdfast.access.create("gone", role="app")
        holdfast.access.revoke(made.id)
        answers = [
            post(url),
            post(url, Authorization="Bearer hf_live_x"),
            post(url, Authorization=f"Bearer {revoked}"),
            post(url, Authorization=f"Bearer {revoked[:-1]}"),
        ]
        for answer in answers:
            told = answer.json()
            told.pop("request_id")
            assert answer.status_code == 401
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["www-authenticate"] == "Bearer"
            assert told["status"] == 401
        assert len({answer.json()["detail"] for answer in answers}) == 1

        async def work():
            async with client_of(url, revoked) as client:
                await client.list_tools()

        with pytest.raises((MCPError, ExceptionGroup)):
            run(work)

    def test_foreign_hosts_and_origins_are_refused(self, url, holdfast):
        key = {"Authorization": f"Bearer {key_of(holdfast, 'app')}"}
        host = url.removeprefix("http://")
        assert post(url, **key, Host="evil.example").status_code == 421
        assert post(url, **key, Origin="https://evil.example").status_code == 403
        assert post(url, **key, Origin="null").status_code == 403
        for good in (
            {"Host": "localhost"}, {"Host": "holdfast.example"}, {"Host": "holdfast.example:8000"},
            {"Origin": "https://app.example"}, {"Origin": f"http://{host}"},
        ):  # fmt: skip
            assert post(url, **key, **good).status_code == 200, good

    def test_it_stands_at_exactly_its_path_and_takes_posts_only(self, url, holdfast):
        assert httpx.post(f"{url}/mcp/", json={}).status_code == 404
        assert httpx.get(f"{url}/mcp").status_code == 405
        assert "/mcp" not in httpx.get(f"{url}/openapi.json").json()["paths"]

    def test_a_body_beyond_the_limit_is_refused(self, url, holdfast):
        key = key_of(holdfast, "app")
        answer = httpx.post(
            f"{url}/mcp", headers={"Authorization": f"Bearer {key}"}, content=b"x" * 2_000_000
        )
        assert answer.status_code == 413

    def test_nothing_that_was_said_reaches_the_log(self, url, holdfast, caplog):
        key = key_of(holdfast, "personal", subject="ada")
        given = {
            "Authorization": f"Bearer {key}", "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
        }  # fmt: skip
        wrong = {"text": "open sesame", "kind": "sesame"}
        called = [["sesame"], {"name": {"sesame": 1}}, {"name": NAMES[1], "arguments": wrong}]
        asked = {"jsonrpc": "2.0", "id": 1}
        bad = [b"{sesame", b'"sesame"', json.dumps({**asked, "method": "sesame"})]
        bad += [json.dumps({**asked, "method": "tools/call", "params": each}) for each in called]
        with caplog.at_level(logging.INFO):
            for body in bad:
                answer = httpx.post(f"{url}/mcp", headers=given, content=body)
                assert answer.status_code < 500
        assert "sesame" not in caplog.text
        assert key not in caplog.text


HOLDFAST = Path(sys.executable).with_name("holdfast")


def stdio(folder: Path, *words: str) -> StdioServerParameters:
    names = ("HOLDFAST_DATA", "XDG_CONFIG_HOME", "PATH")
    return StdioServerParameters(
        command=str(HOLDFAST),
        args=["mcp", "--data", str(folder), *words],
        env={name: os.environ[name] for name in names} | {"HOLDFAST_SUBJECT": "bob"},
    )


class TestOverStdio:
    def test_a_process_owns_the_directory_and_others_work_through_it(self, tmp_path):
        folder = tmp_path / "data"

        async def bound(ready: asyncio.Event, leave: asyncio.Event) -> None:
            async with Client(stdio(folder, "--subject", "ada")) as first:
                await result(first, "propose_statement", text=NUTS)
                assert "no such subject" in await refusal(first, NAMES[3], subject="bob")
                ready.set()
                await leave.wait()

        async def work():
            ready, leave = asyncio.Event(), asyncio.Event()
            owner = asyncio.create_task(bound(ready, leave))
            begun = asyncio.create_task(ready.wait())
            await asyncio.wait([owner, begun], return_when=asyncio.FIRST_COMPLETED)
            async with Client(stdio(folder)) as second:
                await result(second, "propose_statement", text="I sing.")
                decided = {"situation": "A. B.", "choice": "c", "reason": "d"}
                await result(second, "record_decision", **decided, subject="ada")
                found = await result(second, NAMES[0], request=DESSERT, subject="ada")
                told = await result(second, NAMES[4], evidence_id=found["evidence_id"])
                assert told["total"] == 0
                leave.set()
                await owner
                assert (await result(second, NAMES[3]))["total"] == 0  # it owns it now

        run(work)
        with Holdfast.open(folder) as holdfast:
            assert [each.text for each in holdfast.proposals("ada")] == [
                NUTS, "A. B. Chosen: c. Because: d.",
            ]  # fmt: skip
            assert [each.text for each in holdfast.proposals("bob")] == ["I sing."]
            assert len(holdfast.evidence()) == 1
