"""Calls of upstreams that speak another protocol than the caller: litellm translates.

litellm is imported when it is first needed: it takes seconds and 200 MB. It takes what it
is given for its own options too (a ``base_url`` in a request would send the key elsewhere),
so only known parameters are handed to it by name.
"""

import json
import logging
import os
import re
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, cast

from starlette.concurrency import run_in_threadpool

from .problems import RefusedError
from .protocols import BROKEN_OFF, Body, Protocol
from .upstreams import Answer, Target

NO_KEY = "none"
"""In place of a key: without one litellm takes the process's own from the environment."""
MOST_TOKENS = 4096
"""Of an answer, where the caller sets no limit and the upstream's protocol wants one."""

CHAT = """audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens
    max_tokens modalities n parallel_tool_calls prediction presence_penalty reasoning_effort
    response_format seed service_tier stop store stream stream_options temperature tool_choice
    tools top_logprobs top_p user verbosity web_search_options""".split()
RESPONSES = """include instructions max_output_tokens parallel_tool_calls previous_response_id
    reasoning service_tier store stream temperature text tool_choice tools top_p truncation
    user""".split()
MESSAGES = """max_tokens stop_sequences stream system temperature thinking tool_choice tools top_k
    top_p""".split()

LINKS = ("url", "image_url", "file_url", "video_url", "audio_url", "file_uri")
"""Fields of an image or file that may hold nothing but what it is itself."""
ENCODED = ("data", "file_data")
SAID = ("text", "content", "output", "arguments", "thinking", "refusal", "reasoning_content")
"""Fields whose texts are words."""
UNREAD = ("annotations", "citations", "tool_calls", "function_call")
"""Fields of what a model said; litellm looks for no image or file in them."""
QUOTED = {
    "tool_use": "input", "server_tool_use": "input", "mcp_tool_use": "input",
    "web_search_tool_result": "content", "web_fetch_tool_result": "content",
    "web_search_call": "action",
}  # fmt: skip
"""The same by the type of a part, which is no message of its own."""
LINK = re.compile(
    r"[\s\x00-\x20\u200b-\u200d\u2060\ufeff]*"
    r"(?:(?!data:)(?:[a-z][a-z0-9+.-]*:)?(?://|\\\\)|https?:|www\.)",
    re.IGNORECASE,
)


@asynccontextmanager
async def send(
    protocol: Protocol, to: Target, key: str | None, sent: bytes, timeout: float
) -> AsyncGenerator[Answer]:
    """Call an upstream through litellm; the answer has the form of the caller's protocol.

    Raises:
        RefusedError: it failed, with the status that the upstream gave.
    """
    litellm = await run_in_threadpool(litellm_module)
    body: Body = json.loads(sent)
    _refuse_links(body)
    given = {
        "model": to.model if to.speaks == "litellm" else f"{to.speaks}/{to.model}",
        "api_key": key or NO_KEY,
        "timeout": timeout,
        "max_retries": 0,
    }
    if to.url is not None:
        given["api_base"] = to.url
    call = {"chat": _chat, "responses": _responses, "messages": _messages}[protocol.name]
    try:
        found: Any = await call(litellm, body, given)
    except Exception as error:
        raise refusal(error) from None
    if not body.get("stream"):
        content = json.dumps(_plain(found, body["model"])).encode()
        yield Answer(200, {"content-type": "application/json"}, _once(content))
        return
    events = _events(protocol, found, body["model"])
    yield Answer(200, {"content-type": "text/event-stream; charset=utf-8"}, events)


