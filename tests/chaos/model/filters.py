"""Conditions on metadata, as requests say them and as the oracle holds them to documents."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from sirdar.v1 import filter_pb2
from tests.chaos.model.content import WORDS, Metadata, Moment, Value, metadata, value_message

SCHEMA = {
    "flag": filter_pb2.FIELD_TYPE_BOOLEAN,
    "kind": filter_pb2.FIELD_TYPE_KEYWORD,
    "moment": filter_pb2.FIELD_TYPE_TIMESTAMP,
    "note": filter_pb2.FIELD_TYPE_TEXT,
    "price": filter_pb2.FIELD_TYPE_FLOAT,
    "rank": filter_pb2.FIELD_TYPE_INTEGER,
    "tags": filter_pb2.FIELD_TYPE_KEYWORD_LIST,
}


class Test(Enum):
    """What a condition asks of its field."""

    __test__ = False

    EQUALS = "is"
    ONE_OF = "is one of"
    AT_LEAST = "at least"
    LESS_THAN = "less than"
    EXISTS = "exists"
    CONTAINS = "contains"


@dataclass(frozen=True)
class Field:
    """`values` is empty for EXISTS, has one for all but ONE_OF."""

    name: str
    test: Test
    values: tuple[Value, ...]

    def holds(self, fields: Mapping[str, Value]) -> bool:
        if self.name not in fields:
            return False
        value = fields[self.name]
        if self.test is Test.EXISTS:
            return True
        if self.test in (Test.EQUALS, Test.ONE_OF):
            mine = set(value) if isinstance(value, tuple) else {value}
            return bool(mine & set(self.values))
        wanted = self.values[0]
        if self.test is Test.CONTAINS:
            assert isinstance(value, str)
            assert isinstance(wanted, str)
            return set(wanted.split()) <= set(value.split())
        below = _order(value) < _order(wanted)
        return below if self.test is Test.LESS_THAN else not below

    def message(self) -> filter_pb2.Filter:
        values = [value_message(value) for value in self.values]
        if self.test is Test.EQUALS:
            equals = filter_pb2.EqualsCondition(field=self.name, value=values[0])
            return filter_pb2.Filter(equals=equals)
        if self.test is Test.ONE_OF:
            return filter_pb2.Filter(
                one_of=filter_pb2.OneOfCondition(field=self.name, values=values)
            )
        if self.test is Test.AT_LEAST:
            return filter_pb2.Filter(
                range=filter_pb2.RangeCondition(field=self.name, at_least=values[0])
            )
        if self.test is Test.LESS_THAN:
            return filter_pb2.Filter(
                range=filter_pb2.RangeCondition(field=self.name, less_than=values[0])
            )
        if self.test is Test.EXISTS:
            return filter_pb2.Filter(exists=filter_pb2.ExistsCondition(field=self.name))
        contains = filter_pb2.ContainsCondition(field=self.name, text=str(self.values[0]))
        return filter_pb2.Filter(contains=contains)


class Join(Enum):
    ALL = "all of"
    ANY = "any of"
    NONE = "none of"


@dataclass(frozen=True)
class Joined:
    join: Join
    parts: tuple["Condition", ...]

    def holds(self, fields: Mapping[str, Value]) -> bool:
        held = [part.holds(fields) for part in self.parts]
        if self.join is Join.ALL:
            return all(held)
        return any(held) is (self.join is Join.ANY)

    def message(self) -> filter_pb2.Filter:
        parts = filter_pb2.FilterList(filters=[part.message() for part in self.parts])
        if self.join is Join.ALL:
            return filter_pb2.Filter(all_of=parts)
        if self.join is Join.ANY:
            return filter_pb2.Filter(any_of=parts)
        return filter_pb2.Filter(none_of=parts)


Condition = Field | Joined


def meets(condition: Condition | None, fields: Metadata) -> bool:
    return condition is None or condition.holds(dict(fields))


def condition(chosen: random.Random, depth: int = 2) -> Condition:
    """Any condition; of values that documents have."""
    if depth and chosen.random() < 0.4:
        many = chosen.randint(1, 3)
        parts = tuple(condition(chosen, depth - 1) for _ in range(many))
        return Joined(chosen.choice(list(Join)), parts)
    name = chosen.choice(list(SCHEMA))
    tests: dict[str, tuple[Test, ...]] = {
        "flag": (Test.EQUALS, Test.EXISTS),
        "note": (Test.CONTAINS, Test.EXISTS),
        "tags": (Test.EQUALS, Test.ONE_OF, Test.EXISTS),
    }
    usual = (Test.EQUALS, Test.ONE_OF, Test.AT_LEAST, Test.LESS_THAN, Test.EXISTS)
    test = chosen.choice(tests.get(name, usual))
    many = {Test.EXISTS: 0, Test.ONE_OF: chosen.randint(1, 5)}.get(test, 1)
    return Field(name, test, tuple(_value(chosen, name) for _ in range(many)))


def _value(chosen: random.Random, name: str) -> Value:
    makers: dict[str, Callable[[], Value]] = {
        "note": lambda: " ".join(chosen.sample(WORDS[:20], k=chosen.randint(1, 2))),
        "tags": lambda: chosen.choice(WORDS[:12]),
    }
    if name in makers:
        return makers[name]()
    while True:
        value = dict(metadata(chosen.randrange(10_000))).get(name)
        if value is not None:
            return value


def _order(value: Value) -> tuple[float, str]:
    if isinstance(value, Moment):
        return value.ns, ""
    if isinstance(value, str):
        # Of code points, as these are.
        return 0.0, value
    assert isinstance(value, int | float)
    return value, ""
