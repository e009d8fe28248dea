"""What particular values bring: custom resources, GPUs, models, certificates, policies."""

from promql_parser import parse as parse_promql

from tests.chart.matrix import COMMIT
from tests.chart.objects import Fields, config, containers, objects, pods


def named(case: str, kind: str, name: str) -> Fields:
    (found,) = (one for one in objects(case, kind) if one["metadata"]["name"] == name)
    return found


def pod(case: str, tier: str) -> Fields:
    (found,) = pods(named(case, "Deployment", f"sirdar-{tier}"))
    return found


def test_hub_models_are_fetched_pinned_before_the_server_starts_without_the_hub() -> None:
    embedder = pod("models of a hub", "embedder")
    fetch, server = containers(embedder)
    assert fetch["args"] == [
        *("python", "-m", "services.inference.fetch"),
        f"intfloat/e5-small-v2@{COMMIT}",
        f"BAAI/bge-small-en-v1.5@{COMMIT}",
    ]
    (token,) = (one for one in fetch["env"] if one["name"] == "HF_TOKEN")
    assert token["valueFrom"] == {"secretKeyRef": {"name": "hub-token", "key": "token"}}
    variables = {one["name"]: one.get("value") for one in server["env"]}
    assert variables["HF_HUB_OFFLINE"] == "1"
    assert "HF_TOKEN" not in variables
    # Both have the cache at the same place.
    assert fetch["volumeMounts"] == server["volumeMounts"]
    assert {one["name"]: one.get("value") for one in fetch["env"]}["HF_HOME"] == variables[
        "HF_HOME"
    ]
    (models,) = (one for one in embedder["volumes"] if one["name"] == "models")
    claim = named("models of a hub", "PersistentVolumeClaim", "sirdar-embedder-models")
    assert models["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_a_model_that_is_not_fetched_before_is_fetched_by_the_server() -> None:
    (server,) = containers(pod("models of a hub", "reranker"))
    names = {one["name"] for one in server["env"]}
    assert "HF_TOKEN" in names
    assert "HF_HUB_OFFLINE" not in names


def test_a_model_of_the_image_needs_no_init_container_and_no_way_outside() -> None:
    assert "initContainers" not in pod("defaults", "embedder")
    for tier, ways in (("embedder", 1), ("retriever", 1), ("gateway", 4)):
        policy = named("defaults", "NetworkPolicy", f"sirdar-{tier}")
        assert len(policy["spec"]["egress"]) == ways
    outside = named("models of a hub", "NetworkPolicy", "sirdar-embedder")["spec"]["egress"][-1]
    assert outside["ports"] == [{"port": 443}]
    store = named("snapshots", "NetworkPolicy", "sirdar-retriever")["spec"]["egress"][-1]
    assert store["ports"] == [{"port": 443}]


def test_tiers_take_calls_from_the_gateway_alone() -> None:
    for tier in ("embedder", "retriever", "reranker"):
        calls, metrics = named("defaults", "NetworkPolicy", f"sirdar-{tier}")["spec"]["ingress"]
        assert calls["ports"] == [{"port": "grpc"}]
        (peer,) = calls["from"]
        labels = peer["podSelector"]["matchLabels"]
        assert labels["app.kubernetes.io/component"] == "gateway"
        assert metrics["ports"] == [{"port": "metrics"}]


def test_a_gpu_is_asked_for_with_the_image_for_it() -> None:
    (server,) = containers(pod("GPUs", "embedder"))
    assert server["image"] == "sirdar-embedder:0.1.0-cuda"
    assert server["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod("GPUs", "embedder")["runtimeClassName"] == "nvidia"
    assert pod("GPUs", "embedder")["tolerations"][0]["key"] == "nvidia.com/gpu"
    (server,) = containers(pod("GPUs", "reranker"))
    assert server["resources"]["limits"]["nvidia.com/gpu"] == 2
    strategy = named("GPUs", "Deployment", "sirdar-embedder")["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_images_are_named_as_the_values_say() -> None:
    (gateway,) = pods(named("named otherwise", "Deployment", "find-gateway"))
    assert gateway["containers"][0]["image"] == (
        "images.internal/search/sirdar-gateway@sha256:" + 64 * "a"
    )
    (embedder,) = pods(named("named otherwise", "Deployment", "find-embedder"))
    assert embedder["containers"][0]["image"] == "images.internal/search/sirdar-embedder:1.2.3"
    assert embedder["imagePullSecrets"] == [{"name": "pull"}]


def test_grpc_goes_over_headless_services() -> None:
    for tier in ("gateway-headless", "embedder", "retriever", "reranker"):
        spec = named("defaults", "Service", f"sirdar-{tier}")["spec"]
        assert spec["clusterIP"] == "None"
        assert spec["ports"][0]["appProtocol"] == "kubernetes.io/h2c"
    stateful = named("defaults", "StatefulSet", "sirdar-retriever")["spec"]
    assert stateful["serviceName"] == "sirdar-retriever"
    assert stateful["podManagementPolicy"] == "Parallel"


def test_certificates_name_the_services_that_are_called() -> None:
    case = "TLS by cert-manager"
    for tier in ("embedder", "retriever", "reranker"):
        spec = named(case, "Certificate", f"sirdar-{tier}")["spec"]
        assert f"sirdar-{tier}.sirdar.svc.cluster.local" in spec["dnsNames"]
        assert spec["usages"] == ["server auth"]
        assert spec["issuerRef"] == {
            "name": "mesh",
            "kind": "Issuer",
            "group": "cert-manager.io",
        }
        secrets = [one["secret"]["secretName"] for one in _secrets(case, f"sirdar-{tier}")]
        assert secrets == [spec["secretName"]]
    assert named(case, "Certificate", "sirdar-gateway")["spec"]["usages"] == ["client auth"]
    callers = named(case, "Certificate", "sirdar-gateway-callers")["spec"]
    assert {"search.example.org", "sirdar-gateway-headless"} <= set(callers["dnsNames"])
    annotations = named(case, "Deployment", "sirdar-gateway")["spec"]["template"]["metadata"]
    assert annotations["annotations"]["reloader.stakater.com/auto"] == "true"


def _secrets(case: str, name: str) -> list[Fields]:
    (workload,) = (
        one for one in objects(case) if one["metadata"]["name"] == name and list(pods(one))
    )
    (spec,) = pods(workload)
    return [volume for volume in spec["volumes"] if "secret" in volume]


def test_an_adapter_is_asked_for_load_and_the_cpu_holds_replicas() -> None:
    case = "scaled by an adapter"
    gateway = named(case, "HorizontalPodAutoscaler", "sirdar-gateway")["spec"]
    assert gateway["metrics"] == [
        {
            "type": "Pods",
            "pods": {
                "metric": {"name": "sirdar_grpc_requests_in_flight"},
                "target": {"type": "AverageValue", "averageValue": "32000m"},
            },
        }
    ]
    queue, cpu = named(case, "HorizontalPodAutoscaler", "sirdar-embedder")["spec"]["metrics"]
    assert queue["pods"]["metric"]["name"] == "sirdar_inference_queued_seconds"
    assert queue["pods"]["target"]["averageValue"] == "200m"
    assert cpu["resource"]["target"]["averageUtilization"] == 70
    # A GPU's replica is not told by its CPU.
    assert len(named(case, "HorizontalPodAutoscaler", "sirdar-reranker")["spec"]["metrics"]) == 1
    for tier in ("gateway", "embedder", "reranker"):
        # A release must not set back what the autoscaler chose.
        assert "replicas" not in named(case, "Deployment", f"sirdar-{tier}")["spec"]


def test_keda_asks_prometheus_what_it_can_answer() -> None:
    case = "scaled by KEDA"
    for tier, triggers in (("gateway", 1), ("embedder", 2), ("reranker", 2)):
        spec = named(case, "ScaledObject", f"sirdar-{tier}")["spec"]
        assert spec["scaleTargetRef"]["name"] == f"sirdar-{tier}"
        assert spec["minReplicaCount"] <= spec["maxReplicaCount"]
        assert len(spec["triggers"]) == triggers
        for trigger in spec["triggers"]:
            about = trigger["metadata"]
            assert (trigger["type"], trigger["metricType"]) == ("prometheus", "AverageValue")
            assert about["serverAddress"] == "http://prometheus.monitoring:9090"
            assert float(about["threshold"]) > 0
            parse_promql(about["query"])
            assert f'pod=~"sirdar-{tier}-.*"' in about["query"]
            assert 'namespace="sirdar"' in about["query"]


def test_prometheus_finds_every_tier_and_grafana_its_dashboards() -> None:
    case = "seen by Prometheus"
    services = objects(case, "Service")
    monitors = objects(case, "ServiceMonitor")
    assert len(monitors) == 4
    for monitor in monitors:
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        (endpoint,) = monitor["spec"]["endpoints"]
        # The gRPC metrics have a label `service` of their own.
        assert endpoint["honorLabels"] is True
        found = [
            port
            for service in services
            if wanted <= service["metadata"]["labels"].items()
            for port in service["spec"]["ports"]
            if port["name"] == endpoint["port"]
        ]
        assert len(found) == 1
    for rules in objects(case, "PrometheusRule"):
        assert all(group["rules"] for group in rules["spec"]["groups"])
    assert len(objects(case, "PrometheusRule")) == 2
    boards = [
        one
        for one in objects(case, "ConfigMap")
        if one["metadata"]["labels"].get("grafana_dashboard") == "1"
    ]
    assert len(boards) == 5


def test_ingress_and_routes_lead_to_ports_of_the_gateway() -> None:
    http = named("reached by Ingress", "Ingress", "sirdar-gateway-http")["spec"]
    grpc = named("reached by Ingress", "Ingress", "sirdar-gateway-grpc")["spec"]
    for ingress, port in ((http, "http"), (grpc, "grpc")):
        (rule,) = ingress["rules"]
        (path,) = rule["http"]["paths"]
        assert path["backend"]["service"] == {"name": "sirdar-gateway", "port": {"name": port}}
    assert grpc["tls"] == [{"secretName": "grpc", "hosts": ["grpc.example.org"]}]
    ports = {
        port["port"] for port in named("defaults", "Service", "sirdar-gateway")["spec"]["ports"]
    }
    for kind, name in (("HTTPRoute", "http"), ("GRPCRoute", "grpc")):
        spec = named("reached by routes", kind, f"sirdar-gateway-{name}")["spec"]
        assert spec["parentRefs"][0]["name"] == "edge"
        ((backend,),) = (rule["backendRefs"] for rule in spec["rules"])
        assert backend["name"] == "sirdar-gateway"
        assert backend["port"] in ports


def test_redis_is_reached_by_the_gateways_alone() -> None:
    case = "Redis of its own"
    (rule,) = named(case, "NetworkPolicy", "sirdar-redis")["spec"]["ingress"]
    (peer,) = rule["from"]
    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "gateway"
    (gateway,) = containers(pod("Redis elsewhere", "gateway"))
    (url,) = (one for one in gateway["env"] if one["name"] == "SIRDAR_GATEWAY_CACHE_URL")
    assert url["valueFrom"] == {"secretKeyRef": {"name": "redis", "key": "address"}}


def test_a_configuration_that_changes_restarts_its_tier_alone() -> None:
    def checksum(case: str, name: str) -> str:
        annotations = named(case, "Deployment", name)["spec"]["template"]["metadata"]["annotations"]
        return str(annotations["checksum/config"])

    assert checksum("settings", "sirdar-gateway") != checksum("defaults", "sirdar-gateway")
    assert checksum("no reranker", "sirdar-embedder") == checksum("defaults", "sirdar-embedder")


def test_gateways_know_each_of_several_retrievers_also_those_still_to_come() -> None:
    ((host, port),) = (
        one.rsplit(":") for one in config("defaults", "sirdar-gateway")["retriever_addresses"]
    )
    for case, count in (("PostgreSQL of its own", 2), ("retrievers scaled by KEDA", 6)):
        addresses = config(case, "sirdar-gateway")["retriever_addresses"]
        assert addresses == [f"sirdar-retriever-{at}.{host}:{port}" for at in range(count)]
    # A pod that opens its shards is known by its name.
    service = named("PostgreSQL of its own", "Service", "sirdar-retriever")["spec"]
    assert service["publishNotReadyAddresses"] is True
    certificate = named("PostgreSQL elsewhere", "Certificate", "sirdar-retriever")["spec"]
    assert f"*.{host}" in certificate["dnsNames"]


def test_several_retrievers_share_a_database_that_a_secret_names() -> None:
    case = "PostgreSQL elsewhere"
    workload = named(case, "StatefulSet", "sirdar-retriever")
    ((pod,), settings) = (list(pods(workload)), config(case, "sirdar-retriever"))
    (store,) = (one for one in pod["containers"][0]["env"] if one["name"].endswith("_STORE"))
    assert store["valueFrom"] == {"secretKeyRef": {"name": "database", "key": "address"}}
    assert (settings["replication"], settings["store_schema"]) == (3, "search")
    assert settings["store_cluster"] == "sirdar/sirdar"
    assert workload["spec"]["minReadySeconds"] > 0
    assert objects(case, "StatefulSet") == [workload]


def test_a_database_of_the_chart_is_for_its_retrievers_alone() -> None:
    case = "PostgreSQL of its own"
    (database,) = pods(named(case, "StatefulSet", "sirdar-postgresql"))
    (retriever,) = pods(named(case, "StatefulSet", "sirdar-retriever"))
    variables = {one["name"]: one.get("valueFrom") for one in database["containers"][0]["env"]}
    (password,) = (one for one in retriever["containers"][0]["env"] if one["name"] == "PGPASSWORD")
    assert password["valueFrom"] == variables["POSTGRES_PASSWORD"]
    policy = named(case, "NetworkPolicy", "sirdar-postgresql")["spec"]
    (rule,) = policy["ingress"]
    (peer,) = rule["from"]
    assert (
        peer["podSelector"]
        == named(case, "NetworkPolicy", "sirdar-retriever")["spec"]["podSelector"]
    )
    ways = named(case, "NetworkPolicy", "sirdar-retriever")["spec"]["egress"]
    assert [{"port": 5432}] in [way["ports"] for way in ways]


def test_retrievers_are_only_added_by_an_autoscaler() -> None:
    scaled = named("retrievers scaled by an adapter", "HorizontalPodAutoscaler", "sirdar-retriever")
    searches, cpu = scaled["spec"]["metrics"]
    assert searches["pods"]["metric"] == {
        "name": "sirdar_grpc_requests_in_flight",
        "selector": {"matchLabels": {"method": "SearchPassages"}},
    }
    assert cpu["resource"]["target"]["averageUtilization"] == 70
    assert scaled["spec"]["scaleTargetRef"]["kind"] == "StatefulSet"
    asked = named("retrievers scaled by KEDA", "ScaledObject", "sirdar-retriever")["spec"]
    behaviours = [
        scaled["spec"]["behavior"],
        asked["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
    ]
    assert behaviours == [{"scaleDown": {"selectPolicy": "Disabled"}}] * 2
    trigger, busy = asked["triggers"]
    parse_promql(trigger["metadata"]["query"])
    assert 'method="SearchPassages"' in trigger["metadata"]["query"]
    assert busy == {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "70"}}
    for case in ("retrievers scaled by an adapter", "retrievers scaled by KEDA"):
        assert "replicas" not in named(case, "StatefulSet", "sirdar-retriever")["spec"]
