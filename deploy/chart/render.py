"""Renders the chart with Helm's own engine."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).parent.parent / "k8s" / "sirdar"

# Values, and Kubernetes objects: their shape depends on their content.
Object = Mapping[str, Any]


def render(
    values: Object,
    *,
    release: str = "sirdar",
    namespace: str = "sirdar",
    chart: Path = CHART,
) -> dict[str, str]:
    """What each template makes of the chart's defaults and `values`, by its path in the chart.

    Values are held to the schema first. Raises HelmError with what is wrong of them.
    """
    with helm_python.Chart.load(chart) as loaded:
        # The engine alone renders what the schema refuses.
        loaded.validate_schema(json.loads(json.dumps(values)))
        rendered = loaded.render(
            json.loads(json.dumps(values)), name=release, namespace=namespace, is_install=True
        )
    texts = {path.partition("/templates/")[2]: text for path, text in rendered.items()}
    return {path: text for path, text in sorted(texts.items()) if path.endswith(".yaml")}


def parse(texts: Mapping[str, str]) -> list[Object]:
    """The objects in what was rendered."""
    return [
        found for text in texts.values() for found in yaml.safe_load_all(text) if found is not None
    ]
