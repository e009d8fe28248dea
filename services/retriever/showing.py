"""Showing what became of collections to searches, once the store has it."""

from contextlib import suppress
from typing import Protocol

from services.retriever.catalog import Catalog
from services.retriever.replica.follower import Follower
from services.retriever.store.interface import Store
from services.retriever.store.records import Collection
from sirdar.errors import SirdarError


class Showing(Protocol):
    """Each returns when the collections that are open are those of the store."""

    def created(self, collection: Collection) -> None: ...

    def updated(self, collection: Collection) -> None: ...

    def deleted(self, namespace: str, name: str) -> None: ...


class Owning:
    """For the only process that changes the store."""

    def __init__(self, catalog: Catalog, store: Store) -> None:
        self._catalog = catalog
        self._store = store

    def created(self, collection: Collection) -> None:
        self._catalog.open(collection, self._store)

    def updated(self, collection: Collection) -> None:
        self._catalog.update(collection, self._store)

    def deleted(self, namespace: str, name: str) -> None:
        self._catalog.remove(namespace, name)


class Following:
    """For a store that others change too: what follows it opens and closes collections."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower

    def created(self, collection: Collection) -> None:
        self._refresh()

    def updated(self, collection: Collection) -> None:
        self._refresh()

    def deleted(self, namespace: str, name: str) -> None:
        self._refresh()

    def _refresh(self) -> None:
        # It is committed, and will be shown, whatever keeps the follower from the store now.
        with suppress(SirdarError):
            self._follower.refreshed().result()
