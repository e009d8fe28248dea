"""Lexical indexes on disk are a view of the store: lost, damaged or behind, they are made again."""

import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from services.retriever.lexical.index import LexicalIndex
from sirdar.errors import ResourceExhausted
from sirdar.v1 import retriever_pb2 as pb
from tests.rpc.lexical_calls import caught_up, found, said
from tests.rpc.retriever_calls import (
    FINGERPRINT,
    Stub,
    create,
    refusal,
    retriever,
    write,
)


async def test_a_deleted_collection_leaves_no_file(tmp_path: Path) -> None:
    async with retriever(tmp_path) as stub:
        await create(stub)
        await write(stub, said("a", "apple"))
        assert await found(stub, "apple") == ["a"]
        assert list((tmp_path / "segments").glob("*/*/lexical/meta.json"))
        await stub.DeleteCollection(pb.RetrieverServiceDeleteCollectionRequest(name="books"))
        assert list((tmp_path / "segments").glob("*")) == []
        await create(stub)
        assert await found(stub, "apple") == []


async def test_writes_far_ahead_of_their_words_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with retriever(tmp_path, max_lexical_behind=1000) as stub:
        await create(stub, shards=1)

        def stall(*_: object) -> None:
            raise OSError("no space left on device")

        monkeypatch.setattr("services.retriever.lexical.index.LexicalIndex.open_writer", stall)
        writes = [said(f"d{at}", "apple") for at in range(500)]
        await write(stub, *writes)
        await write(stub, *writes)
        request = pb.WriteDocumentsRequest(
            collection="books", writes=writes[:1], fingerprint=FINGERPRINT
        )
        error = await refusal(stub.WriteDocuments(request))
        assert isinstance(error, ResourceExhausted)
        assert error.reason == "LEXICAL_BEHIND"
        assert error.retry_after is not None
        monkeypatch.undo()
        # The failure is tried again after a second; then what was missed is read from the store.
        assert len(await found(stub, "apple")) == 10
        await write(stub, *writes[:1])


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[Stub]:
    async with retriever(tmp_path) as stub:
        await create(stub)
        yield stub


async def test_words_are_built_again_after_a_commit_that_failed(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tantivy loses some of what it has, sometimes, when the disk is full in the midst of one."""
    await write(stub, said("a", "apple"))
    assert await found(stub, "apple") == ["a"]
    rebuilt = "sirdar_retriever_lexical_rebuilds_total"
    before = REGISTRY.get_sample_value(rebuilt) or 0.0
    commit = LexicalIndex.commit
    failures: list[Path] = []

    def full_disk(self: LexicalIndex) -> None:
        commit(self)
        if not failures:
            failures.append(self.path)
            raise ValueError("No space left on device")

    monkeypatch.setattr(LexicalIndex, "commit", full_disk)
    await write(stub, said("b", "apple"))
    assert await caught_up(stub) == ["a", "b"]
    assert len(failures) == 1
    assert REGISTRY.get_sample_value(rebuilt) == before + 1


@pytest.fixture
async def words_folder(tmp_path: Path) -> Path:
    """Of a retriever that is closed again, in `tmp_path`; documents a and b had the word."""
    async with retriever(tmp_path) as stub:
        await create(stub, shards=1)
        await write(stub, said("a", "apple"), said("b", "apple"))
        await stub.DeleteDocuments(
            pb.RetrieverServiceDeleteDocumentsRequest(collection="books", document_ids=["b"])
        )
        assert await found(stub, "apple") == ["a"]
    (folder,) = (tmp_path / "segments").glob("*/*/lexical")
    return folder


@pytest.mark.parametrize("lost", ["", "meta.json", "sirdar.json"])
async def test_lost_words_come_from_the_store_again(
    tmp_path: Path, words_folder: Path, lost: str
) -> None:
    if lost:
        (words_folder / lost).unlink()
    else:
        shutil.rmtree(words_folder)
    async with retriever(tmp_path) as stub:
        await write(stub, said("c", "apple"))
        assert await caught_up(stub) == ["a", "c"]


@pytest.mark.parametrize("writes", [False, True])
async def test_a_damaged_description_of_words_is_mended(
    tmp_path: Path, words_folder: Path, *, writes: bool
) -> None:
    """It has no checksum: it is still JSON, but of another index."""
    meta = words_folder / "meta.json"
    meta.write_text(meta.read_text().replace('"words"', '"wordt"'))
    async with retriever(tmp_path) as stub:
        if writes:
            await write(stub, said("c", "apple"))
        assert await caught_up(stub) == (["a", "c"] if writes else ["a"])


async def test_words_that_claim_to_be_newer_than_they_are_are_built_again(
    tmp_path: Path, words_folder: Path
) -> None:
    """Without its checksum the changed manifest would pass, and document c never be found."""
    old = shutil.copytree(words_folder, tmp_path / "old")
    async with retriever(tmp_path) as stub:
        await write(stub, said("c", "apple"))
        assert await found(stub, "apple") == ["a", "c"]
    (newer,) = re.findall(rb'"covered_seq":\d+', (words_folder / "sirdar.json").read_bytes())
    shutil.rmtree(words_folder)
    old.rename(words_folder)
    manifest = words_folder / "sirdar.json"
    manifest.write_bytes(re.sub(rb'"covered_seq":\d+', newer, manifest.read_bytes()))
    async with retriever(tmp_path) as stub:
        assert await caught_up(stub) == ["a", "c"]
