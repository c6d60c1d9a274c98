"""The gateway: a request for any model passes through, and takes the right values with it.

For each call the retrieval and the intent are durable before anything is sent, and the
outcome is durable before the end of the answer is released, also when the upstream breaks
off or the client leaves. It knows no protocol's fields (``protocols``) and no connection
(``upstreams``).
"""

import hashlib
import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ..memory import times
from ..memory.errors import ErasedError, HoldfastError, InvalidInputError
from ..retrieval.conversation import Intent, Turn
from ..retrieval.engine import Holdfast
from .answers import retrieval_headers
from .auth import Caller
from .incoming import Asked, is_small, joined, model_name, query_of, read
from .problems import RefusedError
from .protocols import (
    BROKEN_OFF,
    INTERNAL,
    LEFT,
    PROTOCOLS,
    Outcome,
    Protocol,
    Splitter,
    event_data,
    failed,
)
from .service import Service
from .upstreams import Answer, Client, Target, headers_for, provider_key, target, url_of

if TYPE_CHECKING:
    from .tracing import Chat

logger = logging.getLogger("holdfast.server")
T = TypeVar("T")
DRAIN_SECONDS = 0.5


@dataclass
class Call:
    """A call on its way: what is on record of it, and who records what becomes of it."""

    engine: Holdfast
    service: Service
    protocol: Protocol
    target: Target
    sent: bytes
    turn: Turn | None
    """None where nothing could be recorded, and the request is passed on all the same."""
    ended: bool = False
    span: "Chat | None" = None

    @property
    def headers(self) -> dict[str, str]:
        """What every answer says of the values that went with the request."""
        if self.turn is None:
            return retrieval_headers("failed", 0, None)
        return retrieval_headers(self.turn.status, self.turn.injected, self.turn.evidence_id)

    async def end(self, outcome: Outcome, digest: str | None) -> None:
        """Record what became of it, durably, whatever happens to the client meanwhile."""
        if self.ended:
            return
        self.ended = True
        try:
            with anyio.CancelScope(shield=True):
                await run_in_threadpool(self._record, outcome, digest)
        finally:
            if self.span:
                self.span.end(outcome)

    def _record(self, outcome: Outcome, digest: str | None) -> None:
        what = {None: "answered", LEFT: "left"}.get(outcome.error, "failed")
        counts = outcome.input_tokens, outcome.output_tokens
        self.service.metrics.called(self.protocol.name, what, *counts)
        if self.turn is None:
            return
        try:
            self.engine.audit.end_call(self.turn.call_id, response_sha256=digest, **asdict(outcome))
        except ErasedError:  # nothing more is to be kept of it
            return
        except HoldfastError:
            if self.service.settings.on_failure == "refuse":
                raise
            logger.warning("the outcome of a call could not be recorded")


