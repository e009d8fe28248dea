"""What a search ranks, and how a hybrid one makes one order of its two lists."""

from dataclasses import dataclass
from enum import StrEnum


class SearchMode(StrEnum):
    """`dense`: by meaning. `lexical`: by words (BM25). `hybrid`: both, fused."""

    DENSE = "dense"
    LEXICAL = "lexical"
    HYBRID = "hybrid"


class FusionMethod(StrEnum):
    """`reciprocal_rank`: by weight / (rank_constant + rank). `weighted_scores`: each list's
    scores are brought to 0 to 1 and weighted."""

    RECIPROCAL_RANK = "reciprocal_rank"
    WEIGHTED_SCORES = "weighted_scores"


@dataclass(frozen=True, slots=True)
class Fusion:
    """How the lists of a hybrid search are fused. None: as the server is set."""

    method: FusionMethod | str | None = None
    dense_weight: float | None = None
    lexical_weight: float | None = None
    rank_constant: float | None = None
