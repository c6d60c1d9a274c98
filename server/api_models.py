"""What goes into the API and comes out of it, where that is not a value of the engine.

Bounds on sizes are here; what words and times mean is checked by the engine.
"""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..memory.access import MOST_SECONDS_OF_OVERLAP
from ..memory.models import Evidence, Key, Kind, Role, Scope, Statement, Strength, Verdict
from ..retrieval.reading import (
    MAX_STATEMENT_CHARACTERS,
    MAX_TEXT_CHARACTERS,
)
from ..retrieval.results import Candidate, Explanation, Pair, Status
from ..retrieval.settings import MOST_NUMBER
from ..retrieval.writing import MOST_CONTEXTS, MOST_NAME

MOST_MESSAGES = 2_000
MOST_SUBJECTS = 16
MOST_TEXTS = 100_000
"""Texts added at once; the size of the body bounds them before."""
MOST_IDS = 1_000


def told(most: int) -> Any:
    """Tell in the document how long a text may be; the engine refuses others in its words."""
    return Field(json_schema_extra={"minLength": 1, "maxLength": most})


Text = Annotated[str, told(MAX_TEXT_CHARACTERS)]
Words = Annotated[str, told(MAX_STATEMENT_CHARACTERS)]
Name = Annotated[str, told(MOST_NAME)]
Names = Annotated[list[Name], Field(json_schema_extra={"maxItems": MOST_CONTEXTS})]
Ids = Annotated[list[str], Field(max_length=MOST_IDS)]
When = Annotated[
    str,
    Field(
        examples=["2026-03-01T09:30:00+01:00"],
        json_schema_extra={"format": "date-time"},
        description="ISO 8601; without a zone it is UTC, and a date alone is its first moment.",
    ),
]
Messages = Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MOST_MESSAGES)]
Whole = Annotated[int, Field(ge=0, le=MOST_NUMBER)]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

MESSAGES_EXAMPLE = [{"role": "user", "content": "I'm vegan. What could I cook tonight?"}]


class _In(BaseModel):
    """What a caller sends: nothing in it may be unknown."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class NewStatements(_In):
    """What a subject says: one text, or several."""

    text: Text | None = Field(None, examples=["Be blunt with me. I never eat nuts."])
    """Split into single statements; what lies close is reported."""
    texts: Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)] | None = None
    """Many texts in one transaction, without reports; in place of ``text``."""
    kind: Kind | None = None
    """None: read from the words; so are strength and scope."""
    strength: Strength | None = None
    scope: Scope | None = None
    contexts: Names = []
    """The only contexts in which it applies; none: all."""
    valid_from: When | None = None
    """None: now."""
    valid_to: When | None = None
    """None: never."""
    source: Name = "subject"
    """Through what channel the subject said it."""
    split: bool = True
    """False keeps a text as one statement."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.text is None) is (self.texts is None):
            raise ValueError("give text, or texts")
        return self

    def said(self) -> dict[str, Any]:
        """Give what is said of the texts."""
        return self.model_dump(exclude={"text", "texts"})


class ToRead(_In):
    """A text that a subject might say, to see how it would be taken."""

    text: Text = Field(examples=["Be blunt with me. I never eat nuts."])
    kind: Kind | None = None
    """None: read from the words; so are strength and scope."""
    strength: Strength | None = None
    scope: Scope | None = None
    split: bool = True
    """False keeps the text as one statement."""


class Revision(_In):
    """What is changed of a statement; what is not named stays."""

    text: Words | None = Field(None, examples=["I eat no nuts, and no sesame either."])
    reason: Words | None = None
    """Why, for the history."""
    kind: Kind | None = None
    strength: Strength | None = None
    scope: Scope | None = None
    contexts: Names = []
    source: Name = "subject"
    valid_from: When | None = None
    """None: from now on; an earlier time corrects the past."""
    valid_to: When | None = None
    """None: open."""

    def changes(self) -> dict[str, Any]:
        """Give what was named, but for text and reason."""
        return self.model_dump(include=self.model_fields_set - {"text", "reason"})


class Reason(_In):
    """Why something is done, for the history."""

    reason: Words | None = Field(None, examples=["I moved."])


class NewDecision(_In):
    """A decision of the subject, kept as a precedent."""

    situation: Words = Field(examples=["Two job offers in March"])
    choice: Words = Field(examples=["the smaller team"])
    reason: Words = Field(examples=["I work best where I know everyone"])
    weighed: Ids = []
    """Ids of the subject's own statements that were weighed."""


