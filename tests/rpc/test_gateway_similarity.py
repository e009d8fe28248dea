"""Pairs of texts, compared by their embeddings or by the cross-encoder."""

import grpc
import pytest

from sirdar.errors import (
    InvalidArgument,
    Unavailable,
    from_rpc_error,
    from_status,
)
from sirdar.v1 import query_pb2, search_pb2
from tests.rpc.query_double import running


def pairs(*texts: tuple[str, str]) -> list[query_pb2.TextPair]:
    return [query_pb2.TextPair(first=first, second=second) for first, second in texts]


async def test_pairs_are_compared_by_their_embeddings() -> None:
    async with running() as gateway:
        gateway.embedder.word = "sea"
        gateway.embedder.refused_texts = {"bad": InvalidArgument("cannot be read")}
        answer = await gateway.stub.ComputeSimilarity(
            search_pb2.ComputeSimilarityRequest(
                pairs=pairs(
                    ("the sea", "a sea"), ("the sea", "bread"), ("bad", "bread"), ("", "bread")
                )
            )
        )
        first, second, third, fourth = answer.outcomes
        assert (first.similarity, second.similarity) == pytest.approx((1.0, 0.0))
        assert from_status(third.error).message == "cannot be read"
        assert [item.field for item in from_status(fourth.error).fields] == ["pairs[3].first"]
        assert answer.space.fingerprint == "f1"
        assert len(gateway.embedder.callers) == 1


async def test_pairs_are_scored_by_the_cross_encoder_one_call_a_first_text() -> None:
    async with running(rerank=True) as gateway:
        gateway.reranker.logit_of = {"one": 1.5, "two": 2.5}
        method = query_pb2.SIMILARITY_METHOD_CROSS_ENCODER
        asked = search_pb2.ComputeSimilarityRequest(
            pairs=pairs(("q", "one"), ("p", "two"), ("q", "two"), ("p", "none")), method=method
        )
        answer = await gateway.stub.ComputeSimilarity(asked)
        assert [item.similarity for item in answer.outcomes[:3]] == [1.5, 2.5, 2.5]
        assert from_status(answer.outcomes[3].error).message == "no opinion"
        assert sorted(gateway.reranker.seen) == [["one", "two"], ["two", "none"]]
    async with running() as gateway:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await gateway.stub.ComputeSimilarity(asked)
        assert isinstance(from_rpc_error(refused.value), Unavailable)


@pytest.mark.parametrize("count", [0, 1_001])
async def test_no_pairs_and_too_many_are_refused(count: int) -> None:
    async with running() as gateway:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await gateway.stub.ComputeSimilarity(
                search_pb2.ComputeSimilarityRequest(pairs=pairs(*[("a", "b")] * count))
            )
        assert [item.field for item in from_rpc_error(refused.value).fields] == ["pairs"]
