"""Grouping: results that share a value of a metadata field, together."""

from collections.abc import Iterator, Mapping

from gateway.pipeline.ranking import FoundGroup, Pool, Ranking
from gateway.pipeline.stages import Group
from sirdar.errors import InvalidArgument
from sirdar.v1 import document_pb2


def group(pool: Pool, ranking: Ranking, stage: Group, path: str = "group") -> Ranking:
    """Groups in the order of their best result, the best `limit` results of each.

    Those without the field, or with a value that is no group's, are left out.
    `path` is where the request has the grouping. Raises InvalidArgument where
    the field's values are numbers that are hardly ever equal.
    """
    values: dict[bytes, document_pb2.MetadataValue] = {}
    members: dict[bytes, list[int]] = {}
    for place, key, value in _grouped(pool, ranking, stage.field):
        values.setdefault(key, value)
        together = members.setdefault(key, [])
        if len(together) < stage.limit:
            together.append(place)
    if not values and _has_doubles(pool, ranking, stage.field):
        raise InvalidArgument.field(
            f"{path}.field",
            f"is {stage.field}, whose values are floating-point numbers; group by a string, an "
            "integer, a boolean or a timestamp",
        )
    groups = tuple(FoundGroup(values[key], tuple(members[key])) for key in values)
    return with_groups(ranking, groups)


def with_groups(ranking: Ranking, groups: tuple[FoundGroup, ...]) -> Ranking:
    """The ranking as these groups, in this order."""
    scores = {place: ranking.scores[place] for one in groups for place in one.members}
    return ranking.reordered(scores, groups)


def count_groups(pool: Pool, ranking: Ranking, field: str) -> int:
    return len({key for _, key, _ in _grouped(pool, ranking, field)})


def _grouped(
    pool: Pool, ranking: Ranking, field: str
) -> Iterator[tuple[int, bytes, document_pb2.MetadataValue]]:
    for place in ranking.scores:
        value = _value(pool.passages[place].metadata, field)
        if value is not None:
            yield place, value.SerializeToString(deterministic=True), value


def _has_doubles(pool: Pool, ranking: Ranking, field: str) -> bool:
    found = (pool.passages[place].metadata for place in ranking.scores)
    return any(field in metadata and metadata[field].HasField("double_value") for metadata in found)


def _value(
    metadata: Mapping[str, document_pb2.MetadataValue], field: str
) -> document_pb2.MetadataValue | None:
    """A string, integer, boolean or timestamp; of a list, the first string."""
    # Asking a protobuf map for what it has not adds it.
    if field not in metadata:
        return None
    value = metadata[field]
    kind = value.WhichOneof("kind")
    if kind == "string_list":
        if not value.string_list.values:
            return None
        return document_pb2.MetadataValue(string_value=value.string_list.values[0])
    return None if kind in (None, "double_value") else value
