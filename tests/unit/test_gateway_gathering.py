"""Queries that come while others are being embedded go together."""

import asyncio
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from gateway.backends.gathering import Gathering
from gateway.backends.tenant import call_for, tenant
from services.runtime.deadline import remaining_seconds, set_deadline
from services.runtime.interceptors import begin_request
from sirdar.errors import DeadlineExceeded, Unavailable


class GatedTier:
    """Answers each text in capitals once the gate is open; records what it was asked, for whom."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.calls: list[tuple[str, ...]] = []
        self.tenants: list[str] = []
        self.limits: list[float] = []
        self.fault: Exception | None = None
        self.cancelled: list[tuple[str, ...]] = []

    async def __call__(self, key: str, texts: Sequence[str], limit_seconds: float) -> list[str]:
        self.calls.append(tuple(texts))
        self.tenants.append(tenant())
        self.limits.append(limit_seconds)
        # A call for several has the deadline of the most patient of them.
        left = remaining_seconds()
        assert len(texts) == 1 or (left is not None and abs(limit_seconds - left) < 1)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(tuple(texts))
            raise
        if self.fault is not None:
            raise self.fault
        return [f"{key} {text.upper()}" for text in texts]


@pytest.fixture
def tier() -> GatedTier:
    return GatedTier()


@pytest.fixture
def gathering(tier: GatedTier) -> Gathering[str, str]:
    return Gathering(tier)


def ask(
    gathering: Gathering[str, str], *texts: str, key: str = "a", limit_seconds: float = 20.0
) -> "list[asyncio.Task[str]]":
    return [asyncio.create_task(gathering.ask(key, text, limit_seconds)) for text in texts]


async def until_asked(tier: GatedTier, calls: int) -> None:
    async with asyncio.timeout(20):
        while len(tier.calls) < calls:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)


async def test_what_comes_alone_goes_alone_and_the_rest_together(
    tier: GatedTier, gathering: Gathering[str, str]
) -> None:
    asked = ask(gathering, "a", "b", "c", "d", "e")
    await until_asked(tier, 2)
    tier.gate.set()
    assert await asyncio.gather(*asked) == ["a A", "a B", "a C", "a D", "a E"]
    assert tier.calls == [("a",), ("b",), ("c", "d", "e")]


async def test_the_log_has_the_ids_of_all_that_went_in_one_call(
    tier: GatedTier, gathering: Gathering[str, str]
) -> None:
    async def asks(number: int) -> str:
        begin_request(f"id{number}")
        return await gathering.ask("a", f"t{number}", 20.0)

    with capture_logs() as logs:
        asked = [asyncio.create_task(asks(number)) for number in range(4)]
        await until_asked(tier, 2)
        tier.gate.set()
        await asyncio.gather(*asked)
    assert [line["request_ids"] for line in logs] == [["id2", "id3"]]


async def test_nobody_waits_long_for_a_call_that_hangs(
    tier: GatedTier, gathering: Gathering[str, str]
) -> None:
    asked = ask(gathering, "a", "b", "c")
    # The gate is shut: neither of the first two ends.
    await until_asked(tier, 3)
    tier.gate.set()
    await asyncio.gather(*asked)


async def test_many_go_at_once(tier: GatedTier, gathering: Gathering[str, str]) -> None:
    asked = ask(gathering, *(f"text {number}" for number in range(2 + 32)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [len(texts) for texts in tier.calls] == [1, 1, 32]
    tier.gate.set()
    await asyncio.gather(*asked)


async def test_tenants_and_spaces_are_kept_apart(
    tier: GatedTier, gathering: Gathering[str, str]
) -> None:
    asked = []
    for name in ("one", "two"):
        call_for(name)
        asked += ask(gathering, *"abcd") + ask(gathering, *"abcd", key="b")
    await until_asked(tier, 8)
    tier.gate.set()
    await asyncio.gather(*asked)
    together = [
        (whom, texts) for whom, texts in zip(tier.tenants, tier.calls, strict=True) if texts[1:]
    ]
    assert sorted(together) == [(whom, ("c", "d")) for whom in ("one", "one", "two", "two")]


async def test_who_gave_up_costs_nothing(tier: GatedTier, gathering: Gathering[str, str]) -> None:
    asked = ask(gathering, "a", "b", "c", "d")
    await asyncio.sleep(0)
    asked[2].cancel()
    tier.gate.set()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(found[2], asyncio.CancelledError)
    assert tier.calls[2:] == [("d",)]


async def test_each_waits_as_long_as_it_can_and_no_longer(
    tier: GatedTier, gathering: Gathering[str, str]
) -> None:
    first = ask(gathering, "a", "b")
    hasty, patient = ask(gathering, "c", limit_seconds=0.1), ask(gathering, "d")
    set_deadline(0.1)
    deadline = ask(gathering, "e")
    set_deadline(None)
    for short in (*hasty, *deadline):
        with pytest.raises(DeadlineExceeded):
            await short
    tier.gate.set()
    await asyncio.gather(*first, *patient)
    assert tier.calls[2] == ("c", "d", "e")
    assert 19 < tier.limits[2] <= 20


async def test_a_failure_is_everybodys_and_what_comes_after_is_asked_again(
    tier: GatedTier, gathering: Gathering[str, str]
) -> None:
    tier.fault = Unavailable("away")
    asked = ask(gathering, *"abcd")
    await until_asked(tier, 2)
    tier.gate.set()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(one) for one in found] == [Unavailable] * 4
    tier.fault = None
    assert await gathering.ask("a", "again", 20.0) == "a AGAIN"


async def test_a_call_that_somebody_else_cancels_leaves_nobody_waiting(
    tier: GatedTier, gathering: Gathering[str, str]
) -> None:
    asked = ask(gathering, *"abcd")
    await until_asked(tier, 3)
    (call,) = gathering._tasks
    call.cancel()
    found = await asyncio.gather(*asked[2:], return_exceptions=True)
    assert [type(one) for one in found] == [Unavailable] * 2
    tier.gate.set()
    assert await asyncio.gather(*asked[:2]) == ["a A", "a B"]


async def test_nothing_is_kept_of_what_is_over(
    tier: GatedTier, gathering: Gathering[str, str]
) -> None:
    tier.gate.set()
    await asyncio.gather(*ask(gathering, *"abcdef"), *ask(gathering, *"abc", key="b"))
    assert gathering._lanes == {}
    tier.gate.clear()
    before = len(tier.calls)
    asked = ask(gathering, *"abcd")
    await until_asked(tier, before + 3)
    asked[2].cancel()
    await asyncio.sleep(0.01)
    assert tier.cancelled == []
    for one in asked:
        one.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    await asyncio.sleep(0.01)
    assert sorted(tier.cancelled) == [("a",), ("b",), ("c", "d")]
    assert gathering._lanes == {}
