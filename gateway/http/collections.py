"""Collections over HTTP."""

from fastapi import APIRouter, Request, Response

from gateway.http.bodies import read_json_body, while_connected
from gateway.http.operations import Operations
from gateway.http.proto_json import from_query, load_json, to_message
from gateway.http.search import json_response
from gateway.servicer import SearchServicer
from gateway.settings import GatewaySettings
from sirdar.errors import InvalidArgument
from sirdar.v1 import collection_pb2, search_pb2

_COLLECTION = collection_pb2.Collection.DESCRIPTOR
_ALL = "/collections"
_ONE = "/collections/{name}"
_IN_PATH = frozenset({"name"})


def collections_router(
    servicer: SearchServicer, settings: GatewaySettings, operations: Operations
) -> APIRouter:
    router = APIRouter(tags=["Collections"])
    limit = settings.max_message_bytes
    namespace = operations.query_parameters(
        search_pb2.GetCollectionRequest.DESCRIPTOR, without=_IN_PATH
    )

    @router.post(
        _ALL,
        openapi_extra=operations.describe(
            _ALL,
            body=_COLLECTION,
            example={"name": "notes", "description": "Notes of the crew."},
            answer=search_pb2.CreateCollectionResponse.DESCRIPTOR,
            status=201,
        ),
    )
    async def create_collection(request: Request) -> Response:
        """Creates a collection, in the embedder's default space unless it names a model."""
        value = load_json(await read_json_body(request, limit))
        message = search_pb2.CreateCollectionRequest(
            collection=to_message(value, collection_pb2.Collection())
        )
        answer = await while_connected(request, servicer.CreateCollection(message, None))
        return json_response(answer, status=201)

    @router.get(
        _ALL,
        openapi_extra=operations.describe(
            _ALL,
            parameters=operations.query_parameters(search_pb2.ListCollectionsRequest.DESCRIPTOR),
            answer=search_pb2.ListCollectionsResponse.DESCRIPTOR,
        ),
    )
    async def list_collections(request: Request) -> Response:
        """Collections of a namespace, a page at a time."""
        message = from_query(
            request.query_params.multi_items(), search_pb2.ListCollectionsRequest()
        )
        return json_response(
            await while_connected(request, servicer.ListCollections(message, None))
        )

    @router.get(
        _ONE,
        openapi_extra=operations.describe(
            _ONE,
            parameters=namespace,
            answer=search_pb2.GetCollectionResponse.DESCRIPTOR,
        ),
    )
    async def get_collection(request: Request) -> Response:
        """A collection with its generation and its counts."""
        message = from_query(
            [*request.query_params.multi_items(), ("name", request.path_params["name"])],
            search_pb2.GetCollectionRequest(),
        )
        return json_response(await while_connected(request, servicer.GetCollection(message, None)))

    @router.patch(
        _ONE,
        openapi_extra=operations.describe(
            _ONE,
            body=_COLLECTION,
            example={"description": "Notes of the crew, since 2026."},
            answer=search_pb2.UpdateCollectionResponse.DESCRIPTOR,
        ),
    )
    async def update_collection(request: Request) -> Response:
        """Changes the fields that the body has: `description`, `labels`, `rerank`."""
        value = load_json(await read_json_body(request, limit))
        message = _update(value, request.path_params["name"])
        return json_response(
            await while_connected(request, servicer.UpdateCollection(message, None))
        )

    @router.delete(
        _ONE,
        openapi_extra=operations.describe(
            _ONE,
            parameters=namespace,
            answer=search_pb2.DeleteCollectionResponse.DESCRIPTOR,
        ),
    )
    async def delete_collection(request: Request) -> Response:
        """Deletes a collection and all that is in it."""
        message = from_query(
            [*request.query_params.multi_items(), ("name", request.path_params["name"])],
            search_pb2.DeleteCollectionRequest(),
        )
        # Not cancelled when the caller leaves: half a deletion helps nobody.
        return json_response(await servicer.DeleteCollection(message, None))

    return router


def _update(value: object, name: str) -> search_pb2.UpdateCollectionRequest:
    """The fields that the body has are the mask."""
    collection = to_message(value, collection_pb2.Collection())
    if collection.name not in ("", name):
        raise InvalidArgument.field("name", f"is {collection.name!r}; the path says {name!r}")
    collection.name = name
    assert isinstance(value, dict)
    message = search_pb2.UpdateCollectionRequest(collection=collection)
    message.update_mask.paths.extend(key for key in value if key not in ("name", "namespace"))
    return message
