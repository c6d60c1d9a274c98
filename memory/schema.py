"""The SQL tables, for SQLite and PostgreSQL.

Times are microseconds since 1970 in UTC. ``revision_from`` and ``revision_to``
place every version of a statement on its subject's revision numbers, so that
what was in force at a revision can be read back exactly. Rows of ``statements``
are never rewritten; closing a version only fills its empty end columns.

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

subjects = Table(
    "subjects",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
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
    Column("text", Text, nullable=False),
    Column("equality", LargeBinary, nullable=False),  # SHA-256 of the normalised text
    Column("kind", Text, nullable=False),
    Column("strength", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("contexts", Text, nullable=False),  # JSON list
    Column("source", Text, nullable=False),
    Column("reason", Text),
    Column("valid_from", BigInteger, nullable=False),
    Column("valid_to", BigInteger),
    Column("recorded_at", BigInteger, nullable=False),
    Column("revision_from", Integer, nullable=False),
    Column("place", Integer, nullable=False),  # among the statements of one change
    # The end, filled in once: when it was revised or retired; ends_at: retired from when on.
    Column("retired_at", BigInteger),
    Column("revision_to", Integer),
    Column("ends_at", BigInteger),
    Column("end_reason", Text),
    UniqueConstraint("tenant", "id", "version"),
    Index(None, "subject_key", "ends_at"),
    Index(None, "subject_key", "equality"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("statement_key", Text, ForeignKey("statements.key"), primary_key=True),
    Column("situation", Text, nullable=False),
    Column("choice", Text, nullable=False),
    Column("reason", Text, nullable=False),
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
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("subject_key", Integer, ForeignKey("subjects.key"), nullable=False),
    Column("text", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("strength", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("contexts", Text, nullable=False),
    Column("source", Text, nullable=False),
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
    Column("hash", LargeBinary, nullable=False),  # SHA-256 of the components
)

ledgers = Table(
    "ledgers",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("sequence", BigInteger, nullable=False),  # of the last entry
    Column("head", Text, nullable=False),  # its hash
)

evidence = Table(
    "evidence",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("recorded_at", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),  # canonical JSON
    Column("previous", Text, nullable=False),
    Column("hash", Text, nullable=False),
    UniqueConstraint("tenant", "id"),
)

evidence_subjects = Table(
    "evidence_subjects",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("position", Integer, nullable=False),  # order of precedence
)
