"""An upgrade takes the values of the chart before, and changes nothing that cannot be changed."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from deploy.chart.render import CHART, parse, render
from tests.chart.objects import Fields

# The values.yaml of each released chart, and what of its objects must stay as it is.
RELEASED = sorted((Path(__file__).parent / "released").glob("*.yaml"))


def fixed(found: Fields) -> Fields:
    """What Kubernetes refuses to change of an object."""
    spec = found.get("spec", {})
    match found["kind"]:
        case "Deployment":
            return {"selector": spec["selector"]}
        case "StatefulSet":
            names = ("selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates")
            return {name: spec[name] for name in names}
        case "Service":
            return {"clusterIP": spec.get("clusterIP", "")}
        case _:
            return {}


def all_fixed(texts: dict[str, str]) -> dict[str, Fields]:
    """By kind and name."""
    rendered = [dict(one) for one in parse(texts)]
    return {
        f"{one['kind']}/{one['metadata']['name']}": fixed(one) for one in rendered if fixed(one)
    }


@pytest.mark.parametrize("values", RELEASED, ids=lambda path: path.stem)
def test_an_upgrade_that_reuses_all_values_of_before_renders(values: Path, tmp_path: Path) -> None:
    """`helm upgrade --reuse-values` puts the old defaults in the place of the new."""
    shutil.copytree(CHART, tmp_path / "sirdar")
    shutil.copy(values, tmp_path / "sirdar" / "values.yaml")
    before = json.loads(values.with_suffix(".json").read_text())
    now = all_fixed(render({}, chart=tmp_path / "sirdar"))
    assert {name: now.get(name) for name in before} == before


@pytest.mark.parametrize("values", RELEASED, ids=lambda path: path.stem)
def test_all_values_of_before_are_still_values(values: Path) -> None:
    before = json.loads(values.with_suffix(".json").read_text())
    now = all_fixed(render(yaml.safe_load(values.read_text())))
    assert {name: now.get(name) for name in before} == before


def test_there_is_a_chart_to_come_from() -> None:
    assert RELEASED
