"""The calls of SearchService on collections."""

from sirdar.client import decode, encode
from sirdar.client.call import Call, Page
from sirdar.client.collection import Collection, Similarity
from sirdar.client.options import CollectionChanges, CollectionOptions
from sirdar.errors import InvalidArgument
from sirdar.v1 import collection_pb2, search_pb2

_SIMILARITIES = {
    Similarity.COSINE: collection_pb2.SIMILARITY_COSINE,
    Similarity.DOT: collection_pb2.SIMILARITY_DOT,
}

CreateCollectionCall = Call[
    search_pb2.CreateCollectionRequest, search_pb2.CreateCollectionResponse, Collection
]
GetCollectionCall = Call[
    search_pb2.GetCollectionRequest, search_pb2.GetCollectionResponse, Collection
]
ListCollectionsCall = Call[
    search_pb2.ListCollectionsRequest, search_pb2.ListCollectionsResponse, Page[Collection]
]
UpdateCollectionCall = Call[
    search_pb2.UpdateCollectionRequest, search_pb2.UpdateCollectionResponse, Collection
]
DeleteCollectionCall = Call[
    search_pb2.DeleteCollectionRequest, search_pb2.DeleteCollectionResponse, None
]


class CollectionCalls:
    """Makes the calls of one namespace. Each raises InvalidArgument for what cannot be sent."""

    def __init__(self, namespace: str) -> None:
        """`namespace` is checked already."""
        self._namespace = namespace

    def create(self, name: str, options: CollectionOptions) -> CreateCollectionCall:
        encode.known(options, CollectionOptions)
        collection = collection_pb2.Collection(
            namespace=self._namespace,
            name=encode.text("name", name),
            description=encode.text("description", options.get("description", "")),
            labels=encode.labels("labels", options.get("labels", {})),
            schema=encode.schema("schema", options.get("schema", {})),
        )
        if "lexical" in options:
            collection.lexical.enabled = encode.boolean("lexical", options["lexical"])
        if "language" in options:
            collection.lexical.language = encode.text("language", options["language"])
        if "rerank" in options:
            collection.rerank.CopyFrom(encode.rerank_settings("rerank", options["rerank"]))
        generation = collection.generation
        if "model" in options:
            model = options["model"]
            generation.space.model.name = encode.text("model.name", model.name)
            generation.space.model.revision = encode.text("model.revision", model.revision)
        if "similarity" in options:
            generation.similarity = _SIMILARITIES[options["similarity"]]
        generation.shards = encode.int32("shards", options.get("shards", 0))
        generation.index_kind = encode.text("index_kind", options.get("index_kind", ""))
        return Call(
            lambda stub: stub.CreateCollection,
            search_pb2.CreateCollectionRequest(collection=collection),
            lambda answer: decode.collection(answer.collection),
        )

    def get(self, name: str) -> GetCollectionCall:
        return Call(
            lambda stub: stub.GetCollection,
            search_pb2.GetCollectionRequest(
                namespace=self._namespace, name=encode.text("name", name)
            ),
            lambda answer: decode.collection(answer.collection),
        )

    def list(self, page_size: int, token: str) -> ListCollectionsCall:
        return Call(
            lambda stub: stub.ListCollections,
            search_pb2.ListCollectionsRequest(
                namespace=self._namespace,
                page_size=encode.int32("page_size", page_size),
                page_token=token,
            ),
            lambda answer: Page(
                tuple(decode.collection(item) for item in answer.collections),
                answer.next_page_token,
            ),
        )

    def update(self, name: str, changes: CollectionChanges) -> UpdateCollectionCall:
        """Raises InvalidArgument if nothing is to be changed."""
        encode.known(changes, CollectionChanges)
        request = search_pb2.UpdateCollectionRequest()
        request.collection.namespace = self._namespace
        request.collection.name = encode.text("name", name)
        if "description" in changes:
            request.collection.description = encode.text("description", changes["description"])
        if "labels" in changes:
            request.collection.labels.update(encode.labels("labels", changes["labels"]))
        if "rerank" in changes:
            request.collection.rerank.CopyFrom(encode.rerank_settings("rerank", changes["rerank"]))
        if "schema" in changes:
            request.collection.schema.extend(encode.schema("schema", changes["schema"]))
        request.update_mask.paths.extend(changes)
        if not request.update_mask.paths:
            raise InvalidArgument("nothing to update: give a description, labels, rerank or schema")
        return Call(
            lambda stub: stub.UpdateCollection,
            request,
            lambda answer: decode.collection(answer.collection),
        )

    def delete(self, name: str) -> DeleteCollectionCall:
        return Call(
            lambda stub: stub.DeleteCollection,
            search_pb2.DeleteCollectionRequest(
                namespace=self._namespace, name=encode.text("name", name)
            ),
            lambda answer: None,
        )
