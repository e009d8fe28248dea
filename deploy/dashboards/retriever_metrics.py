"""Expressions over the metrics of the retriever, by collection."""

from deploy.dashboards.board import Query
from deploy.dashboards.promql import quantile, selector, total

COLLECTION = ('tenant=~"$tenant"', 'collection=~"$collection"')
BY_COLLECTION = "tenant, collection"
NAME = "{{tenant}}/{{collection}}"


def metric(name: str) -> str:
    return f"sirdar_retriever_{name}"


def both(name: str) -> list[Query]:
    """Median and p99 of a histogram."""
    return [quantile(q, metric(name)) for q in (0.5, 0.99)]


def held(name: str, how: str = "sum", by: str = BY_COLLECTION) -> str:
    """What the collections hold now."""
    return total(selector(metric(name), *COLLECTION), by=by, how=how)
