"""Values that are wrong, or contradict each other, are refused with the fix."""

import helm_python
import pytest

from deploy.chart.render import Object, render
from tests.chart.matrix import COMMIT

_HUB = {"model": "intfloat/e5-small-v2"}
_KEDA = {"kind": "keda"}
_DATABASE: Object = {"existingSecret": {"name": "database"}}
_OWN_DATABASE: Object = {"enabled": True, "passwordSecret": {"name": "password"}}

CONTRADICTIONS: list[tuple[Object, str]] = [
    ({"retriever": {"replicas": 3}}, r"retriever\.replicas: is 3.*need PostgreSQL"),
    (
        {"retriever": {"autoscaling": {"kind": "hpa"}}},
        r"retriever\.autoscaling: .*need PostgreSQL: set postgresql\.existingSecret",
    ),
    (
        {"postgresql": _DATABASE, "retriever": {"replicas": 2, "replication": 3}},
        r"retriever\.replication: is 3, but there may be only 2 .*retriever\.replicas to 3",
    ),
    (
        {
            "postgresql": _DATABASE,
            "retriever": {"autoscaling": {"kind": "hpa", "minReplicas": 1}},
        },
        r"retriever\.replication: is 2, but there may be only 1 .*autoscaling\.minReplicas to 2",
    ),
    (
        {"postgresql": {**_DATABASE, "inChart": _OWN_DATABASE}},
        "postgresql: .* exclude each other",
    ),
    (
        {"postgresql": {"inChart": {"enabled": True}}},
        r"postgresql\.inChart\.passwordSecret\.name: name a secret",
    ),
    (
        {"postgresql": {"inChart": {"passwordSecret": {"name": "mine"}}}},
        r"postgresql\.inChart\.passwordSecret\.name: is set, but inChart\.enabled is false",
    ),
    (
        {
            "postgresql": {"inChart": _OWN_DATABASE},
            "retriever": {"replicas": 4, "settings": {"store_connections": 100}},
        },
        r"retriever\.settings\.store_connections: 4 .*than the 297 of .*: set it to 72, or",
    ),
    (
        {"retriever": {"snapshots": {"credentialsSecretName": "bucket"}}},
        r"no retriever\.snapshots\.url",
    ),
    ({"embedder": _HUB}, r"intfloat/e5-small-v2 is fetched.*not pinned: set modelRevision"),
    ({"embedder": {**_HUB, "modelRevision": "main"}}, "@main is fetched.*40 hex digits"),
    ({"embedder": {"models": ["BAAI/bge-m3"]}}, "BAAI/bge-m3 is fetched.*not pinned"),
    ({"reranker": {"modelRevision": COMMIT}}, r"reranker\.modelRevision: builtin:.*no revision"),
    (
        {"embedder": {"modelCache": {"kind": "existingClaim"}}},
        r"embedder\.modelCache\.existingClaim: name the claim",
    ),
    ({"embedder": {"modelCache": {"existingClaim": "mine"}}}, "is named, but kind is ephemeral"),
    (
        {"reranker": {"modelCache": {"kind": "claim", "accessMode": "ReadWriteOnce"}}},
        r"reranker\.modelCache\.accessMode: .*ReadWriteMany",
    ),
    (
        {"embedder": {"gpu": {"enabled": True}, "settings": {"engine": "openvino"}}},
        r"embedder\.settings\.engine: openvino computes on the CPU",
    ),
    (
        {"gateway": {"autoscaling": {"kind": "hpa", "minReplicas": 5, "maxReplicas": 4}}},
        r"gateway\.autoscaling: minReplicas is 5, maxReplicas only 4",
    ),
    ({"embedder": {"autoscaling": _KEDA}}, r"autoscaling\.prometheusAddress: embedder"),
    ({"tls": {"enabled": True}}, r"tls\.secretNames\.retriever: name the secret"),
    (
        {"tls": {"enabled": True, "certManager": {"enabled": True}}},
        r"tls\.certManager\.issuer\.name: name the issuer",
    ),
    (
        {"tls": {"certManager": {"enabled": True, "issuer": {"name": "mesh"}}}},
        r"tls\.certManager\.enabled: there is nothing to issue",
    ),
    (
        {
            "tls": {
                "enabled": True,
                "certManager": {"enabled": True, "issuer": {"name": "mesh"}},
                "secretNames": {"embedder": "mine"},
            }
        },
        r"tls\.secretNames\.embedder: cert-manager issues",
    ),
    (
        {
            "tls": {
                "enabled": True,
                "certManager": {
                    "enabled": True,
                    "issuer": {"name": "mesh"},
                    "duration": "24h",
                    "renewBefore": "100h",
                },
            }
        },
        r"renewBefore: must be shorter",
    ),
    ({"gateway": {"tls": {"enabled": True}}}, r"gateway\.tls\.secretName: name the secret"),
    ({"gateway": {"tls": {"secretName": "mine"}}}, r"gateway\.tls: a secret is named, but enabled"),
    (
        {"redis": {"inChart": {"enabled": True}, "existingSecret": {"name": "mine"}}},
        "redis: .* exclude each other",
    ),
    ({"ingress": {"enabled": True}}, r"ingress\.hosts: name the hosts"),
    (
        {
            "ingress": {"enabled": True, "hosts": ["a.example.org"]},
            "grpcIngress": {"enabled": True, "hosts": ["a.example.org"]},
        },
        r"grpcIngress\.hosts: a\.example\.org is also in ingress\.hosts",
    ),
    ({"routes": {"grpc": {"enabled": True}}}, r"routes\.grpc\.parentRefs: name the Gateway"),
]

