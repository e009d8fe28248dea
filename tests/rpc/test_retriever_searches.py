"""Searches and shards through RetrieverService, over a real data folder."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from services.retriever.segment import GrowingSegment
from sirdar.errors import (
    FailedPrecondition,
    InvalidArgument,
)
from sirdar.v1 import collection_pb2, common_pb2
from sirdar.v1 import retriever_pb2 as pb
from tests.rpc.retriever_calls import (
    FINGERPRINT,
    Stub,
    as_vector,
    create,
    document_write,
    field_of,
    refusal,
    retriever,
    search_request,
    vector,
    write,
)


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[Stub]:
    async with retriever(tmp_path) as running:
        yield running


async def test_many_queries_are_answered_each_from_all_shards(stub: Stub) -> None:
    await create(stub, shards=5)
    names = [f"d{at}" for at in range(60)]
    await write(stub, *(document_write(name) for name in names))
    wanted = [f"{name}/one two/0" for name in names[::7]]
    response = await stub.SearchPassages(search_request(*map(vector, wanted), candidates=3))
    assert [result.passages[0].document_id for result in response.results] == names[::7]
    for result in response.results:
        assert [item.passage for item in result.dense] == [0, 1, 2]
        scores = [item.score for item in result.dense]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] == pytest.approx(1, abs=1e-3)
        assert len(result.lexical) == 0
    assert (response.coverage.shards_asked, response.coverage.shards_answered) == (5, 5)
    assert response.coverage.pending_writes == 0
    assert response.generation.space.fingerprint == FINGERPRINT


async def test_chosen_shards_and_bare_passages(stub: Stub) -> None:
    await create(stub, shards=4)
    await write(stub, *(document_write(f"d{at}") for at in range(40)))
    request = search_request(vector(1), shards=[2], candidates=40, documents_with_text=0)
    response = await stub.SearchPassages(request)
    found = response.results[0].passages
    assert 0 < len(found) < 40
    assert {item.shard for item in found} == {2}
    assert {(item.text, item.title, len(item.metadata)) for item in found} == {("", "", 0)}
    assert response.coverage.shards_asked == 1


async def test_text_only_of_the_best_passages_of_the_best_documents(stub: Stub) -> None:
    await create(stub)
    await write(stub, *(document_write(f"d{at}") for at in range(20)))
    query = vector("d3/one two/0")
    everything = (await stub.SearchPassages(search_request(query, candidates=40))).results[0]
    some = (
        await stub.SearchPassages(search_request(query, candidates=40, documents_with_text=2))
    ).results[0]
    assert [(item.document_id, item.index) for item in some.passages] == [
        (item.document_id, item.index) for item in everything.passages
    ]
    best = dict.fromkeys(item.document_id for item in everything.passages)
    with_text = [item for item in some.passages if item.text]
    assert [item.document_id for item in with_text] == list(best)[:2]
    for item in with_text:
        assert item in list(everything.passages)


@pytest.mark.parametrize("dtype", ["<f2", "<f4"])
async def test_dot_similarity_keeps_lengths(stub: Stub, dtype: str) -> None:
    await create(stub, similarity=collection_pb2.SIMILARITY_DOT)
    long, short = document_write("long"), document_write("short")
    base = np.zeros(16, dtype)
    base[3] = 1
    long.passages[0].vector.CopyFrom(as_vector(4 * base))
    short.passages[0].vector.CopyFrom(as_vector(base))
    await write(stub, short, long)
    (result,) = (await stub.SearchPassages(search_request(as_vector(2 * base)))).results
    assert [item.document_id for item in result.passages] == ["long", "short"]
    assert [item.score for item in result.dense] == [8, 2]


async def test_reads_see_the_writes_that_they_ask_for(stub: Stub) -> None:
    await create(stub)
    for at in range(5):
        (receipt,) = await write(stub, document_write(f"d{at}"))
        for request in (
            search_request(
                vector(f"d{at}/one two/0"),
                consistency=common_pb2.CONSISTENCY_SESSION,
                consistency_tokens=[receipt.consistency_token],
            ),
            search_request(vector(f"d{at}/one two/0"), consistency=common_pb2.CONSISTENCY_STRONG),
        ):
            response = await stub.SearchPassages(request)
            assert response.results[0].passages[0].document_id == f"d{at}"


async def test_shards_say_how_far_they_are(stub: Stub) -> None:
    await create(stub, shards=2)
    await create(stub, "other", shards=1)
    await write(stub, *(document_write(f"d{at}") for at in range(20)))
    await write(stub, *(document_write(f"d{at}") for at in range(5)))
    assert len((await stub.ListShards(pb.ListShardsRequest())).shards) == 3
    shards = (await stub.ListShards(pb.ListShardsRequest(collection="books"))).shards
    assert [shard.shard for shard in shards] == [0, 1]
    assert {shard.state for shard in shards} == {pb.SHARD_STATE_READY}
    assert sum(shard.committed_seq for shard in shards) == 25
    assert [shard.applied_seq for shard in shards] == [shard.committed_seq for shard in shards]
    assert sum(shard.vectors for shard in shards) == 20
    assert sum(shard.tombstones for shard in shards) == 5
    assert [(shard.growing_segments, shard.sealed_segments) for shard in shards] == [(1, 0)] * 2


async def test_an_answer_that_no_message_holds_is_refused(tmp_path: Path) -> None:
    async with retriever(tmp_path, max_message_bytes=2**17) as stub:
        await create(stub)
        text = "x" * 60_000
        for at in range(3):
            await write(stub, document_write(f"d{at}", text, spans=((0, len(text)),)))
        request = search_request(vector(1), candidates=3)
        error = await refusal(stub.SearchPassages(request))
        assert isinstance(error, InvalidArgument)
        assert field_of(error) == "candidates"
        request.documents_with_text = 1
        assert len((await stub.SearchPassages(request)).results[0].passages) == 3


async def test_a_restart_serves_the_same_answers(tmp_path: Path) -> None:
    request = search_request(*(vector(f"d{at}/one two/0") for at in range(10)))
    async with retriever(tmp_path, seal_vectors=16) as first:
        await create(first)
        await write(first, *(document_write(f"d{at}") for at in range(200)))
        before = await first.SearchPassages(request)
    async with retriever(tmp_path, seal_vectors=16) as second:
        after = await second.SearchPassages(request)
    assert [result.passages for result in after.results] == [
        result.passages for result in before.results
    ]


async def test_a_second_retriever_on_the_folder_is_refused(tmp_path: Path) -> None:
    async with retriever(tmp_path):
        with pytest.raises(FailedPrecondition, match="in use by process"):
            async with retriever(tmp_path):
                pass


async def test_a_shard_that_fails_is_missing_until_a_restart_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise MemoryError("no room for vectors")

    request = search_request(vector("d1/one two/0"), candidates=100)
    async with retriever(tmp_path) as first:
        await create(first, shards=2)
        with monkeypatch.context() as broken:
            broken.setattr(GrowingSegment, "add", fail)
            await write(first, document_write("d1"))
        await write(first, *(document_write(f"d{at}") for at in range(2, 40)))
        partial = await first.SearchPassages(request)
        assert partial.coverage.shards_answered == 1
        (missing,) = partial.coverage.missing_shards
        shards = (await first.ListShards(pb.ListShardsRequest())).shards
        assert shards[missing].state == pb.SHARD_STATE_FAILED
        assert shards[missing].committed_seq > shards[missing].applied_seq
    async with retriever(tmp_path) as second:
        whole = await second.SearchPassages(request)
        assert whole.coverage.shards_answered == 2
        assert len(whole.results[0].passages) == 39
        assert whole.results[0].passages[0].document_id == "d1"
