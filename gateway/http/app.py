"""The HTTP application: its routes, its errors and its description."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from gateway.backends import Embedder, Reranker, Retriever
from gateway.http.calls import Calls
from gateway.http.collections import collections_router
from gateway.http.docs import add_docs
from gateway.http.documents import documents_router
from gateway.http.doors.cohere import rerank_router
from gateway.http.doors.embedding import TextEmbedder
from gateway.http.doors.openai import openai_router
from gateway.http.doors.ranking import PassageRanker
from gateway.http.doors.tei import tei_router
from gateway.http.index import index_router
from gateway.http.operations import Operations
from gateway.http.probes import probes_router
from gateway.http.problems import answer_error, answer_fault, answer_http_error, answer_left
from gateway.http.search import search_router
from gateway.servicer import SearchServicer
from gateway.settings import GatewaySettings
from services.runtime.server import TierServer
from sirdar.errors import SirdarError

_DESCRIPTION = """\
The contract of the gRPC API as JSON: the protobuf JSON mapping, with the
contract's field names. 64-bit integers are answered as strings.

Errors are problem details with the reason, the wrong fields and the time to
retry that gRPC callers get. `x-request-id` is taken over and given back,
`x-timeout-seconds` bounds a call.
"""


def build_app(
    settings: GatewaySettings,
    server: TierServer,
    servicer: SearchServicer,
    embedder: Embedder,
    retriever: Retriever,
    reranker: Reranker | None,
) -> ASGIApp:
    operations = Operations()
    app = FastAPI(
        title="Sirdar",
        version="1",
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
        exception_handlers={
            SirdarError: answer_error,
            HTTPException: answer_http_error,
            ClientDisconnect: answer_left,
            Exception: answer_fault,
        },
    )
    app.include_router(search_router(servicer, settings, operations))
    app.include_router(index_router(servicer, settings, operations))
    app.include_router(documents_router(servicer, settings, operations))
    app.include_router(collections_router(servicer, settings, operations))
    optional = [reranker] if reranker is not None else []
    app.include_router(probes_router(server, [embedder, retriever], optional, operations))
    texts = TextEmbedder(embedder, settings)
    ranker = PassageRanker(reranker, settings)
    limit_bytes = settings.max_message_bytes
    app.include_router(openai_router(texts, limit_bytes))
    app.include_router(rerank_router(ranker, limit_bytes))
    app.include_router(tei_router(texts, ranker, limit_bytes))
    _describe(app, operations)
    add_docs(app)
    return Calls(app)


def _describe(app: FastAPI, operations: Operations) -> None:
    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(operations.schemas.by_name)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
