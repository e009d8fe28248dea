"""Virtual environments of what Sirdar is compared with.

Each is made at first use in the cache folder from a file of requirements; that
needs a package index once.
"""

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import platformdirs


def environment_folder(name: str, requirements: Path) -> Path:
    """The environment with what the requirements say; made, in minutes, when it is not there."""
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    folder = platformdirs.user_cache_path("sirdar") / "benchmarks" / f"{name}-{digest}"
    installed = folder / ".installed"
    if not installed.exists():
        print(f"installing {name} into {folder}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        python = str(folder / "bin" / "python")
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if subprocess.run([*pip, "-r", str(requirements)], check=False).returncode:
            sys.exit(f"{name} cannot be installed; without a package index leave it out: --only")
        installed.touch()
    return folder
