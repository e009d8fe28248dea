"""`/v1/rerank` and `/v2/rerank` as Cohere's and Jina's APIs have them."""

import secrets

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from gateway.http.answers import json_answer
from gateway.http.bodies import while_connected
from gateway.http.doors.ranking import PassageRanker
from gateway.http.doors.refusals import door_route
from sirdar.errors import SirdarError


class TextDocument(BaseModel):
    text: str


class RerankBody(BaseModel):
    """What is sent besides these is ignored, as there."""

    query: str = Field(examples=["when do we sail?"])
    documents: list[str | TextDocument] = Field(
        examples=[["Ships leave the harbour at dawn.", "Let the dough rest."]]
    )
    model: str = ""
    """A model that the reranker serves; empty: its default."""
    top_n: int | None = Field(default=None, ge=1)
    """How many to answer; all unless said."""
    return_documents: bool = False


def _error(error: SirdarError) -> dict[str, object]:
    # Cohere's clients read `message`, Jina's `detail`.
    return {"message": error.message, "detail": error.message, "reason": error.reason}


def rerank_router(ranker: PassageRanker, limit_bytes: int) -> APIRouter:
    router = APIRouter(
        tags=["Compatible with Cohere and Jina"], route_class=door_route(_error, limit_bytes)
    )
    refused: dict[int | str, dict[str, object]] = {"default": {"description": "`{message}`"}}

    @router.post("/v1/rerank", responses=refused, response_class=Response)
    async def rerank(body: RerankBody, request: Request) -> Response:
        """Documents by relevance, as Cohere's first API and Jina's have it."""
        return await while_connected(request, _rerank(ranker, body, "1"))

    @router.post("/v2/rerank", responses=refused, response_class=Response)
    async def rerank_v2(body: RerankBody, request: Request) -> Response:
        """Documents by relevance, as Cohere's second API has it."""
        return await while_connected(request, _rerank(ranker, body, "2"))

    return router


async def _rerank(ranker: PassageRanker, body: RerankBody, version: str) -> Response:
    passages = [text if isinstance(text, str) else text.text for text in body.documents]
    model = await ranker.model(body.model)
    ranked = await ranker.rank(body.query, passages, model, top_n=body.top_n)
    results: list[dict[str, object]] = []
    for passage in ranked:
        result: dict[str, object] = {"index": passage.place, "relevance_score": passage.score}
        if body.return_documents:
            result["document"] = {"text": passages[passage.place]}
        results.append(result)
    answer = {
        "id": secrets.token_hex(16),
        "model": model.model.name,
        "results": results,
        "meta": {"api_version": {"version": version}, "billed_units": {"search_units": 1}},
    }
    return json_answer(answer)
