"""Search over HTTP."""

from fastapi import APIRouter, Request, Response

from gateway.http.answers import message_answer
from gateway.http.bodies import MAX_JSON_BYTES, parsed, read_json_body, while_connected
from gateway.http.filters import FILTER, PARAMETER, split_filter
from gateway.http.operations import Operations
from gateway.http.proto_json import from_query, load_json, no_query, to_message
from gateway.servicer import SearchServicer
from gateway.settings import GatewaySettings
from sirdar.v1 import search_pb2

_REQUEST = search_pb2.SearchRequest.DESCRIPTOR
_ANSWER = search_pb2.SearchResponse.DESCRIPTOR
_EXAMPLE = {
    "collection": "notes",
    "query": "when do we sail?",
    "top_k": 3,
    "highlight": True,
    "mode": "SEARCH_MODE_HYBRID",
    "filter": {"range": {"field": "year", "at_least": {"int64_value": "2020"}}},
    "diversify": {"relevance": 0.7},
    "explain": True,
}
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
            "lexical_score": 1.7,
            "explanation": {
                "stages": [
                    {"stage": "dense", "rank": 1, "score": 0.42, "detail": "similarity 0.4200"}
                ]
            },
        }
    ],
    "pool": 1,
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
        # `like` and stages with queries of their own do without.
        "required": False,
        "schema": {"type": "string"},
        "description": "What to search for.",
        "example": "when do we sail?",
    }
]


class SearchRoutes:
    def __init__(self, servicer: SearchServicer, settings: GatewaySettings) -> None:
        self._servicer = servicer
        self._limit_bytes = min(settings.max_message_bytes, MAX_JSON_BYTES)

    async def search(self, request: Request) -> Response:
        """Documents that mean what `q` means, best first."""
        parameters, condition = split_filter(request.query_params.multi_items())
        message = from_query(
            # `q` is what everybody types; in the contract it is `query`.
            [("query" if name == "q" else name, text) for name, text in parameters],
            search_pb2.SearchRequest(),
        )
        if condition is not None:
            message.filter.CopyFrom(condition)
        return await self._answer(request, message)

    async def post_search(self, request: Request) -> Response:
        """Documents that mean what the query means, best first."""
        no_query(request.query_params.multi_items())
        body = await read_json_body(request, self._limit_bytes)
        return await self._answer(request, await parsed(body, _search_request))

    async def _answer(self, request: Request, message: search_pb2.SearchRequest) -> Response:
        return message_answer(await while_connected(request, self._servicer.Search(message, None)))


def _search_request(body: bytes) -> search_pb2.SearchRequest:
    return to_message(load_json(body), search_pb2.SearchRequest())


def search_router(
    servicer: SearchServicer, settings: GatewaySettings, operations: Operations
) -> APIRouter:
    """`GET /search` for people and `POST /search` for programs: SearchService.Search."""
    routes = SearchRoutes(servicer, settings)
    router = APIRouter(tags=["Search"])
    parameters = operations.query_parameters(_REQUEST, without=frozenset({"query", FILTER}))
    asked = operations.describe(
        "/search",
        parameters=[*_QUERY, PARAMETER, *parameters],
        answer=_ANSWER,
        answer_example=_ANSWER_EXAMPLE,
    )
    posted = operations.describe(
        "/search",
        body=_REQUEST,
        example=_EXAMPLE,
        answer=_ANSWER,
        answer_example=_ANSWER_EXAMPLE,
    )
    router.get("/search", openapi_extra=asked)(routes.search)
    router.post("/search", openapi_extra=posted)(routes.post_search)
    return router
