"""Operations that search, and what must be true of the candidates."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.retriever.store.placement import shard_of
from sirdar.errors import InvalidArgument, NotFound, Unimplemented
from sirdar.v1 import common_pb2
from sirdar.v1 import retriever_pb2 as pb
from tests.chaos.model import content
from tests.chaos.model.candidates import Passages, check_dense, check_lexical
from tests.chaos.model.filters import Condition, meets
from tests.chaos.model.oracle import NOBODY, CollectionModel, States, Violation
from tests.chaos.model.reads import there
from tests.chaos.model.world import Found, World, must_be

EVENTUAL = common_pb2.CONSISTENCY_EVENTUAL
SESSION = common_pb2.CONSISTENCY_SESSION
STRONG = common_pb2.CONSISTENCY_STRONG


@dataclass(frozen=True)
class Search:
    """`vectors`: the number of each query's vector; `words`: of each query, empty for none.
    `shard`: only this one, modulo how many there are."""

    lane: str
    slot: int
    vectors: tuple[int, ...]
    words: tuple[str, ...]
    candidates: int
    exact: bool
    consistency: int
    documents_with_text: int | None = None
    shard: int | None = None
    condition: Condition | None = None

    async def perform(self, world: World) -> str:
        async with world.collection(self.slot) as found:
            with (found.model or NOBODY).watched() as window:
                model = found.model or NOBODY
                request = self._request(found, model)
                try:
                    response = await world.call(lambda stub: stub.SearchPassages, request)
                except NotFound as fault:
                    return found.missing(fault)
                except Unimplemented as fault:
                    if any(self.words) and not model.definition.lexical:
                        return must_be(Unimplemented, fault)
                    raise
                except InvalidArgument as fault:
                    if self.condition is not None and not model.definition.schema:
                        return must_be(InvalidArgument, fault)
                    raise
                return self.check(world, there(found), response, there(found).in_window(window))

    def check(
        self,
        world: World,
        model: CollectionModel,
        response: pb.SearchPassagesResponse,
        possible: dict[str, States],
    ) -> str:
        asked = self._shards(model)
        coverage = response.coverage
        # A search that meets the deletion of its collection may find a part of it.
        if model.doomed:
            return "a part"
        if coverage.missing_shards or coverage.shards_answered != len(asked):
            raise Violation(f"{model}: shards did not answer: {coverage}")
        if len(response.results) != max(len(self.vectors), len(self.words)):
            raise Violation(f"{model}: {len(response.results)} results")
        among = {
            document: states
            for document, states in possible.items()
            if shard_of(document, model.definition.shards) in asked
            and any(meets(self.condition, state.metadata) for state in states if state.live)
        }
        passages = Passages(among, model.definition.similarity)
        for at, result in enumerate(response.results):
            if at < len(self.vectors):
                self._check_vectors(world, model, passages, self._query(model, at), result)
            if at < len(self.words) and self.words[at]:
                self._check_words(model, passages, self.words[at], result, response)
        return f"{sum(len(result.passages) for result in response.results)} passages"

    def _check_vectors(
        self,
        world: World,
        model: CollectionModel,
        passages: Passages,
        query: NDArray[np.float32],
        result: pb.PassageCandidates,
    ) -> None:
        kind = model.definition.index_kind
        fresh = self.consistency != EVENTUAL
        where = f"{model} dense"
        hits, of = check_dense(
            *(where, passages, query, result, self.candidates),
            complete=fresh and (self.exact or kind == "flat"),
        )
        # A best passage that was replaced before its text was read leaves others without.
        if not passages.uncertain:
            self._check_text(where, result, result.dense)
        if fresh and not self.exact:
            world.counts[f"recall hits, {kind}"] += hits
            world.counts[f"recall of, {kind}"] += of

    def _check_words(
        self,
        model: CollectionModel,
        passages: Passages,
        words: str,
        result: pb.PassageCandidates,
        response: pb.SearchPassagesResponse,
    ) -> None:
        if response.missing_lexical_shards and len(response.missing_lexical_shards) >= len(
            self._shards(model)
        ):
            return
        complete = self.consistency != EVENTUAL and not response.missing_lexical_shards
        check_lexical(
            f"{model} lexical", passages, words, result, self.candidates, complete=complete
        )

    def _check_text(
        self, where: str, result: pb.PassageCandidates, candidates: Sequence[pb.Candidate]
    ) -> None:
        """Which passages come with their text."""
        if self.documents_with_text is None:
            bare = [passage for passage in result.passages if not passage.text]
            if bare:
                raise Violation(f"{where}: {bare} have no text")
            return
        seen: list[str] = []
        for candidate in candidates:
            passage = result.passages[candidate.passage]
            best = passage.document_id not in seen and len(seen) < self.documents_with_text
            if best:
                seen.append(passage.document_id)
            if best and not passage.text:
                raise Violation(f"{where}: {passage} is the best of its document without text")

    def _query(self, model: CollectionModel, at: int) -> NDArray[np.float32]:
        return content.query_vector(self.vectors[at], model.definition.similarity)

    def _shards(self, model: CollectionModel) -> list[int]:
        shards = model.definition.shards
        return list(range(shards)) if self.shard is None else [self.shard % shards]

    def _request(self, found: Found, model: CollectionModel) -> pb.SearchPassagesRequest:
        request = pb.SearchPassagesRequest(
            namespace=found.slot.namespace,
            collection=found.slot.name,
            candidates=self.candidates,
            exact=self.exact,
            fingerprint=content.FINGERPRINT,
            consistency=self.consistency,  # type: ignore[arg-type]
            documents_with_text=self.documents_with_text,
        )
        if self.shard is not None:
            request.shards.extend(self._shards(model))
        if self.condition is not None:
            request.filter.CopyFrom(self.condition.message())
        if self.consistency == SESSION:
            request.consistency_tokens.extend(model.tokens.values())
        for at in range(max(len(self.vectors), len(self.words))):
            query = request.queries.add()
            if at < len(self.vectors):
                query.vector.CopyFrom(content.as_message(self._query(model, at)))
            if at < len(self.words):
                query.lexical = self.words[at]
        return request
