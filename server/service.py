"""What every door shares while a server runs: the engine, its tenants, the meter, the metrics.

And the spans for OpenTelemetry, where they are asked for.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.requests import HTTPConnection

from ..retrieval.engine import Holdfast
from ..retrieval.settings import Settings
from .auth import LOCAL, Caller, authenticate
from .meter import Meter
from .metrics import Metrics

if TYPE_CHECKING:
    from .tracing import Tracing

LOCAL_SCOPE = "holdfast.local"
"""Set in the scope of a connection through the socket in the data directory."""


@dataclass
class Service:
    """One running server."""

    root: Holdfast
    meter: Meter
    metrics: Metrics = field(default_factory=Metrics)
    tracing: "Tracing | None" = None
    """None: no spans are asked for."""

    @classmethod
    def of(cls, holdfast: Holdfast) -> "Service":
        """Make what doors share around an opened engine.

        Raises:
            ConfigurationError: spans cannot be sent where they are to go.
        """
        settings = holdfast.settings
        meter = Meter(holdfast, settings.rate_limit)
        return cls(holdfast, meter, tracing=_tracing(texts=settings.trace_texts))

    def close(self) -> None:
        """Write and send what is held back."""
        self.meter.close()
        if self.tracing:
            self.tracing.close()

    @property
    def settings(self) -> Settings:
        """What is set."""
        return self.root.settings

    def caller(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> Caller:
        """Find who asks, by key or by the socket that it came through.

        Raises:
            RefusedError: 401, no valid key.
        """
        if scope.get(LOCAL_SCOPE) and "x-holdfast-key" not in headers:
            tenant = headers.get("x-holdfast-tenant")
            return LOCAL if tenant is None else Caller(tenant, "admin", "local")
        return authenticate(self.root, headers)

    def engine(self, caller: Caller) -> Holdfast:
        """Give the engine of a caller's tenant."""
        engine = self.root.of_tenant(caller.tenant)
        return self.tracing.around(engine) if self.tracing else engine


def _tracing(*, texts: bool) -> "Tracing | None":
    """Open what makes spans, where OpenTelemetry's own variables ask for them."""
    said = os.environ.get
    wanted = said("OTEL_TRACES_EXPORTER", "").strip().lower()
    place = said("OTEL_EXPORTER_OTLP_ENDPOINT") or said("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    is_disabled = said("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if is_disabled or wanted == "none" or not (wanted or place):
        return None
    from .tracing import Tracing

    return Tracing.open(texts=texts)


def service_of(connection: HTTPConnection) -> Service:
    """Give what the application of a request shares (FastAPI's ``Depends``)."""
    return connection.app.state.service
