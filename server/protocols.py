"""What differs between the protocols of the gateway: where messages stand, how a stream ends. Pure.

OpenAI's chat completions and responses, and Anthropic's messages. It knows no network, no
engine and no upstream.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from ..memory.errors import InvalidInputError
from .problems import Protocol as Envelope

Body = dict[str, Any]
BROKEN_OFF = "the upstream broke off before its answer was complete"
LEFT = "the client left before the answer was complete"
INTERNAL = "the gateway failed before the answer was complete"
_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known of an answer: what the ledger records of a call."""

    model: str | None = None
    response_id: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None
    error: str | None = None


class Splitter:
    """Cuts a stream of bytes into server-sent events, as they were sent, byte for byte."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take bytes; give the events that are whole now."""
        self.rest += chunk
        events: list[bytes] = []
        start = 0
        for end in _EVENT_END.finditer(self.rest):
            events.append(self.rest[start : end.end()])
            start = end.end()
        self.rest = self.rest[start:]
        return events


def event_data(event: bytes) -> bytes:
    """Give the data of an event: its ``data:`` lines, joined."""
    lines = [line[5:].removeprefix(b" ") for line in event.splitlines() if line[:5] == b"data:"]
    return b"\n".join(lines)


class Protocol(ABC):
    """One protocol of requests and answers."""

    name: str
    path: str
    """Of the request, behind ``/v1``."""
    envelope: Envelope

    @abstractmethod
    def messages(self, body: Body) -> list[dict[str, Any]]:
        """Give the conversation of a request.

        Raises:
            InvalidInputError: it has none.
        """

    @abstractmethod
    def placed(self, body: Body, messages: list[dict[str, Any]], system: str) -> Body:
        """Give the request with other messages, and a text among its instructions."""

    @abstractmethod
    def read(self, said: Mapping[str, Any], known: Outcome) -> Outcome:
        """Add what an answer, or one event of a stream, says to what is known."""

    @abstractmethod
    def ends(self, data: bytes, said: Mapping[str, Any]) -> bool:
        """Tell whether an event is the last one of a stream."""

    @abstractmethod
    def error_event(self, message: str) -> bytes:
        """Give the event that says that a stream has failed."""

    def parse(self, data: bytes) -> Mapping[str, Any]:
        """Read the data of an event, or an answer; what is no object says nothing."""
        try:
            value: Any = json.loads(data)
        except (ValueError, RecursionError):
            return {}
        return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


class Chat(Protocol):
    """OpenAI's ``/v1/chat/completions``."""

    name = "chat"
    path = "/chat/completions"
    envelope = "openai"

    def messages(self, body: Body) -> list[dict[str, Any]]:
        """Give ``messages``."""
        return _objects(body.get("messages"), "messages")

    def placed(self, body: Body, messages: list[dict[str, Any]], system: str) -> Body:
        """Put messages in their place; a text among them behind the first instructions."""
        if system:
            told = ("system", "developer")
            after = next((i for i, m in enumerate(messages) if m.get("role") not in told), 0)
            block = {"role": "system", "content": system}
            messages = [*messages[:after], block, *messages[after:]]
        return {**body, "messages": messages}

    def read(self, said: Mapping[str, Any], known: Outcome) -> Outcome:
        """Read an answer or a chunk."""
        known = _common(said, known, "prompt_tokens", "completion_tokens")
        for choice in _list(said.get("choices")):
            reason = _text(_object(choice).get("finish_reason"))
            known = replace(known, finish_reason=reason or known.finish_reason)
        return known

    def ends(self, data: bytes, said: Mapping[str, Any]) -> bool:
        """Tell ``[DONE]`` and an error."""
        return data.strip() == b"[DONE]" or bool(said.get("error"))

    def error_event(self, message: str) -> bytes:
        """Give the chunk at which clients raise."""
        error = _openai_error(message)
        return b"data: " + _dump({"error": error}) + b"\n\n"


