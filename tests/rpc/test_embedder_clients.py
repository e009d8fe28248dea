"""What the gateway's clients of the models ask for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.backends import Embedder, Reranker
from sirdar.v1 import common_pb2, embedder_pb2, embedder_pb2_grpc
from tests.rpc.tier_doubles import (
    SPACE,
    EmbedderDouble,
    RerankerDouble,
    serving,
    serving_reranker,
)


@dataclass
class Recorder(EmbedderDouble):
    """Notes what it is asked; lists a model of each state."""

    priorities: list[int] = field(default_factory=list)

    async def EmbedTexts(self, request: Any, context: Any) -> Any:
        self.priorities.append(request.priority)
        return await super().EmbedTexts(request, context)

    async def ListModels(self, request: Any, context: Any) -> Any:
        models = [
            common_pb2.ModelInfo(model=common_pb2.ModelRef(name=name), state=state)
            for name, state in common_pb2.ModelState.items()
        ]
        return embedder_pb2.EmbedderServiceListModelsResponse(models=models)


@asynccontextmanager
async def client_of(double: Recorder) -> AsyncIterator[Embedder]:
    add = embedder_pb2_grpc.add_EmbedderServiceServicer_to_server
    async with serving(add, double, "sirdar.v1.EmbedderService") as address:
        client = Embedder(address, 2**20, None)
        try:
            yield client
        finally:
            await client.close()


async def test_highlights_of_many_sentences_go_before_bulk() -> None:
    double = Recorder()
    async with client_of(double) as embedder:
        assert len(await embedder.embed_sentences(["wing"] * 100, SPACE, 10)) == 100
    assert double.priorities == [common_pb2.PRIORITY_INTERACTIVE]


async def test_models_that_load_or_go_are_not_offered() -> None:
    async with client_of(Recorder()) as embedder:
        names = [model.model.name for model in await embedder.models(10)]
    assert names == ["MODEL_STATE_UNSPECIFIED", "MODEL_STATE_SERVING"]


async def test_many_candidates_of_a_search_go_before_bulk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    double = RerankerDouble(logit_of={"wing": 1.0})
    answer, priorities = double.RerankPassages, []

    async def record(request: Any, context: Any) -> Any:
        priorities.append(request.options.priority)
        return await answer(request, context)

    monkeypatch.setattr(double, "RerankPassages", record)
    async with serving_reranker(double) as address:
        reranker = Reranker(address, 2**20, None)
        logits = await reranker.logits("flow", ["wing"] * 100, 10)
        await reranker.close()
    assert len(logits.known) == 100
    assert priorities == [common_pb2.PRIORITY_INTERACTIVE]
