"""The migrations make exactly the tables of ``schema``."""

import json
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Text, create_engine, inspect

from holdfast.memory.database import MIGRATIONS, SCHEMA_VERSION, Database
from holdfast.memory.schema import metadata


def described(connection: Connection) -> dict[str, Any]:
    """All that the database knows of its tables, with the names of constraints and indexes."""
    inspector = inspect(connection)
    return {
        table: {
            "columns": [
                (c["name"], str(c["type"]), c["nullable"], c["primary_key"])
                for c in inspector.get_columns(table)
            ],
            "primary key": inspector.get_pk_constraint(table),
            "foreign keys": sorted(map(json.dumps, inspector.get_foreign_keys(table))),
            "unique": sorted(map(json.dumps, inspector.get_unique_constraints(table))),
            "indexes": sorted(map(json.dumps, inspector.get_indexes(table))),
        }
        for table in inspector.get_table_names()
        if table != "alembic_version"
    }


def test_alembic_finds_no_difference_between_the_migrations_and_the_schema(
    database: Database,
) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_tables_columns_keys_and_names_are_the_same_by_migration_and_by_schema(
    database: Database,
) -> None:
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        metadata.create_all(connection)
        by_schema = described(connection)
    engine.dispose()
    with database.read() as connection:
        by_migration = described(connection)
    assert set(by_migration) == set(metadata.tables)
    for table in by_schema:
        assert by_migration[table] == by_schema[table]


def test_every_constraint_and_index_has_a_name(database: Database) -> None:
    with database.read() as connection:
        for table in described(connection).values():
            assert table["primary key"]["name"]
            for kind in ("foreign keys", "unique", "indexes"):
                assert all(json.loads(each)["name"] for each in table[kind])


def test_what_subjects_say_has_no_column_of_text() -> None:
    """It is sealed: only names, ids and the choices of a closed list stand in the clear."""
    clear = {"key", "tenant", "id", "kind", "strength", "scope", "status", "statement_id",
             "statement_key", "decision_key", "embedder"}  # fmt: skip
    for table in ("statements", "decisions", "weighed", "proposals", "vectors", "payloads"):
        texts = {c.name for c in metadata.tables[table].columns if isinstance(c.type, Text)}
        assert texts <= clear, table


def test_the_newest_migration_is_the_version_that_the_program_knows() -> None:
    script = ScriptDirectory(str(MIGRATIONS))
    assert script.get_heads() == [SCHEMA_VERSION]
    assert len(list(script.walk_revisions())) == int(SCHEMA_VERSION)  # forward, one by one
