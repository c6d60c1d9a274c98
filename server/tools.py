"""What a model can do here through tools: five of them, named for when to call them.

What a model writes becomes a proposal, never a statement. It knows no protocol: ``mcp``
carries the calls. An error's text never repeats what was given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..memory import decisions
from ..memory.errors import ErasedError, InvalidInputError, NotFoundError
from ..memory.models import Proposal
from ..retrieval.engine import Holdfast
from .auth import NO_SUBJECT, Caller, Permission
from .client import Remote
from .problems import problem_of
from .service import Service

INSTRUCTIONS = (
    "Holdfast keeps what the person you are helping values, promised and decided. Call "
    "recall_values_for_request before you advise, choose, write or act for them, and keep to "
    "what it gives. What you propose or record takes effect only when the person confirms it."
)
SESSION = "holdfast.mcp"
"""Where the scope of a request over HTTP has its session."""
SOURCE = "model:mcp"
MOST_LISTED = 100
MOST_EXPLAINED = 15
NO_EVIDENCE = "there is no such evidence here; recall_values_for_request gives ids"

Engine = Holdfast | Remote


@dataclass(frozen=True)
class Session:
    """On whose behalf a model works, and with what."""

    engine: Engine
    caller: Caller
    bound: str | None = None
    """The only subject that it is about, whatever the model names."""
    default: str | None = None
    """Whom it is about when the model names nobody."""
    service: Service | None = None
    """Where what is done is counted; None: nowhere."""

    def subject(self, named: str | None) -> str:
        """Give the subject that a call is about.

        Raises:
            NotFoundError: it may not be about that one.
            InvalidInputError: nobody was named.
        """
        bound = self.caller.subject or self.bound
        if bound is not None:
            if named is not None and named != bound:
                raise NotFoundError(NO_SUBJECT)
            return bound
        subject = named or self.default
        if not subject:
            raise InvalidInputError(
                "whom is it about? Give the argument subject, or the header x-holdfast-subject"
            )
        return subject

    def admit(self, operation: str) -> None:
        """Count an operation, or refuse it."""
        if self.service is not None:
            self.service.meter.admit(self.caller, operation)

    def retrieved(self, status: str) -> None:
        """Count a retrieval by what came of it."""
        if self.service is not None:
            self.service.metrics.retrieved("mcp", status)

    def may_see(self, subjects: Sequence[str]) -> bool:
        """Tell whether what is about these subjects is this session's to see."""
        of_bound = self.bound is None or list(subjects) == [self.bound]
        return of_bound and self.caller.may_see(subjects)


class Arguments(BaseModel):
    """Of a call; what a tool does not take is refused."""

    model_config = ConfigDict(extra="forbid")

    subject: Annotated[str, Field(description="Whom it is about")] | None = None


class Recall(Arguments):
    """Which statements bear on this request?"""

    request: Annotated[str, Field(description="The person's request, in their words")]


class Propose(Arguments):
    """Put a statement forward."""

    text: Annotated[
        str, Field(max_length=2000, description="One sentence, in the person's own words")
    ]
    strength: Literal["must", "should", "prefer"] | None = None


class Record(Arguments):
    """Put a decision forward."""

    situation: Annotated[str, Field(max_length=600)]
    choice: Annotated[str, Field(max_length=600)]
    reason: Annotated[str, Field(max_length=600)]


class Browse(Arguments):
    """List statements in force."""

    limit: Annotated[int, Field(ge=1, le=MOST_LISTED)] = 30


class Explain(Arguments):
    """Why was this chosen?"""

    evidence_id: str


class Recalled(BaseModel):
    """What bears on a request."""

    context: str
    status: str
    evidence_id: str | None


class Put(BaseModel):
    """A proposal that was stored."""

    id: str
    text: str


class Proposed(BaseModel):
    """What was put forward; it waits for the person."""

    proposals: list[Put]
    status: str = "awaits confirmation by the person"


class Listed(BaseModel):
    """A statement in force."""

    id: str
    text: str
    kind: str
    strength: str


class Statements(BaseModel):
    """Statements in force, the newest last."""

    statements: list[Listed]
    total: int


class Considered(BaseModel):
    """A statement that was considered for a request."""

    id: str
    text: str
    verdict: str
    probability: float


class Explained(BaseModel):
    """Why a retrieval gave what it gave: the best candidates first."""

    status: str
    candidates: list[Considered]
    total: int


def recall(session: Session, given: Recall) -> Recalled:
    """Find what bears on a request; the evidence is durable before it answers."""
    found = session.engine.retrieve(session.subject(given.subject), given.request)
    session.retrieved(found.status)
    return Recalled(context=found.context, status=found.status, evidence_id=found.evidence_id)


def propose(session: Session, given: Propose) -> Proposed:
    """Keep what a model heard the person say, until they confirm it."""
    made = session.engine.propose(
        session.subject(given.subject), given.text, source=SOURCE, strength=given.strength
    )
    return _proposed(made)


def record(session: Session, given: Record) -> Proposed:
    """Keep a decision that a model saw the person take, until they confirm it."""
    text = decisions.text_of(given.situation.strip(), given.choice.strip(), given.reason.strip())
    made = session.engine.propose(
        session.subject(given.subject), text, source=SOURCE, kind="decision", strength="should",
        scope="topical", split=False,
    )  # fmt: skip
    return _proposed(made)


