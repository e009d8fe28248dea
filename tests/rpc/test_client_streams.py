"""Many searches by the clients: batches, streams that break and go on, pairs of texts."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from sirdar.client import AsyncClient, Client, Model, Search, SearchOutcome, SimilarityMethod
from sirdar.errors import DeadlineExceeded, InvalidArgument, Unavailable
from sirdar.v1 import query_pb2
from tests.rpc.search_double import Double, Ending, running_double


@pytest.fixture
def double() -> Iterator[Double]:
    with running_double() as started:
        yield started


class Either:
    """A client of one kind, called as code that blocks."""

    def __init__(self, kind: str, address: str) -> None:
        self._kind = kind
        self._address = address

    def call(self, name: str, /, *given: Any, **options: Any) -> Any:
        if self._kind == "sync":
            with Client(self._address) as client:
                return getattr(client, name)(*given, **options)
        return asyncio.run(self._awaited(name, *given, **options))

    async def _awaited(self, name: str, /, *given: Any, **options: Any) -> Any:
        async with AsyncClient(self._address) as client:
            return await getattr(client, name)(*given, **options)

    def stream(self, searches: Any, **options: Any) -> list[SearchOutcome]:
        if self._kind == "sync":
            with Client(self._address) as client:
                return list(client.search_stream(searches, **options))
        return asyncio.run(self._streamed(searches, **options))

    async def _streamed(self, searches: Any, **options: Any) -> list[SearchOutcome]:
        async with AsyncClient(self._address) as client:
            return [outcome async for outcome in client.search_stream(searches, **options)]


@pytest.fixture(params=["sync", "asyncio"])
def client(request: pytest.FixtureRequest, double: Double) -> Either:
    return Either(request.param, double.address)


def searches(count: int) -> list[Search]:
    return [Search("notes", f"q{number}") for number in range(count)]


def found(outcome: SearchOutcome) -> str:
    assert outcome.results is not None, outcome.error
    (result,) = outcome.results
    return result.document_id


def test_a_batch_has_an_outcome_for_each(client: Either) -> None:
    asked = [Search("notes", "a"), Search("notes", "refuse me"), Search("notes", "b")]
    first, second, third = client.call("search_batch", asked)
    assert (found(first), found(third)) == ("a", "b")
    assert isinstance(second.error, InvalidArgument)
    assert [outcome.index for outcome in (first, second, third)] == [0, 1, 2]


def test_more_searches_than_the_window_are_all_answered(client: Either) -> None:
    outcomes = client.stream(iter(searches(300)), in_flight=7, ordered=True)
    assert [found(outcome) for outcome in outcomes] == [f"q{number}" for number in range(300)]
    assert [outcome.index for outcome in outcomes] == list(range(300))


def test_options_and_what_is_progressive_travel(client: Either, double: Double) -> None:
    asked = [Search("notes", "a", {"top_k": 3}, progressive=True, timeout_seconds=2.5)]
    first, second = client.stream(asked, ordered=True, in_flight=3)
    assert (first.preliminary, second.preliminary) == (True, False)
    (options,) = double.stream_options
    assert (options.ordered, options.in_flight) == (True, 3)


def test_what_cannot_be_sent_or_is_refused_fails_alone(client: Either) -> None:
    asked = [
        Search("notes", "a", {"top_k": 2**40}),
        Search("notes", "refuse me"),
        Search("notes", "b"),
    ]
    outcomes = sorted(client.stream(asked), key=lambda outcome: outcome.index)
    assert isinstance(outcomes[0].error, InvalidArgument)
    assert isinstance(outcomes[1].error, InvalidArgument)
    assert found(outcomes[2]) == "b"


@pytest.mark.parametrize("error", [None, Unavailable("gone for a moment")])
def test_a_stream_that_breaks_is_followed_by_another(
    client: Either, double: Double, error: Unavailable | None
) -> None:
    double.endings.extend([Ending(3, error=error), Ending(0, error=error)])
    outcomes = client.stream(searches(10))
    assert {outcome.index: found(outcome) for outcome in outcomes} == {
        number: f"q{number}" for number in range(10)
    }
    assert len(outcomes) == 10
    assert double.calls["StreamSearch"] == 3


def test_a_server_that_stays_away_is_given_up(client: Either, double: Double) -> None:
    double.endings.extend(Ending(0, error=Unavailable("away")) for _ in range(1000))
    with pytest.raises(Unavailable):
        client.stream(searches(2), patience_seconds=0.2)


def test_a_server_that_hangs_is_given_up(client: Either, double: Double) -> None:
    double.endings.append(Ending(0, hang=True))
    with pytest.raises(DeadlineExceeded) as hung:
        client.stream(searches(2), stall_seconds=0.2)
    assert hung.value.reason == "STALLED"


def test_a_bad_option_ends_the_stream_at_once(client: Either) -> None:
    with pytest.raises(InvalidArgument, match="in_flight"):
        client.stream(searches(1), in_flight=2**40)


async def test_searches_may_come_from_an_async_iterator(double: Double) -> None:
    async def coming() -> AsyncIterator[Search]:
        for search in searches(3):
            await asyncio.sleep(0)
            yield search

    async with AsyncClient(double.address) as client:
        outcomes = [outcome async for outcome in client.search_stream(coming())]
    assert sorted(found(outcome) for outcome in outcomes) == ["q0", "q1", "q2"]


def test_answers_come_while_searches_are_still_given(double: Double) -> None:
    """An endless source: nothing waits for its end."""
    endless = (Search("notes", f"q{number}") for number in itertools.count())
    with Client(double.address) as client:
        outcomes = client.search_stream(endless)
        taken = list(itertools.islice(outcomes, 100))
        outcomes.close()  # type: ignore[attr-defined]
    assert len({outcome.index for outcome in taken}) == 100


def test_pairs_of_texts(client: Either, double: Double) -> None:
    pairs = [("a", "a"), ("a", "b"), ("", "b")]
    same, other, bad = client.call(
        "compute_similarity", pairs, method="cross_encoder", model=Model("m", "r")
    )
    assert (same.similarity, other.similarity) == (1.0, 0.25)
    assert isinstance(bad.error, InvalidArgument)
    (request,) = double.similarities
    assert request.method == query_pb2.SIMILARITY_METHOD_CROSS_ENCODER
    assert (request.model.name, request.model.revision) == ("m", "r")
    with pytest.raises(InvalidArgument, match="method"):
        client.call("compute_similarity", pairs, method="by ear")
    client.call("compute_similarity", pairs, method=SimilarityMethod.EMBEDDINGS)
    assert double.similarities[-1].method == query_pb2.SIMILARITY_METHOD_EMBEDDINGS
