"""The command `sirdar`, run in this process or in one of its own."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sirdar.cli.main import main


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


Sirdar = Callable[..., Ended]


def in_process(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Sirdar:
    """Runs the command in this process, at 100 columns, and gives code and output."""
    monkeypatch.setenv("SIRDAR_ADDRESS", address)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: str | Path) -> Ended:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["sirdar", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    return run


def in_a_process(address: str, *arguments: str | Path, **env: str) -> subprocess.Popen[bytes]:
    """Starts the command."""
    return subprocess.Popen(
        [sys.executable, "-c", "from sirdar.cli.main import main; main()", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"SIRDAR_ADDRESS": address, **env},
    )
