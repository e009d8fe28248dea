"""Who shares the store, on how many of them each shard is to be, and who is ready with which."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    # One row, which who changes the membership locks.
    op.execute(
        "ALTER TABLE store ADD COLUMN replication INTEGER NOT NULL DEFAULT 1,"
        " ADD COLUMN membership BIGINT NOT NULL DEFAULT 0"
    )
    op.execute(
        """CREATE TABLE member (
            name TEXT COLLATE "C" PRIMARY KEY,
            draining BOOLEAN NOT NULL,
            since_ns BIGINT NOT NULL
        )"""
    )
    # What a member has of a shard, and whether it answers from it: one that starts anew has it
    # and is not ready.
    op.execute(
        """CREATE TABLE replica (
            generation_key BIGINT NOT NULL REFERENCES generation ON DELETE CASCADE,
            shard INTEGER NOT NULL,
            member TEXT COLLATE "C" NOT NULL REFERENCES member ON DELETE CASCADE,
            ready BOOLEAN NOT NULL,
            PRIMARY KEY (generation_key, shard, member)
        )"""
    )


def downgrade() -> None:
    op.execute("DROP TABLE replica, member")
    op.execute("ALTER TABLE store DROP COLUMN replication, DROP COLUMN membership")
