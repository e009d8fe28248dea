"""Stages that were given up before they began, or failed: what is learnt, and what is counted."""

from typing import cast

import pytest
from prometheus_client import REGISTRY

from gateway.backends import Embedder, Retriever
from gateway.pipeline.answer import SearchAnswer
from gateway.pipeline.embedding import QueryEmbedding
from gateway.pipeline.tiers import Tiers
from gateway.settings import GatewaySettings
from gateway.stage_budget import StageBudget
from services.runtime.deadline import set_deadline
from sirdar.errors import DeadlineExceeded, Unavailable
from sirdar.v1 import common_pb2
from tests.unit.test_gateway_keys import ENTRY


def tiers() -> Tiers:
    nobody = object()
    return Tiers(
        GatewaySettings(), cast(Embedder, nobody), cast(Retriever, nobody), None, StageBudget()
    )


async def test_deadlines_that_are_over_do_not_make_a_stage_look_fast() -> None:
    used = tiers()
    for _ in range(20):
        used.budget.observe(common_pb2.STAGE_EMBED, 0.4)
    for _ in range(200):
        set_deadline(0.001)
        with pytest.raises(DeadlineExceeded):
            embedding = QueryEmbedding(used, SearchAnswer(), has_words=False, later=())
            await embedding.embed(["words"], [ENTRY])
    set_deadline(1.0)
    kept = used.budget.limit_seconds(
        common_pb2.STAGE_RETRIEVE, 5.0, later=(common_pb2.STAGE_EMBED,)
    )
    assert kept < 0.7


def failed(stage: str) -> float:
    labels = {"stage": stage, "reason": "failed"}
    return REGISTRY.get_sample_value("sirdar_gateway_stages_skipped_total", labels) or 0.0


def test_what_failed_is_counted_where_a_search_goes_on_without_it() -> None:
    used = tiers()
    before = failed("rerank"), failed("retrieve")
    for stage, optional in ((common_pb2.STAGE_RERANK, True), (common_pb2.STAGE_RETRIEVE, False)):
        with pytest.raises(Unavailable), used.observed(stage, SearchAnswer(), optional=optional):
            raise Unavailable("its circuit is open")
    assert (failed("rerank"), failed("retrieve")) == (before[0] + 1, before[1])
