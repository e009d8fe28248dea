"""Collections at the gateway: what the embedder serves decides a new one's space."""

from gateway import validation as check
from gateway.backends import Embedder, Retriever
from gateway.catalog import Catalog
from gateway.pipeline.rerank_plan import check_rerank
from sirdar.errors import InvalidArgument, NotFound
from sirdar.v1 import collection_pb2, common_pb2, retriever_pb2, search_pb2


class Collections:
    """The calls of SearchService on collections; they raise its errors."""

    def __init__(
        self, embedder: Embedder, retriever: Retriever, catalog: Catalog, limit_seconds: float
    ) -> None:
        self._embedder = embedder
        self._retriever = retriever
        self._catalog = catalog
        self._limit_seconds = limit_seconds

    async def create(
        self, request: search_pb2.CreateCollectionRequest
    ) -> search_pb2.CreateCollectionResponse:
        request.collection.namespace = check.namespace_of(request.collection.namespace)
        check.require_collection(request.collection.name, "collection.name")
        check_rerank(request.collection.rerank, "collection.rerank")
        collection = await self._create(request.collection)
        return search_pb2.CreateCollectionResponse(collection=collection)

    async def get(
        self, request: search_pb2.GetCollectionRequest
    ) -> search_pb2.GetCollectionResponse:
        response = await self._retriever.call(
            self._retriever.rpc.GetCollection,
            retriever_pb2.RetrieverServiceGetCollectionRequest(
                namespace=check.namespace_of(request.namespace),
                name=check.require_collection(request.name, "name"),
            ),
            self._limit_seconds,
        )
        return search_pb2.GetCollectionResponse(collection=response.collection)

    async def list(
        self, request: search_pb2.ListCollectionsRequest
    ) -> search_pb2.ListCollectionsResponse:
        response = await self._retriever.call(
            self._retriever.rpc.ListCollections,
            retriever_pb2.RetrieverServiceListCollectionsRequest(
                namespace=check.namespace_of(request.namespace),
                page_size=request.page_size if request.HasField("page_size") else None,
                page_token=request.page_token,
            ),
            self._limit_seconds,
        )
        return search_pb2.ListCollectionsResponse(
            collections=response.collections, next_page_token=response.next_page_token
        )

    async def update(
        self, request: search_pb2.UpdateCollectionRequest
    ) -> search_pb2.UpdateCollectionResponse:
        request.collection.namespace = check.namespace_of(request.collection.namespace)
        check.require_collection(request.collection.name, "collection.name")
        check_rerank(request.collection.rerank, "collection.rerank")
        self._catalog.forget(request.collection.namespace, request.collection.name)
        response = await self._retriever.call(
            self._retriever.rpc.UpdateCollection,
            retriever_pb2.RetrieverServiceUpdateCollectionRequest(
                collection=request.collection, update_mask=request.update_mask
            ),
            self._limit_seconds,
        )
        # Who read it meanwhile may remember it as it was.
        self._catalog.remember(request.collection.namespace, response.collection)
        return search_pb2.UpdateCollectionResponse(collection=response.collection)

    async def delete(
        self, request: search_pb2.DeleteCollectionRequest
    ) -> search_pb2.DeleteCollectionResponse:
        await self._delete(
            check.namespace_of(request.namespace), check.require_collection(request.name, "name")
        )
        return search_pb2.DeleteCollectionResponse()

    async def _create(self, wanted: collection_pb2.Collection) -> collection_pb2.Collection:
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

    async def _delete(self, namespace: str, name: str) -> None:
        request = retriever_pb2.RetrieverServiceDeleteCollectionRequest(
            namespace=namespace, name=name
        )
        try:
            await self._retriever.call(
                self._retriever.rpc.DeleteCollection, request, self._limit_seconds
            )
        finally:
            # Also where it is not known whether it was done; who read it meanwhile may remember
            # it.
            self._catalog.forget(namespace, name)

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
