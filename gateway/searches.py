"""Searches: from the request to the pipeline, and from its answer to the response."""

from gateway.pipeline.answer import search_response
from gateway.pipeline.query import read_query
from gateway.pipeline.search import SearchPipeline
from gateway.settings import GatewaySettings
from sirdar.v1 import search_pb2


class Searches:
    def __init__(self, settings: GatewaySettings, pipeline: SearchPipeline) -> None:
        self._settings = settings
        self._pipeline = pipeline

    async def search(self, request: search_pb2.SearchRequest) -> search_pb2.SearchResponse:
        """Raises the errors of SearchService.Search."""
        return search_response(await self._pipeline.search(read_query(request, self._settings)))
