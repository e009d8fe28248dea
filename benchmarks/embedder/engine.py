"""The engine in this process, without batcher and server, and sentence-transformers beside it.

What is measured is all that stands between a list of texts and their vectors:
tokenizing, sorting by length, batches of at most the engine's padded tokens,
and the model, on all streams. It has every text from the start, so no server
that learns of them message by message can group them better.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from benchmarks.embedder.texts import messages
from services.embedder.settings import EmbedderSettings
from services.inference.batch import TokenBatch, TokenizedItem
from services.inference.loading import EngineOptions, LoadedModel, load_model
from services.inference.source import ModelSource, model_folder

_TOKENIZED_AT_ONCE = 64


def load_engine(settings: EmbedderSettings) -> LoadedModel:
    """The model as an embedder with these settings loads it."""
    options = EngineOptions(
        settings.engine, settings.precision, settings.threads, settings.cache_folder
    )
    return load_model(ModelSource(settings.model, settings.model_revision), options)


@dataclass(frozen=True, slots=True)
class EngineRun:
    """What the engine made of texts, and the seconds that it took."""

    rows: NDArray[np.float32]
    """[texts, dimensions], in the order of the texts."""
    seconds: float
    tokenizing_seconds: float
    tokens: int
    padded_tokens: int

    @property
    def texts_per_second(self) -> float:
        return len(self.rows) / self.seconds


class LocalEngine:
    """A loaded model with a thread for each of its engine's streams."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self._streams = model.engine.info.streams
        self._threads = ThreadPoolExecutor(self._streams)

    def close(self) -> None:
        self._threads.shutdown()
        self.model.close()

    def embed(self, texts: Sequence[str]) -> EngineRun:
        """All texts, with all streams."""
        started = time.perf_counter()
        items = self.tokenize(texts)
        tokenized = time.perf_counter()
        rows, padded_tokens = self.compute(items)
        return EngineRun(
            rows,
            time.perf_counter() - started,
            tokenized - started,
            sum(item.tokens for item in items),
            padded_tokens,
        )

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedItem]:
        """In as many threads as there are streams."""
        parts = self._threads.map(self.model.tokenizer.encode, messages(texts, _TOKENIZED_AT_ONCE))
        return [item for part in parts for item in part]

    def compute(self, items: Sequence[TokenizedItem]) -> tuple[NDArray[np.float32], int]:
        """Rows in the order of the items, and the padded tokens that were computed for them."""
        batches = self.model.engine.info.batches([item.tokens for item in items])
        waiting = iter(batches)
        rows = np.empty((len(items), self.model.description.dimensions), np.float32)

        def serve(stream: int) -> None:
            # Taking the next one is a single call under the interpreter's lock.
            for batch in waiting:
                rows[batch] = self._run([items[index] for index in batch], stream)

        list(self._threads.map(serve, range(self._streams)))
        padded = sum(self._padded_tokens([items[index] for index in batch]) for batch in batches)
        return rows, padded

    def seconds_alone(self, texts: Sequence[str]) -> list[float]:
        """Of the model for one tokenized text on one stream, each text by itself."""
        seconds = []
        for item in self.model.tokenizer.encode(texts):
            started = time.perf_counter()
            self._run([item], 0)
            seconds.append(time.perf_counter() - started)
        return seconds

    def tokens_per_second_of_full_batches(self, tokens: int, batches: int) -> float:
        """With every stream busy with batches without padding, all rows of `tokens` tokens."""
        item = self.model.tokenizer.encode(["a " * 1000])[0]
        row = TokenizedItem(item.token_ids[:tokens], item.type_ids[:tokens])
        rows = max(1, self.model.engine.info.batch_tokens // tokens)

        def serve(stream: int) -> None:
            for _ in range(batches):
                self._run([row] * rows, stream)

        started = time.perf_counter()
        list(self._threads.map(serve, range(self._streams)))
        return self._streams * batches * rows * tokens / (time.perf_counter() - started)

    def _padded_tokens(self, items: Sequence[TokenizedItem]) -> int:
        width = self.model.engine.info.mean_width([item.tokens for item in items])
        return round(len(items) * width)

    def _run(self, items: list[TokenizedItem], stream: int) -> NDArray[np.float32]:
        batch = TokenBatch.pad(items, self.model.description.pad_token_id)
        return self.model.engine.run(batch, stream)


def load_reference(settings: EmbedderSettings) -> SentenceTransformer:
    """The same model in sentence-transformers, fp32 on the CPU."""
    folder = model_folder(ModelSource(settings.model, settings.model_revision))
    return SentenceTransformer(str(folder), device="cpu")


def encode(
    reference: SentenceTransformer, texts: Sequence[str], batch_size: int = 32
) -> tuple[float, NDArray[np.float32]]:
    """Texts a second, and the rows; as installed it is in batches of 32."""
    started = time.perf_counter()
    rows = reference.encode(list(texts), batch_size=batch_size, show_progress_bar=False)
    return len(texts) / (time.perf_counter() - started), np.asarray(rows, np.float32)


def min_cosine(rows: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """The lowest cosine between rows of the same texts."""
    first, second = rows.astype(np.float64), reference.astype(np.float64)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(np.min(np.einsum("ij,ij->i", first, second) / lengths))
