"""The page at ``/``: signing in and out, the choice of a subject, and what it is drawn with.

Server-rendered; htmx swaps parts where there is JavaScript, and every form works without. Its
views are in ``pages_values``, ``pages_try``, ``pages_map``, ``pages_audit`` and ``pages_keys``.
Each calls the engine as the API does, with the same permissions: it can do nothing that the API
could not.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response

from ..memory.errors import NotFoundError
from . import pages_audit, pages_keys, pages_map, pages_try, pages_values
from .assets import assets
from .auth import authenticate
from .problems import RefusedError
from .service import Service, service_of
from .sessions import Sessions
from .visiting import (
    COOKIE,
    FORM_COOKIE,
    HEADERS,
    Filled,
    Visit,
    check_sign_in_form,
    cookie_name,
    own_path,
    path_of,
    sessions_of,
    set_cookie,
    sign_in_page,
    visits,
)

MOST_SUBJECTS = 50
"""Subjects listed at once; the others are searched for."""
NO_ENTRY = "That key lets nobody in: it is mistyped, or it has ended. An admin makes keys."
FOREVER = {"cache-control": "public, max-age=31536000, immutable"}

router = APIRouter(include_in_schema=False)


def add(app: FastAPI, service: Service) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:  # noqa: ARG001
    """Add the routes; give what ends what they began when the application ends."""
    app.state.sessions = Sessions()
    app.state.checks = checks = pages_audit.Checks()
    for part in (router, *(each.router for each in (
        pages_values, pages_try, pages_map, pages_audit, pages_keys
    ))):  # fmt: skip
        app.include_router(part)

    @asynccontextmanager
    async def opened(_: FastAPI) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            checks.close()

    return opened


@router.get("/static/{digest}/{name}")
def static_file(request: Request, digest: str, name: str) -> Response:
    """Give a file that the page is drawn with; its path holds its hash, so it never changes."""
    found = assets().get(name)
    if found is None or found.url != f"/static/{digest}/{name}":
        raise RefusedError(404, "there is no such file; load the page again")
    headers = HEADERS | FOREVER | {"vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
        return Response(found.packed, media_type=found.media_type, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)


@router.get("/sign-in")
def ask_for_key(request: Request) -> Response:
    """Ask for a key."""
    return sign_in_page(request, "", to="/", status=200)


@router.post("/sign-in")
def sign_in(request: Request, form: Filled) -> Response:
    """Begin a session for whoever has a key; all others get one and the same answer."""
    check_sign_in_form(request, form)
    service = service_of(request)
    try:
        caller = authenticate(service.root, {"x-holdfast-key": form.text("key").strip() or "-"})
    except RefusedError as refused:
        return sign_in_page(request, NO_ENTRY, to=form.text("to"), status=refused.status)
    token, _ = sessions_of(request.scope).begin(caller.tenant, caller.key_id)
    answer = Response(status_code=303, headers=HEADERS | {"location": own_path(form.text("to"))})
    set_cookie(answer, request, COOKIE, token)
    answer.delete_cookie(cookie_name(request, FORM_COOKIE), path="/")
    return answer


@router.post("/sign-out")
def sign_out(visit: Annotated[Visit, visits(None, None)]) -> Response:
    """End the session."""
    name = cookie_name(visit.request, COOKIE)
    sessions_of(visit.request.scope).end(visit.request.cookies[name])
    answer = Response(status_code=303, headers=HEADERS | {"location": "/sign-in"})
    answer.delete_cookie(name, path="/")
    return answer


@router.get("/")
def home(visit: Annotated[Visit, visits(None, None)]) -> Response:
    """Lead to what the caller is here for."""
    if visit.caller.subject is not None:
        return visit.go(path_of("values", visit.caller.subject))
    return visit.go("/subjects" if visit.caller.may("read") else "/audit")


@router.get("/subjects")
def choose_subject(visit: Annotated[Visit, visits("read", "list")]) -> Response:
    """List the subjects, to choose one."""
    return _subjects(visit)


@router.post("/subjects")
def find_subject(visit: Annotated[Visit, visits("read", "list")]) -> Response:
    """Find subjects by a part of their name."""
    return _subjects(visit)


def _subjects(visit: Visit) -> Response:
    own = visit.caller.subject
    there = visit.asking.engine.subjects() if own is None else [own]
    wanted = visit.form.text("q").strip()
    found = [each for each in there if wanted.casefold() in each.casefold()]
    return visit.page(
        "subjects.html", part="_subjects.html", wanted=wanted, total=len(there),
        found=found[:MOST_SUBJECTS], more=max(0, len(found) - MOST_SUBJECTS),
        is_new=wanted not in there,
    )  # fmt: skip


@router.post("/open")
def open_subject(visit: Annotated[Visit, visits("read", None)]) -> Response:
    """Go to the values of a subject that is named in full, on record or new."""
    named = visit.form.given("q")
    if named is None:
        raise NotFoundError("name a subject")
    return visit.go(path_of("values", visit.about(named)))
