"""An upstream on this machine that speaks OpenAI's chat completions and Anthropic's messages.

It stands in for models where there is no network: a real HTTP server on a free port of the
loopback interface. It is no model, and says so: its answer tells what it was sent. What it was
sent is kept in ``Loopback.requests``.
"""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BLOCK = re.compile(r"<holdfast-values>.*?</holdfast-values>", re.DOTALL)
LINE = re.compile(r"^- \[(st_\w+)\] (.*)$", re.MULTILINE)


def texts(content: Any) -> str:
    """Give the text of a message, or of Anthropic's ``system``, whichever form it has."""
    if isinstance(content, list):
        return "\n".join(part.get("text", "") for part in content)
    return content or ""


class Loopback:
    """The server; ``url`` is where it listens until ``close``."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        own = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                status, answer = own.answer(self.path, body)
                sent = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            def log_message(self, *_: object) -> None:
                """Stay silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Keep a request, and say what was in it in the form of its protocol."""
        self.requests.append({"path": path, "body": body})
        anthropic = path.endswith("/messages")
        if not anthropic and not path.endswith("/chat/completions"):
            return 404, {"error": {"message": f"nothing is at {path}", "type": "not_found"}}
        said = "\n".join(
            [texts(body.get("system")), *(texts(m["content"]) for m in body["messages"])]
        )
        lines = LINE.findall("\n".join(BLOCK.findall(said)))
        told = [f"I am {body['model']}, a program on your machine and no model."]
        told += [f"With your request I was sent {len(lines)} of your statements:"] if lines else []
        told += [f"- {text}" for _, text in lines] or ["I was sent none of your statements."]
        text = "\n".join(told)
        counts = (len(said.encode()) + 3) // 4, (len(text.encode()) + 3) // 4
        if anthropic:
            usage = dict(zip(("input_tokens", "output_tokens"), counts, strict=True))
            return 200, {
                "id": f"msg_{len(self.requests)}", "type": "message", "role": "assistant",
                "model": body["model"], "content": [{"type": "text", "text": text}],
                "stop_reason": "end_turn", "stop_sequence": None, "usage": usage,
            }  # fmt: skip
        usage = dict(zip(("prompt_tokens", "completion_tokens"), counts, strict=True))
        choice = {"index": 0, "finish_reason": "stop"}
        return 200, {
            "id": f"chatcmpl-{len(self.requests)}", "object": "chat.completion", "created": 0,
            "model": body["model"], "usage": {**usage, "total_tokens": sum(counts)},
            "choices": [{**choice, "message": {"role": "assistant", "content": text}}],
        }  # fmt: skip
