"""What subjects say → statements that are durable: add, decide, revise, retire, propose.

Each change is one transaction. It knows nothing of requests.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ..memory import decisions, proposals, store, times
from ..memory.errors import InvalidInputError
from ..memory.models import (
    KINDS,
    SCOPES,
    STRENGTHS,
    Decision,
    Kind,
    Proposal,
    Scope,
    Statement,
    Strength,
)
from ..memory.record import Snapshot, Transaction
from ..memory.times import Time
from ..memory.vectors import Embedded, Progress
from ..memory.versions import Change, Draft, Subject, Version
from . import neighbours, reading, splitting
from .library import Library, draft, equality
from .results import Added, Near, Said

MOST_NAME = 200
"""Characters in the name of a subject, a tenant, a context or a source."""
MOST_CONTEXTS = 32
OTHERS = ("model", "tool", "import")
"""Sources that are not the subject: what they say is a proposal until it is confirmed."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a caller said of a text; what is None is read from its words."""

    kind: Kind | None = None
    strength: Strength | None = None
    scope: Scope | None = None
    contexts: tuple[str, ...] = ()
    valid_from: int | None = None
    valid_to: int | None = None
    source: str = "subject"


def attributes(
    *,
    kind: str | None = None,
    strength: str | None = None,
    scope: str | None = None,
    contexts: Sequence[str] = (),
    valid_from: Time | None = None,
    valid_to: Time | None = None,
    source: str = "subject",
) -> Attributes:
    """Check what a caller said of a text.

    Raises:
        InvalidInputError: a value is none of those that there are; the message lists them.
    """
    begins = None if valid_from is None else times.to_micros(valid_from, "valid_from")
    ends = None if valid_to is None else times.to_micros(valid_to, "valid_to")
    if ends is not None and ends <= (times.now() if begins is None else begins):
        raise InvalidInputError(
            "valid_to must be later than valid_from (now, if it is not given); give both in order"
        )
    return Attributes(
        kind=one_of(kind, KINDS, "kind"),
        strength=one_of(strength, STRENGTHS, "strength"),
        scope=one_of(scope, SCOPES, "scope"),
        contexts=context_names(contexts),
        valid_from=begins,
        valid_to=ends,
        source=name(source, "source"),
    )


def one_of(value: Any, choices: Sequence[Any], what: str) -> Any:
    """Give a value that is among the choices, or None."""
    if value is not None and value not in choices:
        raise InvalidInputError(f"{what} must be one of: {', '.join(choices)}")
    return value


def name(value: object, what: str) -> str:
    """Check the name of a subject, a tenant, a context or a source."""
    if not isinstance(value, str):
        raise InvalidInputError(f"the name of a {what} is a text")
    cleaned = splitting.clean(value, limit=MOST_NAME, what=what)
    if "\n" in cleaned or "\t" in cleaned:
        raise InvalidInputError(f"the name of a {what} is one line without tabs")
    return cleaned


def subject_names(given: object) -> list[str]:
    """Check one subject's name, or a list of names in order of precedence; none stands twice."""
    if not isinstance(given, (str, Sequence)):
        raise InvalidInputError("a subject is a name, or a list of names in order of precedence")
    names: list[object] = [given] if isinstance(given, str) else list(cast("Any", given))
    if not names:
        raise InvalidInputError("name at least one subject")
    return list(dict.fromkeys(name(each, "subject") for each in names))


def reason_text(reason: str | None) -> str | None:
    """Check a reason that a caller gave; None: none was given."""
    if reason is None:
        return None
    return splitting.clean(reason, limit=splitting.MAX_STATEMENT_CHARACTERS, what="reason")


def context_names(values: Sequence[str]) -> tuple[str, ...]:
    """Check the names of contexts."""
    given: object = values
    if isinstance(given, str) or not isinstance(given, Collection):
        raise InvalidInputError('contexts is a list of names, like ["work"]')
    if len(values) > MOST_CONTEXTS:
        raise InvalidInputError(f"at most {MOST_CONTEXTS} contexts; give fewer")
    return tuple(dict.fromkeys(name(value, "context") for value in values))