@cache
def litellm_module() -> Any:
    """Import litellm, quiet, and without its list of prices from the network."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        import litellm
    except ImportError:
        raise RefusedError(
            500, "this route needs litellm; install it with: pip install 'holdfast[server]'"
        ) from None
    for speaker in ("litellm", "pydantic"):  # they would print what was said
        warnings.filterwarnings("ignore", module=speaker)
    module = cast("Any", litellm)
    module.suppress_debug_info = True
    module.telemetry = False
    module.user_url_validation = True  # what it would fetch after all is at no private address
    module.use_chat_completions_url_for_anthropic_messages = True
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):  # they log what was said
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return module


async def close() -> None:
    """Close the connections that litellm keeps."""
    if litellm_module.cache_info().currsize:
        await litellm_module().close_litellm_async_clients()


async def _chat(litellm: Any, body: Body, given: Body) -> Any:
    known = {name: body[name] for name in CHAT if name in body}
    if given["model"].startswith("openai/"):
        more = set(body) - set(CHAT) - {"model", "messages", "metadata"}
        known["extra_body"] = {name: body[name] for name in sorted(more)}
        known["allowed_openai_params"] = ["user"]
    elif "max_tokens" not in known and "max_completion_tokens" not in known:
        known["max_tokens"] = MOST_TOKENS
    return await litellm.acompletion(messages=body["messages"], **known, **given)


async def _responses(litellm: Any, body: Body, given: Body) -> Any:
    if body.get("previous_response_id"):
        raise RefusedError(
            400, "previous_response_id names what another upstream keeps; send the whole input"
        )
    known = {name: body[name] for name in RESPONSES if name in body}
    return await litellm.aresponses(input=body["input"], **known, **given)


async def _messages(litellm: Any, body: Body, given: Body) -> Any:
    known = {name: body[name] for name in MESSAGES if name in body}
    known.setdefault("max_tokens", MOST_TOKENS)
    return await litellm.anthropic_messages(messages=body["messages"], **known, **given)


def _refuse_links(body: Body) -> None:
    """Refuse links to images and files: litellm would fetch them from here.

    What is said, by whomever, may hold any link: it is not fetched.
    """
    found = [("", body[name]) for name in ("messages", "input") if isinstance(body.get(name), list)]
    while found:  # a stack: however deep JSON may be
        name, value = found.pop()
        if isinstance(value, list):
            found += [(name, each) for each in cast("list[Any]", value)]
        elif isinstance(value, dict):
            fields = cast("Body", value)
            quoted = None if "role" in fields else QUOTED.get(str(fields.get("type")))
            found += [
                (name, each)
                for name, each in fields.items()
                if name not in (*UNREAD, quoted) and not (name in SAID and isinstance(each, str))
            ]
        elif isinstance(value, str) and _is_link(name, value):
            raise RefusedError(
                400, "links to images and files are not fetched for this upstream; send the image "
                "or file itself, as a data: URL",
            )  # fmt: skip


def _is_link(name: str, value: str) -> bool:
    if name in LINKS:
        return not value.startswith("data:")
    if name in ENCODED:  # base64 may begin with any of its signs
        value = value.lstrip("/")
    return LINK.match(value) is not None


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _events(protocol: Protocol, found: Any, model: str) -> AsyncIterator[bytes]:
    """Write what litellm gives as the events of the caller's protocol."""
    try:
        async for each in found:
            if isinstance(each, bytes):  # Anthropic's, as they are to be sent
                yield _checked(each)
            elif protocol.name == "chat":
                yield b"data: " + json.dumps(_plain(each, model)).encode() + b"\n\n"
            else:
                said = each.model_dump(mode="json", exclude_none=True)
                yield f"event: {said['type']}\ndata: {json.dumps(said)}\n\n".encode()
    except Exception as error:
        raise refusal(error) from None
    if protocol.name == "chat":
        yield b"data: [DONE]\n\n"


def _checked(event: bytes) -> bytes:
    """Refuse an error in litellm's words, which may be the request's."""
    if event.startswith(b"event: error"):
        raise RefusedError(502, BROKEN_OFF)
    return event


def _plain(found: Any, model: str) -> Body:
    """Give what litellm answers without what is only its own."""
    said: Body = (
        dict(cast("Mapping[str, Any]", found))
        if isinstance(found, dict)
        else found.model_dump(mode="json", exclude_none=True)
    )
    for choice in said.get("choices", ()):
        choice.pop("provider_specific_fields", None)
        choice.setdefault("finish_reason", None)
        for name in ("message", "delta"):
            if name in choice:
                choice[name].pop("provider_specific_fields", None)
        if "message" in choice:
            choice["message"].pop("function_call", None)
            choice["message"].setdefault("content", None)
    return said | {"model": model}


def refusal(error: Exception) -> RefusedError:
    """Say what failed by its status alone: litellm's words may hold the request's."""
    if isinstance(error, RefusedError):
        return error
    status: Any = getattr(error, "status_code", None)
    if type(error).__name__ == "MidStreamFallbackError":
        return RefusedError(502, BROKEN_OFF)
    if type(error).__name__ == "Timeout":
        return RefusedError(504, "the upstream did not answer in time")
    if isinstance(status, int) and 400 <= status < 500:
        headers: Any = getattr(getattr(error, "response", None), "headers", None) or {}
        wait = headers.get("retry-after")
        return RefusedError(
            status, f"the upstream refused the request ({type(error).__name__})",
            headers={"retry-after": wait} if wait else {},
        )  # fmt: skip
    return RefusedError(502, f"the upstream failed ({type(error).__name__})")
