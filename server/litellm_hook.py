"""Values for requests that pass through LiteLLM: a callback for its proxy and for its SDK.

In the configuration of a proxy:

    litellm_settings: {callbacks: ["holdfast.server.litellm_hook.handler"]}

In a program: ``litellm.callbacks = [handler]``, for asynchronous calls (LiteLLM asks nobody
before a plain ``litellm.completion``). It works on the data directory, through the server
that owns it, or through the one at ``HOLDFAST_URL``. With a directory of its own it also
records the call, and what became of it. Nothing is kept between requests but the engine.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, cast

from litellm.integrations.custom_logger import CustomLogger

from ..memory.errors import HoldfastError, InvalidInputError
from .auth import SUBJECT_HEADERS, subject_in_body
from .client import Remote
from .injecting import Given, Source, has, inject
from .logs import where

if TYPE_CHECKING:
    from ..retrieval.engine import Holdfast

logger = logging.getLogger("holdfast.server")
FIELDS = {
    "completion": "messages", "acompletion": "messages", "anthropic_messages": "messages",
    "aanthropic_messages": "messages", "responses": "input", "aresponses": "input",
}  # fmt: skip
"""Where the conversation is, by kind of call."""
PLACES = ("litellm_metadata", "metadata")
"""Where LiteLLM keeps what it notes of a request: the first, where it is there."""
OWN = "holdfast"
"""Of a request's metadata: what was done with it."""
MASTER = "default_user_id"
"""Whom LiteLLM takes the bearer of its master key for."""
OTHER_WAYS = ("enable_jwt_auth", "enable_oauth2_auth", "enable_oauth2_proxy_auth")
"""Settings by which LiteLLM's proxy knows callers without a master key."""

_block: ContextVar[str] = ContextVar("holdfast_block", default="")
"""What was put into the call at hand: LiteLLM asks again where it translates a protocol."""


class Handler(CustomLogger):
    """The callback."""

    def __init__(self, engine: "Holdfast | Remote | None" = None) -> None:
        """Take an engine that is open; None: it is opened when the first request comes."""
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self._source = Source(engine)

    # In the proxy

    async def async_pre_call_hook(
        self,
        user_api_key_dict: Any,
        cache: Any,  # noqa: ARG002
        data: dict[str, Any],
        call_type: Any,
    ) -> dict[str, Any]:
        """Give a request of the proxy what bears on it."""
        for place in PLACES:
            metadata = _fields(data.get(place))
            if OWN in metadata:  # whoever sent it, it was not us
                data[place] = {name: metadata[name] for name in metadata if name != OWN}
        place = next((each for each in PLACES if each in data), PLACES[-1])
        field = FIELDS.get(_name(call_type))
        subject = _subject_in_proxy(data, user_api_key_dict)
        if field is None or subject is None:
            return data
        try:
            placed, given = await self._given(subject, data.get(field), data.get("model"))
        except HoldfastError as error:
            raise _http_error(error) from None
        if given is not None:
            data[field] = placed
            data[place] = {**_fields(data.get(place)), OWN: asdict(given)}
        return data

    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: Any,  # noqa: ARG002
        response: Any,  # noqa: ARG002
        request_headers: dict[str, str] | None = None,  # noqa: ARG002
        litellm_call_info: dict[str, object] | None = None,  # noqa: ARG002
    ) -> dict[str, str]:
        """Give the headers that tell what a request was given."""
        given = _found(data)
        return {} if given is None else given.headers

    # In a program

    async def async_pre_call_deployment_hook(
        self, kwargs: dict[str, Any], call_type: Any
    ) -> dict[str, Any] | None:
        """Give a call of the SDK what bears on it."""
        field = FIELDS.get(_name(call_type))
        if field is None or kwargs.get("proxy_server_request"):  # the proxy's own hook was there
            return None
        subject, items = _subject_in_program(kwargs), kwargs.get(field)
        if subject is None or has(items, _block.get()):
            return None
        placed, given = await self._given(subject, items, kwargs.get("model"))
        if given is None:
            return None
        place = "metadata" if _name(call_type).endswith("completion") else "litellm_metadata"
        metadata = {**_fields(kwargs.get(place)), OWN: asdict(given)}
        return {**kwargs, field: placed, place: metadata}

    # What became of it

    async def async_log_success_event(
        self,
        kwargs: dict[str, Any],
        response_obj: Any,
        start_time: Any,  # noqa: ARG002
        end_time: Any,  # noqa: ARG002
    ) -> None:
        """Record that a model answered."""
        usage = _get(response_obj, "usage")
        choices: Any = _get(response_obj, "choices") or [None]
        await self._ended(
            kwargs,
            model=_text(_get(response_obj, "model")),
            response_id=_text(_get(response_obj, "id")),
            input_tokens=_count(usage, "input_tokens", "prompt_tokens"),
            output_tokens=_count(usage, "output_tokens", "completion_tokens"),
            finish_reason=_text(
                _get(response_obj, "stop_reason")
                or _get(choices[0], "finish_reason")
                or _get(response_obj, "status")
            ),
        )

    async def async_log_failure_event(
        self,
        kwargs: dict[str, Any],
        response_obj: Any,  # noqa: ARG002
        start_time: Any,  # noqa: ARG002
        end_time: Any,  # noqa: ARG002
    ) -> None:
        """Record that a model did not answer."""
        error = kwargs.get("exception")
        status = getattr(error, "status_code", None)
        told = type(error).__name__ if status is None else f"{type(error).__name__} {status}"
        await self._ended(kwargs, error=told)

    async def _ended(self, kwargs: Mapping[str, Any], **what: Any) -> None:
        given = _found(kwargs.get("litellm_params") or {})
        if given is None or given.call is None:
            return

        def record(call: str) -> None:
            engine = self._source.engine()
            if not isinstance(engine, Remote):
                engine.audit.end_call(call, **what)

        try:
            await asyncio.to_thread(record, given.call)
        except Exception as error:
            logger.warning("the outcome of a call could not be recorded: %s", where(error))

    # Both

    async def _given(self, subject: str, items: Any, model: Any) -> tuple[Any, Given | None]:
        """Give a conversation with what bears on it; None: it says nothing.

        Raises:
            HoldfastError: it cannot be had, and ``ON_FAILURE`` is ``refuse``.
        """
        _block.set("")
        try:
            found = await asyncio.to_thread(self._inject, subject, items, str(model))
        except InvalidInputError:
            raise
        except Exception as error:
            logger.warning("a request got no values: %s", where(error))
            if not _passes_on():
                raise _refusal(error) from None
            return items, Given("failed")
        if found is None:
            return items, None
        placed, given, block = found
        _block.set(block)
        return placed, given

    def _inject(self, subject: str, items: Any, model: str) -> tuple[Any, Given, str] | None:
        return inject(self._source.engine(), subject, items, model) if items else None


