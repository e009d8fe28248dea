"""The tiers behind the gateway: typed clients that bound, check, retry and hedge their calls."""

from gateway.backends.embedder import EmbeddedQuery, Embedder
from gateway.backends.reranker import Logits, Reranker
from gateway.backends.retriever import Retriever
from gateway.backends.tenant import call_for

__all__ = ["EmbeddedQuery", "Embedder", "Logits", "Reranker", "Retriever", "call_for"]
