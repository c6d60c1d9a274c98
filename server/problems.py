"""Errors as callers of the server see them: one table, and the envelopes of each protocol.

Problem details (RFC 9457) for our own API; OpenAI's and Anthropic's own forms for theirs.
A message says what the engine says: never a text of a subject.
"""

from dataclasses import dataclass
from typing import Any, Literal

from ..memory.errors import (
    ConfigurationError,
    DamagedError,
    ErasedError,
    ForkError,
    HoldfastError,
    InvalidInputError,
    LockedError,
    NotFoundError,
    ReadOnlyError,
    StorageError,
    StorageFullError,
)

Protocol = Literal["api", "openai", "anthropic"]


class RefusedError(HoldfastError):
    """A door refuses a caller; carries its status."""

    def __init__(self, status: int, message: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


STATUSES: tuple[tuple[type[HoldfastError], int], ...] = (
    (ErasedError, 404),
    (NotFoundError, 404),
    (InvalidInputError, 422),
    (LockedError, 503),
    (ReadOnlyError, 503),
    (StorageFullError, 507),
    (ForkError, 409),
    (DamagedError, 500),
    (StorageError, 503),
    (ConfigurationError, 500),
    (HoldfastError, 500),
)
"""What each error of the engine is over HTTP: the first that fits counts."""

TITLES = {
    400: "Bad request", 401: "No valid key", 403: "Not allowed", 404: "Not found",
    405: "Method not allowed", 408: "Too slow", 409: "Conflict", 413: "Too large",
    415: "Unsupported media type", 421: "Wrong host", 422: "Cannot be used",
    429: "Too many requests", 500: "Internal error", 502: "The upstream failed",
    503: "Not available", 504: "The upstream did not answer", 507: "No space left",
}  # fmt: skip
_OPENAI_TYPES = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    429: "rate_limit_error",
}  # fmt: skip
_ANTHROPIC_TYPES = {
    **_OPENAI_TYPES, 413: "request_too_large", 503: "overloaded_error", 504: "timeout_error",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Problem:
    """An error on its way out."""

    status: int
    detail: str
    request_id: str
    headers: dict[str, str]
    error: str | None = None
    """The name of the engine's error, by which our own clients raise it again."""

    def body(self, protocol: Protocol) -> dict[str, Any]:
        """Give it in the form that a protocol has for errors."""
        server = self.status >= 500
        if protocol == "openai":
            kind = _OPENAI_TYPES.get(
                self.status, "server_error" if server else "invalid_request_error"
            )
            return {
                "error": {
                    "message": self.detail,
                    "type": kind,
                    "param": None,
                    "code": str(self.status),
                }
            }
        if protocol == "anthropic":
            kind = _ANTHROPIC_TYPES.get(
                self.status, "api_error" if server else "invalid_request_error"
            )
            error = {"type": kind, "message": self.detail}
            return {"type": "error", "error": error, "request_id": self.request_id}
        return {
            "type": "about:blank",
            "title": TITLES.get(self.status, "Error"),
            "status": self.status,
            "detail": self.detail,
            "request_id": self.request_id,
            **({} if self.error is None else {"error": self.error}),
        }

    def media_type(self, protocol: Protocol) -> str:
        """Give the type of ``body``."""
        return "application/problem+json" if protocol == "api" else "application/json"


def problem_of(error: BaseException, request_id: str) -> Problem:
    """Turn an error into a problem; what is not ours says nothing of itself."""
    if isinstance(error, RefusedError):
        return Problem(error.status, str(error), request_id, error.headers)
    for kind, status in STATUSES:
        if isinstance(error, kind):
            return Problem(status, str(error), request_id, {}, type(error).__name__)
    return Problem(
        500, "something went wrong here; the log has it by the request id", request_id, {}
    )


def protocol_of(path: str, *, is_anthropic: bool = False) -> Protocol:
    """Tell whose form of errors a path has; that of models has both, as its caller has."""
    if path.startswith("/v1/messages") or (is_anthropic and path.startswith("/v1/models")):
        return "anthropic"
    return "openai" if path.startswith("/v1/") else "api"
