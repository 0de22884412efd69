"""Alembic's entry point: runs the migrations over the connection that it is handed."""

from typing import Any, Literal

from alembic import context
from sqlalchemy import BigInteger

from scheduler.store.schema import Instant, metadata


def render(kind: str, item: Any, _autogen: Any) -> str | Literal[False]:
    """Write our own column type as what it is in the database, so that old migrations stay true."""
    return f"sa.{BigInteger.__name__}()" if kind == "type" and isinstance(item, Instant) else False


context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, render_item=render
)
with context.begin_transaction():
    context.run_migrations()
