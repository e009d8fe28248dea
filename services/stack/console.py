"""What `sirdar up` shows."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from services.stack.stack import Stack, TierDied
from sirdar.cli.terminal import printable

_COLOURS = {"gateway": "green", "embedder": "magenta", "retriever": "cyan", "reranker": "yellow"}
_NAME_WIDTH = 12
_TAIL_LINES = 5


class UpConsole:
    """Progress, logs and errors, all on standard error; safe to use from many threads."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._quiet = quiet

    def log(self, tier: str, line: str) -> None:
        """One line of a tier's log."""
        if self._quiet:
            return
        self._console.print(_name(tier), Text("│", style="dim"), Text(printable(line)))

    def starting(self, stack: Stack) -> None:
        self._console.print(f"Starting {len(stack.tiers)} tiers on {stack.layout.data_folder}")

    def ready(self, tier: str, seconds: float) -> None:
        self._console.print(_name(tier), Text("✓", style="green"), f"ready after {seconds:.1f} s")

    def up(self, stack: Stack) -> None:
        """The block that says where everything is and what to do next."""
        address = stack.address
        option = "" if address == "127.0.0.1:7700" else f" --address {address}"
        self._console.print()
        self._console.print(Text("Sirdar is up.", style="bold green"))
        for tier in reversed(stack.tiers):
            metrics = stack.layout.metrics_ports[tier.name]
            self._console.print(
                Text("  "),
                _name(tier.name),
                stack.layout.address(tier.name),
                Text(f"metrics http://127.0.0.1:{metrics}/metrics", style="dim"),
            )
        self._console.print(f"   HTTP        http://{stack.http_address}/docs")
        self._console.print(f"   data        {stack.layout.data_folder}")
        self._console.print()
        self._console.print("Next, in another terminal:")
        self._console.print(f"  sirdar{option} index --python-docs --package stdlib")
        self._console.print(f'  sirdar{option} search "run something every few seconds"')
        self._console.print("Ctrl-C stops all tiers.")
        self._console.print()

    def died(self, died: TierDied) -> None:
        """Names the tier and repeats the end of its log, which others may have pushed away."""
        for line in died.tail[-_TAIL_LINES:]:
            self._console.print(_name(died.tier), Text("│", style="red"), Text(printable(line)))
        self.error(f"{died.message}; above are the last lines of its log")

    def error(self, message: str) -> None:
        self._console.print(Text("error:", style="bold red"), Text(printable(message)))

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Around the stop of the tiers, which drain first."""
        if sys.stderr.isatty():
            self._console.print("Stopping ...")
        yield
        self._console.print("Stopped.")


def _name(tier: str) -> Text:
    return Text(tier.ljust(_NAME_WIDTH), style=_COLOURS.get(tier.partition("-")[0], "blue"))
