"""What SREs see of a running stack: metrics over HTTP and log lines."""

import json
import subprocess
import sys
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from services.stack.stack import Stack
from sirdar.client import Client


def samples(stack: Stack, tier: str) -> dict[tuple[str, str], float]:
    """Sample name and method to value, of one tier's /metrics."""
    url = f"http://127.0.0.1:{stack.layout.metrics_ports[tier]}/metrics"
    with urllib.request.urlopen(url, timeout=5) as response:
        text = response.read().decode()
    return {
        (sample.name, sample.labels.get("method", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("code", "OK") == "OK"
    }


def test_each_tier_reports_rate_and_duration_of_its_methods(stack: Stack, client: Client) -> None:
    methods = {"gateway": "Search", "embedder": "EmbedTexts", "retriever": "SearchPassages"}
    client.create_collection("metrics")
    try:
        before = {tier: samples(stack, tier) for tier in methods}
        for number in range(3):
            # Not the same each time: that would be answered by what is kept.
            client.search("metrics", f"the sea {number}")
        after = {tier: samples(stack, tier) for tier in methods}
    finally:
        client.delete_collection("metrics")
    for tier, method in methods.items():
        for name in ("sirdar_grpc_requests_total", "sirdar_grpc_request_seconds_count"):
            counted = after[tier][name, method] - before[tier].get((name, method), 0.0)
            assert counted == 3, (tier, name)
        assert after[tier]["sirdar_grpc_requests_in_flight", method] == 0
        assert after[tier]["sirdar_serving", ""] == 1


def test_log_lines_are_json_when_asked() -> None:
    command = [sys.executable, "-m", "gateway", "--port", "0", "--metrics-port", "0"]
    with subprocess.Popen(
        [*command, "--log-format", "json"], stderr=subprocess.PIPE, text=True
    ) as gateway:
        assert gateway.stderr is not None
        first = json.loads(gateway.stderr.readline())
        assert (first["event"], first["tier"], first["level"]) == ("serving", "gateway", "info")
        gateway.terminate()
        rest = [json.loads(line)["event"] for line in gateway.stderr]
        assert gateway.wait(timeout=30) == 0
    assert rest == ["draining", "stopped"]
