"""A conversation on its way to a model, with what bears on it, for callers that run elsewhere.

It works with an engine of this process, which also records the call and puts earlier
turns' blocks back where they were, or with a server's, which is asked about the last turn.
It knows nothing of any provider, nor of LiteLLM.
"""

import atexit
import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from ..memory.errors import ConfigurationError, HoldfastError, InvalidInputError
from ..retrieval.context import appended, own_words
from ..retrieval.conversation import Intent, user_turns
from .answers import retrieval_headers
from .client import Remote
from .options import Door

if TYPE_CHECKING:
    from ..retrieval.engine import Holdfast

EARLIER = 4
"""Turns of the user that a server is asked about."""
REST_SECONDS = 5.0
"""For so long nothing is opened anew after that failed."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a request was given."""

    status: str
    injected: int = 0
    evidence: str | None = None
    call: str | None = None
    """Of the event that tells of the call, where one was recorded."""

    @property
    def headers(self) -> dict[str, str]:
        """What the answer says of it."""
        return retrieval_headers(self.status, self.injected, self.evidence)


class Source:
    """The engine, opened when it is first needed."""

    def __init__(self, engine: "Holdfast | Remote | None" = None) -> None:
        """Take an engine that is open; None: it is opened as for the command line."""
        self._lock = Lock()
        self._engine = engine
        self._failed: tuple[float, HoldfastError] | None = None

    def engine(self) -> "Holdfast | Remote":
        """Give the engine.

        Raises:
            HoldfastError: it cannot be opened; it is not tried again at once.
        """
        with self._lock:
            if self._engine is None:
                if self._failed is not None and time.monotonic() < self._failed[0]:
                    raise self._failed[1]
                opened = ExitStack()
                try:
                    self._engine = opened.enter_context(Door().open(brief=False))
                except HoldfastError as error:
                    is_setting = isinstance(error, InvalidInputError)  # and no caller's fault
                    told = ConfigurationError(str(error)) if is_setting else error
                    self._failed = (time.monotonic() + REST_SECONDS, told)
                    raise told from None
                atexit.register(opened.close)
            return self._engine


def inject(
    engine: "Holdfast | Remote", subject: str, items: Any, model: str
) -> tuple[Any, Given, str] | None:
    """Give a conversation with what bears on it, what that was, and the block put in last.

    Args:
        engine: of our own, or a server's.
        subject: on whose behalf.
        items: a prompt, or messages in any provider's form; they stay as they are.
        model: that is asked for.

    Returns:
        None where the user says and shows nothing.

    Raises:
        InvalidInputError: it is no conversation.
    """
    is_text = isinstance(items, str)
    messages = _plain([{"role": "user", "content": items}] if is_text else items)
    turns = user_turns(messages)
    if not turns:
        return None
    if isinstance(engine, Remote):
        placed, given = _asked(engine, subject, messages, turns)
    else:
        placed, given = _conversed(engine, subject, messages, model)
    block = _added(messages[turns[-1]], placed[turns[-1]])
    if is_text:
        return placed[0]["content"], given, block
    pairs = zip(items, messages, placed, strict=True)
    return [old if new == plain else new for old, plain, new in pairs], given, block


def _conversed(
    engine: "Holdfast", subject: str, messages: list[dict[str, Any]], model: str
) -> tuple[list[dict[str, Any]], Given]:
    """Retrieve, put earlier turns' blocks back where they were, and record the call."""
    kept: list[list[dict[str, Any]]] = []

    def prepare(placed: list[dict[str, Any]], _: str) -> Intent:
        kept.append(placed)
        return Intent("litellm", model, json.dumps(placed).encode())

    turn = engine.converse(subject, messages, prepare, placement="user")
    return kept[-1], Given(turn.status, turn.injected, turn.evidence_id, turn.call_id)


def _asked(
    engine: Remote, subject: str, messages: list[dict[str, Any]], turns: Sequence[int]
) -> tuple[list[dict[str, Any]], Given]:
    """Have a server retrieve. While a turn goes on it gives the same bytes again."""
    said = [{"role": "user", "content": own_words(messages[i])} for i in turns[-EARLIER:]]
    found = engine.retrieve(subject, said)
    placed, last = list(messages), messages[turns[-1]]
    if found.context:
        content = appended(last.get("content"), found.context)
        placed[turns[-1]] = {**last, "content": content}
    return placed, Given(found.status, len(found.injected), found.evidence_id)


def _added(before: dict[str, Any], after: dict[str, Any]) -> str:
    return own_words(after)[len(own_words(before)) :].strip()


def has(items: Any, block: str) -> bool:
    """Tell whether a conversation's last turn ends with a block already."""
    if not block or not items:
        return False
    if isinstance(items, str):
        return items.endswith(block)
    messages = _plain(items)
    turns = user_turns(messages)
    return bool(turns) and own_words(messages[turns[-1]]).endswith(block)


def _plain(items: Any) -> list[dict[str, Any]]:
    """Give messages as JSON has them: programs put objects of LiteLLM among them."""

    def plain(value: Any) -> Any:
        dump = getattr(value, "model_dump", None)
        return str(value) if dump is None else dump(mode="json", exclude_none=True)

    try:
        messages: list[Any] = json.loads(json.dumps(list(items), default=plain))
    except (TypeError, ValueError, RecursionError):
        messages = [None]
    if not all(isinstance(each, dict) for each in messages):
        raise InvalidInputError("the conversation is no list of messages")
    return messages
