"""The web application: the one place where its doors are put together.

Each door is a router or an ASGI application of its own file; they share a ``Service``.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)

import anyio.to_thread
from fastapi import FastAPI, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from starlette.exceptions import HTTPException
from starlette.requests import Request

from .. import __version__
from ..memory.errors import HoldfastError
from ..retrieval.engine import Holdfast
from .gate import Gate, handle, respond
from .problems import Problem
from .service import Service

Opening = Callable[[FastAPI], AbstractAsyncContextManager[None]]
"""What a door opens when the application starts, and closes when it ends."""
THREADS = 64
"""Requests that work at once; more wait."""


def create_app(holdfast: Holdfast) -> FastAPI:
    """Make the application around an opened engine; whoever opened it closes it afterwards."""
    service = Service.of(holdfast)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        with suppress(HoldfastError):  # it can wait for the next start
            await anyio.to_thread.run_sync(holdfast.tidy)
        service.meter.start()
        async with AsyncExitStack() as stack:
            for door in doors:
                await stack.enter_async_context(door(app))
            try:
                yield
            finally:
                await anyio.to_thread.run_sync(service.close)

    app = FastAPI(
        title="Holdfast",
        version=__version__,
        summary="A values memory for language models, with evidence.",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.service = service
    doors = _add_doors(app, service)
    _add_health(app, service)
    _add_errors(app)
    if origins := holdfast.settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"],
            expose_headers=["x-holdfast-evidence", "x-holdfast-injected", "x-holdfast-status"],
        )  # fmt: skip
    app.add_middleware(Gate, service=service)
    return app


def _add_doors(app: FastAPI, service: Service) -> list[Opening]:
    """Add every door; give what opens and closes with the application."""
    from . import api, gateway, mcp, pages

    openings = [door.add(app, service) for door in (gateway, api, mcp, pages)]
    return [opening for opening in openings if opening is not None]


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", tags=["health"])
    def healthz() -> dict[str, str]:  # pyright: ignore[reportUnusedFunction]
        """Tell that the process answers."""
        return {"status": "ok", "version": __version__}

    @app.get("/readyz", tags=["health"])
    def readyz() -> dict[str, str]:  # pyright: ignore[reportUnusedFunction]
        """Tell that the record can be read and the model is loaded."""
        service.root.embedder.embed(["ready"])
        service.root.subjects()
        return {"status": "ready"}

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:  # pyright: ignore[reportUnusedFunction]
        return Response(service.metrics.text(), media_type=service.metrics.media_type)


def _add_errors(app: FastAPI) -> None:
    async def on_error(request: Request, error: Exception) -> Response:
        return handle(request, error)

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        told = "; ".join(
            f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}"
            for each in error.errors()[:5]
        )
        return respond(Problem(422, told, _id(request), {}), request.scope)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        return respond(
            Problem(error.status_code, error.detail, _id(request), headers), request.scope
        )

    app.add_exception_handler(HoldfastError, on_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)


def _id(request: Request) -> str:
    return request.scope.get("state", {}).get("request_id", "")
