"""An upload of documents as the requests of an index stream, and its answers."""

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from gateway.http.bodies import Line
from gateway.http.proto_json import load_json, to_message, to_value
from sirdar.errors import InvalidArgument, SirdarError, to_status
from sirdar.v1 import document_pb2, search_pb2


@dataclass(frozen=True, slots=True)
class _Sent:
    """An item whose outcome is still to come, and what is wrong with its line already."""

    line: int
    error: SirdarError | None


class Upload:
    """One upload: its items in the order of the lines, each matched with its outcome.

    A line that is no document travels as an empty item, which the stream
    refuses in its place; the answer names the line and what is wrong with it.
    """

    def __init__(self, target: search_pb2.IndexTarget, limit_bytes: int) -> None:
        self._target = target
        self._limit_bytes = limit_bytes
        # As long as what the stream holds.
        self._sent: deque[_Sent] = deque()

    async def requests_of_lines(
        self, lines: AsyncIterator[Line]
    ) -> AsyncIterator[search_pb2.IndexDocumentsRequest]:
        yield search_pb2.IndexDocumentsRequest(target=self._target)
        async for line in lines:
            yield self._request(line)

    async def requests_of_values(
        self, values: list[object]
    ) -> AsyncIterator[search_pb2.IndexDocumentsRequest]:
        yield search_pb2.IndexDocumentsRequest(target=self._target)
        for place, value in enumerate(values):
            try:
                yield self._sending(place, _item(value, f"documents[{place}]"), None)
            except InvalidArgument as bad:
                yield self._sending(place, None, bad)

    def _request(self, line: Line) -> search_pb2.IndexDocumentsRequest:
        name = f"line {line.number}"
        try:
            if line.text is None:
                raise InvalidArgument.field(
                    name, f"has more than {self._limit_bytes} bytes; split the document"
                )
            return self._sending(line.number, _item(load_json(line.text, name), name), None)
        except InvalidArgument as bad:
            return self._sending(line.number, None, bad)

    def _sending(
        self, line: int, item: search_pb2.IndexItem | None, error: SirdarError | None
    ) -> search_pb2.IndexDocumentsRequest:
        self._sent.append(_Sent(line, error))
        return search_pb2.IndexDocumentsRequest(item=item)

    def outcome(self, outcome: search_pb2.IndexOutcome) -> tuple[int, dict[str, Any]]:
        """The line (the place in an array) and the outcome as JSON values."""
        sent = self._sent.popleft()
        if sent.error is not None:
            outcome.error.CopyFrom(to_status(sent.error))
            # Items without an id look alike to the stream.
            outcome.duplicate = False
        return sent.line, to_value(outcome)


def _item(value: object, name: str) -> search_pb2.IndexItem:
    """A document, or an item with `document` and `if_version`."""
    try:
        if isinstance(value, dict) and "document" in value:
            return to_message(value, search_pb2.IndexItem(), name)
        return search_pb2.IndexItem(document=to_message(value, document_pb2.Document(), name))
    except InvalidArgument as bad:
        # The message names the field; the line is what a person looks for.
        message = bad.message if bad.message.startswith(name) else f"{name}: {bad.message}"
        raise InvalidArgument(message, reason=bad.reason, fields=bad.fields) from bad
