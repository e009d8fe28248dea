"""Reading the stages that a caller wrote, and what keeps them from being a graph."""

import math
import re
from collections.abc import Callable, Mapping, Sequence

from gateway.pipeline.checks import check_text, in_range
from gateway.pipeline.fusion_plan import at_least, method_of
from gateway.pipeline.plan import MAX_CANDIDATES
from gateway.pipeline.rerank_plan import check_rerank
from gateway.pipeline.shape_request import (
    read_collapse,
    read_diversity,
    read_grouping,
    read_threshold,
)
from gateway.pipeline.stages import (
    Collapse,
    Cut,
    Dense,
    Fuse,
    Graph,
    Lexical,
    Node,
    Rerank,
    Stage,
    Unit,
)
from gateway.settings import GatewaySettings
from sirdar.errors import InvalidArgument
from sirdar.v1 import query_pb2

MAX_STAGES = 32
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KINDS = "dense, lexical, fuse, collapse, rerank, diversify, group or cut"


def read_graph(stages: Sequence[query_pb2.QueryStage], settings: GatewaySettings) -> Graph:
    """Raises InvalidArgument that names the stage by its place in the request."""
    if len(stages) > MAX_STAGES:
        raise InvalidArgument.field(
            "stages", f"are {len(stages)}; at most {MAX_STAGES} are allowed, leave some out"
        )
    places = _places(stages)
    inputs = [_inputs(stage, f"stages[{at}]", places) for at, stage in enumerate(stages)]
    _check_one_answer(stages, inputs)
    nodes: list[Node] = []
    at_node: dict[int, int] = {}
    for at in _in_order(stages, inputs):
        taken = [nodes[at_node[source]] for source in inputs[at]]
        kind = stages[at].WhichOneof("stage")
        node = Node(
            name=stages[at].name,
            stage=_stage(stages[at], f"stages[{at}].{kind}", len(taken), settings),
            inputs=tuple(at_node[source] for source in inputs[at]),
            unit=taken[0].unit if taken else Unit.PASSAGES,
            path=f"stages[{at}].{kind}",
        )
        at_node[at] = len(nodes)
        nodes.append(_with_unit(node, taken))
    return Graph(tuple(nodes))


def _places(stages: Sequence[query_pb2.QueryStage]) -> dict[str, int]:
    """Where each stage is, by its name."""
    places: dict[str, int] = {}
    for at, stage in enumerate(stages):
        if not _NAME.fullmatch(stage.name):
            raise InvalidArgument.field(
                f"stages[{at}].name",
                f"is {stage.name!r}; it must be 1 to 64 letters, digits, `-` and `_`",
            )
        if stage.name in places:
            raise InvalidArgument.field(
                f"stages[{at}].name",
                f"is {stage.name}, as of stages[{places[stage.name]}]; name each differently",
            )
        places[stage.name] = at
    return places


def _inputs(stage: query_pb2.QueryStage, path: str, places: Mapping[str, int]) -> tuple[int, ...]:
    """The places of the stages that this one takes."""
    kind = stage.WhichOneof("stage")
    if kind is None:
        raise InvalidArgument.field(path, f"must say what it does: {_KINDS}")
    count = len(stage.inputs)
    if kind in ("dense", "lexical"):
        if count:
            raise InvalidArgument.field(
                f"{path}.inputs", f"must be empty: {kind} begins with the collection"
            )
    elif not count:
        raise InvalidArgument.field(f"{path}.inputs", f"must name what {kind} takes")
    elif kind != "fuse" and count > 1:
        raise InvalidArgument.field(
            f"{path}.inputs", f"are {count}, and {kind} takes one; fuse them first"
        )
    found: list[int] = []
    for at, name in enumerate(stage.inputs):
        if name not in places:
            known = ", ".join(places)
            raise InvalidArgument.field(
                f"{path}.inputs[{at}]", f"is {name!r}, and there is no such stage among {known}"
            )
        if places[name] in found:
            raise InvalidArgument.field(
                f"{path}.inputs[{at}]", f"is {name} again; give it more weight instead"
            )
        found.append(places[name])
    return tuple(found)


def _check_one_answer(
    stages: Sequence[query_pb2.QueryStage], inputs: Sequence[tuple[int, ...]]
) -> None:
    taken = {source for sources in inputs for source in sources}
    answers = [stage.name for at, stage in enumerate(stages) if at not in taken]
    # Where there is none, there is a cycle, and that is said.
    if len(answers) > 1:
        raise InvalidArgument.field(
            "stages",
            f"have several answers, {', '.join(answers)}; fuse them, or leave some out",
        )


