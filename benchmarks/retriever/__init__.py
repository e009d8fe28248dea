"""`make bench-retriever`: the retriever beside FAISS called in process and beside others."""
