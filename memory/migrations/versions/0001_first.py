"""The first schema: statements, decisions, proposals, vectors, evidence.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "subjects",
        sa.Column("key", sa.Integer, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_subjects"),
        sa.UniqueConstraint("tenant", "name", name="uq_subjects_tenant_name"),
    )
    op.create_table(
        "statements",
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("subject_key", sa.Integer, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("equality", sa.LargeBinary, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("strength", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("contexts", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("valid_from", sa.BigInteger, nullable=False),
        sa.Column("valid_to", sa.BigInteger),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
        sa.Column("revision_from", sa.Integer, nullable=False),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("retired_at", sa.BigInteger),
        sa.Column("revision_to", sa.Integer),
        sa.Column("ends_at", sa.BigInteger),
        sa.Column("end_reason", sa.Text),
        sa.PrimaryKeyConstraint("key", name="pk_statements"),
        sa.ForeignKeyConstraint(
            ["subject_key"], ["subjects.key"], name="fk_statements_subject_key"
        ),
        sa.UniqueConstraint("tenant", "id", "version", name="uq_statements_tenant_id_version"),
    )
    op.create_index("ix_statements_subject_key_ends_at", "statements", ["subject_key", "ends_at"])
    op.create_index("ix_statements_subject_key_equality", "statements", ["subject_key", "equality"])
    op.create_table(
        "decisions",
        sa.Column("statement_key", sa.Text, nullable=False),
        sa.Column("situation", sa.Text, nullable=False),
        sa.Column("choice", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("statement_key", name="pk_decisions"),
        sa.ForeignKeyConstraint(
            ["statement_key"], ["statements.key"], name="fk_decisions_statement_key"
        ),
    )
    op.create_table(
        "weighed",
        sa.Column("decision_key", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("statement_key", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("decision_key", "position", name="pk_weighed"),
        sa.ForeignKeyConstraint(
            ["decision_key"], ["decisions.statement_key"], name="fk_weighed_decision_key"
        ),
        sa.ForeignKeyConstraint(
            ["statement_key"], ["statements.key"], name="fk_weighed_statement_key"
        ),
    )
    op.create_table(
        "proposals",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("subject_key", sa.Integer, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("strength", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("contexts", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("proposed_at", sa.BigInteger, nullable=False),
        sa.Column("decided_at", sa.BigInteger),
        sa.Column("statement_id", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_proposals"),
        sa.ForeignKeyConstraint(["subject_key"], ["subjects.key"], name="fk_proposals_subject_key"),
    )
    op.create_index("ix_proposals_subject_key_status", "proposals", ["subject_key", "status"])
    op.create_table(
        "embedders",
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("dimensions", sa.Integer, nullable=False),
        sa.Column("scale", sa.Integer, nullable=False),
        sa.Column("first_used_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_embedders"),
    )
    op.create_table(
        "vectors",
        sa.Column("statement_key", sa.Text, nullable=False),
        sa.Column("embedder", sa.Text, nullable=False),
        sa.Column("components", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("statement_key", "embedder", name="pk_vectors"),
        sa.ForeignKeyConstraint(
            ["statement_key"], ["statements.key"], name="fk_vectors_statement_key"
        ),
        sa.ForeignKeyConstraint(["embedder"], ["embedders.digest"], name="fk_vectors_embedder"),
    )
    op.create_table(
        "ledgers",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("head", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("tenant", name="pk_ledgers"),
    )
    op.create_table(
        "evidence",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("previous", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "sequence", name="pk_evidence"),
        sa.UniqueConstraint("tenant", "id", name="uq_evidence_tenant_id"),
    )
    op.create_table(
        "evidence_subjects",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "subject", "sequence", name="pk_evidence_subjects"),
    )
