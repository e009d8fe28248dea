"""Embedding the queries of a search, in the space of each collection that is searched."""

from collections.abc import Mapping, Sequence

from gateway.backends import EmbeddedQuery
from gateway.catalog import CollectionEntry
from gateway.pipeline.answer import SearchAnswer, StageName
from gateway.pipeline.tiers import Tiers
from gateway.search_watch import embedded_before
from gateway.together import together
from sirdar.errors import DeadlineExceeded, ResourceExhausted, Unavailable
from sirdar.v1 import common_pb2

# What passes: the search may go on by words.
_PASSING = (Unavailable, DeadlineExceeded, ResourceExhausted)


class QueryEmbedding:
    """`has_words`: whether the search can go on without vectors."""

    def __init__(
        self, tiers: Tiers, answer: SearchAnswer, *, has_words: bool, later: Sequence[StageName]
    ) -> None:
        self._tiers = tiers
        self._answer = answer
        self._has_words = has_words
        self._later = later

    async def embed(
        self, texts: Sequence[str], entries: Sequence[CollectionEntry]
    ) -> list[Mapping[str, EmbeddedQuery]]:
        """The texts for each collection; nothing, and it is said, where there were no vectors
        to be had and words are enough. Each text is embedded once a space.

        Raises what the embedder raises.
        """
        if len(texts) == len(entries) == 1:
            before = embedded_before(texts[0], entries[0].space.fingerprint)
            if before is not None:
                return [{texts[0]: before}]
        spaces = {entry.space.fingerprint: entry.space for entry in entries}
        try:
            limit_seconds = self._limit_seconds()
            with self._tiers.observed(
                common_pb2.STAGE_EMBED, self._answer, optional=self._has_words
            ):
                if len(spaces) == len(texts) == 1:
                    # Of one call no task is made.
                    space = entries[0].space
                    known = {space.fingerprint: await self._in_space(texts, space, limit_seconds)}
                else:
                    found = await together(
                        self._in_space(texts, one, limit_seconds) for one in spaces.values()
                    )
                    known = dict(zip(spaces, found, strict=True))
        except _PASSING as error:
            if not self._has_words:
                raise
            self._answer.degrade(common_pb2.DEGRADED_REASON_DENSE_SKIPPED, error.message)
            return [{} for _ in entries]
        return [known[entry.space.fingerprint] for entry in entries]

    def _limit_seconds(self) -> float:
        seconds = self._tiers.budget.limit_seconds(
            common_pb2.STAGE_EMBED,
            self._tiers.settings.embed_timeout_seconds,
            later=self._later,
            optional=self._has_words,
        )
        if seconds <= 0:
            raise DeadlineExceeded("there was no time to embed the query; allow more")
        return seconds

    async def _in_space(
        self, texts: Sequence[str], space: common_pb2.EmbeddingSpace, limit_seconds: float
    ) -> Mapping[str, EmbeddedQuery]:
        if len(texts) == 1:
            return {texts[0]: await self._query(texts[0], space, limit_seconds)}
        vectors = await together(self._query(text, space, limit_seconds) for text in texts)
        return dict(zip(texts, vectors, strict=True))

    async def _query(
        self, text: str, space: common_pb2.EmbeddingSpace, limit_seconds: float
    ) -> EmbeddedQuery:
        return await self._tiers.embedder.embed_query(
            text, space.model, space.fingerprint, limit_seconds
        )
