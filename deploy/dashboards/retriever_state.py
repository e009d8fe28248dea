"""Rows of the retriever's dashboard: what it holds, and how that comes there."""

from deploy.dashboards.board import Panel, Query, Row
from deploy.dashboards.promql import mean, quantile, rate, selector, total
from deploy.dashboards.retriever_metrics import NAME, both, held, metric


def writes() -> Row:
    return Row(
        "Writes",
        [
            Panel(
                "Time of a commit",
                "One transaction of the store, its fsync included.",
                both("commit_seconds"),
                unit="s",
                share=6,
            ),
            Panel(
                "Requests a commit",
                "Group commit, in the mean.",
                [Query(mean(metric("commit_writes")), "requests")],
                share=6,
            ),
            Panel(
                "Write queue",
                "Bytes that wait for a commit.",
                [Query(total(selector(metric("write_queue_bytes")), by="instance"))],
                unit="bytes",
                share=6,
            ),
            Panel(
                "Refused and expired",
                "Writes refused as the queue was full; documents deleted as they expired.",
                [
                    Query(rate(metric("writes_refused_total")), "refused"),
                    Query(rate(metric("expired_documents_total")), "expired"),
                ],
                unit="ops",
                share=6,
            ),
        ],
    )


def segments() -> Row:
    builds = rate(metric("segment_builds_total"), by="kind, cause")
    return Row(
        "Segments",
        [
            Panel("Vectors", "Live ones.", [Query(held("vectors"), NAME)], share=6),
            Panel(
                "Without an index yet",
                "Compared one by one, until a segment of them is built.",
                [Query(held("unsealed_vectors"), NAME)],
                share=6,
            ),
            Panel(
                "Tombstones",
                "Vectors of deleted passages still in segments.",
                [Query(held("tombstones"), NAME)],
                share=6,
            ),
            Panel(
                "Segments",
                "By what they are.",
                [Query(held("segments", by="kind"), "{{kind}}")],
                share=6,
            ),
            Panel(
                "On disk",
                "Sealed segments.",
                [Query(held("segment_bytes"), NAME)],
                unit="bytes",
                share=6,
            ),
            Panel("Builds", "A second, and why.", [Query(builds, "{{kind}} {{cause}}")], share=6),
            Panel(
                "Time of a build",
                "From full to being searched.",
                both("seal_seconds"),
                unit="s",
                share=6,
            ),
            Panel(
                "Rows, failures, fallbacks",
                "Vectors built and reclaimed a second; builds that failed; segments of another "
                "kind than asked for.",
                [
                    Query(rate(metric("built_rows_total")), "built"),
                    Query(rate(metric("reclaimed_rows_total")), "reclaimed"),
                    Query(rate(metric("seal_failures_total")), "failures"),
                    Query(rate(metric("index_fallbacks_total")), "fallbacks"),
                ],
                share=6,
            ),
        ],
    )


def snapshots() -> Row:
    taken = held("snapshot_timestamp_seconds", "max")
    return Row(
        "Snapshots",
        [
            Panel(
                "Age of the newest", "By collection.", [Query(f"time() - {taken}", NAME)], unit="s"
            ),
            Panel(
                "Time to take one",
                "Of a collection.",
                [quantile(0.99, metric("snapshot_seconds"))],
                unit="s",
            ),
            Panel(
                "Failures and restores",
                "Snapshots not taken; shards whose segments came from one, or could not.",
                [
                    Query(rate(metric("snapshot_failures_total")), "failures"),
                    Query(rate(metric("shards_restored_total")), "restored"),
                    Query(rate(metric("shards_not_restored_total")), "not restored"),
                ],
                unit="ops",
            ),
        ],
    )


def store() -> Row:
    up = f"min by (instance, store) ({selector(metric('store_up'))})"
    return Row(
        "PostgreSQL",
        [
            Panel(
                "Answers",
                "1 while a retriever has a connection to the store that it shares.",
                [Query(up, "{{instance}} {{store}}")],
            ),
            Panel(
                "Faults",
                "Statements that PostgreSQL refused, and connections that were lost.",
                [Query(rate(metric("store_failures_total"), by="reason"), "{{reason}}")],
                unit="ops",
            ),
        ],
    )


def cluster() -> Row:
    short = f"max by (namespace) ({selector(metric('under_replicated_shards'))})"
    draining = f"max by (namespace) ({selector(metric('draining_members'))})"
    moving = total(selector(metric("moving_shards")), by="instance")
    return Row(
        "Cluster",
        [
            Panel(
                "Shards on too few retrievers",
                "Of the store, whoever has them: less than `replication` are ready with them.",
                [Query(short, "shards")],
                share=6,
            ),
            Panel(
                "Draining",
                "Retrievers that are to have no shards, and are not removed yet.",
                [Query(draining, "retrievers")],
                share=6,
            ),
            Panel(
                "Moving shards",
                "Opened for a move, or kept until others have them.",
                [Query(moving, "{{instance}}")],
                share=6,
            ),
            Panel(
                "Moved",
                "As retrievers came and went.",
                [Query(rate(metric("shards_moved_total"), by="direction"), "{{direction}}")],
                unit="ops",
                share=6,
            ),
        ],
    )


def replicas() -> Row:
    return Row(
        "Read replicas",
        [
            Panel(
                "Lag",
                "Time since a replica was last known to show all committed writes.",
                [Query(held("replica_lag_seconds", "max", "instance"), "{{instance}}")],
                unit="s",
            ),
            Panel(
                "Writes behind",
                "Committed writes that a replica knows of and does not show.",
                [Query(held("replica_lag_writes", "max", "instance"), "{{instance}}")],
            ),
            Panel(
                "Failures",
                "Times that the followed store could not be read, or an index not be opened.",
                [Query(rate(metric("replica_failures_total"), by="instance"), "{{instance}}")],
                unit="ops",
            ),
        ],
    )
