"""Settings of the retriever."""

from pathlib import Path
from socket import gethostname

from pydantic import Field, SecretStr, field_validator, model_validator

from services.cluster.shards import MAX_SHARDS
from services.retriever.lexical.analyzers import LANGUAGES, NO_LANGUAGE, is_language
from services.runtime.cpu import available_cpus
from services.runtime.settings import ServerSettings, server_config


class RetrieverSettings(ServerSettings):
    """The retriever: documents, vectors and the indexes over them."""

    model_config = server_config("retriever")

    port: int = Field(default=7702, ge=0, le=65535)
    """Port of the gRPC server; 0 takes a free one."""
    metrics_port: int | None = Field(default=7792, ge=0, le=65535)
    """Port of /metrics for Prometheus; unset: none."""
    data_folder: Path = Path("sirdar-data/retriever")
    """Where the database and the segments are; one process a folder, on a local disk."""
    follow: Path | None = None
    """Data folder of another retriever on this machine, to be a read replica of it: this one then
    answers from that one's store, and refuses writes. Unset: it has a store of its own."""
    store: SecretStr = SecretStr("sqlite")
    """Where documents are kept: `sqlite` is the data folder's own database. Several retrievers
    share `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`: each of them writes, and shows what any
    wrote. It needs the extra `postgres`."""
    store_schema: str = Field(default="sirdar", pattern=r"^[a-z_][a-z0-9_]{0,62}$")
    """Schema of the PostgreSQL database that holds the store: one for each cluster."""
    store_cluster: str = Field(default="sirdar", min_length=1, max_length=200)
    """Name of those who share the store: a retriever of another cluster is refused."""
    store_connections: int = Field(default=16, ge=2)
    """Connections to PostgreSQL for reads; there is one more for writes, and one that listens."""
    name: str = Field(default_factory=gethostname, min_length=1, max_length=253)
    """Of this one among those that share the store, and none other's: which shards are on which
    follows from their names. By default the host's; it stays the same when this one starts
    anew."""
    replication: int = Field(default=1, ge=1)
    """On how many of those that share the store each shard is, the same for all; where they are
    fewer, each has all shards."""
    farewell_seconds: float = Field(default=5.0, ge=0)
    """How long a shard that others have taken over is answered for still: who routes calls hears
    of it meanwhile."""
    default_shards: int = Field(default=4, ge=1, le=MAX_SHARDS)
    """Shards of a collection that does not say how many."""
    max_document_bytes: int = Field(default=4 * 2**20, ge=1024)
    """The longest title and text together, in bytes of UTF-8."""
    seal_vectors: int = Field(default=10_000, ge=16)
    """A growing segment of this many vectors is turned into a sealed one."""
    max_full_segments: int = Field(default=32, ge=1)
    """Writes are refused with RESOURCE_EXHAUSTED while a shard has as many full segments that
    wait to be sealed: what is not sealed is held in memory and searched exactly."""
    max_unsealed_vectors: int = Field(default=50_000, ge=1000)
    """Writes are refused likewise while a shard has as many vectors that are not sealed: each
    takes two bytes a dimension."""
    build_threads: int = Field(default=1, ge=1)
    """Threads of the process that builds sealed segments; it runs niced."""
    search_threads: int = Field(default=1, ge=1)
    """Batches of queries that are searched at a time."""
    faiss_threads: int = Field(default_factory=available_cpus, ge=1)
    """Threads over which the queries of one batch are spread."""
    read_threads: int = Field(default=4, ge=1)
    """Threads that read documents from the store."""
    max_waiting_searches: int = Field(default=1024, ge=1)
    """Searches beyond these are refused with RESOURCE_EXHAUSTED."""
    max_waiting_write_bytes: int = Field(default=64 * 2**20, ge=2**20)
    """Writes beyond these are refused with RESOURCE_EXHAUSTED."""
    lexical_language: str = "en"
    """How words are made of text in collections that do not say: `none`, or the ISO 639-1 code
    of a language whose words are stemmed."""
    lexical_search_threads: int = Field(default=1, ge=1)
    """Calls whose words are searched at a time, beside the vectors."""
    max_lexical_writers: int = Field(default=8, ge=1)
    """Lexical indexes that are written to at a time; each holds six threads and up to 15 MB."""
    max_lexical_readers: int = Field(default=64, ge=1)
    """Lexical indexes that stay open for searches; each holds a thread, and opening one again
    takes 0.3 ms."""
    max_waiting_lexical_bytes: int = Field(default=32 * 2**20, ge=2**20)
    """Texts that wait in memory for the lexical indexes; those beyond are read from the store
    again."""
    max_lexical_behind: int = Field(default=200_000, ge=1000)
    """Writes are refused with RESOURCE_EXHAUSTED while lexical searches do not see as many
    writes of a shard."""
    max_consistency_wait_seconds: float = Field(default=10.0, gt=0)
    """How long a read without a deadline waits for the writes that it must see."""

    tombstones_kept_seconds: float = Field(default=86_400.0, ge=1)
    """How long the store remembers a deleted document, and counts on its version. An index that
    was away for longer compares with all that is there when it comes back."""

    snapshot_url: str | None = None
    """Where snapshots of sealed segments are: `file:///...`, `s3://...` or another URL that fsspec
    knows; unset: nowhere. Credentials come from the environment, as fsspec takes them."""
    snapshot_interval_seconds: float | None = Field(default=None, gt=0)
    """How often a snapshot of each collection that changed is taken; unset: when asked only."""
    snapshots_kept: int = Field(default=3, ge=1)
    """Older snapshots of a collection are deleted."""

    @model_validator(mode="after")
    def _apart(self) -> "RetrieverSettings":
        if self.follow is not None and self.follow.absolute() == self.data_folder.absolute():
            raise ValueError("follow must be another folder than data_folder")
        return self

    @model_validator(mode="after")
    def _one_store(self) -> "RetrieverSettings":
        if self.follow is not None and self.is_shared:
            raise ValueError(
                "follow and store must not both be set: whoever shares a store follows it anyway"
            )
        return self

    @property
    def is_shared(self) -> bool:
        """Whether other retrievers write the store too."""
        return self.store.get_secret_value() != "sqlite"

    @field_validator("store")
    @classmethod
    def _a_store(cls, store: SecretStr) -> SecretStr:
        value = store.get_secret_value()
        if value != "sqlite" and not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("must be sqlite or postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
        return store

    @field_validator("store_schema")
    @classmethod
    def _a_schema(cls, schema: str) -> str:
        if schema.startswith("pg_"):
            raise ValueError("must not begin with pg_, which PostgreSQL keeps for itself")
        return schema

    @field_validator("lexical_language")
    @classmethod
    def _known(cls, language: str) -> str:
        if not is_language(language):
            raise ValueError(f"must be {NO_LANGUAGE} or one of {', '.join(LANGUAGES)}")
        return language
