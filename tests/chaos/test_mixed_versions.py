"""The tiers of the commit before and those of this one, together over one store."""

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sirdar.client import AsyncClient, Consistency, Document
from tests.chaos import older
from tests.chaos.cluster.cluster import configured, with_settings
from tests.chaos.cluster.members import Processes, members

_OLDER, _NEWER = "0", "1"
_TEXTS = {"tide": "The moon raises the sea twice a day.", "bread": "Yeast makes the dough rise."}


@pytest.fixture
async def gateways(tmp_path: Path, postgres_url: str) -> AsyncIterator[dict[str, str]]:
    """The address of a newer gateway before the older tiers, and of an older one before the newer
    tiers, by what they are; both retrievers have all shards of the same store."""
    try:
        environment = older.build(tmp_path / "older")
    except older.NoOlder as reason:
        pytest.skip(f"NO MIXED VERSIONS: {reason}")
    kinds = ("retriever", "embedder", "gateway")
    names = [f"{kind}-{age}" for age in (_OLDER, _NEWER) for kind in kinds]
    parts = configured(members(names), tmp_path, postgres_url, replication=2)
    for age, other in ((_OLDER, _NEWER), (_NEWER, _OLDER)):
        gateway = parts[f"gateway-{age}"]
        parts[gateway.name] = with_settings(
            gateway,
            RETRIEVER_ADDRESSES=f'["{parts[f"retriever-{other}"].address}"]',
            EMBEDDER_ADDRESS=parts[f"embedder-{other}"].address,
        )
    processes = Processes(tmp_path)
    try:
        for name in names:
            member = parts[name]
            if name.endswith(_OLDER):
                member = dataclasses.replace(member, environment=environment)
            processes.start(member)
            if name == f"retriever-{_OLDER}":
                # The newer one finds a store that the older one made, and uses.
                await processes.serving(member)
        for name in names:
            await processes.serving(parts[name])
        yield {name: parts[f"gateway-{name}"].address for name in (_OLDER, _NEWER)}
        assert processes.faults == []
    finally:
        processes.kill_all()


async def found(client: AsyncClient, query: str) -> list[str]:
    answer = await client.search("notes", query, consistency=Consistency.STRONG)
    assert answer.coverage.complete
    assert not answer.degraded
    return [item.document_id for item in answer]


async def test_older_and_newer_tiers_index_search_and_delete_together(
    gateways: dict[str, str],
) -> None:
    async with AsyncClient(gateways[_OLDER]) as older_, AsyncClient(gateways[_NEWER]) as newer:
        await newer.create_collection("notes", schema={"by": "keyword"})
        for client, by in ((older_, "older"), (newer, "newer")):
            documents = [
                Document(f"{by}-{word}", text, metadata={"by": by}) for word, text in _TEXTS.items()
            ]
            assert [outcome.ok async for outcome in client.index("notes", documents)] == [True] * 2
        for client in (older_, newer):
            best = await found(client, "why does the ocean go up and down?")
            assert {*best[:2]} == {"older-tide", "newer-tide"}
            assert len(best) == 4
            assert (await client.get_document("notes", "older-bread")).document.metadata == {
                "by": "older"
            }
        await older_.delete_documents("notes", ["newer-tide"])
        deleted = await newer.delete_by_filter("notes", 'by = "older"')
        assert deleted.documents == 2
        for client in (older_, newer):
            assert await found(client, "dough") == ["newer-bread"]
