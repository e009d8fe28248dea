"""Documents over HTTP."""

from fastapi import APIRouter, Request, Response

from gateway.http.bodies import while_connected
from gateway.http.operations import Operations
from gateway.http.proto_json import from_query
from gateway.http.search import json_response
from gateway.servicer import SearchServicer
from sirdar.v1 import search_pb2

_ALL = "/collections/{name}/documents"
# An id may have slashes.
_ONE = "/collections/{name}/documents/{document_id:path}"
_IN_PATH = frozenset({"collection", "document_id", "document_ids"})


def documents_router(servicer: SearchServicer, operations: Operations) -> APIRouter:
    router = APIRouter(tags=["Documents"])
    namespace = operations.query_parameters(
        search_pb2.GetDocumentRequest.DESCRIPTOR, without=_IN_PATH
    )

    @router.get(
        _ALL,
        openapi_extra=operations.describe(
            _ALL,
            parameters=operations.query_parameters(
                search_pb2.ListDocumentsRequest.DESCRIPTOR, without=_IN_PATH
            ),
            answer=search_pb2.ListDocumentsResponse.DESCRIPTOR,
        ),
    )
    async def list_documents(request: Request) -> Response:
        """Documents in the order of their ids, a page at a time."""
        message = from_query(_parameters(request), search_pb2.ListDocumentsRequest())
        return json_response(await while_connected(request, servicer.ListDocuments(message, None)))

    @router.delete(
        _ALL,
        openapi_extra=operations.describe(
            _ALL,
            parameters=operations.query_parameters(
                search_pb2.DeleteDocumentsRequest.DESCRIPTOR, without=frozenset({"collection"})
            ),
            answer=search_pb2.DeleteDocumentsResponse.DESCRIPTOR,
        ),
    )
    async def delete_documents(request: Request) -> Response:
        """Deletes the documents of `document_ids`; says which were there."""
        message = from_query(_parameters(request), search_pb2.DeleteDocumentsRequest())
        return json_response(await servicer.DeleteDocuments(message, None))

    @router.get(
        _ONE,
        openapi_extra=operations.describe(
            _ONE,
            parameters=namespace,
            answer=search_pb2.GetDocumentResponse.DESCRIPTOR,
        ),
    )
    async def get_document(request: Request) -> Response:
        """A document as the store has it."""
        message = from_query(
            [*_parameters(request), ("document_id", request.path_params["document_id"])],
            search_pb2.GetDocumentRequest(),
        )
        return json_response(await while_connected(request, servicer.GetDocument(message, None)))

    @router.delete(
        _ONE,
        openapi_extra=operations.describe(
            _ONE,
            parameters=namespace,
            answer=search_pb2.DeleteDocumentsResponse.DESCRIPTOR,
        ),
    )
    async def delete_document(request: Request) -> Response:
        """Deletes a document. Deleting what is not there succeeds and says so."""
        message = from_query(
            [*_parameters(request), ("document_ids", request.path_params["document_id"])],
            search_pb2.DeleteDocumentsRequest(),
        )
        return json_response(await servicer.DeleteDocuments(message, None))

    return router


def _parameters(request: Request) -> list[tuple[str, str]]:
    """The query's, and the collection of the path."""
    return [*request.query_params.multi_items(), ("collection", request.path_params["name"])]
