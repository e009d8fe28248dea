"""Documents go in, questions are answered, by separate processes."""

from collections.abc import Iterator

import pytest

from services.stack.stack import Stack
from sirdar.client import Client, ConditionalDocument, Consistency, Document
from sirdar.errors import Aborted, NotFound

TEXTS = {
    "tide": "The moon's gravity raises the sea twice a day.",
    "bread": "Yeast makes the dough rise before it is baked.",
    "violin": "A bow drawn over strings makes them sing.",
    "glacier": "Snow that never melts is pressed into a river of ice.",
}


@pytest.fixture(autouse=True)
def collection(client: Client) -> Iterator[str]:
    client.create_collection("notes", shards=3)
    yield "notes"
    client.delete_collection("notes")


def write(client: Client, *documents: Document) -> None:
    for outcome in client.index("notes", documents):
        assert outcome.error is None, outcome.error


def corpus() -> list[Document]:
    return [Document(id=key, text=text, metadata={"n": len(text)}) for key, text in TEXTS.items()]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("why does the ocean go up and down?", "tide"),
        ("how is a loaf prepared?", "bread"),
        ("which instrument is played by rubbing?", "violin"),
        ("frozen mountains that move slowly", "glacier"),
    ],
)
@pytest.mark.parametrize("exact", [False, True])
def test_questions_find_documents_that_share_no_words(
    client: Client, question: str, answer: str, exact: bool
) -> None:
    write(client, *corpus())
    found = client.search("notes", question, exact=exact)
    assert found.results[0].document_id == answer
    assert found.results[0].snippet.text == TEXTS[answer]
    assert found.results[0].metadata == {"n": len(TEXTS[answer])}
    assert [result.score for result in found] == sorted(
        (result.score for result in found), reverse=True
    )


def test_the_answer_says_how_it_came_about(client: Client) -> None:
    write(client, *corpus())
    found = client.search("notes", "the sea", consistency=Consistency.STRONG)
    assert {timing.stage for timing in found.timings} == {"embed", "retrieve", "rerank", "total"}
    assert all(timing.duration.total_seconds() > 0 for timing in found.timings)
    assert found.coverage.complete
    assert found.coverage.shards_asked == 3
    assert found.space == client.get_collection("notes").generation.space
    assert found.space.dimensions == 384
    assert found.degraded == ()


def test_the_last_sentence_of_a_long_document_is_found_with_its_span(client: Client) -> None:
    filler = "The committee met again and postponed its decision about the budget. " * 150
    needle = "Penguins huddle together to keep warm in the polar night."
    text = f"{filler}{needle}"
    write(client, *corpus(), Document(id="minutes", title="Minutes", text=text))
    best = client.search("notes", "how do penguins keep warm?").results[0]
    assert best.document_id == "minutes"
    assert needle in best.snippet.text
    assert text[best.snippet.start : best.snippet.end] == best.snippet.text
    assert best.snippet.passage_index > 0


def test_a_document_appears_once_however_many_passages_match(client: Client) -> None:
    write(client, *corpus(), Document(id="sea", text="The tide of the sea rises and falls. " * 200))
    found = client.search("notes", "tide of the sea", top_k=4)
    identities = [result.document_id for result in found]
    assert len(identities) == len(set(identities)) == 4
    matched = {result.document_id: result.matched_passages for result in found}
    assert matched["sea"] > 1
    assert matched["tide"] == 1


def test_a_long_document_does_not_crowd_out_the_others(client: Client) -> None:
    """Its passages alone are more than the candidates that are asked for at first."""
    long = Document(id="sea", text="The tide of the sea rises and falls. " * 1_500)
    write(client, *corpus(), long)
    assert client.get_collection("notes").passages > 4 + 3 * 4
    found = client.search("notes", "tide of the sea rises and falls", top_k=4)
    assert len({result.document_id for result in found}) == 4


def test_an_update_replaces_and_a_delete_removes(client: Client) -> None:
    write(client, *corpus())
    write(client, Document(id="tide", text="Bees make honey from nectar."))
    assert client.search("notes", "insects and sweets").results[0].document_id == "tide"
    assert client.get_document("notes", "tide").receipt.version == 2
    outcomes = client.delete_documents("notes", ["tide", "nobody"])
    assert [outcome.existed for outcome in outcomes] == [True, False]
    found = client.search("notes", "insects and sweets", top_k=10)
    assert {result.document_id for result in found} == set(TEXTS) - {"tide"}
    with pytest.raises(NotFound):
        client.get_document("notes", "tide")


def test_unchanged_text_is_not_embedded_again_but_metadata_is_kept(client: Client) -> None:
    write(client, *corpus())
    again = Document(id="tide", text=TEXTS["tide"], metadata={"topic": "physics"})
    receipts = [outcome.receipt for outcome in client.index("notes", [again])]
    assert receipts[0] is not None
    assert receipts[0].unchanged
    assert receipts[0].version == 2
    best = client.search("notes", "why does the ocean go up and down?").results[0]
    assert best.metadata == {"topic": "physics"}


def test_the_last_of_two_documents_with_one_id_wins_and_it_is_said(client: Client) -> None:
    documents = [
        Document(id="a", text="first text about ships"),
        Document(id="b", text="something else"),
        Document(id="a", text="second text about trains"),
    ]
    outcomes = list(client.index("notes", documents))
    assert [outcome.duplicate for outcome in outcomes] == [False, False, True]
    assert client.get_document("notes", "a").document.text == "second text about trains"


def test_a_session_sees_its_own_write(client: Client) -> None:
    for number in range(20):
        text = f"Ship number {number} sails at dawn."
        outcome = next(client.index("notes", [Document(id=f"ship{number}", text=text)]))
        assert outcome.receipt is not None
        found = client.search(
            "notes",
            text,
            consistency=Consistency.SESSION,
            tokens=[outcome.receipt.consistency_token],
        )
        assert found.results[0].document_id == f"ship{number}"


def test_a_conditional_write_needs_the_right_version(client: Client) -> None:
    document = Document(id="tide", text=TEXTS["tide"])
    outcomes = [
        next(client.index("notes", [ConditionalDocument(document, version)]))
        for version in (0, 0, 1, 1)
    ]
    assert [outcome.ok for outcome in outcomes] == [True, False, True, False]
    assert isinstance(outcomes[1].error, Aborted)


def test_documents_are_listed_in_order_over_pages(client: Client) -> None:
    write(client, *(Document(id=f"{number:03}", text=f"note {number}") for number in range(25)))
    listed = [stored.document.id for stored in client.list_documents("notes", page_size=10)]
    assert listed == [f"{number:03}" for number in range(25)]


def test_collections_are_apart_and_namespaces_too(stack: Stack, client: Client) -> None:
    write(client, *corpus())
    client.create_collection("other")
    try:
        assert len(client.search("other", "the sea")) == 0
        assert {item.name for item in client.list_collections()} >= {"notes", "other"}
        counted = client.get_collection("notes")
        assert (counted.documents, counted.passages) == (4, 4)
    finally:
        client.delete_collection("other")
    with Client(stack.address, namespace="tenant-2") as tenant:
        with pytest.raises(NotFound):
            tenant.search("notes", "the sea")
        assert list(tenant.list_collections()) == []
