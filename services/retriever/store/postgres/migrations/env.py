"""What Alembic runs: the steps, in the transaction that `tables` has begun."""

from alembic import context

from services.retriever.store.postgres.tables import VERSION_TABLE

_attributes = context.config.attributes
context.configure(
    connection=_attributes["connection"],
    version_table=VERSION_TABLE,
    version_table_schema=_attributes["schema"],
)
with context.begin_transaction():
    context.run_migrations()