def _subject_in_proxy(data: Mapping[str, Any], key: Any) -> str | None:
    """Tell on whose behalf a request is made: who owns the key, or whom it may name.

    The master key, and keys whose metadata say ``holdfast_role: app``, name whom they like,
    and so does everybody where the proxy asks for no key at all; ``holdfast_subject`` in a
    key's metadata binds it to that subject. A key of nobody's acts for nobody.
    """
    of_key = _fields(_get(key, "metadata"))
    if bound := _text(of_key.get("holdfast_subject")):
        return bound
    owner = _text(_get(key, "user_id"))
    if owner == MASTER or of_key.get("holdfast_role") == "app" or _is_open():
        return _named(data) or _text(_get(key, "end_user_id")) or _subject_in_program(data)
    if owner is None and (_named(data) or subject_in_body(data)):
        logger.warning(
            "a request names a subject, with a key that may name nobody: it got no values; give "
            "the key a user_id, or in its metadata holdfast_subject, or holdfast_role: app"
        )
    return owner


def _named(data: Mapping[str, Any]) -> str | None:
    """Give whom the headers of a request of the proxy name."""
    headers = _fields(_fields(data.get("proxy_server_request")).get("headers"))
    found = (_text(headers.get(name)) for name in SUBJECT_HEADERS)
    return next((each for each in found if each), None)


def _is_open() -> bool:
    """Tell whether the proxy of this process lets everybody in: it has no key of its own."""
    proxy: Any = sys.modules.get("litellm.proxy.proxy_server")
    if proxy is None or getattr(proxy, "master_key", "") is not None:
        return False
    settings = _fields(getattr(proxy, "general_settings", None))
    ways = [getattr(proxy, "user_custom_auth", ""), *(settings.get(name) for name in OTHER_WAYS)]
    return all(way in (None, False) for way in ways)


def _subject_in_program(kwargs: Mapping[str, Any]) -> str | None:
    return subject_in_body(kwargs) or os.environ.get("HOLDFAST_SUBJECT") or None


def _found(data: Mapping[str, Any]) -> Given | None:
    """Read back what a request was given."""
    for place in PLACES:
        said = _fields(_fields(data.get(place)).get(OWN))
        if said.keys() == {field.name for field in fields(Given)}:
            return Given(**said)
    return None


def _passes_on() -> bool:
    from ..retrieval.settings import Settings

    try:
        return Settings.load().on_failure == "pass"
    except HoldfastError:
        return False


def _refusal(error: Exception) -> HoldfastError:
    why = str(error) if isinstance(error, HoldfastError) else "an internal error"
    return HoldfastError(
        f"no values can be had for this request, so it was not sent: {why} "
        "(HOLDFAST_ON_FAILURE=pass sends it without)"
    )


def _http_error(error: HoldfastError) -> Exception:
    from fastapi import HTTPException

    status = 400 if isinstance(error, InvalidInputError) else 503
    return HTTPException(status, {"error": f"Holdfast: {error}"})


def _name(call_type: Any) -> str:
    return str(getattr(call_type, "value", call_type))


def _get(value: Any, name: str) -> Any:
    """Read a field of an object or of a mapping."""
    if isinstance(value, Mapping):
        return cast("Mapping[str, Any]", value).get(name)
    return getattr(value, name, None)


def _fields(value: Any) -> dict[str, Any]:
    """Give the fields of an object; of anything else, none."""
    return dict(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(usage: Any, *names: str) -> int | None:
    found = (_get(usage, name) for name in names)
    return next((each for each in found if type(each) is int), None)


handler = Handler()
