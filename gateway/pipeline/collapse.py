"""Collapse: passages to documents."""

from collections.abc import Hashable, Iterable

from gateway.pipeline.ranking import Pool, Ranking
from gateway.pipeline.stages import Unit


def collapse(pool: Pool, passages: Ranking, mean_of: int, count: int) -> Ranking:
    """The best documents, at most `count`.

    With `mean_of` 1 a document has the score of its best passage, else the mean
    of so many best; those that it lacks count as the lowest score of all. It is
    shown by the best of its passages that came with text: the retriever reads
    that of the best in each list.
    """
    identities = pool.documents
    best: dict[Hashable, float] = {}
    shown: dict[Hashable, int] = {}
    without_text: dict[Hashable, int] = {}
    matched: dict[Hashable, int] = {}
    # By their best passages the documents come best first: others than the first are not chosen.
    most = count if mean_of == 1 else len(passages)
    for place, score in passages.scores.items():
        identity = identities[place]
        if identity in matched:
            matched[identity] += 1
        elif len(matched) < most:
            matched[identity] = 1
            best[identity] = score
            without_text[identity] = place
        else:
            continue
        # Most of the time the best has text, and the others need no look.
        if identity not in shown and pool.passages[place].text:
            shown[identity] = place
    if mean_of > 1:
        best = _means(pool, passages, mean_of)
    scores: dict[int, float] = {}
    counts: dict[int, int] = {}
    for identity, score in best.items():
        place = shown.get(identity, without_text[identity])
        scores[place] = score
        counts[place] = matched[identity]
        if len(scores) == count:
            break
    return Ranking(
        Unit.DOCUMENTS,
        scores,
        passages.similarities,
        passages.lexical_scores,
        passages.rerank_scores,
        matched=counts,
        before=_before(pool, passages, scores),
        comparable=passages.comparable,
    )


def _before(pool: Pool, passages: Ranking, scores: Iterable[int]) -> tuple[int, ...] | None:
    """The documents in the order before their passages were reranked."""
    if passages.before is None:
        return None
    shown = {pool.documents[place]: place for place in scores}
    identities = dict.fromkeys(pool.documents[place] for place in passages.before)
    return tuple(shown[identity] for identity in identities if identity in shown)


def _means(pool: Pool, passages: Ranking, mean_of: int) -> dict[Hashable, float]:
    """The documents' means, the highest first; of equal ones that of the better passage."""
    taken: dict[Hashable, list[float]] = {}
    for place, score in passages.scores.items():
        scores = taken.setdefault(pool.documents[place], [])
        if len(scores) < mean_of:
            scores.append(score)
    lowest = min(passages.scores.values(), default=0.0)
    means = {
        identity: (sum(scores) + lowest * (mean_of - len(scores))) / mean_of
        for identity, scores in taken.items()
    }
    return dict(sorted(means.items(), key=lambda item: -item[1]))
