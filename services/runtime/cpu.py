"""What CPUs this process has: the host's count is wrong in a container."""

import math
import os
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_CPU_INFO = Path("/proc/cpuinfo")


def available_cpus() -> int:
    """Whole CPUs that affinity and cgroup quota leave to this process, at least 1."""
    affinity = len(os.sched_getaffinity(0))
    quota = _quota(_CGROUP_ROOT, _cgroup_path(Path("/proc/self/cgroup")))
    # Rounded down: a thread more than the quota pays for is throttled, and all wait for it.
    return affinity if quota is None else max(1, min(affinity, math.floor(quota)))


def has_amx() -> bool:
    """Whether the CPU has matrix units for bfloat16 (AMX)."""
    return "amx_bf16" in _flags()


def int8_products_saturate() -> bool:
    """Whether sums of int8 products may overflow 16 bits: on x86 without VNNI."""
    flags = _flags()
    return bool(flags) and not flags & {"avx512_vnni", "avx_vnni"}


def _flags() -> set[str]:
    """What an x86 CPU can do, as the kernel names it; empty on others."""
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def _cgroup_path(file: Path) -> str:
    """The process's cgroup (version 2), `/` where it cannot be told."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return "/"
    return next((line.split(":", 2)[2] for line in lines if line.startswith("0::")), "/")


def _quota(root: Path, path: str) -> float | None:
    """The tightest CPU quota from the process's cgroup up to the root; None without one."""
    quotas = []
    folder = root / path.strip("/")
    for level in (folder, *folder.parents):
        quotas.extend(_read_max(level / "cpu.max"))
        if level == root:
            break
    quotas.extend(_read_version_1(root / "cpu"))
    return min(quotas, default=None)


def _read_max(file: Path) -> list[float]:
    try:
        limit, period = file.read_text().split()
    except (OSError, ValueError):
        return []
    return [] if limit == "max" else [int(limit) / int(period)]


def _read_version_1(folder: Path) -> list[float]:
    try:
        limit = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return []
    return [limit / period] if limit > 0 else []
