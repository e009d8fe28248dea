"""What the figures share: a whole stack, a gateway before tiers that do nothing, callers."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.cranfield import Cranfield, load_cranfield
from benchmarks.harness import noop
from benchmarks.harness.callers import Callers
from services.stack.stack import NO_RERANKER, Stack
from services.stack.tiers import TIERS, Layout, Tier, with_replicas
from tests.redis_server import RedisServer


def _before_noop(layout: Layout) -> Mapping[str, str]:
    address = layout.address(noop.TIER.name)
    return {
        "HTTP_PORT": str(layout.http_port),
        "EMBEDDER_ADDRESS": address,
        "RETRIEVER_ADDRESSES": json.dumps([address]),
    }


_LONELY_TIERS = (noop.TIER, Tier("gateway", "gateway", 0, _before_noop))


@dataclass(frozen=True, slots=True)
class Scale:
    """How much and how long is measured."""

    turns: int = 5
    paced_seconds: float = 8.0
    """Of searches at a steady pace, each turn."""
    upload_bytes: int = 50_000_000
    indexed_documents: int = 700
    """Each turn."""
    searches: int = 2_000
    """Each turn."""
    outage_seconds: float = 4.0
    """That a tier stays away."""
    start_seconds: float = 12.0
    """That a tier may take to be back."""


SHORT = Scale(
    turns=1, paced_seconds=2.0, upload_bytes=4_000_000, indexed_documents=64, searches=128
)
"""To see that it runs; its numbers say little."""


class Bench:
    """Stacks are started when a figure first wants them, and stopped in the end."""

    def __init__(self, folder: Path, held: ExitStack, callers: Callers, scale: Scale) -> None:
        self.callers = callers
        self.scale = scale
        self._folder = folder
        self._held = held

    @cached_property
    def corpus(self) -> Cranfield:
        return load_cranfield()

    @cached_property
    def stack(self) -> Stack:
        """All tiers but the reranker."""
        self.say("starting the tiers")
        return self._held.enter_context(Stack(self._folder / "stack", reranker=NO_RERANKER))

    @cached_property
    def lonely(self) -> Stack:
        """A gateway before tiers that have their answers ready."""
        self.say("starting a gateway before tiers that do nothing")
        return self._held.enter_context(Stack(self._folder / "lonely", tiers=_LONELY_TIERS))

    @contextmanager
    def before_slow_store(self, write_seconds: float) -> Iterator[Stack]:
        """Another of these, whose store takes so long for each batch."""
        environment = {"SIRDAR_NOOP_WRITE_SECONDS": str(write_seconds)}
        with Stack(self._folder / "slow", tiers=_LONELY_TIERS, environment=environment) as stack:
            yield stack

    @contextmanager
    def redis(self) -> Iterator[RedisServer]:
        """A server of the bench's own."""
        folder = self._folder / "redis"
        folder.mkdir(exist_ok=True)
        server = RedisServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.kill()

    @contextmanager
    def replicated(self, cache_url: str) -> Iterator[Stack]:
        """All tiers, two retrievers on one store, answers kept on that Redis."""
        environment = {"SIRDAR_GATEWAY_CACHE_URL": cache_url}
        folder = self._folder / "replicated"
        with Stack(folder, tiers=with_replicas(TIERS, 2), environment=environment) as stack:
            yield stack

    @contextmanager
    def semantic(self, settings: Mapping[str, str]) -> Iterator[Stack]:
        """All tiers but the reranker; `settings` are the gateway's, for its semantic cache."""
        environment = {f"SIRDAR_GATEWAY_CACHE_SEMANTIC_{key}": settings[key] for key in settings}
        with TemporaryDirectory(dir=self._folder) as folder:
            stack = Stack(Path(folder), reranker=NO_RERANKER, environment=environment)
            with stack:
                yield stack

    def say(self, line: str) -> None:
        print(line, flush=True)


@contextmanager
def running_bench(scale: Scale) -> Iterator[Bench]:
    """Stops in the end what was started meanwhile."""
    with ExitStack() as held:
        folder = Path(held.enter_context(TemporaryDirectory()))
        yield Bench(folder, held, held.enter_context(Callers()), scale)
