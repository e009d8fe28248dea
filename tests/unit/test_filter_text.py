"""Filters as people write them: what they mean, and what is said of those that mean nothing."""

import pytest
from google.protobuf.json_format import ParseDict

from sirdar.errors import InvalidArgument
from sirdar.filter_text import MAX_CHARACTERS, MAX_LEVELS, MAX_VALUES, parse_filter
from sirdar.v1.filter_pb2 import Filter


def string(value: str) -> dict[str, object]:
    return {"string_value": value}


def integer(value: int) -> dict[str, object]:
    return {"int64_value": value}


def equals(field: str, value: dict[str, object]) -> dict[str, object]:
    return {"equals": {"field": field, "value": value}}


def none_of(condition: dict[str, object]) -> dict[str, object]:
    return {"none_of": {"filters": [condition]}}


A, B, C = (equals(field, integer(1)) for field in "abc")

GOOD: list[tuple[str, dict[str, object]]] = [
    ('category = "news"', equals("category", string("news"))),
    ("category == 'news'", equals("category", string("news"))),
    ("year != 2020", none_of(equals("year", integer(2020)))),
    ("year <> 2020", none_of(equals("year", integer(2020)))),
    ("year > 2020", {"range": {"field": "year", "greater_than": integer(2020)}}),
    ("year>=-5", {"range": {"field": "year", "at_least": integer(-5)}}),
    ("price < 2.5", {"range": {"field": "price", "less_than": {"double_value": 2.5}}}),
    ("price <= 1e3", {"range": {"field": "price", "at_most": {"double_value": 1000.0}}}),
    (
        "date >= 2025-01-01",
        {"range": {"field": "date", "at_least": {"timestamp_value": "2025-01-01T00:00:00Z"}}},
    ),
    (
        "date = 2025-01-01T12:00:00.123456789+02:00",
        equals("date", {"timestamp_value": "2025-01-01T10:00:00.123456789Z"}),
    ),
    ("date = 2025-01-01t12:00:00z", equals("date", {"timestamp_value": "2025-01-01T12:00:00Z"})),
    ("draft = TRUE", equals("draft", {"bool_value": True})),
    ("draft = false", equals("draft", {"bool_value": False})),
    ('tags IN ("a", "b")', {"one_of": {"field": "tags", "values": [string("a"), string("b")]}}),
    ("n in(1,2)", {"one_of": {"field": "n", "values": [integer(1), integer(2)]}}),
    ("n NOT IN (1)", none_of({"one_of": {"field": "n", "values": [integer(1)]}})),
    (
        "n BETWEEN 1 AND 9",
        {"range": {"field": "n", "at_least": integer(1), "at_most": integer(9)}},
    ),
    ("exists(author)", {"exists": {"field": "author"}}),
    ("NOT Exists ( author )", none_of({"exists": {"field": "author"}})),
    ('title CONTAINS "deep sea"', {"contains": {"field": "title", "text": "deep sea"}}),
    ("NOT a = 1", none_of(A)),
    ("NOT NOT a = 1", none_of(none_of(A))),
    ("a = 1 AND b = 1 and c = 1", {"all_of": {"filters": [A, B, C]}}),
    ("a = 1 OR b = 1 or c = 1", {"any_of": {"filters": [A, B, C]}}),
    ("a = 1 OR b = 1 AND c = 1", {"any_of": {"filters": [A, {"all_of": {"filters": [B, C]}}]}}),
    ("(a = 1 OR b = 1) AND c = 1", {"all_of": {"filters": [{"any_of": {"filters": [A, B]}}, C]}}),
    ("NOT a = 1 AND b = 1", {"all_of": {"filters": [none_of(A), B]}}),
    ("((a = 1))\n", A),
    (
        "n BETWEEN 1 AND 9 AND a = 1",
        {
            "all_of": {
                "filters": [
                    {"range": {"field": "n", "at_least": integer(1), "at_most": integer(9)}},
                    A,
                ]
            }
        },
    ),
    # Words of the language are fields where a field is expected, and parts of longer names.
    ("exists = 1", equals("exists", integer(1))),
    ("android = 1", equals("android", integer(1))),
    ("größe.in-cm = 1", equals("größe.in-cm", integer(1))),
    ('`my field; "1"` = 1', equals('my field; "1"', integer(1))),
    (r'a = "say \"no\", \\ \n é \ud83d\ude00"', equals("a", string('say "no", \\ \n é 😀'))),
    (r"a = 'it\'s' ", equals("a", string("it's"))),
    ('a = "(AND\') OR"', equals("a", string("(AND') OR"))),
    (f"a = {2**63 - 1}", equals("a", integer(2**63 - 1))),
    (f"a = -{2**63}", equals("a", integer(-(2**63)))),
]


