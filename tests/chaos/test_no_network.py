"""Nothing in a running stack tries to reach out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.root
def test_a_stack_works_without_a_network_and_never_looks_for_one(tmp_path: Path) -> None:
    nameserver = tmp_path / "resolv.conf"
    # A look-up of a name is then an attempt without a route, and counted.
    nameserver.write_text("nameserver 192.0.2.53\n")
    script = (
        f"mount --bind {nameserver} /etc/resolv.conf && "
        f"exec {sys.executable} -m tests.chaos.no_network {tmp_path / 'data'}"
    )
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["on_purpose"] == 2
    assert seen["attempts"] == 0
    assert seen["best"] == "tide"
