"""A process that works on a data directory until it is killed; ``test_faults`` imports it.

It tells over a pipe what it is about to do, and what was done once the call has
returned. What was told lies in the pipe, outside the process, so it survives the kill.
"""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from conftest import open_with
from fakes import FakeEmbedder

from holdfast import Holdfast
from holdfast.retrieval.embedder import BundledEmbedder

SUBJECTS = ("ada", "bo", "Čenda")
TOPICS = ("nuts", "meetings", "Sicily", "budget", "letters", "night shifts", "my sister", "reports")
PRELOADED = [
    "alembic.command", "chromadb", "holdfast.memory.chroma", "holdfast.retrieval.engine",
    "onnxruntime", "pytest", "sentencex", "tokenizers",
]  # fmt: skip
"""Imported once, by the server that the workers are forked from; nothing is opened there."""


@dataclass(frozen=True)
class Order:
    """What one worker is to do."""

    directory: Path
    seed: int
    threads: int
    bundled: bool
    known: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """Ids of statements in force from earlier rounds, by subject."""


def work(order: Order, told: Connection) -> None:
    """Open the directory and write to it until killed."""
    embedder: Any = BundledEmbedder() if order.bundled else FakeEmbedder()
    telling = threading.Lock()

    def tell(*what: Any) -> None:
        with telling:
            told.send(what)

    hands = [_Hand(order, number, tell) for number in range(order.threads)]
    tell("opening")
    holdfast = open_with(embedder, order.directory)
    tell("open")
    for hand in hands[1:]:
        threading.Thread(target=hand.work, args=(holdfast,), daemon=True).start()
    hands[0].work(holdfast)


class _Hand:
    """One thread's work: no other touches the statements that it revises and retires."""

    def __init__(self, order: Order, number: int, tell: Callable[..., None]) -> None:
        self._random = random.Random(f"{order.seed} {number}")
        self._tell = tell
        self._token = f"w{order.seed}x{number}"
        self._done = 0
        self._own = {
            subject: [id_ for i, id_ in enumerate(ids) if i % order.threads == number]
            for subject, ids in order.known.items()
        }

    def work(self, holdfast: Holdfast) -> None:
        kinds = (
            self.add, self.add_many, self.decide, self.revise, self.retire, self.retrieve,
            self.checkpoint, self.forget,
        )  # fmt: skip
        while True:
            kind = self._random.choices(kinds, weights=(4, 3, 2, 3, 1, 4, 2, 1))[0]
            subject = self._random.choice(SUBJECTS)
            own = self._own.setdefault(subject, [])
            if (kind in (self.revise, self.retire) and len(own) < 5) or not self._done:
                kind = self.add_many  # so that the ledger is not empty either
            self._done += 1
            kind(holdfast, subject, own)

    def add(self, holdfast: Holdfast, subject: str, own: list[str]) -> None:
        texts = self._texts(self._random.choice((1, 2, 3)))
        number = self._begin("add", subject, texts)
        added = holdfast.add(subject, "\n".join(f"- {text}" for text in texts), kind="value")
        self._end(number, "add", [(s.id, s.text) for s in added])
        own += [s.id for s in added]

    def add_many(self, holdfast: Holdfast, subject: str, own: list[str]) -> None:
        texts = self._texts(self._random.randint(2, 8))
        number = self._begin("add_many", subject, texts)
        added = holdfast.add_many(subject, texts, split=False, kind="value")
        self._end(number, "add_many", [(s.id, s.text) for s in added])
        own += [s.id for s in added]

    def decide(self, holdfast: Holdfast, subject: str, own: list[str]) -> None:
        (situation,) = self._texts(1)
        weighed = self._random.sample(own, k=min(2, len(own)))
        parts = {"situation": situation, "choice": "to wait", "reason": "it keeps"}
        number = self._begin("decide", subject, [situation])
        decision = holdfast.decide(subject, **parts, weighed=weighed)
        self._end(number, "decide", [(decision.id, situation, tuple(weighed))])

    def revise(self, holdfast: Holdfast, subject: str, own: list[str]) -> None:
        id_ = self._random.choice(own)
        (text,) = self._texts(1)
        number = self._begin("revise", subject, [id_, text])
        statement = holdfast.revise(id_, text, reason="it changed")
        self._end(number, "revise", [(id_, statement.version, text)])

    def retire(self, holdfast: Holdfast, subject: str, own: list[str]) -> None:
        id_ = own.pop(self._random.randrange(len(own)))
        number = self._begin("retire", subject, [id_])
        holdfast.retire(id_, reason="it no longer holds")
        self._end(number, "retire", [id_])

    def retrieve(self, holdfast: Holdfast, subject: str, own: list[str]) -> None:
        of = self._random.sample(SUBJECTS, k=self._random.choice((1, 1, 2)))
        number = self._begin("retrieve", subject, [])
        found = holdfast.retrieve(of, f"What about {self._random.choice(TOPICS)} today?")
        injected = [candidate.statement.id for candidate in found.injected]
        self._end(number, "retrieve", [(found.evidence_id, found.context, injected)])

    def checkpoint(self, holdfast: Holdfast, subject: str, own: list[str]) -> None:
        number = self._begin("checkpoint", subject, [])
        self._end(number, "checkpoint", [holdfast.audit.checkpoint().note])

    def forget(self, holdfast: Holdfast, subject: str, own: list[str]) -> None:
        subject, texts = f"gone {self._token} {self._done}", self._texts(1)
        number = self._begin("add", subject, texts)
        added = holdfast.add(subject, texts[0])
        self._end(number, "add", [(s.id, s.text) for s in added])
        self._done += 1
        number = self._begin("forget", subject, texts)
        holdfast.erase(subject)
        self._end(number, "forget", texts)

    def _texts(self, count: int) -> list[str]:
        return [
            f"I never put {self._random.choice(TOPICS)} off, see {self._token}n{self._done}p{i}."
            for i in range(count)
        ]

    def _begin(self, operation: str, subject: str, about: list[str]) -> tuple[str, int]:
        number = (self._token, self._done)
        self._tell("begin", number, operation, subject, about)
        return number

    def _end(self, number: tuple[str, int], operation: str, result: list[Any]) -> None:
        self._tell("done", number, operation, result)
