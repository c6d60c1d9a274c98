"""An upstream on loopback that speaks OpenAI's chat completions and responses, and Anthropic's
messages: a real HTTP server, so that clients and the gateway meet real sockets.

The answer echoes the last user text (its parts joined by "|"), so that a test sees what was
put in. How it fails is chosen by the model's name: ``echo``, ``tools``, ``slow`` (3 s),
``cut`` (the connection drops in mid-stream), ``short`` (the stream ends cleanly without its
last event), ``error-event``, ``status-429``, ``status-500``. What was asked is kept.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse


def _texts(content) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [
        p["text"]
        for p in content or []
        if isinstance(p, dict) and p.get("type") in ("text", "input_text")
    ]


def _last_user(messages) -> str:
    if isinstance(messages, str):
        return messages
    for m in reversed(messages):
        if m.get("role") == "user" and _texts(m.get("content")):
            return "|".join(_texts(m["content"]))
    return ""


def _deltas(text: str) -> list[str]:
    return [text[i : i + 8] for i in range(0, len(text), 8)] or [""]


def told(text, model, delta, failure):
    """Give a text's deltas as events; tell whether the stream goes on to its end."""
    for number, part in enumerate(_deltas(text)):
        if number == 2 and model.endswith("cut"):
            yield CutError
        if number == 2 and model.endswith("short"):
            return False
        if number == 2 and model.endswith("error-event"):
            yield failure()
            return False
        yield delta(part)
    return True


class CutError(Exception):
    pass


