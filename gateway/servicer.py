"""SearchService: each call to whoever answers it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gateway.backends import Embedder, Reranker, Retriever
from gateway.cache.search import CachedSearch
from gateway.catalog import Catalog
from gateway.collections import Collections
from gateway.index_streams import IndexStreams
from gateway.pipeline.search import SearchPipeline
from gateway.search_streams import SearchStreams
from gateway.searches import Searches
from gateway.settings import GatewaySettings
from gateway.similarity import TextSimilarity
from gateway.stored_documents import StoredDocuments
from services.runtime.drain import Drain
from sirdar.v1 import search_pb2, search_pb2_grpc

SERVICE = search_pb2.DESCRIPTOR.services_by_name["SearchService"].full_name


class SearchServicer(search_pb2_grpc.SearchServiceServicer):
    def __init__(
        self,
        settings: GatewaySettings,
        drain: Drain,
        embedder: Embedder,
        retriever: Retriever,
        reranker: Reranker | None,
    ) -> None:
        limit_seconds = settings.retrieve_timeout_seconds
        catalog = Catalog(retriever, limit_seconds)
        pipeline = SearchPipeline(settings, catalog, embedder, retriever, reranker)
        searches = Searches(pipeline)
        self._searches = CachedSearch(settings, catalog, embedder, retriever, reranker, searches)
        self._search_streams = SearchStreams(settings, drain, self._searches)
        self._similarity = TextSimilarity(settings, embedder, reranker)
        self._indexing = IndexStreams(settings, drain, catalog, embedder, retriever)
        self._documents = StoredDocuments(settings, retriever)
        self._collections = Collections(embedder, retriever, catalog, limit_seconds)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """What goes on beside the calls goes on inside the block."""
        self._searches.start()
        try:
            yield
        finally:
            await self._searches.close()

    async def Search(
        self, request: search_pb2.SearchRequest, context: Any
    ) -> search_pb2.SearchResponse:
        return await self._searches.search(request)

    async def BatchSearch(
        self, request: search_pb2.BatchSearchRequest, context: Any
    ) -> search_pb2.BatchSearchResponse:
        return await self._search_streams.batch(request)

    async def StreamSearch(
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[search_pb2.StreamSearchResponse]:
        async for response in self._search_streams.serve(request_iterator):
            yield response

    async def ComputeSimilarity(
        self, request: search_pb2.ComputeSimilarityRequest, context: Any
    ) -> search_pb2.ComputeSimilarityResponse:
        return await self._similarity.compute(request)

    async def IndexDocuments(
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[search_pb2.IndexDocumentsResponse]:
        async for response in self._indexing.serve(request_iterator):
            yield response

    async def GetDocument(
        self, request: search_pb2.GetDocumentRequest, context: Any
    ) -> search_pb2.GetDocumentResponse:
        return await self._documents.get(request)

    async def ListDocuments(
        self, request: search_pb2.ListDocumentsRequest, context: Any
    ) -> search_pb2.ListDocumentsResponse:
        return await self._documents.list(request)

    async def DeleteDocuments(
        self, request: search_pb2.DeleteDocumentsRequest, context: Any
    ) -> search_pb2.DeleteDocumentsResponse:
        return await self._documents.delete(request)

    async def UpdateDocuments(
        self, request: search_pb2.UpdateDocumentsRequest, context: Any
    ) -> search_pb2.UpdateDocumentsResponse:
        return await self._documents.update(request)

    async def DeleteByFilter(
        self, request: search_pb2.DeleteByFilterRequest, context: Any
    ) -> search_pb2.DeleteByFilterResponse:
        return await self._documents.delete_by_filter(request)

    async def CreateCollection(
        self, request: search_pb2.CreateCollectionRequest, context: Any
    ) -> search_pb2.CreateCollectionResponse:
        return await self._collections.create(request)

    async def GetCollection(
        self, request: search_pb2.GetCollectionRequest, context: Any
    ) -> search_pb2.GetCollectionResponse:
        return await self._collections.get(request)

    async def ListCollections(
        self, request: search_pb2.ListCollectionsRequest, context: Any
    ) -> search_pb2.ListCollectionsResponse:
        return await self._collections.list(request)

    async def UpdateCollection(
        self, request: search_pb2.UpdateCollectionRequest, context: Any
    ) -> search_pb2.UpdateCollectionResponse:
        return await self._collections.update(request)

    async def DeleteCollection(
        self, request: search_pb2.DeleteCollectionRequest, context: Any
    ) -> search_pb2.DeleteCollectionResponse:
        return await self._collections.delete(request)
