"""The requirement sets of the images: exact versions and hashes of everything a tier needs."""

import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "deploy" / "docker" / "requirements"
_CONSTRAINTS = ROOT / "constraints.txt"
_HEADER = "# Locked by `make image-requirements`.\n"
# What the images run on.
_TARGET = ("--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28")


@dataclass(frozen=True, slots=True)
class RequirementSet:
    """What one image installs: extras of the server, with PyTorch for a CPU or for CUDA."""

    name: str
    module: str
    extras: Sequence[str]
    cpu_torch: bool = False

    @property
    def file(self) -> Path:
        return FOLDER / f"{self.name}.txt"


SETS = (
    RequirementSet("gateway", "gateway", ("gateway",)),
    RequirementSet("retriever", "services.retriever", ("retriever", "postgres", "s3")),
    RequirementSet("embedder-cpu", "services.embedder", ("embedder",), cpu_torch=True),
    RequirementSet("embedder-cuda", "services.embedder", ("embedder",)),
    RequirementSet("reranker-cpu", "services.reranker", ("reranker",), cpu_torch=True),
    RequirementSet("reranker-cuda", "services.reranker", ("reranker",)),
)
BUILD_FILE = FOLDER / "build.txt"


def lock_all(find_links: str) -> None:
    """Locks every set to the versions of constraints.txt.

    `find_links`: where PyTorch's CPU wheel is; the sets name no place to install from.
    Raises CalledProcessError, after the resolver said why, when a set cannot be had.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    _lock_build()
    for one in SETS:
        with tempfile.TemporaryDirectory(prefix="sirdar-lock-") as folder:
            constraints = Path(folder) / "constraints.txt"
            constraints.write_text(_constraints(one))
            extras = [word for extra in one.extras for word in ("--extra", extra)]
            links = ["--find-links", find_links] if one.cpu_torch else []
            _compile(
                one.file, ["pyproject.toml", *extras, *links, "--constraint", str(constraints)]
            )


def _constraints(one: RequirementSet) -> str:
    lines = _CONSTRAINTS.read_text().splitlines()
    return "\n".join(
        f"{line}+cpu" if one.cpu_torch and line.startswith("torch==") else line for line in lines
    )


def _lock_build() -> None:
    """What builds the two distributions: as their pyproject.toml have it."""
    needed: set[str] = set()
    for project in (ROOT, ROOT / "clients" / "python"):
        described = tomllib.loads((project / "pyproject.toml").read_text())
        needed |= set(described["build-system"]["requires"])
    with tempfile.TemporaryDirectory(prefix="sirdar-lock-") as folder:
        asked = Path(folder) / "build.in"
        asked.write_text("\n".join(sorted(needed)))
        _compile(BUILD_FILE, [str(asked)])


def _compile(file: Path, arguments: Sequence[str]) -> None:
    options = ("--generate-hashes", "--no-header", "--no-annotate", "--quiet", "--upgrade")
    subprocess.run(
        [
            *(sys.executable, "-m", "uv", "pip", "compile", *arguments, *options, *_TARGET),
            *("--no-emit-package", "sirdar", "--output-file", str(file)),
        ],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    kept, _, _ = file.read_text().partition("\n# The following packages were excluded")
    file.write_text(_HEADER + kept.rstrip() + "\n")
