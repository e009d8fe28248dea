"""Every object that the chart renders is one that clusters take, and follows the policies."""

import functools
import json
import re

import helm_python
import kubernetes_validate
import pytest

from deploy.chart.render import CHART
from tests.chart.matrix import MATRIX
from tests.chart.objects import Fields, config, containers, objects, pods

# The oldest that Chart.yaml allows, one between, and the newest that there are schemas of.
VERSIONS = ("1.30", "1.34", "1.37")
CUSTOM = {"Certificate", "GRPCRoute", "HTTPRoute", "PrometheusRule", "ScaledObject"}
CUSTOM |= {"ServiceMonitor"}
STORES = ("redis", "postgresql")
_SECRET_WORDS = ("TOKEN", "CACHE_URL", "STORE", "PASSWORD")

cases = pytest.mark.parametrize("case", MATRIX)


@cases
def test_core_objects_are_of_the_schemas(case: str) -> None:
    for found in objects(case):
        for version in VERSIONS:
            if found["kind"] not in CUSTOM:
                _validate(json.dumps(found), version)


@functools.cache
def _validate(found: str, version: str) -> None:
    """Most objects are the same in most cases, and each takes some ten milliseconds."""
    kubernetes_validate.validate(json.loads(found), version, strict=True)


def test_the_schemas_refuse_what_is_not_theirs() -> None:
    (found, *_) = objects("defaults", "Deployment")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**found, "spec": {"replicaz": 1}}, "1.34", strict=True)


def test_helm_lint_finds_nothing() -> None:
    report = helm_python.lint(CHART, {}, strict=True)
    # It wants an icon, which only catalogues show.
    assert [line for line in report["messages"] if "icon" not in line["error"]] == []


@cases
def test_names_are_unique_and_in_the_namespace_of_the_release(case: str) -> None:
    names = [(found["kind"], found["metadata"]["name"]) for found in objects(case)]
    assert len(set(names)) == len(names)
    assert {found["metadata"]["namespace"] for found in objects(case)} == {"sirdar"}


@cases
def test_pods_are_as_restricted_as_pod_security_knows(case: str) -> None:
    for found in objects(case):
        for pod in pods(found):
            assert pod["automountServiceAccountToken"] is False
            # SIRDAR_GATEWAY_PORT, made of a service's name, would be taken for a setting.
            assert pod["enableServiceLinks"] is False
            assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
            own = pod["securityContext"]
            assert own["runAsNonRoot"] is True
            assert own["runAsUser"] > 0
            assert own["seccompProfile"] == {"type": "RuntimeDefault"}
            for container in containers(pod):
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }
            kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
            assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}


@cases
def test_containers_say_what_they_need_and_can_write_to_tmp(case: str) -> None:
    for found in objects(case):
        for pod in pods(found):
            for container in containers(pod):
                assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
                assert "memory" in container["resources"]["limits"]
                assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}
                mounted = {mount["name"] for mount in container["volumeMounts"]}
                claims = found["spec"].get("volumeClaimTemplates", [])
                there = {volume["name"] for volume in pod["volumes"]}
                assert mounted <= there | {claim["metadata"]["name"] for claim in claims}


@cases
def test_tiers_are_probed_over_grpc_at_ports_without_tls(case: str) -> None:
    for found, container, ports in _servers(case):
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["grpc"]["port"] in ports.values()
        assert container["livenessProbe"]["grpc"]["service"] == "liveness"
        tls = "tls_certificate_file" in config(case, found["metadata"]["name"])
        assert container["startupProbe"]["grpc"]["port"] == ports["health" if tls else "grpc"]


@cases
def test_a_pod_has_the_time_that_its_drain_takes(case: str) -> None:
    for found, container, _ in _servers(case):
        settings = config(case, found["metadata"]["name"])
        before = container.get("lifecycle", {"preStop": {"sleep": {"seconds": 0}}})
        drain = (
            before["preStop"]["sleep"]["seconds"]
            + settings["drain_notice_seconds"]
            + settings["drain_grace_seconds"]
        )
        (pod,) = pods(found)
        assert drain + 5 <= pod["terminationGracePeriodSeconds"] <= drain + 60


@cases
def test_every_tier_has_a_budget_a_policy_an_account_and_is_spread(case: str) -> None:
    budgets = {one["metadata"]["name"]: one["spec"] for one in objects(case, "PodDisruptionBudget")}
    accounts = {one["metadata"]["name"] for one in objects(case, "ServiceAccount")}
    policies = [one["spec"]["podSelector"] for one in objects(case, "NetworkPolicy")]
    for found, _, _ in _servers(case):
        name, selector = found["metadata"]["name"], found["spec"]["selector"]
        (pod,) = pods(found)
        if not (case == "alone" and name == "sirdar-gateway"):
            assert budgets[name]["selector"] == selector
            assert budgets[name]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        assert pod["serviceAccountName"] in accounts
        assert (selector in policies) is (case != "alone")
        spread = pod["topologySpreadConstraints"]
        assert [one["topologyKey"] for one in spread] == [
            "topology.kubernetes.io/zone",
            "kubernetes.io/hostname",
        ]
        assert all(one["labelSelector"] == selector for one in spread)
        labels = found["spec"]["template"]["metadata"]["labels"]
        assert selector["matchLabels"].items() <= labels.items()
    assert all(
        one["automountServiceAccountToken"] is False for one in objects(case, "ServiceAccount")
    )


@cases
def test_secrets_are_only_referred_to(case: str) -> None:
    assert objects(case, "Secret") == []
    text = json.dumps(objects(case, "ConfigMap"))
    assert "password" not in text.lower()
    assert not re.search("://[^/]*:[^/]*@", text)
    for found in objects(case):
        for pod in pods(found):
            for container in containers(pod):
                for variable in container.get("env", []):
                    secret = any(word in variable["name"] for word in _SECRET_WORDS)
                    assert not (secret and "value" in variable)


def _servers(case: str) -> list[tuple[Fields, Fields, dict[str, int]]]:
    """The workloads of the tiers, their container and its ports by name."""
    servers = []
    for found in [*objects(case, "Deployment"), *objects(case, "StatefulSet")]:
        component = found["metadata"]["labels"]["app.kubernetes.io/component"]
        if component not in STORES:
            (pod,) = pods(found)
            (container,) = pod["containers"]
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            servers.append((found, container, ports))
    assert len(servers) >= 3
    return servers
