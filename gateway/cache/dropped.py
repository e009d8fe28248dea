"""Collections that are gone: what was measured of them goes, too."""

import asyncio

from gateway.backends import call_for
from gateway.cache.semantic import SemanticCache
from gateway.catalog import Catalog
from sirdar.errors import NotFound, SirdarError

# They may be dropped through another gateway, and nobody ask for them ever again.
_PERIOD_SECONDS = 300.0


class DroppedCollections:
    def __init__(self, catalog: Catalog, semantic: SemanticCache) -> None:
        self._catalog = catalog
        self._semantic = semantic
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD_SECONDS)
            for namespace, name in self._semantic.measured():
                call_for(namespace)
                try:
                    await self._catalog.get(namespace, name)
                except NotFound:
                    self._semantic.forget(namespace, name)
                except SirdarError:
                    # The retriever is away: that says nothing of the others either.
                    break
