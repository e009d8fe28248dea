"""Search as you type: `sirdar search -i`."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import (
    BufferControl,
    FormattedTextControl,
    HSplit,
    Layout,
    VSplit,
    Window,
)
from rich.console import Console
from rich.text import Text

from sirdar.cli.connection import Connection
from sirdar.cli.snippet import excerpt, styled
from sirdar.cli.terminal import one_line, printable
from sirdar.client import AsyncClient, SearchResults
from sirdar.client.options import SearchOptions
from sirdar.errors import SirdarError

# Longer than between two letters of a word, shorter than one notices.
DEBOUNCE_SECONDS = 0.15
# An escape sequence arrives at once; a lone Esc need not be waited for longer.
_ESCAPE_SECONDS = 0.05
_SNIPPET_CHARACTERS = 240
# From as many rows on, the result before the chosen one is seen, too.
_TALL = 20
# Wrapping asks a console for nothing but how wide characters are.
_MEASURE = Console()
_HELP = "↑↓ choose · Enter show · Esc leave"
_DOCUMENT_HELP = "↑↓ scroll · Esc back"


@dataclass(slots=True)
class Screen:
    """What is seen: the results or one document, and a line about it."""

    results: SearchResults | None = None
    chosen: int = 0
    # The lines of the document that is shown; empty: the results are.
    document: tuple[str, ...] = ()
    first_line: int = 0
    status: str = _HELP


class InteractiveSearch:
    """One terminal session. A query is sent when typing rests; a newer one takes its place."""

    def __init__(
        self,
        client: AsyncClient,
        connection: Connection,
        collection: str,
        query: str,
        options: SearchOptions,
    ) -> None:
        self._client = client
        self._connection = connection
        self._collection = collection
        self._options = options
        self._task: asyncio.Task[None] | None = None
        self.screen = Screen()
        self.buffer = Buffer(
            document=Document(query),
            multiline=False,
            read_only=Condition(lambda: bool(self.screen.document)),
            on_text_changed=lambda _: self._typed(),
        )
        self.application = self._application()

    async def run(self) -> None:
        """Until Esc or Ctrl-C."""
        self.application.ttimeoutlen = _ESCAPE_SECONDS
        self.application.timeoutlen = _ESCAPE_SECONDS
        if self.buffer.text:
            self._typed()
        try:
            await self.application.run_async()
        finally:
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait((self._task,))

    def _typed(self) -> None:
        self._start(self._search(self.buffer.text.strip()))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.get_running_loop().create_task(work)

    async def _search(self, query: str) -> None:
        await asyncio.sleep(DEBOUNCE_SECONDS)
        screen = self.screen
        if not query:
            screen.results, screen.status = None, _HELP
        else:
            try:
                results = await self._client.search(self._collection, query, **self._options)
            except SirdarError as error:
                # The results before stay: the next letter asks again.
                screen.status = f"error: {one_line(self._connection.explain(error))}"
            else:
                screen.results, screen.chosen = results, 0
                screen.status = f"{_total(results)} · {_HELP}"
                if results.degraded:
                    screen.status = f"degraded: {one_line(results.degraded[0].detail)}"
        self.application.invalidate()

    async def _open(self, document_id: str) -> None:
        screen = self.screen
        try:
            stored = await self._client.get_document(self._collection, document_id)
        except SirdarError as error:
            screen.status = f"error: {one_line(self._connection.explain(error))}"
        else:
            document = stored.document
            heading = one_line(document.title or document.id)
            text = Text(printable(document.text).expandtabs())
            # Lines as wide as the screen is now: a paragraph may be one line, and is scrolled, too.
            lines = (line.plain for line in _wrapped(text, self._width))
            screen.document = (heading, "", *lines)
            screen.first_line, screen.status = 0, _DOCUMENT_HELP
        self.application.invalidate()

    def _application(self) -> Application[None]:
        prompt = Window(FormattedTextControl([("bold", "search ")]), width=7, height=1)
        line = VSplit([prompt, Window(BufferControl(self.buffer), height=1)])
        body = Window(
            FormattedTextControl(self._lines, focusable=False),
            wrap_lines=True,
            always_hide_cursor=True,
        )
        status = Window(
            FormattedTextControl(lambda: [("reverse", f" {self.screen.status} ")]), height=1
        )
        return Application(
            layout=Layout(HSplit([line, body, status]), self.buffer),
            key_bindings=self._keys(),
            full_screen=True,
        )

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("escape", eager=True)
        def _(event: KeyPressEvent) -> None:
            if self.screen.document:
                self.screen.document, self.screen.status = (), _HELP
            else:
                event.app.exit()

        @keys.add("c-c")
        def _(event: KeyPressEvent) -> None:
            event.app.exit()

        @keys.add("enter")
        def _(event: KeyPressEvent) -> None:
            results = self.screen.results
            if results is not None and len(results) and not self.screen.document:
                self._start(self._open(results.results[self.screen.chosen].document_id))

        for key, by in (("up", -1), ("down", 1), ("pageup", -10), ("pagedown", 10)):
            keys.add(key)(lambda event, by=by: self._move(by))
        return keys

    def _move(self, by: int) -> None:
        screen = self.screen
        if screen.document:
            screen.first_line = max(0, min(screen.first_line + by, len(screen.document) - 1))
        elif screen.results is not None:
            screen.chosen = max(0, min(screen.chosen + by, len(screen.results) - 1))

    def _lines(self) -> StyleAndTextTuples:
        screen = self.screen
        if screen.document:
            return [("", "\n".join(screen.document[screen.first_line :]))]
        if screen.results is None:
            return [("", "\nType what you look for, in your own words.")]
        if not len(screen.results):
            return [("", "\nNothing found.")]
        # A window does not follow text that has no cursor: the chosen result stands near its top.
        rows = self.application.output.get_size().rows
        first = max(0, screen.chosen - (1 if rows >= _TALL else 0))
        return [part for at in range(first, len(screen.results)) for part in self._result(at)]

    def _result(self, at: int) -> StyleAndTextTuples:
        assert self.screen.results is not None
        result = self.screen.results.results[at]
        mark = ">" if at == self.screen.chosen else " "
        name = one_line(result.title or result.document_id)
        shown: StyleAndTextTuples = [
            ("bold", f"\n{mark} {name}"),
            ("", f"  {result.score:.3f}\n"),
        ]
        for line in _wrapped(styled(excerpt(result.snippet, _SNIPPET_CHARACTERS)), self._width - 2):
            shown.append(("", "  "))
            for text, style, _ in line.render(_MEASURE):
                shown.append(("bold underline" if style and style.bold else "", text))
            shown.append(("", "\n"))
        return shown

    @property
    def _width(self) -> int:
        return self.application.output.get_size().columns


def _wrapped(text: Text, width: int) -> list[Text]:
    """The text in lines of at most `width` columns, broken between words."""
    return list(text.wrap(_MEASURE, max(width, 1)))


def _total(results: SearchResults) -> str:
    total = next((item for item in results.timings if item.stage == "total"), None)
    found = f"{len(results)} documents"
    return found if total is None else f"{found} in {total.duration.total_seconds() * 1000:.0f} ms"


def search_as_you_type(
    connection: Connection, collection: str, query: str, options: SearchOptions
) -> None:
    """Runs a session. Raises what says that no session makes sense: no gateway, no collection."""

    async def session() -> None:
        async with connection.open_async() as client:
            await client.get_collection(collection)
            await InteractiveSearch(client, connection, collection, query, options).run()

    asyncio.run(session())
