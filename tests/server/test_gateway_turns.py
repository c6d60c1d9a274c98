"""The gateway's evidence says what was sent: also where no turn of the user is there to take it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from upstreams import Upstream
from web import GatewayDoor, serving

from holdfast.retrieval.context import OPENING

BLUNT = "Be blunt with me."
DATA = "data:image/png;base64,AAAA"
PATHS = {"chat": "/chat/completions", "responses": "/responses", "messages": "/messages"}

Items = list[dict[str, Any]]


class Door(GatewayDoor):
    """A gateway with an upstream behind it, and a key of ada's."""

    def ask(self, protocol: str, items: Items, **more: Any) -> httpx.Response:
        body = {"model": "echo", "input" if protocol == "responses" else "messages": items, **more}
        if protocol == "messages":
            body["max_tokens"] = 9
        headers = {"x-holdfast-key": self.key, "anthropic-version": "2023-06-01"}
        return httpx.post(f"{self.url}/v1{PATHS[protocol]}", json=body, headers=headers)

    def items(self) -> Items:
        """What came to the upstream last, without what is not the conversation."""
        body = self.sent()
        return body["input"] if "input" in body else body["messages"]


@pytest.fixture
def door(upstream: Upstream, tmp_path: Path) -> Iterator[Door]:
    to = {"upstream": f"{upstream.url}/v1", "upstream_anthropic": upstream.url}
    to |= {"upstream_key": "sk-ours", "upstream_anthropic_key": "sk-ours"}
    with serving(tmp_path / "data", **to) as (hf, url):
        hf.add("ada", "I never eat nuts.")
        hf.add("ada", BLUNT, scope="always", strength="should")
        yield Door(hf, url, upstream, hf.access.create("ada's", role="personal", subject="ada")[1])


TOOL_RESULT = {"type": "tool_result", "tool_use_id": "t", "content": "nuts"}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "nuts"}
WITHOUT_A_TURN = [
    ("responses", [OUTPUT], {"previous_response_id": "resp_1"}),
    ("responses", [{"role": "developer", "content": "x"}], {}),
    ("responses", [{"role": "assistant", "content": "nuts?"}], {}),
    ("responses", [{"role": "user", "content": " "}], {}),
    ("responses", [{"role": "user", "content": [{"type": "input_text", "text": ""}]}], {}),
    ("responses", [], {}),
    ("chat", [{"role": "tool", "tool_call_id": "c", "content": "nuts"}], {}),
    ("chat", [{"role": "system", "content": "x"}], {}),
    ("chat", [{"role": "assistant", "content": "nuts?"}], {}),
    ("chat", [{"role": "user", "content": ""}], {}),
    ("chat", [{"role": "user", "content": [{"type": "text", "text": "\n"}]}], {}),
    ("chat", [], {}),
    ("messages", [{"role": "user", "content": [TOOL_RESULT]}], {}),
    ("messages", [{"role": "assistant", "content": "nuts?"}], {}),
    ("messages", [{"role": "user", "content": ""}], {"system": "x"}),
    ("messages", [], {}),
]


@pytest.mark.parametrize(("protocol", "items", "more"), WITHOUT_A_TURN)
@pytest.mark.parametrize("strength", ["should", "must"])
def test_without_a_turn_of_the_user_nothing_is_said_to_be_injected(
    door: Door, protocol: str, items: Items, more: dict[str, Any], strength: str
) -> None:
    if strength == "must":
        door.hf.add("ada", "Never flatter me.", scope="always", strength="must")
    answer = door.ask(protocol, items, **more)
    assert OPENING not in door.up.requests[-1]["body"]
    status = "degraded" if strength == "must" else "none"
    assert answer.headers["x-holdfast-status"] == status
    assert answer.headers["x-holdfast-injected"] == "0"
    (evidence,) = door.hf.evidence("ada")
    assert evidence.id == answer.headers["x-holdfast-evidence"]
    assert (evidence.payload["context"], evidence.payload["injected"]) == ("", [])
    assert evidence.payload["status"] == status
    assert door.hf.replay(evidence.id)
    found = door.hf.explain(evidence.id).retrieval
    assert [c.verdict for c in found.candidates if c.lane == "always"] == [
        "over_budget" for c in found.candidates if c.lane == "always"
    ]


