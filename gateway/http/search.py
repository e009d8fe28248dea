"""Search over HTTP."""

from fastapi import APIRouter, Request, Response
from google.protobuf.message import Message

from gateway.http.bodies import JSON, read_json_body, while_connected
from gateway.http.operations import Operations
from gateway.http.proto_json import from_query, load_json, to_json, to_message, to_value
from gateway.servicer import SearchServicer
from gateway.settings import GatewaySettings
from sirdar.errors import InvalidArgument
from sirdar.v1 import search_pb2

_REQUEST = search_pb2.SearchRequest.DESCRIPTOR
_ANSWER = search_pb2.SearchResponse.DESCRIPTOR
_EXAMPLE = {"collection": "notes", "query": "when do we sail?", "top_k": 3, "highlight": True}
_ANSWER_EXAMPLE = {
    "results": [
        {
            "document_id": "sea",
            "score": 0.42,
            "title": "",
            "metadata": {"year": {"int64_value": "2026"}},
            "version": "1",
            "snippet": {
                "text": "Ships leave the harbour at dawn.",
                "span": {"start": 0, "end": 32},
                "passage_index": 0,
                "highlights": [{"start": 0, "end": 32}],
            },
            "matched_passages": 1,
            "similarity": 0.42,
            "retriever_rank": 1,
        }
    ],
    "timings": [{"stage": "STAGE_TOTAL", "duration": "0.019s"}],
    "coverage": {
        "shards_asked": 4,
        "shards_answered": 4,
        "missing_shards": [],
        "pending_writes": "0",
    },
    "degraded": [],
}
_QUERY = [
    {
        "name": "q",
        "in": "query",
        "required": True,
        "schema": {"type": "string"},
        "description": "What to search for.",
        "example": "when do we sail?",
    }
]


def json_response(message: Message, status: int = 200) -> Response:
    return Response(to_json(to_value(message)), status, media_type=JSON)


def search_router(
    servicer: SearchServicer, settings: GatewaySettings, operations: Operations
) -> APIRouter:
    """`GET /search` for people and `POST /search` for programs: SearchService.Search."""
    router = APIRouter(tags=["Search"])
    parameters = operations.query_parameters(_REQUEST, without=frozenset({"query"}))

    @router.get(
        "/search",
        openapi_extra=operations.describe(
            "/search",
            parameters=[*_QUERY, *parameters],
            answer=_ANSWER,
            answer_example=_ANSWER_EXAMPLE,
        ),
    )
    async def search(request: Request) -> Response:
        """Documents that mean what `q` means, best first."""
        message = from_query(
            # `q` is what everybody types; in the contract it is `query`.
            (("query" if name == "q" else name, text) for name, text in _parameters(request)),
            search_pb2.SearchRequest(),
        )
        return json_response(await while_connected(request, servicer.Search(message, None)))

    @router.post(
        "/search",
        openapi_extra=operations.describe(
            "/search",
            body=_REQUEST,
            example=_EXAMPLE,
            answer=_ANSWER,
            answer_example=_ANSWER_EXAMPLE,
        ),
    )
    async def post_search(request: Request) -> Response:
        """Documents that mean what the query means, best first."""
        body = await read_json_body(request, settings.max_message_bytes)
        message = to_message(load_json(body), search_pb2.SearchRequest())
        return json_response(await while_connected(request, servicer.Search(message, None)))

    return router


def _parameters(request: Request) -> list[tuple[str, str]]:
    return list(request.query_params.multi_items())


def refuse_parameters(request: Request) -> None:
    """Raises InvalidArgument for any query parameter: a misspelt one must not pass in silence."""
    for name in request.query_params:
        raise InvalidArgument.field(
            name, "is not a parameter here; see /docs", reason="UNKNOWN_FIELD"
        )
