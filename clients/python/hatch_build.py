"""Generates the stubs of `sirdar.v1` from the contract when the package is built."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class StubsBuildHook(BuildHookInterface[Any]):
    """Runs protoc for wheels and editable installs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        protos = next(
            folder for folder in (root / "protos", root.parents[1] / "protos") if folder.is_dir()
        )
        target = root / "sirdar" / "v1"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        sources = sorted(str(path) for path in (protos / "sirdar").rglob("*.proto"))
        outputs = [
            f"--{kind}_out={root}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")
        ]
        subprocess.run(
            [sys.executable, "-m", "grpc_tools.protoc", f"-I{protos}", *outputs, *sources],
            check=True,
        )
        (target / "__init__.py").write_text('"""Generated from protos/sirdar/v1."""\n')
