"""Modes, filters and deletion by filter through a gateway to a real retriever, and its words."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.__main__ import wire
from gateway.settings import GatewaySettings
from services.retriever.__main__ import wire as wire_retriever
from services.retriever.settings import RetrieverSettings
from services.runtime.server import serve
from sirdar.client import AsyncClient, Consistency, Diversity, Document, Grouping
from sirdar.errors import InvalidArgument, NotFound, Unavailable, Unimplemented
from sirdar.v1 import embedder_pb2_grpc
from tests.rpc.tier_doubles import EmbedderDouble, serving

SCHEMA = {
    "kind": "keyword",
    "tags": "keyword_list",
    "year": "integer",
    "price": "float",
    "draft": "boolean",
    "date": "timestamp",
    "about": "text",
}
DOCUMENTS = [
    Document(
        "tides",
        "The moon pulls the sea.",
        metadata={"kind": "news", "year": 2019, "price": 2.0, "about": "Deep water of the sea"},
    ),
    Document(
        "bread",
        "Let the dough rest before you bake.",
        metadata={"kind": "recipe", "year": 2024, "tags": ["food", "slow"], "draft": True},
    ),
    Document("ships", "Ships leave the harbour at dawn.", metadata={"kind": "news", "year": 2024}),
]


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[AsyncClient, EmbedderDouble]]:
    embedder = EmbedderDouble(word="sea")
    add = embedder_pb2_grpc.add_EmbedderServiceServicer_to_server
    settings = RetrieverSettings(data_folder=folder, port=0, metrics_port=None)
    async with (
        serving(add, embedder, "sirdar.v1.EmbedderService") as embedder_address,
        serve("retriever", settings, wire_retriever) as retriever,
    ):
        gateway_settings = GatewaySettings(
            port=0,
            metrics_port=None,
            http_port=None,
            embedder_address=embedder_address,
            retriever_addresses=(f"127.0.0.1:{retriever.port}",),
        )
        async with (
            serve("gateway", gateway_settings, wire) as server,
            AsyncClient(f"127.0.0.1:{server.port}") as client,
        ):
            await client.create_collection("notes", schema=SCHEMA)
            async for outcome in client.index("notes", DOCUMENTS):
                assert outcome.ok, outcome.error
            yield client, embedder


async def found(client: AsyncClient, query: str = "words", **options: object) -> list[str]:
    answer = await client.search(
        "notes",
        query,
        consistency=Consistency.STRONG,
        **options,  # type: ignore[arg-type]
    )
    assert not answer.degraded
    return [item.document_id for item in answer]


async def test_words_find_and_go_on_without_the_embedder(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, embedder):
        assert await found(client, "harbours", mode="lexical") == ["ships"]
        hybrid = await client.search("notes", "harbour", consistency=Consistency.STRONG)
        assert hybrid.results[0].document_id == "ships"
        assert hybrid.results[0].lexical_score is not None
        assert {item.document_id for item in hybrid} == {"tides", "bread", "ships"}
        embedder.failures = [Unavailable("away")] * 50
        assert await found(client, "dough", mode="lexical") == ["bread"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('kind = "news"', {"tides", "ships"}),
        ('kind = "news" AND year >= 2020', {"ships"}),
        ("price = 2", {"tides"}),
        ("price >= 1", {"tides"}),
        ("draft = true", {"bread"}),
        ("NOT draft = true", {"tides", "ships"}),
        ("year != 2024", {"tides"}),
        ('tags IN ("slow", "quick")', {"bread"}),
        ('kind NOT IN ("recipe")', {"tides", "ships"}),
        ("year BETWEEN 2020 AND 2030", {"bread", "ships"}),
        ("exists(tags) OR exists(price)", {"tides", "bread"}),
        ('about CONTAINS "SEA deep"', {"tides"}),
        ("date > 2020-01-01", set()),
    ],
)
async def test_filters_leave_what_meets_them(tmp_path: Path, text: str, expected: set[str]) -> None:
    async with running(tmp_path) as (client, _):
        for mode in ("dense", "hybrid"):
            assert set(await found(client, mode=mode, filter=text)) == expected
        assert set(await found(client, "sea dough ships", mode="lexical", filter=text)) == expected


async def test_documents_like_one_that_differ_from_each_other_by_their_kind(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as (client, embedder):
        before = len(embedder.callers)
        alike = await client.search(
            "notes", like="ships", mode="dense", consistency=Consistency.STRONG
        )
        assert {item.document_id for item in alike} == {"bread", "tides"}
        assert [round(item.score, 3) for item in alike] == [1.0, 1.0]
        assert len(embedder.callers) == before
        different = await client.search(
            "notes",
            "bread",
            mode="dense",
            diversify=Diversity(0.1),
            group=Grouping("kind"),
            explain=True,
            consistency=Consistency.STRONG,
        )
        assert not different.degraded
        assert {item.group for item in different} == {"news", "recipe"}
        assert [stage.stage for stage in different.results[0].explanation] == [
            "dense",
            "collapse",
            "diversify",
            "group",
        ]
        with pytest.raises(NotFound) as refused:
            await client.search("notes", like="gone")
        assert refused.value.message.startswith("like.document_id")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("colour = 1", "filter.equals.field"),
        ('year = "new"', "filter.equals.value"),
        ("exists(year) AND kind > 3", "filter.all_of.filters[1].range"),
    ],
)
async def test_what_the_schema_has_not_is_refused_by_its_path(
    tmp_path: Path, text: str, field: str
) -> None:
    async with running(tmp_path) as (client, _):
        with pytest.raises(InvalidArgument) as refused:
            await found(client, filter=text)
        assert refused.value.fields[0].field.startswith(field)


async def test_a_collection_without_words(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        await client.create_collection("plain", lexical=False)
        assert (await client.search("plain", "anything")).degraded == ()
        with pytest.raises(Unimplemented) as refused:
            await client.search("plain", "anything", mode="hybrid")
        assert refused.value.reason == "LEXICAL_NOT_AVAILABLE"
