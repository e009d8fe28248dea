"""What a search can be asked beside its query: units, groups, diversity, thresholds, fields."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class CacheUse(StrEnum):
    """`none`: search. `exact`: also the kept answer to the very same request over the same
    writes. `semantic`: also that to a query that means nearly the same."""

    NONE = "none"
    EXACT = "exact"
    SEMANTIC = "semantic"


class SearchUnit(StrEnum):
    """`documents`: each once, with its best passage. `passages`: each for itself."""

    DOCUMENTS = "documents"
    PASSAGES = "passages"


class CollapseMethod(StrEnum):
    """`best_passage`: a document is as good as its best. `mean_of_best`: as the mean of the best
    few; those that it lacks count as the lowest score of all."""

    BEST_PASSAGE = "best_passage"
    MEAN_OF_BEST = "mean_of_best"


@dataclass(frozen=True, slots=True)
class Collapse:
    """How passages become documents; `passages` is of the mean (default: 3)."""

    method: CollapseMethod | str = CollapseMethod.BEST_PASSAGE
    passages: int | None = None


@dataclass(frozen=True, slots=True)
class Grouping:
    """By a metadata field, at most `limit` results a group; `top_k` then counts groups."""

    field: str
    limit: int = 1


@dataclass(frozen=True, slots=True)
class Diversity:
    """Maximal marginal relevance: `relevance` from 0, only different, to 1, only relevant.

    None: as the server chooses, and so is `depth`, how many of the best are
    chosen from.
    """

    relevance: float | None = None
    depth: int | None = None


@dataclass(frozen=True, slots=True)
class Threshold:
    """The least that results must have; None: no matter. What lacks a score is below all."""

    score: float | None = None
    similarity: float | None = None
    lexical_score: float | None = None
    rerank_score: float | None = None


@dataclass(frozen=True, slots=True)
class ReturnedFields:
    """What results carry; `metadata_fields` empty: every field."""

    text: bool = True
    title: bool = True
    metadata: bool = True
    metadata_fields: Sequence[str] = ()
