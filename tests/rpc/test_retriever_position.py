"""Where a retriever says that the writes of a collection stand."""

import shutil
from pathlib import Path

from sirdar.errors import NotFound
from sirdar.v1 import common_pb2
from sirdar.v1 import retriever_pb2 as pb
from tests.rpc.retriever_calls import (
    Stub,
    create,
    document_write,
    refusal,
    retriever,
    search_request,
    vector,
    write,
)


async def position(stub: Stub, collection: str = "books") -> pb.GetPositionResponse:
    return await stub.GetPosition(pb.GetPositionRequest(collection=collection))


async def test_a_position_moves_with_every_kind_of_write_and_with_nothing_else(
    tmp_path: Path,
) -> None:
    async with retriever(tmp_path) as stub:
        await create(stub, shards=2)
        seen = [await position(stub)]
        assert list(seen[0].committed_seqs) == [0, 0]
        await write(stub, document_write("a"), document_write("b"))
        seen.append(await position(stub))
        await stub.DeleteDocuments(
            pb.RetrieverServiceDeleteDocumentsRequest(collection="books", document_ids=["a"])
        )
        seen.append(await position(stub))
        # Nothing is deleted, nothing moves.
        await stub.DeleteDocuments(
            pb.RetrieverServiceDeleteDocumentsRequest(collection="books", document_ids=["none"])
        )
        assert await position(stub) == seen[-1]
        assert len({item.identity for item in seen}) == 1
        committed = [sum(item.committed_seqs) for item in seen]
        assert committed == [0, 2, 3]
        assert all(item.applied_seqs == item.committed_seqs for item in seen)


async def test_an_answer_says_which_writes_it_shows(tmp_path: Path) -> None:
    async with retriever(tmp_path) as stub:
        await create(stub, shards=2)
        await write(stub, *(document_write(f"d{at}") for at in range(5)))
        committed = (await position(stub)).committed_seqs
        dense = await stub.SearchPassages(search_request(vector("q")))
        assert dense.applied_seqs == committed
        both = search_request(vector("q"), consistency=common_pb2.CONSISTENCY_STRONG)
        both.queries[0].lexical = "two"
        answer = await stub.SearchPassages(both)
        assert answer.applied_seqs == committed
        assert answer.coverage.pending_writes == 0


async def test_words_that_lag_behind_lower_what_an_answer_shows(tmp_path: Path) -> None:
    async with retriever(tmp_path) as stub:
        await create(stub, shards=1)
        request = search_request(vector("q"), candidates=100)
        request.queries[0].lexical = "two"
        for at in range(50):
            await write(stub, document_write(f"d{at}"))
            answer = await stub.SearchPassages(request)
            found = answer.results[0]
            by_words = {found.passages[item.passage].document_id for item in found.lexical}
            (applied,) = answer.applied_seqs
            assert by_words >= {f"d{number}" for number in range(applied)}
            assert applied + answer.coverage.pending_writes >= at + 1


async def test_after_a_restart_the_sequences_are_the_same_under_another_identity(
    tmp_path: Path,
) -> None:
    async with retriever(tmp_path) as stub:
        await create(stub, shards=2)
        await write(stub, document_write("a"), document_write("b"), document_write("c"))
        before = await position(stub)
    async with retriever(tmp_path) as stub:
        after = await position(stub)
    assert after.committed_seqs == before.committed_seqs == after.applied_seqs
    assert after.identity != before.identity


async def test_a_restored_store_never_has_a_position_of_the_past_that_was_lost(
    tmp_path: Path,
) -> None:
    folder, backup = tmp_path / "data", tmp_path / "backup"
    async with retriever(folder) as stub:
        await create(stub, shards=1)
        await write(stub, document_write("a"))
    shutil.copytree(folder, backup)
    async with retriever(folder) as stub:
        await write(stub, document_write("lost"))
        lost = await position(stub)
    shutil.rmtree(folder)
    shutil.copytree(backup, folder)
    async with retriever(folder) as stub:
        await write(stub, document_write("other"))
        now = await position(stub)
    assert now.committed_seqs == lost.committed_seqs
    assert now.identity != lost.identity


async def test_a_collection_made_anew_has_another_identity(tmp_path: Path) -> None:
    async with retriever(tmp_path) as stub:
        await create(stub)
        first = await position(stub)
        await stub.DeleteCollection(pb.RetrieverServiceDeleteCollectionRequest(name="books"))
        assert isinstance(await refusal(position(stub)), NotFound)
        await create(stub)
        assert (await position(stub)).identity != first.identity