def ids(values: object, what: str) -> list[str]:
    """Check a list of ids, or of other names that are compared as they are."""
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Collection):
        raise InvalidInputError(f'{what} is a list of ids, like ["st_…"]')
    listed = list(cast("Collection[object]", values))
    if not all(isinstance(each, str) for each in listed):
        raise InvalidInputError(f'{what} is a list of ids, like ["st_…"]')
    return cast("list[str]", listed)


class Writer:
    """Every change of statements, decisions and proposals."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._record = library.record

    def add(
        self,
        subject: str,
        texts: Sequence[str],
        given: Attributes,
        *,
        split: bool,
        report: bool,
        progress: Progress | None = None,
    ) -> Added:
        """Store what texts say, in one transaction; with ``report`` say what lies close."""
        _check_own_word(given.source)
        drafts = [_draft(one, given) for text in texts for one in _singles(text, split=split)]
        known = self._known(subject, drafts)
        fresh = {d.equality: d for d in reversed(drafts) if d.equality not in known}
        new = [d for d in drafts if fresh.get(d.equality) is d]
        pairs: list[neighbours.Related] = []
        written: dict[bytes, Version] = {}
        if new:
            embedded = self._library.embed(subject, new, progress)
            new = neighbours.read(self._library, new, given, embedded.matrix)
            if report:
                pairs = neighbours.pairs(self._library, subject, new, embedded.matrix)
            late, change, versions = self._record.transact(
                lambda tx: self._write_new(tx, subject, new, embedded)
            )
            known |= late
            rows = [i for i, d in enumerate(new) if d.equality not in late]
            if change is not None:
                self._library.note_added(change, versions, embedded.matrix[rows])
            written = {new[i].equality: v for i, v in zip(rows, versions, strict=True)}
        statements = {key: v.statement for key, v in (known | written).items()}
        return Added(
            [statements[d.equality] for d in drafts],
            existing=[v.statement for v in known.values()],
            similar=neighbours.reported(pairs, "similar", written),
            possible_revisions=neighbours.reported(pairs, "possible_revision", written),
            tensions=neighbours.reported(pairs, "tension", written),
        )

    def read(self, subject: str, text: str, given: Attributes, *, split: bool) -> list[Said]:
        """Tell how a text would be stored; writes nothing, to Chroma neither."""
        drafts = [_draft(one, given) for one in _singles(text, split=split)]
        matrix = self._library.quantised([each.text for each in drafts])
        drafts = neighbours.read(self._library, drafts, given, matrix)
        known = self._known(subject, drafts)
        near: dict[str, list[Near]] = {each.key: [] for each in drafts}
        for new, other, cosine, said in neighbours.pairs(self._library, subject, drafts, matrix):
            near[new.key].append(Near(other, cast("Any", said), cosine))
        return [
            Said(
                each.text, each.kind, each.strength, each.scope,
                existing=known[each.equality].statement if each.equality in known else None,
                near=[] if each.equality in known else near[each.key],
            )
            for each in drafts
        ]  # fmt: skip

    def _write_new(
        self, tx: Transaction, subject: str, drafts: Sequence[Draft], embedded: Embedded
    ) -> tuple[dict[bytes, Version], Change | None, list[Version]]:
        """Write drafts, but for those that another has written meanwhile, which are given too."""
        found = store.ensure_subject(tx, subject)
        late = store.equal_statements(
            tx, found, [d.equality for d in drafts], as_of=found.present()
        )
        rows = [i for i, d in enumerate(drafts) if d.equality not in late]
        if not rows:
            return late, None, []
        change = store.begin_change(tx, subject)
        self._library.register(tx)
        own = Embedded(embedded.embedder, embedded.matrix[rows])
        return late, change, store.write(tx, change, [drafts[i] for i in rows], own)

    def decide(
        self, subject: str, situation: str, choice: str, reason: str, weighed: Sequence[str]
    ) -> Decision:
        """Store a decision; the very same one is not stored twice."""
        parts = [
            splitting.clean(text, limit=splitting.MAX_STATEMENT_CHARACTERS, what=what)
            for text, what in ((situation, "situation"), (choice, "choice"), (reason, "reason"))
        ]
        given = Attributes(kind="decision", strength="should", scope="topical")
        new = _draft(decisions.text_of(*parts), given)
        with self._record.snapshot() as snapshot:
            found = store.subject(snapshot, subject)
            if found is not None and (old := _same_decision(snapshot, found, parts)):
                return old
            _weighed(snapshot, subject, weighed)
        embedded = self._library.embed(subject, [new])

        def write(tx: Transaction) -> Decision:
            found = store.ensure_subject(tx, subject)
            if old := _same_decision(tx, found, parts):
                return old  # written by another meanwhile
            change = store.begin_change(tx, subject)
            self._library.register(tx)
            return decisions.write(
                tx,
                change,
                new,
                embedded,
                situation=parts[0],
                choice=parts[1],
                reason=parts[2],
                weighed_versions=_weighed(tx, subject, weighed),
            )

        return self._record.transact(write)

    def revise(
        self, statement_id: str, text: str | None, reason: str | None, changes: dict[str, Any]
    ) -> Statement:
        """Write the next version of a statement."""
        with self._record.snapshot() as snapshot:
            old = _open_version(store.latest(snapshot, statement_id))
        new = _revised(old, text, changes)
        reason = reason_text(reason)
        embedded = self._library.embed(old.statement.subject, [new])

        def write(tx: Transaction) -> Statement:
            current = _open_version(store.latest(tx, statement_id))
            if current.key != old.key:
                raise InvalidInputError(
                    f"{statement_id} was revised meanwhile; look at its history and revise again"
                )
            change = store.begin_change(tx, old.statement.subject)
            self._library.register(tx)
            return store.revise(tx, change, old, new, embedded, reason).statement

        return self._record.transact(write)

    def retire(self, statement_id: str, reason: str | None) -> Statement:
        """Note that a statement no longer holds."""
        reason = reason_text(reason)

        def write(tx: Transaction) -> Statement:
            old = _open_version(store.latest(tx, statement_id))
            change = store.begin_change(tx, old.statement.subject)
            return store.retire(tx, change, old, reason)

        return self._record.transact(write)

    def propose(
        self, subject: str, text: str, given: Attributes, *, split: bool = True
    ) -> list[Proposal]:
        """Keep what somebody other than the subject put forward, split into single ones."""
        singles = _singles(text, split=split)
        return self._put_forward(subject, [_draft(each, given) for each in singles], given)

    def glean(self, subject: str, singles: Sequence[str], given: Attributes) -> list[Proposal]:
        """Keep single statements out of a conversation, but for what is known or was proposed."""
        drafts = [_draft(each, given) for each in singles]
        known = set(self._known(subject, drafts))
        with self._record.snapshot() as snapshot:
            before = proposals.of_subject(snapshot, subject, None)
        known |= {equality(each.text) for each in before}
        new = [each for each in drafts if each.equality not in known]
        return self._put_forward(subject, new, given) if new else []

    def _put_forward(
        self, subject: str, drafts: Sequence[Draft], given: Attributes
    ) -> list[Proposal]:
        matrix = self._library.quantised([each.text for each in drafts])
        drafts = neighbours.read(self._library, drafts, given, matrix)

        def write(tx: Transaction) -> list[Proposal]:
            change = store.begin_change(tx, subject)
            return [proposals.write(tx, change, each) for each in drafts]

        return self._record.transact(write)

    def confirm(self, proposal_id: str) -> Statement:
        """Make a statement of a proposal: the subject's own word from now on."""
        with self._record.snapshot() as snapshot:
            proposal = proposals.read(snapshot, proposal_id)
        _check_open(proposal)
        given = Attributes(
            kind=proposal.kind,
            strength=proposal.strength,
            scope=proposal.scope,
            contexts=proposal.contexts,
            source=proposal.source,
        )
        new = _draft(proposal.text, given)
        embedded = self._library.embedded(self._library.quantised([new.text]))
        if not self._known(proposal.subject, [new]):
            self._library.put(proposal.subject, [new.key], embedded.matrix)

        def write(tx: Transaction) -> Statement:
            change = store.begin_change(tx, proposal.subject)
            known = store.equal_statements(tx, change.subject, [new.equality], as_of=change.at)
            if new.equality in known:
                statement = known[new.equality].statement
            else:
                self._library.register(tx)
                statement = store.write(tx, change, [new], embedded)[0].statement
            proposals.decide(tx, change, proposal, "confirmed", statement.id)
            return statement

        return self._record.transact(write)

    def reject(self, proposal_id: str) -> Proposal:
        """Note that the subject does not want a proposal."""

        def write(tx: Transaction) -> Proposal:
            proposal = proposals.read(tx, proposal_id)
            _check_open(proposal)
            change = store.begin_change(tx, proposal.subject)
            return proposals.decide(tx, change, proposal, "rejected")

        return self._record.transact(write)

    def _known(self, subject: str, drafts: Sequence[Draft]) -> dict[bytes, Version]:
        with self._record.snapshot() as snapshot:
            found = store.subject(snapshot, subject)
            if found is None:
                return {}
            return store.equal_statements(
                snapshot, found, [d.equality for d in drafts], as_of=found.present()
            )


