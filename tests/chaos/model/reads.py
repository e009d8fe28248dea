"""Operations that read documents."""

from collections.abc import Iterable
from dataclasses import dataclass

from sirdar.errors import NotFound
from sirdar.v1 import document_pb2
from sirdar.v1 import retriever_pb2 as pb
from tests.chaos.model import content
from tests.chaos.model.oracle import NOBODY, CollectionModel, States, Violation, Window, shown
from tests.chaos.model.state import NEVER, State
from tests.chaos.model.world import Found, World


@dataclass(frozen=True)
class Get:
    lane: str
    slot: int
    document: str

    async def perform(self, world: World) -> str:
        async with world.collection(self.slot) as found:
            with (found.model or NOBODY).watched() as window:
                request = pb.RetrieverServiceGetDocumentRequest(
                    namespace=found.slot.namespace,
                    collection=found.slot.name,
                    document_id=self.document,
                )
                try:
                    response = await world.call(lambda stub: stub.GetDocument, request)
                except NotFound as fault:
                    if fault.reason == "COLLECTION_NOT_FOUND":
                        return found.missing(fault)
                    seen = None
                else:
                    seen = response.document
                model = there(found)
                # A read that meets the deletion of its collection may find a part of it.
                if model.doomed:
                    return "a part"
                possible = model.in_window(window).get(self.document, frozenset((NEVER,)))
                states = explain(model, self.document, seen, possible)
                return " or ".join(f"v{state.version}" for state in states)


@dataclass(frozen=True)
class Check:
    lane: str
    slot: int
    documents: tuple[str, ...]

    async def perform(self, world: World) -> str:
        async with world.collection(self.slot) as found:
            with (found.model or NOBODY).watched() as window:
                request = pb.CheckDocumentsRequest(
                    namespace=found.slot.namespace,
                    collection=found.slot.name,
                    document_ids=self.documents,
                )
                try:
                    response = await world.call(lambda stub: stub.CheckDocuments, request)
                except NotFound as fault:
                    return found.missing(fault)
                return self._compare(there(found), window, response.documents)

    def _compare(
        self, model: CollectionModel, window: Window, states: Iterable[pb.DocumentState]
    ) -> str:
        seen = {item.document_id: (item.version, item.content_hash) for item in states}
        if model.doomed:
            return "a part"
        possible = model.in_window(window)
        for document in self.documents:
            allowed = {
                (state.version, content.content(state.content).content_hash)
                if state.content is not None
                else None
                for state in possible.get(document, frozenset((NEVER,)))
            }
            if seen.get(document) not in allowed:
                raise Violation(f"{model} {document}: {seen.get(document)} is none of {allowed}")
        if seen.keys() - set(self.documents):
            raise Violation(f"{model}: the states are of other documents: {seen}")
        return f"{len(seen)} of {len(self.documents)}"


@dataclass(frozen=True)
class ListAll:
    """Every page of a collection's documents, while they change."""

    lane: str
    slot: int
    page_size: int

    async def perform(self, world: World) -> str:
        async with world.collection(self.slot) as found:
            with (found.model or NOBODY).watched() as window:
                try:
                    documents = await list_documents(world, found, self.page_size)
                except NotFound as fault:
                    return found.missing(fault)
                model = there(found)
                if model.doomed:
                    return "a part"
                explain_all(model, documents, model.in_window(window))
                return f"{len(documents)} documents"


async def list_documents(
    world: World, found: Found, page_size: int
) -> dict[str, document_pb2.StoredDocument]:
    documents: dict[str, document_pb2.StoredDocument] = {}
    token = ""
    last = b""
    while True:
        request = pb.RetrieverServiceListDocumentsRequest(
            namespace=found.slot.namespace,
            collection=found.slot.name,
            page_size=page_size,
            page_token=token,
        )
        page = await world.call(lambda stub: stub.ListDocuments, request)
        for item in page.documents:
            identity = item.document.id.encode()
            if identity <= last:
                raise Violation(f"{found.slot.name}: {identity!r} is listed after {last!r}")
            last = identity
            documents[item.document.id] = item
        token = page.next_page_token
        if not token:
            return documents


def there(found: Found) -> CollectionModel:
    if found.model is None:
        raise Violation(f"{found.slot} has no collection, but it answers")
    return found.model


def explain_all(
    model: CollectionModel,
    documents: dict[str, document_pb2.StoredDocument],
    possible: dict[str, States],
) -> dict[str, States]:
    """The states that each known document may be in, given what was seen of it."""
    strangers = documents.keys() - possible.keys()
    if strangers:
        raise Violation(f"{model}: nobody wrote {sorted(strangers)}")
    return {
        document: explain(model, document, documents.get(document), states)
        for document, states in possible.items()
    }


def explain(
    model: CollectionModel,
    document: str,
    seen: document_pb2.StoredDocument | None,
    possible: States,
) -> States:
    """The states that it can have been seen in. Raises Violation when there is none."""
    if seen is None:
        explained = frozenset(state for state in possible if not state.live)
    else:
        explained = frozenset(state for state in possible if state.live and _shows(seen, state))
    if not explained:
        raise Violation(f"{model} {document} is {seen}, but should be {shown(possible)}")
    return explained


def _shows(seen: document_pb2.StoredDocument, state: State) -> bool:
    assert state.content is not None
    wanted = content.content(state.content)
    receipt, document = seen.receipt, seen.document
    expires = content.nanoseconds(document.expires) if document.HasField("expires") else None
    return (
        (receipt.version, receipt.passages, receipt.unchanged)
        == (state.version, state.passages, state.kept)
        and (document.title, document.text) == (wanted.title, wanted.text)
        and content.read_metadata(document.metadata) == state.metadata
        and expires == state.expires_ns
    )
