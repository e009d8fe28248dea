"""The arithmetic of the retriever's benchmark."""

import math
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks.retriever.corpus import (
    CORRELATED,
    INDEPENDENT,
    VALUES,
    make_corpus,
    nearest,
    recall,
    write_messages,
)
from benchmarks.retriever.curves import Point, at_recall
from benchmarks.retriever.filters import asked, truth
from benchmarks.retriever.growth_report import Row, plot, project, text
from sirdar.v1 import retriever_pb2 as pb


def test_rates_are_compared_at_equal_recall() -> None:
    curve = [Point(0.99, 1000), Point(0.90, 4000), Point(0.80, 9000)]
    assert at_recall(curve, 0.90) == pytest.approx(4000)
    # Half of the way from 4,000 to 1,000 where the logarithm goes straight.
    assert at_recall(curve, 0.945) == pytest.approx(2000)
    assert at_recall(curve, 0.995) is None
    # All of it is better than asked: its fastest.
    assert at_recall(curve, 0.5) == 9000


def test_recall_is_over_all_queries_together() -> None:
    assert recall([[1, 2], [3]], [[2, 1], [3, 4]]) == 0.75
    # A filter that nothing meets has nothing to be found.
    assert recall([[1, 2], []], [[1, 2], []]) == 1
    with pytest.raises(ValueError, match="nothing is to be found"):
        recall([[1]], [[]])


def test_the_nearest_are_those_of_all_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.retriever.corpus._CHUNK", 7)
    random = np.random.default_rng(1)
    vectors = random.standard_normal((50, 4)).astype(np.float32)
    queries = random.standard_normal((3, 4)).astype(np.float32)
    best = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    assert np.array_equal(nearest(vectors, queries, 10), best)
    assert nearest(vectors, queries, 80).shape == (3, 50)


def test_the_corpus_is_the_same_each_time_and_its_queries_are_not_in_it() -> None:
    corpus, again = make_corpus(500, 20), make_corpus(500, 20)
    assert np.array_equal(corpus.vectors, again.vectors)
    assert np.array_equal(corpus.queries, again.queries)
    assert np.allclose(np.linalg.norm(corpus.vectors, axis=1), 1, atol=1e-3)
    assert (corpus.queries @ corpus.vectors.T).max() < 0.999
    # Clusters: the nearest is much nearer than the others.
    cosines = np.sort(corpus.queries @ corpus.vectors.T, axis=1)
    assert np.median(cosines[:, -1]) > 0.3 + np.median(cosines)


@pytest.mark.parametrize("kind", ["independent", "near", "far"])
def test_filters_let_through_what_they_say(kind: str) -> None:
    corpus = make_corpus(2000, 40)
    for one in asked(corpus, kind, 0.1, 40):
        values = getattr(corpus, one.field)
        met = np.flatnonzero((values >= one.start) & (values < one.start + one.width))
        assert len(met) == pytest.approx(200, rel=0.25)
        assert set(truth(corpus, one)) <= set(met.tolist())
        condition = one.message().range
        assert condition.less_than.int64_value - condition.at_least.int64_value == VALUES // 10


def test_near_documents_are_more_like_the_query_than_far_ones() -> None:
    corpus = make_corpus(2000, 40)
    cosines = {
        kind: np.mean(
            [
                corpus.queries[one.query] @ corpus.vectors[truth(corpus, one)[0]]
                for one in asked(corpus, kind, 0.1, 40)
            ]
        )
        for kind in ("near", "far")
    }
    assert cosines["near"] > cosines["far"] + 0.1


def test_documents_carry_their_vectors_and_fields() -> None:
    corpus = make_corpus(30, 1)
    messages = write_messages("bench", corpus, range(30), a_message=20)
    requests = [pb.WriteDocumentsRequest.FromString(message) for message in messages]
    assert [len(request.writes) for request in requests] == [20, 10]
    write = requests[1].writes[3]
    assert write.document.id == "23"
    assert write.document.metadata[INDEPENDENT].int64_value == corpus.independent[23]
    assert write.document.metadata[CORRELATED].int64_value == corpus.correlated[23]
    stored = np.frombuffer(write.passages[0].vector.data, "<f4")
    assert np.array_equal(stored, corpus.vectors[23])
    (counted,) = write_messages("bench", corpus, [5, 5], first_id=1000)
    ids = [one.document.id for one in pb.WriteDocumentsRequest.FromString(counted).writes]
    assert ids == ["1000", "1001"]


def _row(vectors: int, shards: int) -> Row:
    """Costs that are known: 1 GB and 1,000 bytes a vector, a millisecond of building, and a
    query that takes a core a millisecond for every factor of ten."""
    return Row(
        vectors=vectors,
        shards=shards,
        queries_per_second=2 * 1000 / (shards * math.log10(vectors)),
        recall=0.97,
        built_seconds=vectors / 1000,
        resident_bytes=10**9 + 1000 * vectors,
        peak_bytes=10**9 + 2000 * vectors,
        disk_bytes=3000 * vectors,
    )


def test_a_projection_follows_from_what_was_measured() -> None:
    rows = [_row(vectors, shards) for vectors in (10_000, 100_000) for shards in (1, 2, 4)]
    found = project(rows, 100_000_000)
    # 48 GiB less the first GB hold 50.5 million vectors.
    assert found.shards == 2
    assert found.shard_vectors == 50_000_000
    assert found.nodes == 4
    assert found.memory_bytes == pytest.approx(2e9 + 1e11)
    assert found.build_hours == pytest.approx(50_000 / 3600)
    # No segment has more than a million vectors, and on average three quarters of it.
    segments = 2 * 50 / 0.75
    assert found.queries_per_second == pytest.approx(64_000 / (segments * math.log10(750_000)))
    # A shard of a single segment.
    small = project(rows, 100_000)
    assert small.queries_per_second == pytest.approx(32_000 / 5)


def test_growth_is_not_told_from_one_size() -> None:
    with pytest.raises(ValueError, match="two sizes"):
        project([_row(10_000, 1)], 10**8)


def test_the_report_has_every_row_and_a_plot_that_can_be_read() -> None:
    rows = [_row(vectors, shards) for vectors in (10_000, 100_000) for shards in (1, 2, 4)]
    lines = text(rows).splitlines()
    assert sum(line.startswith(("| 10,000 |", "| 100,000 |")) for line in lines) == 6
    assert any(line.startswith("| 1,000,000,000 |") for line in lines)
    assert not any(line.startswith("\\*") for line in lines)
    lines = text([*rows, replace(rows[-1], vectors=10**6, shared=True)]).splitlines()
    assert any(line.startswith("| 1,000,000* |") for line in lines)
    assert any(line.startswith("\\*") for line in lines)
    drawn = ElementTree.fromstring(plot(rows))
    assert len(drawn.findall("{*}polyline")) == 9
    assert len(drawn.findall("{*}circle")) == 18
