"""Running a graph: from the candidates of its prefetch stages to the answer's order."""

from collections.abc import Mapping
from copy import copy
from typing import Protocol

from gateway.pipeline.collapse import collapse
from gateway.pipeline.cut import cut
from gateway.pipeline.fusion import fuse
from gateway.pipeline.grouping import count_groups, group
from gateway.pipeline.plan import Plan
from gateway.pipeline.ranking import Pool, Ranking
from gateway.pipeline.stages import (
    Collapse,
    Cut,
    Dense,
    Diversify,
    Fuse,
    Group,
    Lexical,
    Node,
    Rerank,
    Unit,
)


class SlowStages(Protocol):
    """What takes another tier, or a while. Each gives the order as it was where it cannot."""

    async def rerank(self, pool: Pool, ranking: Ranking, stage: Rerank) -> Ranking: ...

    async def diversify(self, pool: Pool, ranking: Ranking, stage: Diversify) -> Ranking: ...


class GraphRun:
    """`results` are those of the plan's nodes, None where one has not run."""

    def __init__(self, plan: Plan, pool: Pool, prefetched: Mapping[int, Ranking]) -> None:
        self.plan = plan
        self.pool = pool
        self.results: list[Ranking | None] = [
            prefetched.get(at) for at in range(len(plan.graph.nodes))
        ]
        self._run_fast()

    @property
    def answer(self) -> Ranking:
        """The last node's."""
        found = self.results[-1]
        assert found is not None
        return found

    @property
    def reranks(self) -> bool:
        """Whether there is still something to rerank."""
        return any(
            result is None and isinstance(node.stage, Rerank) and node.stage.plan
            for node, result in zip(self.plan.graph.nodes, self.results, strict=True)
        )

    def results_found(self) -> int:
        """How many results, or groups, the candidates have so far, before any are cut."""
        found = 0
        nodes = self.plan.graph.nodes
        fields = [node.stage.field for node in nodes if isinstance(node.stage, Group)]
        for node, result in zip(nodes, self.results, strict=True):
            if isinstance(node.stage, Cut):
                break
            if result is not None and node.unit is self.plan.graph.unit:
                found = count_groups(self.pool, result, fields[-1]) if fields else len(result)
        return found

    async def finish(self, slow: SlowStages) -> None:
        """Runs what is left."""
        for at, node in enumerate(self.plan.graph.nodes):
            if self.results[at] is None:
                self.results[at] = await self._run_slow(slow, node)

    async def without_rerank(self, slow: SlowStages) -> "GraphRun":
        """What this comes to if nothing more is reranked."""
        preview = copy(self)
        preview.results = list(self.results)
        for at, node in enumerate(self.plan.graph.nodes):
            if preview.results[at] is None:
                if isinstance(node.stage, Rerank):
                    preview.results[at] = preview.results[node.inputs[0]]
                else:
                    preview.results[at] = await preview._run_slow(slow, node)
        return preview

    def _run_fast(self) -> None:
        for at, node in enumerate(self.plan.graph.nodes):
            inputs = self._inputs(node)
            if self.results[at] is None and inputs is not None:
                self.results[at] = self._run(node, inputs)

    async def _run_slow(self, slow: SlowStages, node: Node) -> Ranking | None:
        inputs = self._inputs(node)
        assert inputs is not None
        stage = node.stage
        if isinstance(stage, Rerank):
            return await slow.rerank(self.pool, inputs[0], stage)
        if isinstance(stage, Diversify):
            return await slow.diversify(self.pool, inputs[0], stage)
        return self._run(node, inputs)

    def _inputs(self, node: Node) -> list[Ranking] | None:
        """None where one of them has not run."""
        found = [result for at in node.inputs if (result := self.results[at]) is not None]
        return found if len(found) == len(node.inputs) else None

    def _run(self, node: Node, inputs: list[Ranking]) -> Ranking | None:
        """None for what is not fast."""
        stage = node.stage
        if isinstance(stage, Fuse):
            return fuse(inputs, stage)
        if isinstance(stage, Collapse):
            return collapse(self.pool, inputs[0], stage.mean_of, self.plan.count)
        if isinstance(stage, Group):
            path = f"{node.path}.grouping" if node.path else "group"
            return group(self.pool, inputs[0], stage, path)
        if isinstance(stage, Cut):
            return cut(inputs[0], stage)
        if isinstance(stage, Dense | Lexical):
            # It was not to be had.
            return Ranking(Unit.PASSAGES, {})
        return None
