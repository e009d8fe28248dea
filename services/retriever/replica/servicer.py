"""RetrieverService of a read replica: reads are answered, writes refused."""

import asyncio
from typing import Any

from services.retriever.replica.follower import Follower
from services.retriever.retriever import Retriever
from services.retriever.servicer import RetrieverServicer
from services.retriever.settings import RetrieverSettings
from services.retriever.store.refusing import read_only_replica
from services.runtime.deadline import remaining_seconds
from services.runtime.drain import Drain
from sirdar.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound
from sirdar.v1 import common_pb2
from sirdar.v1 import retriever_pb2 as pb

_WAITING = (common_pb2.CONSISTENCY_SESSION, common_pb2.CONSISTENCY_STRONG)


class ReplicaServicer(RetrieverServicer):
    """A collection may have been made, changed or deleted a moment ago. Who asks for the store's
    own state, or to see certain writes, waits until that is known; a search that does not is
    answered at once, unless what is wrong with it may be that."""

    accepts_writes = False

    def __init__(
        self,
        retriever: Retriever,
        settings: RetrieverSettings,
        drain: Drain,
        follower: Follower,
    ) -> None:
        super().__init__(retriever, settings, drain)
        self._follower = follower
        self._max_wait_seconds = settings.max_consistency_wait_seconds

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

    async def CheckDocuments(
        self, request: pb.CheckDocumentsRequest, context: Any
    ) -> pb.CheckDocumentsResponse:
        await self._refresh()
        return await super().CheckDocuments(request, context)

    async def GetDocument(
        self, request: pb.RetrieverServiceGetDocumentRequest, context: Any
    ) -> pb.RetrieverServiceGetDocumentResponse:
        await self._refresh()
        return await super().GetDocument(request, context)

    async def ListDocuments(
        self, request: pb.RetrieverServiceListDocumentsRequest, context: Any
    ) -> pb.RetrieverServiceListDocumentsResponse:
        await self._refresh()
        return await super().ListDocuments(request, context)

    async def GetPosition(
        self, request: pb.GetPositionRequest, context: Any
    ) -> pb.GetPositionResponse:
        await self._refresh()
        return await super().GetPosition(request, context)

    async def SearchPassages(
        self, request: pb.SearchPassagesRequest, context: Any
    ) -> pb.SearchPassagesResponse:
        if request.consistency not in _WAITING and not request.consistency_tokens:
            try:
                return await super().SearchPassages(request, context)
            except (NotFound, InvalidArgument, FailedPrecondition):
                # The collection may be a new one, or have a new field.
                pass
        await self._refresh()
        return await super().SearchPassages(request, context)

    async def FetchPassages(
        self, request: pb.FetchPassagesRequest, context: Any
    ) -> pb.FetchPassagesResponse:
        try:
            return await super().FetchPassages(request, context)
        except NotFound:
            await self._refresh()
        return await super().FetchPassages(request, context)

    async def _refresh(self) -> None:
        """Until the store's collections are known as they are now. Raises DeadlineExceeded."""
        left = remaining_seconds()
        try:
            await asyncio.wait_for(
                asyncio.wrap_future(self._follower.refreshed()),
                self._max_wait_seconds if left is None else left,
            )
        except TimeoutError:
            raise DeadlineExceeded(
                "this replica has not heard from the store in time; allow more time, or read with "
                "less consistency",
                reason="NOT_APPLIED_YET",
            ) from None
