"""What a search goes through: the other tiers, the settings, and the time that stages take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gateway.backends import Embedder, Reranker, Retriever
from gateway.pipeline.answer import SearchAnswer, StageName
from gateway.settings import GatewaySettings
from gateway.stage_budget import StageBudget
from sirdar.errors import DeadlineExceeded


@dataclass(frozen=True, slots=True)
class Tiers:
    settings: GatewaySettings
    embedder: Embedder
    retriever: Retriever
    # None: nothing is reranked.
    reranker: Reranker | None
    budget: StageBudget

    @contextmanager
    def observed(self, stage: StageName, answer: SearchAnswer) -> Iterator[None]:
        """Times a stage for the answer and for the searches after it."""
        started = time.perf_counter()
        with answer.timed(stage):
            try:
                yield
            except DeadlineExceeded:
                self.budget.observe(stage, time.perf_counter() - started, cut_off=True)
                raise
        self.budget.observe(stage, time.perf_counter() - started)
