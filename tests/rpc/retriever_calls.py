"""A retriever over gRPC and short ways to call it."""

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import grpc
import numpy as np
from google.rpc import status_pb2
from numpy.typing import NDArray

from services.retriever.__main__ import wire
from services.retriever.settings import RetrieverSettings
from services.runtime.server import serve
from sirdar.errors import SirdarError, from_rpc_error, from_status
from sirdar.v1 import collection_pb2, common_pb2, document_pb2
from sirdar.v1 import retriever_pb2 as pb
from sirdar.v1.retriever_pb2_grpc import RetrieverServiceStub

if TYPE_CHECKING:
    # Exists for type checkers only.
    from sirdar.v1.retriever_pb2_grpc import RetrieverServiceAsyncStub

    Stub = RetrieverServiceAsyncStub
else:
    Stub = RetrieverServiceStub

DIMENSIONS = 16
FINGERPRINT = "print"


def connect(channel: grpc.aio.Channel) -> Stub:
    return cast(Stub, RetrieverServiceStub(channel))


@asynccontextmanager
async def retriever(folder: Path, **settings: object) -> AsyncIterator[Stub]:
    """A served retriever; leaving the block drains and closes it."""
    given: dict[str, object] = {"data_folder": folder, "port": 0, "metrics_port": None}
    async with (
        serve("retriever", RetrieverSettings.model_validate(given | settings), wire) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield connect(channel)


def vector(seed: int | str, *, dtype: str = "<f4") -> common_pb2.Vector:
    random = np.random.default_rng(list(str(seed).encode()))
    return as_vector(random.standard_normal(DIMENSIONS).astype(dtype))


def as_vector(array: NDArray[np.floating]) -> common_pb2.Vector:
    dtype = common_pb2.DTYPE_FLOAT16 if array.itemsize == 2 else common_pb2.DTYPE_FLOAT32
    return common_pb2.Vector(data=array.tobytes(), dtype=dtype, dimensions=len(array))


def definition(name: str, **changed: object) -> collection_pb2.Collection:
    generation = {
        "space": common_pb2.EmbeddingSpace(
            model=common_pb2.ModelRef(name="model"),
            dimensions=DIMENSIONS,
            fingerprint=FINGERPRINT,
        ),
        **changed,
    }
    return collection_pb2.Collection(
        name=name,
        generation=collection_pb2.Generation(**generation),  # type: ignore[arg-type]
    )


async def create(stub: Stub, name: str = "books", **changed: object) -> collection_pb2.Collection:
    request = pb.RetrieverServiceCreateCollectionRequest(collection=definition(name, **changed))
    return (await stub.CreateCollection(request)).collection


def document_write(
    document_id: str, text: str = "one two", *, spans: Sequence[tuple[int, int]] = ((0, 7),)
) -> pb.DocumentWrite:
    """A document whose passages have the vectors of "id/text/index"."""
    return pb.DocumentWrite(
        document=document_pb2.Document(id=document_id, title=f"About {document_id}", text=text),
        content_hash=text.encode()[:64],
        passages=[
            pb.EmbeddedPassageWrite(
                span=common_pb2.Span(start=start, end=end),
                vector=vector(f"{document_id}/{text}/{at}"),
            )
            for at, (start, end) in enumerate(spans)
        ],
    )


async def write(
    stub: Stub, *writes: pb.DocumentWrite, collection: str = "books"
) -> list[document_pb2.WriteReceipt]:
    """Receipts of writes that must all succeed."""
    request = pb.WriteDocumentsRequest(
        collection=collection, writes=writes, fingerprint=FINGERPRINT
    )
    outcomes = (await stub.WriteDocuments(request)).outcomes
    assert all(outcome.HasField("receipt") for outcome in outcomes), outcomes
    return [outcome.receipt for outcome in outcomes]


async def write_fault(stub: Stub, item: pb.DocumentWrite) -> SirdarError:
    """What is wrong with a write; a good one beside it must succeed."""
    request = pb.WriteDocumentsRequest(
        collection="books", writes=[document_write("good"), item], fingerprint=FINGERPRINT
    )
    good, bad = (await stub.WriteDocuments(request)).outcomes
    assert good.HasField("receipt")
    return fault(bad.error)


def fault(status: status_pb2.Status) -> SirdarError:
    assert status.code, "nothing is wrong"
    return from_status(status)


def search_request(*vectors: common_pb2.Vector, **changed: object) -> pb.SearchPassagesRequest:
    values: dict[str, object] = {
        "collection": "books",
        "candidates": 10,
        "fingerprint": FINGERPRINT,
        "queries": [pb.PassageQuery(vector=item) for item in vectors],
    }
    return pb.SearchPassagesRequest(**(values | changed))  # type: ignore[arg-type]


async def refusal(call: Awaitable[object]) -> SirdarError:
    """The error of a call that must fail."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)
    raise AssertionError("the call succeeded")


def field_of(error: SirdarError) -> str:
    (violation,) = error.fields
    return violation.field
