"""What every request passes first: a plain ASGI middleware around the whole application.

It names the request, checks the Host header, bounds the body in size and time, turns every
error into its protocol's form, and writes one line of log and the metrics. It never sees or
logs a body, a query or a name in a path. (Starlette's function middleware would turn a
stream that breaks into one that ends well.)
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Container
from contextlib import nullcontext
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .logs import where
from .problems import Problem, RefusedError, problem_of, protocol_of
from .service import LOCAL_SCOPE, Service
from .visiting import is_browsing, problem_page

if TYPE_CHECKING:
    from .tracing import Answered

logger = logging.getLogger("holdfast.access")
BODY_SECONDS = 30.0
"""Longest wait for the next part of a body, and what all of it gets beside its size."""
SLOWEST = 20_000
"""Bytes a second of a slow but honest client."""
OWN_HOSTS = ("127.0.0.1", "localhost", "[::1]")
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class Gate:
    """The middleware."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._hosts = frozenset((*OWN_HOSTS, *map(str.lower, service.settings.allowed_hosts)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = "rq_" + secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        passage = _Passage(scope, receive, send, request_id, self._service)
        tracing = self._service.tracing
        traced = tracing.request(scope) if tracing else nullcontext()
        with self._service.metrics.in_flight.track_inprogress(), traced as answered:
            try:
                passage.check_host(self._hosts)
                passage.check_length()
                await self._app(scope, passage.receive, passage.send)
            except Exception as error:
                await passage.fail(error)
            finally:
                passage.note(answered)


class _Passage:
    """One request on its way through."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, request_id: str, service: Service
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._request_id = request_id
        self._service = service
        self._began = time.perf_counter()
        self._first: float | None = None
        self._status = 0
        self._taken = 0
        self._waiting: float | None = None
        self._whole = False
        self._refused: RefusedError | None = None
        settings = service.settings
        path = scope["path"]
        is_import = path.startswith("/api/") and path.endswith("/import")
        is_large = is_import or path.startswith("/v1/") or LOCAL_SCOPE in scope
        self._most = settings.gateway_body_limit if is_large else settings.body_limit

    def check_host(self, allowed: Container[str]) -> None:
        """Refuse a foreign Host, under which a page that a browser was led to could reach us."""
        if "*" in allowed or self._scope.get(LOCAL_SCOPE):
            return
        host = dict(self._scope["headers"]).get(b"host", b"").decode("latin-1").lower()
        name = host if host in allowed else host.rpartition(":")[0]
        if name not in allowed:
            raise RefusedError(
                421, "this server is not known under that Host; name it in HOLDFAST_ALLOWED_HOSTS"
            )

    def check_length(self) -> None:
        """Refuse a body that says itself that it is too large."""
        length = dict(self._scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._most:
            raise self._too_large()

    def _too_large(self) -> RefusedError:
        return RefusedError(413, f"the body is larger than {self._most:,} bytes; send less")

    async def receive(self) -> Message:
        """Give the next part of the request."""
        if self._whole:
            return await self._receive()  # waits for the client to leave
        now = time.perf_counter()
        self._waiting = self._waiting or now
        left = self._waiting + BODY_SECONDS + self._taken / SLOWEST - now
        try:
            message = await asyncio.wait_for(self._receive(), min(left, BODY_SECONDS))
        except TimeoutError:
            self._refused = RefusedError(408, "the body came too slowly; send it again")
            raise self._refused from None
        if message["type"] == "http.request":
            self._taken += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._taken > self._most:
                self._refused = self._too_large()
                raise self._refused
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer, with the request's name."""
        if self._refused is not None:  # frameworks make an answer of their own of it
            raise self._refused
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._first = time.perf_counter()
            headers = list(message.get("headers", ()))
            if not any(name == b"x-request-id" for name, _ in headers):  # an upstream's own stays
                headers.append((b"x-request-id", self._request_id.encode()))
            message = {**message, "headers": headers}
        await self._send(message)

    async def fail(self, error: Exception) -> None:
        """Answer with an error, unless an answer has begun."""
        error, self._refused = self._refused or error, None
        problem = problem_of(error, self._request_id)
        if problem.status >= 500:
            logger.error("%s failed: %s", self._request_id, where(error))
        if self._status:
            raise error  # the connection breaks off, as it must: the answer is not whole
        answer = respond(problem, self._scope)
        await answer(self._scope, self.receive, self.send)

    def note(self, answered: "Answered | None") -> None:
        """Write the line of log and the metrics, and tell the span."""
        now = time.perf_counter()
        known = getattr(self._scope.get("route"), "path", None)
        route, status, method = known or "other", self._status or 499, self._scope["method"]
        method = method if method in METHODS else "other"  # a client can make one up
        if answered:
            answered(method, known, self._status or None)
        until = (self._first or now) - self._began
        self._service.metrics.answered(method, route, status, until)
        logger.info(
            "%s %s %s %s %.1f ms",
            self._request_id, method, route, status, (now - self._began) * 1000,
            extra={"request_id": self._request_id, "route": route, "status": status},
        )  # fmt: skip


def respond(problem: Problem, scope: Scope) -> Response:
    """Give the answer that a problem is: a page to a person, else as the path's protocol has it."""
    if is_browsing(scope):
        return problem_page(problem, scope)
    names_version = any(name == b"anthropic-version" for name, _ in scope["headers"])
    protocol = protocol_of(scope["path"], is_anthropic=names_version)
    return JSONResponse(
        problem.body(protocol),
        problem.status,
        headers=problem.headers,
        media_type=problem.media_type(protocol),
    )


def handle(request: Request, error: Exception) -> Response:
    """Turn an error of a route into its answer (FastAPI's exception handler)."""
    request_id: str = request.scope.get("state", {}).get("request_id", "")
    problem = problem_of(error, request_id)
    if problem.status >= 500:
        logger.error("%s failed: %s", request_id, where(error))
    return respond(problem, request.scope)