class Responses(Protocol):
    """OpenAI's ``/v1/responses``."""

    name = "responses"
    path = "/responses"
    envelope = "openai"

    def messages(self, body: Body) -> list[dict[str, Any]]:
        """Give ``input``: a text is one message of the user."""
        given = body.get("input")
        if isinstance(given, str):
            return [{"role": "user", "content": given}]
        if given is None:
            return []
        return _objects(given, "input")

    def placed(self, body: Body, messages: list[dict[str, Any]], system: str) -> Body:
        """Put messages in their place; a text behind ``instructions``."""
        result = dict(body)
        if isinstance(body.get("input"), str):
            result["input"] = messages[0]["content"]
        elif messages:
            result["input"] = messages
        if system:
            told = _text(body.get("instructions"))
            result["instructions"] = f"{told}\n\n{system}" if told else system
        return result

    def read(self, said: Mapping[str, Any], known: Outcome) -> Outcome:
        """Read an answer, or an event that carries one."""
        inner = _object(said.get("response")) if "response" in said else said
        if inner.get("object") not in ("response", None):
            return known
        known = _common(inner, known, "input_tokens", "output_tokens")
        status = _text(inner.get("status"))
        if status and status != "in_progress":
            known = replace(known, finish_reason=status)
        return known

    def ends(self, data: bytes, said: Mapping[str, Any]) -> bool:
        """Tell the events that end a response, and an error."""
        kinds = ("response.completed", "response.failed", "response.incomplete", "error")
        return said.get("type") in kinds or data.strip() == b"[DONE]" or bool(said.get("error"))

    def error_event(self, message: str) -> bytes:
        """Give the event at which clients raise."""
        error = _openai_error(message)
        return b"event: error\ndata: " + _dump({"type": "error", "error": error}) + b"\n\n"


class Messages(Protocol):
    """Anthropic's ``/v1/messages``."""

    name = "messages"
    path = "/messages"
    envelope = "anthropic"

    def messages(self, body: Body) -> list[dict[str, Any]]:
        """Give ``messages``."""
        return _objects(body.get("messages"), "messages")

    def placed(self, body: Body, messages: list[dict[str, Any]], system: str) -> Body:
        """Put messages in their place; a text behind ``system``."""
        result = {**body, "messages": messages}
        if system:
            told = body.get("system")
            block = {"type": "text", "text": system}
            if isinstance(told, list):
                result["system"] = [*cast("list[Any]", told), block]
            else:
                result["system"] = f"{told}\n\n{system}" if told else system
        return result

    def read(self, said: Mapping[str, Any], known: Outcome) -> Outcome:
        """Read an answer, or an event of its stream."""
        inner = _object(said.get("message")) if said.get("type") == "message_start" else said
        known = _common(inner, known, "input_tokens", "output_tokens")
        reason = _text(_object(said.get("delta")).get("stop_reason"))
        reason = reason or _text(inner.get("stop_reason"))
        return replace(known, finish_reason=reason or known.finish_reason)

    def ends(self, data: bytes, said: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """Tell ``message_stop`` and an error."""
        return said.get("type") in ("message_stop", "error")

    def error_event(self, message: str) -> bytes:
        """Give the event at which clients raise."""
        error = {"type": "api_error", "message": message}
        return b"event: error\ndata: " + _dump({"type": "error", "error": error}) + b"\n\n"


PROTOCOLS: Sequence[Protocol] = (Chat(), Responses(), Messages())


def _openai_error(message: str) -> dict[str, Any]:
    return {"message": message, "type": "server_error", "param": None, "code": "upstream_error"}


def failed(said: Mapping[str, Any]) -> str | None:
    """Give the kind of error that an answer or an event tells; None: it tells none."""
    error: Any = said.get("error")
    if said.get("type") == "error":
        error = error or said
    elif said.get("type") == "response.failed":
        error = _object(said.get("response")).get("error") or said
    if not error:
        return None
    told = _object(error)
    kind = _text(told.get("code")) or _text(told.get("type"))
    return f"the upstream said {kind or 'error'}"


def _common(said: Mapping[str, Any], known: Outcome, taken: str, given: str) -> Outcome:
    usage = _object(said.get("usage"))
    return replace(
        known,
        model=_text(said.get("model")) or known.model,
        response_id=_text(said.get("id")) or known.response_id,
        input_tokens=_count(usage.get(taken), known.input_tokens),
        output_tokens=_count(usage.get(given), known.output_tokens),
    )


def _objects(value: Any, what: str) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise InvalidInputError(f"{what} is a list of messages")
    items = cast("list[Any]", value)
    if not all(isinstance(item, dict) for item in items):
        raise InvalidInputError(f"every item of {what} is an object")
    return items


def _object(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return value[:500] if isinstance(value, str) else None


def _count(value: Any, before: int | None) -> int | None:
    return value if type(value) is int and 0 <= value <= 1_000_000_000 else before


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