class RetrievalRequest(_In):
    """A request to a model, for which statements are sought."""

    request: str | Messages = Field(examples=["Which desserts should I try in Sicily?"])
    """A prompt, or chat messages in OpenAI's or Anthropic's form."""
    subjects: Annotated[list[Name], Field(min_length=1, max_length=MOST_SUBJECTS)] | None = None
    """On whose behalf, in order of precedence, in place of the one that the path names."""
    limit: Whole | None = None
    """Most topical statements; None: as set. So are the next two."""
    budget: Whole | None = None
    """Most tokens of them."""
    threshold: Probability | None = None
    """Least probability at which one is injected."""
    contexts: Names = []
    """In which contexts the request is made; none: all statements apply."""
    as_of: When | None = None
    """With the statements that held then."""
    record: bool = True
    """False writes no evidence."""
    candidates: bool = True
    """False leaves the candidates out of the answer."""


class ReplayRequest(_In):
    """What is to be otherwise than it was; nothing: the same again."""

    without: Ids = []
    """Ids of statements to leave out."""
    as_of: When | None = None
    """With the statements of that date."""
    request: str | Messages | None = None
    """What was asked then, to embed it anew."""


class NewProposals(_In):
    """What somebody else puts forward for the subject: a text, or a conversation to read."""

    text: Text | None = Field(None, examples=["Prefers trains to planes."])
    messages: Messages | None = Field(None, examples=[MESSAGES_EXAMPLE])
    """Only the turns of the user are read, for what lasts."""
    source: Name | None = Field(None, examples=["model:assistant"])
    """Who puts it forward; of messages it may be left out."""
    kind: Kind | None = None
    strength: Strength | None = None
    scope: Scope | None = None
    contexts: Names = []
    split: bool = True
    """False keeps the text as one proposal."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.text is None) is (self.messages is None):
            raise ValueError("give text, or messages")
        if self.text is not None and self.source is None:
            raise ValueError("say in source who puts the text forward")
        if self.messages is not None and self.model_fields_set - {"messages", "source"}:
            raise ValueError("of messages, only source can be given: the rest is read")
        return self

    def said(self) -> dict[str, Any]:
        """Give what is said of a text."""
        return self.model_dump(exclude={"text", "messages"})


class NewKey(_In):
    """A key to be made."""

    name: Name = Field(examples=["the web shop"])
    role: Role
    """``admin``: everything of the tenant; ``app``: acts for any subject; ``personal``: for its
    own alone; ``auditor``: reads evidence and checks the ledger."""
    subject: Name | None = None
    """Whose a personal key is."""
    expires_at: When | None = None
    """None: it holds until it is revoked."""
    quota: Whole | None = None
    """Most operations in a month; None: any number."""


class Overlap(_In):
    """For how long a key that is replaced holds on."""

    overlap: Annotated[int, Field(ge=0, le=MOST_SECONDS_OF_OVERLAP)] = 0
    """Seconds."""


class Why(_In):
    """Why the ledger is begun anew."""

    reason: Words = Field(examples=["the disk failed; restored from the backup of 1 March"])


class KeyRotation(_In):
    """How the installation's key is replaced."""

    drop_old: bool = False
    """Take the old keys out of the key file: older backups can then not be read."""


class AddedOut(BaseModel):
    """The statements that a text says, and what lies close to them."""

    statements: list[Statement]
    existing: list[Statement]
    similar: list[Pair]
    possible_revisions: list[Pair]
    tensions: list[Pair]


class RetrievalOut(BaseModel):
    """What was chosen for a request; without ``candidates`` if they were left out."""

    context: str
    status: Status
    evidence_id: str | None
    injected: list[Candidate]
    candidates: list[Candidate] = []
    repaired: int


class EvidenceOut(BaseModel):
    """An event, and, of a retrieval, how it is read."""

    evidence: Evidence
    explanation: Explanation | None


class CheckpointOut(BaseModel):
    """A signed checkpoint, and the key that checks it."""

    origin: str
    size: int
    note: str
    key: str


class VerificationOut(BaseModel):
    """Whether the ledger holds."""

    ok: bool
    verdict: Verdict
    checked: int
    root: str
    erased: int
    covered: int
    outside: int
    failed_at: str | None
    problem: str | None


class DoctorOut(BaseModel):
    """What was found, mended and left."""

    ok: bool
    checked: int
    findings: dict[str, int]
    mended: dict[str, int]
    problems: list[str]


class KeyMade(BaseModel):
    """A key, and the text that its bearer shows, which is told only now."""

    key: Key
    secret: str


class EventId(BaseModel):
    """The event that records what was done."""

    evidence_id: str


class UsageOut(BaseModel):
    """How often a key did something in a month."""

    key: str
    month: str
    operation: str
    count: int


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    error: str | None = None
