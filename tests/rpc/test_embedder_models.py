"""Several models in one embedder: loaded, served and unloaded beside each other."""

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from services.embedder import served_model
from services.embedder.__main__ import wire
from services.inference.batch import TokenBatch
from services.inference.engine import Engine, EngineInfo
from services.inference.loading import EngineOptions, LoadedModel, load_model
from services.inference.source import ModelSource
from services.runtime.server import serve
from sirdar.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    from_status,
)
from sirdar.v1 import common_pb2, embedder_pb2
from tests.rpc.embedder_calls import array, connect, error_of, settings, tiny_model
from tests.small_model import MINILM, minilm

if TYPE_CHECKING:  # generated for type checkers only
    from sirdar.v1.embedder_pb2_grpc import EmbedderServiceAsyncStub

Texts = embedder_pb2.EmbedTextsRequest
Load = embedder_pb2.LoadModelRequest
Unload = embedder_pb2.UnloadModelRequest
LOADING, SERVING, UNLOADING = (
    common_pb2.MODEL_STATE_LOADING,
    common_pb2.MODEL_STATE_SERVING,
    common_pb2.MODEL_STATE_UNLOADING,
)


class Gate:
    """What the models of a test wait for and are made to fail with."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.may_load = threading.Event()
        self.may_load.set()
        self.may_run = threading.Event()
        self.may_run.set()
        self.running = threading.Event()
        self.failure: Exception | None = None
        self.engines: list[weakref.ref[Engine]] = []


class GatedEngine:
    """An engine that waits for its gate, once it serves."""

    def __init__(self, engine: Engine, gate: Gate) -> None:
        self._engine = engine
        self._gate = gate

    @property
    def info(self) -> EngineInfo:
        return self._engine.info

    def run(self, batch: TokenBatch, stream: int) -> NDArray[np.float32]:
        self._gate.running.set()
        self._gate.may_run.wait(60)
        if self._gate.failure is not None:
            raise self._gate.failure
        return self._engine.run(batch, stream)

    def close(self) -> None:
        self._engine.close()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Holds up loading and running of every model but the default one."""
    gate = Gate()

    def load_gated(source: ModelSource, options: EngineOptions) -> LoadedModel:
        if source.name == MINILM:
            return load_model(source, options)
        gate.loads.append(source.name)
        gate.may_load.wait(60)
        loaded = load_model(source, options)
        engine = GatedEngine(loaded.engine, gate)
        gate.engines.append(weakref.ref(engine))
        return replace(loaded, engine=engine)

    monkeypatch.setattr(served_model, "load_model", load_gated)
    return gate


@asynccontextmanager
async def serving(**changes: object) -> AsyncIterator["EmbedderServiceAsyncStub"]:
    changed = {"manage_models": True, **changes}
    async with (
        serve("embedder", settings(**changed), wire) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield connect(channel)


def tiny() -> common_pb2.ModelRef:
    return common_pb2.ModelRef(name=f"path:{tiny_model()}")


async def listed(stub: "EmbedderServiceAsyncStub") -> dict[str, common_pb2.ModelInfo]:
    answer = await stub.ListModels(embedder_pb2.EmbedderServiceListModelsRequest())
    return {model.model.name: model for model in answer.models}


async def until_listed(stub: "EmbedderServiceAsyncStub", state: int) -> None:
    for _ in range(6_000):
        model = (await listed(stub)).get(tiny().name)
        if model is not None and model.state == state:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"the model is not in state {state}")


async def until_set(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 60)


