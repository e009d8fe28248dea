"""Model engines and the one dynamic batcher, shared by the embedder and the reranker."""
