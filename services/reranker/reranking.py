"""What the reranker does, without gRPC: validates, tokenizes, batches, scores."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.inference.batcher import Batcher, Priority
from services.inference.cross_encoder import LoadedCrossEncoder
from sirdar.errors import InvalidArgument, NotFound, SirdarError


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


class Reranker:
    """One cross-encoder's scores of passages."""

    def __init__(
        self, model: LoadedCrossEncoder, batcher: Batcher, limits: RerankingLimits
    ) -> None:
        self.model = model
        self._batcher = batcher
        self._limits = limits

    def check_model(self, name: str, revision: str) -> None:
        """Raises NotFound for a model that is not served here."""
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
        limit = self._limits.query_characters
        if len(text) > limit:
            raise InvalidArgument.field(
                field, f"has {len(text)} characters, the limit is {limit}; ask in fewer words"
            )
        return Query(text, raw_scores)

    async def score_passages(
        self, query: Query, texts: Sequence[str], priority: Priority, deadline: float | None
    ) -> list[PassageScore | SirdarError]:
        """One outcome a passage, in their order. `deadline` is in seconds on time.monotonic().

        A passage that is longer than the window, be it a megabyte, is cut. Raises
        InvalidArgument for no or too many passages, ResourceExhausted and
        DeadlineExceeded as the batcher does.
        """
        self._check_count(len(texts))
        errors = [_text_error(f"passages[{index}].text", text) for index, text in enumerate(texts)]
        good = [text for text, error in zip(texts, errors, strict=True) if error is None]
        scored = iter(await self._score(query, good, priority, deadline))
        return [error or next(scored) for error in errors]

    async def score_passage(
        self, query: Query, text: str, priority: Priority, deadline: float | None
    ) -> PassageScore | SirdarError:
        """The same for the one passage of a message of a stream."""
        error = _text_error("passage.text", text)
        return error or (await self._score(query, [text], priority, deadline))[0]

    async def _score(
        self, query: Query, texts: Sequence[str], priority: Priority, deadline: float | None
    ) -> list[PassageScore | SirdarError]:
        items = await self.model.tokenizer.encode_off_loop(query.text, texts)
        result = await self._batcher.run(items, priority, deadline)
        logits = result.rows[:, 0]
        scores = logits if query.raw_scores else self.model.scores(logits)
        return [
            result.failures.get(row)
            or PassageScore(float(logits[row]), float(scores[row]), item.truncated)
            for row, item in enumerate(items)
        ]

    def _check_count(self, count: int) -> None:
        if count == 0:
            raise InvalidArgument.field("passages", "must not be empty", reason="EMPTY")
        if count > self._limits.passages:
            raise InvalidArgument.field(
                "passages",
                f"has {count} items, the limit is {self._limits.passages} a message; "
                "send fewer candidates, or stream them",
            )


def best_first(outcomes: Sequence[PassageScore | SirdarError], top_n: int | None) -> list[int]:
    """Places of the outcomes: scores from the best, at most `top_n`, then every error.

    By logits: an activation may map different ones to the same float. Equal
    ones keep their order. Raises InvalidArgument for a `top_n` below 1.
    """
    if top_n is not None and top_n < 1:
        raise InvalidArgument.field("top_n", "must be at least 1; leave it out for all passages")
    scored: list[tuple[float, int]] = []
    failed: list[int] = []
    for place, outcome in enumerate(outcomes):
        if isinstance(outcome, SirdarError):
            failed.append(place)
        else:
            scored.append((-outcome.logit, place))
    return [place for _, place in sorted(scored)[:top_n]] + failed


def _text_error(field: str, text: str) -> SirdarError | None:
    if not text or text.isspace():
        return InvalidArgument.field(field, "must not be empty", reason="EMPTY")
    if "\0" in text:
        return InvalidArgument.field(field, "must not contain NUL")
    return None
