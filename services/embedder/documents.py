"""Documents to passages with vectors: checked, let in, split, computed."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from services.embedder.calls import DocumentsCall, InputType, SourceDocument
from services.embedder.limits import EmbeddingLimits
from services.embedder.models import Models
from services.embedder.served_model import ServedModel
from services.embedder.spaces import OutputSpace
from services.embedder.splitter import Passage, PassageSplitter
from services.inference.work import BatchedRows
from services.runtime.cpu import available_cpus
from sirdar.errors import InvalidArgument, SirdarError

# What is split in one trip to a thread: a caller that gives up stops what follows.
_SPLIT_CHARACTERS = 65_536


@dataclass(frozen=True, slots=True, eq=False)
class PassageVectors:
    """The passages of a document, each with its vector as it travels."""

    passages: list[Passage]
    vectors: list[bytes]


@dataclass(frozen=True, slots=True, eq=False)
class DocumentVectors:
    """What became of the documents of a call."""

    model: ServedModel
    space: OutputSpace
    outcomes: list[PassageVectors | SirdarError]
    """One a document."""


class DocumentEmbedder:
    """Documents to vectors, by the models that are served."""

    def __init__(self, models: Models, limits: EmbeddingLimits) -> None:
        self._models = models
        self._limits = limits
        self._threads = ThreadPoolExecutor(available_cpus(), thread_name_prefix="splitter")

    async def embed(self, call: DocumentsCall) -> DocumentVectors:
        """Passages with vectors, or an error, for each document; raises as for texts."""
        model = self._models.find(call.model.name, call.model.revision)
        prompt = model.prompt(InputType.DOCUMENT, None)
        space = model.space(call.form, prompt, call.model.expected_fingerprint)
        errors = self._limits.check_documents(call.documents)
        places = [index for index in range(len(call.documents)) if index not in errors]
        good = [call.documents[index] for index in places]
        sizes = [model.splitter.estimate(document.title, document.text) for document in good]
        passages, tokens = sum(size[0] for size in sizes), sum(size[1] for size in sizes)
        # Asked before anything is split: what waits to be split is bounded, too.
        with model.batcher.admit(passages, tokens, call.work) as admission:
            split = await self._split(model.splitter, good)
            for index, found in zip(places, split, strict=True):
                if not found:
                    errors[index] = _no_tokens(index)
            split = [found for found in split if found]
            result = await admission.run([one.item for passages in split for one in passages])
        embedded = iter(_by_document(split, result, space.encode(result.rows)))
        outcomes = [
            errors[index] if index in errors else next(embedded)
            for index in range(len(call.documents))
        ]
        return DocumentVectors(model, space, outcomes)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    async def _split(
        self, splitter: PassageSplitter, documents: Sequence[SourceDocument]
    ) -> list[list[Passage]]:
        """The passages of each document, off the event loop."""
        loop = asyncio.get_running_loop()
        split: list[list[Passage]] = []
        for chunk in _chunks(documents):
            split += await loop.run_in_executor(self._threads, _split_all, splitter, chunk)
        return split


def _chunks(documents: Sequence[SourceDocument]) -> list[list[SourceDocument]]:
    chunks: list[list[SourceDocument]] = []
    room = 0
    for document in documents:
        if room <= 0:
            chunks.append([])
            room = _SPLIT_CHARACTERS
        chunks[-1].append(document)
        room -= len(document.text)
    return chunks


def _split_all(splitter: PassageSplitter, documents: list[SourceDocument]) -> list[list[Passage]]:
    # A passage without tokens, such as one of control characters, is like white space.
    return [
        [one for one in splitter.split(document.title, document.text) if one.item.tokens]
        for document in documents
    ]


def _no_tokens(index: int) -> SirdarError:
    return InvalidArgument.field(
        f"documents[{index}].text",
        "has no tokens for this model, which has no vector for nothing",
    )


def _by_document(
    split: list[list[Passage]], result: BatchedRows, vectors: list[bytes]
) -> list[PassageVectors | SirdarError]:
    """One outcome a document; a passage that failed fails its document."""
    outcomes: list[PassageVectors | SirdarError] = []
    start = 0
    for passages in split:
        stop = start + len(passages)
        failed = [row for row in result.failures if start <= row < stop]
        outcomes.append(
            result.failures[failed[0]] if failed else PassageVectors(passages, vectors[start:stop])
        )
        start = stop
    return outcomes