class Gateway:
    """The routes, and what they share."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._client: Client | None = None
        self._down_since: dict[str, int] = {}

    @asynccontextmanager
    async def opened(self, _: FastAPI) -> AsyncGenerator[None]:
        """Hold the connections to upstreams."""
        self._client = Client(self._service.settings.upstream_timeout)
        try:
            yield
        finally:
            from .translation import close

            await close()
            await self._client.close()

    @property
    def client(self) -> Client:
        """The connections; there are none before the application has started."""
        assert self._client is not None
        return self._client

    # A model is called

    async def complete(self, request: Request, protocol: Protocol) -> Response:
        """Answer a request for a model."""
        asked, call = await self._read(request, protocol, self._begin)
        if tracing := self._service.tracing:
            streams = asked.body.get("stream") is True
            call.span = tracing.chat(call.target, call.turn, streams=streams)
        stack = AsyncExitStack()
        try:
            answer = await stack.enter_async_context(self._send(call, asked))
            if call.span:
                call.span.answered(answer.status)
            if answer.is_stream and answer.status == 200:
                events = self._streamed(call, answer, stack)
                return _Relay(call, stack, events, answer.headers | call.headers)
            content = b"".join([chunk async for chunk in answer.chunks])
        except RefusedError as refusal:
            if call.span:
                call.span.failed(refusal)
            await stack.aclose()
            await call.end(Outcome(error=str(refusal)), None)
            raise RefusedError(
                refusal.status, str(refusal), headers={**refusal.headers, **call.headers}
            ) from None
        except BaseException as error:
            if call.span and isinstance(error, Exception) and _why(error) != LEFT:
                call.span.failed(error)
            with anyio.CancelScope(shield=True):
                await stack.aclose()
            await call.end(Outcome(error=_why(error)), None)
            raise
        await stack.aclose()
        said = protocol.parse(content)
        outcome = protocol.read(said, Outcome())
        if answer.status >= 400 or failed(said):
            words = failed(said) or f"the upstream answered {answer.status}"
            outcome = replace(outcome, error=words)
        await call.end(outcome, hashlib.sha256(content).hexdigest())
        return Response(content, answer.status, answer.headers | call.headers)

    def _send(self, call: Call, asked: Asked) -> Any:
        """Send a call to its upstream: as it is, or translated."""
        to, protocol = call.target, asked.protocol
        if to.speaks == protocol.envelope:
            url, headers = url_of(to, protocol.path), headers_for(to, asked.headers)
            return self.client.send("POST", url, headers, call.sent, query=asked.query)
        from .translation import send  # litellm takes seconds to import

        key = to.key or provider_key(asked.headers)
        return send(protocol, to, key, call.sent, self._service.settings.upstream_timeout)

    async def _streamed(
        self, call: Call, answer: Answer, stack: AsyncExitStack
    ) -> AsyncGenerator[bytes]:
        """Relay events as they come; the last one once the outcome is durable."""
        protocol, splitter, digest = call.protocol, Splitter(), hashlib.sha256()
        outcome = Outcome()
        try:
            async with stack:
                async for chunk in answer.chunks:
                    ready = b""
                    for event in splitter.feed(chunk):
                        data = event_data(event)
                        said = protocol.parse(data)
                        outcome = replace(protocol.read(said, outcome), error=failed(said))
                        digest.update(event)
                        if protocol.ends(data, said):
                            if ready:
                                yield ready
                            await call.end(outcome, digest.hexdigest())
                            yield event
                            await _drained(answer)
                            return
                        ready += event
                    if ready:
                        yield ready
            await call.end(replace(outcome, error=BROKEN_OFF), digest.hexdigest())
            yield protocol.error_event(BROKEN_OFF)
        except Exception as error:
            if call.span:
                call.span.failed(error)
            await call.end(replace(outcome, error=_why(error)), digest.hexdigest())
            if not isinstance(error, (RefusedError, HoldfastError)):
                raise
            yield protocol.error_event(_why(error))
        finally:
            await call.end(replace(outcome, error=LEFT), digest.hexdigest())

    async def _read(
        self, request: Request, protocol: Protocol, work: Callable[[Caller, Asked], T]
    ) -> tuple[Asked, T]:
        """Check the key, then read the body, then work on it: all in threads, in one if it can be.

        Nothing of a body is looked at, and no large one is waited for, before the key holds.
        """
        headers = joined(request.headers)
        known = None
        if not is_small(headers):
            known = await run_in_threadpool(self._admitted, request, headers)
        raw = await request.body()

        def done() -> tuple[Asked, T]:
            caller = known or self._admitted(request, headers)
            asked = read(protocol, raw, headers, request.scope)
            return asked, work(caller, asked)

        return await run_in_threadpool(done)

    def _admitted(self, request: Request, headers: Mapping[str, str]) -> Caller:
        caller = self._service.caller(request.scope, headers)
        caller.need("retrieve")
        return caller

    def _begin(self, caller: Caller, asked: Asked) -> Call:
        """Tell for whom is asked, retrieve, and record that a model is about to be called."""
        service = self._service
        subjects = self._subjects(caller, asked)
        service.meter.admit(caller, f"gateway.{asked.protocol.name}")
        engine = service.engine(caller)
        to = target(service.settings, asked.protocol, asked.model)
        try:
            turn = self._converse(engine, subjects, asked, to)
        except InvalidInputError:
            raise
        except Exception as error:
            service.metrics.retrieved("gateway", "failed")
            if service.settings.on_failure == "refuse":
                raise _refusal(error) from error
            logger.warning("passed on without values: %s", type(error).__name__)
            self._down_since.setdefault(caller.tenant, times.now())
            body = {**asked.body, "model": to.model}
            return Call(engine, service, asked.protocol, to, _dump(body), None)
        service.metrics.retrieved("gateway", turn.status)
        self._note_gap(engine)
        return Call(engine, service, asked.protocol, to, turn.intent.body, turn)

    def _converse(
        self,
        engine: Holdfast,
        subjects: Sequence[str],
        asked: Asked,
        to: Target,
        *,
        is_sent: bool = True,
    ) -> Turn:
        """Prepare a request, and record it; one that is not sent ends before that."""
        protocol, body = asked.protocol, {**asked.body, "model": to.model}
        unchanged = asked.is_whole and to.model == asked.model

        def prepare(messages: list[dict[str, Any]], system: str) -> Intent:
            same = unchanged and not system and messages == protocol.messages(asked.body)
            sent = asked.raw if same else _dump(protocol.placed(body, messages, system))
            intent = Intent(to.speaks, to.model, sent)
            if not is_sent:
                raise _NotSentError(intent)
            return intent

        options = asked.options
        return engine.converse(
            subjects,
            protocol.messages(asked.body),
            prepare,
            limit=options.get("limit"),
            budget=options.get("budget"),
            threshold=options.get("threshold"),
            contexts=options.get("contexts") or (),
        )

    def _note_gap(self, engine: Holdfast) -> None:
        """Record that nothing was recorded for a while, once it can be again."""
        since = self._down_since.pop(engine.tenant, None)
        if since is not None:
            reason = "requests were passed on without values, since nothing could be recorded"
            engine.audit.record_gap(reason, since=times.to_datetime(since))

    def _subjects(self, caller: Caller, asked: Asked) -> list[str]:
        """Tell on whose behalf a request is made."""
        subjects = caller.whose(asked.named)
        if not subjects:
            raise RefusedError(
                400,
                "say whose values count: x-holdfast-subject, user, safety_identifier or "
                "metadata.user_id; or use a personal key",
            )
        return subjects

    # What calls no model

    async def count(self, request: Request, protocol: Protocol) -> Response:
        """Count tokens, with what would be injected; nothing is recorded."""
        asked, (to, sent) = await self._read(request, protocol, self._counted)
        url = url_of(to, "/messages/count_tokens")
        headers = headers_for(to, asked.headers)
        return await self._relayed("POST", url, headers, sent, asked.query)

    def _counted(self, caller: Caller, asked: Asked) -> tuple[Target, bytes]:
        """Give what would be sent, short of recording that it is."""
        subjects = self._subjects(caller, asked)
        self._service.meter.admit(caller, "gateway.count")
        to = target(self._service.settings, asked.protocol, asked.model)
        if to.speaks != asked.protocol.envelope:
            raise RefusedError(404, "tokens are counted for upstreams of this protocol alone")
        engine = self._service.root.of_tenant(caller.tenant)  # no span: nothing comes of it
        try:
            self._converse(engine, subjects, asked, to, is_sent=False)
        except _NotSentError as prepared:
            return to, prepared.intent.body
        raise AssertionError  # what would be sent is always prepared

    async def models(self, request: Request, name: str | None = None) -> Response:
        """List the models of the default upstream, as it says them, or describe one."""
        headers = joined(request.headers)

        def admitted() -> None:
            caller = self._admitted(request, headers)
            self._service.meter.admit(caller, "gateway.models")

        await run_in_threadpool(admitted)
        protocol = PROTOCOLS[2] if "anthropic-version" in headers else PROTOCOLS[0]
        to, path = target(self._service.settings, protocol, name or ""), "/models"
        if name is not None:
            model_name(name)
            path = f"/models/{model_name(to.model)}"
        if to.url is None:
            raise RefusedError(404, "models are described by upstreams that are relayed to alone")
        query = query_of(request.scope) if to.speaks == protocol.envelope else b""
        return await self._relayed("GET", url_of(to, path), headers_for(to, headers), b"", query)

    async def _relayed(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, query: bytes
    ) -> Response:
        async with self.client.send(method, url, headers, body, query=query) as answer:
            content = b"".join([chunk async for chunk in answer.chunks])
            return Response(content, answer.status, answer.headers)


class _NotSentError(Exception):
    """A request is prepared, and that is all that was wanted."""

    def __init__(self, intent: Intent) -> None:
        super().__init__()
        self.intent = intent


class _Relay(StreamingResponse):
    """A stream that is closed at once when the client leaves, be it before the first event."""

    def __init__(
        self,
        call: Call,
        stack: AsyncExitStack,
        events: AsyncGenerator[bytes],
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(events, headers=headers)
        self._call = call
        self._stack = stack
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._events.aclose()
                await self._stack.aclose()  # events that were never asked for close nothing
                await self._call.end(Outcome(error=LEFT), None)


async def _drained(answer: Answer) -> None:
    """Read what follows the last event, so that the connection can be used again."""
    with anyio.move_on_after(DRAIN_SECONDS):
        async for _ in answer.chunks:
            pass


def add(app: FastAPI, service: Service) -> Any:
    """Add the routes."""
    gateway = Gateway(service)
    chat, responses, messages = PROTOCOLS

    @app.post("/v1/chat/completions", tags=["gateway"])
    async def chat_completions(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Pass on a request in OpenAI's form, with the values that bear on it."""
        return await gateway.complete(request, chat)

    @app.post("/v1/responses", tags=["gateway"])
    async def create_response(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Pass on a request in the form of OpenAI's responses."""
        return await gateway.complete(request, responses)

    @app.post("/v1/messages", tags=["gateway"])
    async def create_message(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Pass on a request in Anthropic's form."""
        return await gateway.complete(request, messages)

    @app.post("/v1/messages/count_tokens", tags=["gateway"])
    async def count_tokens(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Count the tokens of a request in Anthropic's form, values included."""
        return await gateway.count(request, messages)

    @app.get("/v1/models", tags=["gateway"])
    async def list_models(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """List the upstream's models."""
        return await gateway.models(request)

    @app.get("/v1/models/{name:path}", tags=["gateway"])
    async def get_model(request: Request, name: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Describe one of the upstream's models."""
        return await gateway.models(request, name)

    return gateway.opened


def _why(error: BaseException) -> str:
    """Say why a call ended, for the record: nothing of what failed here."""
    if isinstance(error, RefusedError):
        return str(error)
    if isinstance(error, HoldfastError):
        return "it could not be recorded"
    is_gone = isinstance(error, ClientDisconnect) or not isinstance(error, Exception)
    return LEFT if is_gone else INTERNAL


def _refusal(error: Exception) -> RefusedError:
    if isinstance(error, RefusedError):
        return error
    why = str(error) if isinstance(error, HoldfastError) else "an internal error"
    return RefusedError(503, f"values could not be retrieved or recorded; nothing was sent: {why}")


def _dump(body: Any) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can only escape
        return json.dumps(body, separators=(",", ":")).encode()