def create_app(delay: float = 0.0) -> FastAPI:
    app = FastAPI()
    app.state.requests = []

    class Record:  # plain ASGI: BaseHTTPMiddleware would end a cut stream cleanly
        def __init__(self, inner):
            self.inner = inner

        async def __call__(self, scope, receive, send):
            if scope["type"] != "http" or not scope["path"].startswith("/v1"):
                await self.inner(scope, receive, send)
                return
            body, more = b"", True
            while more:
                message = await receive()
                body += message.get("body", b"")
                more = message.get("more_body", False)
            app.state.requests.append(
                {
                    "method": scope["method"],
                    "path": scope["path"],
                    "query": scope["query_string"].decode(),
                    "headers": {
                        k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]
                    },
                    "body": body.decode("utf-8", "replace"),
                }
            )
            sent = False

            async def replay():
                nonlocal sent
                if not sent:
                    sent = True
                    return {"type": "http.request", "body": body, "more_body": False}
                return await receive()

            await self.inner(scope, replay, send)

    app.add_middleware(Record)

    @app.get("/__requests")
    def requests_():
        return app.state.requests

    @app.delete("/__requests")
    def clear():
        app.state.requests.clear()
        return {}

    def openai_error(status: int, message: str, type_: str, code=None, headers=None):
        return JSONResponse(
            {"error": {"message": message, "type": type_, "param": None, "code": code}},
            status,
            headers,
        )

    def anthropic_error(status: int, message: str, type_: str, headers=None):
        return JSONResponse(
            {"type": "error", "error": {"type": type_, "message": message}, "request_id": "req_up"},
            status,
            headers,
        )

    def refuse(model: str, make, kinds: tuple[str, str]):
        if model.endswith("status-429"):
            return make(429, "slow down", kinds[0], headers={"retry-after": "0"})
        if model.endswith("status-500"):
            return make(500, "upstream failed", kinds[1])
        return None

    def sse(events, headers=None):
        """events yields bytes; raising CutError drops the connection mid-stream."""

        async def gen():
            for e in events:
                if isinstance(e, float):
                    await asyncio.sleep(e)
                    continue
                if e is CutError:
                    raise CutError("upstream drops the connection")
                yield e
                await asyncio.sleep(delay)

        return StreamingResponse(
            gen(),
            media_type="text/event-stream; charset=utf-8",
            headers={"cache-control": "no-cache", **(headers or {})},
        )

    # ---- OpenAI
    @app.get("/v1/models")
    def models():
        return {
            "object": "list",
            "data": [
                {"id": "echo", "object": "model", "created": 1700000000, "owned_by": "upstream"}
            ],
        }

    @app.post("/v1/chat/completions")
    async def chat(request: Request):
        body = await request.json()
        model = body.get("model", "echo")
        if not request.headers.get("authorization"):
            return openai_error(
                401, "You didn't provide an API key.", "invalid_request_error", "invalid_api_key"
            )
        if (r := refuse(model, openai_error, ("rate_limit_error", "server_error"))) is not None:
            return r
        text = _last_user(body["messages"])
        base = {
            "id": "chatcmpl-1",
            "created": 1700000000,
            "model": model,
            "service_tier": "default",
            "system_fingerprint": "fp_1",
        }
        usage = {
            "prompt_tokens": 11,
            "completion_tokens": 7,
            "total_tokens": 18,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        }
        tool = [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'},
            }
        ]
        use_tool = (
            model.endswith("tools") and body.get("tools") and body["messages"][-1]["role"] == "user"
        )
        if model.endswith("slow"):
            await asyncio.sleep(3)
        head = {
            "x-request-id": "req_up",
            "openai-processing-ms": "5",
            "openai-version": "2020-10-01",
        }
        if not body.get("stream"):
            msg = {
                "role": "assistant",
                "content": None if use_tool else text,
                "refusal": None,
                "annotations": [],
            }
            if use_tool:
                msg["tool_calls"] = tool
            return JSONResponse(
                {
                    **base,
                    "object": "chat.completion",
                    "choices": [
                        {
                            "index": 0,
                            "message": msg,
                            "logprobs": None,
                            "finish_reason": "tool_calls" if use_tool else "stop",
                        }
                    ],
                    "usage": usage,
                },
                headers=head,
            )

        def chunk(delta, finish=None, **kw):
            c = {
                **base,
                "object": "chat.completion.chunk",
                "choices": [
                    {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
                ],
            }
            if (body.get("stream_options") or {}).get("include_usage"):
                c["usage"] = None
            return b"data: " + json.dumps({**c, **kw}, separators=(",", ":")).encode() + b"\n\n"

        def events():
            yield chunk({"role": "assistant", "content": "", "refusal": None})
            if use_tool:
                yield chunk(
                    {
                        "tool_calls": [
                            {
                                "index": 0,
                                **tool[0],
                                "function": {"name": "get_weather", "arguments": ""},
                            }
                        ]
                    }
                )
                for d in _deltas(tool[0]["function"]["arguments"]):
                    yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": d}}]})
            else:
                error = {"message": "upstream broke off", "type": "server_error"}
                failure = b"data: " + json.dumps({"error": error}).encode() + b"\n\n"
                whole = yield from told(
                    text, model, lambda d: chunk({"content": d}), lambda: failure
                )
                if not whole:
                    return
            yield chunk({}, "tool_calls" if use_tool else "stop")
            if (body.get("stream_options") or {}).get("include_usage"):
                yield chunk({}, choices=[], usage=usage)
            yield b"data: [DONE]\n\n"

        return sse(events(), head)

    @app.post("/v1/responses")
    async def responses(request: Request):
        body = await request.json()
        model = body.get("model", "echo")
        if not request.headers.get("authorization"):
            return openai_error(
                401, "You didn't provide an API key.", "invalid_request_error", "invalid_api_key"
            )
        if (r := refuse(model, openai_error, ("rate_limit_error", "server_error"))) is not None:
            return r
        text = _last_user(body["input"])
        use_tool = (
            model.endswith("tools")
            and bool(body.get("tools"))
            and not (
                isinstance(body["input"], list)
                and body["input"][-1].get("type") == "function_call_output"
            )
        )
        if use_tool:
            item = {
                "type": "function_call",
                "id": "fc_1",
                "call_id": "call_1",
                "name": "get_weather",
                "arguments": '{"city": "Oslo"}',
                "status": "completed",
            }
        else:
            item = {
                "type": "message",
                "id": "msg_1",
                "status": "completed",
                "role": "assistant",
                "content": [
                    {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
                ],
            }
        full = {
            "id": "resp_1",
            "object": "response",
            "created_at": 1700000000,
            "status": "completed",
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": body.get("instructions"),
            "max_output_tokens": None,
            "model": model,
            "output": [item],
            "parallel_tool_calls": True,
            "previous_response_id": body.get("previous_response_id"),
            "reasoning": {"effort": None, "summary": None},
            "store": body.get("store", True),
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": body.get("tools") or [],
            "top_p": 1.0,
            "truncation": "disabled",
            "metadata": body.get("metadata") or {},
            "user": body.get("user"),
            "usage": {
                "input_tokens": 11,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": 7,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 18,
            },
        }
        if not body.get("stream"):
            return full
        n = iter(range(10_000))

        def ev(type_, **kw):
            data = {"type": type_, "sequence_number": next(n), **kw}
            return f"event: {type_}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()

        def events():
            begun = {**full, "status": "in_progress", "output": [], "usage": None}
            yield ev("response.created", response=begun)
            yield ev("response.in_progress", response=begun)
            if use_tool:
                yield ev(
                    "response.output_item.added",
                    output_index=0,
                    item={**item, "arguments": "", "status": "in_progress"},
                )
                yield ev(
                    "response.function_call_arguments.delta",
                    item_id="fc_1",
                    output_index=0,
                    delta=item["arguments"],
                )
                yield ev(
                    "response.function_call_arguments.done",
                    item_id="fc_1",
                    output_index=0,
                    name=item["name"],
                    arguments=item["arguments"],
                )
            else:
                yield ev(
                    "response.output_item.added",
                    output_index=0,
                    item={**item, "content": [], "status": "in_progress"},
                )
                yield ev(
                    "response.content_part.added",
                    item_id="msg_1",
                    output_index=0,
                    content_index=0,
                    part={"type": "output_text", "text": "", "annotations": [], "logprobs": []},
                )
                whole = yield from told(
                    text,
                    model,
                    lambda d: ev(
                        "response.output_text.delta",
                        item_id="msg_1",
                        output_index=0,
                        content_index=0,
                        delta=d,
                        logprobs=[],
                    ),
                    lambda: ev(
                        "error", code="upstream_error", message="upstream broke off", param=None
                    ),
                )
                if not whole:
                    return
                yield ev(
                    "response.output_text.done",
                    item_id="msg_1",
                    output_index=0,
                    content_index=0,
                    text=text,
                    logprobs=[],
                )
                yield ev(
                    "response.content_part.done",
                    item_id="msg_1",
                    output_index=0,
                    content_index=0,
                    part=item["content"][0],
                )
            yield ev("response.output_item.done", output_index=0, item=item)
            yield ev("response.completed", response=full)

        return sse(events(), {"x-request-id": "req_up"})

    # ---- Anthropic
    @app.post("/v1/messages/count_tokens")
    async def count(request: Request):
        return {"input_tokens": len(_last_user((await request.json())["messages"])) // 4 + 1}

    @app.post("/v1/messages")
    async def messages(request: Request):
        body = await request.json()
        model = body.get("model", "echo")
        if not (request.headers.get("x-api-key") or request.headers.get("authorization")):
            return anthropic_error(401, "x-api-key header is required", "authentication_error")
        if not request.headers.get("anthropic-version"):
            return anthropic_error(
                400, "anthropic-version: header is required", "invalid_request_error"
            )
        if (r := refuse(model, anthropic_error, ("rate_limit_error", "api_error"))) is not None:
            return r
        text = _last_user(body["messages"])
        last = body["messages"][-1]["content"]
        use_tool = (
            model.endswith("tools")
            and bool(body.get("tools"))
            and not (isinstance(last, list) and any(p.get("type") == "tool_result" for p in last))
        )
        block = (
            {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Oslo"}}
            if use_tool
            else {"type": "text", "text": text}
        )
        full = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [block],
            "stop_reason": "tool_use" if use_tool else "end_turn",
            "stop_sequence": None,
            "usage": {
                "input_tokens": 11,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 7,
            },
        }
        head = {"request-id": "req_up", "anthropic-organization-id": "org_up"}
        if not body.get("stream"):
            return JSONResponse(full, headers=head)

        def ev(type_, **kw):
            data = json.dumps({"type": type_, **kw}, separators=(",", ":"))
            return f"event: {type_}\ndata: {data}\n\n".encode()

        def events():
            yield ev(
                "message_start",
                message={
                    **full,
                    "content": [],
                    "stop_reason": None,
                    "usage": {**full["usage"], "output_tokens": 1},
                },
            )
            start = {**block, "input": {}} if use_tool else {"type": "text", "text": ""}
            yield ev("content_block_start", index=0, content_block=start)
            yield ev("ping")
            if use_tool:
                yield ev(
                    "content_block_delta",
                    index=0,
                    delta={"type": "input_json_delta", "partial_json": '{"city": "Oslo"}'},
                )
            else:
                whole = yield from told(
                    text,
                    model,
                    lambda d: ev(
                        "content_block_delta", index=0, delta={"type": "text_delta", "text": d}
                    ),
                    lambda: ev(
                        "error",
                        error={"type": "overloaded_error", "message": "upstream broke off"},
                    ),
                )
                if not whole:
                    return
            yield ev("content_block_stop", index=0)
            yield ev(
                "message_delta",
                delta={"stop_reason": full["stop_reason"], "stop_sequence": None},
                usage={"output_tokens": 7},
            )
            yield ev("message_stop")

        return sse(events(), head)

    return app


class Upstream:
    """A uvicorn thread on a free loopback port."""

    def __init__(self, app: FastAPI | None = None, delay: float = 0.0):
        import uvicorn

        self.app = app or create_app(delay)
        self._socket = socket.socket(proto=socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(self.app, log_level="critical"))
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )

    @property
    def requests(self) -> list[dict]:
        return self.app.state.requests

    def __enter__(self):
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("upstream did not start")
            time.sleep(0.01)
        return self

    def __exit__(self, *exc):
        self._server.should_exit = True
        self._thread.join(10)


if __name__ == "__main__":
    import sys

    import uvicorn

    uvicorn.run(
        create_app(),
        host="127.0.0.1",
        port=int(sys.argv[1]) if len(sys.argv) > 1 else 8099,
        log_level="critical",
    )
