"""Spans for OpenTelemetry: of requests, searches and changes of a memory, and calls of models.

Names and attributes are those of OpenTelemetry's semantic conventions for generative AI
(0.1.0); what they have no word for begins with ``holdfast.``. A span holds kinds, numbers
and the id of evidence, never a name, a key or an error's words; texts only where
``trace_texts`` is set. Telemetry is never evidence: spans are sent from a thread of their
own, get lost when nobody takes them, and nothing here reads them again.

This module is imported where ``service`` finds that spans are asked for, and nowhere else.
Its tracer is not the process's: what other packages say there repeats what they were given.
"""

import importlib
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.trace import Span, SpanKind, StatusCode, use_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .. import __version__
from ..memory.errors import ConfigurationError
from ..memory.models import Erasure
from ..retrieval.context import own_words
from ..retrieval.conversation import Turn, user_turns
from ..retrieval.engine import Holdfast
from ..retrieval.results import Injection, Loaded, Retrieval
from .problems import RefusedError
from .protocols import BROKEN_OFF, LEFT, Outcome
from .upstreams import Target

logger = logging.getLogger("holdfast.server")

SEARCH, UPSERT, DELETE, CHAT = "search_memory", "upsert_memory", "delete_memory", "chat"
OPERATIONS = {
    **dict.fromkeys(("retrieve", "inject", "converse"), SEARCH),
    **dict.fromkeys(("add", "add_many", "decide", "revise", "load"), UPSERT),
    **dict.fromkeys(("propose", "glean", "confirm", "reject"), UPSERT),
    **dict.fromkeys(("retire", "erase"), DELETE),
}
"""What the conventions call each method of the engine that has a span."""
COUNT = "gen_ai.memory.record.count"
STATUS = "holdfast.status"
EVIDENCE = "holdfast.evidence.id"
PROVIDERS = {
    "gemini": "gcp.gemini", "vertex_ai": "gcp.vertex_ai", "bedrock": "aws.bedrock",
    "azure": "azure.ai.openai", "azure_ai": "azure.ai.inference", "mistral": "mistral_ai",
    "xai": "x_ai", "watsonx": "ibm.watsonx.ai", "moonshot": "moonshot_ai",
}  # fmt: skip
"""What the conventions call a provider, where litellm has another name for it."""
PORTS = {"http": 80, "https": 443}
QUIET = ("/healthz", "/readyz", "/metrics", "/static/")
"""Paths whose requests have no span."""
CLOSE_SECONDS = 2.0
"""For so long the last spans are waited for when the server ends."""
MOST_NAME = 500
"""Characters of what a caller or an upstream names."""
MOST_TEXT = 8_000
"""Characters of a request: collectors refuse messages of more than a few megabytes."""
MOST_RECORDS = 20
"""Statements whose words are told: the first that were chosen."""
PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
HTTP_PACKAGE = "opentelemetry-exporter-otlp-proto-http"

Attributes = Mapping[str, str | int | bool | Sequence[str]]
Answered = Callable[[str, str | None, int | None], None]
"""Is told a request's method, its route's template and its status, where they are known."""


