"""How a door refuses: in the shape that the API's own clients read."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from gateway.http.bodies import JSON, with_limit
from gateway.http.problems import http_status, retry_headers
from sirdar.errors import FieldViolation, InvalidArgument, SirdarError

log: structlog.stdlib.BoundLogger = structlog.get_logger()

Shape = Callable[[SirdarError], dict[str, object]]
"""What an API's clients expect as the body of an error."""


def door_route(shape: Shape, limit_bytes: int) -> type[APIRoute]:
    """The class of a door's routes: their errors have this shape, and a body at most so many
    bytes."""

    class DoorRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def answer(request: Request) -> Response:
                try:
                    return await handle(with_limit(request, limit_bytes))
                except SirdarError as error:
                    return _refuse(error, http_status(error))
                except RequestValidationError as error:
                    bad = _invalid(error)
                    return _refuse(bad, http_status(bad))
                except HTTPException as error:
                    return _refuse(InvalidArgument(str(error.detail)), error.status_code)

            return answer

    def _refuse(error: SirdarError, status: int) -> Response:
        return Response(json.dumps(shape(error)), status, retry_headers(error), JSON)

    return DoorRoute


def _invalid(error: RequestValidationError) -> InvalidArgument:
    """The first of pydantic's complaints a field; unions complain once a member."""
    fields: dict[str, FieldViolation] = {}
    for item in error.errors():
        # What comes after the field's name is of use to pydantic's own users only.
        _, *path = item["loc"]
        name = path[0] if path and isinstance(path[0], str) else "body"
        fields.setdefault(name, FieldViolation(name, str(item["msg"])))
    message = "; ".join(f"{each.field}: {each.description}" for each in fields.values())
    return InvalidArgument(message, fields=list(fields.values()))
