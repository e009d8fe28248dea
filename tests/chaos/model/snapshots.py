"""Snapshots of sealed segments."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

from sirdar.errors import NotFound, ResourceExhausted, SirdarError
from sirdar.v1 import retriever_pb2 as pb
from tests.chaos.model.oracle import Violation
from tests.chaos.model.world import World, store_full


@dataclass(frozen=True)
class Snapshot:
    lane: str
    slot: int

    async def perform(self, world: World) -> str:
        async with world.collection(self.slot) as found:
            request = pb.CreateSnapshotRequest(
                namespace=found.slot.namespace, collection=found.slot.name
            )
            world.under_way["snapshot"] += 1
            try:
                taken = await world.call(lambda stub: stub.CreateSnapshot, request)
            except NotFound as fault:
                return found.missing(fault)
            except ResourceExhausted as fault:
                return store_full(world, fault)
            except SirdarError as fault:
                if found.model is not None and found.model.doomed:
                    return f"{type(fault).__name__} of a collection that goes"
                raise
            finally:
                world.under_way["snapshot"] -= 1
            model = found.model
            if model is None or len(taken.covered_seqs) != model.definition.shards:
                raise Violation(f"{model}: the snapshot is {taken}")
            manifest = Path(urlparse(taken.url).path)
            if not model.doomed and not await asyncio.to_thread(manifest.is_file):
                raise Violation(f"{model}: there is no {taken.url}")
            world.counts["snapshots"] += 1
            return f"{taken.bytes} bytes"
