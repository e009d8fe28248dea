"""Views of rendered objects."""

import functools
import tomllib
from collections.abc import Iterator
from typing import Any

from deploy.chart.render import Object, parse, render
from tests.chart.matrix import MATRIX

# A rendered object is looked into by paths that its kind gives.
Fields = dict[str, Any]


@functools.cache
def _rendered(name: str) -> tuple[Fields, ...]:
    return tuple(dict(found) for found in parse(render(MATRIX[name])))


def objects(name: str, kind: str | None = None) -> list[Fields]:
    """The objects of a case of the matrix, or those of one kind."""
    return [found for found in _rendered(name) if kind in (None, found["kind"])]


def of(values: Object, kind: str, name: str) -> Fields:
    """One object of what is rendered with `values`."""
    for found in parse(render(values)):
        one = dict(found)
        if one["kind"] == kind and one["metadata"]["name"] == name:
            return one
    raise AssertionError(f"there is no {kind} {name}")


def pods(found: Fields) -> Iterator[Fields]:
    """The specifications of the pods that an object makes."""
    if found["kind"] == "Pod":
        yield found["spec"]
    elif found["kind"] in ("Deployment", "StatefulSet"):
        yield found["spec"]["template"]["spec"]


def containers(pod: Fields) -> list[Fields]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def config_text(case: str, name: str) -> str:
    """The settings file of a tier."""
    (found,) = (one for one in objects(case, "ConfigMap") if one["metadata"]["name"] == name)
    ((_, text),) = found["data"].items()
    return str(text)


def config(case: str, name: str) -> Fields:
    """What is in it."""
    return tomllib.loads(config_text(case, name))
