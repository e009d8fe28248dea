"""A read replica beside the retriever that it follows, and what both show."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sirdar.v1 import common_pb2
from sirdar.v1 import retriever_pb2 as pb
from tests.rpc.retriever_calls import Stub, document_write, retriever, search_request, vector


@dataclass(frozen=True)
class Pair:
    writer: Stub
    replica: Stub


@asynccontextmanager
async def following(folder: Path, name: str = "replica", **settings: object) -> AsyncIterator[Stub]:
    given = {"follow": folder / "writer", "seal_vectors": 32} | settings
    async with retriever(folder / name, **given) as stub:
        yield stub


@asynccontextmanager
async def paired(folder: Path) -> AsyncIterator[Pair]:
    async with retriever(folder / "writer") as writer, following(folder) as replica:
        yield Pair(writer, replica)


async def everything(stub: Stub) -> dict[str, tuple[int, str]]:
    """What it shows, by an exact strong search of all and by the list: the same documents."""
    request = search_request(
        vector(1), candidates=10_000, exact=True, consistency=common_pb2.CONSISTENCY_STRONG
    )
    (result,) = (await stub.SearchPassages(request)).results
    searched = {item.document_id: (item.version, item.text) for item in result.passages}
    listed = await stub.ListDocuments(
        pb.RetrieverServiceListDocumentsRequest(collection="books", page_size=1000)
    )
    assert {
        item.document.id: (item.receipt.version, item.document.text) for item in listed.documents
    } == searched
    return searched


def single(document_id: str, text: str) -> pb.DocumentWrite:
    return document_write(document_id, text, spans=((0, len(text)),))