def _proposed(made: Sequence[Proposal]) -> Proposed:
    return Proposed(proposals=[Put(id=each.id, text=each.text) for each in made])


def browse(session: Session, given: Browse) -> Statements:
    """List the newest statements in force."""
    held = session.engine.statements(session.subject(given.subject))
    shown = [
        Listed(id=each.id, text=each.text, kind=each.kind, strength=each.strength)
        for each in held[-given.limit :]
    ]
    return Statements(statements=shown, total=len(held))


def explain(session: Session, given: Explain) -> Explained:
    """Show what was considered for a request, with each one's verdict."""
    try:
        explanation = session.engine.explain(given.evidence_id)
    except (NotFoundError, ErasedError, InvalidInputError):
        raise NotFoundError(NO_EVIDENCE) from None
    if not session.may_see(explanation.evidence.subjects):
        raise NotFoundError(NO_EVIDENCE)
    found = explanation.retrieval
    shown = [
        Considered(
            id=each.statement.id,
            text=each.statement.text,
            verdict=each.verdict,
            probability=round(each.score, 3),
        )
        for each in found.candidates[:MOST_EXPLAINED]
    ]
    return Explained(status=found.status, candidates=shown, total=len(found.candidates))


@dataclass(frozen=True)
class Tool:
    """A tool as models see it."""

    name: str
    when: str
    takes: type[Arguments]
    gives: type[BaseModel]
    work: Callable[[Session, Any], BaseModel]
    permission: Permission
    operation: str
    reads_only: bool = True

    def call(self, session: Session, arguments: dict[str, Any]) -> BaseModel:
        """Do it for one session.

        Raises:
            InvalidInputError: arguments that it does not take; nothing was done.
            HoldfastError: it may not be done, or could not.
        """
        session.caller.need(self.permission)
        try:
            given = self.takes.model_validate(arguments)
        except ValidationError as error:
            raise InvalidInputError(self._told(error)) from None
        session.admit(self.operation)
        return self.work(session, given)

    def _told(self, error: ValidationError) -> str:
        """Say what is wrong with arguments, by the names that the tool gave them itself."""
        names = self.takes.model_fields
        told = [
            f"{each['loc'][0]}: {each['msg']}"
            for each in error.errors(include_url=False, include_input=False, include_context=False)
            if each["loc"] and each["loc"][0] in names
        ]
        return "; ".join(told) or f"unknown arguments; it takes: {', '.join(names)}"

    def schema(self, session: Session) -> dict[str, Any]:
        """Give the JSON Schema of what it takes; who is bound to one subject names none."""
        schema = compact(self.takes)
        if self.takes is Explain or session.caller.subject or session.bound:
            del schema["properties"]["subject"]
        elif session.default is None:
            schema["required"] = [*schema.get("required", ()), "subject"]
        return schema


TOOLS = (
    Tool(
        "recall_values_for_request",
        "Call BEFORE answering or acting on any request where what this person values, refuses, "
        "promised or decided could matter: advice, choices, plans, purchases, food, health, money, "
        "messages in their name, code in their style. Gives the few statements that bear on it "
        "(empty: none does).",
        Recall, Recalled, recall, "retrieve", "mcp.recall",
    ),
    Tool(
        "propose_statement",
        "Call when the person says something lasting about what they value, prefer, refuse, "
        "promise or aim at. Not for one-off instructions, nor for your own guesses. It waits for "
        "their confirmation.",
        Propose, Proposed, propose, "write", "mcp.propose", reads_only=False,
    ),
    Tool(
        "record_decision",
        "Call when the person has settled a choice that should guide similar cases later: the "
        "situation, what they chose, and their reason. It waits for their confirmation.",
        Record, Proposed, record, "write", "mcp.decide", reads_only=False,
    ),
    Tool(
        "list_statements",
        "Call when the person asks what is on record about them. For a request use "
        "recall_values_for_request instead.",
        Browse, Statements, browse, "read", "mcp.list",
    ),
    Tool(
        "explain_retrieval",
        "Call when the person asks why something was or was not recalled. Takes the evidence_id of "
        "recall_values_for_request.",
        Explain, Explained, explain, "evidence", "mcp.explain",
    ),
)  # fmt: skip


def error_text(error: Exception) -> str:
    """Say what went wrong in words that repeat nothing that was given."""
    if isinstance(error, NotFoundError) and str(error) not in (NO_EVIDENCE, NO_SUBJECT):
        return "there is nothing of that id here"
    return problem_of(error, "").detail


def compact(model: type[BaseModel]) -> dict[str, Any]:
    """Give a model's JSON Schema without what only costs context."""
    whole = model.model_json_schema()
    schema = _compact(whole, whole.get("$defs", {}))
    schema.pop("description", None)
    return schema


def _compact(schema: Any, parts: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_compact(each, parts) for each in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    given = cast("dict[str, Any]", schema)
    if "$ref" in given:
        part = _compact(parts[given["$ref"].rpartition("/")[2]], parts)
        return {name: inner for name, inner in part.items() if name != "description"}
    options = [each for each in given.get("anyOf", ()) if each.get("type") != "null"]
    if len(options) == 1:
        return _compact(options[0], parts)
    return {
        name: {key: _compact(value, parts) for key, value in inner.items()}
        if name == "properties"
        else _compact(inner, parts)
        for name, inner in given.items()
        if name not in ("title", "$defs", "default")
    }
