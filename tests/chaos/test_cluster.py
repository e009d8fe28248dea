"""A cluster over PostgreSQL whose processes are killed, one after the other, under load."""

from pathlib import Path

from tests.chaos.cluster.cluster import Plan
from tests.chaos.cluster.planned import change, failed
from tests.chaos.cluster.run import RESTART, Run

_HARMS = ("retriever-0", "database-restart", "gateway-0", "database-kill", "retriever-1")


async def test_a_cluster_loses_nothing_and_answers_while_its_processes_are_killed(
    tmp_path: Path,
) -> None:
    harms = iter(_HARMS)
    report = await Run(tmp_path, Plan(), seed=1).run(lambda: next(harms, None))
    print(report.json())
    assert report.harms.total() == len(_HARMS)
    assert report.lost == []
    assert report.wrong == []
    assert report.faults == []
    assert report.acknowledged_writes > 0
    # The real one, over ten minutes, is measured by `make chaos-cluster`.
    assert report.read_availability > 0.9


async def test_no_request_fails_while_processes_are_restarted_in_turn(tmp_path: Path) -> None:
    names = ("retriever-0", "embedder-1", "gateway-0")
    report = await change(
        tmp_path / "cluster", Plan(embedders=2), seed=2, changes=[RESTART + name for name in names]
    )
    assert report.harms.total() == len(names)
    assert failed(report) == 0
    assert (report.lost, report.wrong, report.faults) == ([], [], [])
    assert report.acknowledged_writes > 0
