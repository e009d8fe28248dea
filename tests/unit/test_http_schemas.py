"""JSON Schemas made of descriptors: they accept what the protobuf JSON mapping does."""

from typing import Any

import jsonschema_rs
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message

from gateway.http.operations import Operations
from gateway.http.proto_json import from_query, to_message, to_value
from gateway.http.schemas import Schemas
from sirdar.errors import InvalidArgument
from sirdar.v1 import collection_pb2, common_pb2, document_pb2, search_pb2


def validator(message: Message) -> Any:
    schemas = Schemas()
    reference = schemas.reference(message.DESCRIPTOR)  # type: ignore[arg-type]
    return jsonschema_rs.validator_for({**reference, "components": {"schemas": schemas.by_name}})


VALUES: list[tuple[Message, object, bool]] = [
    (document_pb2.Document(), {"id": "a", "metadata": {"n": {"int64_value": "9"}}}, True),
    (document_pb2.Document(), {"metadata": {"n": {"int64_value": 9}}}, True),
    (document_pb2.Document(), {"metadata": {"n": {"int64_value": "nine"}}}, False),
    (document_pb2.Document(), {"metadata": {"n": {"double_value": "NaN"}}}, True),
    (document_pb2.Document(), {"metadata": {"n": {"string_list": {"values": ["a"]}}}}, True),
    (document_pb2.Document(), {"metadata": {"n": {}}}, True),
    # Two kinds at once.
    (
        document_pb2.Document(),
        {"metadata": {"n": {"bool_value": True, "string_value": "x"}}},
        False,
    ),
    (document_pb2.Document(), {"metadata": []}, False),
    (document_pb2.Document(), {"identity": "a"}, False),
    (search_pb2.SearchRequest(), {"top_k": 3, "rerank": {"depth": 1}}, True),
    (search_pb2.SearchRequest(), {"top_k": 2**31}, False),
    (search_pb2.SearchRequest(), {"consistency": "CONSISTENCY_STRONG"}, True),
    (search_pb2.SearchRequest(), {"consistency": "STRONG"}, False),
    (search_pb2.SearchRequest(), {"consistency_tokens": "one"}, False),
    (common_pb2.StageTiming(), {"duration": "0.5s"}, True),
    (common_pb2.StageTiming(), {"duration": "half"}, False),
    (document_pb2.WriteReceipt(), {"written": "2026-01-01T00:00:00Z"}, True),
    (common_pb2.Vector(), {"data": "AAAA", "dimensions": 1}, True),
]


@pytest.mark.parametrize(("message", "value", "valid"), VALUES)
def test_a_schema_says_what_the_mapping_takes(message: Message, value: object, valid: bool) -> None:
    assert validator(message).is_valid(value) is valid
    copy = type(message)()
    if valid:
        to_message(value, copy)
    else:
        with pytest.raises(InvalidArgument):
            to_message(value, copy)


def test_what_is_written_fits_the_schema() -> None:
    request = search_pb2.SearchRequest(query="x", top_k=2)
    request.rerank.weight = float("inf")
    response = search_pb2.SearchResponse()
    result = response.results.add(document_id="a", version=2**62, score=0.25, rerank_score=-1.5)
    result.metadata["at"].timestamp_value.FromJsonString("2026-01-01T00:00:00Z")
    response.timings.add(stage=common_pb2.STAGE_TOTAL).duration.FromMilliseconds(12)
    for message in (request, response):
        value = to_value(message)
        validator(message).validate(value)
        again = json_format.ParseDict(value, type(message)())
        assert again == message


def test_integers_of_64_bits_are_strings_in_answers() -> None:
    assert to_value(document_pb2.WriteReceipt(version=2**60))["version"] == str(2**60)


def test_a_query_string_reaches_every_scalar() -> None:
    request = from_query(
        [
            ("query", "x"),
            ("exact", "TRUE"),
            ("consistency", "CONSISTENCY_SESSION"),
            ("consistency_tokens", "a"),
            ("consistency_tokens", "b"),
            ("rerank.depth", "7"),
            ("rerank.weight", "0.5"),
            ("rerank.enabled", "false"),
        ],
        search_pb2.SearchRequest(),
    )
    assert list(request.consistency_tokens) == ["a", "b"]
    assert (request.exact, request.rerank.depth, request.rerank.weight) == (True, 7, 0.5)
    assert request.rerank.HasField("enabled")
    assert not request.rerank.enabled
    names = {
        parameter["name"]
        for parameter in Operations().query_parameters(search_pb2.SearchRequest.DESCRIPTOR)
    }
    assert {"top_k", "rerank.depth", "consistency_tokens"} <= names


@pytest.mark.parametrize("name", ["generation", "labels", "generation.nothing", "name.first", "."])
def test_what_is_no_scalar_is_no_parameter(name: str) -> None:
    with pytest.raises(InvalidArgument, match="not a parameter"):
        from_query([(name, "x")], collection_pb2.Collection())