class Tracing:
    """Makes the spans of one application, and sends them."""

    def __init__(self, exporters: Sequence[SpanExporter], *, texts: bool) -> None:
        """Take where spans go, and whether texts are among them."""
        self._exporters = [_Watched(each) for each in exporters]
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        for each in self._exporters:
            self._provider.add_span_processor(BatchSpanProcessor(each))
        self._tracer = self._provider.get_tracer("holdfast", __version__)
        self._texts = texts

    @classmethod
    def open(cls, *, texts: bool) -> "Tracing":
        """Send spans to where the environment says.

        Raises:
            ConfigurationError: nothing can be sent there.
        """
        for name in ("opentelemetry.exporter", "opentelemetry.sdk"):  # they say it at each try
            logging.getLogger(name).setLevel(logging.CRITICAL)
        names = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
        return cls([_exporter(each.strip().lower()) for each in names.split(",")], texts=texts)

    def close(self) -> None:
        """Send what is left, as far as somebody takes it soon."""
        ending = threading.Thread(
            target=self._provider.shutdown, name="holdfast-spans", daemon=True
        )
        ending.start()
        ending.join(CLOSE_SECONDS)
        if ending.is_alive():
            for each in self._exporters:
                each.shutdown()

    @contextmanager
    def request(self, scope: Mapping[str, Any]) -> Generator[Answered | None]:
        """Make the span of a request, in the trace of its caller; spans in it are its children.

        Its path is not told, since subjects are named in paths.
        """
        if scope["path"].startswith(QUIET):
            yield None
            return
        about: Attributes = {
            "url.scheme": scope.get("scheme", "http"),
            "holdfast.request.id": scope["state"]["request_id"],
        }
        span = self._tracer.start_span(
            "HTTP", context=_callers(scope["headers"]), kind=SpanKind.SERVER, attributes=about
        )

        def answered(method: str, route: str | None, status: int | None) -> None:
            method = "_OTHER" if method == "other" else method
            span.update_name(method if route is None else f"{method} {route}")
            span.set_attribute("http.request.method", method)
            if route is not None:
                span.set_attribute("http.route", route)
            if status is None:
                _fail(span, "client_left")
                return
            span.set_attribute("http.response.status_code", status)
            if status >= 500:
                _fail(span, str(status))

        try:
            with use_span(span, record_exception=False, set_status_on_exception=False):
                yield answered
        except Exception as error:
            _fail(span, _kind(error))
            raise
        finally:
            span.end()

    def around(self, engine: Holdfast) -> Holdfast:
        """Give an engine whose searches and changes have spans."""
        return cast("Holdfast", _Traced(engine, self))

    def spanned(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """Give a method of the engine with a span around it."""
        operation = OPERATIONS[name]
        about: Attributes = {"gen_ai.operation.name": operation, "holdfast.operation": name}

        def call(*given: Any, **named: Any) -> Any:
            with self._tracer.start_as_current_span(
                operation, attributes=about, record_exception=False, set_status_on_exception=False
            ) as span:
                try:
                    found = method(*given, **named)
                except Exception as error:
                    _fail(span, _kind(error))
                    raise
                if span.is_recording():
                    with suppress(Exception):  # it is done: no telling may make a failure of it
                        span.set_attributes(_told(found))
                        if self._texts and operation == SEARCH:
                            span.set_attributes(_texts(given[1], found))
                return found

        return call

    def chat(self, to: Target, turn: Turn | None, *, streams: bool) -> "Chat":
        """Begin the span of a call of a model; nothing of it is sent to the upstream.

        Args:
            to: where the call goes.
            turn: what is on record of it; None: nothing.
            streams: whether a stream was asked for.
        """
        model = _plain(to.model, MOST_NAME)
        about: dict[str, str | int] = {
            "gen_ai.operation.name": CHAT,
            "gen_ai.provider.name": _provider(to.speaks, model),
            "gen_ai.request.model": model,
            STATUS: "failed" if turn is None else turn.status,
        }
        about |= _place(to.url)
        if streams:
            about["gen_ai.request.stream"] = True
        if turn is not None:
            about["holdfast.injected"] = turn.injected
            about[EVIDENCE] = turn.evidence_id
        return Chat(
            self._tracer.start_span(f"{CHAT} {model}", kind=SpanKind.CLIENT, attributes=about)
        )


class _Traced:
    """An engine whose searches and changes have spans; all else is the engine's own."""

    def __init__(self, engine: Holdfast, tracing: Tracing) -> None:
        self._engine = engine
        self._tracing = tracing

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._engine, name)
        return self._tracing.spanned(name, found) if name in OPERATIONS else found


class Chat:
    """The span of one call of a model."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._error: str | None = None

    def answered(self, status: int) -> None:
        """Note the status with which the upstream answers."""
        self._span.set_attribute("http.response.status_code", status)
        if status >= 400:
            self._error = str(status)

    def failed(self, error: Exception) -> None:
        """Note that there is no answer, or no whole one."""
        self._error = self._error or _kind(error)

    def end(self, outcome: Outcome) -> None:
        """Say what became of it, as far as it is known."""
        reason = outcome.finish_reason or ("error" if outcome.error else None)
        said = {
            "gen_ai.response.model": outcome.model,
            "gen_ai.response.id": outcome.response_id,
            "gen_ai.usage.input_tokens": outcome.input_tokens,
            "gen_ai.usage.output_tokens": outcome.output_tokens,
        }
        for name, value in said.items():
            if value is not None:
                known = _plain(value, MOST_NAME) if isinstance(value, str) else value
                self._span.set_attribute(name, known)
        if reason is not None:
            self._span.set_attribute("gen_ai.response.finish_reasons", [_plain(reason, MOST_NAME)])
        if outcome.error is not None:
            kinds = {LEFT: "client_left", BROKEN_OFF: "broken_off"}
            _fail(self._span, self._error or kinds.get(outcome.error, "upstream_error"))
        self._span.end()


# What is told


def _told(found: object) -> Attributes:
    """Say of what the engine gave how many statements it is about, and where its evidence is."""
    if isinstance(found, Injection):
        found = found.retrieval
    if isinstance(found, Retrieval):
        return _searched(len(found.injected), found.status, found.evidence_id)
    if isinstance(found, Turn):
        return _searched(found.injected, found.status, found.evidence_id)
    if isinstance(found, Loaded):
        return {COUNT: found.versions + found.proposals}
    if isinstance(found, Erasure):
        return {COUNT: found.statements + found.proposals, EVIDENCE: found.evidence_id}
    return {COUNT: len(cast("list[Any]", found)) if isinstance(found, list) else 1}


def _searched(count: int, status: str, evidence: str | None) -> Attributes:
    told = {COUNT: count, STATUS: status}
    return told if evidence is None else {**told, EVIDENCE: evidence}


def _texts(request: Any, found: object) -> Attributes:
    """Give the request's words, and the statements that were put in front of the model."""
    words = request
    if not isinstance(request, str):
        messages = [each for each in request if "role" in each]
        turns = user_turns(messages)
        words = own_words(messages[turns[-1]]) if turns else ""
    if isinstance(found, Injection | Turn):
        found = found.retrieval
    injected = found.injected if isinstance(found, Retrieval) else []
    records = [
        {"id": each.statement.id, "content": each.statement.text, "score": round(each.score, 3)}
        for each in injected[:MOST_RECORDS]
    ]
    return {
        "gen_ai.memory.query.text": _plain(words, MOST_TEXT),
        "gen_ai.memory.records": json.dumps(records),
    }


