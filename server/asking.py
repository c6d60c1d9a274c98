"""What every route of the API begins and ends with: who asks, about whom, and the answer.

A route names the permission that it needs and the operation that it counts as, and gets an
``Asking``. What is another subject's is answered as what is not there, in one place for
each kind of thing.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Path, Query, Request, Security
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from ..memory import ledger, proposals, store
from ..memory.errors import NotFoundError
from ..memory.models import Evidence, Proposal, Statement
from ..retrieval.engine import Holdfast
from ..retrieval.writing import MOST_NAME, name
from .auth import Caller, Permission
from .incoming import is_small
from .problems import TITLES
from .render import plain_value
from .service import Service, service_of

T = TypeVar("T")
MOST_LISTED = 1000
"""Entries of a list in one answer."""
PROBLEM = "application/problem+json"
PREFIX = "/api/v1"

SubjectName = Annotated[
    str,
    Path(
        description="The caller's own name for whose values these are, percent-encoded.",
        examples=["ada"],
        json_schema_extra={"minLength": 1, "maxLength": MOST_NAME},
    ),
]
Id = Annotated[str, Path(description="As it was given.")]


@dataclass(frozen=True, slots=True)
class Listing:
    """Which part of a list is asked for."""

    limit: Annotated[int, Query(ge=0, le=MOST_LISTED, description="Most entries.")] = 100
    offset: Annotated[
        int, Query(ge=0, le=1_000_000_000, description="Entries to leave out before.")
    ] = 0

    def answer(self, values: Sequence[Any]) -> JSONResponse:
        """Give the part, and how long the whole is in ``x-total-count``."""
        part = values[self.offset : self.offset + self.limit]
        return answer(part, headers={"x-total-count": str(len(values))})


Listed = Annotated[Listing, Depends()]


@dataclass(frozen=True, slots=True)
class Asking:
    """One request of the API: who asks, of which tenant's engine."""

    service: Service
    caller: Caller
    engine: Holdfast

    def about(self, subject: str) -> str:
        """Give a subject that a request names, if the caller may act for it.

        Raises:
            NotFoundError: it may not.
        """
        return self.caller.about(name(subject, "subject"))

    def statement(self, statement_id: str, *, of: str | None = None) -> Statement:
        """Give a statement that the caller may see; ``of``: only if it is that subject's."""
        found = _found(self.engine.statement, statement_id)
        if found is None or not self._sees([found.subject], of):
            raise store.unknown(statement_id)
        return found

    def proposal(self, proposal_id: str) -> Proposal:
        """Give a proposal that the caller may see."""
        found = _found(self.engine.proposal, proposal_id)
        if found is None or not self._sees([found.subject]):
            raise proposals.unknown(proposal_id)
        return found

    def evidence(self, event_id: str) -> Evidence:
        """Give an event that the caller may see."""
        found = _found(self.engine.audit.entry, event_id)
        if found is None or not self._sees(found.subjects):
            raise ledger.unknown(event_id)
        return found

    def events(
        self, subject: str | None, types: Sequence[str], *, before: int | None = None, limit: int
    ) -> list[Evidence]:
        """List events that the caller may see, newest first; ``*`` among the types: of every one.

        A personal key's are looked for among the newest ``MOST_LISTED`` about its subject.
        """
        wanted = None if "*" in types else types
        most = limit if self.caller.subject is None else MOST_LISTED
        found = self.engine.audit.events(subject, types=wanted, before=before, limit=most)
        return [each for each in found if self.caller.may_see(each.subjects)][:limit]

    def _sees(self, subjects: Sequence[str], of: str | None = None) -> bool:
        return self.caller.may_see(subjects) and (of is None or list(subjects) == [of])


def _found(look_up: Callable[[str], T], id_: str) -> T | None:
    try:
        return look_up(id_)
    except NotFoundError:
        return None


_bearer = HTTPBearer(
    scheme_name="key",
    description="A key, `hf_…`; `x-holdfast-key` and `x-api-key` take it too.",
    auto_error=False,
)


def needs(permission: Permission, operation: str) -> Any:
    """Give what lets a caller with a permission in, and counts the operation (``Depends``)."""

    def enter(request: Request, _shown: Annotated[Any, Security(_bearer)]) -> Asking:
        service = service_of(request)
        caller = service.caller(request.scope, request.headers)
        caller.need(permission)
        service.meter.admit(caller, operation)
        return Asking(service, caller, service.engine(caller))

    return Depends(enter)


class _KeyFirst(APIRoute):
    """A route whose caller's key is checked before a large body is waited for and read.

    FastAPI reads a body before anything else; what ``needs`` checks comes after.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def checked(request: Request) -> Response:
            if self.body_field is not None and not is_small(request.headers):
                caller = service_of(request).caller
                await run_in_threadpool(caller, request.scope, request.headers)
            return await handler(request)

        return checked


def new_router() -> APIRouter:
    """Give a router for routes of the API, which all share their prefix and their errors."""
    return APIRouter(
        prefix=PREFIX,
        route_class=_KeyFirst,
        responses=problems(400, 401, 403, 413, 422, 429),
        generate_unique_id_function=lambda route: route.name,
    )


def answer(
    value: Any, status: int = 200, *, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Give a value of the engine as JSON."""
    return JSONResponse(plain_value(value), status, headers=headers)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the errors of a route, for the OpenAPI document."""
    return {
        status: {
            "description": TITLES[status],
            "content": {
                PROBLEM: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "example": {
                        "type": "about:blank",
                        "title": TITLES[status],
                        "status": status,
                        "detail": "…",
                        "request_id": "rq_9f86d081884c7d65",
                    },
                }
            },
        }
        for status in statuses
    }


def link(status: int, where: str, parameter: str, *operations: str) -> dict[int | str, Any]:
    """Describe what an id in a route's answer is for: OpenAPI links to other operations."""
    links = {
        operation: {"operationId": operation, "parameters": {parameter: f"$response.body#/{where}"}}
        for operation in operations
    }
    return {status: {"links": links}}
