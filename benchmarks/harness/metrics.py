"""What the server under test counts, read from its /metrics."""

import sys
from urllib.request import ProxyHandler, build_opener

from prometheus_client.parser import text_string_to_metric_families


def scrape(address: str) -> str:
    """The text of `http://ADDRESS/metrics`; no proxy is asked."""
    with build_opener(ProxyHandler({})).open(f"http://{address}/metrics", timeout=10) as answer:
        return str(answer.read(), "utf-8")


def total(text: str, sample: str) -> float:
    """The sum of a sample over all of its labels. Exits when the server has no such sample."""
    values = [
        found.value
        for family in text_string_to_metric_families(text)
        for found in family.samples
        if found.name == sample
    ]
    if not values:
        sys.exit(f"the server counts no {sample}")
    return sum(values)
