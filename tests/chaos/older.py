"""The build of an older revision, beside the one that is tested."""

import os
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import sirdar.v1
from tests.archives import unpack

_ROOT = Path(__file__).parents[2]
_STUBS = Path("clients/python/sirdar/v1")
REVISION = os.environ.get("SIRDAR_TEST_REVISION", "HEAD~1")
"""What is older: by default the commit before."""


class NoOlder(Exception):
    """Why there is no older build."""


def build(folder: Path) -> dict[str, str]:
    """Puts the older build into a folder; the environment variables that make Python run it.

    Raises NoOlder.
    """
    done = subprocess.run(
        ["git", "-C", str(_ROOT), "archive", "--format=tar", REVISION],
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        why = done.stderr.decode(errors="replace").strip()
        raise NoOlder(f"git has no {REVISION} here, as in a shallow clone ({why})")
    unpack(BytesIO(done.stdout), folder)
    if _contract(folder) == _contract(_ROOT):
        stubs = Path(next(iter(sirdar.v1.__path__)))
        shutil.copytree(stubs, folder / _STUBS, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        _generate(folder)
    # `python -m` would put the folder in which the tests run first.
    path = os.pathsep.join((str(folder), str(folder / "clients/python")))
    return {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def _contract(root: Path) -> dict[str, bytes]:
    protos = root / "protos" / "sirdar"
    return {str(path.relative_to(root)): path.read_bytes() for path in protos.rglob("*.proto")}


def _generate(folder: Path) -> None:
    """As for whoever installs the client: its build generates the stubs. Raises NoOlder."""
    wheels = folder / "wheels"
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(wheels)]
    done = subprocess.run(
        [*command, "--quiet", "--disable-pip-version-check", str(folder / "clients/python")],
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        why = done.stderr.decode(errors="replace").strip()[-500:]
        raise NoOlder(f"the contract of {REVISION} differs, and its client cannot be built: {why}")
    (wheel,) = wheels.glob("*.whl")
    with ZipFile(wheel) as built:
        stubs = [name for name in built.namelist() if name.startswith("sirdar/v1/")]
        built.extractall(folder / "clients/python", stubs)
