"""`/embed`, `/rerank` and `/info` as text-embeddings-inference has them."""

from importlib.metadata import version

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from gateway.http.answers import json_answer
from gateway.http.bodies import while_connected
from gateway.http.doors.embedding import MAX_TEXTS, TextEmbedder
from gateway.http.doors.ranking import PassageRanker
from gateway.http.doors.refusals import door_route
from sirdar.errors import InvalidArgument, ResourceExhausted, SirdarError
from sirdar.v1 import common_pb2

_PROMPTS = ("", "query", "document")


class EmbedBody(BaseModel):
    inputs: str | list[str] = Field(examples=["when do we sail?"])
    normalize: bool = True
    """False: as the model gives it; where the model normalises, that is the same."""
    truncate: bool = False
    """False: a text longer than the model's window is refused."""
    prompt_name: str | None = None
    """`query` or `document`; unset: document."""
    dimensions: int | None = None


class RankBody(BaseModel):
    query: str = Field(examples=["when do we sail?"])
    texts: list[str] = Field(examples=[["Ships leave the harbour at dawn.", "Let the dough rest."]])
    raw_scores: bool = False
    return_text: bool = False
    truncate: bool = False
    """Taken and not needed: a long pair is cut at the end of the passage."""


def _error(error: SirdarError) -> dict[str, object]:
    kind = "Backend"
    if isinstance(error, InvalidArgument):
        kind = "Validation"
    elif isinstance(error, ResourceExhausted):
        kind = "Overloaded"
    return {"error": error.message, "error_type": kind}


def tei_router(texts: TextEmbedder, ranker: PassageRanker, limit_bytes: int) -> APIRouter:
    router = APIRouter(
        tags=["Compatible with text-embeddings-inference"],
        route_class=door_route(_error, limit_bytes),
    )
    refused: dict[int | str, dict[str, object]] = {
        "default": {"description": "`{error, error_type}`"}
    }

    @router.post("/embed", responses=refused, response_class=Response)
    async def embed(body: EmbedBody, request: Request) -> Response:
        """A vector a text, by the embedder's default model."""
        return await while_connected(request, _embed(texts, body))

    @router.post("/rerank", responses=refused, response_class=Response)
    async def rerank(body: RankBody, request: Request) -> Response:
        """Texts by relevance, by the reranker's default model."""
        return await while_connected(request, _rerank(ranker, body))

    @router.get("/info", responses=refused, response_class=Response)
    async def info() -> Response:
        """The embedder's default model."""
        return json_answer(_info(await texts.model("")))

    return router


async def _embed(texts: TextEmbedder, body: EmbedBody) -> Response:
    prompt = body.prompt_name or ""
    if prompt not in _PROMPTS:
        raise InvalidArgument.field("prompt_name", f"is {prompt!r}; there are query and document")
    model = await texts.model("")
    if body.dimensions not in (None, model.space.dimensions):
        raise InvalidArgument.field(
            "dimensions", f"is {body.dimensions}; the model has {model.space.dimensions}"
        )
    inputs = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    embedded = await texts.embed(inputs, model, queries=prompt == "query", field="inputs")
    if not body.truncate and any(text.truncated for text in embedded):
        raise InvalidArgument.field(
            "inputs",
            f"has a text of more than {model.max_tokens} tokens; shorten it or set truncate",
        )
    answer = [text.unit() if body.normalize else text.components() for text in embedded]
    return json_answer(answer)


async def _rerank(ranker: PassageRanker, body: RankBody) -> Response:
    model = await ranker.model("")
    ranked = await ranker.rank(
        body.query, body.texts, model, raw_scores=body.raw_scores, field="texts"
    )
    answer: list[dict[str, object]] = []
    for passage in ranked:
        item: dict[str, object] = {"index": passage.place, "score": passage.score}
        if body.return_text:
            item["text"] = body.texts[passage.place]
        answer.append(item)
    return json_answer(answer)


def _info(model: common_pb2.ModelInfo) -> dict[str, object]:
    return {
        "model_id": model.model.name,
        "model_sha": model.model.revision or None,
        "model_dtype": model.precision,
        "model_type": {"embedding": {}},
        "max_input_length": model.max_tokens,
        "max_client_batch_size": MAX_TEXTS,
        "version": version("sirdar-server"),
    }
