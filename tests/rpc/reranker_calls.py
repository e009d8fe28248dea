"""How tests start and call a reranker."""

import threading
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from services.inference.batch import TokenBatch
from services.inference.batcher import Batcher, QueueLimits
from services.inference.cost import CostModel
from services.inference.engine import EngineInfo
from services.reranker.__main__ import wire
from services.reranker.reranking import Reranker, RerankingLimits
from services.reranker.servicer import RerankerServicer
from services.reranker.settings import RerankerSettings
from services.runtime.server import TierServer, serve
from services.runtime.settings import ServerSettings
from sirdar.errors import SirdarError, from_rpc_error
from sirdar.v1 import reranker_pb2
from sirdar.v1.reranker_pb2_grpc import (
    RerankerServiceStub,
    add_RerankerServiceServicer_to_server,
)
from tests.reranker_model import builtin_reranker
from tests.small_model import model_cache

if TYPE_CHECKING:  # generated for type checkers only
    from sirdar.v1.reranker_pb2_grpc import RerankerServiceAsyncStub

Rerank = reranker_pb2.RerankPassagesRequest
Event = reranker_pb2.StreamRerankPassagesRequest
Answer = reranker_pb2.StreamRerankPassagesResponse
Options = reranker_pb2.RerankOptions
Passage = reranker_pb2.RerankPassage

QUERY = "What is the height of Everest?"
TEXTS = [
    "Paris is the capital of France.",
    "Mount Everest is 8,849 metres tall.",
    "The K2 is the second highest mountain on Earth.",
]


def connect(channel: grpc.aio.Channel) -> "RerankerServiceAsyncStub":
    stub: RerankerServiceAsyncStub = RerankerServiceStub(channel)  # type: ignore[assignment]
    return stub


@asynccontextmanager
async def running(**changes: Any) -> AsyncIterator[TierServer]:
    """A reranker with the built-in model; `changes` are of its settings."""
    builtin_reranker()  # converts the model, once for all tests of a run
    values = {"port": 0, "metrics_port": None, "cache_folder": model_cache(), **changes}
    async with serve("reranker", RerankerSettings(**values), wire) as server:
        yield server


@asynccontextmanager
async def connected(server: TierServer) -> AsyncIterator["RerankerServiceAsyncStub"]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield connect(channel)


class GatedEngine:
    """Answers each row its number of tokens, while the gate is open; notes what it computed."""

    def __init__(self) -> None:
        self.info = EngineInfo("fake", "fp32", "cpu", streams=1, batch_tokens=100_000)
        self.gate = threading.Event()
        self.started = threading.Semaphore(0)
        self.tokens: list[int] = []

    def run(self, batch: TokenBatch, stream: int) -> NDArray[np.float32]:
        self.started.release()
        assert self.gate.wait(60)
        tokens = batch.attention_mask.sum(axis=1)
        self.tokens.extend(tokens.tolist())
        logits: NDArray[np.float32] = tokens[:, None].astype(np.float32)
        return logits

    def close(self) -> None:
        pass


@asynccontextmanager
async def running_slow(
    engine: GatedEngine, row_seconds: float
) -> AsyncIterator["RerankerServiceAsyncStub"]:
    """A reranker of this engine, which the batcher believes to take so long a pair.

    What is promised does not depend on how fast the machine is.
    """
    model = replace(builtin_reranker(), engine=engine)
    cost = CostModel([(rows, width, rows * row_seconds) for rows in (1, 8) for width in (8, 128)])
    limits = QueueLimits(1_000, 1_000_000, 2**30)

    @asynccontextmanager
    async def slow(settings: ServerSettings, server: TierServer) -> AsyncIterator[None]:
        batcher = Batcher("fake", engine, pad_token_id=0, dimensions=1, limits=limits, cost=cost)
        async with batcher:
            reranker = Reranker(model, batcher, RerankingLimits(1_000, 8_192))
            servicer = RerankerServicer(reranker, server.drain, 256)
            server.register(
                add_RerankerServiceServicer_to_server, servicer, "sirdar.v1.RerankerService"
            )
            yield

    try:
        settings = ServerSettings(drain_notice_seconds=0, drain_grace_seconds=5)
        async with serve("reranker", settings, slow) as server, connected(server) as stub:
            yield stub
    finally:
        engine.gate.set()


def request(texts: Sequence[str], **options: Any) -> Rerank:
    """Passages named by their places; `options` are those of the contract."""
    passages = [Passage(id=str(place), text=text) for place, text in enumerate(texts)]
    return Rerank(options=Options(**{"query": QUERY, **options}), passages=passages)


async def events(texts: Sequence[str], **options: Any) -> AsyncIterator[Event]:
    """The same as a stream."""
    yield Event(options=Options(**{"query": QUERY, **options}))
    for place, text in enumerate(texts):
        yield Event(passage=Passage(id=str(place), text=text))


def outcomes(scores: Sequence[reranker_pb2.RerankScore]) -> list[tuple[str, str | None]]:
    """Ids with what became of them, in the order of the answer."""
    return [(score.id, score.WhichOneof("outcome")) for score in scores]


async def error_of(call: Awaitable[object]) -> SirdarError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)
