"""A conversation on its way to a model: what is put into it, and where, turn after turn.

Clients send a conversation back without what was put into it before. So that a provider's
prompt cache holds, each earlier turn gets the very bytes again that it had, unless a
statement in them no longer holds. A turn is known by a keyed hash of all that led to it.
It knows nothing of any provider's protocol.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from ..memory import ledger, store, turns
from ..memory.record import Transaction
from . import context
from .library import Library
from .results import Retrieval
from .retriever import Along
from .selection import Policy

MOST_REMEMBERED = 2_000
"""Injections held in memory, over all conversations of a tenant."""


@dataclass(frozen=True, slots=True)
class Intent:
    """A call of a model that is about to be made."""

    provider: str
    model: str
    body: bytes
    """What is sent; the ledger keeps its SHA-256."""

    def fields(self, event: str) -> dict[str, Any]:
        """Give what is recorded of it, after the retrieval that it goes with."""
        return {
            "retrieval": event,
            "provider": self.provider,
            "model": self.model,
            "request_sha256": hashlib.sha256(self.body).hexdigest(),
        }


Prepare = Callable[[list[dict[str, Any]], str], Intent]
"""Takes messages with what was put into them, and the context; gives the call to be made."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One request of a conversation, ready to be sent; all of it is on record."""

    evidence_id: str
    call_id: str
    intent: Intent
    injected: int
    """Statements that came with this turn."""
    status: str
    retrieval: Retrieval | None
    """None where a turn goes on (a tool has answered) and has its context already."""


@dataclass(frozen=True, slots=True)
class _Injected:
    """What was put into a turn."""

    event: str
    context: str
    ids: tuple[str, ...]
    status: str


