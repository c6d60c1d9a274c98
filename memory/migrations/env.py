"""Run by Alembic: brings the connection that ``database`` hands over up to date."""

from alembic import context

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("migrations run by themselves when a data directory is opened")
context.configure(connection=connection, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
