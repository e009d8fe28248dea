"""RetrieverService of a read replica: reads are answered, writes refused."""

from typing import Any

from services.retriever.replica.following_servicer import FollowingServicer
from services.retriever.store.refusing import read_only_replica
from sirdar.v1 import retriever_pb2 as pb


class ReplicaServicer(FollowingServicer):
    """Refuses what would change the store."""

    accepts_writes = False

    async def CreateCollection(
        self, request: pb.RetrieverServiceCreateCollectionRequest, context: Any
    ) -> pb.RetrieverServiceCreateCollectionResponse:
        raise read_only_replica()

    async def UpdateCollection(
        self, request: pb.RetrieverServiceUpdateCollectionRequest, context: Any
    ) -> pb.RetrieverServiceUpdateCollectionResponse:
        raise read_only_replica()

    async def DeleteCollection(
        self, request: pb.RetrieverServiceDeleteCollectionRequest, context: Any
    ) -> pb.RetrieverServiceDeleteCollectionResponse:
        raise read_only_replica()

    async def WriteDocuments(
        self, request: pb.WriteDocumentsRequest, context: Any
    ) -> pb.WriteDocumentsResponse:
        raise read_only_replica()

    async def DeleteDocuments(
        self, request: pb.RetrieverServiceDeleteDocumentsRequest, context: Any
    ) -> pb.RetrieverServiceDeleteDocumentsResponse:
        raise read_only_replica()

    async def UpdateDocuments(
        self, request: pb.RetrieverServiceUpdateDocumentsRequest, context: Any
    ) -> pb.RetrieverServiceUpdateDocumentsResponse:
        raise read_only_replica()

    async def DeleteByFilter(
        self, request: pb.RetrieverServiceDeleteByFilterRequest, context: Any
    ) -> pb.RetrieverServiceDeleteByFilterResponse:
        raise read_only_replica()

    async def CreateSnapshot(
        self, request: pb.CreateSnapshotRequest, context: Any
    ) -> pb.CreateSnapshotResponse:
        raise read_only_replica()
