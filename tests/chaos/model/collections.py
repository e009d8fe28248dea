"""Operations on collections as a whole."""

from dataclasses import dataclass

from sirdar.errors import AlreadyExists, NotFound, ResourceExhausted
from sirdar.v1 import collection_pb2, common_pb2, filter_pb2
from sirdar.v1 import retriever_pb2 as pb
from tests.chaos.model import content
from tests.chaos.model.filters import SCHEMA
from tests.chaos.model.oracle import CollectionModel, Definition, Violation
from tests.chaos.model.world import Lost, Slot, World, must_be, store_full


@dataclass(frozen=True)
class Create:
    lane: str
    slot: int
    definition: Definition

    async def perform(self, world: World) -> str:
        slot = world.slots[self.slot]
        async with slot.lock:
            if slot.current is not None:
                return await self._again(world, slot)
            model = CollectionModel(slot.namespace, slot.name, self.definition)
            try:
                response = await world.call(lambda stub: stub.CreateCollection, self._request(slot))
            except Lost:
                slot.unsure = model
                raise
            except ResourceExhausted as fault:
                return store_full(world, fault)
            check_definition(model, response.collection)
            slot.current = model
            return f"{model.definition}"

    async def _again(self, world: World, slot: Slot) -> str:
        try:
            await world.call(lambda stub: stub.CreateCollection, self._request(slot))
        except (AlreadyExists, ResourceExhausted) as fault:
            if isinstance(fault, ResourceExhausted):
                return store_full(world, fault)
            return must_be(AlreadyExists, fault)
        raise Violation(f"{slot.current} was created twice")

    def _request(self, slot: Slot) -> pb.RetrieverServiceCreateCollectionRequest:
        definition = self.definition
        return pb.RetrieverServiceCreateCollectionRequest(
            collection=collection_pb2.Collection(
                namespace=slot.namespace,
                name=slot.name,
                generation=collection_pb2.Generation(
                    space=common_pb2.EmbeddingSpace(
                        model=common_pb2.ModelRef(name="model"),
                        dimensions=content.DIMENSIONS,
                        fingerprint=content.FINGERPRINT,
                    ),
                    shards=definition.shards,
                    index_kind=definition.index_kind,
                    similarity=definition.similarity,  # type: ignore[arg-type]
                ),
                schema=[
                    filter_pb2.FieldSchema(name=name, type=type_)
                    for name, type_ in (SCHEMA.items() if definition.schema else ())
                ],
                lexical=collection_pb2.LexicalSettings(
                    enabled=definition.lexical, language=definition.language
                ),
            )
        )


@dataclass(frozen=True)
class Drop:
    lane: str
    slot: int

    async def perform(self, world: World) -> str:
        slot = world.slots[self.slot]
        async with slot.lock:
            model = slot.current
            request = pb.RetrieverServiceDeleteCollectionRequest(
                namespace=slot.namespace, name=slot.name
            )
            if model is not None:
                model.doomed = True
            world.under_way["drop"] += 1
            try:
                await world.call(lambda stub: stub.DeleteCollection, request)
            except Lost:
                slot.unsure = model
                raise
            except NotFound as fault:
                if model is not None:
                    raise Violation(f"{model} is not there: {fault}") from fault
                return must_be(NotFound, fault)
            except ResourceExhausted as fault:
                if model is not None:
                    model.doomed = False
                return store_full(world, fault)
            finally:
                world.under_way["drop"] -= 1
            if model is None:
                raise Violation(f"{slot} had no collection, but one was deleted")
            slot.current = None
            # Who still has a call under way must not meet the next one.
            await model.unused()
            return f"{model}"


def check_definition(model: CollectionModel, collection: collection_pb2.Collection) -> None:
    generation = collection.generation
    seen = Definition(
        shards=generation.shards,
        index_kind=generation.index_kind,
        similarity=generation.similarity,
        lexical=collection.lexical.enabled,
        language=collection.lexical.language,
        schema={field.name: field.type for field in collection.schema} == SCHEMA,
    )
    name = (collection.namespace, collection.name)
    if seen != model.definition or name != (model.namespace, model.name):
        raise Violation(f"{model} is {seen}, but was created as {model.definition}")
