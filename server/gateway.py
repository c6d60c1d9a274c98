"""The gateway: a request for any model passes through, and takes the right values with it.

For each call the retrieval and the intent are durable before anything is sent, and the
outcome is durable before the end of the answer is released, also when the upstream breaks
off or the client leaves. It knows no protocol's fields (``protocols``) and no connection
(``upstreams``).
"""

import hashlib
import json
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import anyio
from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ..memory import times
from ..memory.errors import ErasedError, HoldfastError, InvalidInputError
from ..retrieval.conversation import Intent, Turn
from ..retrieval.engine import Holdfast
from .answers import retrieval_headers
from .auth import SUBJECT_HEADERS, Caller, header_text, subject_in_body
from .problems import RefusedError
from .protocols import (
    BROKEN_OFF,
    LEFT,
    PROTOCOLS,
    Body,
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
OWN_FIELD = "holdfast"
"""Of a request's body: what is meant for us, and goes no further."""
OWN_OPTIONS = ("subject", "subjects", "contexts", "limit", "budget", "threshold")
DRAIN_SECONDS = 0.5


@dataclass(frozen=True)
class Asked:
    """A request as it came in."""

    protocol: Protocol
    raw: bytes
    body: Body
    headers: Mapping[str, str]
    options: Mapping[str, Any]
    is_whole: bool
    """Whether nothing of ours had to be taken out: ``raw`` can go as it came."""

    @property
    def model(self) -> str:
        """The model that is asked for."""
        return self.body["model"]


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
        asked = await _asked(request, protocol)
        call = await run_in_threadpool(self._begin, request, asked)
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
        except BaseException:
            with anyio.CancelScope(shield=True):
                await stack.aclose()
            await call.end(Outcome(error=LEFT), None)
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
            return self.client.send(
                "POST", url_of(to, protocol.path), headers_for(to, asked.headers), call.sent
            )
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
        except (RefusedError, HoldfastError) as error:
            message = str(error) if isinstance(error, RefusedError) else "it could not be recorded"
            if call.span:
                call.span.failed(error)
            if not call.ended:
                await call.end(replace(outcome, error=message), digest.hexdigest())
            yield protocol.error_event(message)
        finally:
            await call.end(replace(outcome, error=LEFT), digest.hexdigest())

    def _begin(self, request: Request, asked: Asked) -> Call:
        """Find who asks and for whom, retrieve, and record that a model is about to be called."""
        service = self._service
        caller = service.caller(request.scope, asked.headers)
        caller.need("retrieve")
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
        self, engine: Holdfast, subjects: Sequence[str], asked: Asked, to: Target
    ) -> Turn:
        protocol, body = asked.protocol, {**asked.body, "model": to.model}
        unchanged = asked.is_whole and to.model == asked.model

        def prepare(messages: list[dict[str, Any]], system: str) -> Intent:
            same = unchanged and not system and messages == protocol.messages(asked.body)
            sent = asked.raw if same else _dump(protocol.placed(body, messages, system))
            return Intent(to.speaks, to.model, sent)

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
        subjects = caller.whose(_named(asked))
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
        asked = await _asked(request, protocol)

        def prepared() -> tuple[Target, bytes]:
            caller = self._service.caller(request.scope, asked.headers)
            caller.need("retrieve")
            subjects = self._subjects(caller, asked)
            self._service.meter.admit(caller, "gateway.count")
            to = target(self._service.settings, protocol, asked.model)
            found = self._service.engine(caller).inject(
                subjects, protocol.messages(asked.body), placement="user", record=False
            )
            body = {**asked.body, "model": to.model}
            return to, _dump(protocol.placed(body, found.messages, ""))

        to, sent = await run_in_threadpool(prepared)
        if to.speaks != protocol.envelope:
            raise RefusedError(404, "tokens are counted for upstreams of this protocol alone")
        url = url_of(to, "/messages/count_tokens")
        return await self._relayed("POST", url, headers_for(to, asked.headers), sent)

    async def models(self, request: Request, name: str = "") -> Response:
        """List the models of the default upstream, as it says them."""
        headers = dict(request.headers)

        def admitted() -> None:
            caller = self._service.caller(request.scope, headers)
            caller.need("retrieve")
            self._service.meter.admit(caller, "gateway.models")

        await run_in_threadpool(admitted)
        protocol = PROTOCOLS[2] if "anthropic-version" in headers else PROTOCOLS[0]
        to = target(self._service.settings, protocol, name)
        url = url_of(to, f"/models/{to.model}" if name else "/models")
        return await self._relayed("GET", url, headers_for(to, headers), b"")

    async def _relayed(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> Response:
        async with self.client.send(method, url, headers, body) as answer:
            content = b"".join([chunk async for chunk in answer.chunks])
            return Response(content, answer.status, answer.headers)


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


async def _asked(request: Request, protocol: Protocol) -> Asked:
    """Read a request, and take out what is ours."""
    raw = await request.body()
    try:
        body: Any = json.loads(raw)
    except (ValueError, RecursionError):
        raise RefusedError(400, "the body is no JSON") from None
    if not isinstance(body, dict):
        raise RefusedError(400, "the body is no JSON object")
    fields = cast("Body", body)
    if not isinstance(fields.get("model"), str) or not fields["model"]:
        raise RefusedError(400, "model: name the model to be called")
    is_whole = OWN_FIELD not in fields
    options: Any = fields.pop(OWN_FIELD, {})
    if not isinstance(options, dict) or not set(cast("Body", options)) <= set(OWN_OPTIONS):
        raise RefusedError(400, f"{OWN_FIELD} takes: {', '.join(OWN_OPTIONS)}")
    given = cast("Body", options)
    contexts = request.headers.get("x-holdfast-contexts")
    if contexts and "contexts" not in given:
        given = {**given, "contexts": [each.strip() for each in contexts.split(",")]}
    return Asked(protocol, raw, fields, dict(request.headers), given, is_whole)


def _named(asked: Asked) -> list[str]:
    """Give the subjects that a request names, in the first place in which it does."""
    options = asked.options
    listed = options.get("subjects") or options.get("subject")
    if listed:
        return [listed] if isinstance(listed, str) else list(listed)
    for name in SUBJECT_HEADERS:
        if value := asked.headers.get(name):
            return [header_text(value)]
    told = subject_in_body(asked.body)
    return [told] if told else []


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
