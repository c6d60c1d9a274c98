"""A subject's statements in force, ready to be scored; and the bounded cache of them.

A corpus belongs to one revision of its subject and one stretch of valid time; it ends
at the next moment at which a statement begins or ceases to hold.
"""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..memory.leaf import corpus_digest
from ..memory.models import STRENGTHS
from ..memory.sealing import Sealer
from ..memory.vectors import digest
from ..memory.versions import Change, Version
from . import context
from .scoring import Int8, Int64, Lexicon

NO_REVISION = 0


@dataclass(frozen=True)
class Corpus:
    """n statements in force, sorted by id, and what scoring and selection need of them."""

    subject: str
    revision: int
    """``NO_REVISION`` when nothing was ever recorded for the subject."""
    versions: list[Version]
    matrix: Int8
    """(n, d)."""
    data_key: str | None = None
    """The subject's, which no other ever has; None when nothing was ever recorded for it."""
    sealer: Sealer | None = None
    """Of the subject."""
    at: int = 0
    """The valid time for which it was read, in microseconds."""
    ends: int | None = None
    """When it ceases to be current by the passing of time, in microseconds; None: never."""
    repaired: int = 0
    _contexts: list[frozenset[str]] = field(init=False)

    def __post_init__(self) -> None:
        found = [frozenset(map(fold, v.statement.contexts)) for v in self.versions]
        object.__setattr__(self, "_contexts", found if any(found) else [])

    def __len__(self) -> int:
        return len(self.versions)

    @cached_property
    def ids(self) -> list[str]:
        """The statements' ids."""
        return [version.statement.id for version in self.versions]

    @cached_property
    def lexicon(self) -> Lexicon:
        """The words of the statements, indexed."""
        return Lexicon([version.statement.text for version in self.versions])

    @property
    def rows(self) -> list[str]:
        """A line for each statement in force: its id, version, and a keyed hash of the rest.

        The rest is all that it says and its vector. Without the subject's data key the
        line tells which statement it is, and nothing of what it says.
        """
        if self.sealer is None:
            return []
        return [
            f"{v.statement.id} {v.statement.version} {self.sealer.keyed_hash(said).hex()}"
            for v, said in zip(self.versions, self._said(), strict=True)
        ]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the ``rows``."""
        return corpus_digest(self.rows)

    @property
    def first_digest(self) -> str:
        """The digest as evidence had it before the ledger: SHA-256 over what is said."""
        state = hashlib.sha256()
        for version, said in zip(self.versions, self._said(), strict=True):
            s = version.statement
            state.update(f"{s.id} {s.version} ".encode() + said + b"\n")
        return state.hexdigest()

    def _said(self) -> Iterator[bytes]:
        """Give all that each statement says, with its vector's hash."""
        for version, vector in zip(self.versions, self.matrix, strict=True):
            s = version.statement
            contexts = json.dumps(s.contexts) if s.contexts else "[]"
            yield (
                f"{digest(vector).hex()} {s.kind} {s.strength} {s.scope} "
                f"{contexts} {len(s.text)} {s.text}".encode()
            )

    @cached_property
    def strength(self) -> NDArray[np.uint8]:
        """Places in ``STRENGTHS``."""
        places = {strength: place for place, strength in enumerate(STRENGTHS)}
        return np.array([places[v.statement.strength] for v in self.versions], np.uint8)

    @cached_property
    def always(self) -> NDArray[np.bool_]:
        """Which statements come with every request."""
        return np.array([v.statement.scope == "always" for v in self.versions], np.bool_)

    @cached_property
    def tokens(self) -> Int64:
        """What each statement's line in the context costs."""
        return np.array(
            [context.count_tokens(context.render_line(v.statement) + "\n") for v in self.versions],
            np.int64,
        )

    def extended(self, change: Change, versions: Sequence[Version], matrix: Int8) -> "Corpus":
        """Give the corpus after a change that only added ``versions``."""
        holding = [i for i, v in enumerate(versions) if v.valid_from <= change.at]
        bounds = [v.valid_to if v.valid_from <= change.at else v.valid_from for v in versions]
        everything = [*self.versions, *(versions[i] for i in holding)]
        order = sorted(range(len(everything)), key=lambda i: everything[i].statement.id)
        return Corpus(
            subject=self.subject,
            revision=change.revision,
            versions=[everything[i] for i in order],
            matrix=np.concatenate([self.matrix, matrix[holding]])[order],
            data_key=self.data_key,
            sealer=self.sealer,
            at=change.at,
            ends=min((b for b in [self.ends, *bounds] if b is not None), default=None),
        )

    def without(self, ids: Collection[str]) -> "Corpus":
        """Give the corpus without some statements."""
        left = [i for i, id_ in enumerate(self.ids) if id_ not in ids]
        return replace(self, versions=[self.versions[i] for i in left], matrix=self.matrix[left])

    def in_context(self, contexts: frozenset[str]) -> NDArray[np.bool_]:
        """Tell which statements apply in any of ``contexts``; none on either side: all."""
        if not contexts or not self._contexts:
            return np.ones(len(self), np.bool_)
        return np.array([not own or bool(own & contexts) for own in self._contexts], np.bool_)


class _Held(OrderedDict[tuple[str, str], Corpus]):
    """Corpora by tenant and subject, those used longest ago first."""

    statements = 0


class CorpusCache:
    """The corpora last used, up to a number of statements in all; safe between threads."""

    def __init__(self, most_statements: int) -> None:
        self._most = most_statements
        self._tenant = ""
        self._held = _Held()
        self._lock = threading.Lock()

    def of(self, tenant: str) -> "CorpusCache":
        """Give the same cache for a tenant's subjects."""
        own = copy(self)
        own._tenant = tenant
        return own

    def get(self, subject: str, data_key: str, revision: int, now: int) -> Corpus | None:
        """Give the corpus of a subject if it is that of this revision and still current."""
        with self._lock:
            corpus = self._held.get((self._tenant, subject))
            if corpus is None or (corpus.data_key, corpus.revision) != (data_key, revision):
                return None
            if corpus.ends is not None and now >= corpus.ends:
                return None
            self._held.move_to_end((self._tenant, subject))
            return corpus

    def put(self, corpus: Corpus) -> None:
        """Keep a corpus, and let go of those used longest ago."""
        held = self._held
        with self._lock:
            self._drop(corpus.subject)
            held[self._tenant, corpus.subject] = corpus
            held.statements += len(corpus)
            while held.statements > self._most and held:
                _, dropped = held.popitem(last=False)
                held.statements -= len(dropped)

    def drop(self, subject: str) -> None:
        """Forget a subject."""
        with self._lock:
            self._drop(subject)

    def clear(self) -> None:
        """Forget everything, of all tenants."""
        with self._lock:
            self._held.clear()
            self._held.statements = 0

    def _drop(self, subject: str) -> None:
        dropped = self._held.pop((self._tenant, subject), None)
        self._held.statements -= len(dropped) if dropped else 0


def fold(name: str) -> str:
    """Bring the name of a context to the form in which two are compared."""
    return " ".join(name.split()).casefold()


def empty(subject: str, dimensions: int) -> Corpus:
    """Give the corpus of a subject of whom nothing is known."""
    return Corpus(subject, NO_REVISION, [], np.zeros((0, dimensions), np.int8))


def joined(parts: Sequence[Any]) -> Any:
    """Concatenate arrays; a single one is given back as it is."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
