"""RetrieverService over a store that others write: what they did is known when it is asked for."""

import asyncio
from typing import Any

from services.retriever.replica.follower import Follower
from services.retriever.retriever import Retriever
from services.retriever.servicer import RetrieverServicer
from services.retriever.settings import RetrieverSettings
from services.runtime.deadline import remaining_seconds
from services.runtime.drain import Drain
from sirdar.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound
from sirdar.v1 import common_pb2
from sirdar.v1 import retriever_pb2 as pb

_WAITING = (common_pb2.CONSISTENCY_SESSION, common_pb2.CONSISTENCY_STRONG)


class FollowingServicer(RetrieverServicer):
    """A collection may have been made, changed or deleted a moment ago. Who asks for the store's
    own state, or to see certain writes, waits until that is known; a search that does not is
    answered at once, unless what is wrong with it may be that."""

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

    async def CheckDocuments(
        self, request: pb.CheckDocumentsRequest, context: Any
    ) -> pb.CheckDocumentsResponse:
        await self.refresh()
        return await super().CheckDocuments(request, context)

    async def GetDocument(
        self, request: pb.RetrieverServiceGetDocumentRequest, context: Any
    ) -> pb.RetrieverServiceGetDocumentResponse:
        await self.refresh()
        return await super().GetDocument(request, context)

    async def ListDocuments(
        self, request: pb.RetrieverServiceListDocumentsRequest, context: Any
    ) -> pb.RetrieverServiceListDocumentsResponse:
        await self.refresh()
        return await super().ListDocuments(request, context)

    async def GetPosition(
        self, request: pb.GetPositionRequest, context: Any
    ) -> pb.GetPositionResponse:
        await self.refresh()
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
        await self.refresh()
        return await super().SearchPassages(request, context)

    async def FetchPassages(
        self, request: pb.FetchPassagesRequest, context: Any
    ) -> pb.FetchPassagesResponse:
        try:
            return await super().FetchPassages(request, context)
        except NotFound:
            await self.refresh()
        return await super().FetchPassages(request, context)

    async def refresh(self) -> None:
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
