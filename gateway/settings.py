"""Settings of the gateway."""

from pathlib import Path

from pydantic import Field, SecretStr, model_validator

from gateway.cache.use import CacheUse
from gateway.pipeline.fusion_plan import FusionMethod, FusionPlan, SearchMode
from services.runtime.channel import ClientTls
from services.runtime.settings import ServerSettings, server_config


class GatewaySettings(ServerSettings):
    model_config = server_config("gateway")

    port: int = Field(default=7700, ge=0, le=65535)
    """Port of the gRPC server; 0 takes a free one."""
    metrics_port: int | None = Field(default=7790, ge=0, le=65535)
    """Port of /metrics for Prometheus; 0 takes a free one."""
    http_port: int | None = Field(default=7780, ge=0, le=65535)
    """Port of the HTTP server; 0 takes a free one, `none`: no HTTP."""
    embedder_address: str = "127.0.0.1:7701"
    """Where the embedder is: host:port; all replicas behind the name are used in turn."""
    retriever_addresses: tuple[str, ...] = ("127.0.0.1:7702",)
    """Where the retrievers over one store are, one host:port each. They say what they have and
    whether they take writes; where none does the first is the writer."""
    reranker_address: str | None = None
    """Where the reranker is: host:port; unset: the retriever's order is final."""
    tier_ca_file: Path | None = None
    """PEM roots that sign the certificates of the tiers; unset: no TLS to them."""
    tier_certificate_file: Path | None = None
    """PEM certificate that the gateway shows to the tiers."""
    tier_key_file: Path | None = None
    """PEM private key of that certificate."""
    max_query_characters: int = Field(default=8192, ge=1, le=32_768)
    """The longest query."""
    max_document_bytes: int = Field(default=2 * 2**20, ge=1024)
    """The longest document text, in bytes of UTF-8."""
    embed_timeout_seconds: float = Field(default=10.0, gt=0)
    """The longest that a query may take to be embedded."""
    retrieve_timeout_seconds: float = Field(default=10.0, gt=0)
    """The longest that a read may take in the retriever."""
    search_mode: SearchMode = SearchMode.HYBRID
    """What searches rank that do not say: `dense` (by meaning), `lexical` (by words) or `hybrid`;
    collections without a lexical index are searched by meaning."""
    fusion_method: FusionMethod = FusionMethod.RECIPROCAL_RANK
    """How a hybrid search makes one order of its lists: `reciprocal_rank` or `weighted_scores`."""
    fusion_dense_weight: float = Field(default=1.0, ge=0)
    """Weight of the dense candidates in it."""
    fusion_lexical_weight: float = Field(default=1.0, ge=0)
    """Weight of the lexical candidates in it."""
    fusion_rank_constant: float = Field(default=60.0, ge=1)
    """Reciprocal rank: the larger, the less the first places count."""
    rerank_enabled: bool = True
    """Whether searches rerank when neither they nor their collection say; needs a reranker."""
    rerank_depth: int = Field(default=30, ge=1, le=1000)
    """How many documents are reranked when neither search nor collection says."""
    rerank_weight: float = Field(default=1.0, ge=0)
    """Weight of the cross-encoder's standardised score."""
    rerank_retriever_weight: float = Field(default=1.0, ge=0)
    """Weight of the retriever's standardised score beside it."""
    rerank_timeout_seconds: float = Field(default=2.0, gt=0)
    """How long reranking may take before the retriever's order is given instead."""
    highlight_timeout_seconds: float = Field(default=1.0, gt=0)
    """How long choosing the sentences to mark may take before none is marked."""
    max_highlight_sentences: int = Field(default=64, ge=1)
    """How many sentences of an answer are embedded to choose from, those of the best results
    first: what highlights cost at most."""
    cache_use: CacheUse = CacheUse.EXACT
    """Which caches answer searches that do not say: `none`, `exact` (only the very same request
    over the same writes) or `semantic` (also a query that means nearly the same)."""
    cache_bytes: int = Field(default=64 * 2**20, ge=0)
    """How much memory answers that are kept in process take; 0: none are."""
    cache_max_age_seconds: float = Field(default=3600.0, gt=0)
    """How old an answer that is kept may be, also where nothing was written since."""
    cache_url: SecretStr | None = None
    """A Redis that all gateways keep answers in: redis://HOST:PORT, rediss:// with TLS, or
    unix://PATH; unset: answers are kept in process only."""
    cache_semantic_similarity: float = Field(default=0.97, ge=0, le=1)
    """The least cosine of two queries that mean nearly the same."""
    cache_semantic_sampled: float = Field(default=0.05, ge=0, le=1)
    """The share of semantic hits that are searched for real as well, in the background, after
    the first 40 of a collection, which all are."""
    cache_semantic_floor: float = Field(default=0.9, ge=0, le=1)
    """The least share of semantic hits that must be true; where it is surely less the semantic
    cache turns itself off for the collection."""
    cache_semantic_bytes: int = Field(default=16 * 2**20, ge=0)
    """How much memory the vectors of queries whose answers are kept take."""
    index_timeout_seconds: float = Field(default=120.0, gt=0)
    """The longest that one batch of documents may take in a tier."""
    index_patience_seconds: float = Field(default=15.0, ge=0)
    """How long an index stream waits for a tier that is overloaded or away."""
    index_batch_documents: int = Field(default=32, ge=1, le=256)
    """The most documents that are embedded and written together."""
    index_batches_in_flight: int = Field(default=4, ge=1)
    """How many batches of one stream are on their way at once."""
    index_bytes_in_flight: int = Field(default=8 * 2**20, ge=2**20)
    """How many bytes of documents one stream holds in memory before it stops reading."""
    max_search_streams: int = Field(default=64, ge=1)
    """The most search streams at once; those beyond are refused with RESOURCE_EXHAUSTED."""
    max_stream_searches: int = Field(default=32, ge=1)
    """How many searches of one stream or batch are on their way at once."""
    max_index_streams: int = Field(default=64, ge=1)
    """The most index streams at once; those beyond are refused with RESOURCE_EXHAUSTED."""

    @model_validator(mode="after")
    def _consistent(self) -> "GatewaySettings":
        if not self.retriever_addresses:
            raise ValueError("retriever_addresses must name a retriever: the one that writes")
        if len(set(self.retriever_addresses)) != len(self.retriever_addresses):
            raise ValueError("retriever_addresses must not name a retriever twice")
        if self.fusion_dense_weight == self.fusion_lexical_weight == 0:
            raise ValueError("fusion_dense_weight and fusion_lexical_weight must not both be 0")
        return self

    @property
    def fusion(self) -> FusionPlan:
        return FusionPlan(
            self.fusion_method,
            self.fusion_dense_weight,
            self.fusion_lexical_weight,
            self.fusion_rank_constant,
        )

    @property
    def tier_tls(self) -> ClientTls | None:
        if self.tier_ca_file is None:
            return None
        return ClientTls(self.tier_ca_file, self.tier_certificate_file, self.tier_key_file)
