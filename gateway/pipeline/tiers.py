"""What a search goes through: the other tiers, the settings, and the time that stages take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gateway.backends import Embedder, Reranker, Retriever
from gateway.pipeline.answer import SearchAnswer, StageName
from gateway.settings import GatewaySettings
from gateway.stage_budget import StageBudget
from sirdar.errors import DeadlineExceeded, SirdarError


@dataclass(frozen=True, slots=True)
class Tiers:
    settings: GatewaySettings
    embedder: Embedder
    retriever: Retriever
    # None: nothing is reranked.
    reranker: Reranker | None
    budget: StageBudget

    @contextmanager
    def observed(
        self, stage: StageName, answer: SearchAnswer, *, optional: bool = False
    ) -> Iterator[None]:
        """Times a stage for the answer and for the searches after it. Begun when there is time
        for it: one that was given up before says nothing of how long it takes. `optional`:
        where it fails the search goes on without it."""
        started = time.perf_counter()
        with answer.timed(stage):
            try:
                yield
            except SirdarError as error:
                if isinstance(error, DeadlineExceeded):
                    self.budget.observe(stage, time.perf_counter() - started, cut_off=True)
                if optional:
                    self.budget.note_failed(stage)
                raise
        self.budget.observe(stage, time.perf_counter() - started)