def _plain(text: str, most: int) -> str:
    """Give a text as OTLP can carry it: no lone surrogates, for which it would lose the batch."""
    return text[:most].encode(errors="replace").decode()


def _fail(span: Span, kind: str) -> None:
    span.set_status(StatusCode.ERROR)
    span.set_attribute("error.type", kind)


def _kind(error: BaseException) -> str:
    """Give an error's kind: of a refusal its status, else its class."""
    return str(error.status) if isinstance(error, RefusedError) else type(error).__qualname__


def _provider(speaks: str, model: str) -> str:
    if speaks != "litellm":
        return speaks
    named = model.partition("/")[0] if "/" in model else "openai"
    return PROVIDERS.get(named, named)


def _place(url: str | None) -> dict[str, str | int]:
    """Give an upstream's host and port, without whatever else its URL says."""
    try:
        parts = urlsplit(url or "")
        port = parts.port or PORTS.get(parts.scheme)
    except ValueError:
        return {}
    if not parts.hostname:
        return {}
    return {"server.address": parts.hostname, **({"server.port": port} if port else {})}


# Where spans come from and go to


def _callers(headers: Sequence[tuple[bytes, bytes]]) -> Context:
    """Give the context that a caller names (W3C ``traceparent``); an empty one: it names none."""
    sent: dict[str, list[str]] = {}
    for name, value in headers:
        if name in (b"traceparent", b"tracestate"):
            sent.setdefault(name.decode(), []).append(value.decode("latin-1"))
    if len(sent.get("traceparent", ())) != 1:
        return Context()
    return TraceContextTextMapPropagator().extract(sent, context=Context())


def _resource() -> Resource:
    """Say who sends; what the environment says of it goes first."""
    told = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in told
    own = {} if named else {"service.name": "holdfast"}
    return Resource.create({**own, "service.version": __version__})


def _exporter(name: str) -> SpanExporter:
    """Make what sends spans.

    Raises:
        ConfigurationError: there is nothing of that name, or a variable of it is wrong.
    """
    if name == "console":  # standard output is the protocol's, or the first key's
        return ConsoleSpanExporter(out=sys.stderr)
    if name != "otlp":
        raise ConfigurationError(
            "OTEL_TRACES_EXPORTER names an exporter that is not known here; it takes otlp, "
            "console or none"
        )
    said = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get(PROTOCOL)
    form = {"grpc": "grpc", "http/protobuf": "http"}.get((said or "grpc").strip().lower())
    if form is None:
        raise ConfigurationError(f"{PROTOCOL} is grpc or http/protobuf; correct it")
    try:
        found = importlib.import_module(f"opentelemetry.exporter.otlp.proto.{form}.trace_exporter")
    except ImportError:
        raise ConfigurationError(
            f"{PROTOCOL} is http/protobuf, which needs another package; install it with: "
            f"pip install {HTTP_PACKAGE}, or use grpc (the collector's port 4317)"
        ) from None
    try:
        return found.OTLPSpanExporter()
    except Exception as error:  # without its words, which may be those of a header with a key
        raise ConfigurationError(
            f"spans cannot be sent as the OTEL_EXPORTER_OTLP_… variables say "
            f"({type(error).__name__}); correct them, or set OTEL_TRACES_EXPORTER=none"
        ) from None


class _Watched(SpanExporter):
    """An exporter that tells once when nobody takes what it sends, and once when somebody does."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._is_down = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans."""
        try:
            result = self._inner.export(spans)
        except Exception:
            result = SpanExportResult.FAILURE
        is_down = result is not SpanExportResult.SUCCESS
        if is_down and not self._is_down:
            logger.warning("spans could not be delivered to the collector, and are lost")
        elif self._is_down and not is_down:
            logger.info("spans are delivered to the collector again")
        self._is_down = is_down
        return result

    def shutdown(self) -> None:
        """End, without waiting for what is on its way."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what is held back."""
        return self._inner.force_flush(timeout_millis)
