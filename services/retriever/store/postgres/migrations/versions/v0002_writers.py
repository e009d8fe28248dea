"""Each writer's last transaction, which tells the outcome of one whose answer was lost."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # Every transaction changes its writer's row: with room in its page, the index stays as it is.
    op.execute(
        """CREATE TABLE writer (
            id TEXT PRIMARY KEY,
            write BIGINT NOT NULL,
            written_ns BIGINT NOT NULL
        ) WITH (fillfactor = 20)"""
    )


def downgrade() -> None:
    op.execute("DROP TABLE writer")
