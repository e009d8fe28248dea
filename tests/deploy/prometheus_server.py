"""A real Prometheus for tests, from the system's packages."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml


def promtool() -> str:
    return _command("promtool")


def _command(name: str) -> str:
    """Its path. Without it the test is skipped, and under CI it fails."""
    if found := shutil.which(name):
        return found
    missing = f"{name} is not installed: `apt-get install prometheus` brings it"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


class PrometheusServer:
    """Scrapes `targets` (job to addresses) each second, evaluates `rules`. Use it with `with`."""

    def __init__(
        self, folder: Path, targets: Mapping[str, Sequence[str]], rules: Sequence[Path]
    ) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._address = f"127.0.0.1:{free.getsockname()[1]}"
        (folder / "prometheus.yml").write_text(
            yaml.safe_dump(
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": [str(path) for path in rules],
                    "scrape_configs": [
                        {"job_name": job, "static_configs": [{"targets": [*addresses]}]}
                        for job, addresses in targets.items()
                    ],
                }
            )
        )

    def __enter__(self) -> "PrometheusServer":
        self._log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen(
            [
                _command("prometheus"),
                f"--config.file={self._folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={self._folder / 'tsdb'}",
                f"--web.listen-address={self._address}",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        for _ in range(300):
            try:
                self._get("/-/ready")
            except OSError:
                assert self._process.poll() is None, (self._folder / "log").read_text()
                time.sleep(0.1)
            else:
                return self
        raise AssertionError("Prometheus is not ready after 30 s")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)
        self._log.close()

    def query(self, expression: str) -> list[tuple[Mapping[str, str], float]]:
        """The series of an expression now: labels and value."""
        answer = self._get(f"/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
        result = json.loads(answer)["data"]
        if result["resultType"] == "scalar":
            return [({}, float(result["result"][1]))]
        return [(series["metric"], float(series["value"][1])) for series in result["result"]]

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://{self._address}{path}", timeout=10) as response:
            body: bytes = response.read()
            return body
