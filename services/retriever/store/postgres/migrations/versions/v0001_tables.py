"""Collections, their documents and vectors, and the snapshots that are known."""

from alembic import op

revision = "0001"
down_revision = None

# A generation's rows are their own log: each write takes the next `seq` of its shard, and a
# deleted document stays as a row without text (its tombstone) under the seq of the deletion.
#
# What a document owns is written and removed with it, by one transaction that holds the lock of
# its shard. Foreign keys would check that again for each row.
#
# Names and ids are compared by their bytes, whatever the database's language is.
_UP = (
    """CREATE TABLE store (
        identity TEXT NOT NULL,
        cluster TEXT NOT NULL
    )""",
    """CREATE TABLE namespace (
        key BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name TEXT COLLATE "C" NOT NULL UNIQUE
    )""",
    """CREATE TABLE collection (
        key BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        namespace_key BIGINT NOT NULL REFERENCES namespace,
        name TEXT COLLATE "C" NOT NULL,
        description TEXT NOT NULL,
        labels TEXT NOT NULL,
        rerank BYTEA NOT NULL,
        generation_number INTEGER NOT NULL,
        created_ns BIGINT NOT NULL,
        updated_ns BIGINT NOT NULL,
        dropped BOOLEAN NOT NULL DEFAULT FALSE,
        lexical TEXT NOT NULL,
        schema TEXT NOT NULL
    )""",
    "CREATE UNIQUE INDEX collection_name ON collection (namespace_key, name) WHERE NOT dropped",
    """CREATE TABLE generation (
        key BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        collection_key BIGINT NOT NULL REFERENCES collection ON DELETE CASCADE,
        number INTEGER NOT NULL,
        model TEXT NOT NULL,
        revision TEXT NOT NULL,
        dimensions INTEGER NOT NULL,
        fingerprint TEXT NOT NULL,
        shards INTEGER NOT NULL,
        index_kind TEXT NOT NULL,
        similarity TEXT NOT NULL,
        UNIQUE (collection_key, number)
    )""",
    # Every write changes a row here: with room in its page, the indexes stay as they are.
    """CREATE TABLE shard (
        generation_key BIGINT NOT NULL REFERENCES generation ON DELETE CASCADE,
        shard INTEGER NOT NULL,
        seq BIGINT NOT NULL DEFAULT 0,
        documents BIGINT NOT NULL DEFAULT 0,
        passages BIGINT NOT NULL DEFAULT 0,
        PRIMARY KEY (generation_key, shard)
    ) WITH (fillfactor = 20)""",
    "CREATE SEQUENCE document_key",
    """CREATE TABLE document (
        key BIGINT PRIMARY KEY,
        generation_key BIGINT NOT NULL,
        shard INTEGER NOT NULL,
        seq BIGINT NOT NULL,
        deleted BOOLEAN NOT NULL,
        version BIGINT NOT NULL,
        passages INTEGER NOT NULL,
        unchanged BOOLEAN NOT NULL,
        written_ns BIGINT NOT NULL,
        expires_ns BIGINT,
        id TEXT COLLATE "C" NOT NULL,
        content_hash BYTEA NOT NULL,
        title TEXT NOT NULL,
        metadata BYTEA NOT NULL,
        text TEXT NOT NULL,
        UNIQUE (generation_key, id)
    )""",
    "CREATE UNIQUE INDEX document_log ON document (generation_key, shard, seq)",
    # For the sweeper.
    "CREATE INDEX document_expiry ON document (expires_ns) WHERE expires_ns IS NOT NULL",
    "CREATE SEQUENCE passage_id",
    """CREATE TABLE passage (
        id BIGINT PRIMARY KEY,
        document_key BIGINT NOT NULL,
        position INTEGER NOT NULL,
        span_start INTEGER NOT NULL,
        span_end INTEGER NOT NULL,
        UNIQUE (document_key, position)
    )""",
    # Little-endian binary16 components: they do not compress, and up to 4,000 of them stay in
    # their row.
    """CREATE TABLE vector (
        passage_id BIGINT PRIMARY KEY,
        data BYTEA NOT NULL
    ) WITH (toast_tuple_target = 8160)""",
    "ALTER TABLE vector ALTER COLUMN data SET STORAGE EXTERNAL",
    """CREATE TABLE snapshot (
        generation_key BIGINT NOT NULL REFERENCES generation ON DELETE CASCADE,
        name TEXT COLLATE "C" NOT NULL,
        PRIMARY KEY (generation_key, name)
    )""",
)
_DOWN = (
    "DROP TABLE snapshot, vector, passage, document, shard, generation, collection, namespace,"
    " store",
    "DROP SEQUENCE passage_id, document_key",
)


def upgrade() -> None:
    for statement in _UP:
        op.execute(statement)


def downgrade() -> None:
    """Everything that was stored goes with it."""
    for statement in _DOWN:
        op.execute(statement)
