"""What a retriever shows, for comparing it with another of the same store."""

from sirdar.v1 import common_pb2
from sirdar.v1 import retriever_pb2 as pb
from tests.rpc.retriever_calls import Stub, document_write, search_request, vector


async def everything(stub: Stub) -> dict[str, tuple[int, str]]:
    """By an exact strong search of all and by the list: the same documents."""
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
