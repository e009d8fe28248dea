"""RetrieverService over gRPC: each handler checks, calls and answers."""

from collections.abc import AsyncIterator
from typing import Any, Protocol

from services.retriever import answers, document_requests, document_updates, requests, watching
from services.retriever.announcements import Announcements
from services.retriever.filters import requests as filter_requests
from services.retriever.metadata import MetadataRules
from services.retriever.open_collection import OpenCollection
from services.retriever.position_stream import answer_positions
from services.retriever.retriever import Retriever
from services.retriever.settings import RetrieverSettings
from services.retriever.store.records import Collection, DocumentPatch, DocumentWrite, Generation
from services.retriever.tokens import consistency_token, page_token, read_page_token
from services.runtime.drain import Drain
from sirdar.errors import InvalidArgument, SirdarError
from sirdar.v1 import collection_pb2, retriever_pb2_grpc
from sirdar.v1 import retriever_pb2 as pb


class _NamesCollection(Protocol):
    @property
    def namespace(self) -> str: ...
    @property
    def collection(self) -> str: ...


class RetrieverServicer(retriever_pb2_grpc.RetrieverServiceServicer):
    accepts_writes = True

    def __init__(self, retriever: Retriever, settings: RetrieverSettings, drain: Drain) -> None:
        self._retriever = retriever
        self._drain = drain
        self._announcements = Announcements(retriever.catalog, drain)
        self._name = settings.name
        self._default_shards = settings.default_shards
        self._default_language = settings.lexical_language
        self._max_document_bytes = settings.max_document_bytes
        self._max_message_bytes = settings.max_message_bytes
        # A page is one message, with room for what is around the texts.
        self._max_page_bytes = settings.max_message_bytes // 2

    async def CreateCollection(
        self, request: pb.RetrieverServiceCreateCollectionRequest, context: Any
    ) -> pb.RetrieverServiceCreateCollectionResponse:
        definition = requests.definition(
            request.collection, self._default_shards, self._default_language
        )
        created = await self._retriever.create_collection(definition)
        return pb.RetrieverServiceCreateCollectionResponse(collection=self._describe(created))

    async def GetCollection(
        self, request: pb.RetrieverServiceGetCollectionRequest, context: Any
    ) -> pb.RetrieverServiceGetCollectionResponse:
        namespace = requests.namespace(request.namespace)
        found = await self._retriever.collection(namespace, requests.name(request.name, "name"))
        return pb.RetrieverServiceGetCollectionResponse(collection=self._describe(found))

    async def ListCollections(
        self, request: pb.RetrieverServiceListCollectionsRequest, context: Any
    ) -> pb.RetrieverServiceListCollectionsResponse:
        namespace = requests.namespace(request.namespace)
        size = requests.page_size(request.page_size if request.HasField("page_size") else None)
        this_list = f"collections of {namespace}"
        after = read_page_token(request.page_token, this_list)
        # One more than the page says whether there is another.
        found = await self._retriever.collections(namespace, after, size + 1)
        page = found[:size]
        return pb.RetrieverServiceListCollectionsResponse(
            collections=[self._describe(item) for item in page],
            next_page_token=page_token(this_list, page[-1].name) if len(found) > size else "",
        )

    async def UpdateCollection(
        self, request: pb.RetrieverServiceUpdateCollectionRequest, context: Any
    ) -> pb.RetrieverServiceUpdateCollectionResponse:
        namespace = requests.namespace(request.collection.namespace, "collection.namespace")
        name = requests.name(request.collection.name, "collection.name")
        updated = await self._retriever.update_collection(namespace, name, requests.update(request))
        return pb.RetrieverServiceUpdateCollectionResponse(collection=self._describe(updated))

    async def DeleteCollection(
        self, request: pb.RetrieverServiceDeleteCollectionRequest, context: Any
    ) -> pb.RetrieverServiceDeleteCollectionResponse:
        namespace = requests.namespace(request.namespace)
        await self._retriever.delete_collection(namespace, requests.name(request.name, "name"))
        return pb.RetrieverServiceDeleteCollectionResponse()

    async def CheckDocuments(
        self, request: pb.CheckDocumentsRequest, context: Any
    ) -> pb.CheckDocumentsResponse:
        generation = self._generation(request)
        ids = requests.document_ids(request.document_ids)
        states = await self._retriever.states(generation, ids)
        return pb.CheckDocumentsResponse(
            documents=[
                pb.DocumentState(
                    document_id=state.id, version=state.version, content_hash=state.content_hash
                )
                for state in states
            ],
            generation=generation.number,
        )

    async def WriteDocuments(
        self, request: pb.WriteDocumentsRequest, context: Any
    ) -> pb.WriteDocumentsResponse:
        collection = self._collection(request)
        generation = collection.generation
        requests.batch_size(request.writes, "writes")
        document_requests.check_fingerprint(request.fingerprint, generation)
        # Checking and converting a full batch takes milliseconds that searches would wait.
        decoded = await self._retriever.in_thread(lambda: self._decode(request, collection))
        results = iter(
            await self._retriever.write(
                collection, [item for item in decoded if isinstance(item, DocumentWrite)]
            )
        )
        return pb.WriteDocumentsResponse(
            outcomes=[
                answers.write_outcome(
                    write.document.id, item if isinstance(item, SirdarError) else next(results)
                )
                for write, item in zip(request.writes, decoded, strict=True)
            ]
        )

    async def GetDocument(
        self, request: pb.RetrieverServiceGetDocumentRequest, context: Any
    ) -> pb.RetrieverServiceGetDocumentResponse:
        generation = self._generation(request)
        document_id = requests.document_id(request.document_id, "document_id")
        if not request.with_vectors:
            found = await self._retriever.document(generation, document_id)
            return pb.RetrieverServiceGetDocumentResponse(document=answers.stored_document(found))
        whole = await self._retriever.embedded_document(generation, document_id)
        response = answers.embedded_document(whole, generation)
        self._check_size(response.ByteSize(), "with_vectors", "of this document", "read it without")
        return response

    async def ListDocuments(
        self, request: pb.RetrieverServiceListDocumentsRequest, context: Any
    ) -> pb.RetrieverServiceListDocumentsResponse:
        generation = self._generation(request)
        size = requests.page_size(request.page_size if request.HasField("page_size") else None)
        this_list = f"documents of {generation.key}"
        after = read_page_token(request.page_token, this_list)
        page = await self._retriever.documents(generation, after, size, self._max_page_bytes)
        return pb.RetrieverServiceListDocumentsResponse(
            documents=[answers.stored_document(item) for item in page.documents],
            next_page_token=page_token(this_list, page.documents[-1].id) if page.more else "",
        )

    async def DeleteDocuments(
        self, request: pb.RetrieverServiceDeleteDocumentsRequest, context: Any
    ) -> pb.RetrieverServiceDeleteDocumentsResponse:
        generation = self._generation(request)
        requests.batch_size(request.document_ids, "document_ids")
        faults: dict[int, InvalidArgument] = {}
        good: list[str] = []
        for at, document_id in enumerate(request.document_ids):
            try:
                good.append(requests.document_id(document_id, f"document_ids[{at}]"))
            except InvalidArgument as error:
                faults[at] = error
        results = iter(await self._retriever.delete(generation, good))
        return pb.RetrieverServiceDeleteDocumentsResponse(
            outcomes=[
                answers.delete_outcome(document_id, faults[at] if at in faults else next(results))
                for at, document_id in enumerate(request.document_ids)
            ]
        )

    async def UpdateDocuments(
        self, request: pb.RetrieverServiceUpdateDocumentsRequest, context: Any
    ) -> pb.RetrieverServiceUpdateDocumentsResponse:
        collection = self._collection(request)
        requests.batch_size(request.updates, "updates")
        # As with writes: a full batch takes milliseconds that searches would wait.
        patches = await self._retriever.in_thread(lambda: _patches(request, collection))
        good = [item for item in patches if isinstance(item, DocumentPatch)]
        results = iter(await self._retriever.update(collection.generation, good))
        return pb.RetrieverServiceUpdateDocumentsResponse(
            outcomes=[
                answers.write_outcome(
                    item.document_id, patch if isinstance(patch, SirdarError) else next(results)
                )
                for item, patch in zip(request.updates, patches, strict=True)
            ]
        )

    async def DeleteByFilter(
        self, request: pb.RetrieverServiceDeleteByFilterRequest, context: Any
    ) -> pb.RetrieverServiceDeleteByFilterResponse:
        collection = self._collection(request)
        if not request.HasField("filter"):
            raise InvalidArgument.field("filter", "must be given; it says what to delete")
        condition = filter_requests.condition(request.filter, collection.schema)
        shards = document_requests.shards(request.shards, collection.generation)
        done = await self._retriever.delete_matching(
            collection, shards, condition, count_only=request.count_only
        )
        return pb.RetrieverServiceDeleteByFilterResponse(
            documents=done.documents,
            consistency_tokens=[consistency_token(item) for item in done.positions],
        )

    async def SearchPassages(
        self, request: pb.SearchPassagesRequest, context: Any
    ) -> pb.SearchPassagesResponse:
        collection = self._collection(request)
        search = document_requests.passage_search(
            request,
            collection.generation,
            collection.schema,
            lexical=collection.lexical,
        )
        covered = await self._retriever.search(collection, search)
        vectors: dict[int, bytes] = {}
        if request.with_vectors:
            ids = covered.ids_with_text()
            self._check_answer(len(ids) * 2 * collection.generation.space.dimensions)
            vectors = await self._retriever.vectors(collection.generation, ids)
        response = answers.search_response(covered, search, collection.generation, vectors)
        self._check_answer(response.ByteSize())
        return response

    async def FetchPassages(
        self, request: pb.FetchPassagesRequest, context: Any
    ) -> pb.FetchPassagesResponse:
        generation = self._generation(request)
        ids = document_requests.passage_ids(request.passage_ids)
        found = await self._retriever.fetch(generation, ids)
        response = answers.fetched_passages(ids, found, generation)
        self._check_size(response.ByteSize(), "passage_ids")
        return response

    async def CreateSnapshot(
        self, request: pb.CreateSnapshotRequest, context: Any
    ) -> pb.CreateSnapshotResponse:
        taken = await self._retriever.create_snapshot(self._collection(request))
        return pb.CreateSnapshotResponse(
            url=taken.url, bytes=taken.size_bytes, covered_seqs=taken.covered_seqs
        )

    async def GetPosition(
        self, request: pb.GetPositionRequest, context: Any
    ) -> pb.GetPositionResponse:
        position = self._retriever.position(self._collection(request))
        return pb.GetPositionResponse(
            identity=position.identity,
            committed_seqs=position.committed_seqs,
            applied_seqs=position.applied_seqs,
        )

    async def StreamPositions(
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[pb.StreamPositionsResponse]:
        async def answer(request: pb.GetPositionRequest) -> pb.GetPositionResponse:
            return await self.GetPosition(request, context)

        async for response in answer_positions(self._drain.requests(request_iterator), answer):
            yield response

    async def ListShards(
        self, request: pb.ListShardsRequest, context: Any
    ) -> pb.ListShardsResponse:
        return pb.ListShardsResponse(
            shards=[
                answers.shard_status(collection, shard)
                for collection in self._retriever.catalog.all()
                if request.namespace in ("", collection.namespace)
                and request.collection in ("", collection.name)
                for shard in collection.shards
            ],
            recall=[
                answers.recall_estimate(item)
                for item in self._retriever.auditor.estimates()
                if request.namespace in ("", item.namespace)
                and request.collection in ("", item.collection)
            ],
        )

    def WatchShards(
        self, request: pb.WatchShardsRequest, context: Any
    ) -> AsyncIterator[pb.WatchShardsResponse]:
        return watching.messages(
            self._announcements, self._name, accepts_writes=self.accepts_writes
        )

    def _check_answer(self, size: int) -> None:
        fix = "ask for fewer, or set documents_with_text"
        self._check_size(size, "candidates", "and queries", fix)

    def _check_size(
        self, size: int, field: str, rest: str = "", fix: str = "ask for fewer"
    ) -> None:
        if size > self._max_message_bytes:
            raise InvalidArgument.field(
                field,
                f"{rest} make an answer of {size} bytes, more than the {self._max_message_bytes} "
                f"of a message; {fix}".lstrip(),
            )

    def _describe(self, item: Collection) -> collection_pb2.Collection:
        return answers.collection(item, self._retriever.catalog.index_explanation(item))

    def _collection(self, request: _NamesCollection) -> OpenCollection:
        namespace = requests.namespace(request.namespace)
        return self._retriever.catalog.get(
            namespace, requests.name(request.collection, "collection")
        )

    def _generation(self, request: _NamesCollection) -> Generation:
        return self._collection(request).generation

    def _decode(
        self, request: pb.WriteDocumentsRequest, collection: OpenCollection
    ) -> list[DocumentWrite | SirdarError]:
        """Each write, or what is wrong with it."""
        rules = MetadataRules(collection.schema)
        decoded: list[DocumentWrite | SirdarError] = []
        for at, write in enumerate(request.writes):
            try:
                decoded.append(
                    document_requests.document_write(
                        write,
                        f"writes[{at}]",
                        collection.generation,
                        rules,
                        self._max_document_bytes,
                    )
                )
            except InvalidArgument as error:
                decoded.append(error)
        return decoded


def _patches(
    request: pb.RetrieverServiceUpdateDocumentsRequest, collection: OpenCollection
) -> list[DocumentPatch | InvalidArgument]:
    """Each update, or what is wrong with it."""
    rules = MetadataRules(collection.schema)
    patches: list[DocumentPatch | InvalidArgument] = []
    for at, item in enumerate(request.updates):
        try:
            patches.append(document_updates.document_patch(item, f"updates[{at}]", rules))
        except InvalidArgument as error:
            patches.append(error)
    return patches
