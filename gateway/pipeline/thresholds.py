"""Thresholds that no result could meet: refused, and not answered with nothing."""

from gateway.pipeline.stages import Cut, Dense, Graph, Lexical, Node, Rerank, Stage
from sirdar.errors import InvalidArgument


def check_thresholds(graph: Graph) -> None:
    """Each threshold of a kind of score needs a stage that gives such scores before it.

    Raises InvalidArgument that names the field by its path.
    """
    for at, node in enumerate(graph.nodes):
        if isinstance(node.stage, Cut) and node.stage.threshold is not None:
            _check(node, _before(graph, at))


def _check(node: Node, before: list[Stage]) -> None:
    assert isinstance(node.stage, Cut) and node.stage.threshold is not None
    threshold = node.stage.threshold
    needs = (
        ("similarity", threshold.similarity, _by_meaning, "searches by meaning"),
        ("lexical_score", threshold.lexical_score, _by_words, "searches by words"),
        ("rerank_score", threshold.rerank_score, _reranks, "reranks"),
    )
    for name, least, gives, what in needs:
        if least is not None and not any(map(gives, before)):
            path = f"{node.path}.threshold" if node.path else "threshold"
            raise InvalidArgument.field(
                f"{path}.{name}",
                f"leaves nothing, as no stage before it {what}; leave it out, or ask for one",
            )


def _before(graph: Graph, at: int) -> list[Stage]:
    """The stages whose results come to this one."""
    found: set[int] = set()
    ahead = [at]
    while ahead:
        fresh = set(graph.nodes[ahead.pop()].inputs) - found
        found |= fresh
        ahead += fresh
    return [graph.nodes[source].stage for source in found]


def _by_meaning(stage: Stage) -> bool:
    return isinstance(stage, Dense)


def _by_words(stage: Stage) -> bool:
    return isinstance(stage, Lexical)


def _reranks(stage: Stage) -> bool:
    return isinstance(stage, Rerank) and stage.plan is not None and stage.plan.depth > 0