WRONG: list[tuple[Object, str]] = [
    ({"gatway": {}}, "gatway"),
    ({"gateway": {"replicas": 0}}, "/gateway/replicas"),
    ({"gateway": {"replicas": "two"}}, "/gateway/replicas"),
    ({"gateway": {"digest": "sha256:short"}}, "/gateway/digest"),
    ({"gateway": {"settings": {"rerank_dept": 3}}}, "rerank_dept"),
    ({"gateway": {"settings": {"rerank_depth": 0}}}, "/gateway/settings/rerank_depth"),
    ({"gateway": {"settings": {"port": 80}}}, "port"),
    ({"embedder": {"settings": {"precision": "fp64"}}}, "/embedder/settings/precision"),
    ({"retriever": {"settings": {"data_folder": "/data"}}}, "data_folder"),
    ({"embedder": {"modelCache": {"size": "much"}}}, "/embedder/modelCache/size"),
    ({"reranker": {"autoscaling": {"kind": "vpa"}}}, "/reranker/autoscaling/kind"),
    ({"gateway": {"disruptionBudget": {"maxUnavailable": 0}}}, "maxUnavailable"),
    ({"gateway": {"extraEnv": [{"name": "SIRDAR_GATEWAY_PORT", "value": "1"}]}}, "extraEnv/0"),
    ({"networkPolicy": {"scrapers": []}}, "/networkPolicy/scrapers"),
    ({"redis": {"password": "secret"}}, "password"),
    ({"postgresql": {"url": "postgresql://a:b@c/d"}}, "url"),
    ({"postgresql": {"schema": "pg catalog"}}, "/postgresql/schema"),
    ({"postgresql": {"schema": "pg_search"}}, "/postgresql/schema"),
    ({"retriever": {"settings": {"store": "postgresql://a:b@c/d"}}}, "store"),
    ({"retriever": {"replication": 0}}, "/retriever/replication"),
]


@pytest.mark.parametrize(("values", "said"), CONTRADICTIONS, ids=[one[1] for one in CONTRADICTIONS])
def test_contradictions_are_refused_with_the_fix(values: Object, said: str) -> None:
    with pytest.raises(helm_python.HelmError, match=said):
        render(values)


@pytest.mark.parametrize(("values", "said"), WRONG, ids=[one[1] for one in WRONG])
def test_wrong_values_are_refused_by_the_schema(values: Object, said: str) -> None:
    with pytest.raises(helm_python.HelmValuesError, match=said):
        render(values)


def test_all_contradictions_are_told_at_once() -> None:
    with pytest.raises(helm_python.HelmError) as refused:
        render({"retriever": {"replicas": 2}, "ingress": {"enabled": True}})
    assert "retriever.replicas" in str(refused.value)
    assert "ingress.hosts" in str(refused.value)
