"""A request of the gateway as it came in: what of it is ours, and what may be passed on. Pure.

It knows no engine and no upstream. Its messages never repeat what a caller sent.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from string import punctuation
from typing import Any, cast
from urllib.parse import quote, unquote

from starlette.datastructures import Headers

from .auth import SUBJECT_HEADERS, header_text, is_ours, subject_in_body
from .problems import RefusedError
from .protocols import Body, Protocol

OWN_FIELD = "holdfast"
"""Of a request's body: what is meant for us, and goes no further."""
OWN_OPTIONS = ("subject", "subjects", "contexts", "limit", "budget", "threshold")
SMALL = 65_536
"""Bytes of a body that may wait in memory until its key is checked."""


@dataclass(frozen=True)
class Asked:
    """A request as it came in."""

    protocol: Protocol
    raw: bytes
    body: Body
    headers: Mapping[str, str]
    query: bytes
    options: Mapping[str, Any]
    is_whole: bool
    """Whether nothing of ours had to be taken out: ``raw`` can go as it came."""

    @property
    def model(self) -> str:
        """The model that is asked for."""
        return self.body["model"]

    @property
    def named(self) -> list[str]:
        """The subjects that a request names, in the first place in which it does."""
        listed = self.options.get("subjects") or self.options.get("subject")
        if listed:
            return [listed] if isinstance(listed, str) else list(listed)
        for name in SUBJECT_HEADERS:
            if value := self.headers.get(name):
                return [header_text(value)]
        told = subject_in_body(self.body)
        return [told] if told else []


def joined(headers: Headers) -> dict[str, str]:
    """Give headers by name; one that came several times is one list (RFC 9110, 5.3).

    Raises:
        RefusedError: 400, a subject is named twice.
    """
    found: dict[str, str] = {}
    for name, value in headers.items():
        if name in found and name in SUBJECT_HEADERS:
            raise RefusedError(400, f"{name} came twice; send it once")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def is_small(headers: Mapping[str, str]) -> bool:
    """Tell whether a request says of its body that it is small."""
    length = headers.get("content-length", "")
    return length.isdecimal() and int(length[:20]) <= SMALL


def query_of(scope: Mapping[str, Any]) -> bytes:
    """Give the query of a request's URL, to be passed on.

    Raises:
        RefusedError: 400, a key of ours stands in it.
    """
    raw: bytes = scope["query_string"]
    if not raw:
        return raw
    text = raw.decode("latin-1")
    for shown in (text, unquote(text), unquote(unquote(text))):
        if is_ours(shown):
            raise RefusedError(
                400,
                "a key of Holdfast stands in the URL, where logs keep it: send it as "
                "x-holdfast-key, and replace it with: holdfast keys rotate",
            )
    return quote(raw, safe=punctuation).encode()


def model_name(name: str) -> str:
    """Give the name of a model as a path of a URL has it.

    Raises:
        RefusedError: 404, no model is called so: it would lead elsewhere in the upstream.
    """
    if "\\" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
        raise RefusedError(404, "no model is called so; list them with GET /v1/models")
    return quote(name, safe="/:@")


def read(
    protocol: Protocol, raw: bytes, headers: Mapping[str, str], scope: Mapping[str, Any]
) -> Asked:
    """Read a request, and take out what is ours.

    Raises:
        RefusedError: 400, it cannot be read, or names no model.
    """
    try:
        body: Any = json.loads(raw)
    except (ValueError, RecursionError):
        raise RefusedError(400, "the body is no JSON") from None
    if not isinstance(body, dict):
        raise RefusedError(400, "the body is no JSON object")
    fields = cast("Body", body)
    if not isinstance(fields.get("model"), str) or not fields["model"]:
        raise RefusedError(400, "model: name the model to be called")
    is_whole = OWN_FIELD not in fields
    given = _checked(fields.pop(OWN_FIELD, {}))
    contexts = headers.get("x-holdfast-contexts")
    if contexts and "contexts" not in given:
        given = {**given, "contexts": [each.strip() for each in header_text(contexts).split(",")]}
    return Asked(protocol, raw, fields, headers, query_of(scope), given, is_whole)


def _checked(options: Any) -> Body:
    """Check what is meant for us; the engine checks the numbers."""
    if not isinstance(options, dict) or not set(cast("Body", options)) <= set(OWN_OPTIONS):
        raise RefusedError(400, f"{OWN_FIELD} takes: {', '.join(OWN_OPTIONS)}")
    given = cast("Body", options)
    for name, like in (("subject", '"ada"'), ("subjects", '["acme", "ada"]')):
        if not _is_names(given.get(name)):
            raise RefusedError(400, f"{OWN_FIELD}.{name} takes names of subjects, like {like}")
    if isinstance(given.get("contexts"), str) or not _is_names(given.get("contexts")):
        raise RefusedError(400, f'{OWN_FIELD}.contexts takes a list of names, like ["work"]')
    return given


def _is_names(value: Any) -> bool:
    """Tell a name, a list of names, or nothing."""
    if isinstance(value, list):
        return all(isinstance(each, str) for each in cast("list[Any]", value))
    return value is None or isinstance(value, str)
