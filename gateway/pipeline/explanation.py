"""Explaining: what each stage made of a result."""

from collections.abc import Hashable, Sequence

from gateway.pipeline.graph_run import GraphRun
from gateway.pipeline.ranking import Ranking
from gateway.pipeline.stages import Collapse, Dense, Diversify, Fuse, Group, Lexical, Node, Unit
from gateway.pipeline.stages import Rerank as RerankStage
from sirdar.v1 import query_pb2


def explain(run: GraphRun, places: Sequence[int]) -> dict[int, list[query_pb2.StageScore]]:
    """One list a result of the answer, in the order in which the stages ran; without those
    stages that did not have it. A document is in a list of passages with the best of its own."""
    places_in = [_Places.of(run, result) for result in run.results]
    return {
        place: [
            query_pb2.StageScore(
                stage=node.name,
                rank=found.rank(at),
                score=found.ranking.scores[at],
                detail=_detail(run, places_in, node, found, at),
            )
            for node, found in zip(run.plan.graph.nodes, places_in, strict=True)
            if (at := found.place(place)) is not None
        ]
        for place in places
    }


class _Places:
    """Where results stand in one ranking."""

    def __init__(self, run: GraphRun, ranking: Ranking) -> None:
        self.ranking = ranking
        self._documents = run.pool.documents
        self._ranks = {place: rank for rank, place in enumerate(ranking.scores, 1)}
        # An answer of passages is about these passages alone.
        self._best: dict[Hashable, int] = {}
        if run.plan.graph.unit is Unit.DOCUMENTS:
            for place in reversed(tuple(ranking.scores)):
                self._best[self._documents[place]] = place

    @classmethod
    def of(cls, run: GraphRun, ranking: Ranking | None) -> "_Places":
        assert ranking is not None
        return cls(run, ranking)

    def place(self, place: int) -> int | None:
        if self._best:
            return self._best.get(self._documents[place])
        return place if place in self._ranks else None

    def rank(self, place: int) -> int:
        return self._ranks[place]


def _detail(
    run: GraphRun, places_in: Sequence[_Places], node: Node, found: _Places, at: int
) -> str:
    ranking = found.ranking
    match node.stage:
        case Dense():
            detail = f"similarity {ranking.similarities[at]:.4f}"
        case Lexical():
            detail = f"BM25 {ranking.lexical_scores[at]:.3f}"
        case Fuse():
            detail = _fused(run, places_in, node, at)
        case Collapse(mean_of=mean_of):
            passages = (ranking.matched or {}).get(at, 1)
            how = "the best" if mean_of == 1 else f"the mean of the best {mean_of}"
            detail = f"{how} of {passages} {'passage' if passages == 1 else 'passages'}"
        case RerankStage():
            logit = ranking.rerank_scores.get(at)
            detail = "not reranked" if logit is None else f"logit {logit:.3f}"
        case Diversify():
            detail = _marginal(ranking, at)
        case Group(field=field):
            detail = f"{field}: {_of_group(ranking, at)}"
        case _:
            detail = "kept"
    return detail


def _fused(run: GraphRun, places_in: Sequence[_Places], node: Node, at: int) -> str:
    """The passage's ranks in the lists: those are of passages, whatever the answer's unit."""
    parts = []
    for source in node.inputs:
        scores = places_in[source].ranking.scores
        name = run.plan.graph.nodes[source].name
        parts.append(
            f"{name} {places_in[source].rank(at)}" if at in scores else f"{name} does not have it"
        )
    return ", ".join(parts)


def _marginal(ranking: Ranking, at: int) -> str:
    if ranking.marginal is None or at not in ranking.marginal:
        return "not chosen from"
    worth, nearest = ranking.marginal[at]
    return f"relevance {worth:.3f}, similarity to those before {nearest:.3f}"


def _of_group(ranking: Ranking, at: int) -> str:
    for one in ranking.groups or ():
        if at in one.members:
            return f"{one.members.index(at) + 1} of {len(one.members)} in its group"
    return "of no group"
