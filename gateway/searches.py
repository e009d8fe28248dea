"""Searches: from the request to the pipeline, and from its answer to the response."""

from collections.abc import Callable

from gateway.pipeline.answer import SearchAnswer
from gateway.pipeline.request import read_query
from gateway.pipeline.response import search_response
from gateway.pipeline.search import SearchPipeline
from gateway.settings import GatewaySettings
from sirdar.v1 import search_pb2


class Searches:
    def __init__(self, settings: GatewaySettings, pipeline: SearchPipeline) -> None:
        self._settings = settings
        self._pipeline = pipeline

    async def search(
        self,
        request: search_pb2.SearchRequest,
        preliminary: Callable[[search_pb2.SearchResponse], None] | None = None,
    ) -> search_pb2.SearchResponse:
        """`preliminary` gets the retriever's order before it is reranked, if it is.

        Raises the errors of SearchService.Search.
        """

        def show(answer: SearchAnswer) -> None:
            if preliminary is not None:
                preliminary(search_response(answer))

        query = read_query(request, self._settings)
        return search_response(await self._pipeline.search(query, show if preliminary else None))
