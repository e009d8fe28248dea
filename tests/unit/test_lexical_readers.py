"""Readers of lexical indexes: whoever asks after a commit sees it."""

from pathlib import Path
from threading import Thread
from typing import cast

import tantivy

from services.retriever.lexical.index import LexicalIndex
from services.retriever.lexical.readers import OpenReaders
from services.retriever.store.records import TextChange


class Reloading:
    """An opened index; while it is reloaded somebody else asks for a searcher."""

    def __init__(self, opened: tantivy.Index, ask: Thread) -> None:
        self._opened = opened
        self._ask = ask

    def reload(self) -> None:
        self._ask.start()
        # It is answered at once, or when this is done.
        self._ask.join(0.2)
        self._opened.reload()

    def searcher(self) -> tantivy.Searcher:
        return self._opened.searcher()


class CommittedMeanwhile(LexicalIndex):
    """There is a commit while it is opened for the first time."""

    def __init__(self, path: Path, readers: OpenReaders) -> None:
        super().__init__(path, 1, 0, "none")
        self._readers = readers
        self.seen: list[int] = []

    def write(self, key: int) -> None:
        self.add([TextChange(key, key, (key,), "", "some words", ((0, 10),))])
        self.commit()
        self._readers.refresh(self)

    def open(self) -> tantivy.Index | None:
        opened = super().open()
        assert opened is not None
        self.write(2)
        self.ask = Thread(target=lambda: self.seen.append(self.documents()))
        return cast(tantivy.Index, Reloading(opened, self.ask))

    def documents(self) -> int:
        searcher = self._readers.searcher(self)
        assert searcher is not None
        return int(searcher.num_docs)


def test_a_commit_while_an_index_is_opened_is_seen_by_all_who_ask_after_it(tmp_path: Path) -> None:
    readers = OpenReaders(4)
    index = CommittedMeanwhile(tmp_path, readers)
    index.open_writer()
    index.write(1)
    assert index.documents() == 2
    index.ask.join()
    assert index.seen == [2]
    index.close_writer(merge=True)
