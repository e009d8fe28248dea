"""Every expression of the dashboards and the rules, against a Prometheus that scrapes a stack."""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import promql_parser
import pytest
import yaml

from deploy.dashboards.__main__ import FOLDER, boards
from services.stack.cluster import Shape
from services.stack.stack import Stack
from sirdar.client import Client
from tests.deploy.prometheus_server import PrometheusServer
from tests.deploy.traffic import one_round, prepare
from tests.postgres_server import PostgresServer
from tests.redis_server import RedisServer

RULES = FOLDER.parent / "rules"


def rules(file: str) -> list[Mapping[str, str]]:
    groups = yaml.safe_load((RULES / file).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels(board: str) -> Iterator[tuple[str, str]]:
    """Each expression of a dashboard, all that it may choose chosen, with its panel's title."""
    built = json.loads((FOLDER / f"{board}.json").read_text())
    for panel in built["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"].replace("$__rate_interval", "5m")
            for name in ("namespace", "model", "tenant", "collection"):
                expression = expression.replace(f"${name}", ".*")
            yield panel["title"], expression


def selectors(node: object) -> Iterator[str]:
    """The series that an expression is computed from."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node.prettify()
    elif isinstance(node, promql_parser.MatrixSelector):
        yield node.vector_selector.prettify()
    for child in ("expr", "lhs", "rhs"):
        if (below := getattr(node, child, None)) is not None:
            yield from selectors(below)
    for argument in getattr(node, "args", ()):
        yield from selectors(argument)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("observed")


@pytest.fixture(scope="module")
def stack(folder: Path, postgres_server: PostgresServer) -> Iterator[Stack]:
    """With all that there can be: retrievers that share a PostgreSQL, a Redis, snapshots, segments
    soon sealed."""
    redis = RedisServer(folder)
    redis.start()
    try:
        with postgres_server.database() as url:
            shape = Shape(replicas=2, store=url, cache=redis.url)
            environment = {
                **shape.environment(),
                "SIRDAR_RETRIEVER_SEAL_VECTORS": "16",
                "SIRDAR_RETRIEVER_DEFAULT_SHARDS": "2",
                "SIRDAR_RETRIEVER_SNAPSHOT_URL": f"file://{folder}/snapshots",
                "SIRDAR_RETRIEVER_SNAPSHOT_INTERVAL_SECONDS": "2",
            }
            with Stack(folder / "data", tiers=shape.tiers(), environment=environment) as running:
                yield running
    finally:
        redis.kill()


@pytest.fixture(scope="module")
def prometheus(folder: Path, stack: Stack) -> Iterator[PrometheusServer]:
    """After some traffic, all of which it has seen."""
    targets = {"sirdar": [f"127.0.0.1:{port}" for port in stack.layout.metrics_ports.values()]}
    with (
        PrometheusServer(folder, targets, sorted(RULES.glob("*.yaml"))) as server,
        Client(stack.address) as client,
    ):
        while len(server.query("sirdar_serving")) < len(stack.tiers):
            time.sleep(0.1)
        prepare(client)
        for number in range(12):
            one_round(stack, client, number)
        yield server


def without_data(
    prometheus: PrometheusServer, expressions: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Those that give no number, after waiting for them a while."""
    deadline = time.monotonic() + 20
    missing = list(expressions)
    while missing and time.monotonic() < deadline:
        missing = [
            (name, expression)
            for name, expression in missing
            if all(math.isnan(value) for _, value in prometheus.query(expression))
        ]
        time.sleep(0.5 if missing else 0)
    return missing


@pytest.mark.parametrize("board", [board.uid for board in boards()])
def test_each_panel_of_a_dashboard_has_data(prometheus: PrometheusServer, board: str) -> None:
    expressions = list(panels(board))
    assert len(expressions) > 10
    assert without_data(prometheus, expressions) == []


def test_each_recording_rule_has_data(prometheus: PrometheusServer) -> None:
    recorded = [(rule["record"], rule["record"]) for rule in rules("recording.yaml")]
    assert without_data(prometheus, recorded) == []


def test_each_series_that_an_alert_is_computed_from_is_there(prometheus: PrometheusServer) -> None:
    expressions = [
        (rule["alert"], series)
        for rule in rules("alerts.yaml")
        for series in selectors(promql_parser.parse(rule["expr"]))
    ]
    assert {name for name, _ in expressions} == {rule["alert"] for rule in rules("alerts.yaml")}
    assert without_data(prometheus, expressions) == []


def test_dashboards_on_disk_are_those_that_are_built() -> None:
    for board in boards():
        assert (FOLDER / f"{board.uid}.json").read_text() == board.json()


def test_panels_of_a_dashboard_do_not_lie_on_each_other() -> None:
    for board in boards():
        taken: set[tuple[int, int]] = set()
        for panel in json.loads(board.json())["panels"]:
            at = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(at.get("x", 0), at.get("x", 0) + at["w"])
                for y in range(at.get("y", 0), at.get("y", 0) + at["h"])
            }
            assert not cells & taken, (board.uid, panel["title"])
            taken |= cells
