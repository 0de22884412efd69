"""Alembic's entry point: runs the migrations over the connection that it is handed."""

from alembic import context

from scheduler.store.schema import metadata

with_connection = context.config.attributes["connection"]
context.configure(connection=with_connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
