"""A gateway over doubles of several collections, whose passages have vectors and metadata."""

import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from gateway.__main__ import wire
from gateway.settings import GatewaySettings
from services.runtime.server import serve
from sirdar.errors import NotFound, ResourceExhausted, SirdarError, from_rpc_error
from sirdar.v1 import (
    collection_pb2,
    common_pb2,
    document_pb2,
    retriever_pb2,
    retriever_pb2_grpc,
    search_pb2,
)
from sirdar.v1.embedder_pb2_grpc import add_EmbedderServiceServicer_to_server
from sirdar.v1.search_pb2_grpc import SearchServiceStub
from tests.rpc.tier_doubles import EmbedderDouble, RerankerDouble, serving, serving_reranker


@dataclass(frozen=True)
class Passage:
    document: str
    similarity: float
    bm25: float = 0.0
    index: int = 0
    kind: str = ""
    vector: tuple[float, float] = (1.0, 0.0)


NOTES = [
    Passage("a", 0.9, 2.0, kind="x"),
    Passage("a", 0.85, 1.0, index=1, kind="x"),
    Passage("b", 0.8, 0.0, kind="x"),
    Passage("c", 0.7, 3.0, kind="y", vector=(0.0, 1.0)),
    Passage("d", 0.6, 0.0),
]
MAIL = [Passage("a", 0.75, 7.0, kind="y"), Passage("m", 0.65)]


def half(vector: tuple[float, float]) -> common_pb2.Vector:
    return common_pb2.Vector(
        data=struct.pack("<2e", *vector), dtype=common_pb2.DTYPE_FLOAT16, dimensions=2
    )


@dataclass
class Collections(retriever_pb2_grpc.RetrieverServiceServicer):
    passages: dict[str, list[Passage]] = field(
        default_factory=lambda: {"notes": NOTES, "mail": MAIL}
    )
    fingerprints: dict[str, str] = field(default_factory=dict)
    failing: dict[str, SirdarError] = field(default_factory=dict)
    # From how many candidates on a collection fails.
    failing_from: dict[str, int] = field(default_factory=dict)
    reads: Counter[str] = field(default_factory=Counter)
    # An older retriever knows of no vectors.
    vectors: bool = True
    lexical: bool = True
    searches: list[retriever_pb2.SearchPassagesRequest] = field(default_factory=list)

    async def GetCollection(self, request: Any, context: Any) -> Any:
        self.reads[request.name] += 1
        if request.name not in self.passages:
            raise NotFound(f"no collection {request.name}")
        space = common_pb2.EmbeddingSpace(
            model=common_pb2.ModelRef(name="double"),
            dimensions=2,
            fingerprint=self.fingerprints.get(request.name, "f1"),
        )
        collection = collection_pb2.Collection(
            name=request.name,
            generation=collection_pb2.Generation(number=1, space=space, shards=2),
            lexical=collection_pb2.LexicalSettings(enabled=self.lexical),
        )
        return retriever_pb2.RetrieverServiceGetCollectionResponse(collection=collection)

    async def GetDocument(self, request: Any, context: Any) -> Any:
        own = [
            one for one in self.passages[request.collection] if one.document == request.document_id
        ]
        if not own:
            raise NotFound(
                f"there is no document {request.document_id}", reason="DOCUMENT_NOT_FOUND"
            )
        document = document_pb2.Document(
            id=request.document_id, title=f"title of {request.document_id}", text="a text"
        )
        response = retriever_pb2.RetrieverServiceGetDocumentResponse(
            document=document_pb2.StoredDocument(document=document)
        )
        if request.with_vectors and self.vectors:
            response.fingerprint = "f1"
            for one in own:
                response.passages.add(vector=half(one.vector))
        return response

    async def SearchPassages(self, request: Any, context: Any) -> Any:
        self.searches.append(request)
        wide = self.failing_from.get(request.collection, request.candidates + 1)
        if request.collection in self.failing or request.candidates >= wide:
            raise self.failing.get(request.collection, ResourceExhausted("full"))
        response = retriever_pb2.SearchPassagesResponse(
            coverage=common_pb2.Coverage(shards_asked=2, shards_answered=2)
        )
        passages = self.passages[request.collection]
        for query in request.queries:
            found = response.results.add()
            self._fill(found, passages, request.with_vectors and self.vectors)
            best = sorted(enumerate(passages), key=lambda item: -item[1].similarity)
            if query.HasField("vector"):
                for at, one in best[: request.candidates]:
                    found.dense.add(passage=at, score=one.similarity)
            words = sorted(enumerate(passages), key=lambda item: -item[1].bm25)
            if query.lexical:
                for at, one in words[: request.candidates]:
                    if one.bm25:
                        found.lexical.add(passage=at, score=one.bm25)
        return response

    def _fill(
        self,
        found: retriever_pb2.PassageCandidates,
        passages: list[Passage],
        with_vectors: bool,
    ) -> None:
        for one in passages:
            item = found.passages.add(
                document_id=one.document, index=one.index, text=f"{one.document}{one.index}"
            )
            if one.kind:
                item.metadata["kind"].string_value = one.kind
            item.metadata["size"].int64_value = 1
            if with_vectors:
                item.vector.CopyFrom(half(one.vector))


class AnySpaceEmbedder(EmbedderDouble):
    """Serves whatever space it is asked for."""

    def _fail(self, expected: str) -> None:
        self.fingerprint = expected or "f1"
        super()._fail(expected)


@dataclass
class Gateway:
    stub: Any
    retriever: Collections
    embedder: EmbedderDouble = field(default_factory=AnySpaceEmbedder)
    reranker: RerankerDouble = field(default_factory=RerankerDouble)

    async def search(self, **request: Any) -> search_pb2.SearchResponse:
        asked = search_pb2.SearchRequest(**request)
        if "collections" not in request:
            asked.collection = "notes"
        if "like" not in request:
            asked.query = "words"
        response: search_pb2.SearchResponse = await self.stub.Search(asked)
        return response

    async def order(self, **request: Any) -> list[str]:
        return [item.document_id for item in (await self.search(**request)).results]

    async def refusal(self, **request: Any) -> SirdarError:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await self.search(**request)
        return from_rpc_error(refused.value)


@asynccontextmanager
async def running(*, rerank: bool = False, **settings: Any) -> AsyncIterator[Gateway]:
    gateway = Gateway(None, Collections())  # type: ignore[abstract]
    add_retriever = retriever_pb2_grpc.add_RetrieverServiceServicer_to_server
    async with (
        serving(
            add_EmbedderServiceServicer_to_server, gateway.embedder, "sirdar.v1.EmbedderService"
        ) as embedder,
        serving(add_retriever, gateway.retriever, "sirdar.v1.RetrieverService") as retriever,
        serving_reranker(gateway.reranker) as reranker,
    ):
        given = {
            "port": 0,
            "metrics_port": None,
            "http_port": None,
            "embedder_address": embedder,
            "retriever_addresses": (retriever,),
            "reranker_address": reranker if rerank else None,
        }
        async with (
            serve("gateway", GatewaySettings.model_validate(given | settings), wire) as server,
            grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ):
            gateway.stub = SearchServiceStub(channel)
            yield gateway


def reasons(answer: search_pb2.SearchResponse) -> list[str]:
    name = common_pb2.DegradedReason.Name
    return [name(item.reason).removeprefix("DEGRADED_REASON_") for item in answer.degraded]
