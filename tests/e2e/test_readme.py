"""The README's examples run as they are pasted: Python, curl and the command line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from services.stack.stack import Stack

ROOT = Path(__file__).parents[2]
READMES = ("README.md", "clients/python/README.md")
PYTHON = [
    (name, number, code)
    for name in READMES
    for number, code in enumerate(
        re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
    )
]
CURL = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
# What is typed in the second terminal, beside a stack that runs.
COMMANDS = [
    command.split("#")[0].strip()
    for command in re.findall(r"^\$ (sirdar .*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    if not command.startswith("sirdar up")
]


def test_there_are_examples_of_each_kind() -> None:
    assert {name for name, _, _ in PYTHON} == set(READMES)
    assert len(CURL) == 1
    assert {command.split()[1] for command in COMMANDS} >= {"index", "search", "status"}


def run(command: list[str], stack: Stack) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={
            **os.environ,
            "SIRDAR_ADDRESS": stack.address,
            # The commands of this environment, as after `. .venv/bin/activate`.
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout
    return done.stdout


@pytest.mark.parametrize(("readme", "number", "code"), PYTHON)
def test_a_python_example_runs(stack: Stack, readme: str, number: int, code: str) -> None:
    assert "127.0.0.1:7700" in code
    code = code.replace("127.0.0.1:7700", stack.address)
    run([sys.executable, "-W", "error", "-c", code], stack)


def test_the_curl_examples_run(stack: Stack) -> None:
    assert "127.0.0.1:7780" in CURL[0]
    script = CURL[0].replace("127.0.0.1:7780", stack.layout.http_address)
    script = script.replace("curl --silent", "curl --silent --fail-with-body")
    output = run(["bash", "-euo", "pipefail", "-c", script], stack)
    assert '"document_id":"sea"' in output.replace(" ", "")
    assert '"embedding"' in output


def test_the_commands_run(stack: Stack) -> None:
    shown = {command: run(["sh", "-c", command], stack) for command in COMMANDS}
    search = next(output for command, output in shown.items() if " search " in command)
    assert "shutil.disk_usage" in search
