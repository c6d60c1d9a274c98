"""The SQL tables, for SQLite and PostgreSQL.

Times are microseconds since 1970 in UTC. ``revision_from`` and ``revision_to``
place every version of a statement on its subject's revision numbers, so that
what was in force at a revision can be read back exactly. Rows of ``statements``
are never rewritten; closing a version only fills its empty end columns.

What a subject said is sealed with the subject's data key (``vault``): the columns
``body``, ``end_note``, ``components`` and ``sealed``. What is searched for by equality is
a keyed hash. ``ledger`` holds leaves, which are never deleted; ``payloads`` can be.

Changes to these tables go through a migration in ``migrations/versions``; a test
compares the two.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

installation = Table(
    "installation",
    metadata,
    Column("id", Text, primary_key=True),  # of the one row: names the key's folder
)

data_keys = Table(
    "data_keys",
    metadata,
    Column("key", Text, primary_key=True),  # opaque
    Column("tenant", Text, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("wrapped_by", Text, nullable=False),  # name of the installation's key
)

subjects = Table(
    "subjects",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("data_key", Text, ForeignKey("data_keys.key"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("events", Integer, nullable=False),  # about this subject, in the ledger
    Column("last_event", Text),
    UniqueConstraint("tenant", "name"),
)

statements = Table(
    "statements",
    metadata,
    Column("key", Text, primary_key=True),  # opaque: this version, and its vector's id
    Column("tenant", Text, nullable=False),
    Column("subject_key", Integer, ForeignKey("subjects.key"), nullable=False),
    Column("id", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),  # text, contexts, source, reason
    Column("equality", LargeBinary, nullable=False),  # keyed hash of the normalised text
    Column("kind", Text, nullable=False),
    Column("strength", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("valid_from", BigInteger, nullable=False),
    Column("valid_to", BigInteger),
    Column("recorded_at", BigInteger, nullable=False),
    Column("revision_from", Integer, nullable=False),
    Column("place", Integer, nullable=False),  # among the statements of one change
    # The end, filled in once: when it was revised or retired; ends_at: retired from when on.
    Column("retired_at", BigInteger),
    Column("revision_to", Integer),
    Column("ends_at", BigInteger),
    Column("end_note", LargeBinary),  # the reason
    UniqueConstraint("tenant", "id", "version"),
    Index(None, "subject_key", "ends_at"),
    Index(None, "subject_key", "equality"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("statement_key", Text, ForeignKey("statements.key"), primary_key=True),
    Column("body", LargeBinary, nullable=False),  # situation, choice, reason
)

weighed = Table(
    "weighed",
    metadata,
    Column("decision_key", Text, ForeignKey("decisions.statement_key"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("statement_key", Text, ForeignKey("statements.key"), nullable=False),
)

proposals = Table(
    "proposals",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("subject_key", Integer, ForeignKey("subjects.key"), nullable=False),
    Column("body", LargeBinary, nullable=False),  # text, contexts, source
    Column("kind", Text, nullable=False),
    Column("strength", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("proposed_at", BigInteger, nullable=False),
    Column("decided_at", BigInteger),
    Column("statement_id", Text),
    Index(None, "subject_key", "status"),
)

embedders = Table(
    "embedders",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("dimensions", Integer, nullable=False),
    Column("scale", Integer, nullable=False),
    Column("first_used_at", BigInteger, nullable=False),
)

vectors = Table(
    "vectors",
    metadata,
    Column("statement_key", Text, ForeignKey("statements.key"), primary_key=True),
    Column("embedder", Text, ForeignKey("embedders.digest"), primary_key=True),
    Column("components", LargeBinary, nullable=False),  # int8
    Column("hash", LargeBinary, nullable=False),  # keyed hash of the components
)

ledgers = Table(
    "ledgers",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("log", Text, nullable=False),  # names the log in its checkpoints
    Column("size", BigInteger, nullable=False),  # leaves
    Column("data_key", Text, ForeignKey("data_keys.key"), nullable=False),
    Column("signing_key", Text, ForeignKey("data_keys.key"), nullable=False),
)

ledger = Table(
    "ledger",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("position", BigInteger, primary_key=True),  # from 0
    Column("event", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("leaf", LargeBinary, nullable=False),  # canonical JSON
    UniqueConstraint("event"),
)

payloads = Table(
    "payloads",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
)

subject_events = Table(
    "subject_events",
    metadata,
    Column("subject_key", Integer, ForeignKey("subjects.key"), primary_key=True),
    Column("sequence", Integer, primary_key=True),  # the subject's own, from 1
    Column("tenant", Text, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("place", Integer, nullable=False),  # order of precedence
    UniqueConstraint("tenant", "position", "place"),
)

tiles = Table(
    "tiles",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("level", Integer, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("hashes", LargeBinary, nullable=False),  # at most 256 of 32 bytes
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("log", Text, primary_key=True),
    Column("size", BigInteger, primary_key=True),
    Column("note", Text, nullable=False),
)

policies = Table(
    "policies",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("position", BigInteger, primary_key=True),  # of its event in the ledger
    Column("kind", Text, nullable=False),  # policy or embedder
    Column("digest", Text, nullable=False),
    Column("body", Text, nullable=False),  # canonical JSON
    Index(None, "tenant", "kind", "position"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),  # what it is for
    Column("role", Text, nullable=False),
    Column("subject_key", Integer, ForeignKey("subjects.key")),  # of a personal key
    Column("hash", LargeBinary, nullable=False),  # keyed hash of the secret
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("used_at", BigInteger),
    Column("quota", BigInteger),  # operations a month
    Index(None, "tenant"),
)

usage = Table(
    "usage",
    metadata,
    Column("key_id", Text, ForeignKey("api_keys.id"), primary_key=True),
    Column("month", Text, primary_key=True),  # like 2026-11
    Column("operation", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
)

turns = Table(
    "turns",
    metadata,
    Column("subject_key", Integer, ForeignKey("subjects.key"), primary_key=True),
    Column("prefix", LargeBinary, primary_key=True),  # keyed hash of a conversation so far
    Column("event", Text, nullable=False),  # the retrieval that was injected there
    Column("used_at", BigInteger, nullable=False),
    Index(None, "used_at"),
)

unfinished = Table(
    "unfinished",
    metadata,
    Column("key", Text, primary_key=True),
    Column("detail", Text, nullable=False),  # what is yet to be purged from the disk
)