async def test_model_is_loaded_listed_used_and_unloaded_beside_the_default(gate: Gate) -> None:
    async with serving() as stub:
        before = await error_of(stub.EmbedTexts(Texts(texts=["wing"], model=tiny())))
        assert isinstance(before, NotFound)
        answer = await stub.LoadModel(Load(model=tiny()))
        models = await listed(stub)
        assert list(models) == [MINILM, tiny().name]
        assert models[tiny().name] == answer.model
        assert [model.is_default for model in models.values()] == [True, False]
        assert [model.state for model in models.values()] == [SERVING, SERVING]
        assert list(answer.model.prompts) == ["document", "query", "topic"]
        assert answer.model.similarity == "cosine"
        assert answer.model.parity.min_cosine >= answer.model.parity.required_cosine > 0
        assert answer.model.parity.texts > 100
        assert len(answer.model.int8_calibration.minimums) == 4 * 16
        both = [Texts(texts=["wing"], model=tiny()), Texts(texts=["wing"])]
        answers = await asyncio.gather(*[stub.EmbedTexts(request) for request in both])
        assert [item.space.dimensions for item in answers] == [16, 384]
        assert answers[0].space == answer.model.space
        await stub.UnloadModel(Unload(model=tiny()))
        assert list(await listed(stub)) == [MINILM]
        gone = await error_of(stub.EmbedTexts(Texts(texts=["wing"], model=tiny())))
        assert isinstance(gone, NotFound)
        assert MINILM in gone.message
        gc.collect()
        assert [engine() for engine in gate.engines] == [None]


async def test_models_of_the_settings_are_served_from_the_start() -> None:
    async with serving(models=[tiny().name, MINILM], manage_models=False) as stub:
        assert list(await listed(stub)) == [MINILM, tiny().name]
        answer = await stub.EmbedTexts(Texts(texts=["wing"], model=tiny()))
        assert len(array(answer.embeddings[0].vector)) == 16
        # What the settings ask for stays.
        for call in (stub.LoadModel(Load(model=tiny())), stub.UnloadModel(Unload(model=tiny()))):
            error = await error_of(call)
            assert isinstance(error, PermissionDenied)
            assert "manage_models" in error.message


async def test_others_are_served_while_a_model_loads_and_two_callers_load_it_once(
    gate: Gate,
) -> None:
    async with serving() as stub:
        gate.may_load.clear()
        calls = [stub.LoadModel(Load(model=tiny())) for _ in range(2)]
        await until_listed(stub, LOADING)
        models = await listed(stub)
        assert models[tiny().name].state == LOADING
        assert len((await stub.EmbedTexts(Texts(texts=["wing"]))).embeddings) == 1
        early = await error_of(stub.EmbedTexts(Texts(texts=["wing"], model=tiny())))
        assert isinstance(early, NotFound)
        gate.may_load.set()
        first, second = await asyncio.gather(*calls)
        assert first == second
        again = await stub.LoadModel(Load(model=tiny()))
        assert again == first
        assert gate.loads == [tiny().name]


async def test_load_goes_on_when_its_caller_gives_up(gate: Gate) -> None:
    async with serving() as stub:
        gate.may_load.clear()
        call = stub.LoadModel(Load(model=tiny()))
        await until_listed(stub, LOADING)
        call.cancel()
        gate.may_load.set()
        await until_listed(stub, SERVING)
        assert gate.loads == [tiny().name]


async def test_model_that_cannot_be_loaded_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(max_models=2) as stub:
        missing = common_pb2.ModelRef(name="path:/no/such/model")
        calls = [error_of(stub.LoadModel(Load(model=missing))) for _ in range(2)]
        for error in await asyncio.gather(*calls):
            assert isinstance(error, NotFound)
            assert "/no/such/model" in error.message

        def broken(*_: object, **__: object) -> None:
            raise ValueError("odd shape")

        with monkeypatch.context() as patch:
            patch.setattr(served_model, "calibrate", broken)
            error = await error_of(stub.LoadModel(Load(model=tiny())))
        assert isinstance(error, FailedPrecondition)
        assert "odd shape" in error.message
        assert list(await listed(stub)) == [MINILM]
        # There is room for one more, and the name is free.
        answer = await stub.LoadModel(Load(model=tiny()))
        assert answer.model.state == SERVING


