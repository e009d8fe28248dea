"""An embedder and a retriever that do what a test tells them, over real gRPC."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from services.runtime.interceptors import caller
from services.runtime.server import TierServer, serve
from services.runtime.settings import ServerSettings
from sirdar.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    SirdarError,
    Unimplemented,
    to_status,
)
from sirdar.v1 import (
    collection_pb2,
    common_pb2,
    document_pb2,
    embedder_pb2,
    embedder_pb2_grpc,
    reranker_pb2,
    reranker_pb2_grpc,
    retriever_pb2,
    retriever_pb2_grpc,
)

SPACE = common_pb2.EmbeddingSpace(
    model=common_pb2.ModelRef(name="double"), dimensions=2, fingerprint="f1"
)
VECTOR = common_pb2.Vector(
    data=struct.pack("<2e", 0.0, 1.0), dtype=common_pb2.DTYPE_FLOAT16, dimensions=2
)


@dataclass
class EmbedderDouble(embedder_pb2_grpc.EmbedderServiceServicer):
    """Embeds everything alike. `failures` are raised first, one a call."""

    failures: list[SirdarError] = field(default_factory=list)
    refused_ids: dict[str, SirdarError] = field(default_factory=dict)
    refused_texts: dict[str, SirdarError] = field(default_factory=dict)
    truncated: bool = False
    fingerprint: str = "f1"
    embedded: list[str] = field(default_factory=list)
    # Before texts are answered; who leaves meanwhile is noted.
    delay_seconds: float = 0.0
    texts_calls: int = 0
    cancelled: bool = False
    # Of the documents that are being embedded at once.
    bytes_now: int = 0
    most_bytes: int = 0
    # Whom each call was for.
    callers: list[str] = field(default_factory=list)

    # Texts with this word point one way, all others the other way.
    word: str = ""

    def vector_of(self, text: str) -> common_pb2.Vector:
        components = (1.0, 0.0) if self.word and self.word in text else (0.0, 1.0)
        return common_pb2.Vector(
            data=struct.pack("<2f", *components), dtype=common_pb2.DTYPE_FLOAT32, dimensions=2
        )

    def _embedding(self, text: str) -> embedder_pb2.TextEmbedding:
        if text in self.refused_texts:
            return embedder_pb2.TextEmbedding(error=to_status(self.refused_texts[text]))
        return embedder_pb2.TextEmbedding(
            vector=self.vector_of(text), tokens=3, truncated=self.truncated
        )

    def _fail(self, expected: str) -> None:
        self.callers.append(caller())
        if self.failures:
            raise self.failures.pop(0)
        if expected not in ("", self.fingerprint):
            raise FailedPrecondition("another space", reason="SPACE_MISMATCH")

    async def EmbedTexts(self, request: Any, context: Any) -> Any:
        self.texts_calls += 1
        try:
            await asyncio.sleep(self.delay_seconds)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        self._fail(request.expected_fingerprint)
        items = [self._embedding(text) for text in request.texts]
        space = common_pb2.EmbeddingSpace()
        space.CopyFrom(SPACE)
        space.fingerprint = self.fingerprint
        return embedder_pb2.EmbedTextsResponse(embeddings=items, space=space)

    async def EmbedDocuments(self, request: Any, context: Any) -> Any:
        self._fail(request.expected_fingerprint)
        self.bytes_now += request.ByteSize()
        self.most_bytes = max(self.most_bytes, self.bytes_now)
        await asyncio.sleep(self.delay_seconds)
        self.bytes_now -= request.ByteSize()
        response = embedder_pb2.EmbedDocumentsResponse(space=SPACE)
        for document in request.documents:
            self.embedded.append(document.id)
            item = response.documents.add(document_id=document.id)
            if document.id in self.refused_ids:
                item.error.CopyFrom(to_status(self.refused_ids[document.id]))
            else:
                item.embedded.passages.add(
                    span=common_pb2.Span(start=0, end=len(document.text)), vector=VECTOR
                )
        return response

    async def ListModels(self, request: Any, context: Any) -> Any:
        model = common_pb2.ModelInfo(model=SPACE.model, space=SPACE, is_default=True)
        return embedder_pb2.EmbedderServiceListModelsResponse(models=[model])

    def StreamEmbedTexts(self, request_iterator: Any, context: Any) -> Any:
        raise AssertionError("the gateway does not call this")

    def StreamEmbedDocuments(self, request_iterator: Any, context: Any) -> Any:
        raise AssertionError("the gateway does not call this")

    def LoadModel(self, request: Any, context: Any) -> Any:
        raise AssertionError("the gateway does not call this")

    def UnloadModel(self, request: Any, context: Any) -> Any:
        raise AssertionError("the gateway does not call this")


@dataclass
class RerankerDouble:
    """Answers the logits that a test gives by text; waits first if told to."""

    logit_of: dict[str, float] = field(default_factory=dict)
    failures: list[SirdarError] = field(default_factory=list)
    delay_seconds: float = 0.0
    seen: list[list[str]] = field(default_factory=list)
    # Whom each call was for.
    callers: list[str] = field(default_factory=list)
    # Texts that there is no time for.
    no_time: set[str] = field(default_factory=set)
    # The name of the model that scores.
    model: str = ""

    async def RerankPassages(self, request: Any, context: Any) -> Any:
        await asyncio.sleep(self.delay_seconds)
        if self.failures:
            raise self.failures.pop(0)
        self.seen.append([item.text for item in request.passages])
        self.callers.append(caller())
        response = reranker_pb2.RerankPassagesResponse()
        response.model.name = self.model
        for item in request.passages:
            score = response.scores.add(id=item.id)
            if item.text in self.no_time:
                score.dropped.SetInParent()
            elif item.text in self.logit_of:
                score.score = self.logit_of[item.text]
            else:
                score.error.CopyFrom(to_status(InvalidArgument("no opinion")))
        return response

    async def ListModels(self, request: Any, context: Any) -> Any:
        model = common_pb2.ModelInfo(model=common_pb2.ModelRef(name=self.model), is_default=True)
        return reranker_pb2.RerankerServiceListModelsResponse(models=[model])


@dataclass
class RetrieverDouble:
    """Remembers writes. `write_failures` are raised first, one a call."""

    write_failures: list[SirdarError] = field(default_factory=list)
    outcome_of: dict[str, list[SirdarError]] = field(default_factory=dict)
    fingerprint: str = "f1"
    coverage: common_pb2.Coverage = field(
        default_factory=lambda: common_pb2.Coverage(shards_asked=2, shards_answered=2)
    )
    writes: list[retriever_pb2.DocumentWrite] = field(default_factory=list)
    hashes: dict[str, bytes] = field(default_factory=dict)
    before_write: Callable[[], None] = lambda: None
    rerank: collection_pb2.RerankSettings = field(default_factory=collection_pb2.RerankSettings)
    # What each document's passages say.
    text_of: dict[str, str] = field(default_factory=dict)
    # Whether the collection has a lexical index, and the shards where it does not answer.
    lexical: bool = False
    missing_lexical_shards: tuple[int, ...] = ()
    searches: list[retriever_pb2.SearchPassagesRequest] = field(default_factory=list)
    deletions: list[retriever_pb2.RetrieverServiceDeleteByFilterRequest] = field(
        default_factory=list
    )
    updates: list[retriever_pb2.RetrieverServiceUpdateDocumentsRequest] = field(
        default_factory=list
    )

    async def GetCollection(self, request: Any, context: Any) -> Any:
        if request.name != "notes":
            raise NotFound(f"no collection {request.name}")
        space = common_pb2.EmbeddingSpace()
        space.CopyFrom(SPACE)
        space.fingerprint = self.fingerprint
        generation = collection_pb2.Generation(number=1, space=space, shards=2)
        collection = collection_pb2.Collection(
            namespace=request.namespace,
            name=request.name,
            generation=generation,
            rerank=self.rerank,
            lexical=collection_pb2.LexicalSettings(enabled=self.lexical),
        )
        return retriever_pb2.RetrieverServiceGetCollectionResponse(collection=collection)

    async def CheckDocuments(self, request: Any, context: Any) -> Any:
        return retriever_pb2.CheckDocumentsResponse(
            documents=[
                retriever_pb2.DocumentState(document_id=key, content_hash=self.hashes[key])
                for key in request.document_ids
                if key in self.hashes
            ]
        )

    async def WriteDocuments(self, request: Any, context: Any) -> Any:
        self.before_write()
        if self.write_failures:
            raise self.write_failures.pop(0)
        response = retriever_pb2.WriteDocumentsResponse()
        for write in request.writes:
            identity = write.document.id
            outcome = response.outcomes.add(document_id=identity)
            if self.outcome_of.get(identity):
                outcome.error.CopyFrom(to_status(self.outcome_of[identity].pop(0)))
                continue
            self.writes.append(write)
            self.hashes[identity] = write.content_hash
            outcome.receipt.CopyFrom(document_pb2.WriteReceipt(version=1))
        return response

    async def UpdateDocuments(self, request: Any, context: Any) -> Any:
        self.updates.append(request)
        response = retriever_pb2.RetrieverServiceUpdateDocumentsResponse()
        for update in request.updates:
            outcome = response.outcomes.add(document_id=update.document_id)
            if self.outcome_of.get(update.document_id):
                error = self.outcome_of[update.document_id].pop(0)
                outcome.error.CopyFrom(to_status(error))
            else:
                outcome.receipt.version = 2
        return response

    async def SearchPassages(self, request: Any, context: Any) -> Any:
        self.searches.append(request)
        (query,) = request.queries
        if query.HasField("vector") and request.fingerprint != self.fingerprint:
            raise FailedPrecondition("another space", reason="SPACE_MISMATCH")
        if query.lexical and not self.lexical:
            raise Unimplemented("no words here", reason="LEXICAL_NOT_AVAILABLE")
        if request.shards and 0 not in request.shards:
            # All that it has is in the first shard.
            return retriever_pb2.SearchPassagesResponse(
                results=[retriever_pb2.PassageCandidates()],
                coverage=common_pb2.Coverage(
                    shards_asked=len(request.shards), shards_answered=len(request.shards)
                ),
            )
        found = retriever_pb2.PassageCandidates()
        for identity, index in (("a", 0), ("a", 1), ("b", 0), ("c", 0), ("d", 0)):
            text = self.text_of.get(identity, f"{identity}!")
            found.passages.add(document_id=identity, index=index, text=text)
        if query.HasField("vector"):
            for at, score in ((2, 0.9), (1, 0.8), (0, 0.7), (3, 0.6)):
                found.dense.add(passage=at, score=score)
        if query.lexical:
            for at, score in ((4, 7.0), (3, 5.0), (0, 2.0)):
                found.lexical.add(passage=at, score=score)
        return retriever_pb2.SearchPassagesResponse(
            results=[found],
            coverage=self.coverage,
            missing_lexical_shards=self.missing_lexical_shards if query.lexical else (),
        )

    async def DeleteByFilter(self, request: Any, context: Any) -> Any:
        self.deletions.append(request)
        return retriever_pb2.RetrieverServiceDeleteByFilterResponse(
            documents=3, consistency_tokens=["t"]
        )


@asynccontextmanager
async def wire_embedder(settings: ServerSettings, server: TierServer) -> AsyncIterator[None]:
    server.register(
        embedder_pb2_grpc.add_EmbedderServiceServicer_to_server,
        EmbedderDouble(),
        "sirdar.v1.EmbedderService",
    )
    yield


@asynccontextmanager
async def serving(add: Any, servicer: object, service: str) -> AsyncIterator[str]:
    """The address of a server with one service."""

    @asynccontextmanager
    async def wire(settings: ServerSettings, server: TierServer) -> AsyncIterator[None]:
        server.register(add, servicer, service)
        yield

    async with serve("double", ServerSettings(), wire) as server:
        yield f"127.0.0.1:{server.port}"


@asynccontextmanager
async def serving_tiers(
    embedder: EmbedderDouble, retriever: RetrieverDouble
) -> AsyncIterator[tuple[str, str]]:
    """The addresses of both."""
    async with (
        serving(
            embedder_pb2_grpc.add_EmbedderServiceServicer_to_server,
            embedder,
            "sirdar.v1.EmbedderService",
        ) as embedder_address,
        serving(_add_retriever, retriever, "sirdar.v1.RetrieverService") as retriever_address,
    ):
        yield embedder_address, retriever_address


@asynccontextmanager
async def serving_reranker(reranker: RerankerDouble) -> AsyncIterator[str]:
    async with serving(_add_reranker, reranker, "sirdar.v1.RerankerService") as address:
        yield address


def _add_reranker(servicer: RerankerDouble, server: Any) -> None:
    class All(reranker_pb2_grpc.RerankerServiceServicer):
        RerankPassages = staticmethod(servicer.RerankPassages)
        ListModels = staticmethod(servicer.ListModels)

    reranker_pb2_grpc.add_RerankerServiceServicer_to_server(All(), server)  # type: ignore[abstract]


def _add_retriever(servicer: RetrieverDouble, server: Any) -> None:
    # The generated function wants every method; the double has those that the gateway calls.
    class All(retriever_pb2_grpc.RetrieverServiceServicer):
        pass

    for name in (
        "GetCollection",
        "CheckDocuments",
        "WriteDocuments",
        "UpdateDocuments",
        "SearchPassages",
        "DeleteByFilter",
    ):
        setattr(All, name, staticmethod(getattr(servicer, name)))
    retriever_pb2_grpc.add_RetrieverServiceServicer_to_server(All(), server)  # type: ignore[abstract]
