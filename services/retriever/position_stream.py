"""StreamPositions: where the writes of collections stand, asked again and again."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable

from services.runtime.deadline import deadline, set_deadline
from services.runtime.interceptors import fault_of_ours
from sirdar.errors import InvalidArgument, SirdarError, to_status
from sirdar.v1 import retriever_pb2 as pb


async def answer_positions(
    requests: AsyncIterator[pb.StreamPositionsRequest],
    answer: Callable[[pb.GetPositionRequest], Awaitable[pb.GetPositionResponse]],
) -> AsyncIterator[pb.StreamPositionsResponse]:
    """One after the other. A request that fails is answered with its status."""
    until = deadline()
    async for request in requests:
        try:
            set_deadline(_seconds(request, until))
            outcome = pb.StreamPositionsResponse(response=await answer(request.request))
        except SirdarError as error:
            outcome = pb.StreamPositionsResponse(error=to_status(error))
        except Exception as error:  # noqa: BLE001 - logged; the other requests go on
            fault = fault_of_ours("StreamPositions", error)
            outcome = pb.StreamPositionsResponse(error=to_status(fault))
        yield outcome


def _seconds(request: pb.StreamPositionsRequest, until: float | None) -> float | None:
    """For this request, of a stream that may last until then."""
    left = None if until is None else max(0.0, until - time.monotonic())
    if not request.HasField("timeout"):
        return left
    seconds = request.timeout.ToNanoseconds() / 1e9
    if seconds <= 0:
        raise InvalidArgument.field("timeout", f"is {seconds:g} s; it must be more than 0")
    return seconds if left is None else min(seconds, left)
