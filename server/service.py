"""What every door shares while a server runs: the engine, its tenants, the meter, the metrics."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import HTTPConnection

from ..retrieval.engine import Holdfast
from ..retrieval.settings import Settings
from .auth import LOCAL, Caller, authenticate
from .meter import Meter
from .metrics import Metrics

LOCAL_SCOPE = "holdfast.local"
"""Set in the scope of a connection through the socket in the data directory."""


@dataclass
class Service:
    """One running server."""

    root: Holdfast
    meter: Meter
    metrics: Metrics = field(default_factory=Metrics)

    @classmethod
    def of(cls, holdfast: Holdfast) -> "Service":
        """Make what doors share around an opened engine."""
        return cls(holdfast, Meter(holdfast, holdfast.settings.rate_limit))

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
        return self.root.of_tenant(caller.tenant)


def service_of(connection: HTTPConnection) -> Service:
    """Give what the application of a request shares (FastAPI's ``Depends``)."""
    return connection.app.state.service
