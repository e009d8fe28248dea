"""What the figures share: a loaded retriever, a no-op server, callers, the corpus."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import faiss
import psutil
import uvloop

from benchmarks.harness import noop
from benchmarks.harness.callers import Callers
from benchmarks.retriever import corpus
from benchmarks.retriever.client import Written, connected, write
from benchmarks.retriever.corpus import Corpus, make_corpus, write_messages
from benchmarks.retriever.local import LocalSegments
from benchmarks.retriever.memory import PeakMemory
from services.stack.stack import Stack
from services.stack.tiers import TIERS
from sirdar.v1 import retriever_pb2 as pb

RETRIEVER = [tier for tier in TIERS if tier.name == "retriever"]
COLLECTION = "bench"
_WRITES_IN_FLIGHT = 4
# Longer than the retriever waits before it seals what grows no more.
_SETTLED_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Scale:
    """How much and how long is measured."""

    vectors: int = 200_000
    burst: int = 100_000
    """Of them, written as fast as they are taken."""
    queries: int = 2_000
    turns: int = 5
    batched_queries: int = 8_192
    single_queries: int = 2_048
    noop_calls: int = 4_096
    filter_queries: int = 64
    """For each filter."""
    ingest_seconds: float = 20.0
    ingest_turns: int = 2
    delete_vectors: int = 40_000
    seal_vectors: int | None = None
    """None: the retriever's default."""


SHORT = Scale(
    vectors=12_000,
    burst=6_000,
    queries=500,
    turns=1,
    batched_queries=1_024,
    single_queries=512,
    noop_calls=1_024,
    filter_queries=8,
    ingest_seconds=3.0,
    ingest_turns=1,
    delete_vectors=12_000,
    seal_vectors=1_500,
)
"""To see that it runs; its numbers say little."""
FULL = Scale(vectors=1_000_000, delete_vectors=100_000)


@dataclass(frozen=True, slots=True)
class Load:
    """How the corpus was taken in."""

    burst: Written
    seconds: float
    """Until every vector was acknowledged."""
    settled_seconds: float
    """Until nothing was left to build."""
    peak_bytes: int


class Bench:
    """A retriever and a no-op server that run, and what measures them."""

    def __init__(self, stack: Stack, noop_stack: Stack, callers: Callers, scale: Scale) -> None:
        self.stack = stack
        self.callers = callers
        self.scale = scale
        self.address = stack.addresses["retriever"]
        self.noop_address = noop_stack.addresses[noop.TIER.name]
        self.say(f"drawing {scale.vectors} vectors")
        self.settled_seconds = _SETTLED_SECONDS
        self._created: list[str] = []
        self.corpus: Corpus = make_corpus(scale.vectors, scale.queries)

    @property
    def pid(self) -> int:
        """The retriever's."""
        return self.stack.process("retriever").pid

    @cached_property
    def load(self) -> Load:
        """The corpus in the retriever, all of it built, at first use."""
        return self._load()

    @contextmanager
    def local(self) -> Iterator[LocalSegments]:
        """The collection's segments as they are now, in this process."""
        growing = [self.corpus.vectors[:rows] for rows in self._growing_rows() if rows]
        segments = LocalSegments(self.segment_files(COLLECTION), growing)
        try:
            yield segments
        finally:
            segments.close()

    def segment_files(self, name: str) -> list[Path]:
        """The index files of a collection's sealed segments."""
        return sorted(self.segments_folder(name).rglob("*.faiss"))

    def segments_folder(self, name: str) -> Path:
        """Everything that is derived for the vectors of a collection."""
        folder = self.stack.layout.data_folder / "retriever" / "segments"
        # The store numbers generations as they come.
        return folder / str(1 + self._created.index(name))

    def create(self, name: str, shards: int = 0, index_kind: str = "") -> None:
        request = pb.RetrieverServiceCreateCollectionRequest(
            collection=corpus.collection(name, shards, index_kind)
        )
        uvloop.run(_create(self.address, request))
        self._created.append(name)

    def shards(self, name: str) -> pb.ListShardsResponse:
        return uvloop.run(_shards(self.address, name))

    def settle(self, name: str, timeout_seconds: float = 1800.0) -> None:
        """Waits until the retriever builds nothing any more."""
        until = time.monotonic() + timeout_seconds
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < _SETTLED_SECONDS:
            if time.monotonic() > until:
                raise RuntimeError(f"{name} was not built within {timeout_seconds:.0f} s")
            waits = any(shard.growing_segments > 1 for shard in self.shards(name).shards)
            if waits or psutil.Process(self.pid).children(recursive=True):
                quiet_since = time.monotonic()
            time.sleep(0.2)

    def say(self, line: str) -> None:
        print(line, flush=True)

    def _load(self) -> Load:
        scale = self.scale
        self.create(COLLECTION)
        began = time.monotonic()
        with PeakMemory(self.pid) as memory:
            first = write_messages(COLLECTION, self.corpus, range(scale.burst))
            started = time.monotonic()
            burst = self.callers.run(write, self.address, first, _WRITES_IN_FLIGHT)
            self.say(f"{scale.burst / burst.seconds:.0f} vectors/s in a burst of {scale.burst}")
            del first
            seconds = time.monotonic() - started
            for start in range(scale.burst, scale.vectors, 50_000):
                rows = range(start, min(start + 50_000, scale.vectors))
                rest = write_messages(COLLECTION, self.corpus, rows)
                seconds += self.callers.run(write, self.address, rest, _WRITES_IN_FLIGHT).seconds
            self.settle(COLLECTION)
        settled = time.monotonic() - began
        self.say(f"{scale.vectors} vectors loaded and built after {settled:.0f} s")
        for shard in self.shards(COLLECTION).shards:
            self.say(
                f"shard {shard.shard}: {shard.vectors} vectors, {shard.sealed_segments} sealed and "
                f"{shard.growing_segments} growing segments"
            )
        return Load(burst, seconds, settled, memory.peak_bytes)

    def _growing_rows(self) -> list[int]:
        """Vectors that are in no sealed segment; the place of what is in one is not known."""
        sealed = sum(
            faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC).ntotal
            for file in self.segment_files(COLLECTION)
        )
        shards = self.shards(COLLECTION).shards
        total = sum(shard.vectors + shard.tombstones for shard in shards)
        growing = [shard for shard in shards if shard.growing_segments]
        return [(total - sealed) // len(growing)] * len(growing) if growing else []


async def _create(address: str, request: pb.RetrieverServiceCreateCollectionRequest) -> None:
    async with connected(address) as stub:
        await stub.CreateCollection(request)


async def _shards(address: str, name: str) -> pb.ListShardsResponse:
    async with connected(address) as stub:
        return await stub.ListShards(pb.ListShardsRequest(collection=name))


@contextmanager
def running_bench(scale: Scale) -> Iterator[Bench]:
    """Starts all of it and stops it."""
    with ExitStack() as held:
        folder = Path(held.enter_context(TemporaryDirectory()))
        settings = {"SIRDAR_RETRIEVER_SEAL_VECTORS": str(scale.seal_vectors)}
        stack = held.enter_context(
            Stack(
                folder / "data",
                tiers=RETRIEVER,
                environment=settings if scale.seal_vectors else None,
            )
        )
        beside = held.enter_context(Stack(folder / "noop", tiers=[noop.TIER]))
        yield Bench(stack, beside, held.enter_context(Callers()), scale)
