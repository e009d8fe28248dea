"""SearchService: validate, call, map the answer."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from gateway import validation as check
from gateway.backends import Embedder, Reranker, Retriever, call_for
from gateway.batch import PendingItem
from gateway.catalog import Catalog, CollectionEntry
from gateway.collections import Collections
from gateway.documents import FoundDocument
from gateway.fusion import mode_of, plan_fusion
from gateway.indexing import IndexInput, IndexStream
from gateway.rerank import check_rerank
from gateway.search import SearchAnswer, SearchPipeline, SearchQuery
from gateway.settings import GatewaySettings
from gateway.writing import BatchWriter, Pushback
from services.runtime.drain import Drain
from sirdar.errors import InvalidArgument, ResourceExhausted, SirdarError, Unimplemented, to_status
from sirdar.v1 import common_pb2, retriever_pb2, search_pb2, search_pb2_grpc

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
        limit = settings.retrieve_timeout_seconds
        self._settings = settings
        self._embedder = embedder
        self._retriever = retriever
        self._drain = drain
        self._limit_seconds = limit
        self._index_streams = 0
        self._catalog = Catalog(retriever, limit)
        self._collections = Collections(embedder, retriever, self._catalog, limit)
        self._pipeline = SearchPipeline(settings, self._catalog, embedder, retriever, reranker)

    async def Search(
        self, request: search_pb2.SearchRequest, context: Any
    ) -> search_pb2.SearchResponse:
        top_k = check.check_top_k(request)
        check_rerank(request.rerank, "rerank")
        answer = await self._pipeline.search(
            SearchQuery(
                namespace=check.namespace_of(request.namespace),
                collection=check.require_collection(request.collection),
                text=check.check_query(request.query, self._settings),
                top_k=top_k,
                candidates=check.check_candidates(request, top_k),
                exact=request.exact,
                consistency=check.check_consistency(request),
                consistency_tokens=tuple(request.consistency_tokens),
                require_complete=request.require_complete,
                rerank=request.rerank,
                highlight=request.highlight,
                filter=request.filter if request.HasField("filter") else None,
                mode=mode_of(request.mode),
                fusion=plan_fusion(request.fusion, self._settings.fusion),
            )
        )
        return _search_response(answer)

    async def BatchSearch(
        self, request: search_pb2.BatchSearchRequest, context: Any
    ) -> search_pb2.BatchSearchResponse:
        raise Unimplemented("BatchSearch is not served yet")

    async def StreamSearch(
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[search_pb2.StreamSearchResponse]:
        raise Unimplemented("StreamSearch is not served yet")
        yield search_pb2.StreamSearchResponse()

    async def ComputeSimilarity(
        self, request: search_pb2.ComputeSimilarityRequest, context: Any
    ) -> search_pb2.ComputeSimilarityResponse:
        raise Unimplemented("ComputeSimilarity is not served yet")

    async def IndexDocuments(
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[search_pb2.IndexDocumentsResponse]:
        if self._index_streams >= self._settings.max_index_streams:
            raise ResourceExhausted(
                f"{self._index_streams} index streams are open already; retry when one has ended",
                retry_after=timedelta(seconds=1),
            )
        self._index_streams += 1
        try:
            requests = self._drain.requests(request_iterator)
            first = await anext(requests, None)
            if first is not None:
                target = await self._target(first)
                writer = BatchWriter(self._settings, target, self._embedder, self._retriever)
                stream = IndexStream(self._settings, writer)
                async for event in stream.outcomes(self._items(requests)):
                    yield _index_response(event)
        finally:
            self._index_streams -= 1
        if self._drain.draining:
            # Another replica is up already, or this one's successor soon.
            stop = common_pb2.ShuttingDown()
            stop.retry_delay.FromTimedelta(timedelta(milliseconds=200))
            yield search_pb2.IndexDocumentsResponse(shutting_down=stop)

    async def _target(self, first: search_pb2.IndexDocumentsRequest) -> CollectionEntry:
        if not first.HasField("target"):
            raise InvalidArgument.field("target", "must be the stream's first message")
        name = check.require_collection(first.target.collection, "target.collection")
        namespace = check.namespace_of(first.target.namespace)
        call_for(namespace)
        # A stream may be long: it does not start from what was remembered.
        self._catalog.forget(namespace, name)
        return await self._catalog.get(namespace, name)

    async def _items(
        self, requests: AsyncIterator[search_pb2.IndexDocumentsRequest]
    ) -> AsyncIterator[IndexInput]:
        async for request in requests:
            item = request.item
            error: SirdarError | None = None
            try:
                if not request.HasField("item"):
                    raise InvalidArgument.field(
                        "item", "must be set in every message but the first"
                    )
                check.check_document(item.document, self._settings)
            except InvalidArgument as bad:
                error = bad
            if_version = item.if_version if item.HasField("if_version") else None
            yield IndexInput(item.document, if_version, error)

    async def GetDocument(
        self, request: search_pb2.GetDocumentRequest, context: Any
    ) -> search_pb2.GetDocumentResponse:
        response = await self._retriever.call(
            self._retriever.rpc.GetDocument,
            retriever_pb2.RetrieverServiceGetDocumentRequest(
                namespace=check.namespace_of(request.namespace),
                collection=check.require_collection(request.collection),
                document_id=check.check_document_id(request.document_id, "document_id"),
            ),
            self._limit_seconds,
        )
        return search_pb2.GetDocumentResponse(document=response.document)

    async def ListDocuments(
        self, request: search_pb2.ListDocumentsRequest, context: Any
    ) -> search_pb2.ListDocumentsResponse:
        response = await self._retriever.call(
            self._retriever.rpc.ListDocuments,
            retriever_pb2.RetrieverServiceListDocumentsRequest(
                namespace=check.namespace_of(request.namespace),
                collection=check.require_collection(request.collection),
                page_size=request.page_size if request.HasField("page_size") else None,
                page_token=request.page_token,
            ),
            self._limit_seconds,
        )
        return search_pb2.ListDocumentsResponse(
            documents=response.documents, next_page_token=response.next_page_token
        )

    async def DeleteDocuments(
        self, request: search_pb2.DeleteDocumentsRequest, context: Any
    ) -> search_pb2.DeleteDocumentsResponse:
        response = await self._retriever.call(
            self._retriever.rpc.DeleteDocuments,
            retriever_pb2.RetrieverServiceDeleteDocumentsRequest(
                namespace=check.namespace_of(request.namespace),
                collection=check.require_collection(request.collection),
                document_ids=request.document_ids,
            ),
            self._settings.index_timeout_seconds,
        )
        return search_pb2.DeleteDocumentsResponse(outcomes=response.outcomes)

    async def UpdateDocuments(
        self, request: search_pb2.UpdateDocumentsRequest, context: Any
    ) -> search_pb2.UpdateDocumentsResponse:
        response = await self._retriever.call(
            self._retriever.rpc.UpdateDocuments,
            retriever_pb2.RetrieverServiceUpdateDocumentsRequest(
                namespace=check.namespace_of(request.namespace),
                collection=check.require_collection(request.collection),
                updates=request.updates,
            ),
            self._settings.index_timeout_seconds,
        )
        return search_pb2.UpdateDocumentsResponse(outcomes=response.outcomes)

    async def DeleteByFilter(
        self, request: search_pb2.DeleteByFilterRequest, context: Any
    ) -> search_pb2.DeleteByFilterResponse:
        if not request.HasField("filter"):
            raise InvalidArgument.field("filter", "must say which documents; nothing was deleted")
        response = await self._retriever.call(
            self._retriever.rpc.DeleteByFilter,
            retriever_pb2.RetrieverServiceDeleteByFilterRequest(
                namespace=check.namespace_of(request.namespace),
                collection=check.require_collection(request.collection),
                filter=request.filter,
                count_only=request.count_only,
            ),
            self._settings.index_timeout_seconds,
        )
        return search_pb2.DeleteByFilterResponse(
            documents=response.documents, consistency_tokens=response.consistency_tokens
        )

    async def CreateCollection(
        self, request: search_pb2.CreateCollectionRequest, context: Any
    ) -> search_pb2.CreateCollectionResponse:
        request.collection.namespace = check.namespace_of(request.collection.namespace)
        check.require_collection(request.collection.name, "collection.name")
        check_rerank(request.collection.rerank, "collection.rerank")
        collection = await self._collections.create(request.collection)
        return search_pb2.CreateCollectionResponse(collection=collection)

    async def GetCollection(
        self, request: search_pb2.GetCollectionRequest, context: Any
    ) -> search_pb2.GetCollectionResponse:
        response = await self._retriever.call(
            self._retriever.rpc.GetCollection,
            retriever_pb2.RetrieverServiceGetCollectionRequest(
                namespace=check.namespace_of(request.namespace),
                name=check.require_collection(request.name, "name"),
            ),
            self._limit_seconds,
        )
        return search_pb2.GetCollectionResponse(collection=response.collection)

    async def ListCollections(
        self, request: search_pb2.ListCollectionsRequest, context: Any
    ) -> search_pb2.ListCollectionsResponse:
        response = await self._retriever.call(
            self._retriever.rpc.ListCollections,
            retriever_pb2.RetrieverServiceListCollectionsRequest(
                namespace=check.namespace_of(request.namespace),
                page_size=request.page_size if request.HasField("page_size") else None,
                page_token=request.page_token,
            ),
            self._limit_seconds,
        )
        return search_pb2.ListCollectionsResponse(
            collections=response.collections, next_page_token=response.next_page_token
        )

    async def UpdateCollection(
        self, request: search_pb2.UpdateCollectionRequest, context: Any
    ) -> search_pb2.UpdateCollectionResponse:
        request.collection.namespace = check.namespace_of(request.collection.namespace)
        check.require_collection(request.collection.name, "collection.name")
        check_rerank(request.collection.rerank, "collection.rerank")
        self._catalog.forget(request.collection.namespace, request.collection.name)
        response = await self._retriever.call(
            self._retriever.rpc.UpdateCollection,
            retriever_pb2.RetrieverServiceUpdateCollectionRequest(
                collection=request.collection, update_mask=request.update_mask
            ),
            self._limit_seconds,
        )
        return search_pb2.UpdateCollectionResponse(collection=response.collection)

    async def DeleteCollection(
        self, request: search_pb2.DeleteCollectionRequest, context: Any
    ) -> search_pb2.DeleteCollectionResponse:
        await self._collections.delete(
            check.namespace_of(request.namespace), check.require_collection(request.name, "name")
        )
        return search_pb2.DeleteCollectionResponse()


def _search_response(answer: SearchAnswer) -> search_pb2.SearchResponse:
    response = search_pb2.SearchResponse(
        results=[_search_result(document) for document in answer.documents],
        space=answer.space,
        coverage=answer.coverage,
        degraded=answer.degraded,
    )
    for stage, seconds in answer.stage_seconds.items():
        timing = response.timings.add(stage=stage)
        timing.duration.FromNanoseconds(round(seconds * 1e9))
    return response


def _search_result(document: FoundDocument) -> search_pb2.SearchResult:
    passage = document.passage
    return search_pb2.SearchResult(
        document_id=passage.document_id,
        score=document.score,
        title=passage.title,
        metadata=passage.metadata,
        version=passage.version,
        snippet=search_pb2.Snippet(
            text=passage.text,
            span=passage.span,
            passage_index=passage.index,
            highlights=[
                common_pb2.Span(start=start, end=end) for start, end in document.highlights
            ],
        ),
        matched_passages=document.matched_passages,
        similarity=document.similarity,
        lexical_score=document.lexical_score,
        rerank_score=document.rerank_score,
        retriever_rank=document.retriever_rank,
    )


def _index_response(event: PendingItem | Pushback) -> search_pb2.IndexDocumentsResponse:
    if isinstance(event, PendingItem):
        return search_pb2.IndexDocumentsResponse(outcome=_index_outcome(event))
    slow = common_pb2.SlowDown(detail=event.detail)
    slow.retry_delay.FromTimedelta(event.retry_after)
    return search_pb2.IndexDocumentsResponse(slow_down=slow)


def _index_outcome(item: PendingItem) -> search_pb2.IndexOutcome:
    return search_pb2.IndexOutcome(
        index=item.index,
        document_id=item.document.id,
        receipt=item.receipt,
        error=to_status(item.error) if item.error is not None else None,
        duplicate=item.duplicate,
    )
