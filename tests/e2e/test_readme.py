"""The README's Python examples run as they are pasted."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from services.stack.stack import Stack

ROOT = Path(__file__).parents[2]
READMES = ("README.md", "clients/python/README.md")
EXAMPLES = [
    (name, number, code)
    for name in READMES
    for number, code in enumerate(
        re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
    )
]


def test_there_are_examples() -> None:
    assert {name for name, _, _ in EXAMPLES} == set(READMES)


@pytest.mark.parametrize(("readme", "number", "code"), EXAMPLES)
def test_an_example_runs(stack: Stack, readme: str, number: int, code: str) -> None:
    assert "127.0.0.1:7700" in code
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code.replace("127.0.0.1:7700", stack.address)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
