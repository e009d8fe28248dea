"""Operations that write documents and delete them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sirdar.errors import NotFound, ResourceExhausted, from_status
from sirdar.v1 import common_pb2, document_pb2
from sirdar.v1 import retriever_pb2 as pb
from tests.chaos.model import content
from tests.chaos.model.oracle import NOBODY, Call, CollectionModel, Violation
from tests.chaos.model.state import (
    Change,
    Delete,
    Deleted,
    Outcome,
    Patch,
    Put,
    Refused,
    State,
    Written,
)
from tests.chaos.model.world import Found, Lost, World, store_full


class Condition(Enum):
    """Which version a write names."""

    NONE = "-"
    # What the document may have now; 0 where there may be none.
    RIGHT = "right"
    WRONG = "wrong"


@dataclass(frozen=True)
class Draft:
    """A write before it is known what the document is when its turn comes.

    `keep`: with the passages that the store has, if their content is `content`;
    None: of the content that the document may have now. `lifetime_seconds`: from
    then on.
    """

    document: str
    content: int | None
    metadata: int
    keep: bool = False
    condition: Condition = Condition.NONE
    lifetime_seconds: float | None = None

    def put(self, model: CollectionModel) -> Put:
        now = newest(model, self.document)
        chosen = self.content if self.content is not None else now.content
        return Put(
            document=self.document,
            # Where there is no document, no content is kept.
            content=chosen if chosen is not None else 0,
            metadata=content.metadata(self.metadata),
            expires_ns=expires_ns(self.lifetime_seconds),
            keep=self.keep,
            if_version=if_version(now, self.condition),
        )


@dataclass(frozen=True)
class Writes:
    lane: str
    slot: int
    drafts: tuple[Draft, ...]

    async def perform(self, world: World) -> str:
        async with world.collection(self.slot) as found:
            model = found.model or NOBODY
            puts = [draft.put(model) for draft in self.drafts]
            request = pb.WriteDocumentsRequest(
                namespace=found.slot.namespace,
                collection=found.slot.name,
                writes=[_message(put) for put in puts],
                fingerprint=content.FINGERPRINT,
            )
            return await _call(world, found, puts, lambda stub: stub.WriteDocuments, request)


@dataclass(frozen=True)
class Deletes:
    lane: str
    slot: int
    documents: tuple[str, ...]

    async def perform(self, world: World) -> str:
        async with world.collection(self.slot) as found:
            request = pb.RetrieverServiceDeleteDocumentsRequest(
                namespace=found.slot.namespace,
                collection=found.slot.name,
                document_ids=self.documents,
            )
            changes = [Delete(document) for document in self.documents]
            return await _call(world, found, changes, lambda stub: stub.DeleteDocuments, request)


@dataclass(frozen=True)
class PatchDraft:
    """A change of metadata alone; see Draft. `forever`: it does not expire any more."""

    document: str
    metadata: int
    condition: Condition = Condition.NONE
    lifetime_seconds: float | None = None
    forever: bool = False

    def patch(self, model: CollectionModel) -> Patch:
        fields = content.metadata(self.metadata)
        named = [name for name, _ in fields]
        return Patch(
            document=self.document,
            put=fields[1:],
            # Whether the document has it or not.
            remove=tuple(named[:1]),
            changes_expiry=self.forever or self.lifetime_seconds is not None,
            expires_ns=expires_ns(self.lifetime_seconds),
            if_version=if_version(newest(model, self.document), self.condition),
        )


@dataclass(frozen=True)
class Updates:
    lane: str
    slot: int
    drafts: tuple[PatchDraft, ...]

    async def perform(self, world: World) -> str:
        async with world.collection(self.slot) as found:
            patches = [draft.patch(found.model or NOBODY) for draft in self.drafts]
            request = pb.RetrieverServiceUpdateDocumentsRequest(
                namespace=found.slot.namespace,
                collection=found.slot.name,
                updates=[_update_message(patch) for patch in patches],
            )
            return await _call(world, found, patches, lambda stub: stub.UpdateDocuments, request)


def newest(model: CollectionModel, document: str) -> State:
    return max(model.may_be(document), key=lambda state: (state.version, state.live))


def if_version(state: State, condition: Condition) -> int | None:
    if condition is Condition.NONE:
        return None
    version = state.version if state.live else 0
    return version if condition is Condition.RIGHT else version + 1


def expires_ns(lifetime_seconds: float | None) -> int | None:
    if lifetime_seconds is None:
        return None
    return time.time_ns() + int(lifetime_seconds * 1e9)


async def _call(
    world: World, found: Found, changes: Sequence[Change], method: Any, request: Any
) -> str:
    if found.model is None:
        return await _do(world, found, changes, method, request)
    async with found.model.writers.together():
        return await _do(world, found, changes, method, request)


async def _do(
    world: World, found: Found, changes: Sequence[Change], method: Any, request: Any
) -> str:
    model = found.model
    call = model.begin(changes) if model else None
    try:
        response = await world.call(method, request)
    except Lost:
        if model and call:
            model.lost.append(call)
        raise
    except NotFound as fault:
        # What a collection that goes has left is nobody's business.
        return found.missing(fault)
    except ResourceExhausted as fault:
        said = store_full(world, fault)
        if model and call:
            model.not_done(call)
        return said
    if model is None or call is None:
        raise Violation(f"{found.slot} has no collection, but documents were written")
    return _check(model, call, response.outcomes)


def _check(model: CollectionModel, call: Call, items: Sequence[Any]) -> str:
    if [item.document_id for item in items] != [change.document for change in call.changes]:
        raise Violation(f"{model}: the outcomes are of other documents: {items}")
    outcomes = [_outcome(item) for item in items]
    model.answered(call, outcomes)
    for item, outcome in zip(items, outcomes, strict=True):
        if isinstance(outcome, Written):
            model.receipt(item.document_id, item.receipt.consistency_token, wrote=True)
        elif isinstance(outcome, Deleted):
            model.receipt(item.document_id, item.consistency_token, wrote=outcome.existed)
    return " ".join(_short(outcome) for outcome in outcomes)


def _outcome(item: document_pb2.WriteOutcome | document_pb2.DeleteOutcome) -> Outcome:
    if item.HasField("error"):
        return Refused(type(from_status(item.error)).__name__)
    if isinstance(item, document_pb2.DeleteOutcome):
        return Deleted(item.existed)
    receipt = item.receipt
    return Written(receipt.version, receipt.passages, receipt.unchanged)


def _short(outcome: Outcome) -> str:
    if isinstance(outcome, Written):
        return f"v{outcome.version}"
    if isinstance(outcome, Deleted):
        return "gone" if outcome.existed else "none"
    return outcome.error


def _message(put: Put) -> pb.DocumentWrite:
    item = content.content(put.content)
    message = pb.DocumentWrite(
        document=document_pb2.Document(
            id=put.document,
            title=item.title,
            text=item.text,
            metadata=content.metadata_message(put.metadata),
        ),
        content_hash=item.content_hash,
        keep_passages=put.keep,
        if_version=put.if_version,
    )
    if put.expires_ns is not None:
        message.document.expires.CopyFrom(content.timestamp(put.expires_ns))
    if not put.keep:
        for (start, end), vector in zip(item.spans, item.vectors, strict=True):
            message.passages.append(
                pb.EmbeddedPassageWrite(
                    span=common_pb2.Span(start=start, end=end), vector=content.as_message(vector)
                )
            )
    return message


def _update_message(patch: Patch) -> document_pb2.DocumentUpdate:
    message = document_pb2.DocumentUpdate(
        document_id=patch.document,
        set=content.metadata_message(patch.put),
        remove=patch.remove,
        if_version=patch.if_version,
    )
    if patch.changes_expiry and patch.expires_ns is not None:
        message.expires.CopyFrom(content.timestamp(patch.expires_ns))
    elif patch.changes_expiry:
        message.never_expires = True
    return message
