"""What the figures share: the servers, the callers, the engine in this process, the texts."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.embedder.engine import LocalEngine, load_engine
from benchmarks.embedder.texts import Texts, load_texts
from benchmarks.harness import noop
from benchmarks.harness.callers import Callers
from services.embedder.settings import EmbedderSettings
from services.stack.stack import Stack
from services.stack.tiers import HOST, TIERS

EMBEDDER = [tier for tier in TIERS if tier.name == "embedder"]


@dataclass(frozen=True, slots=True)
class Scale:
    """How long is measured."""

    turns: int = 5
    texts: int = 2048
    """Of mixed length, through the server, a turn."""
    reference_turns: int = 3
    """Of what is five times as slow: sentence-transformers and Infinity."""
    short_texts: int = 4096
    noop_calls: int = 8192
    idle_calls: int = 200
    interference_turns: int = 4
    interference_seconds: float = 10.0
    overload_turns: int = 2
    overload_seconds: float = 17.0
    requests: int = 100_000
    """Until memory is looked at again."""
    warm_requests: int = 5_000


SHORT = Scale(
    turns=1,
    texts=512,
    reference_turns=1,
    short_texts=1024,
    noop_calls=2048,
    idle_calls=50,
    interference_turns=1,
    interference_seconds=5.0,
    overload_turns=1,
    overload_seconds=6.0,
    requests=4_000,
    warm_requests=500,
)
"""To see that it runs; its numbers say little."""


class Bench:
    """An embedder and a no-op server that run, and what measures them."""

    def __init__(self, stack: Stack, clients: Callers, scale: Scale) -> None:
        self.clients = clients
        self.scale = scale
        self.settings = EmbedderSettings()
        self.texts: Texts = load_texts()
        self.address = stack.addresses["embedder"]
        self.noop_address = stack.addresses[noop.TIER.name]
        self.metrics_address = f"{HOST}:{stack.layout.metrics_ports['embedder']}"

    @cached_property
    def engine(self) -> LocalEngine:
        """Loaded at first use, warm."""
        engine = LocalEngine(load_engine(self.settings))
        engine.embed(self.texts.mixed)
        return engine

    def say(self, line: str) -> None:
        print(line, flush=True)


@contextmanager
def running_bench(scale: Scale) -> Iterator[Bench]:
    """Starts all of it and stops it."""
    with ExitStack() as held:
        folder = held.enter_context(TemporaryDirectory())
        stack = held.enter_context(Stack(Path(folder), tiers=[*EMBEDDER, noop.TIER]))
        yield Bench(stack, held.enter_context(Callers()), scale)
