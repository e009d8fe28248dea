"""A retriever that is cut from the gateway, then from the store: what is served and flagged."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.cluster.partition import behind_proxies, observe


def check(seen: dict[str, dict[str, Any]]) -> None:
    print(json.dumps(seen))
    assert seen["afterwards"] == {"lost": [], "faults": []}
    for cut in ("retriever_from_gateway", "retriever_from_store"):
        assert seen[cut]["wrong"] == []
        # The other retriever has all shards: nothing is missing, and nothing has to be said.
        assert seen[cut]["failed"] == {}
        assert seen[cut]["partial"] == 0
        assert seen[cut]["degraded"] == {}
        assert seen[cut]["answered"] > 0
    # Who does not know what is committed does not say that it does.
    assert seen["retriever_from_store"]["the_retriever_alone"] != "answered"


@pytest.mark.root
def test_hosts_are_cut_from_each_other(tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "tests.chaos.cluster.partition", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    check(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.skipif(os.geteuid() == 0, reason="as root it is done with network namespaces")
async def test_connections_are_cut(tmp_path: Path) -> None:
    async with behind_proxies(tmp_path) as it:
        check(await observe(it))
