"""The command line of a benchmark whose figures can be chosen, and its last line."""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

Figures = dict[str, float]


class Says(Protocol):
    """A bench that tells how it goes."""

    def say(self, line: str) -> None: ...


BenchT = TypeVar("BenchT", bound=Says)


def cpu_model() -> str:
    """As the kernel names it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


def chosen(argument: str, names: Iterable[str]) -> list[str]:
    """The names of figures in an argument like `engine,overload`, in their usual order."""
    usual = list(names)
    asked = argument.split(",")
    unknown = [name for name in asked if name not in usual]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}; there are {', '.join(usual)}")
    return [name for name in usual if name in asked]


def parser(program: str, description: str | None, names: Iterable[str]) -> argparse.ArgumentParser:
    """Takes `--only` some of the figures, and `--short`."""
    usual = list(names)
    made = argparse.ArgumentParser(prog=program, description=description)
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.add_argument(
        "--only",
        type=lambda argument: chosen(argument, usual),
        default=usual,
        help=f"some of {', '.join(usual)}",
    )
    made.add_argument("--short", action="store_true", help="one short turn: to see that it runs")
    return made


def measured(
    bench: BenchT, figures: Mapping[str, Callable[[BenchT], Figures]], only: Iterable[str]
) -> Figures:
    """The figures one after another, with the seconds that each took."""
    result: Figures = {}
    for name in only:
        started = time.monotonic()
        result |= figures[name](bench)
        bench.say(f"{name}: {time.monotonic() - started:.0f} s")
    return result


def last_line(result: Figures, about: Mapping[str, str | int]) -> str:
    """One JSON object."""
    figures = {
        key: value if isinstance(value, bool) else round(value, 5) for key, value in result.items()
    }
    return json.dumps(figures | dict(about))
