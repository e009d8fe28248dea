"""Filters and modes over HTTP: as text in query strings, as messages in bodies."""

import pytest

from sirdar.filter_text import parse_filter
from sirdar.v1 import search_pb2
from tests.rpc.gateway_http import problem_of, running_http

TEXT = 'category = "news" AND year >= 2020'
QUERY = {"q": "x", "collection": "notes"}


async def test_a_filter_is_text_in_a_query_and_a_message_in_a_body() -> None:
    async with running_http() as gateway:
        got = await gateway.http.get("/search", params={**QUERY, "filter": TEXT})
        assert got.status_code == 200
        body = {
            "query": "x",
            "collection": "notes",
            "filter": {
                "all_of": {
                    "filters": [
                        {"equals": {"field": "category", "value": {"string_value": "news"}}},
                        {"range": {"field": "year", "at_least": {"int64_value": 2020}}},
                    ]
                }
            },
        }
        posted = await gateway.http.post("/search", json=body)
        assert posted.status_code == 200
        first, second = gateway.retriever.searches
        assert first.filter == second.filter == parse_filter(TEXT)


async def test_mode_and_fusion_are_parameters_too() -> None:
    async with running_http() as gateway:
        gateway.retriever.lexical = True
        query = {**QUERY, "mode": "SEARCH_MODE_LEXICAL"}
        results = (await gateway.http.get("/search", params=query)).json()["results"]
        assert [item["document_id"] for item in results] == ["d", "c", "a"]
        assert "similarity" not in results[0]
        query = {**QUERY, "fusion.dense_weight": "0", "fusion.lexical_weight": "1"}
        results = (await gateway.http.get("/search", params=query)).json()["results"]
        assert [item["document_id"] for item in results][:3] == ["d", "c", "a"]


@pytest.mark.parametrize(
    ("query", "field", "reason"),
    [
        ("filter=year", "filter", "BAD_FILTER"),
        ("filter=", "filter", "INVALID_ARGUMENT"),
        ("filter=" + "%28" * 20_000, "filter", "BAD_FILTER"),
        ("filter=a%3D1&filter=b%3D1", "filter", "INVALID_ARGUMENT"),
        ("filter.exists.field=a", "filter.exists.field", "UNKNOWN_FIELD"),
        ("mode=SEARCH_MODE_FUZZY", "mode", "BAD_JSON"),
        ("fusion.rank_constant=0", "fusion.rank_constant", "INVALID_ARGUMENT"),
    ],
    ids=range(7),
)
async def test_what_is_wrong_is_named(query: str, field: str, reason: str) -> None:
    async with running_http() as gateway:
        answer = await gateway.http.get(f"/search?q=x&collection=notes&{query}")
        assert problem_of(answer) == (400, reason)
        assert [each["field"] for each in answer.json()["fields"]] == [field]
        assert not gateway.retriever.searches


async def test_documents_are_deleted_by_filter_or_by_id_and_not_by_both() -> None:
    async with running_http() as gateway:
        path = "/collections/notes/documents"
        query = {"filter": TEXT, "count_only": "true"}
        answer = await gateway.http.delete(path, params=query)
        assert answer.json() == {"documents": "3", "consistency_tokens": ["t"]}
        (asked,) = gateway.retriever.deletions
        assert (asked.filter, asked.count_only) == (parse_filter(TEXT), True)
        for wrong in ({"filter": TEXT, "document_ids": "a"}, {"count_only": "true"}):
            assert problem_of(await gateway.http.delete(path, params=wrong))[0] == 400
        assert len(gateway.retriever.deletions) == 1


async def test_the_description_has_the_text_form_and_both_answers() -> None:
    async with running_http() as gateway:
        described = (await gateway.http.get("/openapi.json")).json()
        searched = described["paths"]["/search"]["get"]["parameters"]
        names = {parameter["name"] for parameter in searched}
        assert {"q", "filter", "mode", "fusion.method", "consistency"} <= names
        assert not any(name.startswith("filter.") for name in names)
        # More like a document is asked for without.
        assert "like.document_id" in names
        assert not any(
            parameter.get("required") for parameter in searched if parameter["name"] == "q"
        )
        deleted = described["paths"]["/collections/{name}/documents"]["delete"]
        assert {"filter", "count_only", "document_ids"} <= {
            parameter["name"] for parameter in deleted["parameters"]
        }
        content = deleted["responses"]["200"]["content"]["application/json"]["schema"]
        assert {item["$ref"].rpartition("/")[2] for item in content["oneOf"]} == {
            search_pb2.DeleteDocumentsResponse.DESCRIPTOR.name,
            search_pb2.DeleteByFilterResponse.DESCRIPTOR.name,
        }
        assert "Filter" in described["components"]["schemas"]