def _weighed(snapshot: Snapshot, subject: str, ids: Sequence[str]) -> list[Version]:
    given: object = ids
    if isinstance(given, str) or not isinstance(given, Collection):
        raise InvalidInputError('weighed is a list of ids of statements, like ["st_…"]')
    versions = [store.latest(snapshot, i) for i in {str(i): i for i in ids}.values()]
    for version in versions:
        if version.statement.subject != subject:
            raise InvalidInputError(
                f"{version.statement.id} is no statement of this subject; weigh its own"
            )
    return versions


def _same_decision(snapshot: Snapshot, found: Subject, parts: Sequence[str]) -> Decision | None:
    for old in decisions.standing(snapshot, found, as_of=found.present()):
        if [old.situation, old.choice, old.reason] == list(parts):
            return old
    return None


def _check_own_word(source: str) -> None:
    if source.split(":")[0].strip().casefold() in OTHERS:
        raise InvalidInputError(
            f"what comes from {source!r} is not the subject's own word; "
            "put it forward with propose(), and the subject confirms it"
        )


def _singles(text: str, *, split: bool) -> list[str]:
    if split:
        return splitting.split(text)
    return [splitting.clean(text, limit=splitting.MAX_STATEMENT_CHARACTERS, what="statement")]


def _draft(text: str, given: Attributes) -> Draft:
    read = reading.read(text)
    return draft(
        text,
        kind=given.kind or read.kind,
        strength=given.strength or read.strength,
        scope=given.scope or read.scope,
        contexts=given.contexts,
        source=given.source,
        valid_from=given.valid_from,
        valid_to=given.valid_to,
    )


