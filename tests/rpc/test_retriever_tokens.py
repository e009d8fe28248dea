"""Tokens of writes that a read must see, and that there are not."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from shutil import copytree, rmtree

import pytest

from services.retriever.tokens import consistency_token, read_consistency_token
from sirdar.errors import InvalidArgument
from sirdar.v1 import common_pb2
from sirdar.v1 import retriever_pb2 as pb
from tests.rpc.retriever_calls import (
    Stub,
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
        await create(running)
        yield running


def reading(*tokens: str) -> pb.SearchPassagesRequest:
    return search_request(
        vector(1), consistency=common_pb2.CONSISTENCY_SESSION, consistency_tokens=tokens
    )


async def test_a_token_of_another_collection_is_refused(stub: Stub) -> None:
    await create(stub, "other")
    (receipt,) = await write(stub, document_write("d"), collection="other")
    error = await refusal(stub.SearchPassages(reading(receipt.consistency_token)))
    assert error.reason == "BAD_CONSISTENCY_TOKEN"


async def test_a_token_of_a_write_that_there_is_not_is_refused_at_once(stub: Stub) -> None:
    (receipt,) = await write(stub, document_write("d"))
    token = receipt.consistency_token
    position = read_consistency_token(token, "token")
    later = consistency_token(replace(position, seq=position.seq + 1))
    # It would wait for longer than the test may take.
    error = await refusal(stub.SearchPassages(reading(token, later), timeout=3600))
    assert isinstance(error, InvalidArgument)
    assert field_of(error) == "consistency_tokens[1]"
    assert error.reason == "BAD_CONSISTENCY_TOKEN"
    assert (await stub.SearchPassages(reading(token))).results[0].passages


async def test_tokens_from_before_a_backup_was_restored_are_refused(tmp_path: Path) -> None:
    folder, backup = tmp_path / "data", tmp_path / "backup"
    async with retriever(folder) as stub:
        await create(stub)
        (kept,) = await write(stub, document_write("d"))
    copytree(folder, backup)
    async with retriever(folder) as stub:
        (lost,) = await write(stub, document_write("d"))
    rmtree(folder)
    backup.rename(folder)
    async with retriever(folder) as stub:
        assert (await stub.SearchPassages(reading(kept.consistency_token))).results[0].passages
        error = await refusal(stub.SearchPassages(reading(lost.consistency_token), timeout=3600))
        assert field_of(error) == "consistency_tokens[0]"
