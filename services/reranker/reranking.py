"""What the reranker does, without gRPC: validates, tokenizes, batches, scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from services.inference.batcher import Batcher, Work
from services.inference.cross_encoder import LoadedCrossEncoder
from sirdar.errors import InvalidArgument, NotFound, ResourceExhausted, SirdarError

# The batcher's word for: refused, because it would come too late.
DEADLINE_TOO_NEAR = "DEADLINE_TOO_NEAR"


@dataclass(frozen=True, slots=True)
class RerankingLimits:
    """What is too much for one message."""

    passages: int
    query_characters: int


@dataclass(frozen=True, slots=True)
class Query:
    """What passages are scored against, and how."""

    text: str
    raw_scores: bool
    """Answer logits instead of the model's own activation of them."""


@dataclass(frozen=True, slots=True)
class PassageScore:
    """How relevant a passage is."""

    logit: float
    score: float
    """The logit or its activation, as the query asks for."""
    truncated: bool


@dataclass(frozen=True, slots=True)
class Dropped:
    """A passage that there was no time for."""


DROPPED: Final = Dropped()
PassageOutcome: TypeAlias = PassageScore | SirdarError | Dropped


class Reranker:
    """One cross-encoder's scores of passages."""

    def __init__(
        self, model: LoadedCrossEncoder, batcher: Batcher, limits: RerankingLimits
    ) -> None:
        self.model = model
        self.limits = limits
        self._batcher = batcher

    def check_model(self, name: str, revision: str) -> None:
        """Raises NotFound for a model that is not served here, InvalidArgument for a revision
        of no model."""
        if revision and not name:
            raise InvalidArgument.field(
                "options.model.name", "must not be empty beside a revision", reason="EMPTY"
            )
        source = self.model.source
        if name and (name != source.name or (revision and revision != source.revision)):
            asked = f"{name} at revision {revision}" if revision else name
            raise NotFound(
                f"model {asked} is not served here; this reranker serves {source.name}",
                reason="MODEL_NOT_FOUND",
                metadata={"served": source.name},
            )

    def query(self, text: str, *, raw_scores: bool) -> Query:
        """Raises InvalidArgument for a text that nothing can be scored against."""
        field = "options.query"
        if not text or text.isspace():
            raise InvalidArgument.field(field, "must not be empty", reason="EMPTY")
        if "\0" in text:
            raise InvalidArgument.field(field, "must not contain NUL")
        limit = self.limits.query_characters
        if len(text) > limit:
            raise InvalidArgument.field(
                field, f"has {len(text)} characters, the limit is {limit}; ask in fewer words"
            )
        return Query(text, raw_scores)

    async def score_passages(
        self, query: Query, texts: Sequence[str], work: Work
    ) -> list[PassageOutcome]:
        """One outcome a passage of a message, in their order.

        A passage that is longer than the window, be it a megabyte, is cut. Work
        that may be partial has its last passages dropped when time is short.
        Raises InvalidArgument for no or too many passages, ResourceExhausted and
        DeadlineExceeded as the batcher does.
        """
        self._check_count(len(texts))
        errors = [_text_error(f"passages[{index}].text", text) for index, text in enumerate(texts)]
        good = [text for text, error in zip(texts, errors, strict=True) if error is None]
        scored = iter(await self._score(query, good, work))
        return [error or next(scored) for error in errors]

    async def score_group(
        self, query: Query, texts: Sequence[str], work: Work
    ) -> list[PassageOutcome]:
        """The same for passages of a stream that are there together.

        A full queue refuses these passages, not the stream; where there is no
        time for any, work that may be partial has all of them dropped.
        """
        errors = [_text_error("passage.text", text) for text in texts]
        good = [text for text, error in zip(texts, errors, strict=True) if error is None]
        outcomes: list[PassageOutcome]
        try:
            outcomes = await self._score(query, good, work)
        except ResourceExhausted as error:
            late = work.partial and error.reason == DEADLINE_TOO_NEAR
            outcomes = [DROPPED if late else error] * len(good)
        scored = iter(outcomes)
        return [error or next(scored) for error in errors]

    async def _score(self, query: Query, texts: Sequence[str], work: Work) -> list[PassageOutcome]:
        """The batcher is asked before tokenizing, so that refusing costs little."""
        if not texts:
            return []
        tokenizer = self.model.tokenizer
        tokens = tokenizer.estimate(query.text, texts)
        with self._batcher.admit(len(texts), tokens, work) as admission:
            let_in = texts[: admission.items]
            items = await tokenizer.encode_off_loop(query.text, let_in)
            result = await admission.run(items)
        logits = result.rows[:, 0]
        scores = logits if query.raw_scores else self.model.scores(logits)
        outcomes: list[PassageOutcome] = []
        for row, item in enumerate(items):
            if row in result.dropped:
                outcomes.append(DROPPED)
            elif row in result.failures:
                outcomes.append(result.failures[row])
            else:
                score = PassageScore(float(logits[row]), float(scores[row]), item.truncated)
                outcomes.append(score)
        return outcomes + [DROPPED] * (len(texts) - len(items))

    def _check_count(self, count: int) -> None:
        if count == 0:
            raise InvalidArgument.field("passages", "must not be empty", reason="EMPTY")
        if count > self.limits.passages:
            raise InvalidArgument.field(
                "passages",
                f"has {count} items, the limit is {self.limits.passages} a message; "
                "send fewer candidates, or stream them",
            )


def best_first(outcomes: Sequence[PassageOutcome], top_n: int | None) -> list[int]:
    """Places of the outcomes: scores from the best, at most `top_n`, then every error, then
    what was dropped.

    By logits: an activation may map different ones to the same float. Equal
    ones keep their order.
    """
    scored: list[tuple[float, int]] = []
    failed: list[int] = []
    dropped: list[int] = []
    for place, outcome in enumerate(outcomes):
        if isinstance(outcome, PassageScore):
            scored.append((-outcome.logit, place))
        else:
            (dropped if isinstance(outcome, Dropped) else failed).append(place)
    return [place for _, place in sorted(scored)[:top_n]] + failed + dropped


def check_top_n(top_n: int, field: str, limit: int | None = None) -> int:
    """Raises InvalidArgument below 1, and above the limit where there is one."""
    if top_n < 1:
        raise InvalidArgument.field(field, "must be at least 1; leave it out for all passages")
    if limit is not None and top_n > limit:
        raise InvalidArgument.field(
            field, f"is {top_n}, the limit is {limit}; leave it out and order the scores yourself"
        )
    return top_n


def _text_error(field: str, text: str) -> SirdarError | None:
    if not text or text.isspace():
        return InvalidArgument.field(field, "must not be empty", reason="EMPTY")
    if "\0" in text:
        return InvalidArgument.field(field, "must not contain NUL")
    return None
