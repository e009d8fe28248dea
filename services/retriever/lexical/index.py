"""One shard's words on disk: a tantivy index whose documents are the shard's passages."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, Thread, get_native_id
from typing import TypeVar

import numpy as np
import structlog
import tantivy
from numpy.typing import NDArray

from services.retriever.lexical import folder
from services.retriever.lexical.analyzers import analyzer, prepared
from services.retriever.lexical.contents import LexicalContents
from services.retriever.lexical.folder import LexicalManifest
from services.retriever.store.records import TextChange
from sirdar.errors import DataLoss

log: structlog.stdlib.BoundLogger = structlog.get_logger()

T = TypeVar("T")

WORDS = "words"
DOCUMENT = "document"
PASSAGE = "passage"
INDEX_OPTION = "freq"

_ANALYZER = "sirdar"
# The least that tantivy takes for each thread; a commit comes long before it is full.
_WRITER_HEAP_BYTES = 15_000_000
_WRITER_THREADS = 1
# Documents are listed by so many of their passages at a time, 0.7 us each.
_LISTED_PASSAGES = 20_000
# Below searches and the threads that answer, above builds of segments, which have no deadline.
_NICENESS = 5


def _schema() -> tantivy.Schema:
    """Term frequencies and lengths, which is what BM25 reads; nothing is stored."""
    builder = tantivy.SchemaBuilder()
    builder.add_text_field(WORDS, tokenizer_name=_ANALYZER, index_option=INDEX_OPTION)
    builder.add_integer_field(DOCUMENT, indexed=True, fast=True)
    builder.add_integer_field(PASSAGE, indexed=False, fast=True)
    return builder.build()


SCHEMA = _schema()


class LexicalIndex:
    """Written by one thread at a time, read by any.

    A passage's words are those of its document's title and its own, in one
    field: what the embedder reads, so that a passage keeps its subject.
    """

    def __init__(self, path: Path, generation_key: int, shard: int, language: str) -> None:
        self.path = path
        self.analyzer = analyzer(language)
        self._identity = LexicalManifest(
            generation_key=generation_key, shard=shard, language=language, covered_seq=0
        )
        self._contents = LexicalContents(path)
        # How far the manifest says that the index goes, and the moment of the files it is for.
        self._recorded: tuple[int, tuple[int, int] | None] | None = None
        self._checked = False
        self._lock = Lock()
        self._writer: tantivy.IndexWriter | None = None

    @property
    def has_writer(self) -> bool:
        return self._writer is not None

    @property
    def exists(self) -> bool:
        return folder.has_index(self.path)

    def covered_seq(self, committed_seq: int) -> int:
        """How far what is there goes; 0: there is nothing, or nothing of use, any more.

        An index that is ahead of the store's `committed_seq` is of another past
        than the store, which was restored from a backup.
        """
        manifest = folder.read_manifest(self.path)
        if manifest is not None and manifest.is_of(self._identity) and self.exists:
            if manifest.covered_seq <= committed_seq:
                return manifest.covered_seq
            log.warning("a lexical index is ahead of the store", folder=str(self.path))
        self.remove()
        return 0

    def open(self) -> tantivy.Index | None:
        """A reader of what is committed; None: nothing was ever. Raises DataLoss."""
        with self._lock, faults(self.path):
            if not self.exists:
                return None
            return self._open()

    def open_writer(self) -> None:
        """Raises DataLoss, OSError."""
        with self._lock, faults(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            index = self._open()
            self._writer = _niced(lambda: index.writer(_WRITER_HEAP_BYTES, _WRITER_THREADS))

    def add(self, changes: Sequence[TextChange]) -> None:
        """Puts the words of the documents in the place of those that they had.

        Seen by searches after `commit`. Raises DataLoss, ValueError.
        """
        writer = self._writer
        assert writer is not None
        with faults(self.path):
            for change in changes:
                writer.delete_documents_by_term(DOCUMENT, change.document_key)
                for passage_id, (start, end) in zip(change.passage_ids, change.spans, strict=True):
                    text = prepared(f"{change.title}\n{change.text[start:end]}")
                    fields = {
                        WORDS: [text],
                        DOCUMENT: [change.document_key],
                        PASSAGE: [passage_id],
                    }
                    writer.add_document(tantivy.Document(**fields))

    def document_keys(self) -> NDArray[np.int64]:
        """The keys of the documents of what is committed, ascending. Raises DataLoss."""
        index = self.open()
        if index is None:
            return np.empty(0, np.int64)
        with faults(self.path):
            searcher = index.searcher()
            found = [np.empty(0, np.int64)]
            after = -1
            while True:
                part = _documents_after(searcher, after)
                if not len(part):
                    return np.concatenate(found)
                found.append(part)
                after = int(part[-1])

    def delete(self, document_keys: NDArray[np.int64]) -> None:
        """Takes out documents; as `add`. Raises DataLoss, ValueError."""
        writer = self._writer
        assert writer is not None
        with faults(self.path):
            for key in document_keys.tolist():
                writer.delete_documents_by_term(DOCUMENT, key)

    def commit(self) -> None:
        """Durable when it returns. Raises DataLoss, ValueError."""
        assert self._writer is not None
        with faults(self.path):
            self._writer.commit()

    def record(self, covered_seq: int) -> None:
        """Says how far the last commit goes, after it, and what the index consists of: what a
        crash between the two leaves is built again. Raises OSError, ValueError."""
        moment = self._contents.moment
        manifest = self._identity.model_copy(
            update={"covered_seq": covered_seq, "contents": self._contents.identity()}
        )
        folder.write_manifest(self.path, manifest)
        self._recorded = covered_seq, moment

    def vouch(self) -> None:
        """Says again what the index consists of where a merge has ended since. Raises OSError,
        ValueError."""
        if self._recorded is None or not self.exists:
            return
        covered_seq, moment = self._recorded
        if self._contents.moment != moment:
            self.record(covered_seq)

    def close_writer(self, *, merge: bool) -> None:
        """Drops what is not committed; `merge`: after the merges that are under way."""
        writer, self._writer = self._writer, None
        if writer is None or not merge:
            return
        with faults(self.path):
            writer.wait_merging_threads()

    def is_whole(self) -> bool:
        return not self.exists or (self._is_as_written() and self._can_be_opened())

    def remove(self) -> None:
        """Whoever reads it goes on reading what was there."""
        with self._lock:
            self.close_writer(merge=False)
            folder.remove(self.path)
            self._recorded = None

    def size_bytes(self) -> int:
        return folder.size_bytes(self.path)

    def _is_as_written(self) -> bool:
        """Whether the files are whole; when it was not opened yet, whether they are also those
        that the manifest is for: none of another index, none of a merge nobody vouched for."""
        if not self._contents.are_whole():
            return False
        manifest = None if self._checked else folder.read_manifest(self.path)
        if manifest is None or not manifest.contents:
            return True
        try:
            return self._contents.identity() == manifest.contents
        except (OSError, ValueError):
            return False

    def _can_be_opened(self) -> bool:
        """Whether tantivy takes its description of the index, which has no checksum, for ours."""
        try:
            with faults(self.path):
                tantivy.Index(SCHEMA, path=str(self.path))
        except (DataLoss, ValueError, OSError):
            return False
        return True

    def _open(self) -> tantivy.Index:
        if self.exists and not self._checked and not self._is_as_written():
            raise DataLoss(f"the lexical index in {self.path} is damaged")
        index = tantivy.Index(SCHEMA, path=str(self.path))
        self._checked = True
        index.register_tokenizer(_ANALYZER, self.analyzer)
        # By default each index watches its folder; here the writer says when there is more.
        index.config_reader("manual")
        index.reload()
        return index


def _documents_after(searcher: tantivy.Searcher, key: int) -> NDArray[np.int64]:
    """The next keys of documents, ascending; empty: there are no more."""
    beyond = tantivy.Query.range_query(
        SCHEMA, DOCUMENT, tantivy.FieldType.Integer, key + 1, np.iinfo(np.int64).max
    )
    found = searcher.search(
        beyond, _LISTED_PASSAGES, count=False, order_by_field=DOCUMENT, order=tantivy.Order.Asc
    )
    return np.unique(np.array([key for key, _ in found.hits], np.int64))


@contextmanager
def faults(path: Path) -> Iterator[None]:
    """Turns a panic of tantivy, which it raises past Exception, into DataLoss."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise DataLoss(f"the lexical index in {path} is damaged: {error}") from error
        raise


def _niced(call: Callable[[], T]) -> T:
    """Calls in a thread of lower priority, which the threads that it starts inherit."""
    outcome: list[T] = []
    fault: list[BaseException] = []

    def run() -> None:
        try:
            os.setpriority(os.PRIO_PROCESS, get_native_id(), _NICENESS)
            outcome.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again to the caller
            fault.append(error)

    thread = Thread(target=run, name="lexical-start")
    thread.start()
    thread.join()
    if fault:
        raise fault[0]
    return outcome[0]
