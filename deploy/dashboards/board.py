"""A dashboard as rows of panels, each of a few PromQL expressions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.common import (
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
)

_SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
_COLUMNS, _TILE_HEIGHT, _GRAPH_HEIGHT = 24, 4, 8
# What is chosen on a dashboard. Without Kubernetes no series has a namespace of its pod: `.*`
# then matches those without one.
CHOSEN = 'namespace=~"$namespace"'


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression, and Grafana's template of what its lines are called."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines over time or, as a `tile`, the number now.

    `unit` is one of Grafana's. `bad_from`: the tile is red from this value on; or up to it, with
    `bad_below`. `share`: of the row's width, in 24ths.
    """

    title: str
    says: str
    queries: Sequence[Query]
    unit: str = "short"
    tile: bool = False
    stacked: bool = False
    share: int = 8
    bad_from: float | None = None
    bad_below: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Choice:
    """A variable: the values that `label` has in `metric`."""

    name: str
    metric: str
    label: str


NAMESPACE = Choice("namespace", "sirdar_serving", "namespace")


@dataclass(frozen=True, slots=True)
class Board:
    """`uid` is also the name of its file."""

    uid: str
    title: str
    says: str
    rows: Sequence[Row]
    choices: Sequence[Choice] = (NAMESPACE,)

    def json(self) -> str:
        """The dashboard as Grafana imports it, ended by a newline."""
        built = (
            dashboard.Dashboard(self.title)
            .uid(self.uid)
            .description(self.says)
            .tags(["sirdar"])
            .timezone("browser")
            .time("now-1h", "now")
            .refresh("30s")
            .tooltip(model.DashboardCursorSync.CROSSHAIR)
            .link(
                dashboard.DashboardLink("Sirdar")
                .type(model.DashboardLinkType.DASHBOARDS)
                .tags(["sirdar"])
            )
            .with_variable(
                dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
            )
        )
        for choice in self.choices:
            built.with_variable(_variable(choice))
        for panel in _laid_out(self.rows):
            if isinstance(panel, dashboard.Row):
                built.with_row(panel)
            else:
                built.with_panel(panel)
        return JSONEncoder(sort_keys=True, indent=1).encode(built.build()) + "\n"


def _variable(choice: Choice) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(choice.name)
        .label(choice.name.capitalize())
        .datasource(_SOURCE)
        .query(f"label_values({choice.metric}, {choice.label})")
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(model.VariableOption(text="All", value="$__all", selected=True))
    )


def _laid_out(rows: Sequence[Row]) -> Iterator[dashboard.Row | Builder[model.Panel]]:
    """Rows and their panels, placed from the left and from above."""
    y = 0
    for row in rows:
        yield dashboard.Row(row.title).grid_pos(model.GridPos(h=1, w=_COLUMNS, x=0, y=y))
        y, x, height = y + 1, 0, 0
        for panel in row.panels:
            if x + panel.share > _COLUMNS:
                y, x = y + height, 0
            height = _TILE_HEIGHT if panel.tile else _GRAPH_HEIGHT
            built = _tile(panel) if panel.tile else _graph(panel)
            built.grid_pos(model.GridPos(h=height, w=panel.share, x=x, y=y))
            x += panel.share
            yield built
        y += height


def _graph(panel: Panel) -> timeseries.Panel:
    built = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.says)
        .datasource(_SOURCE)
        .unit(panel.unit)
        .min(0)
        .line_width(1)
        .fill_opacity(30 if panel.stacked else 5)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
        )
        .tooltip(
            common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
        )
    )
    if panel.stacked:
        built.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    for query in panel.queries:
        built.with_target(_target(query))
    return built


def _tile(panel: Panel) -> stat.Panel:
    built = (
        stat.Panel()
        .title(panel.title)
        .description(panel.says)
        .datasource(_SOURCE)
        .unit(panel.unit)
        .thresholds(_thresholds(panel))
    )
    for query in panel.queries:
        built.with_target(_target(query).instant())
    return built


def _thresholds(panel: Panel) -> dashboard.ThresholdsConfig:
    steps = [model.Threshold(value=None, color="green")]
    if panel.bad_from is not None:
        steps.append(model.Threshold(value=panel.bad_from, color="red"))
    if panel.bad_below is not None:
        steps = [
            model.Threshold(value=None, color="red"),
            model.Threshold(value=panel.bad_below, color="green"),
        ]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)


def _target(query: Query) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(query.expression).legend_format(query.legend)
