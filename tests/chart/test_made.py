"""What is made of the chart: the schema of values.yaml, and the plain manifests."""

from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from deploy.chart import schema
from deploy.chart.manifests import manifests
from deploy.chart.schema import SCHEMA, VALUES, schema_text, values_schema


def test_what_is_committed_is_what_is_made() -> None:
    assert SCHEMA.read_text() == schema_text()
    for path, text in manifests().items():
        assert path.read_text() == text, path.name


def test_the_defaults_are_of_the_schema_that_is_made_of_them() -> None:
    whole = values_schema()
    jsonschema_rs.meta.validate(whole)
    jsonschema_rs.validate(whole, yaml.safe_load(VALUES.read_text()))
    assert whole["properties"]["gateway"]["properties"]["drain"]["additionalProperties"] is False


def test_manifests_are_one_namespace_as_pod_security_restricts_it() -> None:
    found = [
        one for text in manifests().values() for one in yaml.safe_load_all(text) if one is not None
    ]
    (namespace,) = (one for one in found if one["kind"] == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    others = {one["metadata"].get("namespace") for one in found if one is not namespace}
    assert others == {namespace["metadata"]["name"]}
    assert not [one for one in found if "helm.sh/hook" in str(one)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# @shcema {}\na: 1\n", "@shcema"),
        ("# @like b\na: 1\n", "a is like b"),
        ("a: null\n", "a is None"),
    ],
)
def test_a_comment_that_means_nothing_is_refused(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(text)
    monkeypatch.setattr(schema, "VALUES", path)
    with pytest.raises(ValueError, match=said):
        values_schema()
