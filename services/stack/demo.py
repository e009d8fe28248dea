"""The demo: from nothing to answers, with the public client alone.

python -m services.stack.demo [--data FOLDER]
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from services.stack.stack import Stack, TierDied
from sirdar.cli.python_docs import STDLIB, PythonDocs
from sirdar.cli.search import footer
from sirdar.cli.terminal import one_line
from sirdar.client import Client, SearchMode, SearchResults
from sirdar.errors import AlreadyExists, SirdarError

COLLECTION = "docs"
# In words that the documents they are about do not use, so they are searched by meaning alone.
QUESTIONS = (
    "how full is my hard drive",
    "pick a winner by luck",
    "read numbers from a spreadsheet export",
    "send a letter over the internet",
    "leave a note for the next developer that this will go away",
)
RESULTS = 3
# Of output that is no terminal.
_WIDTH = 108


def main() -> None:
    parser = argparse.ArgumentParser(description="Start Sirdar, index Python's own docs, ask.")
    parser.add_argument("--data", type=Path, help="keep the data here; default: a temporary folder")
    folder = parser.parse_args().data
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    try:
        with _data_folder(folder) as data:
            demonstrate(data, console)
    except TierDied as died:
        print("\n".join(died.tail), f"error: {died.message}", sep="\n", file=sys.stderr)
        sys.exit(1)
    except SirdarError as error:
        print(f"error: {one_line(error.message)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def _data_folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="sirdar-demo-") as folder:
        yield Path(folder)


def demonstrate(data: Path, console: Console) -> None:
    """Starts the tiers, indexes, asks, stops."""
    stack = Stack(data)
    console.rule("Sirdar: tiers that talk gRPC, each a process of its own", align="left")
    began = time.monotonic()
    stack.start(lambda tier, seconds: _ready(console, stack, tier, seconds))
    try:
        with Client(stack.address) as client:
            _index(client, console)
            for question in QUESTIONS:
                console.print()
                console.print(Text(f"“{question}”", style="bold"))
                results = client.search(COLLECTION, question, top_k=RESULTS, mode=SearchMode.DENSE)
                console.print(_answers(results))
                console.print(Text(f"   {footer(results)}", style="dim"))
    finally:
        stack.stop()
    console.print()
    console.rule(f"Done and stopped after {time.monotonic() - began:.0f} s. Next:", align="left")
    console.print("  . .venv/bin/activate")
    console.print("  sirdar up                                     # and, in another terminal:")
    console.print("  sirdar index --python-docs --package stdlib   # or FILE.jsonl")
    console.print(f'  sirdar search "{QUESTIONS[0]}"')


def _ready(console: Console, stack: Stack, tier: str, seconds: float) -> None:
    console.print(
        Text(f"  {tier:<10}", style="bold"),
        f"serves at {stack.addresses[tier]:<16} after {seconds:4.1f} s",
    )


def _index(client: Client, console: Console) -> None:
    """Indexes the documentation strings of the standard library and says how fast."""
    # A data folder that is used again has the collection already.
    try:
        client.create_collection(COLLECTION, description="The Python standard library")
    except AlreadyExists:
        console.print("  the collection is there already; only what changed is embedded")
    documents = [found.document for found in PythonDocs([STDLIB])]
    began = time.monotonic()
    indexed = passages = 0
    outcomes = client.index(COLLECTION, documents)
    for outcome in track(
        outcomes,
        "  indexing",
        total=len(documents),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ):
        if outcome.receipt is not None:
            indexed += 1
            passages += outcome.receipt.passages
    seconds = time.monotonic() - began
    console.print(
        f"  indexed {indexed:,} of {len(documents):,} documentation strings of the standard library"
    )
    console.print(
        f"  {passages:,} passages in {seconds:.1f} s ({indexed / seconds:,.0f} documents/s)"
    )


def _answers(results: SearchResults) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1), expand=True)
    table.add_column(style="dim", justify="right", width=2)
    table.add_column(style="green", width=5)
    table.add_column(style="cyan", no_wrap=True, ratio=2)
    table.add_column(no_wrap=True, ratio=5)
    for rank, result in enumerate(results, 1):
        table.add_row(
            str(rank),
            f"{result.score:.3f}",
            Text(one_line(result.title), overflow="ellipsis"),
            Text(one_line(result.snippet.text), overflow="ellipsis"),
        )
    return table


if __name__ == "__main__":
    main()
