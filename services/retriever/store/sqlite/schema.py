"""The tables, and the version of their format."""

FORMAT_VERSION = 5
APPLICATION_ID = 0x53495244

# What tells this store from every other, and which snapshots of its indexes it knows: one that
# it does not know is of another past, in which the store was not restored from a backup.
_SNAPSHOTS = (
    "CREATE TABLE store (identity TEXT NOT NULL) STRICT",
    "INSERT INTO store VALUES (lower(hex(randomblob(16))))",
    """CREATE TABLE snapshot (
        generation_key INTEGER NOT NULL REFERENCES generation ON DELETE CASCADE,
        name TEXT NOT NULL,
        PRIMARY KEY (generation_key, name)
    ) STRICT, WITHOUT ROWID""",
)

# What tells the writing of one opening from that of every other, before it and after: sequences
# that were seen before a restore from a backup say something else after it.
_OPENING = ("ALTER TABLE store ADD COLUMN opening TEXT NOT NULL DEFAULT ''",)

# The last sequence of those tombstones of a shard that are gone, and an index to find the old.
_PURGES = (
    "ALTER TABLE shard ADD COLUMN purged_seq INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX document_tombstone ON document (written_ns) WHERE deleted",
)

# A generation's rows are their own log: each write takes the next `seq` of its shard, and
# a deleted document stays for a time as a row without text (its tombstone) under the seq of
# the deletion. `text` comes last, so that reading the rest does not walk its overflow pages.
STATEMENTS = (
    """CREATE TABLE namespace (
        key INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE
    ) STRICT""",
    """CREATE TABLE collection (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        namespace_key INTEGER NOT NULL REFERENCES namespace,
        name TEXT NOT NULL,
        description TEXT NOT NULL,
        labels TEXT NOT NULL,
        rerank BLOB NOT NULL,
        generation_number INTEGER NOT NULL,
        created_ns INTEGER NOT NULL,
        updated_ns INTEGER NOT NULL,
        dropped INTEGER NOT NULL DEFAULT 0,
        lexical TEXT NOT NULL,
        schema TEXT NOT NULL
    ) STRICT""",
    "CREATE UNIQUE INDEX collection_name ON collection (namespace_key, name) WHERE NOT dropped",
    """CREATE TABLE generation (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        collection_key INTEGER NOT NULL REFERENCES collection ON DELETE CASCADE,
        number INTEGER NOT NULL,
        model TEXT NOT NULL,
        revision TEXT NOT NULL,
        dimensions INTEGER NOT NULL,
        fingerprint TEXT NOT NULL,
        shards INTEGER NOT NULL,
        index_kind TEXT NOT NULL,
        similarity TEXT NOT NULL,
        UNIQUE (collection_key, number)
    ) STRICT""",
    """CREATE TABLE shard (
        generation_key INTEGER NOT NULL REFERENCES generation ON DELETE CASCADE,
        shard INTEGER NOT NULL,
        seq INTEGER NOT NULL DEFAULT 0,
        documents INTEGER NOT NULL DEFAULT 0,
        passages INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (generation_key, shard)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE document (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        generation_key INTEGER NOT NULL REFERENCES generation,
        shard INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        id TEXT NOT NULL,
        version INTEGER NOT NULL,
        passages INTEGER NOT NULL,
        unchanged INTEGER NOT NULL,
        written_ns INTEGER NOT NULL,
        content_hash BLOB NOT NULL,
        title TEXT NOT NULL,
        metadata BLOB NOT NULL,
        expires_ns INTEGER,
        text TEXT NOT NULL,
        UNIQUE (generation_key, id)
    ) STRICT""",
    "CREATE UNIQUE INDEX document_log ON document (generation_key, shard, seq)",
    # For the sweeper.
    "CREATE INDEX document_expiry ON document (expires_ns) WHERE expires_ns IS NOT NULL",
    """CREATE TABLE passage (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        document_key INTEGER NOT NULL REFERENCES document ON DELETE CASCADE,
        position INTEGER NOT NULL,
        span_start INTEGER NOT NULL,
        span_end INTEGER NOT NULL,
        UNIQUE (document_key, position)
    ) STRICT""",
    # Little-endian binary16 components.
    """CREATE TABLE vector (
        passage_id INTEGER PRIMARY KEY REFERENCES passage ON DELETE CASCADE,
        data BLOB NOT NULL
    ) STRICT""",
    *_SNAPSHOTS,
    *_OPENING,
    *_PURGES,
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT_VERSION}",
)

# From each format to the next. What is not said of old rows is what the server's defaults were
# when the column came.
MIGRATIONS = {
    1: (
        "ALTER TABLE collection ADD COLUMN lexical TEXT NOT NULL"
        """ DEFAULT '{"enabled": true, "language": "en"}'""",
    ),
    2: (
        "ALTER TABLE collection ADD COLUMN schema TEXT NOT NULL DEFAULT '[]'",
        # Behind `text`: where it is null, SQLite knows it from the head of the row.
        "ALTER TABLE document ADD COLUMN expires_ns INTEGER",
        "CREATE INDEX document_expiry ON document (expires_ns) WHERE expires_ns IS NOT NULL",
        *_SNAPSHOTS,
    ),
    3: _OPENING,
    4: _PURGES,
}
