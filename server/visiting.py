"""What every route of the page begins and ends with: the session, the form, the answer.

As ``asking`` is for the API, of which it takes permissions, the meter and what is another's. A
form counts only with the session's own token in it. Texts come in bodies, never in a URL.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from secrets import compare_digest, token_urlsafe
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.datastructures import Headers
from starlette.types import Scope

from ..memory import times
from ..memory.errors import InvalidInputError, NotFoundError
from . import assets
from .asking import Asking
from .auth import Caller, Permission
from .problems import TITLES, Problem, RefusedError
from .service import Service, service_of
from .sessions import Session, Sessions

COOKIE = "holdfast_session"
FORM_COOKIE = "holdfast_form"
"""Of the form for signing in, before there is a session: the same token stands in both."""
MOST_FIELDS = 5_000
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
    "vary": "HX-Request",
}
"""Of every answer of the page."""
ENDED = "You were signed out: the session ended, or its key no longer holds. Sign in to go on."


class Form:
    """What a form holds; lines end as they do elsewhere, not as browsers send them."""

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        """Take the fields in their order."""
        self._fields = [(name, value.replace("\r\n", "\n")) for name, value in fields]

    def many(self, name: str) -> list[str]:
        """Give every value of a name."""
        return [value for each, value in self._fields if each == name]

    def text(self, name: str) -> str:
        """Give the value of a name; "" where there is none."""
        return next(iter(self.many(name)), "")

    def given(self, name: str) -> str | None:
        """Give what was entered, without white space around it; None: nothing."""
        return self.text(name).strip() or None

    def whole(self, name: str) -> int | None:
        """Give a whole number; None: nothing was entered.

        Raises:
            InvalidInputError: it is none.
        """
        said = self.given(name)
        if said is None:
            return None
        if not (said.isascii() and said.isdigit() and len(said) < 16):
            raise InvalidInputError(f"{name} is a whole number; correct it")
        return int(said)

    def moment(self, name: str) -> times.Time | None:
        """Give a time at which to look; of a day its last moment, and of today now."""
        said = self.given(name)
        bounds = None if said is None else times.day_of(said)
        if bounds is None:
            return said
        first, last = bounds
        now = times.now()
        return times.to_datetime(now if first <= now <= last else last)

    def end(self, name: str) -> times.Time | None:
        """Give a time to which something holds; a day belongs to it as a whole."""
        said = self.given(name)
        bounds = None if said is None else times.day_of(said)
        return said if bounds is None else times.to_datetime(min(bounds[1] + 1, times.LAST))

    def names(self, name: str) -> list[str]:
        """Give names that stand apart by commas."""
        return [each.strip() for each in self.text(name).split(",") if each.strip()]


async def read_form(request: Request) -> Form:
    """Read the body of a request as a form sends it (FastAPI's ``Depends``)."""
    if request.method != "POST":
        return Form([])
    raw = await request.body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if raw and kind != "application/x-www-form-urlencoded":
        raise RefusedError(415, "the page takes its own forms alone; the API is under /api/v1")
    try:
        body = raw.decode("ascii")
        fields = parse_qsl(
            body, keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS
        )
    except ValueError:
        raise RefusedError(400, "the form cannot be read; load the page again") from None
    return Form(fields)


Filled = Annotated[Form, Depends(read_form)]


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of somebody who is signed in."""

    request: Request
    session: Session
    asking: Asking
    form: Form

    @property
    def caller(self) -> Caller:
        """Who is signed in."""
        return self.asking.caller

    @property
    def is_fragment(self) -> bool:
        """Whether a part of a page is asked for, which replaces what stands there."""
        return "hx-request" in self.request.headers

    def about(self, subject: str) -> str:
        """Give a subject that a path names, if the caller may act for it; remember it."""
        whose = self.asking.about(subject)
        self.session.subject = whose
        return whose

    def count(self, operation: str) -> None:
        """Count a further operation, as the API would."""
        self.asking.service.meter.admit(self.caller, operation)

    def page(
        self, template: str, *, part: str | None = None, trigger: str | None = None, **values: Any
    ) -> HTMLResponse:
        """Answer with a page, or, where a part of it is asked for, with that part.

        Args:
            template: of the whole page.
            part: template of the part.
            trigger: an event of which the page is told, for other parts of it.
            values: what both are filled with.
        """
        headers = HEADERS | ({} if trigger is None else {"hx-trigger": trigger})
        chosen = part if part is not None and self.is_fragment else template
        return HTMLResponse(assets.render(chosen, self._shared() | values), headers=headers)

    def go(self, path: str) -> Response:
        """Send the browser on to another page."""
        if self.is_fragment:
            return Response(status_code=204, headers=HEADERS | {"hx-redirect": path})
        return RedirectResponse(path, 303, headers=HEADERS)

    def _shared(self) -> dict[str, Any]:
        caller = self.caller
        return {
            "caller": caller,
            "csrf": self.session.csrf,
            "menu_subject": caller.subject or self.session.subject,
            "path_of": path_of,
            "may": caller.may,
        }


def path_of(door: str, name: str) -> str:
    """Give the path of a page about a subject, a statement or an event."""
    return f"/{door}/{quote(name, safe='')}"


def visits(permission: Permission | None, operation: str | None) -> Any:
    """Give what lets whoever is signed in and may do this in (``Depends``).

    Args:
        permission: that is needed; None: being signed in is enough.
        operation: that it counts as; None: it is not counted.
    """

    def enter(request: Request, form: Filled) -> Visit:
        service = service_of(request)
        session, caller = _who(request, service)
        if request.method == "POST":
            _check_own(request.headers, form, session.csrf)
        if permission is not None:
            caller.need(permission)
        if operation is not None:
            service.meter.admit(caller, operation)
        return Visit(request, session, Asking(service, caller, service.engine(caller)), form)

    return Depends(enter)


def sessions_of(scope: Scope) -> Sessions:
    """Give the sessions of the application that a request came to."""
    return scope["app"].state.sessions


def is_secure(request: Request) -> bool:
    """Tell whether the browser speaks TLS, to us or to a proxy in front."""
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))


def cookie_name(request: Request, name: str) -> str:
    """Give a cookie's name: over TLS one that no other host can set (RFC 6265bis)."""
    return f"__Host-{name}" if is_secure(request) else name


def set_cookie(answer: Response, request: Request, name: str, value: str) -> None:
    """Give the browser a cookie that scripts cannot read, and other sites cannot send."""
    answer.set_cookie(
        cookie_name(request, name), value, path="/", secure=is_secure(request), httponly=True,
        samesite="strict",
    )  # fmt: skip


def _who(request: Request, service: Service) -> tuple[Session, Caller]:
    """Find who is signed in; the key is looked at anew each time.

    Raises:
        RefusedError: 401, nobody.
    """
    token = request.cookies.get(cookie_name(request, COOKIE))
    sessions = sessions_of(request.scope)
    session = sessions.find(token) if token else None
    if token is None or session is None:
        raise RefusedError(401, ENDED if token else "")
    try:
        key = service.root.of_tenant(session.tenant).access.key(session.key_id)
    except NotFoundError:
        key = None
    if key is None or not key.holds(times.now()):
        sessions.end(token)
        raise RefusedError(401, ENDED)
    return session, Caller(key.tenant, key.role, key.id, key.subject, key.quota)


def _check_own(headers: Mapping[str, str], form: Form, wanted: str) -> None:
    """Refuse a form that is not from a page of ours in this session."""
    shown = headers.get("x-csrf-token") or form.text("csrf")
    if not compare_digest(shown.encode(), wanted.encode()):
        raise RefusedError(
            403, "this form is from another session; load the page again, and send it anew"
        )


# What is answered to whoever is not let in, or where something goes wrong


def is_browsing(scope: Scope) -> bool:
    """Tell whether a person looks at the answer, and not a program."""
    headers = Headers(scope=scope)
    if scope["path"].startswith(("/api/", "/v1/", "/mcp")):
        return False
    return "text/html" in headers.get("accept", "") or "hx-request" in headers


def problem_page(problem: Problem, scope: Scope) -> Response:
    """Give an error as a page, or as the part of one that says what is wrong."""
    request = Request(scope)
    headers = HEADERS | problem.headers
    if problem.status == 401:
        headers = {name: value for name, value in headers.items() if name != "www-authenticate"}
        if "hx-request" in request.headers:
            return Response(status_code=401, headers=headers | {"hx-refresh": "true"})
        to = quote(scope["path"], safe="/") if request.method == "GET" else "/"
        return sign_in_page(request, problem.detail, to=to, status=401)
    title = TITLES.get(problem.status, "Something went wrong")
    template = "_problem.html" if "hx-request" in request.headers else "problem.html"
    values = {"problem": problem, "title": title, "sentence": _sentence(problem.detail)}
    return HTMLResponse(assets.render(template, values), problem.status, headers=headers)


def _sentence(detail: str) -> str:
    said = detail[:1].upper() + detail[1:]
    return said if said.endswith((".", "!", "?")) else f"{said}."


def sign_in_page(request: Request, message: str, *, to: str, status: int) -> Response:
    """Ask for a key; ``to`` is where to go on then."""
    token = request.cookies.get(cookie_name(request, FORM_COOKIE)) or token_urlsafe(24)
    values = {"message": message, "to": own_path(to), "csrf": token}
    answer = HTMLResponse(assets.render("sign_in.html", values), status, headers=HEADERS)
    set_cookie(answer, request, FORM_COOKIE, token)
    return answer


def check_sign_in_form(request: Request, form: Form) -> None:
    """Refuse to sign somebody in by a form that is not from our own page."""
    held = request.cookies.get(cookie_name(request, FORM_COOKIE), "")
    if not held:
        raise RefusedError(403, "the browser sent no cookie; allow cookies of this page, and "
                                "load it again")  # fmt: skip
    _check_own(request.headers, form, held)


def own_path(to: str) -> str:
    """Give a path on this server, where it is one; "/" otherwise."""
    plain = to.isascii() and to.isprintable() and not set(to) & set(" \\")
    return to if plain and to.startswith("/") and not to.startswith(("//", "/sign-")) else "/"
