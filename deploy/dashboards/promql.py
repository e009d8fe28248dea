"""The expressions that several dashboards share."""

from deploy.dashboards.board import CHOSEN, Query

_WINDOW = "$__rate_interval"


def selector(metric: str, *matchers: str) -> str:
    """The series of a metric in what is chosen."""
    return f"{metric}{{{', '.join((CHOSEN, *matchers))}}}"


def rate(metric: str, *matchers: str, by: str = "", tier: str = "") -> str:
    """A second, summed; `by` labels apart; of the processes of one tier where one is named."""
    return total(f"rate({selector(metric, *matchers)}[{_WINDOW}])", by=by, tier=tier)


def total(series: str, *, by: str = "", tier: str = "", how: str = "sum") -> str:
    """`series` aggregated."""
    grouped = f" by ({by})" if by else ""
    return f"{how}{grouped}({_of(tier, series)})"


def quantile(
    q: float, histogram: str, *matchers: str, by: str = "", tier: str = "", legend: str = ""
) -> Query:
    """A quantile of a histogram; the legend starts with which."""
    labels = f"le, {by}" if by else "le"
    buckets = rate(f"{histogram}_bucket", *matchers, by=labels, tier=tier)
    name = f"p{q * 100:g} {legend}".rstrip()
    return Query(f"histogram_quantile({q}, {buckets})", name)


def mean(histogram: str, *, by: str = "", tier: str = "") -> str:
    """Of what a histogram has seen."""
    return (
        f"{rate(f'{histogram}_sum', by=by, tier=tier)} "
        f"/ {rate(f'{histogram}_count', by=by, tier=tier)}"
    )


def _of(tier: str, series: str) -> str:
    """Embedder and reranker have the same metrics: told apart by what their processes are."""
    if not tier:
        return series
    return f'{series} and on (instance) sirdar_serving{{tier="{tier}"}}'
