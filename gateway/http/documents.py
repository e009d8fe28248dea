"""Documents over HTTP."""

from fastapi import APIRouter, Request, Response

from gateway.http.answers import message_answer
from gateway.http.bodies import MAX_JSON_BYTES, parsed, read_json_body, while_connected
from gateway.http.filters import PARAMETER, split_filter
from gateway.http.operations import Operations
from gateway.http.proto_json import from_query, load_json, to_message
from gateway.servicer import SearchServicer
from gateway.settings import GatewaySettings
from gateway.updates import receipt_of
from sirdar.errors import InvalidArgument
from sirdar.v1 import document_pb2, search_pb2

_ALL = "/collections/{name}/documents"
# An id may have slashes.
_ONE = "/collections/{name}/documents/{document_id:path}"


class DocumentRoutes:
    def __init__(self, servicer: SearchServicer, settings: GatewaySettings) -> None:
        self._servicer = servicer
        self._limit_bytes = min(settings.max_message_bytes, MAX_JSON_BYTES)

    async def list_documents(self, request: Request) -> Response:
        """Documents in the order of their ids, a page at a time."""
        message = from_query(_parameters(request), search_pb2.ListDocumentsRequest())
        return message_answer(
            await while_connected(request, self._servicer.ListDocuments(message, None))
        )

    async def get_document(self, request: Request) -> Response:
        """A document as the store has it."""
        message = from_query(
            [*_parameters(request), ("document_id", request.path_params["document_id"])],
            search_pb2.GetDocumentRequest(),
        )
        return message_answer(
            await while_connected(request, self._servicer.GetDocument(message, None))
        )

    async def update_document(self, request: Request) -> Response:
        """Changes metadata and the time of deletion: `set` adds or replaces fields, `remove`
        takes them away, and all others stay, as text and vectors do."""
        body = await read_json_body(request, self._limit_bytes)
        update = await parsed(body, _update)
        document_id = request.path_params["document_id"]
        if update.document_id not in ("", document_id):
            raise InvalidArgument.field(
                "document_id", f"is {update.document_id!r}; the path says {document_id!r}"
            )
        update.document_id = document_id
        message = from_query(_parameters(request), search_pb2.UpdateDocumentsRequest())
        message.updates.append(update)
        # Not cancelled when the caller leaves: it may be committed already.
        answer = await self._servicer.UpdateDocuments(message, None)
        return message_answer(receipt_of(answer.outcomes[0]))

    async def delete_documents(self, request: Request) -> Response:
        """Deletes the documents of `document_ids` and says which were there, or those that meet
        `filter` and says how many; `count_only` counts them and deletes nothing."""
        parameters, condition = split_filter(_parameters(request))
        if condition is None:
            message = from_query(parameters, search_pb2.DeleteDocumentsRequest())
            return message_answer(await self._servicer.DeleteDocuments(message, None))
        by_filter = from_query(parameters, search_pb2.DeleteByFilterRequest())
        by_filter.filter.CopyFrom(condition)
        return message_answer(await self._servicer.DeleteByFilter(by_filter, None))

    async def delete_document(self, request: Request) -> Response:
        """Deletes a document. Deleting what is not there succeeds and says so."""
        message = from_query(_parameters(request), search_pb2.DeleteDocumentsRequest())
        if message.document_ids:
            raise InvalidArgument.field(
                "document_ids", "is not a parameter here: the path names the document"
            )
        message.document_ids.append(request.path_params["document_id"])
        return message_answer(await self._servicer.DeleteDocuments(message, None))


def _update(body: bytes) -> document_pb2.DocumentUpdate:
    return to_message(load_json(body), document_pb2.DocumentUpdate())


def documents_router(
    servicer: SearchServicer, settings: GatewaySettings, operations: Operations
) -> APIRouter:
    routes = DocumentRoutes(servicer, settings)
    router = APIRouter(tags=["Documents"])
    in_path = frozenset({"collection"})
    page = operations.query_parameters(search_pb2.ListDocumentsRequest.DESCRIPTOR, without=in_path)
    ids = operations.query_parameters(search_pb2.DeleteDocumentsRequest.DESCRIPTOR, without=in_path)
    namespace = [parameter for parameter in ids if parameter["name"] != "document_ids"]
    counting = operations.query_parameters(
        search_pb2.DeleteByFilterRequest.DESCRIPTOR,
        without=frozenset({"namespace", "collection", "filter"}),
    )
    deleted = [
        operations.schemas.reference(answer)
        for answer in (
            search_pb2.DeleteDocumentsResponse.DESCRIPTOR,
            search_pb2.DeleteByFilterResponse.DESCRIPTOR,
        )
    ]
    listed = operations.describe(
        _ALL, parameters=page, answer=search_pb2.ListDocumentsResponse.DESCRIPTOR
    )
    got = operations.describe(
        _ONE, parameters=namespace, answer=search_pb2.GetDocumentResponse.DESCRIPTOR
    )
    all_deleted = operations.describe(
        _ALL, parameters=[*ids, PARAMETER, *counting], answer={"oneOf": deleted}
    )
    one_deleted = operations.describe(
        _ONE, parameters=namespace, answer=search_pb2.DeleteDocumentsResponse.DESCRIPTOR
    )
    updated = operations.describe(
        _ONE,
        parameters=namespace,
        body=document_pb2.DocumentUpdate.DESCRIPTOR,
        example={"set": {"year": {"int64_value": "2026"}}, "remove": ["draft"]},
        answer=document_pb2.WriteReceipt.DESCRIPTOR,
    )
    router.get(_ALL, openapi_extra=listed)(routes.list_documents)
    router.delete(_ALL, openapi_extra=all_deleted)(routes.delete_documents)
    router.get(_ONE, openapi_extra=got)(routes.get_document)
    router.patch(_ONE, openapi_extra=updated)(routes.update_document)
    router.delete(_ONE, openapi_extra=one_deleted)(routes.delete_document)
    return router


def _parameters(request: Request) -> list[tuple[str, str]]:
    """The query's, and the collection in the path."""
    return [*request.query_params.multi_items(), ("collection", request.path_params["name"])]
