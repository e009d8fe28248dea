"""Tries images without a container engine: `python -m deploy.images.trial gateway ...`.

Builds the wheels and installs a set as the Dockerfile does, into an environment with nothing
else, and starts the tier from there with nothing of this checkout in its way.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.images.sets import BUILD_FILE, ROOT, SETS, RequirementSet

_START_SECONDS = 300.0


def try_set(one: RequirementSet, folder: Path) -> None:
    """Installs and starts it, and drains it. Raises CalledProcessError or TimeoutError."""
    wheels = _build_wheels(folder)
    python = _environment(folder / one.name)
    _pip(python, "install", "--no-deps", "--require-hashes", "-r", str(one.file))
    _pip(python, "install", "--no-deps", "--no-index", *map(str, wheels))
    _pip(python, "check")
    print(f"{one.name}: {_size_mb(folder / one.name):.0f} MB installed", flush=True)
    _start(one, python, folder)


def _build_wheels(folder: Path) -> list[Path]:
    wheels = folder / "wheels"
    if not wheels.exists():
        python = _environment(folder / "build")
        _pip(python, "install", "--no-deps", "--require-hashes", "-r", str(BUILD_FILE))
        # A copy: a build writes the stubs into its source.
        source = folder / "source"
        parts = ("pyproject.toml", "hatch_build.py", "README.md", "protos", "clients/python")
        for part in (*parts, "services", "gateway", "lab"):
            target = source / part
            target.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-r", str(ROOT / part), str(target)], check=True)
        distributions = [str(source / "clients" / "python"), str(source)]
        options = ("--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels))
        _pip(python, "wheel", *options, *distributions)
    return sorted(wheels.glob("*.whl"))


def _environment(folder: Path) -> Path:
    venv.create(folder, with_pip=False, symlinks=True)
    return folder / "bin" / "python"


def _pip(python: Path, *arguments: str) -> None:
    path = f"{python.parent}:{os.environ['PATH']}"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "--quiet", *arguments],
        check=True,
        # Builds without isolation look for what they run on the path.
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        | {"PATH": path},
    )


def _size_mb(folder: Path) -> float:
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def _start(one: RequirementSet, python: Path, folder: Path) -> None:
    """Until it serves, then until it has drained."""
    tier = one.module.rpartition(".")[2].upper()
    port = _free_port()
    settings = {
        "PORT": str(port),
        "METRICS_PORT": "none",
        **({"HTTP_PORT": "0"} if tier == "GATEWAY" else {}),
        **({"DATA_FOLDER": str(folder / "data")} if tier == "RETRIEVER" else {}),
    }
    environment = {f"SIRDAR_{tier}_{name}": value for name, value in settings.items()}
    system = {"PATH": f"{python.parent}:/usr/bin:/bin", "HOME": str(folder), "PYTHONSAFEPATH": "1"}
    started = time.monotonic()
    process = subprocess.Popen(
        [str(python), "-m", one.module], env=environment | system, cwd=folder
    )
    try:
        _wait_until_serving(process, port)
        print(f"{one.name}: serves after {time.monotonic() - started:.1f} s", flush=True)
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    if code != 0:
        raise subprocess.CalledProcessError(code, one.module)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _wait_until_serving(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + _START_SECONDS
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < until:
            if process.poll() is not None:
                raise subprocess.CalledProcessError(process.returncode, "the tier's start")
            with contextlib.suppress(grpc.RpcError):
                answer = health.Check(health_pb2.HealthCheckRequest(), timeout=1)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            time.sleep(0.2)
    raise TimeoutError(f"does not serve after {_START_SECONDS:g} s")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.images.trial", description=__doc__)
    parser.add_argument("set", nargs="*", help="which; none: all that need no GPU's libraries")
    names = parser.parse_args().set or [one.name for one in SETS if "cuda" not in one.name]
    unknown = set(names) - {one.name for one in SETS}
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="sirdar-trial-") as folder:
        for one in SETS:
            if one.name in names:
                try_set(one, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
