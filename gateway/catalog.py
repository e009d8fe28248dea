"""What the gateway remembers of collections: the space that queries must be embedded in."""

import time
from dataclasses import dataclass

from gateway.backends import Retriever
from sirdar.v1 import collection_pb2, common_pb2, retriever_pb2


@dataclass(frozen=True, slots=True)
class CollectionEntry:
    namespace: str
    name: str
    space: common_pb2.EmbeddingSpace
    similarity: collection_pb2.Similarity.ValueType
    rerank: collection_pb2.RerankSettings
    # Whether it has a lexical index. A retriever that is older says nothing of one.
    lexical: bool
    read_at: float


class Catalog:
    """A bounded memory of collections, re-read when old.

    Nothing is decided by it alone: the retriever checks name and fingerprint
    on every call, and an entry that it refuses is forgotten.
    """

    def __init__(
        self, retriever: Retriever, limit_seconds: float, *, age_seconds: float = 30.0
    ) -> None:
        self._retriever = retriever
        self._limit_seconds = limit_seconds
        self._age_seconds = age_seconds
        self._entries: dict[tuple[str, str], CollectionEntry] = {}

    async def get(self, namespace: str, name: str) -> CollectionEntry:
        """Raises NotFound when there is no such collection."""
        known = self._entries.get((namespace, name))
        if known is not None and time.monotonic() - known.read_at < self._age_seconds:
            return known
        request = retriever_pb2.RetrieverServiceGetCollectionRequest(namespace=namespace, name=name)
        response = await self._retriever.call(
            self._retriever.rpc.GetCollection, request, self._limit_seconds
        )
        return self.remember(namespace, response.collection)

    def known(self, namespace: str, name: str) -> CollectionEntry | None:
        """What is remembered, however old."""
        return self._entries.get((namespace, name))

    def remember(self, namespace: str, collection: collection_pb2.Collection) -> CollectionEntry:
        entry = CollectionEntry(
            namespace,
            collection.name,
            collection.generation.space,
            collection.generation.similarity,
            collection.rerank,
            collection.lexical.enabled,
            time.monotonic(),
        )
        if len(self._entries) >= 10_000:
            self._entries.clear()
        self._entries[namespace, collection.name] = entry
        return entry

    def forget(self, namespace: str, name: str) -> None:
        self._entries.pop((namespace, name), None)
