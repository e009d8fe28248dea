"""The reranker's process."""

import subprocess
import sys
from pathlib import Path

from tests.small_model import MINILM


def test_bi_encoder_ends_the_process_with_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "services.reranker", "--model", MINILM]
    ports = ["--port", "0", "--metrics-port", "0", "--cache-folder", str(tmp_path)]
    child = subprocess.run(
        [*command, *ports], capture_output=True, text=True, check=False, timeout=60
    )
    assert child.returncode == 1
    (line,) = child.stderr.strip().splitlines()
    assert "bi-encoder" in line
