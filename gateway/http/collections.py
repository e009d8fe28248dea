"""Collections over HTTP."""

from fastapi import APIRouter, Request, Response

from gateway.http.answers import message_answer
from gateway.http.bodies import MAX_JSON_BYTES, parsed, read_json_body, while_connected
from gateway.http.operations import Operations
from gateway.http.proto_json import from_query, load_json, no_query, to_message
from gateway.servicer import SearchServicer
from gateway.settings import GatewaySettings
from sirdar.errors import InvalidArgument
from sirdar.v1 import search_pb2

_ALL = "/collections"
_ONE = "/collections/{name}"


class CollectionRoutes:
    def __init__(self, servicer: SearchServicer, settings: GatewaySettings) -> None:
        self._servicer = servicer
        self._limit_bytes = min(settings.max_message_bytes, MAX_JSON_BYTES)

    async def create_collection(self, request: Request) -> Response:
        """Creates a collection, in the embedder's default space unless it names a model."""
        no_query(request.query_params.multi_items())
        body = await read_json_body(request, self._limit_bytes)
        message = await parsed(body, _creation)
        answer = await while_connected(request, self._servicer.CreateCollection(message, None))
        return message_answer(answer, status=201)

    async def list_collections(self, request: Request) -> Response:
        """Collections of a namespace, a page at a time."""
        message = from_query(
            request.query_params.multi_items(), search_pb2.ListCollectionsRequest()
        )
        return message_answer(
            await while_connected(request, self._servicer.ListCollections(message, None))
        )

    async def get_collection(self, request: Request) -> Response:
        """A collection with its generation and its counts."""
        message = from_query(_parameters(request), search_pb2.GetCollectionRequest())
        return message_answer(
            await while_connected(request, self._servicer.GetCollection(message, None))
        )

    async def update_collection(self, request: Request) -> Response:
        """Changes `description`, `labels` or `rerank`; adds fields to `schema`.

        Without an `update_mask` those that the body's `collection` has are changed.
        """
        no_query(request.query_params.multi_items())
        body = await read_json_body(request, self._limit_bytes)
        name = request.path_params["name"]
        message = await parsed(body, lambda whole: _update(load_json(whole), name))
        return message_answer(
            await while_connected(request, self._servicer.UpdateCollection(message, None))
        )

    async def delete_collection(self, request: Request) -> Response:
        """Deletes a collection and all that is in it."""
        message = from_query(_parameters(request), search_pb2.DeleteCollectionRequest())
        # Not cancelled when the caller leaves: half a deletion helps nobody.
        return message_answer(await self._servicer.DeleteCollection(message, None))


def collections_router(
    servicer: SearchServicer, settings: GatewaySettings, operations: Operations
) -> APIRouter:
    routes = CollectionRoutes(servicer, settings)
    router = APIRouter(tags=["Collections"])
    page = operations.query_parameters(search_pb2.ListCollectionsRequest.DESCRIPTOR)
    namespace = operations.query_parameters(
        search_pb2.GetCollectionRequest.DESCRIPTOR, without=frozenset({"name"})
    )
    created = operations.describe(
        _ALL,
        body=search_pb2.CreateCollectionRequest.DESCRIPTOR,
        example={"collection": {"name": "notes", "description": "Notes of the crew."}},
        answer=search_pb2.CreateCollectionResponse.DESCRIPTOR,
        status=201,
    )
    listed = operations.describe(
        _ALL, parameters=page, answer=search_pb2.ListCollectionsResponse.DESCRIPTOR
    )
    got = operations.describe(
        _ONE, parameters=namespace, answer=search_pb2.GetCollectionResponse.DESCRIPTOR
    )
    updated = operations.describe(
        _ONE,
        body=search_pb2.UpdateCollectionRequest.DESCRIPTOR,
        example={"collection": {"description": "Notes of the crew, since 2026."}},
        answer=search_pb2.UpdateCollectionResponse.DESCRIPTOR,
    )
    deleted = operations.describe(
        _ONE, parameters=namespace, answer=search_pb2.DeleteCollectionResponse.DESCRIPTOR
    )
    router.post(_ALL, status_code=201, openapi_extra=created)(routes.create_collection)
    router.get(_ALL, openapi_extra=listed)(routes.list_collections)
    router.get(_ONE, openapi_extra=got)(routes.get_collection)
    router.patch(_ONE, openapi_extra=updated)(routes.update_collection)
    router.delete(_ONE, openapi_extra=deleted)(routes.delete_collection)
    return router


def _parameters(request: Request) -> list[tuple[str, str]]:
    """The query's, and the name in the path."""
    return [*request.query_params.multi_items(), ("name", request.path_params["name"])]


def _creation(body: bytes) -> search_pb2.CreateCollectionRequest:
    return to_message(load_json(body), search_pb2.CreateCollectionRequest())


def _update(value: object, name: str) -> search_pb2.UpdateCollectionRequest:
    message = to_message(value, search_pb2.UpdateCollectionRequest())
    if message.collection.name not in ("", name):
        raise InvalidArgument.field(
            "collection.name", f"is {message.collection.name!r}; the path says {name!r}"
        )
    message.collection.name = name
    if not message.HasField("update_mask"):
        changed = value.get("collection") if isinstance(value, dict) else None
        message.update_mask.paths.extend(
            key for key in changed or () if key not in ("name", "namespace")
        )
    return message
