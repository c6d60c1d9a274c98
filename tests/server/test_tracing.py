"""Spans, as a collector on a real socket gets them, byte for byte."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from collectors import Collector, collecting, silent, traced
from mcp import Client, StdioServerParameters
from servers import free_port
from upstreams import Upstream
from web import GatewayDoor, serving

from holdfast import Holdfast, HoldfastError
from holdfast.memory.errors import ConfigurationError, StorageError
from holdfast.retrieval.retriever import Retriever
from holdfast.server.app import create_app
from holdfast.server.tracing import Tracing

SUBJECT = "quirina-of-the-hill"
NUTS = "I never eat marzipan nuts."
ASKED = "May I eat nuts with saffron?"
PROVIDERS_KEY = "sk-of-the-caller"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
HOLDFAST = Path(sys.executable).with_name("holdfast")
PATHS = {"chat": "/chat/completions", "responses": "/responses", "messages": "/messages"}

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of clients in this process


@dataclass
class Door(GatewayDoor):
    """A server whose spans go to a collector, with an upstream behind it."""

    statement: str

    @property
    def headers(self) -> dict[str, str]:
        return {"x-holdfast-key": self.key, "x-holdfast-subject": SUBJECT}

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return httpx.request(
            method, f"{self.url}/api/v1{path}", json=body, headers=self.headers | headers,
            timeout=30,
        )  # fmt: skip

    def call(self, model: str = "echo", name: str = "chat", **headers: str) -> httpx.Response:
        stream = model.startswith("stream-")
        said: dict[str, Any] = {"messages": [{"role": "user", "content": ASKED}], "max_tokens": 9}
        if name == "responses":
            said = {"input": ASKED}
        return httpx.post(
            f"{self.url}/v1{PATHS[name]}",
            json={"model": model.removeprefix("stream-"), "stream": stream, **said},
            headers={"authorization": f"Bearer {PROVIDERS_KEY}", "anthropic-version": "2023-06-01"}
            | self.headers
            | headers,
            timeout=30,
        )


@contextmanager
def opened(path: Path, up: Upstream, **settings: Any) -> Iterator[Door]:
    up.requests.clear()
    with serving(path / "data", upstream=f"{up.url}/v1", upstream_anthropic=up.url, **settings) as (
        hf,
        url,
    ):
        (statement,) = hf.add(SUBJECT, NUTS)
        _, key = hf.access.create("a test", role="app")
        yield Door(hf, url, up, key, statement.id)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found, traced(found.endpoint):
        yield found


# What spans are there


def test_a_call_has_one_trace_with_its_search_and_its_model(
    tmp_path: Path, upstream: Upstream, collector: Collector
) -> None:
    with opened(tmp_path, upstream) as door:
        answers = [door.call(name=name) for name in PATHS]
    for answer, name in zip(answers, PATHS, strict=True):
        evidence = answer.headers["x-holdfast-evidence"]
        (search,) = [s for s in collector.of("search_memory") if evidence in str(s.attributes)]
        (chat,) = [s for s in collector.of("chat") if evidence in str(s.attributes)]
        (request,) = [s for s in collector.spans if s.id == chat.parent]
        assert (request.name, request.kind) == (f"POST /v1{PATHS[name]}", "server")
        assert request.attributes["http.response.status_code"] == 200
        assert {search.trace, chat.trace, search.parent} == {request.trace, request.id}
        assert (search.name, search.kind, search.failed) == ("search_memory", "internal", False)
        assert search.attributes == {
            "gen_ai.operation.name": "search_memory",
            "holdfast.operation": "converse",
            "gen_ai.memory.record.count": 1,
            "holdfast.status": "injected",
            "holdfast.evidence.id": evidence,
        }
        assert (chat.name, chat.kind, chat.failed) == ("chat echo", "client", False)
        host, _, port = upstream.url.partition("://")[2].partition(":")
        assert (
            chat.attributes.items()
            >= {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "anthropic" if name == "messages" else "openai",
                "gen_ai.request.model": "echo",
                "gen_ai.response.model": "echo",
                "gen_ai.usage.input_tokens": 11,
                "gen_ai.usage.output_tokens": 7,
                "server.address": host,
                "server.port": int(port),
                "http.response.status_code": 200,
                "holdfast.status": "injected",
                "holdfast.injected": 1,
            }.items()
        )
        assert chat.attributes["gen_ai.response.finish_reasons"][0] in (
            "stop", "completed", "end_turn",
        )  # fmt: skip
    assert collector.resources[0].items() >= {"service.name": "holdfast"}.items()


def test_a_stream_is_one_span_until_its_end(
    tmp_path: Path, upstream: Upstream, collector: Collector
) -> None:
    with opened(tmp_path, upstream) as door:
        answer = door.call("stream-echo")
        assert answer.content.endswith(b"data: [DONE]\n\n")
    (chat,) = collector.of("chat")
    assert chat.attributes["gen_ai.request.stream"] is True
    assert chat.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert not chat.failed


def test_a_callers_trace_goes_on_and_reaches_the_upstream_as_it_came(
    tmp_path: Path, upstream: Upstream, collector: Collector
) -> None:
    with opened(tmp_path, upstream) as door:
        door.call(traceparent=PARENT, tracestate="vendor=1")
        assert upstream.requests[-1]["headers"]["traceparent"] == PARENT
        assert upstream.requests[-1]["headers"]["tracestate"] == "vendor=1"
        door.call()
        assert "traceparent" not in upstream.requests[-1]["headers"], "nothing is added"
        door.call(traceparent="00-nonsense")
        door.call(traceparent=PARENT.removesuffix("01") + "00")  # the caller keeps none of it
    first, second, third = (
        [s for s in collector.spans if s.trace == trace]
        for trace in dict.fromkeys(s.trace for s in collector.spans)
    )
    assert [s.trace for s in first] == [TRACE] * 3
    assert first[0].parent == "00f067aa0ba902b7"
    assert [s.parent for s in first[1:]] == [first[0].id] * 2
    assert (second[0].parent, third[0].parent) == ("", "")


def test_every_change_over_rest_has_a_span_of_its_kind(
    tmp_path: Path, upstream: Upstream, collector: Collector
) -> None:
    about = f"/subjects/{SUBJECT}"
    with opened(tmp_path, upstream) as door:
        added = door.ask("POST", f"{about}/statements", {"text": "I walk. I sing."}).json()
        one = added["statements"][0]["id"]
        door.ask("POST", f"{about}/statements", {"texts": ["I row boats daily."]})
        door.ask("PATCH", f"/statements/{one}", {"text": "I run.", "reason": "a secret reason"})
        door.ask(
            "POST", f"{about}/decisions",
            {"situation": "Two offers.", "choice": "the first", "reason": "a secret reason"},
        )  # fmt: skip
        put = [
            door.ask(
                "POST", f"{about}/proposals", {"text": text, "source": "model:x"}
            ).json()[0]["id"]
            for text in ("I ski.", "I swim.")
        ]  # fmt: skip
        door.ask("POST", f"{about}/proposals",
                 {"messages": [{"role": "user", "content": "I never eat figs."}]})  # fmt: skip
        door.ask("POST", f"/proposals/{put[0]}/confirm")
        door.ask("POST", f"/proposals/{put[1]}/reject")
        found = door.ask("POST", f"{about}/retrieve", {"request": ASKED}).json()
        document = door.ask("GET", f"{about}/export").json()
        door.ask("POST", f"{about}/import", document)
        door.ask("DELETE", f"/statements/{one}")
        door.ask("DELETE", f"{about}?confirm={SUBJECT}")
    done = [(s.operation, s.name) for s in collector.spans if s.operation]
    assert done == [
        *((name, "upsert_memory") for name in ("add", "add_many", "revise", "decide")),
        *((name, "upsert_memory") for name in ("propose", "propose", "glean")),
        *((name, "upsert_memory") for name in ("confirm", "reject")),
        ("retrieve", "search_memory"),
        ("load", "upsert_memory"),
        *((name, "delete_memory") for name in ("retire", "erase")),
    ]
    by_name = {span.operation: span for span in collector.spans}
    assert by_name["add"].attributes["gen_ai.memory.record.count"] == 2
    assert by_name["erase"].attributes["gen_ai.memory.record.count"] > 5
    assert by_name["retrieve"].attributes["holdfast.evidence.id"] == found["evidence_id"]
    assert by_name["revise"].attributes["gen_ai.memory.record.count"] == 1
    names = {span.name for span in collector.spans if span.kind == "server"}
    assert "POST /api/v1/subjects/{subject:path}/statements" in names
    assert not [s for s in collector.spans if s.failed]

    # By default nothing that names or quotes anybody leaves the house.
    for secret in (
        SUBJECT, "marzipan", "saffron", "secret reason", "I run", "boats", "figs", "offers",
        door.key, PROVIDERS_KEY, one, put[0], "quirina", "hf_",
    ):  # fmt: skip
        assert secret not in collector.everything, secret


def test_a_model_that_recalls_and_proposes_has_spans(
    tmp_path: Path, upstream: Upstream, collector: Collector
) -> None:
    def tool(door: Door, name: str, **arguments: str) -> Any:
        asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                 "params": {"name": name, "arguments": arguments}}  # fmt: skip
        headers = {"accept": "application/json, text/event-stream", "traceparent": PARENT}
        answer = httpx.post(
            f"{door.url}/mcp", json=asked, headers=door.headers | headers, timeout=30
        )
        return answer.json()["result"]["structuredContent"]

    with opened(tmp_path, upstream) as door:
        found = tool(door, "recall_values_for_request", request=ASKED)
        tool(door, "propose_statement", text="I walk to work.")
    (search,) = collector.of("search_memory")
    assert search.attributes["holdfast.evidence.id"] == found["evidence_id"]
    assert search.trace == TRACE
    (upsert,) = collector.of("upsert_memory")
    assert upsert.operation == "propose"
    assert len(collector.spans) == 4, "those of the protocol's own package are not sent"
    for secret in (SUBJECT, "marzipan", "saffron", "walk", door.key):
        assert secret not in collector.everything


def test_a_model_on_standard_input_has_spans_in_the_trace_that_it_names(
    tmp_path: Path, collector: Collector
) -> None:
    async def work() -> Any:
        server = StdioServerParameters(
            command=str(HOLDFAST), args=["mcp", "--data", str(tmp_path / "data")],
            env=dict(os.environ) | {"HOLDFAST_SUBJECT": SUBJECT},
        )  # fmt: skip
        async with Client(server) as client:
            return await client.call_tool(
                "recall_values_for_request", {"request": ASKED}, meta={"traceparent": PARENT}
            )

    found = asyncio.run(work()).structured_content
    (search,) = collector.wait(1)
    assert search.attributes["holdfast.evidence.id"] == found["evidence_id"]
    assert (search.name, search.trace) == ("search_memory", TRACE)


def test_probes_and_files_have_none(
    tmp_path: Path, upstream: Upstream, collector: Collector
) -> None:
    with opened(tmp_path, upstream) as door:
        for path in ("/healthz", "/readyz", "/metrics", "/static/x/y", "/nowhere"):
            httpx.get(door.url + path)
    assert [s.name for s in collector.spans] == ["GET"], "of a path that is no route"


# What fails


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("status-429", "429"),
        ("status-500", "500"),
        ("stream-cut", "502"),
        ("stream-short", "broken_off"),
        ("stream-error-event", "upstream_error"),
    ],
)
def test_a_call_that_fails_says_how(
    tmp_path: Path, upstream: Upstream, collector: Collector, model: str, kind: str
) -> None:
    with opened(tmp_path, upstream) as door:
        door.call(model)
    (chat,) = collector.of("chat")
    assert chat.failed
    assert chat.attributes["error.type"] == kind
    assert (chat.words, chat.events) == ("", 0), "an error's words may be a subject's"
    if kind.isdigit() and model.startswith("status"):
        assert chat.attributes["http.response.status_code"] == int(kind)
    assert chat.attributes["gen_ai.response.finish_reasons"] == ["error"]


def test_an_upstream_that_is_not_there_fails(tmp_path: Path, collector: Collector) -> None:
    with Upstream() as up:
        pass
    with opened(tmp_path, up) as door:
        assert door.call().status_code == 502
    (chat,) = collector.of("chat")
    assert (chat.failed, chat.attributes["error.type"]) == (True, "502")
    assert "http.response.status_code" not in chat.attributes
    (request,) = [s for s in collector.spans if s.kind == "server"]
    assert (request.failed, request.attributes["error.type"]) == (True, "502")


def test_a_client_that_leaves_is_told(
    tmp_path: Path, upstream: Upstream, collector: Collector
) -> None:
    with opened(tmp_path, upstream) as door:
        body = {"model": "slow", "stream": True, "messages": [{"role": "user", "content": ASKED}]}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{door.url}/v1/chat/completions", json=body, timeout=0.5,
                headers=door.headers | {"authorization": f"Bearer {PROVIDERS_KEY}"},
            )  # fmt: skip
        time.sleep(4)
    (chat,) = collector.of("chat")
    assert (chat.failed, chat.attributes["error.type"]) == (True, "client_left")


def test_an_error_of_the_engine_is_told_by_its_kind(
    tmp_path: Path, upstream: Upstream, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path, upstream, on_failure="pass") as door:
        answer = door.ask("POST", f"/subjects/{SUBJECT}/statements", {"text": "  "})
        assert answer.status_code == 422

        def broken(*_: Any, **__: Any) -> Any:
            raise StorageError("marzipan cannot be read")

        monkeypatch.setattr(Retriever, "retrieve", broken)
        assert door.call().status_code == 200
    (upsert,) = collector.of("upsert_memory")
    assert (upsert.failed, upsert.attributes["error.type"]) == (True, "InvalidInputError")
    (search,) = collector.of("search_memory")
    assert (search.failed, search.attributes["error.type"]) == (True, "StorageError")
    (chat,) = collector.of("chat")
    assert (chat.failed, chat.attributes["holdfast.status"]) == (False, "failed")
    assert "holdfast.evidence.id" not in chat.attributes
    assert "marzipan" not in collector.everything


def test_what_a_caller_makes_up_loses_no_other_span(
    tmp_path: Path, upstream: Upstream, collector: Collector
) -> None:
    with opened(tmp_path, upstream, trace_texts=True) as door:
        raw = b'{"model": "echo", "messages": [{"role": "user", "content": "nuts \\ud800"}]}'
        httpx.post(
            f"{door.url}/v1/chat/completions", content=raw,
            headers=door.headers | {"authorization": f"Bearer {PROVIDERS_KEY}"},
        )  # fmt: skip
        httpx.request("PROPFIND", f"{door.url}/api/v1/subjects", headers=door.headers)
        door.call("echo" * 1000)
    assert [len(s.name) for s in collector.of("chat")] == [len("chat echo"), len("chat ") + 500]
    assert collector.of("search_memory")[0].attributes["gen_ai.memory.query.text"] == "nuts ?"
    assert "_OTHER" in {s.attributes.get("http.request.method") for s in collector.spans}
    assert len([s for s in collector.spans if s.kind == "server"]) == 3


# Texts


def test_texts_are_told_only_where_that_is_set(
    tmp_path: Path, upstream: Upstream, collector: Collector
) -> None:
    with opened(tmp_path, upstream, trace_texts=True) as door:
        door.call()
        door.ask("POST", f"/subjects/{SUBJECT}/retrieve", {"request": ASKED})
    for search in collector.of("search_memory"):
        assert search.attributes["gen_ai.memory.query.text"] == ASKED
        (record,) = json.loads(search.attributes["gen_ai.memory.records"])
        assert (record["id"], record["content"]) == (door.statement, NUTS)
        assert 0 < record["score"] <= 1
    assert len(collector.of("search_memory")) == 2
    for secret in (SUBJECT, door.key, PROVIDERS_KEY):
        assert secret not in collector.everything


def test_what_cannot_be_told_fails_nothing(collector: Collector) -> None:
    tracing = Tracing.open(texts=True)
    assert tracing.spanned("retrieve", lambda *_: "found")("ada", 5) == "found"
    tracing.close()
    assert [span.failed for span in collector.spans] == [False]


# Where spans go, and where nobody takes them


def settled(up: Upstream, path: Path) -> tuple[list[float], float]:
    """Call a model a few times; give how long each took, and how long the server took to end."""
    with opened(path, up) as door:
        times = []
        for _ in range(8):
            began = time.perf_counter()
            assert door.call().status_code == 200
            times.append(time.perf_counter() - began)
        time.sleep(0.3)  # something is on its way to the collector
        began = time.perf_counter()
    return times, time.perf_counter() - began


@pytest.mark.parametrize("how", ["down", "silent", "holds"])
def test_a_collector_that_takes_nothing_delays_neither_requests_nor_the_end(
    tmp_path: Path, upstream: Upstream, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with silent() as mute, collecting(holds=threading.Event()) as held:
        endpoint = {
            "down": f"http://127.0.0.1:{free_port()}", "silent": mute, "holds": held.endpoint,
        }[how]  # fmt: skip
        with traced(endpoint):
            times, ending = settled(upstream, tmp_path)
    assert max(times[1:]) < 1, "the exporter gives up after 10 s"
    assert ending < 5
    told = [r.getMessage() for r in caplog.records if "collector" in r.getMessage()]
    assert len(told) <= 1
    assert not [r for r in caplog.records if r.name.startswith("opentelemetry")]


def test_a_process_ends_soon_though_its_collector_says_nothing(tmp_path: Path) -> None:
    with silent() as mute, traced(mute, OTEL_TRACES_EXPORTER="otlp,console"):
        server = subprocess.Popen(
            [HOLDFAST, "serve", "--json", "--data", tmp_path / "data", "--port", "0"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert server.stdout is not None
            key, started = (json.loads(server.stdout.readline()) for _ in range(2))
            httpx.post(
                f"{started['url']}/api/v1/subjects/{SUBJECT}/statements", json={"text": NUTS},
                headers={"x-holdfast-key": key["secret"]}, timeout=30,
            ).raise_for_status()  # fmt: skip
            time.sleep(0.3)
            began = time.monotonic()
            server.send_signal(signal.SIGTERM)
            out, err = server.communicate(timeout=60)
            seconds = time.monotonic() - began
        finally:
            server.kill()
            server.communicate()
    assert server.returncode == 0, err
    assert seconds < 8
    assert '"name": "upsert_memory"' in err, "the console is standard error"
    assert out == ""
    for secret in (SUBJECT, "marzipan", key["secret"]):
        assert secret not in err


def test_an_outage_is_told_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    answers = [SpanExportResult.FAILURE, ValueError("I never eat nuts"),
               SpanExportResult.SUCCESS, SpanExportResult.SUCCESS]  # fmt: skip

    class Moody(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

    caplog.set_level(logging.INFO, "holdfast.server")
    tracing = Tracing([Moody()], texts=False)
    for _ in range(4):
        tracing.spanned("add", lambda: [])()
        tracing._provider.force_flush()
    tracing.close()
    assert [r.levelname for r in caplog.records] == ["WARNING", "INFO"]
    assert "nuts" not in caplog.text


def test_http_without_its_package_is_told_with_the_fix(
    fake: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = "opentelemetry.exporter.otlp.proto.http"
    for name in (package, f"{package}.trace_exporter"):
        monkeypatch.setitem(sys.modules, name, None)
    with (
        traced("http://127.0.0.1:4318", OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf"),
        pytest.raises(ConfigurationError, match="pip install opentelemetry-exporter-otlp-proto-ht"),
    ):
        create_app(fake)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", "otlp, console or none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "grpc or http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "hf_live_soon", "OTEL_TRACES_EXPORTER=none"),
    ],
)
def test_a_variable_that_is_wrong_is_told_without_its_value(
    fake: Holdfast, name: str, value: str, told: str
) -> None:
    with (
        traced("http://127.0.0.1:4317", **{name: value}),
        pytest.raises(HoldfastError, match=told) as raised,
    ):
        create_app(fake)
    assert "\n" not in str(raised.value)
    assert "hf_live" not in str(raised.value)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"},
        {"OTEL_SERVICE_NAME": "shop"},
    ],
)
def test_without_being_asked_for_nothing_of_it_is_imported(said: dict[str, str]) -> None:
    code = (
        "import sys; from holdfast.server.service import _tracing; import holdfast.server.app;"
        "print(_tracing(texts=False), [m for m in sys.modules if 'telemetry.sdk.trace' in m"
        " or m == 'holdfast.server.tracing'])"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | said, capture_output=True, text=True, check=True
    )
    assert done.stdout == "None []\n"


def test_the_environment_names_the_service(
    tmp_path: Path, upstream: Upstream, collector: Collector
) -> None:
    with traced(collector.endpoint, OTEL_SERVICE_NAME="shop"), opened(tmp_path, upstream) as door:
        door.call()
    assert {each["service.name"] for each in collector.resources} == {"shop"}
