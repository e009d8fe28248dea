"""The models of an embedder: loaded, served and freed beside each other."""

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import TracebackType

import structlog

from services.embedder.loader import Loader
from services.embedder.metrics import MODELS
from services.embedder.served_model import ServedModel
from services.inference.source import ModelSource
from sirdar.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    SirdarError,
    Unavailable,
)

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class ModelState(enum.Enum):
    """Where a model is between being asked for and being gone."""

    LOADING = "loading"
    SERVING = "serving"
    UNLOADING = "unloading"


@dataclass(slots=True, eq=False)
class ModelEntry:
    """A model of this embedder."""

    source: ModelSource
    state: ModelState = ModelState.LOADING
    served: ServedModel | None = None
    """None while it loads."""


class Models:
    """Which models are there; an async context manager. The first one is the default.

    Each has its own queue, so that one that is slow or fails holds up no other.
    All state lives on the event loop.
    """

    def __init__(
        self, load: Callable[[ModelSource], ServedModel], *, most: int, managed: bool
    ) -> None:
        """`load` blocks. `most` models at a time; callers may change them if `managed`."""
        self._load_blocking = load
        self._most = most
        self._managed = managed
        self._entries: dict[ModelSource, ModelEntry] = {}
        self._loading: dict[ModelSource, asyncio.Task[ModelEntry]] = {}
        self._freeing: set[asyncio.Task[None]] = set()
        # One at a time: each takes what processor there is, and the first inferences of two
        # engines of OpenVINO at the same time deadlock.
        self._loader = Loader()
        for state in ModelState:
            MODELS.labels(state.value).set_function(partial(self._count, state))

    async def __aenter__(self) -> "Models":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # What loads in a thread cannot be interrupted; nobody waits for it any more.
        for task in self._loading.values():
            task.cancel()
        await asyncio.gather(*self._loading.values(), *self._freeing, return_exceptions=True)
        for entry in list(self._entries.values()):
            if entry.served is not None:
                await self._end(entry, entry.served)

    @property
    def entries(self) -> list[ModelEntry]:
        """In the order in which they were asked for, the default first."""
        return list(self._entries.values())

    @property
    def stuck_seconds(self) -> float:
        """For how long the engine that is slowest has been at its batch."""
        served = [entry.served for entry in self._entries.values() if entry.served is not None]
        return max((model.batcher.stuck_seconds for model in served), default=0.0)

    def is_default(self, entry: ModelEntry) -> bool:
        return entry is next(iter(self._entries.values()))

    def check_managed(self) -> None:
        """Raises PermissionDenied where callers may not change the models."""
        if not self._managed:
            raise PermissionDenied(
                "this embedder keeps the models that it was started with; set manage_models to "
                "let callers load and unload them",
                reason="MODELS_NOT_MANAGED",
            )

    def find(self, name: str, revision: str) -> ServedModel:
        """The model to answer with; the default without a name.

        Raises NotFound, and InvalidArgument for a revision of no name.
        """
        if revision and not name:
            raise InvalidArgument.field(
                "model.name", "must not be empty where a revision is named", reason="EMPTY"
            )
        served = self._serving(name, revision).served
        assert served is not None, "a model that is SERVING is loaded"
        return served

    async def load(self, source: ModelSource) -> ModelEntry:
        """Loads a model unless it is there, and returns when it is SERVING.

        Callers that want the same model wait for one load, which goes on when
        they give up. One that fails leaves nothing behind.

        Raises NotFound and FailedPrecondition when it cannot be loaded,
        ResourceExhausted when there are as many as there may be, and
        Unavailable while it is being unloaded.
        """
        entry = self._known(source)
        if entry is None:
            if len(self._entries) >= self._most:
                raise ResourceExhausted(
                    f"this embedder has {len(self._entries)} models already, the limit is "
                    f"max_models={self._most}; unload one first",
                    reason="TOO_MANY_MODELS",
                )
            entry = self._entries[source] = ModelEntry(source)
            task = asyncio.create_task(self._load(entry), name=f"load {source.name}")
            self._loading[source] = task
            task.add_done_callback(lambda task: self._loaded(source, task))
        if entry.state is ModelState.UNLOADING:
            raise Unavailable(
                f"model {source.name} is being unloaded; load it again in a moment",
                reason="MODEL_UNLOADING",
            )
        if entry.state is ModelState.LOADING:
            await asyncio.shield(self._loading[entry.source])
        return entry

    async def unload(self, source: ModelSource) -> None:
        """Takes nothing new for a model, finishes what waits, then frees it.

        Raises NotFound, and FailedPrecondition for the default model.
        """
        entry = self._serving(source.name, source.revision)
        served = entry.served
        assert served is not None, "a model that is SERVING is loaded"
        if self.is_default(entry):
            raise FailedPrecondition(
                f"model {entry.source.name} is the default of this embedder and stays; start it "
                "with another model instead",
                reason="MODEL_IS_DEFAULT",
            )
        entry.state = ModelState.UNLOADING
        task = asyncio.create_task(self._free(entry, served), name=f"unload {source.name}")
        self._freeing.add(task)
        task.add_done_callback(self._freeing.discard)
        await asyncio.shield(task)

    def _known(self, source: ModelSource) -> ModelEntry | None:
        """In any state; without a revision, one of any revision."""
        exact = self._entries.get(source)
        if exact is not None or source.revision:
            return exact
        named = (entry for entry in self._entries.values() if entry.source.name == source.name)
        return next(named, None)

    def _serving(self, name: str, revision: str) -> ModelEntry:
        for entry in self._entries.values():
            source = entry.source
            named = not name or (name == source.name and revision in {"", source.revision})
            if named and entry.state is ModelState.SERVING:
                return entry
        served = ", ".join(
            entry.source.name
            for entry in self._entries.values()
            if entry.state is ModelState.SERVING
        )
        asked = f"{name} at revision {revision}" if revision else name
        raise NotFound(
            f"model {asked} is not served here; this embedder serves {served}",
            reason="MODEL_NOT_FOUND",
            metadata={"served": served},
        )

    async def _load(self, entry: ModelEntry) -> ModelEntry:
        name = entry.source.name
        try:
            served = await self._loader.run(partial(self._load_blocking, entry.source))
        except SirdarError:
            raise
        except Exception as error:
            log.error("model cannot be loaded", model=name, exc_info=error)
            raise FailedPrecondition(
                f"model {name} cannot be loaded: {type(error).__name__}: {error}; the server's "
                "log has more",
                reason="MODEL_NOT_LOADABLE",
            ) from error
        await served.batcher.__aenter__()
        entry.served = served
        entry.state = ModelState.SERVING
        return entry

    def _loaded(self, source: ModelSource, task: asyncio.Task[ModelEntry]) -> None:
        del self._loading[source]
        # Asked for, so that an error that nobody waits for is not logged as forgotten.
        if task.cancelled() or task.exception() is not None:
            del self._entries[source]

    async def _free(self, entry: ModelEntry, served: ServedModel) -> None:
        await served.batcher.close()
        await self._end(entry, served)
        log.info("model unloaded", model=entry.source.name)

    async def _end(self, entry: ModelEntry, served: ServedModel) -> None:
        await served.batcher.__aexit__(None, None, None)
        await asyncio.to_thread(served.close)
        entry.served = None
        del self._entries[entry.source]

    def _count(self, state: ModelState) -> int:
        return sum(entry.state is state for entry in self._entries.values())
