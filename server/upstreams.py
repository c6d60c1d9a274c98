"""Where a request of the gateway goes, and what comes back: over httpx, byte for byte.

Upstreams are named by settings alone. A caller's headers are passed on, but for those that
are ours, that say who the caller's people are, or that belong to one connection. Nothing
follows a redirect.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Literal, cast

import httpx

from ..retrieval.settings import Settings
from .auth import is_ours
from .problems import RefusedError
from .protocols import Protocol

Speaks = Literal["openai", "anthropic", "litellm"]
CONNECT_SECONDS = 10.0
OF_ONE_CONNECTION = frozenset(
    """connection keep-alive proxy-authenticate proxy-authorization te trailer trailers
    transfer-encoding upgrade host content-length accept-encoding content-encoding expect
    date server""".split()
)
NOT_PASSED_ON = ("x-holdfast-", "x-openwebui-", "x-forwarded-", "cookie", "forwarded", "origin",
                 "referer")  # fmt: skip
NOT_PASSED_BACK = (
    "set-cookie", "x-holdfast-", "access-control-", "alt-svc", "strict-transport-security",
    "clear-site-data", "nel", "report-to", "reporting-endpoints", "content-security-policy",
)  # fmt: skip
"""What an upstream tells browsers of its own host is not true of this one."""


@dataclass(frozen=True, slots=True)
class Target:
    """An upstream, and what it calls the model."""

    speaks: Speaks
    url: str | None
    key: str | None
    model: str


@dataclass
class Answer:
    """What an upstream answers: its status and headers are there, its bytes come."""

    status: int
    headers: dict[str, str]
    chunks: AsyncIterator[bytes]

    @property
    def is_stream(self) -> bool:
        """Whether it is made of events."""
        return self.headers.get("content-type", "").startswith("text/event-stream")


def target(settings: Settings, protocol: Protocol, model: str) -> Target:
    """Find where requests for a model go."""
    for pattern, route in settings.routes.items():
        if fnmatchcase(model, pattern):
            key = None if route.key is None else route.key.get_secret_value()
            url = route.url
            if url is None and route.protocol != "litellm":
                url = _default(settings, route.protocol)[0]
            return Target(route.protocol, url, key, route.model or model)
    speaks: Speaks = "anthropic" if protocol.envelope == "anthropic" else "openai"
    url, key = _default(settings, speaks)
    return Target(speaks, url, key, model)


def _default(settings: Settings, speaks: Speaks) -> tuple[str, str | None]:
    if speaks == "anthropic":
        key = settings.upstream_anthropic_key
        return settings.upstream_anthropic, key.get_secret_value() if key else None
    key = settings.upstream_key
    return settings.upstream, key.get_secret_value() if key else None


def url_of(to: Target, path: str) -> str:
    """Give the URL of a path behind ``/v1`` at an upstream."""
    base = (to.url or "").rstrip("/")
    return f"{base}/v1{path}" if to.speaks == "anthropic" else f"{base}{path}"


def provider_key(headers: Mapping[str, str]) -> str | None:
    """Give the caller's own key for the provider, if one came along.

    Raises:
        RefusedError: 400, as ``headers_for``.
    """
    given = _given_key(headers)
    if given:
        return given
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and bearer and not is_ours(bearer):
        return bearer.strip()
    other = headers.get("x-api-key", "")
    return other if other and not is_ours(other) else None


def _given_key(headers: Mapping[str, str]) -> str | None:
    given = headers.get("x-holdfast-upstream-key")
    if given and is_ours(given):
        raise RefusedError(
            400, "x-holdfast-upstream-key takes a key of the provider, and holds one of Holdfast"
        )
    return given


def headers_for(to: Target, headers: Mapping[str, str]) -> dict[str, str]:
    """Give the headers with which a request is passed on; none that holds a key of ours.

    Raises:
        RefusedError: 400, a key of ours stands where the provider's belongs.
    """
    passed = {
        name: value
        for name, value in headers.items()
        if name not in OF_ONE_CONNECTION and not name.startswith(NOT_PASSED_ON)
        and not is_ours(value)
    }  # fmt: skip
    passed["accept-encoding"] = "identity"  # what comes is relayed, and read on its way
    key = to.key or _given_key(headers)
    if key is not None:
        passed.pop("authorization", None)
        passed.pop("x-api-key", None)
        if to.speaks == "anthropic":
            passed["x-api-key"] = key
        else:
            passed["authorization"] = f"Bearer {key}"
    return passed


def headers_back(headers: httpx.Headers) -> dict[str, str]:
    """Give the headers of an upstream's answer that are passed on."""
    headers.encoding = "latin-1"  # its bytes are passed on, whatever they mean
    return {
        name: value
        for name, value in headers.items()
        if name not in OF_ONE_CONNECTION and not name.startswith(NOT_PASSED_BACK)
    }


class Client:
    """The connections to upstreams that speak the caller's own protocol."""

    def __init__(self, timeout: float) -> None:
        """Give an upstream up after ``timeout`` seconds without a byte."""
        # The transport alone: a client's cookies, redirects and proxies are not wanted, and cost
        # as much time again.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        times = httpx.Timeout(timeout, connect=min(CONNECT_SECONDS, timeout))
        self._transport = httpx.AsyncHTTPTransport(limits=limits, trust_env=False)
        self._extensions = {"timeout": times.as_dict()}

    @asynccontextmanager
    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        query: bytes = b"",
    ) -> AsyncGenerator[Answer]:
        """Send a request; the answer's bytes come while the block lasts.

        Raises:
            RefusedError: 502, the upstream cannot be reached; 504, it does not answer.
        """
        to = _url(url).copy_with(query=query) if query else _url(url)
        sent = [(name.encode("latin-1"), _bytes(value)) for name, value in headers.items()]
        request = httpx.Request(method, to, headers=sent, content=body, extensions=self._extensions)
        with upstream_errors():
            response = await self._transport.handle_async_request(request)
        try:
            if response.is_redirect:
                raise RefusedError(502, "the upstream sends elsewhere, which is not followed")
            yield Answer(response.status_code, headers_back(response.headers), _raw(response))
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.aclose()


async def _raw(response: httpx.Response) -> AsyncIterator[bytes]:
    with upstream_errors():
        async for chunk in cast("httpx.AsyncByteStream", response.stream):
            yield chunk


@lru_cache(maxsize=256)
def _url(text: str) -> httpx.URL:
    return httpx.URL(text)


def _bytes(value: str) -> bytes:
    try:
        return value.encode("latin-1")  # as it came
    except UnicodeEncodeError:  # of the settings
        return value.encode()


class upstream_errors:  # noqa: N801 - read as a statement
    """Turns what httpx raises into what callers are told; nothing of a URL or a body is in it."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        """Raise what it means."""
        if kind is None or not issubclass(kind, httpx.HTTPError):
            return
        if issubclass(kind, httpx.ConnectTimeout | httpx.ConnectError):
            raise RefusedError(502, "the upstream cannot be reached") from None
        if issubclass(kind, httpx.TimeoutException):
            raise RefusedError(504, "the upstream did not answer in time") from None
        raise RefusedError(502, f"the upstream broke off ({kind.__name__})") from None
