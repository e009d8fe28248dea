"""Client of the retriever: of one, or of the replicas that serve the same store."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.backends import sense
from gateway.backends.endpoint import Check, Endpoint, Method, Reply
from gateway.backends.filter_deletion import delete_by_filter
from gateway.backends.picture import Picture
from gateway.backends.position_stream import StreamedPositions
from gateway.backends.replicas import Read, Replicas
from gateway.backends.shard_search import ShardSearch
from gateway.backends.shard_watch import ShardWatch
from gateway.search_watch import note_applied
from services.runtime.channel import ClientTls
from sirdar.v1 import cluster_pb2_grpc, retriever_pb2, retriever_pb2_grpc

# Read by any replica, which waits for what the read must see.
_ANYWHERE: Mapping[str, Check | None] = {
    "SearchPassages": sense.passages_found,
    "FetchPassages": sense.passages_fetched,
    "GetDocument": sense.document_found,
    "ListDocuments": None,
}
# Read by the writer while it is there: a replica may not know yet what was just changed.
_WRITER_FIRST: Mapping[str, Check | None] = {
    "GetCollection": sense.collection_found,
    "ListCollections": None,
    "ListShards": None,
}
# Asked of one that writes, and once.
_WRITES: Mapping[str, Check | None] = {
    "WriteDocuments": sense.documents_written,
    "UpdateDocuments": sense.documents_updated,
    "DeleteDocuments": sense.documents_deleted,
    "DeleteByFilter": None,
    "CheckDocuments": None,
    "CreateCollection": None,
    "UpdateCollection": None,
    "DeleteCollection": None,
}


class Retriever:
    """Writes go to who says that it takes them, the first address as long as none does.

    Reads go to any that is well, searches to those that have the shards; see `Replicas` and
    `ShardSearch`. `rpc` and `cluster_rpc` are the methods, for `call`.
    """

    name = "retriever"

    def __init__(
        self, addresses: Sequence[str], max_message_bytes: int, tls: ClientTls | None
    ) -> None:
        self._endpoints = [
            Endpoint(self.name, address, max_message_bytes, tls) for address in addresses
        ]
        stubs = [_stub(endpoint) for endpoint in self._endpoints]
        self.rpc = stubs[0]
        self._picture = picture = Picture(len(stubs))
        self._watch = ShardWatch(stubs, picture)
        self._replicas = Replicas(self._endpoints, lambda: picture.writers, lambda: picture.present)

        def each(name: str, check: Check | None) -> Read[Any]:
            methods = tuple(getattr(stub, name) for stub in stubs)
            return Read(methods, check, writer_first=name in _WRITER_FIRST)

        self._reads = {
            getattr(self.rpc, name): each(name, check)
            for name, check in {**_ANYWHERE, **_WRITER_FIRST}.items()
        }
        positions = tuple(StreamedPositions(stub) for stub in stubs)
        self._reads[self.rpc.GetPosition] = Read(positions, None, writer_first=True)
        self._writes: dict[Method[Any], Read[Any]] = {
            getattr(self.rpc, name): each(name, check) for name, check in _WRITES.items()
        }
        clusters = [_cluster_stub(endpoint) for endpoint in self._endpoints]
        self.cluster_rpc = clusters[0]

        def each_cluster(name: str) -> Read[Any]:
            return Read(tuple(getattr(stub, name) for stub in clusters), None)

        for name in ("GetCluster", "DrainMember", "UndrainMember"):
            self._reads[getattr(self.cluster_rpc, name)] = each_cluster(name)
        self._writes[self.cluster_rpc.RemoveMember] = each_cluster("RemoveMember")
        self._searches = ShardSearch(self._replicas, self._reads[self.rpc.SearchPassages], picture)

    def start(self) -> None:
        """Listens to what the retrievers announce; one alone is asked for everything anyway."""
        if len(self._endpoints) > 1:
            self._watch.start()

    async def close(self) -> None:
        await self._watch.close()
        await asyncio.gather(*(endpoint.channel.close() for endpoint in self._endpoints))

    async def serving(self, limit_seconds: float) -> bool:
        """Whether one can be reached and says that it is SERVING."""
        return any(
            await asyncio.gather(*(endpoint.serving(limit_seconds) for endpoint in self._endpoints))
        )

    async def call(self, method: Method[Reply], request: Any, limit_seconds: float) -> Reply:
        """Calls with the time that is left, at most the limit. Raises the errors of
        `Endpoint.call`."""
        read = self._reads.get(method)
        if read is None:
            return await self._replicas.write(self._writes[method], request, limit_seconds)
        return await self._replicas.call(read, request, limit_seconds)

    async def delete_by_filter(
        self, request: retriever_pb2.RetrieverServiceDeleteByFilterRequest, limit_seconds: float
    ) -> retriever_pb2.RetrieverServiceDeleteByFilterResponse:
        """In all shards, or it raises; calling again goes on."""
        write = self._writes[self.rpc.DeleteByFilter]
        return await delete_by_filter(self._replicas, write, self._picture, request, limit_seconds)

    async def search(
        self, request: retriever_pb2.SearchPassagesRequest, limit_seconds: float
    ) -> retriever_pb2.SearchPassagesResponse:
        """From all shards that any retriever has. Hedged where several have them."""
        response = await self._searches.search(request, limit_seconds)
        note_applied(request.collection, response.applied_seqs)
        return response


def _stub(endpoint: Endpoint) -> "retriever_pb2_grpc.RetrieverServiceAsyncStub":
    stub: retriever_pb2_grpc.RetrieverServiceAsyncStub = (
        retriever_pb2_grpc.RetrieverServiceStub(endpoint.channel)  # type: ignore[assignment]
    )
    return stub


def _cluster_stub(endpoint: Endpoint) -> "cluster_pb2_grpc.ClusterServiceAsyncStub":
    stub: cluster_pb2_grpc.ClusterServiceAsyncStub = (
        cluster_pb2_grpc.ClusterServiceStub(endpoint.channel)  # type: ignore[assignment]
    )
    return stub
