"""Deletion by filter."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sirdar.errors import InvalidArgument, NotFound, ResourceExhausted
from sirdar.v1 import retriever_pb2 as pb
from tests.chaos.model.expiry import between
from tests.chaos.model.filters import Condition, meets
from tests.chaos.model.oracle import CollectionModel, States, Violation
from tests.chaos.model.state import Deleted, Outcome, State
from tests.chaos.model.world import World, must_be, store_full


@dataclass(frozen=True)
class DeleteIf:
    document: str
    condition: Condition

    def apply(self, state: State) -> tuple[Outcome, State]:
        met = state.live and meets(self.condition, state.metadata)
        return Deleted(met), state.gone() if met else state


@dataclass(frozen=True)
class Sweep:
    """It is done in steps: where it was not answered, some documents may be gone. No other
    write meets it, as a write might come before or after its step."""

    lane: str
    slot: int
    condition: Condition
    count_only: bool

    async def perform(self, world: World) -> str:
        async with world.collection(self.slot) as found:
            request = pb.RetrieverServiceDeleteByFilterRequest(
                namespace=found.slot.namespace,
                collection=found.slot.name,
                filter=self.condition.message(),
                count_only=self.count_only,
            )
            model = found.model
            try:
                if model is None:
                    await world.call(lambda stub: stub.DeleteByFilter, request)
                    raise Violation(f"{found.slot} has no collection, but documents were deleted")
                async with model.writers.alone():
                    return await self._sweep(world, model, request)
            except NotFound as fault:
                return found.missing(fault)
            except InvalidArgument as fault:
                if model is not None and not model.definition.schema:
                    return must_be(InvalidArgument, fault)
                raise

    async def _sweep(
        self,
        world: World,
        model: CollectionModel,
        request: pb.RetrieverServiceDeleteByFilterRequest,
    ) -> str:
        started_ns = time.time_ns()
        changes = [DeleteIf(document, self.condition) for document in model.documents]
        call = None if self.count_only else model.begin(changes)
        try:
            response = await world.call(lambda stub: stub.DeleteByFilter, request)
        except ResourceExhausted as fault:
            return store_full(world, fault)
        except InvalidArgument:
            if call:
                model.not_done(call)
            raise
        before = call.before if call else model.documents
        before = {document: between(states, started_ns) for document, states in before.items()}
        least, most = self._count(before, all), self._count(before, any)
        if not least <= response.documents <= most:
            raise Violation(f"{model}: {response.documents} deleted, not {least} to {most}")
        for document, states in before.items():
            if call:
                change = DeleteIf(document, self.condition)
                model.observed(document, {change.apply(state)[1] for state in states})
        for token in response.consistency_tokens:
            model.saw(token)
        return f"{response.documents} documents"

    def _count(self, known: dict[str, States], choose: Callable[[Iterable[bool]], bool]) -> int:
        return sum(
            choose(state.live and meets(self.condition, state.metadata) for state in states)
            for states in known.values()
        )
