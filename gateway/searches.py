"""Searches: the pipeline's answer to a query, as it travels."""

from collections.abc import Callable

from gateway.pipeline.answer import SearchAnswer
from gateway.pipeline.query import SearchQuery
from gateway.pipeline.response import search_response
from gateway.pipeline.search import SearchPipeline
from sirdar.v1 import search_pb2


class Searches:
    def __init__(self, pipeline: SearchPipeline) -> None:
        self._pipeline = pipeline

    async def search(
        self,
        query: SearchQuery,
        preliminary: Callable[[search_pb2.SearchResponse], None] | None = None,
    ) -> search_pb2.SearchResponse:
        """`preliminary` gets the retriever's order before it is reranked, if it is.

        Raises the errors of SearchService.Search.
        """

        def show(answer: SearchAnswer) -> None:
            if preliminary is not None:
                preliminary(search_response(answer))

        return search_response(await self._pipeline.search(query, show if preliminary else None))
