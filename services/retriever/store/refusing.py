"""The writes of a store that may only be read."""

from collections.abc import Sequence
from concurrent.futures import Future

from services.retriever.store.records import (
    Collection,
    CollectionDefinition,
    CollectionUpdate,
    Deletion,
    DocumentPatch,
    DocumentWrite,
    Generation,
    WriteResult,
)
from sirdar.errors import FailedPrecondition


def read_only_replica() -> FailedPrecondition:
    return FailedPrecondition(
        "this retriever is a read replica: it follows the store of another and writes nothing; "
        "call the retriever that owns the store, which runs without `follow`",
        reason="READ_ONLY_REPLICA",
    )


class RefusesWrites:
    """What `Store` writes: each call raises FailedPrecondition."""

    def create_collection(self, definition: CollectionDefinition) -> Future[Collection]:
        raise read_only_replica()

    def update_collection(
        self, namespace: str, name: str, update: CollectionUpdate
    ) -> Future[Collection]:
        raise read_only_replica()

    def delete_collection(self, namespace: str, name: str) -> Future[Generation]:
        raise read_only_replica()

    def write_documents(
        self, generation: Generation, writes: Sequence[DocumentWrite]
    ) -> Future[list[WriteResult]]:
        raise read_only_replica()

    def update_documents(
        self, generation: Generation, patches: Sequence[DocumentPatch]
    ) -> Future[list[WriteResult]]:
        raise read_only_replica()

    def delete_documents(
        self, generation: Generation, ids: Sequence[str], versions: Sequence[int] | None = None
    ) -> Future[list[Deletion]]:
        raise read_only_replica()

    def sweep(self, limit: int) -> Future[int]:
        raise read_only_replica()

    def purge_tombstones(self, kept_seconds: float, limit: int) -> Future[int]:
        raise read_only_replica()

    def note_snapshot(
        self, generation: Generation, name: str, forgotten: Sequence[str]
    ) -> Future[None]:
        raise read_only_replica()
