"""One answer made of several about different shards."""

from collections.abc import Sequence

from gateway.backends.shard_answers import completed, joined
from sirdar.v1 import common_pb2, retriever_pb2

Scores = Sequence[tuple[str, float]]


def asking(candidates: int = 3, *, ids_only: bool = False) -> retriever_pb2.SearchPassagesRequest:
    queries = [retriever_pb2.PassageQuery(lexical="q")]
    return retriever_pb2.SearchPassagesRequest(
        queries=queries, candidates=candidates, ids_only=ids_only
    )


def answer(
    dense: Scores,
    lexical: Scores = (),
    *,
    seqs: Sequence[int] = (),
    missing: Sequence[int] = (),
    wordless: Sequence[int] = (),
    pending: int = 0,
) -> retriever_pb2.SearchPassagesResponse:
    found = retriever_pb2.PassageCandidates()
    names = list(dict.fromkeys(name for name, _ in (*dense, *lexical)))
    for name in names:
        found.passages.add(document_id=name)
    for name, score in dense:
        found.dense.add(passage=names.index(name), score=score)
    for name, score in lexical:
        found.lexical.add(passage=names.index(name), score=score)
    return retriever_pb2.SearchPassagesResponse(
        results=[found],
        coverage=common_pb2.Coverage(
            shards_asked=len(seqs) + len(missing),
            shards_answered=len(seqs),
            missing_shards=missing,
            pending_writes=pending,
        ),
        applied_seqs=seqs,
        missing_lexical_shards=wordless,
    )


def names(response: retriever_pb2.SearchPassagesResponse) -> tuple[list[str], list[str]]:
    (result,) = response.results
    return (
        [result.passages[item.passage].document_id for item in result.dense],
        [result.passages[item.passage].document_id for item in result.lexical],
    )


def test_the_best_of_all_are_kept_each_passage_once() -> None:
    one = answer([("a", 0.9), ("b", 0.5)], [("b", 7.0)], seqs=[1])
    other = answer([("c", 0.8), ("d", 0.5)], [("d", 9.0), ("c", 1.0)], seqs=[2])
    whole = joined(asking(), [([0], one), ([1], other)])
    assert names(whole) == (["a", "c", "b"], ["d", "b", "c"])
    assert sorted(item.document_id for item in whole.results[0].passages) == ["a", "b", "c", "d"]


def test_ids_are_joined_with_their_scores() -> None:
    parts = []
    for shard, scores in enumerate([[(1, 0.5), (2, 0.25)], [(3, 0.75), (4, 0.125)]]):
        response = retriever_pb2.SearchPassagesResponse()
        ids = response.results.add().dense_ids
        ids.passage_ids.extend(key for key, _ in scores)
        ids.scores.extend(score for _, score in scores)
        parts.append(([shard], response))
    (result,) = joined(asking(ids_only=True), parts).results
    assert list(result.dense_ids.passage_ids) == [3, 1, 2]
    assert list(result.dense_ids.scores) == [0.75, 0.5, 0.25]
    assert not result.lexical_ids.passage_ids


def test_what_the_answer_speaks_for_is_said_shard_by_shard() -> None:
    one = answer([], seqs=[10, 30], missing=[4], wordless=[2], pending=1)
    other = answer([], seqs=[20], pending=2)
    whole = joined(asking(), [([0, 2, 4], one), ([1], other)], unanswered=[3])
    assert whole.coverage == common_pb2.Coverage(
        shards_asked=5, shards_answered=3, missing_shards=[3, 4], pending_writes=3
    )
    assert list(whole.applied_seqs) == [10, 20, 30]
    assert list(whole.missing_lexical_shards) == [2]


def test_where_one_does_not_say_what_it_shows_nothing_is_promised() -> None:
    older = answer([], seqs=[5])
    del older.applied_seqs[:]
    whole = joined(asking(), [([0], answer([], seqs=[10])), ([1], older)])
    assert list(whole.applied_seqs) == []


def test_an_answer_is_completed_by_what_another_has() -> None:
    found = answer([("a", 0.5)], seqs=[10, 30], missing=[1, 3])
    more = answer([("b", 0.9)], seqs=[20], missing=[3])
    whole = completed(asking(), found, [1, 3], more)
    assert names(whole)[0] == ["b", "a"]
    assert whole.coverage == common_pb2.Coverage(
        shards_asked=4, shards_answered=3, missing_shards=[3]
    )
    assert list(whole.applied_seqs) == [10, 20, 30]
