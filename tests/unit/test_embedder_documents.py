"""Documents that a model makes no tokens of, since it puts none around them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from services.embedder import served_model
from services.embedder.calls import DocumentsCall, ModelChoice, SourceDocument
from services.embedder.documents import DocumentEmbedder, PassageVectors
from services.embedder.limits import EmbeddingLimits
from services.embedder.models import Models
from services.embedder.served_model import ServedModel, ServingOptions, load_served_model
from services.embedder.spaces import VectorForm
from services.inference.admission import QueueLimits
from services.inference.batch import TokenBatch
from services.inference.engine import EngineInfo
from services.inference.loading import EngineOptions, LoadedModel
from services.inference.source import ModelSource, model_folder
from services.inference.tokenizer import TextTokenizer
from services.inference.work import Priority, Work
from sirdar.errors import InvalidArgument
from tests.small_model import minilm, model_cache


class ConstantEngine:
    """Answers at once."""

    info = EngineInfo("fake", "fp32", "cpu", 1, 4_096)

    def run(self, batch: TokenBatch, stream: int) -> NDArray[np.float32]:
        assert batch.input_ids.shape[1] > 0
        return np.ones((len(batch.input_ids), 384), np.float32)

    def close(self) -> None:
        pass


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> ServingOptions:
    """Lets models be loaded whose tokenizer adds no special tokens."""

    def load(source: ModelSource, options: EngineOptions) -> LoadedModel:
        parts = json.loads((model_folder(source) / "tokenizer.json").read_text())
        tokenizer = TextTokenizer(json.dumps({**parts, "post_processor": None}), 256)
        return replace(minilm(), tokenizer=tokenizer, engine=ConstantEngine())

    monkeypatch.setattr(served_model, "load_model", load)
    queue = QueueLimits(1_000, 100_000, 10**9)
    return ServingOptions(EngineOptions("auto", "auto", 0, model_cache()), queue, 0, 32)


async def test_document_without_tokens_has_its_own_error(bare: ServingOptions) -> None:
    def load(source: ModelSource) -> ServedModel:
        return load_served_model(source, bare)

    nothing = "\u200b\u200d"
    texts = ["wing", nothing, "flow. " * 300 + (nothing + " ") * 3_000, "", "heat"]
    async with Models(load, most=1, managed=False) as models:
        await models.load(minilm().source)
        embedder = DocumentEmbedder(models, EmbeddingLimits(9, 9, 9, 10**6))
        documents = [SourceDocument(str(place), "", text) for place, text in enumerate(texts)]
        work = Work(Priority.BULK)
        answer = await embedder.embed(DocumentsCall(ModelChoice(), documents, VectorForm(), work))
        embedder.close()
    good = [place for place, one in enumerate(answer.outcomes) if isinstance(one, PassageVectors)]
    assert good == [0, 2, 4]
    for outcome in answer.outcomes:
        if isinstance(outcome, PassageVectors):
            assert len(outcome.vectors) == len(outcome.passages) > 0
            assert all(passage.item.tokens for passage in outcome.passages)
    error = answer.outcomes[1]
    assert isinstance(error, InvalidArgument)
    assert error.fields[0].field == "documents[1].text"
    assert "no tokens" in error.message
