"""Collections and documents over HTTP, through a running stack."""

from collections.abc import Iterator

import httpx
import pytest

from services.stack.stack import Stack

NAME = "over-http"


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    url = f"http://{stack.http_address}"
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        body = {"collection": {"name": NAME, "labels": {"crew": "a"}}}
        assert client.post("/collections", json=body).status_code == 201
        yield client
        client.delete(f"/collections/{NAME}")


def reason_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["reason"]


def test_a_collection_lives_and_dies(http: httpx.Client) -> None:
    path = f"/collections/{NAME}"
    got = http.get(path).json()["collection"]
    assert (got["name"], got["labels"], got["documents"]) == (NAME, {"crew": "a"}, "0")
    assert got["generation"]["space"]["dimensions"] == 384
    assert NAME in [each["name"] for each in http.get("/collections").json()["collections"]]
    assert reason_of(http.post("/collections", json={"collection": {"name": NAME}}))[0] == 409

    changed = http.patch(path, json={"collection": {"description": "Notes."}}).json()["collection"]
    assert (changed["description"], changed["labels"]) == ("Notes.", {"crew": "a"})
    # A mask says more: what it names and the body does not have is emptied.
    body = {"collection": {}, "update_mask": "labels"}
    assert http.patch(path, json=body).json()["collection"]["labels"] == {}
    for wrong in ({"collection": {"documents": 3}}, {"collection": {"name": "x"}}, {"name": "x"}):
        assert http.patch(path, json=wrong).status_code == 400

    assert http.delete(path).json() == {}
    assert reason_of(http.get(path)) == (404, "COLLECTION_NOT_FOUND")


def test_documents_are_written_found_read_and_deleted(http: httpx.Client) -> None:
    text = "Ships leave the harbour at dawn."
    documents = [
        {"id": "notes/sea?", "text": text},
        {"id": "bread", "text": "Let the dough rest.", "metadata": {"year": {"int64_value": 2026}}},
    ]
    outcomes = http.post(f"/index?collection={NAME}", json=documents).json()["outcomes"]
    assert [outcome["receipt"]["version"] for outcome in outcomes] == ["1", "1"]

    query: dict[str, str | int] = {
        "q": "when do we sail?",
        "collection": NAME,
        "top_k": 1,
        "highlight": "true",
    }
    (found,) = http.get("/search", params=query).json()["results"]
    assert found["document_id"] == "notes/sea?"
    assert found["snippet"]["highlights"] == [{"start": 0, "end": 32}]

    one = http.get(f"/collections/{NAME}/documents/notes/sea%3F").json()["document"]
    assert one["document"]["text"] == text
    page = http.get(f"/collections/{NAME}/documents", params={"page_size": 1}).json()
    assert [each["document"]["id"] for each in page["documents"]] == ["bread"]
    assert page["documents"][0]["document"]["metadata"] == {"year": {"int64_value": "2026"}}
    token = {"page_token": page["next_page_token"]}
    rest = http.get(f"/collections/{NAME}/documents", params=token).json()
    assert [each["document"]["id"] for each in rest["documents"]] == ["notes/sea?"]
    wrong = http.get("/collections", params=token)
    assert wrong.status_code == 400

    (gone,) = http.delete(f"/collections/{NAME}/documents/notes/sea%3F").json()["outcomes"]
    assert gone["existed"]
    ids = {"document_ids": ["bread", "nothing"]}
    outcomes = http.delete(f"/collections/{NAME}/documents", params=ids).json()["outcomes"]
    assert [outcome["existed"] for outcome in outcomes] == [True, False]
    assert http.get(f"/collections/{NAME}/documents/bread").status_code == 404
