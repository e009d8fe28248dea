"""A gateway over tiers that a test makes fail, and what Prometheus is told of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from prometheus_client import REGISTRY

from gateway.__main__ import wire
from gateway.settings import GatewaySettings
from services.runtime.server import TierServer, serve
from sirdar.client import AsyncClient
from sirdar.errors import SirdarError, Unimplemented, from_rpc_error
from sirdar.v1 import (
    common_pb2,
    document_pb2,
    embedder_pb2_grpc,
    reranker_pb2_grpc,
    retriever_pb2,
    retriever_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
)
from tests.rpc.tier_doubles import EmbedderDouble, RerankerDouble, RetrieverDouble, serving

Spoil = Callable[[Any], object]


def nothing(response: Any) -> None:
    """Spoils nothing."""


@dataclass
class FailingEmbedder(EmbedderDouble):
    """`spoil` changes what would be answered."""

    spoil: Spoil = nothing
    calls: int = 0

    async def EmbedTexts(self, request: Any, context: Any) -> Any:
        self.calls += 1
        response = await super().EmbedTexts(request, context)
        self.spoil(response)
        return response

    async def EmbedDocuments(self, request: Any, context: Any) -> Any:
        response = await super().EmbedDocuments(request, context)
        self.spoil(response)
        return response


@dataclass
class FailingRetriever(RetrieverDouble):
    """Fails searches with `failures` first, then waits, then spoils its answer."""

    spoil: Spoil = nothing
    failures: list[Exception] = field(default_factory=list)
    delay_seconds: float = 0.0
    working: int = 0
    cancelled: int = 0
    reads: list[str] = field(default_factory=list)
    # What it says that it has, when `news` is set; None: it is older, and cannot say.
    announced: dict[int, "retriever_pb2.ShardState.ValueType"] | None = None
    applied_seq: int = 1
    accepts_writes: bool = False
    shards: int = 4
    news: asyncio.Event = field(default_factory=asyncio.Event)
    watched: bool = False

    async def WatchShards(self, request: Any, context: Any) -> AsyncIterator[Any]:
        if self.announced is None:
            raise Unimplemented("no such method")
        while True:
            self.news.clear()
            self.watched = True
            yield retriever_pb2.WatchShardsResponse(
                accepts_writes=self.accepts_writes,
                shards=[
                    retriever_pb2.ShardAnnouncement(
                        namespace="default",
                        collection="notes",
                        generation=1,
                        shards=self.shards,
                        shard=shard,
                        state=state,
                        applied_seq=self.applied_seq,
                    )
                    for shard, state in self.announced.items()
                ],
            )
            await self.news.wait()

    async def SearchPassages(self, request: Any, context: Any) -> Any:
        if self.failures:
            self.searches.append(request)
            raise self.failures.pop(0)
        self.working += 1
        try:
            await asyncio.sleep(self.delay_seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.working -= 1
        response = await super().SearchPassages(request, context)
        if self.announced is not None:
            response = self._of_shards(request, self.announced)
        self.spoil(response)
        return response

    def _of_shards(self, request: Any, announced: dict[int, Any]) -> Any:
        """One document from each shard that is asked for and here: the lower the shard's number
        the nearer."""
        asked = list(request.shards) or list(range(self.shards))
        searched = (retriever_pb2.SHARD_STATE_READY, retriever_pb2.SHARD_STATE_DRAINING)
        here = [shard for shard in asked if announced.get(shard) in searched]
        found = retriever_pb2.PassageCandidates()
        for place, shard in enumerate(here):
            found.passages.add(document_id=f"d{shard}", text=f"d{shard}!", shard=shard)
            found.dense.add(passage=place, score=1.0 - shard / 10)
        return retriever_pb2.SearchPassagesResponse(
            results=[found],
            coverage=common_pb2.Coverage(
                shards_asked=len(asked),
                shards_answered=len(here),
                missing_shards=[shard for shard in asked if shard not in here],
            ),
            applied_seqs=[self.applied_seq] * len(here),
        )

    async def GetCollection(self, request: Any, context: Any) -> Any:
        self.reads.append("GetCollection")
        return await super().GetCollection(request, context)

    async def WriteDocuments(self, request: Any, context: Any) -> Any:
        response = await super().WriteDocuments(request, context)
        self.spoil(response)
        return response

    async def GetDocument(self, request: Any, context: Any) -> Any:
        self.reads.append("GetDocument")
        response = retriever_pb2.RetrieverServiceGetDocumentResponse()
        response.document.document.id = request.document_id
        return response


@dataclass
class FailingReranker(RerankerDouble):
    spoil: Spoil = nothing
    calls: int = 0

    async def RerankPassages(self, request: Any, context: Any) -> Any:
        self.calls += 1
        response = await super().RerankPassages(request, context)
        self.spoil(response)
        return response


def add_retriever(servicer: RetrieverDouble, server: Any) -> None:
    _add_what_it_has(servicer, server, "Retriever", retriever_pb2_grpc)


def add_embedder(servicer: EmbedderDouble, server: Any) -> None:
    _add_what_it_has(servicer, server, "Embedder", embedder_pb2_grpc)


def add_reranker(servicer: RerankerDouble, server: Any) -> None:
    _add_what_it_has(servicer, server, "Reranker", reranker_pb2_grpc)


def _add_what_it_has(servicer: object, server: Any, tier: str, stubs: Any) -> None:
    """The generated functions want every method; a double has those that the gateway calls."""
    base = getattr(stubs, f"{tier}ServiceServicer")
    names = [name for name in vars(base) if name[0].isupper()]
    methods = {
        name: staticmethod(getattr(servicer, name)) for name in names if hasattr(servicer, name)
    }
    every = type("All", (base,), methods)
    getattr(stubs, f"add_{tier}ServiceServicer_to_server")(every(), server)


@dataclass
class Tiers:
    """A running gateway and the doubles behind it; `retriever` is the first of `retrievers`."""

    client: AsyncClient
    embedder: FailingEmbedder
    retrievers: list[FailingRetriever]
    reranker: FailingReranker
    addresses: list[str]

    address: str

    @property
    def retriever(self) -> FailingRetriever:
        return self.retrievers[0]

    async def searched(self, **options: Any) -> list[str]:
        return [item.document_id for item in await self.client.search("notes", "q", **options)]

    async def refused(self) -> SirdarError:
        """The error of one search, whose caller does not try it again."""
        request = search_pb2.SearchRequest(collection="notes", query="q")
        return await self.error_of(lambda stub: stub.Search(request, timeout=30))

    async def refused_index(self) -> SirdarError:
        """The error that ends an index stream of one document."""
        target = search_pb2.IndexTarget(collection="notes")
        item = search_pb2.IndexItem(document=document_pb2.Document(id="a", text="text"))
        requests = [
            search_pb2.IndexDocumentsRequest(target=target),
            search_pb2.IndexDocumentsRequest(item=item),
        ]
        return await self.error_of(lambda stub: stub.IndexDocuments(requests, timeout=30).read())

    async def error_of(self, call: Callable[[Any], Awaitable[Any]]) -> SirdarError:
        async with grpc.aio.insecure_channel(self.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call(search_pb2_grpc.SearchServiceStub(channel))
        error = from_rpc_error(failed.value)
        assert "Traceback" not in error.message
        return error


@asynccontextmanager
async def running(
    retrievers: int = 1,
    *,
    announced: Sequence[dict[int, Any] | None] = (),
    absent: Sequence[str] = (),
    **settings: Any,
) -> AsyncIterator[Tiers]:
    """`announced`: what each retriever says that it has, if it says so; `absent`: addresses at
    which there are more to be, and nobody is."""
    embedder, reranker = FailingEmbedder(), FailingReranker({"a!": 1.0, "b!": 3.0, "c!": 2.0})
    says = announced or [None] * retrievers
    doubles = [FailingRetriever(announced=item) for item in says]
    async with AsyncExitStack() as stack:
        addresses = [
            await stack.enter_async_context(
                serving(add_retriever, double, "sirdar.v1.RetrieverService")
            )
            for double in doubles
        ]
        tiers = {
            "embedder_address": serving(add_embedder, embedder, "sirdar.v1.EmbedderService"),
            "reranker_address": serving(add_reranker, reranker, "sirdar.v1.RerankerService"),
        }
        where = {name: await stack.enter_async_context(context) for name, context in tiers.items()}
        settings = {**where, "retriever_addresses": (*addresses, *absent), **settings}
        address = await stack.enter_async_context(gateway_over(**settings))
        client = await stack.enter_async_context(AsyncClient(address))
        yield Tiers(client, embedder, doubles, reranker, addresses, address)


def retriever_wire(double: RetrieverDouble) -> Any:
    """How a server becomes this retriever."""

    @asynccontextmanager
    async def wired(settings: Any, server: TierServer) -> AsyncIterator[None]:
        server.register(add_retriever, double, "sirdar.v1.RetrieverService")
        yield

    return wired


@asynccontextmanager
async def serving_embedder() -> AsyncIterator[str]:
    async with serving(add_embedder, FailingEmbedder(), "sirdar.v1.EmbedderService") as address:
        yield address


@asynccontextmanager
async def gateway_over(**settings: Any) -> AsyncIterator[str]:
    """The address of a gateway with these settings."""
    # Equal searches at once would be one, and a position is a call more.
    bare = {"port": 0, "metrics_port": None, "http_port": None, "cache_use": "none"}
    checked = GatewaySettings.model_validate({**bare, **settings})
    async with serve("gateway", checked, wire) as server:
        yield f"127.0.0.1:{server.port}"


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"sirdar_gateway_{name}", labels) or 0.0


def calls_in_flight() -> float:
    """Of all gateways of this process, to all tiers."""
    return sum(
        sample.value
        for family in REGISTRY.collect()
        if family.name == "sirdar_gateway_tier_calls_in_flight"
        for sample in family.samples
    )


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Waits for something that happens soon."""
    async with asyncio.timeout(20):
        while True:
            held = condition()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(0.005)


@asynccontextmanager
async def gibberish() -> AsyncIterator[str]:
    """The address of a server that answers each call with bytes that are no message; of its health
    it says nothing."""

    async def answer(request: bytes, context: Any) -> bytes:
        return b"\xff\xff\xff"

    class Handlers(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
            if str(handler_call_details.method).startswith("/grpc.health."):
                return None
            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handlers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
