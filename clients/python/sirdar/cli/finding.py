"""What `sirdar doctor` finds, here and in the checks that other distributions add."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

CHECKS_GROUP = "sirdar.doctor"
"""Entry points of functions from the gateway's address to findings."""


class Verdict(Enum):
    """`WARNING`: it works, but not as well as it could, or not on purpose."""

    GOOD = "ok"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `remedy` says what to do unless it is good."""

    subject: str
    verdict: Verdict
    detail: str
    remedy: str = ""


Checks: TypeAlias = Callable[[str], Iterable[Finding]]
