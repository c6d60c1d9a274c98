"""The Model Context Protocol over HTTP, at ``/mcp``: whoever has a key gives a model the tools.

Every request stands alone: no sessions are held, and the key of each one says who asks. The
protocol's SDK (``mcp_server``) is imported while the application starts to answer.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from .auth import header_text
from .problems import RefusedError
from .service import Service
from .tools import SESSION, Session

PATH = "/mcp"


def add(app: FastAPI, service: Service) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Add the route; give what runs while the application does."""
    door = _Door(service)
    app.router.routes.append(door.route)
    return door.opened


class _Door:
    """The route: finds who asks before the protocol is spoken."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._ready: anyio.Event | None = None
        self._manager: Any = None
        self.route = Route(PATH, endpoint=self, methods=["POST"], include_in_schema=False)

    @asynccontextmanager
    async def opened(self, _: FastAPI) -> AsyncGenerator[None]:
        """Run the protocol's own part, which is ready a little later."""
        self._ready = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._run, self._ready)
            yield
            tasks.cancel_scope.cancel()

    async def _run(self, ready: anyio.Event) -> None:
        def load() -> Any:
            from .mcp_server import over_http

            return over_http(self._service.settings.body_limit)

        self._manager = await anyio.to_thread.run_sync(load)
        async with self._manager.run():
            ready.set()
            await anyio.sleep_forever()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope["route"] = self.route
        headers = Headers(scope=scope)
        self._check_origin(headers)
        scope[SESSION] = await anyio.to_thread.run_sync(self._session, scope, headers)
        assert self._ready is not None  # the application has started
        await self._ready.wait()
        await self._manager.handle_request(scope, receive, send)

    def _check_origin(self, headers: Headers) -> None:
        """Refuse pages of other origins, which a browser may have been led to."""
        origin = headers.get("origin")
        own = origin is not None and origin.partition("://")[2] == headers.get("host")
        if origin is not None and not own and origin not in self._service.settings.allowed_origins:
            raise RefusedError(
                403, "pages of that origin may not call this server; HOLDFAST_ALLOWED_ORIGINS"
            )

    def _session(self, scope: Scope, headers: Headers) -> Session:
        service = self._service
        caller = service.caller(scope, headers)
        named = None if caller.subject else header_text(headers.get("x-holdfast-subject", ""))
        return Session(
            service.engine(caller),
            caller,
            bound=named or None,
            service=service,
        )
