"""Searches of several collections: how results compare, and what is left out."""

from sirdar.errors import (
    NotFound,
    ResourceExhausted,
)
from sirdar.v1 import collection_pb2, query_pb2
from tests.rpc.query_double import Passage, reasons, running

DENSE = query_pb2.SEARCH_MODE_DENSE
BOTH = ("notes", "mail")


async def test_a_document_that_is_not_there_is_no_news_of_its_collection() -> None:
    async with running() as gateway:
        await gateway.search(mode=DENSE)
        for _ in range(3):
            like = query_pb2.MoreLikeThis(document_id="nobody")
            refused = await gateway.refusal(like=like, mode=DENSE)
            assert isinstance(refused, NotFound)
            assert refused.metadata["field"] == "like.document_id"
        assert gateway.retriever.reads["notes"] == 1


async def test_collections_of_one_space_are_compared_by_score() -> None:
    async with running() as gateway:
        answer = await gateway.search(collections=BOTH, mode=DENSE)
        found = [(item.collection, item.document_id) for item in answer.results]
        assert found == [
            ("notes", "a"),
            ("notes", "b"),
            ("mail", "a"),
            ("notes", "c"),
            ("mail", "m"),
            ("notes", "d"),
        ]
        assert [round(item.score, 3) for item in answer.results][:3] == [0.9, 0.8, 0.75]
        assert (answer.coverage.shards_asked, answer.coverage.shards_answered) == (4, 4)
        assert [item.collection for item in answer.collections] == ["notes", "mail"]
        # The query is embedded once for both.
        assert len(gateway.embedder.callers) == 1


async def test_collections_of_two_spaces_are_compared_by_rank_or_by_the_reranker() -> None:
    async with running(rerank=True) as gateway:
        gateway.retriever.fingerprints = {"mail": "f2"}
        off = collection_pb2.RerankSettings(enabled=False)
        with_ranks = await gateway.search(collections=BOTH, mode=DENSE, rerank=off)
        found = [(item.collection, item.document_id) for item in with_ranks.results]
        assert found[:3] == [("notes", "a"), ("mail", "a"), ("mail", "m")]
        gateway.reranker.logit_of = {"a0": 0.0, "b0": 1.0, "c0": 2.0, "d0": 3.0, "m0": 4.0}
        only = collection_pb2.RerankSettings(retriever_weight=0)
        order = await gateway.order(collections=BOTH, mode=DENSE, rerank=only)
        assert order[:3] == ["m", "d", "c"]


async def test_a_collection_that_fails_is_left_out_and_named() -> None:
    async with running() as gateway:
        gateway.retriever.failing = {"mail": ResourceExhausted("full")}
        answer = await gateway.search(collections=BOTH, mode=DENSE)
        assert [item.document_id for item in answer.results] == ["a", "b", "c", "d"]
        assert reasons(answer) == ["COLLECTION_SKIPPED"]
        assert answer.degraded[0].detail.startswith("mail: ")
        assert [item.collection for item in answer.collections] == ["notes"]
        refused = await gateway.refusal(collections=BOTH, mode=DENSE, require_complete=True)
        assert isinstance(refused, ResourceExhausted)
        gateway.retriever.failing["notes"] = ResourceExhausted("full")
        assert isinstance(await gateway.refusal(collections=BOTH), ResourceExhausted)
        assert isinstance(await gateway.refusal(collections=("notes", "none")), NotFound)


async def test_a_collection_that_fails_when_more_is_wanted_keeps_what_it_gave() -> None:
    async with running() as gateway:
        # One document each fills the first candidates.
        crowd = [Passage("long", 0.5, index=at) for at in range(200)]
        gateway.retriever.passages = {"notes": [*crowd, Passage("last", 0.1)], "mail": crowd}
        gateway.retriever.failing_from = {"mail": 100}
        answer = await gateway.search(collections=BOTH, mode=DENSE, top_k=3)
        found = [(item.collection, item.document_id) for item in answer.results]
        assert sorted(found) == [("mail", "long"), ("notes", "last"), ("notes", "long")]
        assert not answer.degraded
        assert [item.collection for item in answer.collections] == ["notes", "mail"]
        # Who failed once, or gave all there is, is not asked again.
        asked = [(one.collection, one.candidates) for one in gateway.retriever.searches]
        assert asked.count(("mail", 36)) == 1
        assert sum(name == "mail" for name, _ in asked) <= 3
        many = await gateway.search(collections=BOTH, mode=DENSE, top_k=4)
        assert len(many.results) == 3
        assert reasons(many) == ["CANDIDATES_CUT"]
        assert "of mail" in many.degraded[0].detail


async def test_one_of_several_is_said_like_several() -> None:
    async with running() as gateway:
        answer = await gateway.search(collections=("notes",), mode=DENSE)
        assert {item.collection for item in answer.results} == {"notes"}
        assert [item.collection for item in answer.collections] == ["notes"]
