"""Doors for the clients of other APIs: OpenAI's, Cohere's, Jina's, text-embeddings-inference's."""
