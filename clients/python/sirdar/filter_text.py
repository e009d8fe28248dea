"""Filters as people write them: `category = "news" AND date >= 2025-01-01`.

    filter      conditions with NOT, AND and OR, binding in this order, and parentheses
    condition   field = value, also != < <= > >=
                field IN (value, ...), field NOT IN (value, ...)
                field BETWEEN value AND value
                field CONTAINS "words"
                exists(field)
    field       letters, digits, `_`, `.` and `-`, a letter or `_` first; any other name in
                backquotes
    value       "text" or 'text' with the escapes of JSON, 42, 4.2, true, false,
                2025-01-01 (its first instant, in UTC), 2025-01-01T12:00:00+02:00

Words of the language are written in any case. What does not meet `a = 1` meets
`a != 1`: also a document without `a`.
"""

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedToken, v_args
from lark.parsers.lalr_interactive_parser import InteractiveParser

from sirdar.errors import InvalidArgument
from sirdar.instants import read_instant
from sirdar.v1.document_pb2 import MetadataValue
from sirdar.v1.filter_pb2 import (
    ContainsCondition,
    EqualsCondition,
    ExistsCondition,
    Filter,
    FilterList,
    OneOfCondition,
    RangeCondition,
)

MAX_CHARACTERS = 500_000
MAX_LEVELS = 32
"""The contract's; of parentheses as well, which make no level by themselves."""
MAX_VALUES = 10_000

_GRAMMAR = r"""
?start: any_of
?any_of: all_of (_OR all_of)*
?all_of: none_of (_AND none_of)*
?none_of: condition
    | NOT none_of -> negation
?condition: "(" any_of ")"
    | _EXISTS "(" field ")" -> exists
    | field COMPARISON value -> comparison
    | field _IN "(" value ("," value)* ")" -> one_of
    | field NOT _IN "(" value ("," value)* ")" -> not_one_of
    | field _BETWEEN value _AND value -> between
    | field _CONTAINS STRING -> contains
field: NAME | QUOTED_NAME
value: STRING | INSTANT | FLOAT | INTEGER | TRUTH

_OR.2: /or(?![\w.-])/i
_AND.2: /and(?![\w.-])/i
NOT.2: /not(?![\w.-])/i
_IN.2: /in(?![\w.-])/i
_BETWEEN.2: /between(?![\w.-])/i
_CONTAINS.2: /contains(?![\w.-])/i
_EXISTS.2: /exists(?=\s*\()/i
TRUTH.2: /(true|false)(?![\w.-])/i
COMPARISON: /[<>!]=|==?|<>|<|>/
NAME: /[^\W\d][\w.-]*/
QUOTED_NAME: /`[^`]+`/
STRING: /"[^"\\]*(?:\\.[^"\\]*)*"|'[^'\\]*(?:\\.[^'\\]*)*'/s
INSTANT.3: /\d{4}-\d{2}-\d{2}([Tt]\d{2}:[\w:.]*([+-][\d:]*)?)?(?![\w.:-])/
FLOAT.2: /[+-]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?(?![\w.])/
INTEGER.1: /[+-]?\d+(?![\w.])/
%ignore /\s+/
"""

