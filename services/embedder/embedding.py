"""What the embedder does, without gRPC: validates, tokenizes, splits, batches."""

import asyncio
import enum
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.embedder.splitter import Passage, PassageSplitter
from services.inference.batch import TokenizedItem
from services.inference.batcher import Batcher, Priority
from services.inference.loading import LoadedModel
from services.runtime.cpu import available_cpus
from sirdar.errors import FailedPrecondition, InvalidArgument, NotFound, SirdarError


class InputType(enum.Enum):
    """What texts are; models put a different prompt in front of each."""

    UNSPECIFIED = "unspecified"
    QUERY = "query"
    DOCUMENT = "document"


@dataclass(frozen=True, slots=True)
class EmbeddingLimits:
    """What is too much for one message."""

    texts: int
    text_characters: int
    documents: int
    document_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class TextVector:
    """An embedded text."""

    vector: NDArray[np.float32]
    tokens: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """A document to split and embed."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class PassageVectors:
    """The passages of a document with their vectors [passages, dimensions]."""

    passages: list[Passage]
    vectors: NDArray[np.float32]


class Embedder:
    """One model's texts and documents to vectors."""

    def __init__(
        self,
        model: LoadedModel,
        batcher: Batcher,
        splitter: PassageSplitter,
        limits: EmbeddingLimits,
    ) -> None:
        self.model = model
        self._batcher = batcher
        self._splitter = splitter
        self._limits = limits
        description = model.description
        self._prompts = {
            InputType.UNSPECIFIED: description.default_prompt,
            InputType.QUERY: description.query_prompt,
            InputType.DOCUMENT: description.document_prompt,
        }
        self._splitting = ThreadPoolExecutor(available_cpus(), thread_name_prefix="splitter")

    def check_model(self, name: str, revision: str, expected_fingerprint: str) -> None:
        """Raises NotFound for a model that is not served here, FailedPrecondition for a space."""
        source = self.model.source
        if name and (name != source.name or (revision and revision != source.revision)):
            asked = f"{name} at revision {revision}" if revision else name
            raise NotFound(
                f"model {asked} is not served here; this embedder serves {source.name}",
                reason="MODEL_NOT_FOUND",
                metadata={"served": source.name},
            )
        if expected_fingerprint and expected_fingerprint != self.model.fingerprint:
            raise FailedPrecondition(
                f"this embedder's vectors are of space {self.model.fingerprint}, not of the "
                f"expected {expected_fingerprint}; they must not be compared: serve the model "
                "that the collection was made with, or index it again",
                reason="SPACE_MISMATCH",
                metadata={"fingerprint": self.model.fingerprint},
            )

    async def embed_texts(
        self,
        texts: Sequence[str],
        input_type: InputType,
        priority: Priority,
        deadline: float | None,
    ) -> list[TextVector | SirdarError]:
        """One outcome a text. `deadline` is in seconds on time.monotonic().

        Raises InvalidArgument for no or too many texts, ResourceExhausted and
        DeadlineExceeded as the batcher does.
        """
        _check_count("texts", len(texts), self._limits.texts)
        outcomes: list[TextVector | SirdarError | None] = [
            self._text_error(index, text) for index, text in enumerate(texts)
        ]
        good = [index for index, error in enumerate(outcomes) if error is None]
        prompt = self._prompts[input_type]
        items = await self.model.tokenizer.encode_off_loop([prompt + texts[i] for i in good])
        result = await self._batcher.run(items, priority, deadline)
        for row, (index, item) in enumerate(zip(good, items, strict=True)):
            outcomes[index] = result.failures.get(row) or TextVector(
                result.rows[row], item.tokens, item.truncated
            )
        return [outcome for outcome in outcomes if outcome is not None]

    async def embed_documents(
        self, documents: Sequence[SourceDocument], deadline: float | None
    ) -> list[PassageVectors | SirdarError]:
        """One outcome a document; errors as `embed_texts`."""
        _check_count("documents", len(documents), self._limits.documents)
        loop = asyncio.get_running_loop()
        split = await loop.run_in_executor(self._splitting, self._split_all, documents)
        items: list[TokenizedItem] = []
        for passages in split:
            if not isinstance(passages, SirdarError):
                items.extend(passage.item for passage in passages)
        result = await self._batcher.run(items, Priority.BULK, deadline)
        outcomes: list[PassageVectors | SirdarError] = []
        start = 0
        for passages in split:
            if isinstance(passages, SirdarError):
                outcomes.append(passages)
                continue
            rows = range(start, start + len(passages))
            start = rows.stop
            failure = next((result.failures[row] for row in rows if row in result.failures), None)
            vectors = result.rows[rows.start : rows.stop]
            outcomes.append(failure or PassageVectors(passages, vectors))
        return outcomes

    def close(self) -> None:
        self._splitting.shutdown(cancel_futures=True)

    def _split_all(self, documents: Sequence[SourceDocument]) -> list[list[Passage] | SirdarError]:
        return [
            self._document_error(index, document)
            or self._splitter.split(document.title, document.text)
            for index, document in enumerate(documents)
        ]

    def _text_error(self, index: int, text: str) -> SirdarError | None:
        if not text:
            return InvalidArgument.field(f"texts[{index}]", "must not be empty", reason="EMPTY")
        if "\0" in text:
            return InvalidArgument.field(f"texts[{index}]", "must not contain NUL")
        if len(text) > self._limits.text_characters:
            return InvalidArgument.field(
                f"texts[{index}]",
                f"has {len(text)} characters, the limit is {self._limits.text_characters}; "
                "embed long texts as documents",
            )
        return None

    def _document_error(self, index: int, document: SourceDocument) -> SirdarError | None:
        field = f"documents[{index}]"
        if not document.text or document.text.isspace():
            return InvalidArgument.field(f"{field}.text", "must not be empty", reason="EMPTY")
        for name, value in (("title", document.title), ("text", document.text)):
            if "\0" in value:
                return InvalidArgument.field(f"{field}.{name}", "must not contain NUL")
        size = len(document.title.encode()) + len(document.text.encode())
        if size > self._limits.document_bytes:
            return InvalidArgument.field(
                field,
                f"has {size} bytes, the limit is {self._limits.document_bytes}; "
                "cut it into several documents",
            )
        return None


def _check_count(field: str, count: int, limit: int) -> None:
    if count == 0:
        raise InvalidArgument.field(field, "must not be empty", reason="EMPTY")
    if count > limit:
        raise InvalidArgument.field(field, f"has {count} items, the limit is {limit} a message")
