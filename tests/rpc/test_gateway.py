"""What the gateway makes of tiers that fail, change or answer in part."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytest

from gateway.__main__ import wire
from gateway.settings import GatewaySettings
from services.runtime.server import serve
from sirdar.client import AsyncClient, ConditionalDocument, Document
from sirdar.client.documents import IndexOutcome
from sirdar.errors import (
    Aborted,
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from tests.rpc.tier_doubles import EmbedderDouble, RetrieverDouble, serving_tiers


@dataclass
class Gateway:
    client: AsyncClient
    embedder: EmbedderDouble
    retriever: RetrieverDouble

    async def index(self, *documents: Document | ConditionalDocument) -> list[IndexOutcome]:
        return [outcome async for outcome in self.client.index("notes", documents)]


@asynccontextmanager
async def running(
    index_patience_seconds: float = 15, max_index_streams: int = 64
) -> AsyncIterator[Gateway]:
    embedder, retriever = EmbedderDouble(), RetrieverDouble()
    async with serving_tiers(embedder, retriever) as (embedder_address, retriever_address):
        gateway_settings = GatewaySettings(
            port=0,
            metrics_port=None,
            http_port=None,
            embedder_address=embedder_address,
            retriever_addresses=(retriever_address,),
            index_patience_seconds=index_patience_seconds,
            max_index_streams=max_index_streams,
        )
        async with (
            serve("gateway", gateway_settings, wire) as server,
            AsyncClient(f"127.0.0.1:{server.port}") as client,
        ):
            yield Gateway(client, embedder, retriever)


def note(identity: str, text: str = "text") -> Document:
    return Document(id=identity, text=text)


async def test_passages_collapse_to_documents_by_their_best() -> None:
    async with running() as gateway:
        found = await gateway.client.search("notes", "question", top_k=2)
        assert [(item.document_id, round(item.score, 3)) for item in found] == [
            ("b", 0.9),
            ("a", 0.8),
        ]
        assert found.results[1].snippet.passage_index == 1
        assert found.results[1].matched_passages == 2


async def test_a_partial_answer_says_so_or_is_refused() -> None:
    async with running() as gateway:
        gateway.retriever.coverage.shards_answered = 1
        gateway.retriever.coverage.missing_shards.append(1)
        found = await gateway.client.search("notes", "question")
        assert not found.coverage.complete
        assert [item.reason for item in found.degraded] == ["shard_unreachable"]
        with pytest.raises(Unavailable) as refused:
            await gateway.client.search("notes", "question", require_complete=True)
        assert refused.value.reason == "INCOMPLETE"


async def test_a_collection_made_anew_in_another_space_is_read_again() -> None:
    async with running() as gateway:
        await gateway.client.search("notes", "question")
        gateway.embedder.fingerprint = gateway.retriever.fingerprint = "f2"
        found = await gateway.client.search("notes", "question")
        assert found.space.fingerprint == "f2"


async def test_an_embedder_with_another_model_is_a_failed_precondition() -> None:
    async with running() as gateway:
        gateway.embedder.fingerprint = "f2"
        with pytest.raises(FailedPrecondition) as refused:
            await gateway.client.search("notes", "question")
        assert refused.value.reason == "SPACE_MISMATCH"


async def test_indexing_waits_for_an_overloaded_tier() -> None:
    async with running() as gateway:
        busy = ResourceExhausted("full", retry_after=timedelta(milliseconds=5))
        gateway.embedder.failures = [busy, busy]
        gateway.retriever.write_failures = [busy]
        outcomes = await gateway.index(note("a"), note("b"))
        assert all(outcome.ok for outcome in outcomes)
        assert [write.document.id for write in gateway.retriever.writes] == ["a", "b"]


async def test_index_streams_beyond_the_limit_are_refused_until_one_ends() -> None:
    """Each holds megabytes: without a bound callers could take all memory."""
    async with running(max_index_streams=1) as gateway:
        more = asyncio.Event()

        async def slowly() -> AsyncIterator[Document]:
            yield note("a")
            await more.wait()

        first = gateway.client.index("notes", slowly())
        assert (await anext(first)).ok
        with pytest.raises(ResourceExhausted) as refused:
            async for _ in gateway.client.index("notes", [note("b")], patience_seconds=0):
                pass
        assert refused.value.retry_after is not None
        more.set()
        assert [outcome async for outcome in first] == []
        # The client tries again for as long as its patience lasts.
        assert [outcome.ok for outcome in await gateway.index(note("b"))] == [True]


async def test_long_documents_are_embedded_one_after_the_other() -> None:
    """All at once none would be done in time: 2 MiB take a slow machine a minute."""
    async with running() as gateway:
        gateway.embedder.delay_seconds = 0.05
        size = 3 * 2**19
        documents = [note(f"d{number}", "word " * (size // 5)) for number in range(5)]
        outcomes = await gateway.index(*documents, note("short"))
        assert all(outcome.ok for outcome in outcomes)
        assert size < gateway.embedder.most_bytes < 2 * size


async def test_a_full_disk_refuses_each_document_by_name() -> None:
    async with running() as gateway:
        full = ResourceExhausted("the disk is full", reason="STORE_FULL")
        gateway.retriever.write_failures = [full]
        (outcome,) = await gateway.index(note("a"))
        assert outcome.error is not None
        assert outcome.error.reason == "STORE_FULL"
        (outcome,) = await gateway.index(note("a"))
        assert outcome.ok


async def test_a_conditional_write_is_not_repeated_blindly() -> None:
    async with running() as gateway:
        gateway.retriever.write_failures = [Unavailable("went away")]
        outcomes = await gateway.index(ConditionalDocument(note("a"), 0), note("b"))
        # "b" may have been in a batch of its own; "a" was in the one that failed.
        assert outcomes[0].error is not None
        assert outcomes[0].error.reason == "OUTCOME_UNKNOWN"
        assert outcomes[1].ok
        assert "a" not in {write.document.id for write in gateway.retriever.writes}


async def test_unchanged_documents_are_not_embedded_again() -> None:
    async with running() as gateway:
        await gateway.index(note("a"))
        await gateway.index(note("a"), note("b"))
        assert gateway.embedder.embedded == ["a", "b"]
        assert [write.keep_passages for write in gateway.retriever.writes] == [False, True, False]


async def test_a_document_that_changed_under_the_check_is_embedded_after_all() -> None:
    async with running() as gateway:
        await gateway.index(note("a"))
        gateway.retriever.outcome_of["a"] = [
            FailedPrecondition("the text is another", reason="CONTENT_CHANGED")
        ]
        (outcome,) = await gateway.index(note("a"))
        assert outcome.ok
        assert gateway.embedder.embedded == ["a", "a"]
        assert not gateway.retriever.writes[-1].keep_passages


async def test_errors_of_one_document_stay_with_it() -> None:
    async with running() as gateway:
        gateway.embedder.refused_ids["b"] = InvalidArgument("cannot embed this")
        gateway.retriever.outcome_of["c"] = [Aborted("version")]
        outcomes = await gateway.index(note("a"), note("b"), note("c"), note("d"))
        assert [type(outcome.error) for outcome in outcomes] == [
            type(None),
            InvalidArgument,
            Aborted,
            type(None),
        ]


async def test_errors_speak_of_the_callers_document_not_of_its_place_in_a_batch() -> None:
    async with running() as gateway:
        gateway.embedder.refused_ids["b"] = InvalidArgument.field("documents[1].text", "is odd")
        gateway.retriever.outcome_of["c"] = [
            InvalidArgument.field("writes[0].document.metadata", "has too many keys")
        ]
        outcomes = await gateway.index(note("a"), note("b"), note("c"))
        errors = [outcome.error for outcome in outcomes[1:]]
        assert [error and error.message for error in errors] == [
            "document.text is odd",
            "document.metadata has too many keys",
        ]
        assert [error and error.fields[0].field for error in errors] == [
            "document.text",
            "document.metadata",
        ]


async def test_a_tier_that_stays_away_ends_the_stream_with_its_name() -> None:
    async with running(index_patience_seconds=0.2) as gateway:
        gateway.retriever.write_failures = [Unavailable("gone")] * 1_000
        with pytest.raises(Unavailable):
            async for _ in gateway.client.index("notes", [note("a")], patience_seconds=0.1):
                pass
