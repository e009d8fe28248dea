"""Requests made from the OpenAPI schema, right and wrong ones: none may meet a fault."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import response_schema_conformance

from services.stack.stack import Stack

_EXAMPLES = 25
Case = schemathesis.Case[Any]


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Requests made by chance create what other tests would stumble over."""
    with Stack(tmp_path_factory.mktemp("fuzzed")) as running:
        yield running


@pytest.fixture(scope="module")
def api(own_stack: Stack) -> schemathesis.BaseSchema:
    url = f"http://{own_stack.http_address}"
    with httpx.Client(base_url=url, trust_env=False) as client:
        client.post("/collections", json={"collection": {"name": "fuzzed"}})
        document = client.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=url)
    return schema


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as open_session:
        open_session.trust_env = False
        yield open_session


def _aim(case: Case) -> None:
    """At the collection that is there: names made up find nothing behind the first check."""
    if "name" in case.path_parameters and not (
        case.method == "DELETE" and case.path == "/collections/{name}"
    ):
        case.path_parameters["name"] = "fuzzed"
    if case.path == "/index" or (case.path == "/search" and case.method == "GET"):
        case.query = {**case.query, "collection": "fuzzed"}
        case.query.pop("namespace", None)
    if case.path == "/search" and isinstance(case.body, dict):
        case.body["collection"] = "fuzzed"
        case.body.pop("namespace", None)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_request_meets_a_fault(
    api: schemathesis.BaseSchema, session: requests.Session, mode: GenerationMode
) -> None:
    asked = 0
    for found in api.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()

        @seed(2026)
        @settings(
            max_examples=_EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def try_one(case: Case) -> None:
            nonlocal asked
            asked += 1
            if mode is GenerationMode.POSITIVE and asked % 2:
                _aim(case)
            case.call_and_validate(
                session=session, checks=[not_a_server_error, response_schema_conformance]
            )

        # Of an operation that takes nothing no wrong request can be made.
        with suppress(Unsatisfiable):
            try_one()
    assert asked > 10 * _EXAMPLES
