"""Each alert fires when it should and not before, by promtool's own evaluation of the rules."""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.deploy.prometheus_server import promtool

ROOT = Path(__file__).parent.parent.parent
RULES = ROOT / "deploy" / "k8s" / "sirdar" / "rules"
ALERTS = [
    rule
    for group in yaml.safe_load((RULES / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
Series = Mapping[str, str]
MINUTES = 480

_CALLS = 'sirdar_grpc_requests_total{tier="gateway", method="Search", code='
_SECONDS = 'sirdar_grpc_request_seconds_bucket{tier="gateway", method="Search", le='
_COMMITS = 'sirdar_retriever_commit_seconds_bucket{instance="r:1", le='
_DROPPED = "sirdar_inference_dropped_items_total"
_ITEMS = 'sirdar_inference_items_total{model="m", class="interactive"}'
_COLLECTION = 'tenant="default", collection="books"'


def grows(each_minute: float) -> str:
    return f"0+{each_minute:g}x{MINUTES}"


def stays(value: float) -> str:
    return f"{value:g}+0x{MINUTES}"


@dataclass(frozen=True)
class Case:
    """What has an alert fire, and what is near to it and does not."""

    alert: str
    fires: Series
    quiet: Series
    after_minutes: int = 90


CASES = [
    Case(
        "SirdarSearchErrorsFast",
        {_CALLS + '"OK"}': grows(1000), _CALLS + '"UNAVAILABLE"}': grows(20)},
        {_CALLS + '"OK"}': grows(1000), _CALLS + '"UNAVAILABLE"}': grows(10)},
    ),
    Case(
        "SirdarSearchErrorsSlow",
        {_CALLS + '"OK"}': grows(1000), _CALLS + '"INTERNAL"}': grows(8)},
        # What the caller did wrong is no failure of ours.
        {_CALLS + '"OK"}': grows(1000), _CALLS + '"INVALID_ARGUMENT"}': grows(500)},
        MINUTES,
    ),
    Case(
        "SirdarSearchSlow",
        {
            _SECONDS + '"1"}': grows(90),
            _SECONDS + '"5"}': grows(100),
            _SECONDS + '"+Inf"}': grows(100),
        },
        {
            _SECONDS + '"1"}': grows(100),
            _SECONDS + '"5"}': grows(100),
            _SECONDS + '"+Inf"}': grows(100),
        },
    ),
    Case(
        "SirdarAnswersDegraded",
        {
            _CALLS + '"OK"}': grows(1000),
            'sirdar_gateway_stages_skipped_total{stage="rerank", reason="no_time"}': grows(40),
            'sirdar_gateway_stages_skipped_total{stage="rerank", reason="cut"}': grows(40),
        },
        {
            _CALLS + '"OK"}': grows(1000),
            'sirdar_gateway_stages_skipped_total{stage="rerank", reason="no_time"}': grows(40),
        },
    ),
    *(
        Case(
            "SirdarTierDown",
            {
                f'sirdar_serving{{tier="{tier}", instance="{tier}"}}': stays(tier != down)
                for tier in tiers
            },
            {f'sirdar_serving{{tier="{tier}", instance="{tier}"}}': stays(1) for tier in tiers},
        )
        for tiers in [("gateway", "embedder", "retriever")]
        for down in tiers
    ),
    Case(
        "SirdarNotServing",
        {
            'sirdar_serving{tier="embedder", instance="a"}': stays(1),
            'sirdar_serving{tier="embedder", instance="b"}': stays(0),
        },
        {'sirdar_serving{tier="embedder", instance="a"}': stays(1)},
    ),
    Case(
        "SirdarCircuitOpen",
        {'sirdar_gateway_tier_circuit_open{tier="retriever", address="r:1"}': stays(1)},
        # It opens and closes again.
        {
            'sirdar_gateway_tier_circuit_open{tier="retriever", address="r:1"}': "1 0 "
            * (MINUTES // 2)
        },
    ),
    Case(
        "SirdarRetriesRefused",
        {'sirdar_gateway_retries_total{tier="embedder", outcome="refused"}': grows(10)},
        {'sirdar_gateway_retries_total{tier="embedder", outcome="spent"}': grows(10)},
    ),
    Case(
        "SirdarInferenceOverloaded",
        {
            _ITEMS: grows(1000),
            _DROPPED + '{model="m", class="interactive", why="hopeless"}': grows(20),
        },
        {
            _ITEMS: grows(1000),
            _DROPPED + '{model="m", class="interactive", why="cancelled"}': grows(500),
            _DROPPED + '{model="m", class="interactive", why="hopeless"}': grows(5),
        },
    ),
    Case(
        "SirdarInferenceBusy",
        {
            'sirdar_inference_busy_seconds_total{model="m", class="bulk"}': grows(60),
            'sirdar_inference_busy_seconds_total{model="m", class="interactive"}': grows(57),
            'sirdar_inference_streams{model="m"}': stays(2),
        },
        {
            'sirdar_inference_busy_seconds_total{model="m", class="bulk"}': grows(60),
            'sirdar_inference_streams{model="m"}': stays(2),
        },
    ),
    Case(
        "SirdarInferenceFails",
        {_DROPPED + '{model="m", class="bulk", why="failed"}': grows(1)},
        {_DROPPED + '{model="m", class="bulk", why="failed"}': grows(0.5)},
    ),
    Case(
        "SirdarOutOfMemory",
        {'sirdar_inference_out_of_memory_total{model="m", instance="e:1"}': grows(0.1)},
        {'sirdar_inference_out_of_memory_total{model="m", instance="e:1"}': stays(9)},
    ),
    Case(
        "SirdarRecallLow",
        {f'sirdar_retriever_recall_high{{{_COLLECTION}, k="10"}}': stays(0.94)},
        {
            f'sirdar_retriever_recall_high{{{_COLLECTION}, k="10"}}': stays(0.96),
            f'sirdar_retriever_recall_low{{{_COLLECTION}, k="10"}}': stays(0.9),
        },
    ),
    Case(
        "SirdarWritesRefused",
        {'sirdar_retriever_writes_refused_total{instance="r:1"}': grows(1)},
        {'sirdar_retriever_writes_refused_total{instance="r:1"}': stays(7)},
    ),
    Case(
        "SirdarCommitsSlow",
        {
            _COMMITS + '"1"}': grows(90),
            _COMMITS + '"10"}': grows(100),
            _COMMITS + '"+Inf"}': grows(100),
        },
        {
            _COMMITS + '"1"}': grows(100),
            _COMMITS + '"10"}': grows(100),
            _COMMITS + '"+Inf"}': grows(100),
        },
    ),
    Case(
        "SirdarBuildsFail",
        {'sirdar_retriever_seal_failures_total{instance="r:1"}': grows(1)},
        {'sirdar_retriever_seal_failures_total{instance="r:1"}': grows(0.05)},
    ),
    Case(
        "SirdarWordsBehind",
        {
            'sirdar_retriever_lexical_pending_writes{instance="r:1"}': stays(5),
            'sirdar_retriever_lexical_failures_total{instance="r:1"}': grows(1),
        },
        {
            'sirdar_retriever_lexical_pending_writes{instance="r:1"}': "5 0 " * (MINUTES // 2),
            'sirdar_retriever_lexical_failures_total{instance="r:1"}': grows(1),
        },
    ),
    Case(
        "SirdarReplicaLags",
        {f'sirdar_retriever_replica_lag_seconds{{instance="r:2", {_COLLECTION}}}': stays(31)},
        {f'sirdar_retriever_replica_lag_seconds{{instance="r:2", {_COLLECTION}}}': stays(29)},
    ),
    Case(
        "SirdarStoreDown",
        {'sirdar_retriever_store_up{instance="r:1", store="db:5432/search"}': stays(0)},
        {'sirdar_retriever_store_up{instance="r:1", store="db:5432/search"}': stays(1)},
    ),
    Case(
        "SirdarUnderReplicated",
        {'sirdar_retriever_under_replicated_shards{instance="r:1"}': stays(1)},
        {'sirdar_retriever_under_replicated_shards{instance="r:1"}': stays(0)},
    ),
    Case(
        "SirdarDrains",
        {'sirdar_retriever_draining_members{instance="r:1"}': stays(1)},
        # It is removed, and another drained.
        {'sirdar_retriever_draining_members{instance="r:1"}': "1 1 0 " * (MINUTES // 3)},
        MINUTES - 1,
    ),
    Case(
        "SirdarStoreFails",
        {'sirdar_retriever_store_failures_total{reason="STORE_FULL"}': grows(10)},
        {
            'sirdar_retriever_store_failures_total{reason="STORE_FULL"}': grows(5),
            # Has an alert of its own.
            'sirdar_retriever_store_failures_total{reason="STORE_UNREACHABLE"}': grows(100),
        },
    ),
    Case(
        "SirdarSnapshotsFail",
        {'sirdar_retriever_snapshot_failures_total{instance="r:1"}': grows(0.02)},
        {'sirdar_retriever_snapshot_failures_total{instance="r:1"}': stays(3)},
        MINUTES,
    ),
    Case(
        "SirdarSnapshotOld",
        # Evaluation begins at second 0: the snapshot was taken before that.
        {f"sirdar_retriever_snapshot_timestamp_seconds{{{_COLLECTION}}}": stays(-172_800)},
        {f"sirdar_retriever_snapshot_timestamp_seconds{{{_COLLECTION}}}": stays(-160_000)},
    ),
    Case(
        "SirdarRedisDown",
        {'sirdar_gateway_cache_redis_up{address="c:6379", instance="g:1"}': stays(0)},
        {'sirdar_gateway_cache_redis_up{address="c:6379", instance="g:1"}': stays(1)},
    ),
    Case(
        "SirdarSemanticCacheOff",
        {f"sirdar_gateway_cache_semantic_serving{{{_COLLECTION}}}": stays(0)},
        {f"sirdar_gateway_cache_semantic_serving{{{_COLLECTION}}}": stays(1)},
    ),
]


def promtool_test(case: Case, series: Series, firing: int) -> dict[str, object]:
    alert = f'alertname="{case.alert}"'
    expected = [{"labels": f"{{{alert}}}", "value": firing}] if firing else []
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count by (alertname) (ALERTS{{{alert}, alertstate="firing"}})',
                "eval_time": f"{case.after_minutes}m",
                "exp_samples": expected,
            }
        ],
    }


def test_each_alert_fires_when_it_should_and_not_before(tmp_path: Path) -> None:
    tests = [
        promtool_test(case, series, firing)
        for case in CASES
        for series, firing in ((case.fires, 1), (case.quiet, 0))
    ]
    file = tmp_path / "tests.yaml"
    rules = [str(RULES / name) for name in ("recording.yaml", "alerts.yaml")]
    file.write_text(yaml.safe_dump({"rule_files": rules, "tests": tests}))
    done = subprocess.run(
        [promtool(), "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_alert_is_without_a_case() -> None:
    assert {case.alert for case in CASES} == {rule["alert"] for rule in ALERTS}


@pytest.mark.parametrize("name", sorted({rule["alert"] for rule in ALERTS}))
def test_each_alert_has_its_runbook(name: str) -> None:
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    rules = [rule for rule in ALERTS if rule["alert"] == name]
    assert name in headings
    for rule in rules:
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{name.lower()}"
        assert rule["labels"]["severity"] in {"page", "ticket"}
