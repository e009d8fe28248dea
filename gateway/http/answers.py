"""Answers in JSON."""

from fastapi import Response
from google.protobuf.message import Message

from gateway.http.bodies import JSON
from gateway.http.proto_json import to_json, to_value


def json_answer(value: object, status: int = 200) -> Response:
    return Response(to_json(value), status, media_type=JSON)


def message_answer(message: Message, status: int = 200) -> Response:
    return json_answer(to_value(message), status)
