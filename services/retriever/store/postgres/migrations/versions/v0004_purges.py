"""The last sequence of those tombstones of a shard that are gone, and an index to find the old."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("ALTER TABLE shard ADD COLUMN purged_seq BIGINT NOT NULL DEFAULT 0")
    op.execute("CREATE INDEX document_tombstone ON document (written_ns) WHERE deleted")


def downgrade() -> None:
    op.execute("DROP INDEX document_tombstone")
    op.execute("ALTER TABLE shard DROP COLUMN purged_seq")
