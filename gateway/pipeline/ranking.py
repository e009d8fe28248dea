"""What stages hand on: orders of passages or documents, over one pool of passages."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.pipeline.stages import Unit
from sirdar.v1 import document_pb2, retriever_pb2

_NOTHING: Mapping[int, float] = {}


class Pool:
    """The passages of a search, each once; the place in it is what a passage is called by."""

    def __init__(self) -> None:
        self.passages: list[retriever_pb2.CandidatePassage] = []
        # Equal where the documents of two passages are.
        self.documents: list[Hashable] = []
        # Empty where one collection is searched.
        self.collections: list[str] = []
        self._places: dict[Hashable, int] | None = None

    def add(
        self, found: Iterable[retriever_pb2.CandidatePassage], collection: str | None = None
    ) -> Sequence[int]:
        """The places of these passages, in order.

        Of one that is there already, the text is kept wherever it comes from.
        """
        if not self.passages and collection is None:
            self.passages = list(found)
            self.documents = [passage.document_id for passage in self.passages]
            return range(len(self.passages))
        return [self._place(passage, collection) for passage in found]

    def _place(self, passage: retriever_pb2.CandidatePassage, collection: str | None) -> int:
        document: Hashable = passage.document_id
        if collection is not None:
            document = (collection, passage.document_id)
        places = self._known()
        key = (document, passage.index)
        place = places.get(key)
        if place is None:
            place = places[key] = len(self.passages)
            self.passages.append(passage)
            self.documents.append(document)
            if collection is not None:
                self.collections.append(collection)
        elif passage.text and not self.passages[place].text:
            self.passages[place] = passage
        return place

    def _known(self) -> dict[Hashable, int]:
        """Where each passage is; of one list alone nobody asks."""
        if self._places is None:
            self._places = {
                (document, passage.index): place
                for place, (document, passage) in enumerate(
                    zip(self.documents, self.passages, strict=True)
                )
            }
        return self._places


@dataclass(frozen=True, slots=True)
class FoundGroup:
    """The results of one value, best first, by their places."""

    value: document_pb2.MetadataValue
    members: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """Passages, or documents by the passage that shows them: places in the pool, best first.

    `scores` is in that order. `similarities`, `lexical_scores` and
    `rerank_scores` have those that are known, also of others; `matched` how
    many passages of each document there were. `before` is the order before
    anything was reranked, diversified or grouped.
    """

    unit: Unit
    scores: Mapping[int, float]
    similarities: Mapping[int, float] = field(default_factory=lambda: _NOTHING)
    lexical_scores: Mapping[int, float] = field(default_factory=lambda: _NOTHING)
    rerank_scores: Mapping[int, float] = field(default_factory=lambda: _NOTHING)
    matched: Mapping[int, int] | None = None
    before: Sequence[int] | None = None
    groups: tuple[FoundGroup, ...] | None = None
    # Whether the similarities may be compared with each other: they are of one space.
    comparable: bool = True
    # Of a diversified order: the relevance and the similarity to what was chosen before.
    marginal: Mapping[int, tuple[float, float]] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def reordered(
        self, scores: Mapping[int, float], groups: tuple[FoundGroup, ...] | None = None
    ) -> "Ranking":
        """Some or all of the same, in another order."""
        return replace(self, scores=scores, before=self.order_before, groups=groups, marginal=None)

    @property
    def order_before(self) -> Sequence[int]:
        return self.before if self.before is not None else tuple(self.scores)
