"""The command `sirdar doctor`."""

import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sirdar.cli.connection import DEFAULT_ADDRESS, Connection
from sirdar.cli.finding import CHECKS_GROUP, Checks, Finding, Verdict
from sirdar.cli.terminal import one_line

if TYPE_CHECKING:
    from sirdar.errors import SirdarError

_CLIENT_PACKAGES = ("sirdar", "grpcio", "protobuf", "typer", "rich")
_OLDEST_PYTHON = (3, 11)
_HEALTH_TIMEOUT_SECONDS = 5.0
# Beyond this a clock is set wrong, not late: certificates and tokens depend on it.
_LATEST_YEAR = 2100
_STYLES = {Verdict.GOOD: "green", Verdict.WARNING: "yellow", Verdict.BROKEN: "bold red"}


def doctor(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check the installation and this machine, and say what to do; exit code 1 if it is broken."""
    connection: Connection = context.obj
    findings: list[Finding] = []
    for finding in _all(connection):
        findings.append(finding)
        if not as_json:
            _show(finding)
    if as_json:
        _print_json(findings)
    if any(finding.verdict is Verdict.BROKEN for finding in findings):
        raise typer.Exit(1)


def _all(connection: Connection) -> Iterator[Finding]:
    yield _python()
    yield from _packages()
    yield _clock()
    yield _gateway(connection)
    for entry in entry_points(group=CHECKS_GROUP):
        try:
            checks: Checks = entry.load()
        except ImportError as error:
            remedy = f"install it again, whole: {error}"
            yield Finding(entry.name, Verdict.BROKEN, "its checks cannot be loaded", remedy)
        else:
            yield from checks(connection.address)


def _python() -> Finding:
    running = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < _OLDEST_PYTHON:
        return Finding("Python", Verdict.BROKEN, running, "install Python 3.11 or newer")
    return Finding("Python", Verdict.GOOD, f"{running}, {sys.executable}")


def _packages() -> Iterator[Finding]:
    for name in _CLIENT_PACKAGES:
        try:
            yield Finding(name, Verdict.GOOD, version(name))
        except PackageNotFoundError:
            yield Finding(name, Verdict.BROKEN, "not installed", f"pip install {name}")
    try:
        server = version("sirdar-server")
    except PackageNotFoundError:
        yield Finding("sirdar-server", Verdict.GOOD, "not installed: this is a client only")
        return
    if server == version("sirdar"):
        yield Finding("sirdar-server", Verdict.GOOD, server)
    else:
        detail = f"{server}, but the client is {version('sirdar')}"
        yield Finding("sirdar-server", Verdict.WARNING, detail, "install both in one version")


def _clock() -> Finding:
    now = time.time()
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    # The package cannot have been installed in the future.
    if now < Path(__file__).stat().st_mtime - 1 or time.gmtime(now).tm_year > _LATEST_YEAR:
        remedy = "set the clock, for example with NTP; certificates and tokens depend on it"
        return Finding("clock", Verdict.BROKEN, shown, remedy)
    return Finding("clock", Verdict.GOOD, shown)


def _gateway(connection: Connection) -> Finding:
    from sirdar.errors import SirdarError

    try:
        with connection.open() as client:
            timeout = min(connection.timeout_seconds, _HEALTH_TIMEOUT_SECONDS)
            state = client.health(timeout_seconds=timeout).value
    except SirdarError as error:
        return _unreachable(connection, error)
    subject = f"gateway {connection.address}"
    if state == "serving":
        return Finding(subject, Verdict.GOOD, state)
    return Finding(subject, Verdict.BROKEN, state, "see its log, and `sirdar status`")


def _unreachable(connection: Connection, error: "SirdarError") -> Finding:
    # Where no address was chosen, it may be that nothing was started yet.
    chosen = connection.address != DEFAULT_ADDRESS
    return Finding(
        f"gateway {connection.address}",
        Verdict.BROKEN if chosen else Verdict.WARNING,
        "does not answer",
        one_line(connection.explain(error)),
    )


def _show(finding: Finding) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    console.print(
        Text.assemble(
            (f"{finding.verdict.value:<8}", _STYLES[finding.verdict]),
            (f" {one_line(finding.subject)}: ", "bold"),
            one_line(finding.detail),
        )
    )
    if finding.remedy:
        console.print(Text(f"         {one_line(finding.remedy)}"))


def _print_json(findings: list[Finding]) -> None:
    import json

    items = [
        {
            "subject": finding.subject,
            "verdict": finding.verdict.value,
            "detail": finding.detail,
            "remedy": finding.remedy,
        }
        for finding in findings
    ]
    print(json.dumps(items, ensure_ascii=False, indent=2))
