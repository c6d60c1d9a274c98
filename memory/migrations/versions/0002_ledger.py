"""Sealed texts, data keys and the ledger in place of the chain.

Tables that hold something are put aside as ``before_…``; ``carry`` takes their content over,
which needs the installation's key, and then drops them.

Revision ID: 0002
"""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

ASIDE = (
    "weighed", "decisions", "vectors", "proposals", "statements", "subjects", "evidence_subjects",
    "evidence", "ledgers",
)  # fmt: skip
INDEXES = (
    "ix_statements_subject_key_ends_at",
    "ix_statements_subject_key_equality",
    "ix_proposals_subject_key_status",
)


def upgrade() -> None:
    """Put the old tables aside, or drop them where there is nothing in them; create the new."""
    _put_aside()
    _create_keys_and_subjects()
    _create_statements()
    _create_ledger()


def _put_aside() -> None:
    bind = op.get_bind()
    kept = any(
        bind.execute(sa.text(f"SELECT 1 FROM {table} LIMIT 1")).first()
        for table in ("subjects", "evidence")
    )
    for index in INDEXES:
        op.drop_index(index)
    for table in ASIDE:
        if not kept:
            op.drop_table(table)
            continue
        if bind.dialect.name == "postgresql":  # where the names of constraints are taken
            for name in sa.inspect(bind).get_unique_constraints(table):
                op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {name['name']} "
                           f"TO before_{name['name']}")  # fmt: skip
            primary = sa.inspect(bind).get_pk_constraint(table)["name"]
            op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {primary} TO before_{primary}")
        op.rename_table(table, f"before_{table}")


def _create_keys_and_subjects() -> None:
    installation = op.create_table(
        "installation",
        sa.Column("id", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_installation"),
    )
    op.bulk_insert(installation, [{"id": secrets.token_hex(16)}])
    op.create_table(
        "data_keys",
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
        sa.Column("wrapped_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_data_keys"),
    )
    op.create_table(
        "subjects",
        sa.Column("key", sa.Integer, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("data_key", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.Column("events", sa.Integer, nullable=False),
        sa.Column("last_event", sa.Text),
        sa.PrimaryKeyConstraint("key", name="pk_subjects"),
        sa.ForeignKeyConstraint(["data_key"], ["data_keys.key"], name="fk_subjects_data_key"),
        sa.UniqueConstraint("tenant", "name", name="uq_subjects_tenant_name"),
    )


def _create_statements() -> None:
    op.create_table(
        "statements",
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("subject_key", sa.Integer, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("equality", sa.LargeBinary, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("strength", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("valid_from", sa.BigInteger, nullable=False),
        sa.Column("valid_to", sa.BigInteger),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
        sa.Column("revision_from", sa.Integer, nullable=False),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("retired_at", sa.BigInteger),
        sa.Column("revision_to", sa.Integer),
        sa.Column("ends_at", sa.BigInteger),
        sa.Column("end_note", sa.LargeBinary),
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
        sa.Column("body", sa.LargeBinary, nullable=False),
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
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("subject_key", sa.Integer, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("strength", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("proposed_at", sa.BigInteger, nullable=False),
        sa.Column("decided_at", sa.BigInteger),
        sa.Column("statement_id", sa.Text),
        sa.PrimaryKeyConstraint("tenant", "id", name="pk_proposals"),
        sa.ForeignKeyConstraint(["subject_key"], ["subjects.key"], name="fk_proposals_subject_key"),
    )
    op.create_index("ix_proposals_subject_key_status", "proposals", ["subject_key", "status"])
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


def _create_ledger() -> None:
    op.create_table(
        "ledgers",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("log", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("data_key", sa.Text, nullable=False),
        sa.Column("signing_key", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("tenant", name="pk_ledgers"),
        sa.ForeignKeyConstraint(["data_key"], ["data_keys.key"], name="fk_ledgers_data_key"),
        sa.ForeignKeyConstraint(["signing_key"], ["data_keys.key"], name="fk_ledgers_signing_key"),
    )
    op.create_table(
        "ledger",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("leaf", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "position", name="pk_ledger"),
        sa.UniqueConstraint("event", name="uq_ledger_event"),
    )
    op.create_table(
        "payloads",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "position", name="pk_payloads"),
    )
    op.create_table(
        "subject_events",
        sa.Column("subject_key", sa.Integer, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("place", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("subject_key", "sequence", name="pk_subject_events"),
        sa.ForeignKeyConstraint(
            ["subject_key"], ["subjects.key"], name="fk_subject_events_subject_key"
        ),
        sa.UniqueConstraint(
            "tenant", "position", "place", name="uq_subject_events_tenant_position_place"
        ),
    )
    op.create_table(
        "tiles",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("level", sa.Integer, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("hashes", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "level", "number", name="pk_tiles"),
    )
    op.create_table(
        "checkpoints",
        sa.Column("log", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("log", "size", name="pk_checkpoints"),
    )
    op.create_table(
        "policies",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "position", name="pk_policies"),
    )
    op.create_index("ix_policies_tenant_kind_position", "policies", ["tenant", "kind", "position"])
    op.create_table(
        "unfinished",
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_unfinished"),
    )
