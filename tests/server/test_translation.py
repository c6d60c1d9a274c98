"""What goes through litellm: nothing that a request names is fetched from here."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Response
from upstreams import Upstream, create_app
from web import serving

from holdfast.server import translation
from holdfast.server.problems import RefusedError

pytestmark = pytest.mark.filterwarnings("ignore")  # litellm's own are not ours to mend

Ask = Any


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    app = create_app()

    @app.get("/pdf")
    def pdf() -> Response:
        app.state.requests.append({"path": "/pdf", "body": ""})
        return Response(b"%PDF-1.4", media_type="application/pdf")

    with Upstream(app) as up:
        yield up


@pytest.fixture
def ask(upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """Ask through litellm, whose own check of addresses is off: it would fetch from loopback."""
    upstream.requests.clear()
    litellm = translation.litellm_module()
    assert litellm.user_url_validation is True
    monkeypatch.setattr(litellm, "user_url_validation", False)
    to = {
        "over-groq": {"protocol": "litellm", "url": f"{upstream.url}/v1", "key": "k",
                      "model": "groq/echo"},
        "over-anthropic": {"protocol": "anthropic", "url": upstream.url, "key": "k",
                           "model": "echo"},
        "over-openai": {"protocol": "openai", "url": f"{upstream.url}/v1", "key": "k",
                        "model": "echo"},
    }  # fmt: skip
    with serving(tmp_path / "data", routes=to) as (hf, url):
        _, key = hf.access.create("ada's", role="personal", subject="ada")

        def ask(path: str, **body: Any) -> httpx.Response:
            headers = {"x-holdfast-key": key, "anthropic-version": "x"}
            return httpx.post(f"{url}/v1{path}", json=body, headers=headers, timeout=60)

        yield ask


SPELLED = ("{}/pdf", " \n{}/pdf", "\x00{}/pdf", "HTTP://127.0.0.1/pdf", "//127.0.0.1/pdf",
           "www.example.org/x.pdf", "ftp://127.0.0.1/pdf", "http:127.0.0.1/pdf")  # fmt: skip
CHAT = (
    {"type": "file", "file": {"file_id": "LINK"}},
    {"type": "file", "file": {"file_url": "LINK"}},
    {"type": "file", "file": "LINK"},
    {"type": "video_url", "video_url": {"url": "LINK"}},
    {"type": "image_url", "image_url": "LINK"},
    {"type": "anything", "file_uri": "LINK"},
    {"type": "text", "text": "x", "image_url": {"url": "LINK"}},
    {"type": "tool_use", "source": {"deep": [[{"er": "LINK"}]]}},
)


@pytest.mark.parametrize("part", CHAT)
def test_no_link_of_a_chat_is_fetched(ask: Ask, upstream: Upstream, part: Any) -> None:
    for spelled in SPELLED:
        link = json.dumps(spelled.format(upstream.url))
        parts = [
            {"type": "text", "text": "hi"},
            json.loads(json.dumps(part).replace('"LINK"', link)),
        ]
        messages = [{"role": "user", "type": "web_search_tool_result", "content": parts}]
        answer = ask("/chat/completions", model="over-groq", messages=messages)
        assert answer.status_code == 400, answer.text
        assert "links" in answer.text
    data = [{"type": "file", "file": {"file_data": f"{upstream.url}/pdf"}}]
    messages = [{"role": "user", "content": data}]
    assert ask("/chat/completions", model="over-groq", messages=messages).status_code == 400
    assert upstream.requests == []


def test_no_link_of_the_other_protocols_is_fetched(ask: Ask, upstream: Upstream) -> None:
    link = f"{upstream.url}/pdf"
    source = {"type": "url", "url": link}
    for part in (
        {"type": "document", "source": source},
        {"type": "document", "source": {"type": "file", "file_id": link}},
        {
            "type": "tool_result",
            "tool_use_id": "t",
            "content": [{"type": "image", "source": source}],
        },
    ):
        messages = [{"role": "user", "content": [part]}]
        answer = ask("/messages", model="over-openai", messages=messages, max_tokens=9)
        assert answer.status_code == 400, part
    for item in (
        {"role": "user", "content": [{"type": "input_file", "file_url": link}]},
        {"role": "user", "content": [{"type": "input_file", "file_data": link}]},
        {"type": "input_image", "image_url": link},
        {"type": "function_call_output", "call_id": "c",
         "output": [{"type": "input_file", "file_id": link}]},
    ):  # fmt: skip
        assert ask("/responses", model="over-anthropic", input=[item]).status_code == 400, item
    assert upstream.requests == []


def test_what_is_said_may_hold_links_and_data_may_begin_as_one(
    ask: Ask, upstream: Upstream
) -> None:
    link = "https://example.org/x"
    for content in (link, [{"type": "text", "text": link}], [{"type": "text", "text": "www.a.b"}]):
        messages = [{"role": "user", "content": content}]
        assert ask("/chat/completions", model="over-groq", messages=messages).status_code == 200
    assert ask("/responses", model="over-anthropic", input=link).status_code == 200
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": link}}
    audio = {"type": "input_audio", "input_audio": {"data": "//uQxAAA", "format": "mp3"}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,//AA"}}
    cited = {"type": "text", "text": "So.", "citations": [{"url": link, "cited_text": "x"}]}
    found = {"type": "web_search_result", "url": link, "title": "x"}
    translation._refuse_links({
        "messages": [
            {"role": "assistant", "content": link, "tool_calls": [call],
             "annotations": [{"type": "url_citation", "url_citation": {"url": link}}]},
            {"role": "tool", "tool_call_id": "c", "content": link},
            {"role": "user", "content": [audio, image]},
            {"role": "assistant", "content": [
                cited, {"type": "tool_use", "id": "t", "name": "f", "input": {"url": link}},
                {"type": "web_search_tool_result", "tool_use_id": "t", "content": [found]}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": link}]},
        ],
        "input": [
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": link},
            {"type": "function_call_output", "call_id": "c", "output": link},
            {"type": "web_search_call", "action": {"type": "open_page", "url": link}},
        ],
        "tools": [{"type": "mcp", "server_url": link}],
    })  # fmt: skip


def test_a_link_is_found_however_deep_it_lies() -> None:
    value: Any = {"file_id": "https://example.org"}
    for _ in range(5_000):
        value = [value]
    with pytest.raises(RefusedError, match="links"):
        translation._refuse_links({"messages": [{"role": "user", "content": [{"x": value}]}]})
