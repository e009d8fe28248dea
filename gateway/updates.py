"""Updates of documents: metadata and expiry, without embedding."""

import re

from sirdar.errors import FieldViolation, SirdarError, from_status
from sirdar.v1 import document_pb2

_PLACE = re.compile(r"updates\[\d+\]\.?")


def receipt_of(outcome: document_pb2.WriteOutcome) -> document_pb2.WriteReceipt:
    """The receipt of a call's only update. Raises its error, in the words of one document."""
    if not outcome.HasField("error"):
        return outcome.receipt
    raise _for_caller(from_status(outcome.error))


def _for_caller(error: SirdarError) -> SirdarError:
    error.message = _PLACE.sub("", error.message, count=1)
    error.fields = tuple(
        FieldViolation(_PLACE.sub("", field.field) or "body", field.description)
        for field in error.fields
    )
    return error
