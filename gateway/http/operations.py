"""The OpenAPI description of operations, from the messages that they read and answer."""

import re
from typing import Any

from google.protobuf.descriptor import Descriptor

from gateway.http.bodies import JSON
from gateway.http.problems import MEDIA_TYPE
from gateway.http.schemas import Schema, Schemas

Operation = dict[str, Any]

PROBLEM = "Problem"
_PROBLEM_SCHEMA: Schema = {
    "type": "object",
    "title": PROBLEM,
    "description": "RFC 9457. `reason` and `fields` are those of the gRPC error.",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "examples": ["INVALID_ARGUMENT"]},
        "reason": {"type": "string", "examples": ["COLLECTION_NOT_FOUND"]},
        "request_id": {"type": "string"},
        "fields": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "description": {"type": "string"}},
            },
        },
        "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
        "retry_after_seconds": {"type": "number"},
    },
    "required": ["type", "title", "status", "detail", "reason", "request_id"],
}


class Operations:
    """Describes operations; the schemas that they name are in `schemas`."""

    def __init__(self) -> None:
        self.schemas = Schemas()
        self.schemas.by_name[PROBLEM] = _PROBLEM_SCHEMA

    def describe(
        self,
        path: str,
        *,
        answer: Descriptor | Schema,
        status: int = 200,
        body: Descriptor | Schema | None = None,
        example: object = None,
        answer_example: object = None,
        parameters: list[Schema] | None = None,
    ) -> Operation:
        """What a route gives as `openapi_extra`; the path's own parameters are found in it."""
        operation: Operation = {
            "parameters": [*_path_parameters(path), *(parameters or [])],
            "responses": {
                str(status): {
                    "description": "Answered.",
                    "content": {JSON: _content(self._schema(answer), answer_example)},
                },
                "default": self.problem(),
            },
        }
        if body is not None:
            operation["requestBody"] = {
                "required": True,
                "content": {JSON: _content(self._schema(body), example)},
            }
        return operation

    def problem(self) -> Schema:
        schema = {"$ref": f"#/components/schemas/{PROBLEM}"}
        return {"description": "Refused.", "content": {MEDIA_TYPE: {"schema": schema}}}

    def query_parameters(
        self, descriptor: Descriptor, *, without: frozenset[str] = frozenset(), prefix: str = ""
    ) -> list[Schema]:
        """A parameter for each scalar of the message, those of messages in it by their path."""
        found: list[Schema] = []
        for field in descriptor.fields:
            name = prefix + field.name
            if name in without:
                continue
            if field.message_type is None:
                found.append({"name": name, "in": "query", "schema": self.schemas.field(field)})
            elif not field.is_repeated:
                found += self.query_parameters(field.message_type, prefix=f"{name}.")
        return found

    def _schema(self, of: Descriptor | Schema) -> Schema:
        return of if isinstance(of, dict) else self.schemas.reference(of)


def _path_parameters(path: str) -> list[Schema]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)", path)
    ]


def _content(schema: Schema, example: object) -> Schema:
    return {"schema": schema} if example is None else {"schema": schema, "example": example}
