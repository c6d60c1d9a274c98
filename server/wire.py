"""HTTP to a Holdfast server, over TCP or the socket in its data directory.

From the standard library, so that a command which only asks a server starts at once. Every
failure becomes one of Holdfast's errors, whose words name the fix; the server's own errors
become again what they were there. It knows no routes.
"""

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote, urlencode, urlsplit

from .. import __version__
from ..memory import errors
from ..memory.errors import HoldfastError, InvalidInputError
from .problems import RefusedError

SOCKET = "unix:"
CONNECT_SECONDS = 10.0
REFUSED_SECONDS = 2.0
"""For so long a server that does not listen (yet) is tried again."""
ANSWER_SECONDS = 900.0
"""Longest silence before an answer: erasing and mending take long."""
BY_STATUS: Mapping[int, type[HoldfastError]] = {
    404: errors.NotFoundError,
    409: errors.ForkError,
    422: InvalidInputError,
    503: errors.StorageError,
    507: errors.StorageFullError,
}


class UnreachableError(HoldfastError):
    """No server answers at an address; nothing was sent."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said."""

    value: Any
    headers: Mapping[str, str]
    """By name in lower case."""


class _SocketConnection(http.client.HTTPConnection):
    """HTTP through a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self._path)
        except OSError:
            self.sock.close()
            raise


class Wire:
    """One server. Every request has a connection of its own, so threads may share it."""

    def __init__(
        self,
        address: str,
        *,
        key: str | None = None,
        tenant: str | None = None,
        patience: float = REFUSED_SECONDS,
        timeout: float = ANSWER_SECONDS,
    ) -> None:
        """Take an address, without connecting.

        Args:
            address: ``http://…``, ``https://…``, or ``unix:`` and the path of a socket.
            key: what to show; None: nothing.
            tenant: through a socket, whose things are meant.
            patience: seconds to try again where nobody listens.
            timeout: seconds to wait for an answer.

        Raises:
            InvalidInputError: it is no address, or no key.
        """
        self.address = address
        self._patience = patience
        self._timeout = timeout
        self._scheme, self._place, self._prefix = _parts(address)
        self._headers = {"accept": "application/json", "connection": "close"}
        self._headers["user-agent"] = f"holdfast/{__version__}"
        if key is not None:
            if not (key.isascii() and key.isprintable() and key.strip()):
                raise InvalidInputError("that is no key: one reads hf_live_…; look at --key")
            self._headers["x-holdfast-key"] = key.strip()
        if tenant is not None:
            self._headers["x-holdfast-tenant"] = _header(tenant)

    @property
    def is_local(self) -> bool:
        """Whether it is the socket of a data directory."""
        return self._scheme == "unix"

    def answers(self) -> bool:
        """Tell whether somebody listens there."""
        try:
            self._connected().close()
        except UnreachableError:
            return False
        return True

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
    ) -> Answer:
        """Send one request and read its answer.

        Args:
            method: of HTTP.
            path: after the server's address; its names are encoded (``segment``).
            query: a list for what repeats; None is left out.
            body: any JSON value; None: no body.

        Raises:
            UnreachableError: there is no server.
            HoldfastError: what the server says, or that it is none of ours.
        """
        target = self._prefix + path + _query(query)
        content = None if body is None else json.dumps(body).encode()
        headers = dict(self._headers)
        if content is not None:
            headers["content-type"] = "application/json"
        with contextlib.closing(self._connected()) as connection:
            status, named, raw = self._exchange(connection, method, target, content, headers)
        value = self._read(status, named, raw)
        if status >= 400:
            raise self._error(status, value)
        return Answer(value, named)

    def _connected(self) -> http.client.HTTPConnection:
        end = time.monotonic() + self._patience
        while True:
            connection = self._connection()
            try:
                connection.connect()
            except (ConnectionRefusedError, FileNotFoundError) as error:
                if time.monotonic() >= end:
                    raise self._unreachable(error) from None
                time.sleep(0.1)
            except (OSError, UnicodeError) as error:
                raise self._unreachable(error) from None
            else:
                connection.sock.settimeout(self._timeout)
                return connection

    def _connection(self) -> http.client.HTTPConnection:
        if self._scheme == "unix":
            return _SocketConnection(self._place, CONNECT_SECONDS)
        if self._scheme == "https":
            return http.client.HTTPSConnection(self._place, timeout=CONNECT_SECONDS)
        return http.client.HTTPConnection(self._place, timeout=CONNECT_SECONDS)

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        content: bytes | None,
        headers: Mapping[str, str],
    ) -> tuple[int, dict[str, str], bytes]:
        try:
            with contextlib.suppress(BrokenPipeError):  # it may have answered before it had all
                connection.request(method, target, content, headers)
            response = connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            return response.status, named, response.read()
        except TimeoutError:
            raise HoldfastError(
                f"the server at {self.address} did not answer within {self._timeout:.0f} s; "
                "whether it did what was asked is not known"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise HoldfastError(
                f"the server at {self.address} broke off ({type(error).__name__}); whether it did "
                "what was asked is not known. Look at its log, and whether the URL is right"
            ) from None

    def _unreachable(self, error: Exception) -> UnreachableError:
        reason = getattr(error, "verify_message", None) or getattr(error, "strerror", None)
        return UnreachableError(
            f"no server answers at {self.address} ({reason or type(error).__name__}); start it "
            "with: holdfast serve, or correct --url or HOLDFAST_URL"
        )

    def _read(self, status: int, headers: Mapping[str, str], raw: bytes) -> Any:
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        own = "application/problem+json" if status >= 400 else "application/json"
        if kind == own:
            with contextlib.suppress(ValueError, RecursionError):
                return json.loads(raw)
        if 300 <= status < 400:
            elsewhere = urlsplit(headers.get("location", ""))
            to = f" to {elsewhere.scheme}://{elsewhere.netloc}" if elsewhere.netloc else ""
            raise HoldfastError(
                f"{self.address} sends on{to} (status {status}); give the server's own URL"
            )
        raise HoldfastError(
            f"what answers at {self.address} (status {status}, {kind or 'no type'}) is no Holdfast "
            "server: correct the URL, or look at what stands in between, such as a proxy"
        )

    def _error(self, status: int, value: Any) -> HoldfastError:
        said = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        detail = str(said.get("detail") or f"the server answered with status {status}")
        named = getattr(errors, str(said.get("error")), None)
        if isinstance(named, type) and issubclass(named, HoldfastError):
            return named(detail)
        if status == 404 and detail == "Not Found":
            return HoldfastError(
                f"the server at {self.address} does not know this request; its version may differ "
                f"from this one ({__version__})"
            )
        if status == 500:
            detail += f" ({said.get('request_id')})"
        kind = BY_STATUS.get(status)
        return RefusedError(status, detail) if kind is None else kind(detail)


def segment(name: str) -> str:
    """Write a name as one segment of a path.

    Raises:
        InvalidInputError: it cannot be written there.
    """
    try:
        return quote(name, safe="")
    except UnicodeEncodeError:
        raise InvalidInputError("a name holds signs that are no text; correct it") from None


def _query(query: Mapping[str, Any] | None) -> str:
    given = {name: value for name, value in (query or {}).items() if value is not None}
    if not given:
        return ""
    plain = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in given.items()
    }
    try:
        return "?" + urlencode(plain, doseq=True)
    except UnicodeEncodeError:
        raise InvalidInputError("an option holds signs that are no text; correct it") from None


def _header(text: str) -> str:
    if not (text.isascii() and text.isprintable()):
        raise InvalidInputError("the name of a tenant of a running server is plain ASCII")
    return text


def _parts(address: str) -> tuple[str, str, str]:
    """Split an address into scheme, host and port (or a socket's path), and prefix."""
    if address.startswith(SOCKET) and len(address) > len(SOCKET) and "\0" not in address:
        return "unix", address.removeprefix(SOCKET), ""
    try:
        parts = urlsplit(address)
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
    except ValueError:
        scheme, host, port, parts = "", None, None, urlsplit("")
    plain = address.isascii() and address.isprintable() and " " not in address
    if scheme not in ("http", "https") or not host or not plain:
        raise InvalidInputError(
            "that is no URL of a server; write it like http://127.0.0.1:8790 (--url, HOLDFAST_URL)"
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidInputError(
            "the URL of a server has no user, query or fragment; the key goes into HOLDFAST_KEY"
        )
    place = f"[{host}]" if ":" in host else host
    return scheme, place if port is None else f"{place}:{port}", parts.path.rstrip("/")
