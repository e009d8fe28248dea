"""The whole of what is stored and served against the oracle, while nothing else goes on."""

import asyncio
import time
from collections.abc import Callable, Iterable

from sirdar.errors import NotFound
from sirdar.v1 import retriever_pb2 as pb
from tests.chaos.model.collections import check_definition
from tests.chaos.model.content import WORDS
from tests.chaos.model.oracle import CollectionModel, Violation
from tests.chaos.model.reads import explain_all, list_documents
from tests.chaos.model.searches import STRONG, Search
from tests.chaos.model.world import Found, Slot, World

SETTLE_SECONDS = 120.0
_POLL_SECONDS = 0.05
_EVERYTHING = 10_000


async def audit(world: World, number: int) -> None:
    """Raises Violation. `number` chooses queries and page sizes."""
    for namespace in sorted({slot.namespace for slot in world.slots}):
        await _check_collections(world, namespace)
    for place, slot in enumerate(world.slots):
        if slot.current is not None:
            await _check_documents(world, slot, slot.current, number)
            await _check_searches(world, place, slot.current, number)


async def settle(world: World) -> None:
    """Until everything that is full is sealed and merged, and all words are searched."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        shards = (await world.call(lambda stub: stub.ListShards, pb.ListShardsRequest())).shards
        late = [shard for shard in shards if shard.growing_segments > 1 or _words_behind(shard)]
        if not late:
            return
        if time.monotonic() > deadline:
            raise Violation(f"these do not settle: {late}")
        await asyncio.sleep(_POLL_SECONDS)


async def _check_collections(world: World, namespace: str) -> None:
    """Which collections there are; of one that was created or deleted by a lost call, whether."""
    request = pb.RetrieverServiceListCollectionsRequest(namespace=namespace)
    listed = await world.call(lambda stub: stub.ListCollections, request)
    seen = {item.name: item for item in listed.collections}
    for slot in world.slots:
        if slot.namespace != namespace:
            continue
        item = seen.pop(slot.name, None)
        if slot.unsure is not None:
            slot.current, slot.unsure = slot.unsure if item is not None else None, None
        if (item is None) != (slot.current is None):
            raise Violation(f"{slot.current} should be there, but {item} is")
        if slot.current is not None and item is not None:
            slot.current.doomed = False
            check_definition(slot.current, item)
    if seen:
        raise Violation(f"nobody created {sorted(seen)}")


async def _check_documents(world: World, slot: Slot, model: CollectionModel, number: int) -> None:
    """Each document, the counts, and how far the log goes."""
    found = Found(slot, model)
    started_ns = time.time_ns()
    documents = await list_documents(world, found, (1000, 100, 37)[number % 3])
    known = model.known(started_ns)
    for document, explained in explain_all(model, documents, known).items():
        model.observed(document, explained)
    model.settle_lost()
    # What has expired is not shown any more; it is deleted, and not counted, within seconds.
    deadline = time.monotonic() + SETTLE_SECONDS
    while fault := await _miscounted(world, model):
        if time.monotonic() > deadline:
            raise Violation(fault)
        await asyncio.sleep(_POLL_SECONDS)
    await _check_shards(world, model)


async def _miscounted(world: World, model: CollectionModel) -> str:
    """What is wrong with the counts of documents, passages and vectors; empty: nothing."""
    request = pb.RetrieverServiceGetCollectionRequest(namespace=model.namespace, name=model.name)
    collection = (await world.call(lambda stub: stub.GetCollection, request)).collection
    asked = pb.ListShardsRequest(namespace=model.namespace, collection=model.name)
    shards = (await world.call(lambda stub: stub.ListShards, asked)).shards
    vectors = sum(shard.vectors for shard in shards)
    counted = (collection.documents, collection.passages, vectors)
    least, most = _counts(model, min), _counts(model, max)
    if all(low <= seen <= high for low, seen, high in zip(least, counted, most, strict=True)):
        return ""
    return f"{model} counts {counted} documents, passages and vectors, not {least} to {most}"


async def _check_shards(world: World, model: CollectionModel) -> None:
    asked = pb.ListShardsRequest(namespace=model.namespace, collection=model.name)
    shards = (await world.call(lambda stub: stub.ListShards, asked)).shards
    if [shard.shard for shard in shards] != list(range(model.definition.shards)):
        raise Violation(f"{model} has shards {shards}")
    for shard in shards:
        if shard.state != pb.SHARD_STATE_READY:
            raise Violation(f"{model}: {shard} is not ready")
        if min(shard.applied_seq, shard.committed_seq) < model.last_seq(shard.shard):
            raise Violation(f"{model}: {shard} has forgotten {model.last_seq(shard.shard)}")


async def _check_searches(world: World, place: int, model: CollectionModel, number: int) -> None:
    """Everything is found, by vectors and by words, and once."""
    words = WORDS[number % len(WORDS)]
    for candidates, exact in ((_EVERYTHING, True), (10, True), (10, False)):
        search = Search(
            lane="audit",
            slot=place,
            vectors=(number, number + 1),
            words=(words, "") if model.definition.lexical else (),
            candidates=candidates,
            exact=exact,
            consistency=STRONG,
        )
        try:
            await search.perform(world)
        except NotFound as fault:
            raise Violation(f"{model} is not there: {fault}") from fault


def _counts(model: CollectionModel, choose: Callable[[Iterable[int]], int]) -> tuple[int, ...]:
    """Documents, passages and vectors, the fewest or the most that there may be."""
    known = model.known(time.time_ns()).values()
    documents = sum(choose(int(state.live) for state in states) for states in known)
    passages = sum(choose(state.passages for state in states) for states in known)
    return documents, passages, passages


def _words_behind(shard: pb.ShardStatus) -> bool:
    return shard.HasField("lexical_seq") and shard.lexical_seq < shard.committed_seq