class Conversations:
    """Every conversation of one tenant."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._held: OrderedDict[str, _Injected] = OrderedDict()
        self._lock = Lock()

    def turn(
        self,
        subjects: Sequence[str],
        messages: Sequence[Mapping[str, Any]],
        prepare: Prepare,
        policy: Policy,
        retrieve: Callable[[Policy, Callable[[str], Along]], Retrieval],
        *,
        in_system: bool,
    ) -> Turn:
        """Put into a conversation what bears on it, and record that it is about to be sent.

        Args:
            subjects: on whose behalf, in order of precedence.
            messages: of the conversation; items without a role are left as they are.
            prepare: makes the request that is sent.
            policy: what is to be selected; nothing, where no turn is there to take it.
            retrieve: does a retrieval, given a policy and what is to be recorded along with it.
            in_system: the context does not go into a turn: ``prepare`` places it.
        """
        digests = _prefixes(subjects, messages)
        last = max(digests, default=None)
        sought = {i: each for i, each in digests.items() if i != last or i < len(messages) - 1}
        known = {} if in_system else self._known(subjects, sought)
        placed = {index: each.context for index, each in known.items() if index != last}
        if last is not None and last in known and last < len(messages) - 1:
            injected = known[last]  # a tool has answered: the turn goes on as it began
            intent = prepare(_applied(messages, placed | {last: injected.context}), "")
            call = self._library.record.transact(
                lambda tx: ledger.follow(
                    tx, injected.event, ("retrieval",), "call.intent", intent.fields(injected.event)
                )
            )
            return Turn(injected.event, call, intent, len(injected.ids), injected.status, None)
        made: list[Any] = []

        def along(block: str) -> Along:
            into = {} if in_system or last is None else {last: block}  # without a turn: no block
            intent = prepare(_applied(messages, placed | into), block if in_system else "")

            def record(tx: Transaction, event: str, keys: Sequence[int]) -> None:
                call = ledger.append(tx, "call.intent", intent.fields(event), subjects=keys)
                if last is not None and not in_system:
                    found = store.ensure_subject(tx, subjects[0])
                    prefix = tx.sealer(found.data_key).keyed_hash(digests[last])
                    turns.note(tx, found.key, prefix, event)
                made[:] = [call, intent]

            return record

        found = retrieve(policy if in_system or last is not None else policy.of_nothing, along)
        call, intent = made
        assert found.evidence_id is not None
        return Turn(found.evidence_id, call, intent, len(found.injected), found.status, found)

    def _known(self, subjects: Sequence[str], digests: Mapping[int, bytes]) -> dict[int, _Injected]:
        """Give what was put into which turns before, as far as all of it still holds."""
        library = self._library
        with library.record.snapshot() as snapshot:
            first = store.subject(snapshot, subjects[0])
            if first is None or not digests:
                return {}
            sealer = snapshot.sealer(first.data_key)
            prefixes = {index: sealer.keyed_hash(each) for index, each in digests.items()}
            events = turns.known(snapshot, first.key, list(prefixes.values()))
        if not events:
            return {}
        found = {
            index: injected
            for index, prefix in prefixes.items()
            if prefix in events and (injected := self._injected(events[prefix])) is not None
        }
        sought = {id_ for injected in found.values() for id_ in injected.ids}
        statements = {
            version.statement.id: version.statement
            for subject in subjects
            for version in (library.corpus(subject).versions if sought else ())
            if version.statement.id in sought
        }
        result: dict[int, _Injected] = {}
        for index, injected in found.items():
            if all(
                id_ in statements and context.render_line(statements[id_]) in injected.context
                for id_ in injected.ids
            ):
                result[index] = injected
        return result

    def _injected(self, event: str) -> _Injected | None:
        """Read what a retrieval injected from its evidence; None: it was erased."""
        with self._lock:
            held = self._held.get(event)
            if held is not None:
                self._held.move_to_end(event)
                return held
        with self._library.record.snapshot() as snapshot:
            found = ledger.entry(snapshot, event)
        if found.erased:
            return None
        fields = found.payload
        injected = _Injected(event, fields["context"], tuple(fields["injected"]), fields["status"])
        with self._lock:
            self._held[event] = injected
            while len(self._held) > MOST_REMEMBERED:
                self._held.popitem(last=False)
        return injected

    def forget(self) -> None:
        """Let go of what is held in memory."""
        with self._lock:
            self._held.clear()


def user_turns(messages: Sequence[Mapping[str, Any]]) -> list[int]:
    """Tell which messages are turns of the user: none that only carries what a tool says."""
    return [
        index
        for index, message in enumerate(messages)
        if message.get("role") == "user" and context.is_turn(message)
    ]


def _prefixes(subjects: Sequence[str], messages: Sequence[Mapping[str, Any]]) -> dict[int, bytes]:
    """Give a digest of the conversation up to each turn of the user, the turn included."""
    spoken = set(user_turns(messages))
    running = hashlib.sha256(json.dumps(list(subjects)).encode())
    digests: dict[int, bytes] = {}
    for index, message in enumerate(messages):
        running.update(_plain(message).encode())
        if index in spoken:
            digests[index] = running.digest()
    return digests


def _plain(message: Mapping[str, Any]) -> str:
    """Write a message as it says the same in later requests, wherever the cache is marked then.

    Clients move Anthropic's ``cache_control`` to their newest message, and give a text a part
    of its own only where they mark it.
    """
    written = _written(message)
    if '"cache_control"' in written:  # at any depth, and however deep JSON may be
        message = json.loads(written, object_hook=_unmarked)
    match message.get("content"):
        case [{"type": "text", "text": str() as text, **rest}] if not rest:
            message = {**message, "content": text}
        case _:
            pass
    return _written(message)


def _written(message: Mapping[str, Any]) -> str:
    return json.dumps(message, sort_keys=True, separators=(",", ":"))


def _unmarked(fields: dict[str, Any]) -> dict[str, Any]:
    fields.pop("cache_control", None)
    return fields


def _applied(
    messages: Sequence[Mapping[str, Any]], blocks: Mapping[int, str]
) -> list[dict[str, Any]]:
    """Give messages with blocks at the end of some of them; the given ones stay as they are."""
    placed = [dict(message) for message in messages]
    for index, block in blocks.items():
        if block:
            placed[index]["content"] = context.appended(placed[index].get("content"), block)
    return placed
