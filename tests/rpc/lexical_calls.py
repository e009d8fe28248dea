"""Documents whose words count, and what a retriever finds by them."""

import asyncio
from typing import Any

from sirdar.v1 import common_pb2
from sirdar.v1 import retriever_pb2 as pb
from tests.rpc.retriever_calls import (
    Stub,
    document_write,
)


def said(document_id: str, *passages: str) -> pb.DocumentWrite:
    """A document of these passages; its title has no word of them."""
    text = " ".join(passages)
    spans, at = [], 0
    for passage in passages:
        spans.append((at, at + len(passage)))
        at += len(passage) + 1
    return document_write(document_id, text, spans=spans)


def words_request(*texts: str, **changed: Any) -> pb.SearchPassagesRequest:
    values: dict[str, Any] = {
        "collection": "books",
        "candidates": 10,
        "queries": [pb.PassageQuery(lexical=text) for text in texts],
        "consistency": common_pb2.CONSISTENCY_STRONG,
    }
    return pb.SearchPassagesRequest(**(values | changed))


async def answer(stub: Stub, request: pb.SearchPassagesRequest) -> list[list[tuple[str, int]]]:
    """Document and passage of each query's lexical candidates."""
    response = await stub.SearchPassages(request)
    assert not response.missing_lexical_shards
    return [
        [
            (result.passages[item.passage].document_id, result.passages[item.passage].index)
            for item in result.lexical
        ]
        for result in response.results
    ]


async def found(stub: Stub, text: str, **changed: Any) -> list[str]:
    (candidates,) = await answer(stub, words_request(text, **changed))
    return [document_id for document_id, _ in candidates]


async def caught_up(stub: Stub) -> list[str]:
    """What has the word when all words are searched."""
    for _ in range(600):
        response = await stub.SearchPassages(words_request("apple"))
        if not response.missing_lexical_shards:
            break
        await asyncio.sleep(0.05)
    return sorted(await found(stub, "apple"))
