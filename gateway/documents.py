"""Found documents on their way from the retriever's candidates to the answer."""

from dataclasses import dataclass

from sirdar.v1 import retriever_pb2


@dataclass(frozen=True, slots=True)
class FoundDocument:
    """A document by its best passage; the passage stays as it travels.

    `score` orders the answer. `rerank_score` is the cross-encoder's logit,
    None where it was not reranked. `highlights` are spans of code points in
    the passage's text, the best sentence first.
    """

    passage: retriever_pb2.CandidatePassage
    similarity: float
    matched_passages: int
    retriever_rank: int
    score: float
    rerank_score: float | None = None
    highlights: tuple[tuple[int, int], ...] = ()


def collapse(results: retriever_pb2.PassageCandidates, count: int) -> list[FoundDocument]:
    """The best documents of a candidate list, each by its best passage, best first."""
    best: dict[str, tuple[retriever_pb2.CandidatePassage, float]] = {}
    matched: dict[str, int] = {}
    for candidate in results.dense:
        passage = results.passages[candidate.passage]
        identity = passage.document_id
        matched[identity] = matched.get(identity, 0) + 1
        best.setdefault(identity, (passage, candidate.score))
    return [
        FoundDocument(passage, similarity, matched[identity], rank, similarity)
        for rank, (identity, (passage, similarity)) in enumerate(list(best.items())[:count], 1)
    ]
