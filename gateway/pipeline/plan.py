"""The plan of a search: its graph of stages, and how much each of them is to look at."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

from gateway.pipeline.fusion_plan import SearchMode
from gateway.pipeline.query import SearchQuery, SearchShape
from gateway.pipeline.rerank_plan import RerankPlan, plan_rerank
from gateway.pipeline.stages import (
    Collapse,
    Cut,
    Dense,
    Diversify,
    Fuse,
    Graph,
    Group,
    Lexical,
    Node,
    Rerank,
    Stage,
    Threshold,
    Unit,
)
from gateway.pipeline.thresholds import check_thresholds
from sirdar.v1 import collection_pb2

MAX_CANDIDATES = 10_000
_CANDIDATES_A_RESULT = 3
# Of the best, so many more are chosen from than are wanted.
_DIVERSITY_A_RESULT = 5
_MAX_RESULTS = 1_000


class Texts(StrEnum):
    """Which passages are read."""

    ALL = "all"
    # Of each document in a list the best; which will be the best of all is not known before
    # the lists are fused.
    EACH_DOCUMENT = "each document"
    BEST_DOCUMENTS = "best documents"


@dataclass(frozen=True, slots=True)
class Plan:
    """`count` results are made of the candidates, for the stages that look at that many;
    `candidates` is how many passages a prefetch asks for that does not say."""

    graph: Graph
    count: int
    candidates: int
    texts: Texts
    vectors: bool
    # The results or groups that the page ends with.
    wanted: int
    diversity_depth: int
    reranks: bool
    # Whether the search's own query is searched for by meaning.
    by_meaning: bool


def plan_search(
    query: SearchQuery,
    mode: SearchMode,
    collection: collection_pb2.RerankSettings,
    server: collection_pb2.RerankSettings,
) -> Plan:
    """Raises InvalidArgument where the request and the collection leave no order, or nothing
    that could meet a threshold."""
    size = PlanSize(query.top_k, query.wanted)
    if query.stages is not None:
        graph = _with_rerank_plans(query.stages, collection, server)
        return _measured(_with_threshold(graph, query.threshold), size)
    rerank = plan_rerank(query.rerank, collection, server)
    return _planned(query.shape, mode, rerank, query.threshold, size)


@dataclass(frozen=True, slots=True)
class PlanSize:
    top_k: int
    wanted: int


@lru_cache(maxsize=1024)
def _planned(
    shape: SearchShape,
    mode: SearchMode,
    rerank: RerankPlan,
    threshold: Threshold | None,
    size: PlanSize,
) -> Plan:
    return _measured(usual_graph(shape, mode, rerank, threshold), size)


def usual_graph(
    shape: SearchShape, mode: SearchMode, rerank: RerankPlan, threshold: Threshold | None
) -> Graph:
    """What a caller would write who wants what the shape says."""
    nodes: list[Node] = []

    def add(name: str, stage: Stage, inputs: tuple[int, ...], unit: Unit) -> int:
        nodes.append(Node(name, stage, inputs, unit))
        return len(nodes) - 1

    lists = []
    if mode.by_meaning:
        dense = Dense(candidates=shape.candidates, exact=shape.exact)
        lists.append(add("dense", dense, (), Unit.PASSAGES))
    if mode.by_words:
        lexical = Lexical(candidates=shape.candidates)
        lists.append(add("lexical", lexical, (), Unit.PASSAGES))
    last = lists[0]
    if len(lists) > 1:
        fusion = shape.fusion
        weights = (fusion.dense_weight, fusion.lexical_weight)
        fuse = Fuse(fusion.method, weights, fusion.rank_constant)
        last = add("fuse", fuse, tuple(lists), Unit.PASSAGES)
    if shape.unit is Unit.DOCUMENTS:
        last = add("collapse", shape.collapse, (last,), shape.unit)
    for name, stage in _usual_ends(shape, rerank, threshold):
        last = add(name, stage, (last,), shape.unit)
    return Graph(tuple(nodes))


def _usual_ends(
    shape: SearchShape, rerank: RerankPlan, threshold: Threshold | None
) -> Iterator[tuple[str, Stage]]:
    if rerank.depth:
        yield "rerank", Rerank(plan=rerank)
    if threshold is not None:
        # Before the results are made to differ: what is worse must not take a place.
        yield "cut", Cut(threshold=threshold)
    if shape.diversify is not None:
        yield "diversify", shape.diversify
    if shape.group is not None:
        yield "group", shape.group


def _with_threshold(graph: Graph, threshold: Threshold | None) -> Graph:
    if threshold is None:
        return graph
    last = graph.nodes[-1]
    name = "threshold"
    while any(node.name == name for node in graph.nodes):
        name += "_"
    cut = Node(name, Cut(threshold=threshold), (len(graph.nodes) - 1,), last.unit)
    return Graph((*graph.nodes, cut))


def _with_rerank_plans(
    graph: Graph,
    collection: collection_pb2.RerankSettings,
    server: collection_pb2.RerankSettings,
) -> Graph:
    """Who writes a rerank stage wants it, whatever the others say of whether."""
    nodes = []
    for node in graph.nodes:
        stage = node.stage
        if isinstance(stage, Rerank) and stage.settings is not None:
            wanted = collection_pb2.RerankSettings(enabled=True)
            wanted.MergeFrom(stage.settings)
            plan = plan_rerank(wanted, collection, server, f"{node.path}.settings")
            nodes.append(replace(node, stage=replace(stage, plan=plan)))
        else:
            nodes.append(node)
    return Graph(tuple(nodes))


def _measured(graph: Graph, size: PlanSize) -> Plan:
    """How many results the stages look at, and what they need of each."""
    check_thresholds(graph)
    stages = [node.stage for node in graph.nodes]
    depths = [size.top_k]
    diversity_depth = 0
    group_limit = 1
    for stage in stages:
        if isinstance(stage, Rerank) and stage.plan is not None:
            depths.append(stage.plan.depth)
        elif isinstance(stage, Diversify):
            depth = max(stage.depth or _DIVERSITY_A_RESULT * size.top_k, size.top_k)
            diversity_depth = _paged(min(_MAX_RESULTS, depth), size.wanted)
            depths.append(diversity_depth)
        elif isinstance(stage, Group):
            group_limit = stage.limit
            depths.append(min(_MAX_RESULTS, _CANDIDATES_A_RESULT * size.top_k * stage.limit))
    count = _paged(max(depths), min(_MAX_RESULTS, size.wanted * group_limit))
    fused = sum(isinstance(stage, Dense | Lexical) for stage in stages) > 1
    collapsed = [stage for stage in stages if isinstance(stage, Collapse)]
    more = _CANDIDATES_A_RESULT if collapsed or fused else 1
    texts = Texts.BEST_DOCUMENTS
    if _reads_passages(graph):
        texts = Texts.ALL
    elif fused or any(stage.mean_of > 1 for stage in collapsed):
        texts = Texts.EACH_DOCUMENT
    return Plan(
        graph=graph,
        count=count,
        candidates=min(MAX_CANDIDATES, more * count),
        texts=texts,
        vectors=diversity_depth > 0,
        wanted=size.wanted,
        diversity_depth=diversity_depth,
        reranks=any(isinstance(stage, Rerank) for stage in stages),
        by_meaning=any(isinstance(stage, Dense) and not stage.query for stage in stages),
    )


def _paged(depth: int, wanted: int) -> int:
    """So many that the page is among them, in steps: the pages of one step are of one pool,
    and what is on one of them is on no other."""
    while depth < wanted:
        depth *= 2
    return min(depth, _MAX_RESULTS)


def _reads_passages(graph: Graph) -> bool:
    """Whether a stage, or the answer, takes passages for what is in them."""
    reading = Rerank | Diversify | Group
    units = [node.unit for node in graph.nodes if isinstance(node.stage, reading)]
    return Unit.PASSAGES in (*units, graph.unit)