async def test_call_that_runs_is_finished_before_its_model_goes(gate: Gate) -> None:
    async with serving() as stub:
        await stub.LoadModel(Load(model=tiny()))
        gate.may_run.clear()
        gate.running.clear()
        running = stub.EmbedTexts(Texts(texts=["wing"], model=tiny()))
        waiting = stub.EmbedTexts(Texts(texts=["flow of heat"] * 50, model=tiny()))
        await until_set(gate.running)
        unload = stub.UnloadModel(Unload(model=tiny()))
        await until_listed(stub, UNLOADING)
        assert isinstance(
            await error_of(stub.EmbedTexts(Texts(texts=["wing"], model=tiny()))), NotFound
        )
        assert isinstance(await error_of(stub.UnloadModel(Unload(model=tiny()))), NotFound)
        assert not unload.done()
        gate.may_run.set()
        assert [item.HasField("vector") for item in (await running).embeddings] == [True]
        assert [item.HasField("vector") for item in (await waiting).embeddings] == [True] * 50
        await unload
        assert list(await listed(stub)) == [MINILM]


async def test_model_that_hangs_or_fails_holds_up_no_other(gate: Gate) -> None:
    async with serving() as stub:
        await stub.LoadModel(Load(model=tiny()))
        gate.may_run.clear()
        hung = [stub.EmbedTexts(Texts(texts=["wing"], model=tiny())) for _ in range(2)]
        assert len((await stub.EmbedTexts(Texts(texts=["wing"] * 40))).embeddings) == 40
        assert not any(call.done() for call in hung)
        gate.failure = RuntimeError("broken engine")
        gate.may_run.set()
        for call in hung:
            (embedding,) = (await call).embeddings
            assert "broken engine" in from_status(embedding.error).message
        assert len((await stub.EmbedTexts(Texts(texts=["wing"]))).embeddings) == 1
        gate.failure = None
        again = await stub.EmbedTexts(Texts(texts=["wing"], model=tiny()))
        assert again.embeddings[0].HasField("vector")


async def test_what_may_not_be_loaded_or_unloaded() -> None:
    async with serving(max_models=1) as stub:
        full = await error_of(stub.LoadModel(Load(model=tiny())))
        assert isinstance(full, ResourceExhausted)
        assert "max_models=1" in full.message
        default = await error_of(stub.UnloadModel(Unload(model=common_pb2.ModelRef(name=MINILM))))
        assert isinstance(default, FailedPrecondition)
        assert default.reason == "MODEL_IS_DEFAULT"
        unknown = await error_of(stub.UnloadModel(Unload(model=tiny())))
        assert isinstance(unknown, NotFound)
        for call in (stub.LoadModel(Load()), stub.UnloadModel(Unload())):
            assert isinstance(await error_of(call), InvalidArgument)
        assert (await stub.EmbedTexts(Texts(texts=["a"]))).space.fingerprint == minilm().fingerprint


async def test_server_stops_while_a_model_loads(gate: Gate) -> None:
    async with serving(drain_grace_seconds=0.1) as stub:
        gate.may_load.clear()
        call = stub.LoadModel(Load(model=tiny()))
        await until_listed(stub, LOADING)
    with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
        await call
    gate.may_load.set()


def test_process_ends_while_a_model_loads() -> None:
    code = """
import asyncio, threading
from services.embedder.models import Models
from services.inference.source import ModelSource

async def main() -> None:
    started = threading.Event()
    def load(source: ModelSource) -> None:
        started.set()
        threading.Event().wait()
    async with Models(load, most=1, managed=True) as models:
        loading = asyncio.create_task(models.load(ModelSource("slow")))
        await asyncio.to_thread(started.wait)
    assert loading.cancelled()

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=30, check=False)
    assert done.returncode == 0


def test_revisions_of_a_model_are_apart_in_metrics() -> None:
    assert ModelSource("org/name", "v2").label == "org/name@v2"
    assert ModelSource("org/name").label == "org/name"


def test_more_models_than_there_may_be_are_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="max_models is 1"):
        settings(models=["path:/a"], max_models=1)


def test_hub_name_may_have_a_revision_and_a_path_an_at() -> None:
    sources = settings(models=["org/name@v2", "path:/a@b", MINILM]).sources
    assert sources[1:] == [ModelSource("org/name", "v2"), ModelSource("path:/a@b")]
