"""One stream both ways, as both clients use it."""

from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeAlias

import grpc

from sirdar.client.stream_session import Answer, Request
from sirdar.errors import from_rpc_error

Method: TypeAlias = Callable[[Iterator[Request]], Any]
"""A bidirectional method of a stub of a channel that blocks."""


class MessageStream:
    """gRPC sends from a thread of its own, a second one delivers the answers.

    The asyncio client uses it too: a stream of grpc.aio loses the status of a
    server that ends it while a message is written (grpc/grpc#36066).
    What waits on either side is bounded by the session's window.
    """

    def __init__(self, method: Method, deliver: Callable[[Answer], None]) -> None:
        """`deliver` gets each message, then the stream's error, or None for its end."""
        self._requests: SimpleQueue[Request | None] = SimpleQueue()
        self._deliver = deliver
        self._ended = False
        # No deadline: a stream lives as long as its items, each answer has `stall_seconds`.
        self._call = method(iter(self._requests.get, None))
        Thread(target=self._read, name="sirdar-stream", daemon=True).start()

    def _read(self) -> None:
        try:
            for answer in self._call:
                self._deliver(answer)
        except grpc.RpcError as error:
            self._deliver(from_rpc_error(error))
        else:
            self._deliver(None)

    def send(self, request: Request) -> None:
        self._requests.put(request)

    def end_requests(self) -> None:
        """No more will be sent; may be said again."""
        if not self._ended:
            self._ended = True
            self._requests.put(None)

    def cancel(self) -> None:
        """Ends the stream and both threads, also when it has ended already."""
        self.end_requests()
        self._call.cancel()
