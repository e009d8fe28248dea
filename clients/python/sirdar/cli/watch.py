"""A folder that is kept indexed while it changes: `sirdar index --watch`."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from watchfiles import watch

from sirdar.cli.folder import Entry, entries, read_entry
from sirdar.cli.index_run import IndexRun
from sirdar.cli.source import Found, Item
from sirdar.cli.terminal import one_line
from sirdar.client import Client
from sirdar.errors import DeadlineExceeded, Unavailable

# Changes that come within this time are taken together.
_SETTLE_MS = 300
# How soon what failed is tried again.
_RETRY_MS = 2_000


class Watch:
    """Indexes what changes in folders and deletes what vanishes.

    A notice of the system only says that it is time to look: the folders are
    then compared with what was indexed, so that moved folders, notices that
    were lost and changes that came before a failure was mended count, too.
    What vanishes while nobody watches is not known and stays.
    """

    def __init__(
        self,
        client: Client,
        collection: str,
        folders: Sequence[Path],
        run: IndexRun,
        show: Callable[[str], None],
    ) -> None:
        self._client = client
        self._collection = collection
        self._folders = folders
        self._run = run
        self._show = show
        # What is indexed, and what was refused, by id, as it was then.
        self._known: dict[str, Entry] = {}
        self._fault = ""
        self._gone = False

    def forever(self) -> None:
        """Until KeyboardInterrupt. A gateway that is away is waited for; other errors end it."""
        self._tried()
        self._show(f"watching {', '.join(map(str, self._folders))}; Ctrl-C ends it")
        while True:
            self._follow()

    def _follow(self) -> None:
        """Until a folder that was gone is back: the notices are of the one that went."""
        # Once more when the system watches: between the first look and then files may change.
        pending = True
        for changes in watch(
            *self._folders,
            debounce=_SETTLE_MS,
            rust_timeout=_RETRY_MS,
            yield_on_timeout=True,
            recursive=True,
        ):
            if changes or pending:
                was_gone = self._gone
                pending = not self._tried()
                if was_gone and not self._gone:
                    return

    def _tried(self) -> bool:
        """Whether the collection could be brought up to date; each reason why not is shown once."""
        fault = ""
        self._gone = False
        try:
            self.update()
        except (Unavailable, DeadlineExceeded) as error:
            fault = error.message
        except FileNotFoundError as error:
            # A disk that was taken away is no wish to delete what was on it.
            fault = f"{error.filename} is gone; what it held stays indexed"
            self._gone = True
        if fault and fault != self._fault:
            self._show(f"will be tried again: {one_line(fault)}")
        self._fault = fault
        return not fault

    def update(self) -> None:
        """Brings the collection up to date; raises FileNotFoundError if a folder is gone."""
        there = {entry.document_id: entry for folder in self._folders for entry in entries(folder)}
        changed = [entry for entry in there.values() if self._known.get(entry.document_id) != entry]
        changes = _Changes(changed)
        before = self._run.indexed
        if changed:
            self._run.index(changes)
        # A file that lost its text must not be found by it.
        gone = [key for key in self._known if key not in there or key in changes.without_document]
        for outcome in self._client.delete_documents(self._collection, gone) if gone else ():
            if outcome.existed:
                self._show(f"deleted {one_line(outcome.document_id)}")
        if self._known and self._run.indexed > before:
            self._show(f"indexed {self._run.indexed - before:,} changed files")
        self._known = there


class _Changes:
    """Changed files as a source that remembers which of them gave no document."""

    def __init__(self, files: Sequence[Entry]) -> None:
        self._files = files
        self.total_bytes: int | None = sum(file.size_bytes for file in files)
        self.without_document: set[str] = set()

    def __iter__(self) -> Iterator[Item]:
        position = 0
        for file in self._files:
            position += file.size_bytes
            item = read_entry(file, position)
            if not isinstance(item, Found):
                self.without_document.add(file.document_id)
            yield item
