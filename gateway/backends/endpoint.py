"""One address of a tier: single calls to it, and what they tell of it."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.backends.breaker import Breaker
from gateway.backends.tenant import metadata
from gateway.metrics import CIRCUIT_OPEN, TIER_FAILURES, TIER_IN_FLIGHT
from gateway.recent_seconds import RecentSeconds
from services.runtime.channel import ClientTls, open_channel
from services.runtime.deadline import outgoing_timeout, remaining_seconds
from sirdar.errors import (
    STATUS_TRAILER,
    Cancelled,
    DeadlineExceeded,
    Internal,
    SirdarError,
    Unavailable,
    from_rpc_error,
)

Reply = TypeVar("Reply")
Reply_co = TypeVar("Reply_co", covariant=True)
# What is wrong with the answer to a request, if anything.
Check: TypeAlias = Callable[[Any, Any], str | None]

# A call says that its tier is as good as away when it was given so many times what nearly all
# take, and at least so long: callers whose deadlines are short say nothing.
_FAR_TOO_SLOW = 4.0
_AT_LEAST_SECONDS = 0.1
_NEARLY_ALL = 0.95
# Before the first answer to a method nobody knows what it takes. What the caller's own deadline
# leaves is the caller's choice, where it is not many times what the gateway gives: then only who
# does not answer within so long is as good as away.
_FIRST_SECONDS = 1.0
_FAR_MORE = 4.0
# Weight of a call in the mean latency; the mean counts half after so long without a call.
_LATENCY_WEIGHT = 0.1
_LATENCY_HALF_LIFE_SECONDS = 1.0


class BadAnswer(Unavailable):
    """What a tier answered makes no sense; it would hardly make more a second time."""


class Method(Protocol[Reply_co]):
    def __call__(
        self, request: Any, *, timeout: float, metadata: tuple[tuple[str, str], ...]
    ) -> Awaitable[Reply_co]: ...


def far_too_slow(nearly_all_seconds: float) -> float:
    """How long a call takes whose tier is as good as away."""
    return max(_AT_LEAST_SECONDS, _FAR_TOO_SLOW * nearly_all_seconds)


class Endpoint:
    """A channel to a tier, its circuit breaker, the calls in flight and how long they take."""

    def __init__(
        self,
        tier: str,
        address: str,
        max_message_bytes: int,
        tls: ClientTls | None,
        *,
        watched: bool = False,
    ) -> None:
        """`watched`: the address is of several, and those are asked that are SERVING."""
        self.tier = tier
        self.address = address
        self.channel = open_channel(
            address, max_message_bytes=max_message_bytes, tls=tls, watched=watched
        )
        self.breaker = Breaker()
        self.in_flight = 0
        # Other reasons are those of one request: a model, say, that is not served just now.
        self._away = ("STARTING", Unavailable.default_reason, self._reason("UNREACHABLE"))
        self._health = health_pb2_grpc.HealthStub(self.channel)
        self._recent: dict[Method[Any], RecentSeconds] = {}
        self._latency_seconds = 0.0
        self._observed_at = 0.0
        # Read when Prometheus asks: calls cost nothing more.
        TIER_IN_FLIGHT.labels(tier, address).set_function(lambda: self.in_flight)
        CIRCUIT_OPEN.labels(tier, address).set_function(lambda: self.breaker.open)
        # Counted from zero: a rate does not see the first of what was not there before.
        for failure in ("BAD_ANSWER", "FAILED", "TIMEOUT", "UNREACHABLE"):
            TIER_FAILURES.labels(tier, address, self._reason(failure))

    @property
    def load(self) -> float:
        """What one more call would wait for, about: in-flight calls times mean latency.

        The mean fades while nothing is heard: who was slow once is tried again.
        """
        silent = time.monotonic() - self._observed_at
        latency = self._latency_seconds * math.exp2(-silent / _LATENCY_HALF_LIFE_SECONDS)
        return (self.in_flight + 1) * latency

    async def serving(self, limit_seconds: float) -> bool:
        """Whether it can be reached and says that it is SERVING."""
        try:
            answer = await self._health.Check(
                health_pb2.HealthCheckRequest(), timeout=outgoing_timeout(limit_seconds)
            )
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def refusal(self) -> Unavailable:
        """What a call meets while the circuit is open."""
        last = self.breaker.last
        assert last is not None, "a circuit opens for a failure"
        return Unavailable(
            f"{last.message}; calls to it are held back but for a probe in half a second",
            reason=last.reason,
        )

    async def call(
        self, method: Method[Reply], request: Any, limit_seconds: float, check: Check | None
    ) -> Reply:
        """Calls once, with the time that is left, at most the limit.

        Raises the tier's own error; Unavailable with reason `<TIER>_UNREACHABLE`
        when nothing answers, `<TIER>_BAD_ANSWER` when an answer makes no sense;
        DeadlineExceeded with `<TIER>_TIMEOUT` when the limit passed before the
        caller's deadline.
        """
        timeout = outgoing_timeout(limit_seconds)
        given = remaining_seconds()
        hurried = given is not None and given < _FAR_MORE * timeout
        started = time.perf_counter()
        self.in_flight += 1
        try:
            reply = await method(request, timeout=timeout, metadata=metadata())
            wrong = self._wrong(request, reply, check)
            if wrong is not None:
                raise self._failed(self._bad_answer(wrong))
        except grpc.aio.AioRpcError as failed:
            error = self._explain(failed, timeout)
            self._learn(error, method, time.perf_counter() - started, hurried)
            raise error from failed
        except asyncio.CancelledError:
            # By the caller, or because another replica was faster.
            self._note_slow(method, time.perf_counter() - started, hurried)
            raise
        finally:
            self.in_flight -= 1
        self.breaker.succeeded()
        self._observe(method, time.perf_counter() - started)
        return reply

    def _wrong(self, request: Any, reply: Any, check: Check | None) -> str | None:
        if reply is None:
            # What grpc.aio gives, besides a line in the log, for bytes that it cannot read.
            return "bytes that are no message of this call"
        return check(request, reply) if check is not None else None

    def _observe(self, method: Method[Any], seconds: float) -> None:
        recent = self._recent.get(method)
        if recent is None:
            recent = self._recent[method] = RecentSeconds()
        recent.observe(seconds)
        self._weigh(seconds)

    def _weigh(self, seconds: float) -> None:
        self._latency_seconds += _LATENCY_WEIGHT * (seconds - self._latency_seconds)
        self._observed_at = time.monotonic()

    def _learn(
        self, error: SirdarError, method: Method[Any], seconds: float, hurried: bool
    ) -> None:
        """What an error says of the tier: most say that it is there."""
        if isinstance(error, DeadlineExceeded):
            self._note_slow(method, seconds, hurried)
        elif isinstance(error, (Internal, BadAnswer)) or (
            isinstance(error, Unavailable) and error.reason in self._away
        ):
            self._failed(error)
        else:
            self.breaker.succeeded()

    def _note_slow(self, method: Method[Any], seconds: float, hurried: bool) -> None:
        self._weigh(max(seconds, self._latency_seconds))
        recent = self._recent.get(method)
        if recent is not None:
            too_long = far_too_slow(recent.quantile(_NEARLY_ALL))
        else:
            too_long = _FIRST_SECONDS if hurried else far_too_slow(0.0)
        if seconds >= too_long:
            self._failed(self._timeout(seconds))

    def _failed(self, error: SirdarError) -> SirdarError:
        TIER_FAILURES.labels(self.tier, self.address, error.reason).inc()
        self.breaker.failed(error)
        return error

    def _explain(self, failed: grpc.aio.AioRpcError, timeout: float) -> SirdarError:
        error = from_rpc_error(failed)
        if error.reason != error.default_reason:
            return error
        said = any(key == STATUS_TRAILER for key, _ in failed.trailing_metadata() or ())
        if isinstance(error, Internal) and said:
            return Internal(f"{self} failed: {error.message}", reason=self._reason("FAILED"))
        if isinstance(error, Internal) or type(error) is SirdarError:
            # Not a tier's own word: what came could not be read, or is not of this protocol.
            return self._bad_answer(error.message)
        if isinstance(error, Cancelled) or (isinstance(error, Unavailable) and not said):
            # Nobody here cancelled it: so does a server that stops with a call that just came.
            return Unavailable(
                f"{self} cannot be reached; check that it runs",
                reason=self._reason("UNREACHABLE"),
            )
        if isinstance(error, DeadlineExceeded) and remaining_seconds() != 0.0:
            return self._timeout(timeout)
        return error

    def _timeout(self, seconds: float) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"{self} did not answer within {seconds:.3g} s", reason=self._reason("TIMEOUT")
        )

    def _bad_answer(self, wrong: str) -> BadAnswer:
        return BadAnswer(
            f"{self} answered what makes no sense: {wrong}; check that it is Sirdar's, of this "
            "version or the one before",
            reason=self._reason("BAD_ANSWER"),
        )

    def _reason(self, word: str) -> str:
        return f"{self.tier.upper()}_{word}"

    def __str__(self) -> str:
        return f"the {self.tier} at {self.address}"
