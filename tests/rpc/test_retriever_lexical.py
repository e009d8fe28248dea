"""Words over gRPC: lexical candidates beside dense ones, fresh, live, and none where they fail."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sirdar.errors import InvalidArgument, Unimplemented
from sirdar.v1 import collection_pb2, common_pb2
from sirdar.v1 import retriever_pb2 as pb
from tests.rpc.lexical_calls import answer, found, said, words_request
from tests.rpc.retriever_calls import (
    FINGERPRINT,
    Stub,
    create,
    definition,
    document_write,
    field_of,
    refusal,
    retriever,
    vector,
    write,
)


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[Stub]:
    async with retriever(tmp_path) as stub:
        await create(stub)
        yield stub


async def status(stub: Stub) -> list[pb.ShardStatus]:
    return list((await stub.ListShards(pb.ListShardsRequest())).shards)


async def test_passages_are_found_by_their_words_rarest_first(stub: Stub) -> None:
    await write(
        stub,
        said("wings", "the wing of a plane", "flutter of a swept wing"),
        said("hulls", "the hull of a ship"),
        said("both", "a plane and a ship"),
    )
    assert await answer(stub, words_request("flutter", "SHIPS hull", "balloon")) == [
        [("wings", 1)],
        [("hulls", 0), ("both", 0)],
        [],
    ]


async def test_the_words_of_the_title_are_found_too(stub: Stub) -> None:
    await write(stub, document_write("kestrel"), document_write("buzzard"))
    assert await found(stub, "kestrel") == ["kestrel"]


async def test_a_query_may_ask_both_or_either_and_each_list_stands_alone(stub: Stub) -> None:
    await write(stub, said("a", "red apple"), said("b", "green pear"))
    request = words_request(
        queries=[
            pb.PassageQuery(vector=vector("a/red apple/0"), lexical="pear"),
            pb.PassageQuery(lexical="apple"),
            pb.PassageQuery(vector=vector("b/green pear/0")),
        ],
        fingerprint=FINGERPRINT,
    )
    response = await stub.SearchPassages(request)
    both, lexical, dense = response.results
    assert [len(both.dense), len(both.lexical), len(both.passages)] == [2, 1, 2]
    assert both.passages[both.dense[0].passage].document_id == "a"
    assert both.passages[both.lexical[0].passage].document_id == "b"
    assert [len(lexical.dense), len(lexical.lexical)] == [0, 1]
    assert lexical.passages[0].text == "red apple"
    assert [len(dense.dense), len(dense.lexical)] == [2, 0]
    assert dense.passages[dense.dense[0].passage].document_id == "b"


async def test_text_comes_with_the_best_of_either_list_alone(stub: Stub) -> None:
    await write(stub, said("a", "red apple", "apple"), said("b", "green apple tree of a garden"))
    request = words_request(
        queries=[pb.PassageQuery(vector=vector("b/green apple tree of a garden/0"), lexical="red")],
        fingerprint=FINGERPRINT,
        documents_with_text=1,
    )
    (result,) = (await stub.SearchPassages(request)).results
    texts = {(item.document_id, item.index): item.text for item in result.passages}
    assert texts == {
        ("a", 0): "red apple",
        ("a", 1): "",
        ("b", 0): "green apple tree of a garden",
    }


async def test_words_need_no_fingerprint_and_vectors_do(stub: Stub) -> None:
    await write(stub, said("a", "apple"))
    assert await found(stub, "apple") == ["a"]
    request = words_request(queries=[pb.PassageQuery(vector=vector(1), lexical="apple")])
    assert (await refusal(stub.SearchPassages(request))).reason == "SPACE_MISMATCH"


@pytest.mark.parametrize(
    "text",
    [
        '"',
        "apple AND",
        "NOT apple",
        "(apple",
        "title:apple",
        "apple*",
        "app?",
        "apple~2",
        "[apple TO pear]",
        "\\",
        "+-&|!{}^",
        "IN [",
        "apple^9999999999",
        "\N{BELL}apple\u200b",
        "\ud7ff\N{PILE OF POO}",
        "a" * 5000,
        "apple " * 5000,
        " ".join(f"w{at}" for at in range(5000)),
    ],
)
async def test_words_are_never_syntax(stub: Stub, text: str) -> None:
    await write(stub, said("a", "a red apple"), said("b", "a green pear"))
    names = await found(stub, text)
    assert set(names) <= {"a", "b"}
    assert ("a" in names) == ("apple" in text)


async def test_what_is_replaced_or_deleted_is_not_found_and_leaves_no_gap(stub: Stub) -> None:
    await write(stub, *(said(f"d{at}", "old apple") for at in range(30)))
    assert len(await found(stub, "apple")) == 10
    await write(stub, *(said(f"d{at}", "new pear") for at in range(15)))
    ids = [f"d{at}" for at in range(15, 25)]
    await stub.DeleteDocuments(
        pb.RetrieverServiceDeleteDocumentsRequest(collection="books", document_ids=ids)
    )
    # Whatever the lexical index shows by now.
    eventual = await found(stub, "apple", consistency=common_pb2.CONSISTENCY_EVENTUAL)
    assert sorted(eventual) == ["d25", "d26", "d27", "d28", "d29"]
    assert sorted(await found(stub, "apple")) == ["d25", "d26", "d27", "d28", "d29"]
    assert len(await found(stub, "pear", candidates=100)) == 15


async def test_new_metadata_leaves_the_words(stub: Stub) -> None:
    await write(stub, said("a", "apple"))
    same = said("a", "apple")
    del same.passages[:]
    same.keep_passages = True
    same.document.metadata["lang"].string_value = "en"
    await write(stub, same)
    assert await found(stub, "apple") == ["a"]
    assert {item.lexical_seq == item.committed_seq for item in await status(stub)} == {True}


async def test_a_session_sees_its_writes_at_once(stub: Stub) -> None:
    for at in range(5):
        (receipt,) = await write(stub, said(f"d{at}", f"word{at}"))
        names = await found(
            stub,
            f"word{at}",
            consistency=common_pb2.CONSISTENCY_SESSION,
            consistency_tokens=[receipt.consistency_token],
        )
        assert names == [f"d{at}"]


async def test_writes_are_seen_in_the_end_though_nobody_asks(stub: Stub) -> None:
    await write(stub, said("a", "apple"))
    async with asyncio.timeout(30):
        while True:
            if await found(stub, "apple", consistency=common_pb2.CONSISTENCY_EVENTUAL):
                break
            await asyncio.sleep(0.05)


async def test_scores_compare_between_shards(tmp_path: Path) -> None:
    """A word that is common in one shard and rare in another weighs the same in both."""
    async with retriever(tmp_path) as stub:
        await create(stub, "one", shards=1)
        await create(stub, "many", shards=8)
        writes = [said(f"d{at}", f"apple number{at % 7} colour{at % 3}") for at in range(40)]
        scores = {}
        for name in ("one", "many"):
            await write(stub, *writes, collection=name)
            request = words_request("apple colour1 number5", collection=name, candidates=40)
            (result,) = (await stub.SearchPassages(request)).results
            scores[name] = {
                result.passages[item.passage].document_id: item.score for item in result.lexical
            }
    assert scores["many"] == pytest.approx(scores["one"], rel=0.02)


async def languages(stub: Stub, language: str, text: str, query: str) -> list[str]:
    name = f"in-{language}"
    collection = definition(name)
    collection.lexical.language = language
    await stub.CreateCollection(pb.RetrieverServiceCreateCollectionRequest(collection=collection))
    await write(stub, said("a", text), collection=name)
    return await found(stub, query, collection=name)


@pytest.mark.parametrize(
    ("language", "text", "query"),
    [
        ("en", "running shoes", "run shoe"),
        ("de", "die Häuser", "haus"),
        ("fr", "les chevaux étaient là", "CHEVAL LÀ"),
        ("ru", "красивые дома", "дом"),
        ("none", "\uff23\uff41fe\u0301 Zürich", "cafe zurich"),
        ("none", "東京都に住む", "東京"),
    ],
)
async def test_words_are_made_as_the_language_makes_them(
    stub: Stub, language: str, text: str, query: str
) -> None:
    assert await languages(stub, language, text, query) == ["a"]


async def test_without_a_language_words_are_not_stemmed(stub: Stub) -> None:
    assert await languages(stub, "none", "running shoes", "run shoe") == []


async def test_a_collection_says_its_language_and_keeps_it(tmp_path: Path) -> None:
    for _ in range(2):
        async with retriever(tmp_path) as stub:
            if not (await status(stub)):
                collection = definition("books")
                collection.lexical.language = "de"
                await stub.CreateCollection(
                    pb.RetrieverServiceCreateCollectionRequest(collection=collection)
                )
            request = pb.RetrieverServiceGetCollectionRequest(name="books")
            lexical = (await stub.GetCollection(request)).collection.lexical
            assert lexical == collection_pb2.LexicalSettings(enabled=True, language="de")


async def test_an_unknown_language_is_refused_with_the_known(stub: Stub) -> None:
    collection = definition("other")
    collection.lexical.language = "klingon"
    error = await refusal(
        stub.CreateCollection(pb.RetrieverServiceCreateCollectionRequest(collection=collection))
    )
    assert isinstance(error, InvalidArgument)
    assert field_of(error) == "collection.lexical.language"
    assert "none" in str(error) and "de, " in str(error)


async def test_a_collection_may_have_no_lexical_index(stub: Stub) -> None:
    collection = definition("dense")
    collection.lexical.enabled = False
    await stub.CreateCollection(pb.RetrieverServiceCreateCollectionRequest(collection=collection))
    await write(stub, said("a", "apple"), collection="dense")
    error = await refusal(stub.SearchPassages(words_request("apple", collection="dense")))
    assert isinstance(error, Unimplemented)
    assert error.reason == "LEXICAL_NOT_AVAILABLE"
    shards = (await stub.ListShards(pb.ListShardsRequest(collection="dense"))).shards
    assert not any(item.HasField("lexical_seq") for item in shards)


async def test_a_query_of_too_many_characters_is_refused(stub: Stub) -> None:
    error = await refusal(stub.SearchPassages(words_request("ok", "a" * 32_769)))
    assert field_of(error) == "queries[1].lexical"
