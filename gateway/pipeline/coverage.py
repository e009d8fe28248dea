"""How much an answer speaks for: refused, or said, where it is not everything."""

from collections.abc import Iterable, Sequence

from gateway.pipeline.answer import SearchAnswer
from sirdar.errors import Unavailable
from sirdar.v1 import common_pb2, retriever_pb2


def least_coverage(coverages: Iterable[common_pb2.Coverage]) -> common_pb2.Coverage:
    """Of several calls about the same shards: what all of them speak for."""
    first, *others = coverages
    if not others:
        return first
    missing = set(first.missing_shards).union(*(one.missing_shards for one in others))
    return common_pb2.Coverage(
        shards_asked=first.shards_asked,
        shards_answered=first.shards_asked - len(missing),
        missing_shards=sorted(missing),
        pending_writes=max(first.pending_writes, *(one.pending_writes for one in others)),
    )


def summed_coverage(coverages: Sequence[common_pb2.Coverage]) -> common_pb2.Coverage:
    """Of several collections; each counts its own shards, so that numbers may repeat."""
    return common_pb2.Coverage(
        shards_asked=sum(one.shards_asked for one in coverages),
        shards_answered=sum(one.shards_answered for one in coverages),
        missing_shards=[shard for one in coverages for shard in one.missing_shards],
        pending_writes=sum(one.pending_writes for one in coverages),
    )


def check_shards(
    coverage: common_pb2.Coverage, of: str, require_complete: bool, answer: SearchAnswer
) -> None:
    """`of` names the collection where there are several: ` of notes`.

    Raises Unavailable for a partial answer where a complete one is required.
    """
    if coverage.shards_answered == coverage.shards_asked:
        return
    missing = ", ".join(map(str, coverage.missing_shards))
    if require_complete:
        raise Unavailable(
            f"{coverage.shards_answered} of {coverage.shards_asked} shards{of} answered "
            f"(missing: {missing}); retry, or allow partial answers",
            reason="INCOMPLETE",
        )
    answer.degrade(
        common_pb2.DEGRADED_REASON_SHARD_UNREACHABLE, f"shards{of} that did not answer: {missing}"
    )


def check_words(
    responses: Sequence[retriever_pb2.SearchPassagesResponse],
    of: str,
    require_complete: bool,
    answer: SearchAnswer,
) -> None:
    """Shards whose words were not searched, where that was asked for: what is found by meaning
    does not speak for what would have been found by words.

    Raises Unavailable where a complete answer is required.
    """
    missing = sorted({shard for one in responses for shard in one.missing_lexical_shards})
    if not missing:
        return
    shards = ", ".join(map(str, missing))
    if require_complete:
        raise Unavailable(
            f"the lexical indexes of these shards{of} did not answer: {shards}; retry, or allow "
            "partial answers",
            reason="INCOMPLETE",
        )
    answer.degrade(
        common_pb2.DEGRADED_REASON_LEXICAL_SKIPPED,
        f"shards{of} whose lexical index did not answer: {shards}",
    )
