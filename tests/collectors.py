"""Collectors of OpenTelemetry on loopback, which keep the very bytes that came."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
KINDS = {1: "internal", 2: "server", 3: "client"}


@dataclass(frozen=True)
class Spanned:
    """A span as it came."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    failed: bool
    words: str
    """Of its status."""
    events: int
    attributes: dict[str, Any]
    seconds: float

    @property
    def operation(self) -> str:
        return self.attributes.get("holdfast.operation", "")


@dataclass
class Collector:
    """What came to a collector."""

    endpoint: str
    bodies: list[bytes] = field(default_factory=list)

    @property
    def everything(self) -> str:
        return b"\n".join(self.bodies).decode("utf-8", "replace")

    @property
    def resources(self) -> list[dict[str, Any]]:
        return [_values(each.resource.attributes) for each in self._all()]

    @property
    def spans(self) -> list[Spanned]:
        """In the order in which they began."""
        found = [span for each in self._all() for scope in each.scope_spans for span in scope.spans]
        return [
            Spanned(
                name=span.name, kind=KINDS[span.kind], trace=span.trace_id.hex(),
                id=span.span_id.hex(), parent=span.parent_span_id.hex(),
                failed=span.status.code == 2, words=span.status.message, events=len(span.events),
                attributes=_values(span.attributes),
                seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
            )
            for span in sorted(found, key=lambda each: each.start_time_unix_nano)
        ]  # fmt: skip

    def of(self, name: str) -> list[Spanned]:
        return [span for span in self.spans if span.attributes.get("gen_ai.operation.name") == name]

    def wait(self, count: int) -> list[Spanned]:
        """Wait until so many spans have come."""
        end = time.monotonic() + 20
        while len(self.spans) < count and time.monotonic() < end:
            time.sleep(0.02)
        return self.spans

    def _all(self) -> list[Any]:
        requests = [
            trace_service_pb2.ExportTraceServiceRequest.FromString(body) for body in self.bodies
        ]
        return [each for request in requests for each in request.resource_spans]


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: Any) -> Any:
    which = value.WhichOneof("value")
    if which == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, which)


@contextmanager
def collecting(*, holds: threading.Event | None = None) -> Generator[Collector]:
    """Run a collector; ``holds``: it answers nothing until that is set."""

    def export(body: bytes, _: grpc.ServicerContext) -> bytes:
        if holds is not None:
            holds.wait(60)
        collector.bodies.append(body)
        return b""

    server = grpc.server(ThreadPoolExecutor(2))
    handler = grpc.unary_unary_rpc_method_handler(export)  # bytes in, bytes out
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {"Export": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    collector = Collector(f"http://127.0.0.1:{port}")
    server.start()
    try:
        yield collector
    finally:
        if holds is not None:
            holds.set()
        server.stop(0).wait()


@contextmanager
def silent() -> Generator[str]:
    """Give an address at which connections are taken and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def traced(endpoint: str, **more: str) -> Generator[None]:
    """Ask for spans by the environment, which go to an endpoint soon."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [each for each in os.environ if each.startswith("OTEL_")]:
            patch.delenv(name)
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        for name, value in more.items():
            patch.setenv(name, value)
        yield
