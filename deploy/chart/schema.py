"""Makes values.schema.json: of values.yaml, its comments, and the settings of the tiers."""

import importlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from deploy.chart.render import CHART
from services.runtime.settings import ServerSettings

VALUES = CHART / "values.yaml"
SCHEMA = CHART / "values.schema.json"

# A schema is JSON whose shape depends on its content.
Schema = dict[str, Any]

# What the chart decides for every tier, and for one.
_OWNED = {
    "host", "port", "metrics_port", "health_port", "log_format", "log_level",
    "drain_notice_seconds", "drain_grace_seconds",
    "tls_certificate_file", "tls_key_file", "tls_client_ca_file",
}  # fmt: skip
_OWNED_BY_TIER = {
    "gateway": {
        "http_port", "embedder_address", "retriever_addresses", "reranker_address",
        "tier_ca_file", "tier_certificate_file", "tier_key_file", "cache_url",
    },
    "services.embedder": {"model", "model_revision", "models", "cache_folder"},
    "services.reranker": {"model", "model_revision", "cache_folder"},
    "services.retriever": {
        "data_folder", "follow", "snapshot_url", "snapshot_interval_seconds",
        "store", "store_schema", "store_cluster", "name", "replication",
    },
}  # fmt: skip
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
_COMMENT = re.compile(r"^\s*# ?(?P<text>.*)$")


@dataclass(frozen=True, slots=True)
class Note:
    """What the comment above a key says."""

    description: str = ""
    schema: Schema = field(default_factory=dict)
    like: str = ""
    """The path of a key whose schema this one has."""
    settings: str = ""
    """The package of a tier whose settings class gives the properties."""


def values_schema() -> Schema:
    """The schema of values.yaml as it is on disk.

    Raises ValueError for a comment that cannot be understood.
    """
    text = VALUES.read_text()
    lines = text.splitlines()
    found: dict[str, Schema] = {}
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    schema = _mapping(root, "", lines, found)
    # Helm adds it to the values of a chart that is another's dependency.
    schema["properties"]["global"] = {"type": "object"}
    return {"$schema": "http://json-schema.org/draft-07/schema#", **schema}


def schema_text() -> str:
    return json.dumps(values_schema(), indent=1, ensure_ascii=False) + "\n"


def _mapping(
    node: yaml.MappingNode, path: str, lines: list[str], found: dict[str, Schema]
) -> Schema:
    properties: dict[str, Schema] = {}
    for key, value in node.value:
        inner = f"{path}.{key.value}".lstrip(".")
        note = _note(lines, key.start_mark.line, inner)
        found[inner] = properties[key.value] = _schema_of(note, value, inner, lines, found)
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _schema_of(
    note: Note, node: yaml.Node, path: str, lines: list[str], found: dict[str, Schema]
) -> Schema:
    if note.like:
        if note.like not in found:
            raise ValueError(f"values.yaml: {path} is like {note.like}, which is not above it")
        schema = dict(found[note.like])
    elif note.settings:
        schema = settings_schema(note.settings)
    elif isinstance(node, yaml.MappingNode) and "additionalProperties" not in note.schema:
        schema = _mapping(node, path, lines, found)
    else:
        schema = {"type": _type(node, path)}
    description = note.description or schema.pop("description", "")
    said = {"description": description} if description else {}
    return said | schema | said | note.schema


def _type(node: yaml.Node, path: str) -> str:
    if isinstance(node, yaml.MappingNode):
        return "object"
    loaded = yaml.safe_load(yaml.serialize(node))
    if type(loaded) not in _TYPES:
        raise ValueError(f"values.yaml: {path} is {loaded!r}, whose type no schema tells")
    return _TYPES[type(loaded)]


def _note(lines: list[str], at: int, path: str) -> Note:
    """The comment that ends right above a line."""
    comments = list(_comments_above(lines, at))[::-1]
    words: list[str] = []
    given: dict[str, Any] = {}
    for comment in comments:
        kind, _, rest = comment.partition(" ")
        match kind:
            case "@schema":
                given["schema"] = yaml.safe_load(rest)
            case "@like":
                given["like"] = rest.strip()
            case "@settings":
                given["settings"] = rest.strip()
            case _ if kind.startswith("@"):
                raise ValueError(f"values.yaml: {path} has {kind}, which is none of ours")
            case _:
                words.append(comment)
    return Note(description=" ".join(words), **given)


def _comments_above(lines: list[str], at: int) -> Iterator[str]:
    for line in reversed(lines[:at]):
        found = _COMMENT.match(line)
        if found is None:
            return
        yield found["text"].strip()


def settings_schema(package: str) -> Schema:
    """The settings of a tier that the chart leaves to its values."""
    tier = package.rpartition(".")[2]
    module = importlib.import_module(f"{package}.settings")
    settings: type[ServerSettings] = getattr(module, f"{tier.capitalize()}Settings")
    whole = settings.model_json_schema()
    owned = _OWNED | _OWNED_BY_TIER[package]
    properties = {
        name: _plain(schema, whole.get("$defs", {}))
        for name, schema in sorted(whole["properties"].items())
        if name not in owned
    }
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _plain(schema: Any, definitions: Schema) -> Any:
    """Without references, titles and defaults: those of the installed version apply."""
    if isinstance(schema, list):
        return [_plain(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        target = definitions[schema["$ref"].rpartition("/")[2]]
        own = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**target, **own}
    return {
        key: _plain(value, definitions)
        for key, value in schema.items()
        if key not in ("title", "default", "format")
    }
