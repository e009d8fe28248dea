"""Collections at the gateway: what the embedder serves decides a new one's space."""

from gateway.backends import Embedder, Retriever
from gateway.catalog import Catalog
from sirdar.errors import InvalidArgument, NotFound
from sirdar.v1 import collection_pb2, common_pb2, retriever_pb2


class Collections:
    def __init__(
        self, embedder: Embedder, retriever: Retriever, catalog: Catalog, limit_seconds: float
    ) -> None:
        self._embedder = embedder
        self._retriever = retriever
        self._catalog = catalog
        self._limit_seconds = limit_seconds

    async def create(self, wanted: collection_pb2.Collection) -> collection_pb2.Collection:
        """Creates it in the space of the model that it names, or of the default model."""
        space = await self._space(wanted.generation.space)
        collection = collection_pb2.Collection()
        collection.CopyFrom(wanted)
        collection.generation.space.CopyFrom(space)
        request = retriever_pb2.RetrieverServiceCreateCollectionRequest(collection=collection)
        response = await self._retriever.call(
            self._retriever.rpc.CreateCollection, request, self._limit_seconds
        )
        self._catalog.remember(response.collection.namespace, response.collection)
        return response.collection

    async def delete(self, namespace: str, name: str) -> None:
        self._catalog.forget(namespace, name)
        request = retriever_pb2.RetrieverServiceDeleteCollectionRequest(
            namespace=namespace, name=name
        )
        await self._retriever.call(
            self._retriever.rpc.DeleteCollection, request, self._limit_seconds
        )

    async def _space(self, wanted: common_pb2.EmbeddingSpace) -> common_pb2.EmbeddingSpace:
        models = await self._embedder.models(self._limit_seconds)
        for model in models:
            named = (
                model.model.name == wanted.model.name
                and wanted.model.revision in ("", model.model.revision)
                if wanted.model.name
                else model.is_default
            )
            if named:
                _check_asked(wanted, model.space)
                return model.space
        served = ", ".join(model.model.name for model in models)
        raise NotFound(
            f"no embedder serves the model {wanted.model.name!r}; served: {served}",
            reason="MODEL_NOT_FOUND",
            metadata={"model": wanted.model.name},
        )


def _check_asked(wanted: common_pb2.EmbeddingSpace, served: common_pb2.EmbeddingSpace) -> None:
    """A caller may pin dimensions or fingerprint; both must be what is served."""
    if wanted.dimensions not in (0, served.dimensions):
        raise InvalidArgument.field(
            "collection.generation.space.dimensions",
            f"is {wanted.dimensions}; the model has {served.dimensions}",
        )
    if wanted.fingerprint not in ("", served.fingerprint):
        raise InvalidArgument.field(
            "collection.generation.space.fingerprint",
            f"is not that of the served model, {served.fingerprint}",
        )