# What people are told that they could have written.
_WORDS = {
    "_OR": "OR",
    "_AND": "AND",
    "NOT": "NOT",
    "_IN": "IN",
    "_BETWEEN": "BETWEEN",
    "_CONTAINS": "CONTAINS",
    "_EXISTS": "exists(field)",
    "COMPARISON": "= != < <= > >=",
    "NAME": "a field",
    "LPAR": "(",
    "RPAR": ")",
    "COMMA": ",",
    "$END": "the end",
    "INTEGER": "a number",
    "INSTANT": "a date",
    "TRUTH": "true or false",
    "STRING": 'text in quotes, such as "news"',
}
_RANGES = {"<": "less_than", "<=": "at_most", ">": "greater_than", ">=": "at_least"}
_INT64 = range(-(2**63), 2**63)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_SHOWN_CHARACTERS = 20


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a filter: how many levels and values are in it."""

    filter: Filter
    levels: int
    values: int


def parse_filter(text: str, field: str = "filter") -> Filter:
    """Raises InvalidArgument that names the position, counted from 1, and what was expected."""
    if len(text) > MAX_CHARACTERS:
        raise InvalidArgument.field(
            field, f"has {len(text):,} characters; at most {MAX_CHARACTERS:,} are allowed"
        )
    if not text.strip():
        raise InvalidArgument.field(field, "is empty; write a condition such as year >= 2020")
    try:
        return _parse(text).filter
    except _Wrong as wrong:
        raise InvalidArgument.field(field, str(wrong), reason="BAD_FILTER") from None


class _Wrong(Exception):
    """What is wrong with a filter, continuing "filter "."""

    def __init__(self, position: int, description: str) -> None:
        super().__init__(f"is wrong at character {position + 1}: {description}")


def _parse(text: str) -> _Part:
    parsing = _parser().parse_interactive(text)
    depth = 0
    try:
        # Token by token: what is nested too deep is not read to its end.
        for token in parsing.iter_parse():
            depth += {"LPAR": 1, "RPAR": -1}.get(token.type, 0)
            if depth > MAX_LEVELS:
                raise _too_deep(token)
        part: _Part = parsing.feed_eof()  # type: ignore[no-untyped-call]
    except UnexpectedCharacters as error:
        raise _unreadable(text, error.pos_in_stream or 0, _accepted(parsing)) from None
    except UnexpectedToken as error:
        at = len(text) if error.token.type == "$END" else (error.token.start_pos or 0)
        raise _unexpected(text, at, _accepted(parsing)) from None
    if part.values > MAX_VALUES:
        raise _Wrong(0, f"it has {part.values:,} values; at most {MAX_VALUES:,} are allowed")
    return part


def _accepted(parsing: InteractiveParser) -> set[str]:
    """The names of the tokens that could have come next."""
    names: set[str] = parsing.accepts()  # type: ignore[no-untyped-call]
    return names


def _too_deep(token: Token) -> _Wrong:
    return _Wrong(token.start_pos or 0, f"it is nested more than {MAX_LEVELS} levels deep")


def _unreadable(text: str, at: int, expected: Iterable[str]) -> _Wrong:
    if text[at] in "\"'`":
        return _Wrong(at, f"the {text[at]} that begins here is not closed")
    if text[at].isdigit() or text[at] in "+-.":
        return _Wrong(at, f"{_shown(text, at)} is no number, date or time (2025-01-01T12:00:00Z)")
    return _unexpected(text, at, expected)


def _unexpected(text: str, at: int, expected: Iterable[str]) -> _Wrong:
    wanted = sorted({_WORDS[name] for name in expected if name in _WORDS})
    return _Wrong(at, f"expected {' or '.join(wanted)}; found {_shown(text, at)}")


def _shown(text: str, at: int) -> str:
    word = re.compile(r"\s*([\w.:-]+|.)", re.DOTALL).match(text, at)
    return repr(word[1][:_SHOWN_CHARACTERS]) if word else "the end"


@cache
def _parser() -> Lark:
    # Parts are made while the text is read: no tree, and no recursion however long it is.
    return Lark(_GRAMMAR, parser="lalr", transformer=_Parts())


@v_args(inline=True)
class _Parts(Transformer[Token, _Part]):
    """What each rule of the grammar makes."""

    def field(self, token: Token) -> str:
        return str(token[1:-1] if token.type == "QUOTED_NAME" else token)

    def value(self, token: Token) -> MetadataValue:
        return _READERS[token.type](token)

    def any_of(self, *parts: _Part) -> _Part:
        return _joined(Filter(any_of=FilterList(filters=(part.filter for part in parts))), parts)

    def all_of(self, *parts: _Part) -> _Part:
        return _joined(Filter(all_of=FilterList(filters=(part.filter for part in parts))), parts)

    def negation(self, word: Token, part: _Part) -> _Part:
        if part.levels >= MAX_LEVELS:
            raise _too_deep(word)
        return _negated(part)

    def comparison(self, field: str, operator: Token, value: MetadataValue) -> _Part:
        if operator in _RANGES:
            bounds = RangeCondition(field=field)
            getattr(bounds, _RANGES[operator]).CopyFrom(value)
            return _Part(Filter(range=bounds), 1, 1)
        equal = _Part(Filter(equals=EqualsCondition(field=field, value=value)), 1, 1)
        return equal if operator in ("=", "==") else _negated(equal)

    def one_of(self, field: str, *values: MetadataValue) -> _Part:
        return _Part(Filter(one_of=OneOfCondition(field=field, values=values)), 1, len(values))

    def not_one_of(self, field: str, _: Token, *values: MetadataValue) -> _Part:
        return _negated(self.one_of(field, *values))

    def between(self, field: str, low: MetadataValue, high: MetadataValue) -> _Part:
        return _Part(Filter(range=RangeCondition(field=field, at_least=low, at_most=high)), 1, 2)

    def contains(self, field: str, token: Token) -> _Part:
        text = _string(token).string_value
        return _Part(Filter(contains=ContainsCondition(field=field, text=text)), 1, 1)

    def exists(self, field: str) -> _Part:
        return _Part(Filter(exists=ExistsCondition(field=field)), 1, 0)


def _negated(part: _Part) -> _Part:
    return _joined(Filter(none_of=FilterList(filters=[part.filter])), [part])


def _joined(filter_: Filter, parts: Sequence[_Part]) -> _Part:
    levels = 1 + max(part.levels for part in parts)
    if levels > MAX_LEVELS:
        raise _Wrong(0, f"it is nested more than {MAX_LEVELS} levels deep")
    return _Part(filter_, levels, sum(part.values for part in parts))


def _string(token: Token) -> MetadataValue:
    def plain(escape: re.Match[str]) -> str:
        # JSON has no escape for the single quote.
        return "'" if escape[0] == r"\'" else str(json.loads(f'"{escape[0]}"'))

    try:
        text = _ESCAPE.sub(plain, token[1:-1])
        # Two escapes may be the halves of one character.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16")
    except ValueError:
        raise _Wrong(token.start_pos or 0, "the text has an escape that JSON has not") from None
    return MetadataValue(string_value=text)


def _integer(token: Token) -> MetadataValue:
    # The longest have 19 digits; int() refuses thousands with an error of its own.
    if len(token) > 20 or int(token) not in _INT64:
        raise _Wrong(token.start_pos or 0, "the integer does not fit in 64 bits")
    return MetadataValue(int64_value=int(token))


def _float(token: Token) -> MetadataValue:
    number = float(token)
    if not math.isfinite(number):
        raise _Wrong(token.start_pos or 0, "the number is too large")
    return MetadataValue(double_value=number)


def _instant(token: Token) -> MetadataValue:
    try:
        return MetadataValue(timestamp_value=read_instant(token))
    except ValueError as error:
        raise _Wrong(token.start_pos or 0, str(error)) from None


def _truth(token: Token) -> MetadataValue:
    return MetadataValue(bool_value=token.lower() == "true")


_READERS = {
    "STRING": _string,
    "INSTANT": _instant,
    "FLOAT": _float,
    "INTEGER": _integer,
    "TRUTH": _truth,
}