SHOWN = [
    ("chat", {"type": "image_url", "image_url": {"url": DATA}}),
    ("chat", {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}),
    ("chat", {"type": "file", "file": {"file_id": "file-1"}}),
    ("responses", {"type": "input_image", "image_url": DATA}),
    ("responses", {"type": "input_file", "file_id": "file-1"}),
    ("messages", {"type": "image", "source": {"type": "file", "file_id": "file_1"}}),
    ("messages", {"type": "document", "source": {"type": "file", "file_id": "file_1"}}),
]


@pytest.mark.parametrize(("protocol", "part"), SHOWN)
def test_a_turn_that_only_shows_something_gets_what_always_counts(
    door: Door, protocol: str, part: dict[str, Any]
) -> None:
    answer = door.ask(protocol, [{"role": "user", "content": [part]}])
    assert answer.headers["x-holdfast-status"] == "injected"
    assert answer.headers["x-holdfast-injected"] == "1"
    first = door.items()
    assert first[0]["content"][0] == part
    kind = "input_text" if protocol == "responses" else "text"
    assert [each["type"] for each in first[0]["content"][1:]] == [kind]
    (evidence,) = door.hf.evidence("ada")
    assert first[0]["content"][1]["text"] == evidence.payload["context"]
    assert BLUNT in evidence.payload["context"]
    assert door.hf.replay(evidence.id)
    conversation = [
        {"role": "user", "content": [part]}, {"role": "assistant", "content": "A cake."},
        {"role": "user", "content": "May I eat nuts?"},
    ]  # fmt: skip
    door.ask(protocol, conversation)
    assert door.items()[:2] == [*first, conversation[1]]


MARK = {"cache_control": {"type": "ephemeral"}}
FORMS = {
    "in a part": [{"type": "text", "text": "May I eat nuts?"}],
    "as a text": "May I eat nuts?",
    "beside an image": [{"type": "image", "source": {"type": "file", "file_id": "f"}},
                        {"type": "text", "text": "May I eat nuts?"}],
}  # fmt: skip


@pytest.mark.parametrize("later", list(FORMS))
def test_a_turn_keeps_its_block_when_the_mark_of_the_cache_moves_on(door: Door, later: str) -> None:
    content = FORMS[later]
    parts = FORMS["in a part"] if isinstance(content, str) else content
    marked = [*parts[:-1], {**parts[-1], **MARK}]  # type: ignore[dict-item]
    door.ask("messages", [{"role": "user", "content": marked}])
    first = door.items()[0]["content"]
    assert OPENING in json.dumps(first)
    conversation = [
        {"role": "user", "content": content},
        {"role": "assistant", "content": "No."},
        {"role": "user", "content": [{"type": "text", "text": "And nuts in bread?", **MARK}]},
    ]
    door.ask("messages", conversation)
    again = door.items()[0]["content"]
    assert as_read(again) == as_read(first)
    assert OPENING in json.dumps(again)
    conversation[2]["content"] = "And nuts in bread?"
    use = {"type": "tool_use", "id": "t", "name": "f", "input": {}, **MARK}
    conversation += [{"role": "assistant", "content": [use]},
                     {"role": "user", "content": [{**TOOL_RESULT, **MARK}]}]  # fmt: skip
    size = len(door.hf.evidence("ada"))
    second = door.items()[2]["content"]
    door.ask("messages", conversation)
    assert as_read(door.items()[0]["content"]) == as_read(first)
    assert as_read(door.items()[2]["content"]) == as_read(second)
    assert len(door.hf.evidence("ada")) == size


def as_read(content: Any) -> list[dict[str, Any]]:
    """What a model reads: a text is a part, and marks of the cache are nothing."""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [{name: part[name] for name in part if name != "cache_control"} for part in parts]
