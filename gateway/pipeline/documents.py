"""Found documents on their way from the retriever's candidates to the answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.pipeline.fusion import RankedPassage
from sirdar.v1 import retriever_pb2


@dataclass(frozen=True, slots=True)
class FoundDocument:
    """A document by its best passage; the passage stays as it travels.

    `score` orders the answer: of a hybrid search the fused one, else
    `similarity` or `lexical_score`, until the document is reranked.
    `similarity` is None where the passage was found by words only,
    `lexical_score` where by meaning only, `rerank_score`, the cross-encoder's
    logit, where it was not reranked. `highlights` are spans of code points in
    the passage's text, the best sentence first.
    """

    passage: retriever_pb2.CandidatePassage
    similarity: float | None
    lexical_score: float | None
    matched_passages: int
    retriever_rank: int
    score: float
    rerank_score: float | None = None
    highlights: tuple[tuple[int, int], ...] = ()


def collapse(
    passages: Sequence[retriever_pb2.CandidatePassage],
    ranked: Sequence[RankedPassage],
    count: int,
) -> list[FoundDocument]:
    """The best documents of the candidates, each by its best passage, best first.

    A document has the score of its best passage, and is shown by the best of
    those that came with text: the retriever reads that of the best in each list.
    """
    best: dict[str, RankedPassage] = {}
    shown: dict[str, RankedPassage] = {}
    matched: dict[str, int] = {}
    for candidate in ranked:
        identity = passages[candidate.passage].document_id
        matched[identity] = matched.get(identity, 0) + 1
        best.setdefault(identity, candidate)
        if passages[candidate.passage].text:
            shown.setdefault(identity, candidate)
    documents: list[FoundDocument] = []
    for identity, candidate in list(best.items())[:count]:
        seen = shown.get(identity, candidate)
        documents.append(
            FoundDocument(
                passage=passages[seen.passage],
                similarity=seen.similarity,
                lexical_score=seen.lexical_score,
                matched_passages=matched[identity],
                retriever_rank=len(documents) + 1,
                score=candidate.score,
            )
        )
    return documents