def _in_order(
    stages: Sequence[query_pb2.QueryStage], inputs: Sequence[tuple[int, ...]]
) -> list[int]:
    """The places, each behind those that it takes."""
    done: list[int] = []
    rest = list(range(len(stages)))
    while rest:
        ready = [at for at in rest if all(source in done for source in inputs[at])]
        if not ready:
            cycle = ", ".join(stages[at].name for at in rest)
            raise InvalidArgument.field(
                f"stages[{rest[0]}].inputs",
                f"make a cycle: each of {cycle} waits for another; take an input out",
            )
        done += ready
        rest = [at for at in rest if at not in ready]
    return done


def _with_unit(node: Node, taken: Sequence[Node]) -> Node:
    """Checks that the stage can take what it takes."""
    if not isinstance(node.stage, Fuse | Collapse):
        return node
    for at, source in enumerate(taken):
        if source.unit is not Unit.PASSAGES:
            stage = node.path.rpartition(".")
            raise InvalidArgument.field(
                f"{stage[0]}.inputs[{at}]",
                f"is {source.name}, which gives documents, and {stage[2]} takes passages; put it "
                "before the collapse",
            )
    if isinstance(node.stage, Collapse):
        return Node(node.name, node.stage, node.inputs, Unit.DOCUMENTS, node.path)
    return node


def _stage(
    message: query_pb2.QueryStage, path: str, inputs: int, settings: GatewaySettings
) -> Stage:
    readers: Mapping[str, Callable[[], Stage]] = {
        "dense": lambda: _dense(message.dense, path, settings),
        "lexical": lambda: _lexical(message.lexical, path, settings),
        "fuse": lambda: _fuse(message.fuse, path, inputs, settings),
        "collapse": lambda: read_collapse(message.collapse.collapse, f"{path}.collapse"),
        "rerank": lambda: _rerank(message.rerank, path, settings),
        "diversify": lambda: read_diversity(message.diversify.diversity, f"{path}.diversity"),
        "group": lambda: read_grouping(message.group.grouping, f"{path}.grouping"),
        "cut": lambda: _cut(message.cut, path),
    }
    # One of them is set: its inputs are checked by what it is.
    return readers[message.WhichOneof("stage") or ""]()


def _rerank(message: query_pb2.RerankStage, path: str, settings: GatewaySettings) -> Rerank:
    check_rerank(message.settings, f"{path}.settings")
    return Rerank(settings=message.settings, query=_own_query(message.query, path, settings))


def _dense(message: query_pb2.DensePrefetch, path: str, settings: GatewaySettings) -> Dense:
    return Dense(
        query=_own_query(message.query, path, settings),
        candidates=_candidates(message, path),
        filter=message.filter if message.HasField("filter") else None,
        exact=message.exact,
    )


def _lexical(message: query_pb2.LexicalPrefetch, path: str, settings: GatewaySettings) -> Lexical:
    return Lexical(
        query=_own_query(message.query, path, settings),
        candidates=_candidates(message, path),
        filter=message.filter if message.HasField("filter") else None,
    )


def _own_query(query: str, path: str, settings: GatewaySettings) -> str:
    return check_text(query, f"{path}.query", settings) if query else ""


def _candidates(
    message: query_pb2.DensePrefetch | query_pb2.LexicalPrefetch, path: str
) -> int | None:
    if not message.HasField("candidates"):
        return None
    return in_range(f"{path}.candidates", message.candidates, 1, MAX_CANDIDATES)


def _fuse(message: query_pb2.FuseStage, path: str, inputs: int, settings: GatewaySettings) -> Fuse:
    default = settings.fusion
    constant = default.rank_constant
    if message.HasField("rank_constant"):
        constant = message.rank_constant
    at_least(f"{path}.rank_constant", constant, 1)
    return Fuse(
        method_of(message.method, f"{path}.method") or default.method,
        check_weights(message.weights, inputs, f"{path}.weights"),
        constant,
    )


def _cut(message: query_pb2.CutStage, path: str) -> Cut:
    limit: int | None = None
    if message.HasField("limit"):
        limit = in_range(f"{path}.limit", message.limit, 1, MAX_CANDIDATES)
    threshold = None
    if message.HasField("threshold"):
        threshold = read_threshold(message.threshold, f"{path}.threshold")
    return Cut(limit, threshold)


def check_weights(weights: Sequence[float], inputs: int, path: str) -> tuple[float, ...]:
    """One an input; where there are none, all 1."""
    if not weights:
        return (1.0,) * inputs
    if len(weights) != inputs:
        raise InvalidArgument.field(
            path, f"are {len(weights)}, and the stage has {inputs} inputs; give one each"
        )
    for at, weight in enumerate(weights):
        if not (math.isfinite(weight) and weight >= 0):
            raise InvalidArgument.field(f"{path}[{at}]", f"is {weight:g}; it must be 0 or more")
    if not any(weights):
        raise InvalidArgument.field(path, "must not all be 0")
    if not math.isfinite(sum(weights)):
        raise InvalidArgument.field(path, "are too large")
    return tuple(weights)
