"""A conversation read for proposals by a model: a small real server that answers as one does."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from web import running, serving

from holdfast.retrieval.context import CLOSING, OPENING

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)  # fmt: skip
FOUND = "- I never eat nuts.\n2) I have promised to call my mother every Sunday.\n\nNone."
CONVERSATION = [
    {"role": "system", "content": "secret instructions"},
    {"role": "user", "content": f"Nuts would kill me.\n\n{OPENING}\n- [st_x] old\n{CLOSING}"},
    {"role": "assistant", "content": "I love peanuts myself."},
    {"role": "user", "content": "And I call Mum on Sundays, as promised."},
]


@pytest.fixture
def model() -> Iterator[tuple[str, list[Any], list[Any]]]:
    app = FastAPI()
    asked: list[Any] = []
    answers: list[Any] = [FOUND]

    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> JSONResponse:
        asked.append(await request.json())
        if answers[0] is None:
            return JSONResponse({"error": {"message": "Nuts would kill me", "type": "x"}}, 500)
        message = {"role": "assistant", "content": answers[0]}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return JSONResponse(
            {"id": "1", "object": "chat.completion", "created": 1, "model": "m",
             "choices": [choice],
             "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
        )  # fmt: skip

    with running(app) as url:
        yield url, asked, answers


def test_a_model_is_sent_the_subjects_own_words_and_what_it_finds_waits(
    model: tuple[str, list[Any], list[Any]], tmp_path: Path
) -> None:
    url, asked, answers = model
    routes = {"reads": {"protocol": "openai", "url": f"{url}/v1", "key": "sk", "model": "m"}}
    with serving(tmp_path / "data", reader_model="reads", routes=routes) as (hf, at):
        _, key = hf.access.create("a test", role="app")

        def ask() -> httpx.Response:
            return httpx.post(
                f"{at}/api/v1/subjects/ada/proposals", json={"messages": CONVERSATION},
                headers={"authorization": f"Bearer {key}"}, timeout=60,
            )  # fmt: skip

        found = ask()
        assert found.status_code == 201
        assert [p["text"] for p in found.json()] == [
            "I never eat nuts.", "I have promised to call my mother every Sunday.",
        ]  # fmt: skip
        assert {p["source"] for p in found.json()} == {"model:reads"}
        assert hf.statements("ada") == []
        sent = asked[0]["messages"]
        assert (
            sent[1]["content"] == "Nuts would kill me.\n\nAnd I call Mum on Sundays, as promised."
        )
        assert "secret" not in json.dumps(sent)
        assert "peanuts" not in json.dumps(sent)
        assert ask().json() == []  # known by now
        answers[0] = "none"
        assert ask().json() == []
        answers[0] = None
        failed = ask()
        assert failed.status_code == 502
        assert "kill" not in failed.text
