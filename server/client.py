"""A running server, with the methods of the engine: what the command line uses in its place.

``Remote`` takes and gives what ``Holdfast`` does; the routes are those of ``api``. The
engine is not imported, and what reads answers only when there is one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..memory.errors import InvalidInputError
from ..memory.models import (
    Decision,
    Erasure,
    Evidence,
    Proposal,
    ProposalStatus,
    Statement,
    Verification,
)
from ..retrieval.results import (
    Added,
    DoctorReport,
    Explanation,
    Loaded,
    Pair,
    Replay,
    Retrieval,
)
from .client_admin import (
    API,
    RemoteAccess,
    RemoteAudit,
    of_subject,
    plain_time,
    read,
    whole_list,
)
from .wire import Answer, Wire, segment

if TYPE_CHECKING:
    from ..memory.times import Time
    from ..memory.vectors import Progress
    from ..retrieval.engine import Subjects
    from ..retrieval.request import Messages


class Remote:
    """A values memory behind a URL or a socket."""

    def __init__(self, wire: Wire, data: Path | None = None) -> None:
        """Take a server.

        Args:
            wire: to it.
            data: its data directory, where that can be read from here.
        """
        self._wire = wire
        self.audit = RemoteAudit(wire, data)
        self.access = RemoteAccess(wire)

    def close(self) -> None:
        """Do nothing: no connection is kept."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # What subjects say

    def add(
        self,
        subject: str,
        text: str,
        *,
        kind: str | None = None,
        strength: str | None = None,
        scope: str | None = None,
        contexts: Sequence[str] = (),
        valid_from: "Time | None" = None,
        valid_to: "Time | None" = None,
        source: str = "subject",
        split: bool = True,
    ) -> Added:
        """Store what a text says."""
        traits = _traits(kind, strength, scope, contexts, valid_from, valid_to)
        return self._add(subject, {"text": text, "source": source, "split": split, **traits})

    def add_many(
        self,
        subject: str,
        texts: Sequence[str],
        *,
        kind: str | None = None,
        strength: str | None = None,
        scope: str | None = None,
        contexts: Sequence[str] = (),
        valid_from: "Time | None" = None,
        valid_to: "Time | None" = None,
        source: str = "subject",
        split: bool = True,
        progress: "Progress | None" = None,  # noqa: ARG002
    ) -> list[Statement]:
        """Store many texts; no progress is told."""
        traits = _traits(kind, strength, scope, contexts, valid_from, valid_to)
        said = {"texts": list(texts), "source": source, "split": split, **traits}
        return list(self._add(subject, said))

    def _add(self, subject: str, said: Mapping[str, Any]) -> Added:
        given = self._ask("POST", f"{of_subject(subject)}/statements", said).value
        pairs = ("similar", "possible_revisions", "tensions")
        reports: Any = {name: read(list[Pair], given[name]) for name in pairs}
        existing = read(list[Statement], given["existing"])
        return Added(read(list[Statement], given["statements"]), existing=existing, **reports)

    def decide(
        self,
        subject: str,
        *,
        situation: str,
        choice: str,
        reason: str,
        weighed: Sequence[str] = (),
    ) -> Decision:
        """Store a decision."""
        parts = {"situation": situation, "choice": choice, "reason": reason}
        said = {**parts, "weighed": list(weighed)}
        return read(Decision, self._ask("POST", f"{of_subject(subject)}/decisions", said).value)

    def revise(
        self,
        statement_id: str,
        text: str | None = None,
        *,
        reason: str | None = None,
        **changes: Any,
    ) -> Statement:
        """Write the next version of a statement."""
        said = {"text": text, "reason": reason}
        said = {name: value for name, value in said.items() if value is not None}
        changes = {name: plain_time(value) for name, value in changes.items()}
        path = f"/statements/{segment(statement_id)}"
        return read(Statement, self._ask("PATCH", path, {**said, **changes}).value)

    def retire(self, statement_id: str, *, reason: str | None = None) -> Statement:
        """Note that a statement no longer holds."""
        path = f"/statements/{segment(statement_id)}"
        return read(Statement, self._ask("DELETE", path, {"reason": reason}).value)

    def propose(
        self,
        subject: str,
        text: str,
        *,
        source: str,
        kind: str | None = None,
        strength: str | None = None,
        scope: str | None = None,
        contexts: Sequence[str] = (),
        split: bool = True,
    ) -> list[Proposal]:
        """Keep what somebody other than the subject put forward."""
        said = {
            "text": text, "source": source, "kind": kind, "strength": strength, "scope": scope,
            "contexts": list(contexts), "split": split,
        }  # fmt: skip
        return self._put_forward(subject, said)

    def _put_forward(self, subject: str, said: Mapping[str, Any]) -> list[Proposal]:
        path = f"{of_subject(subject)}/proposals"
        return read(list[Proposal], self._ask("POST", path, said).value)

    def proposals(self, subject: str, *, status: ProposalStatus | None = "open") -> list[Proposal]:
        """List a subject's proposals."""
        query = {"status": "all" if status is None else status}
        return read(list[Proposal], self._list(f"{of_subject(subject)}/proposals", query))

    def glean(
        self, subject: str, messages: "Messages", *, source: str = "conversation"
    ) -> list[Proposal]:
        """Propose what a subject says in a conversation that lasts."""
        said = {"messages": [*messages], "source": source}
        return self._put_forward(subject, said)

    def confirm(self, proposal_id: str) -> Statement:
        """Make a statement of a proposal."""
        path = f"/proposals/{segment(proposal_id)}/confirm"
        return read(Statement, self._ask("POST", path).value)

    def reject(self, proposal_id: str) -> Proposal:
        """Note that the subject does not want a proposal."""
        path = f"/proposals/{segment(proposal_id)}/reject"
        return read(Proposal, self._ask("POST", path).value)

    # What is on record

    def statements(
        self,
        subject: str,
        *,
        as_of: "Time | None" = None,
        known_at: "Time | None" = None,
        include_retired: bool = False,
    ) -> list[Statement]:
        """List what held at ``as_of``, as far as was recorded by ``known_at``."""
        query = {"as_of": plain_time(as_of), "known_at": plain_time(known_at)}
        query["include_retired"] = include_retired
        return read(list[Statement], self._list(f"{of_subject(subject)}/statements", query))

    def statement(self, statement_id: str) -> Statement:
        """Give the newest version of a statement."""
        return self.history(statement_id)[-1]

    def history(self, statement_id: str) -> list[Statement]:
        """Give every version of a statement, oldest first."""
        return read(list[Statement], self._list(f"/statements/{segment(statement_id)}/history"))

    def decisions(self, subject: str, *, as_of: "Time | None" = None) -> list[Decision]:
        """List the decisions that stand, oldest first."""
        query = {"as_of": plain_time(as_of)}
        return read(list[Decision], self._list(f"{of_subject(subject)}/decisions", query))

    def subjects(self) -> list[str]:
        """List the subjects of whom anything is on record."""
        return read(list[str], self._list("/subjects"))

    # What bears on a request, and why

    def retrieve(
        self,
        subject: "Subjects",
        request: "str | Messages",
        *,
        limit: int | None = None,
        budget: int | None = None,
        threshold: float | None = None,
        contexts: Sequence[str] = (),
        as_of: "Time | None" = None,
        record: bool = True,
    ) -> Retrieval:
        """Choose the few statements that bear on a request, and keep evidence of it."""
        whose = [subject] if isinstance(subject, str) else list(subject)
        if not whose:
            raise InvalidInputError("name at least one subject")
        said = {
            "request": request, "subjects": whose if len(whose) > 1 else None, "limit": limit,
            "budget": budget, "threshold": threshold, "contexts": list(contexts),
            "as_of": plain_time(as_of), "record": record,
        }  # fmt: skip
        return read(Retrieval, self._ask("POST", f"{of_subject(whose[0])}/retrieve", said).value)

    def evidence(self, subject: str | None = None, *, limit: int | None = 50) -> list[Evidence]:
        """List evidence of retrievals, newest first."""
        return self.audit.events(subject, types=["retrieval"], limit=limit)

    def explain(self, evidence_id: str) -> Explanation:
        """Show a recorded retrieval."""
        given = self._ask("GET", f"/evidence/{segment(evidence_id)}").value["explanation"]
        if given is None:
            raise InvalidInputError(f"{evidence_id} is no retrieval, or was erased")
        return read(Explanation, given)

    def replay(
        self,
        evidence_id: str,
        *,
        without: Sequence[str] = (),
        as_of: "Time | None" = None,
        request: "str | Messages | None" = None,
    ) -> Replay:
        """Compute a recorded retrieval again."""
        said = {"without": list(without), "as_of": plain_time(as_of), "request": request}
        path = f"/evidence/{segment(evidence_id)}/replay"
        return read(Replay, self._ask("POST", path, said).value)

    def verify(
        self,
        *,
        checkpoint: str | None = None,
        progress: "Progress | None" = None,  # noqa: ARG002
    ) -> Verification:
        """Check the whole ledger; no progress is told."""
        given = self._ask("GET", "/ledger/verify", query={"checkpoint": checkpoint}).value
        return read(Verification, _without(given, "verdict"))

    def export(self, subject: str) -> dict[str, Any]:
        """Give a subject's record as a portable document."""
        return self._ask("GET", f"{of_subject(subject)}/export").value

    def load(
        self,
        subject: str,
        data: object,
        *,
        progress: "Progress | None" = None,  # noqa: ARG002
    ) -> Loaded:
        """Write what ``export`` gave; no progress is told."""
        return read(Loaded, self._ask("POST", f"{of_subject(subject)}/import", data).value)

    def erase(self, subject: str, *, reason: str | None = None) -> Erasure:
        """Remove everything of a subject."""
        query, said = {"confirm": subject}, {"reason": reason}
        return read(Erasure, self._ask("DELETE", of_subject(subject), said, query=query).value)

    def doctor(
        self,
        *,
        mend: bool = True,
        progress: "Progress | None" = None,  # noqa: ARG002
    ) -> DoctorReport:
        """Check the record, the vectors and the ledger; no progress is told."""
        given = self._ask("POST" if mend else "GET", "/doctor").value
        return read(DoctorReport, _without(given, "ok"))

    def of_tenant(self, tenant: str) -> "Remote":
        """Give the same server for another tenant: a key is bound to its own."""
        if not self._wire.is_local:
            raise InvalidInputError(
                "a key belongs to one tenant; name another one where the data directory is"
            )
        return Remote(Wire(self._wire.address, tenant=tenant))

    def _ask(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        return self._wire.ask(method, API + path, body=body, **more)

    def _list(self, path: str, query: Mapping[str, Any] | None = None) -> list[Any]:
        return whole_list(self._wire, path, query)


def _traits(
    kind: str | None,
    strength: str | None,
    scope: str | None,
    contexts: Sequence[str],
    valid_from: "Time | None",
    valid_to: "Time | None",
) -> dict[str, Any]:
    return {
        "kind": kind, "strength": strength, "scope": scope, "contexts": list(contexts),
        "valid_from": plain_time(valid_from), "valid_to": plain_time(valid_to),
    }  # fmt: skip


def _without(given: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {field: value for field, value in given.items() if field != name}
