"""RetrieverService over a shared store: reads as of a follower, and writes."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from services.retriever.replica.following_servicer import FollowingServicer
from sirdar.errors import FailedPrecondition, InvalidArgument, NotFound
from sirdar.v1 import retriever_pb2 as pb

Q = TypeVar("Q")
A = TypeVar("A")


class SharedServicer(FollowingServicer):
    """A write that is refused is tried again when the collections are known as they are now:
    another may have made this one, or made it anew, a moment ago."""

    async def WriteDocuments(
        self, request: pb.WriteDocumentsRequest, context: Any
    ) -> pb.WriteDocumentsResponse:
        return await self._known(super().WriteDocuments, request, context)

    async def DeleteDocuments(
        self, request: pb.RetrieverServiceDeleteDocumentsRequest, context: Any
    ) -> pb.RetrieverServiceDeleteDocumentsResponse:
        return await self._known(super().DeleteDocuments, request, context)

    async def UpdateDocuments(
        self, request: pb.RetrieverServiceUpdateDocumentsRequest, context: Any
    ) -> pb.RetrieverServiceUpdateDocumentsResponse:
        return await self._known(super().UpdateDocuments, request, context)

    async def DeleteByFilter(
        self, request: pb.RetrieverServiceDeleteByFilterRequest, context: Any
    ) -> pb.RetrieverServiceDeleteByFilterResponse:
        # What meets the filter is found in the columns here: they must have what any wrote.
        await self.refresh()
        await self._retriever.current(self._collection(request))
        return await super().DeleteByFilter(request, context)

    async def CreateSnapshot(
        self, request: pb.CreateSnapshotRequest, context: Any
    ) -> pb.CreateSnapshotResponse:
        return await self._known(super().CreateSnapshot, request, context)

    async def _known(self, call: Callable[[Q, Any], Awaitable[A]], request: Q, context: Any) -> A:
        try:
            return await call(request, context)
        except (NotFound, InvalidArgument, FailedPrecondition):
            await self.refresh()
        return await call(request, context)
