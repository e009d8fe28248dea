"""The lexical indexes that are open for reading: only so many, the last used."""

from collections import OrderedDict
from threading import Lock

import tantivy

from services.retriever.lexical.index import LexicalIndex


class OpenReaders:
    """Each open index holds a thread and some mappings, and opening one takes 0.3 ms."""

    def __init__(self, max_open: int) -> None:
        self._max_open = max_open
        self._open: OrderedDict[LexicalIndex, tantivy.Index] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._open)

    def searcher(self, index: LexicalIndex) -> tantivy.Searcher | None:
        """Sees the last commit; None: there was none. Raises DataLoss."""
        with self._lock:
            opened = self._open.get(index)
            if opened is not None:
                self._open.move_to_end(index)
        if opened is None:
            # Beside the lock: the first time every file is read.
            opened = index.open()
            if opened is None:
                return None
            with self._lock:
                # A commit while it was being opened did not find it here; whoever finds it is
                # to see that commit.
                opened.reload()
                self._open[index] = opened
                while len(self._open) > self._max_open:
                    self._open.popitem(last=False)
        return opened.searcher()

    def refresh(self, index: LexicalIndex) -> None:
        """There was a commit."""
        with self._lock:
            opened = self._open.get(index)
        if opened is not None:
            opened.reload()

    def drop(self, index: LexicalIndex) -> None:
        with self._lock:
            self._open.pop(index, None)
