"""CPU limits are those of the cgroup, not of the host."""

import os
from pathlib import Path

import pytest

from services.runtime import cpu


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"a/b": "150000 100000", "a": "400000 100000"}, 1.5),
        ({"a/b": "max 100000", "a": "50000 100000"}, 0.5),
        ({"a/b": "max 100000"}, None),
        ({}, None),
    ],
)
def test_tightest_quota_up_to_the_root_counts(
    tmp_path: Path, limits: dict[str, str], expected: float | None
) -> None:
    for name, limit in limits.items():
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "cpu.max").write_text(limit + "\n")
    assert cpu._quota(tmp_path, "/a/b") == expected


def test_version_1_quota(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("250000")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert cpu._quota(tmp_path, "/") == 2.5


@pytest.mark.parametrize(("quota", "expected"), [(1.9, 1), (0.2, 1), (64.0, 2), (None, 2)])
def test_quota_is_rounded_down_to_at_least_one_and_at_most_affinity(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(cpu, "_quota", lambda root, path: quota)
    assert cpu.available_cpus() == expected


@pytest.mark.parametrize(
    ("flags", "expected"), [("fpu amx_bf16 avx", True), ("fpu avx512_bf16", False), ("", False)]
)
def test_matrix_units_are_told_by_the_kernel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str, expected: bool
) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    monkeypatch.setattr(cpu, "_CPU_INFO", file)
    assert cpu.has_amx() is expected
    monkeypatch.setattr(cpu, "_CPU_INFO", tmp_path / "absent")
    assert cpu.has_amx() is False


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("flags\t\t: fpu avx2 fma", True),
        ("flags\t\t: fpu avx2 avx_vnni", False),
        ("flags\t\t: fpu avx512f avx512_vnni", False),
        ("Features\t: fp asimd asimddp", False),
    ],
)
def test_products_of_int8_saturate_on_x86_without_vnni(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str, expected: bool
) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\n{line}\n")
    monkeypatch.setattr(cpu, "_CPU_INFO", file)
    assert cpu.int8_products_saturate() is expected