@pytest.mark.parametrize(("text", "message"), GOOD)
def test_a_filter_means_what_it_says(text: str, message: dict[str, object]) -> None:
    assert parse_filter(text) == ParseDict(message, Filter())


BAD = [
    ("", "is empty"),
    (" \n", "is empty"),
    ("year", "character 5: expected = != < <= > >= or BETWEEN"),
    ("year =", "character 7: expected a date or a number or text in quotes"),
    ("year = twenty", "character 8: expected a date or a number or text in quotes"),
    ("year 2020", "character 6: expected = != < <= > >="),
    ("= 2020", "character 1: expected"),
    ('a = "news', 'character 5: the " that begins here is not closed'),
    ("`a = 1", "character 1: the ` that begins here is not closed"),
    ("a = 1 b = 2", "character 7: expected AND or OR or the end; found 'b'"),
    ("a = 1 AND", "character 10: expected"),
    ("AND a = 1", "character 5: expected"),
    ("NOT", "character 4: expected ( or NOT or a field or exists(field); found the end"),
    ("(a = 1", "character 7: expected )"),
    ("a = 1)", "character 6: expected the end; found ')'"),
    ("a IN ()", "character 7: expected"),
    ("a IN (1,)", "character 9: expected"),
    ("a CONTAINS 3", "character 12: expected text in quotes"),
    ("a BETWEEN 1 OR 2", "character 13: expected AND"),
    ("exists(1)", "character 8: expected a field"),
    ("a & 1", "character 3: expected = != < <= > >="),
    ("a = 2025-13-01", "character 5: '2025-13-01' is no date or time"),
    ("a = 2025-02-30T00:00:00Z", "character 5: '2025-02-30T00:00:00Z' is no date or time"),
    ("a = 2025-01-01T12:00:00", "character 5: '2025-01-01T12:00:00' is no date or time"),
    ("a = 1.2.3", "character 5: '1.2.3' is no number"),
    ("a = 12abc", "character 5: '12abc' is no number"),
    ("a = 1e999", "character 5: the number is too large"),
    (f"a = {2**63}", "character 5: the integer does not fit in 64 bits"),
    ("a = " + "9" * 10_000, "character 5: the integer does not fit in 64 bits"),
    (r'a = "\q"', "character 5: the text has an escape that JSON has not"),
    (r'a = "\ud83d"', "character 5: the text has an escape that JSON has not"),
    ("a\0b = 1", "character 2: expected"),
]


@pytest.mark.parametrize(("text", "complaint"), BAD)
def test_a_wrong_filter_is_refused_where_it_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_filter(text, "where")
    assert complaint in refused.value.message
    assert [item.field for item in refused.value.fields] == ["where"]
    assert refused.value.message.startswith("where is ")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("(" * 100_000, "character 33: it is nested more than 32 levels deep"),
        ("(" * 100_000 + "a = 1" + ")" * 100_000, "nested more than 32 levels deep"),
        ("NOT " * 100_000 + "a = 1", "nested more than 32 levels deep"),
        ("(a = 1 OR " * 40_000, "nested more than 32 levels deep"),
        ("a = 1 AND " * 100_000, "at most 500,000 are allowed"),
        ('"' * MAX_CHARACTERS, "expected"),
        ("a = " + "1" * (MAX_CHARACTERS - 4), "does not fit"),
        ("\\" * MAX_CHARACTERS, "expected"),
        (f"a IN ({'1,' * MAX_VALUES}1)", "has 10,001 values; at most 10,000"),
    ],
    ids=range(9),
)
def test_an_attack_is_refused_without_a_fault(text: str, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        parse_filter(text)


def test_filters_at_the_limits_are_read() -> None:
    parse_filter("NOT " * (MAX_LEVELS - 1) + "a = 1")
    parse_filter("(" * MAX_LEVELS + "a = 1" + ")" * MAX_LEVELS)
    many = parse_filter(f"a IN ({', '.join(map(str, range(MAX_VALUES)))})")
    assert len(many.one_of.values) == MAX_VALUES
    assert len(parse_filter(" AND ".join(["a = 1"] * MAX_VALUES)).all_of.filters) == MAX_VALUES
