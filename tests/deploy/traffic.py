"""A little of everything that callers do, so that each metric has something to tell."""

import contextlib
import json
import urllib.parse
import urllib.request

from services.stack.stack import Stack
from sirdar.client import Client, Document
from sirdar.errors import SirdarError

COLLECTION = "books"
_TOPICS = ("the harbour at dawn", "bread and dough", "a steep mountain path", "rain in the city")


def prepare(client: Client) -> None:
    """More documents than a segment takes, so that one is sealed."""
    client.create_collection(COLLECTION, schema={"number": "integer"})
    documents = [
        Document(
            id=f"d{number}",
            text=f"Page {number} is about {_TOPICS[number % len(_TOPICS)]}.",
            metadata={"number": number},
        )
        for number in range(200)
    ]
    assert all(outcome.ok for outcome in client.index(COLLECTION, documents))


def one_round(stack: Stack, client: Client, number: int) -> None:
    """A few seconds of work; `number` makes its queries others than those of other rounds."""
    for topic in _TOPICS:
        client.search(COLLECTION, f"{topic}, {number}")
        client.search(COLLECTION, f"{topic}, {number}")
        client.search(COLLECTION, topic, mode="dense", filter=f"number >= {number}")
        client.search(COLLECTION, topic, mode="lexical", cache="none")
    # The same but for a space: what means nearly the same is answered from what is kept.
    for space in (" ", "  "):
        client.search(COLLECTION, f"where is{space}the harbour {number}", cache="semantic")
    list(client.index(COLLECTION, [Document(id=f"new{number}", text=f"A new page, {number}.")]))
    client.delete_documents(COLLECTION, [f"d{number}"])
    with contextlib.suppress(SirdarError):
        client.search(COLLECTION, f"no time for {number}", timeout_seconds=0.001)
    query = urllib.parse.urlencode({"collection": COLLECTION, "q": f"rain {number}"})
    with urllib.request.urlopen(f"http://{stack.http_address}/search?{query}") as response:
        assert json.load(response)["results"]