def _revised(old: Version, text: str | None, changes: dict[str, Any]) -> Draft:
    """Give the next version: what is not changed stays."""
    unknown = set(changes) - {
        "kind", "strength", "scope", "contexts", "valid_from", "valid_to", "source"
    }  # fmt: skip
    if unknown:
        raise InvalidInputError(f"a revision cannot change: {', '.join(sorted(unknown))}")
    before = old.statement
    text = before.text if text is None else _singles(text, split=False)[0]
    given = attributes(**changes)
    _check_own_word(given.source)
    new = draft(
        text,
        kind=given.kind or before.kind,
        strength=given.strength or before.strength,
        scope=given.scope or before.scope,
        contexts=given.contexts if "contexts" in changes else before.contexts,
        source=given.source if "source" in changes else before.source,
        valid_from=_begins(old, given.valid_from),
        valid_to=given.valid_to if "valid_to" in changes else old.valid_to,
    )
    if text == before.text and not changes:
        raise InvalidInputError("the revision changes nothing; give a new text or attribute")
    return new


def _begins(old: Version, given: int | None) -> int | None:
    """Tell from when a revision holds: as given; else now, or when the old one would begin."""
    if given is not None:
        return given
    return old.valid_from if old.valid_from > times.now() else None


def _open_version(version: Version) -> Version:
    if version.statement.retired_at is not None:
        raise InvalidInputError(f"{version.statement.id} is retired; add the statement anew")
    return version


def _check_open(proposal: Proposal) -> None:
    if proposal.status != "open":
        raise InvalidInputError(f"proposal {proposal.id} was {proposal.status} before")
