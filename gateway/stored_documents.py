"""Documents at the gateway: read, changed and deleted where they are."""

from gateway import validation as check
from gateway.backends import Retriever
from gateway.settings import GatewaySettings
from sirdar.errors import InvalidArgument
from sirdar.v1 import retriever_pb2, search_pb2


class StoredDocuments:
    """The calls of SearchService on documents that are stored; they raise its errors."""

    def __init__(self, settings: GatewaySettings, retriever: Retriever) -> None:
        self._settings = settings
        self._retriever = retriever

    async def get(self, request: search_pb2.GetDocumentRequest) -> search_pb2.GetDocumentResponse:
        response = await self._retriever.call(
            self._retriever.rpc.GetDocument,
            retriever_pb2.RetrieverServiceGetDocumentRequest(
                namespace=check.namespace_of(request.namespace),
                collection=check.require_collection(request.collection),
                document_id=check.check_document_id(request.document_id, "document_id"),
            ),
            self._settings.retrieve_timeout_seconds,
        )
        return search_pb2.GetDocumentResponse(document=response.document)

    async def list(
        self, request: search_pb2.ListDocumentsRequest
    ) -> search_pb2.ListDocumentsResponse:
        response = await self._retriever.call(
            self._retriever.rpc.ListDocuments,
            retriever_pb2.RetrieverServiceListDocumentsRequest(
                namespace=check.namespace_of(request.namespace),
                collection=check.require_collection(request.collection),
                page_size=request.page_size if request.HasField("page_size") else None,
                page_token=request.page_token,
            ),
            self._settings.retrieve_timeout_seconds,
        )
        return search_pb2.ListDocumentsResponse(
            documents=response.documents, next_page_token=response.next_page_token
        )

    async def delete(
        self, request: search_pb2.DeleteDocumentsRequest
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

    async def update(
        self, request: search_pb2.UpdateDocumentsRequest
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

    async def delete_by_filter(
        self, request: search_pb2.DeleteByFilterRequest
    ) -> search_pb2.DeleteByFilterResponse:
        if not request.HasField("filter"):
            raise InvalidArgument.field("filter", "must say which documents; nothing was deleted")
        response = await self._retriever.delete_by_filter(
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
