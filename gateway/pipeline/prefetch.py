"""Prefetch: the candidates of all dense and lexical stages, in as few calls as they need."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.backends import EmbeddedQuery
from gateway.pipeline.plan import Plan, Texts
from gateway.pipeline.query import SearchQuery
from gateway.pipeline.ranking import Pool, Ranking
from gateway.pipeline.stages import Dense, Lexical, Unit
from sirdar.v1 import filter_pb2, retriever_pb2


@dataclass(frozen=True, slots=True)
class Prefetch:
    """The stages, by their places in the graph, that one call to a retriever answers."""

    candidates: int
    # Whether the server chose them: it may take more.
    widens: bool
    exact: bool
    filter: filter_pb2.Filter | None
    # Where the request has that filter.
    filter_path: str
    # Each query's text, and the stages that want its candidates by meaning and by words.
    dense: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    lexical: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def queries(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.dense, *self.lexical)))


def prefetches(plan: Plan, text: str) -> list[Prefetch]:
    """The calls that the graph needs; `text` is the search's own query.

    Stages share one where filter, exactness and candidates are the same;
    words know no exactness and go with either.
    """
    calls: dict[tuple[bytes | None, int | None], list[tuple[int, Dense | Lexical]]] = {}
    for at, node in enumerate(plan.graph.nodes):
        stage = node.stage
        if isinstance(stage, Dense | Lexical):
            alike = None
            if stage.filter is not None:
                alike = stage.filter.SerializeToString(deterministic=True)
            calls.setdefault((alike, stage.candidates), []).append((at, stage))
    found = []
    for (_, candidates), stages in calls.items():
        for exact, together in _by_exactness(stages):
            dense: dict[str, tuple[int, ...]] = {}
            lexical: dict[str, tuple[int, ...]] = {}
            for at, stage in together:
                lists = dense if isinstance(stage, Dense) else lexical
                query = stage.query or text
                lists[query] = (*lists.get(query, ()), at)
            found.append(
                Prefetch(
                    candidates=plan.candidates if candidates is None else candidates,
                    widens=candidates is None,
                    exact=exact,
                    filter=together[0][1].filter,
                    filter_path=f"{plan.graph.nodes[together[0][0]].path}.filter",
                    dense=dense,
                    lexical=lexical,
                )
            )
    return found


def _by_exactness(
    stages: Sequence[tuple[int, Dense | Lexical]],
) -> Iterable[tuple[bool, list[tuple[int, Dense | Lexical]]]]:
    exact: list[tuple[int, Dense | Lexical]] = []
    others: list[tuple[int, Dense | Lexical]] = []
    words: list[tuple[int, Dense | Lexical]] = []
    for at, stage in stages:
        if isinstance(stage, Lexical):
            words.append((at, stage))
        else:
            (exact if stage.exact else others).append((at, stage))
    if others or not exact:
        others += words
    else:
        exact += words
    return [(flag, part) for flag, part in ((False, others), (True, exact)) if part]


@dataclass(frozen=True, slots=True)
class Target:
    """A collection in a search, and the queries as they are embedded for it."""

    name: str
    embedded: Mapping[str, EmbeddedQuery]
    lexical: bool

    def queries(self, prefetch: Prefetch) -> tuple[str, ...]:
        """Those that can be asked of it: by meaning what is embedded, by words where it has
        an index of them."""
        return tuple(
            text
            for text in prefetch.queries
            if (text in prefetch.dense and text in self.embedded)
            or (text in prefetch.lexical and self.lexical)
        )


def passages_request(
    query: SearchQuery, plan: Plan, prefetch: Prefetch, target: Target, candidates: int
) -> retriever_pb2.SearchPassagesRequest:
    """`candidates`: how many to ask for now."""
    fingerprint = ""
    queries = []
    for text in target.queries(prefetch):
        embedded = target.embedded.get(text) if text in prefetch.dense else None
        if embedded is not None:
            fingerprint = embedded.space.fingerprint
        words = text if text in prefetch.lexical and target.lexical else ""
        queries.append(
            retriever_pb2.PassageQuery(vector=embedded.vector if embedded else None, lexical=words)
        )
    texts: int | None = None
    if plan.texts is Texts.EACH_DOCUMENT:
        texts = candidates
    elif plan.texts is Texts.BEST_DOCUMENTS:
        # The document that others are to be like is found, too, and left out.
        texts = plan.count + bool(query.like)
    return retriever_pb2.SearchPassagesRequest(
        namespace=query.namespace,
        collection=target.name,
        queries=queries,
        candidates=candidates,
        exact=prefetch.exact,
        fingerprint=fingerprint,
        consistency=query.consistency,
        consistency_tokens=query.consistency_tokens,
        documents_with_text=texts,
        filter=_both(query.filter, prefetch.filter),
        with_vectors=plan.vectors,
    )


def _both(
    one: filter_pb2.Filter | None, other: filter_pb2.Filter | None
) -> filter_pb2.Filter | None:
    if one is None or other is None:
        return one or other
    return filter_pb2.Filter(all_of=filter_pb2.FilterList(filters=[one, other]))


def read_rankings(
    pool: Pool,
    queries: Sequence[str],
    prefetch: Prefetch,
    response: retriever_pb2.SearchPassagesResponse,
    *,
    collection: str | None = None,
    without: str = "",
) -> dict[int, Ranking]:
    """The candidates of each stage of a call, by its place in the graph.

    `queries` are those that were asked, `collection` is set where several are
    searched; `without` is a document to leave out.
    """
    rankings: dict[int, Ranking] = {}
    for text, found in zip(queries, response.results, strict=True):
        places = pool.add(found.passages, collection)
        dense = {places[item.passage]: item.score for item in found.dense}
        lexical = {places[item.passage]: item.score for item in found.lexical}
        if without:
            dense = _without(pool, dense, without)
            lexical = _without(pool, lexical, without)
        for at in prefetch.dense.get(text, ()):
            rankings[at] = Ranking(Unit.PASSAGES, dense, similarities=dense)
        for at in prefetch.lexical.get(text, ()):
            rankings[at] = Ranking(Unit.PASSAGES, lexical, lexical_scores=lexical)
    return rankings


def _without(pool: Pool, scores: dict[int, float], document: str) -> dict[int, float]:
    return {
        place: score
        for place, score in scores.items()
        if pool.passages[place].document_id != document
    }


def is_full(response: retriever_pb2.SearchPassagesResponse, candidates: int) -> bool:
    """Whether a list is as long as was asked for: there may be more."""
    return any(
        max(len(found.dense), len(found.lexical)) >= candidates for found in response.results
    )
