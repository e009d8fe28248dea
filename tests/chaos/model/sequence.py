"""The sequence of operations: a pure function of the seed, and any prefix of it."""

import random
from collections.abc import Callable, Iterator, Sequence

from sirdar.v1 import collection_pb2
from tests.chaos.model.collections import Create, Drop
from tests.chaos.model.content import CONTENTS, WORDS, metadata
from tests.chaos.model.damage import Damage
from tests.chaos.model.disk import FullDisk
from tests.chaos.model.faults import Aim, End
from tests.chaos.model.filters import condition
from tests.chaos.model.oracle import Definition
from tests.chaos.model.reads import Check, Get, ListAll
from tests.chaos.model.searches import EVENTUAL, SESSION, STRONG, Search
from tests.chaos.model.snapshots import Snapshot
from tests.chaos.model.sweeps import Sweep
from tests.chaos.model.world import SLOTS, Operation
from tests.chaos.model.writes import Condition, Deletes, Draft, PatchDraft, Updates, Writes

KILL_EVERY = 100
LANES = 4
_DOCUMENTS = 50
_INDEX_KINDS = ("auto", "hnsw", "flat", "hnsw_sq8", "ivf_sq8", "ivf_pq", "HNSW16,SQ8")
_SIMILARITIES = (collection_pb2.SIMILARITY_COSINE, collection_pb2.SIMILARITY_DOT)
_READERS = ("reader 0", "reader 1")


def sequence(seed: int, *, full_disks: bool) -> Iterator[Operation | End]:
    """Endless.

    The first operations create collections; then each block of KILL_EVERY has one kill somewhere
    in it, and in every second one the disk is full for a while, often meanwhile.
    """
    block = 0
    while True:
        chosen = random.Random(f"{seed}/{block}")
        kill_at = chosen.randrange(KILL_EVERY // 2, KILL_EVERY)
        for at in range(KILL_EVERY):
            if block == 0 and at < len(SLOTS):
                yield _create(chosen, slot=at)
            elif full_disks and block % 2 and at == kill_at - 5:
                yield FullDisk("disk", chosen.random())
            elif at == kill_at:
                yield _kill(chosen)
            else:
                yield _any(chosen)
        block += 1


def _any(chosen: random.Random) -> Operation | End:
    makers: dict[Callable[[random.Random], Operation | End], float] = {
        _writes: 40,
        _updates: 8,
        _deletes: 7,
        _sweep: 1,
        _snapshot: 1.5,
        _search: 30,
        _get: 5,
        _check: 3,
        _list: 2,
        _create_any: 2,
        _drop: 0.5,
        _stop: 0.2,
    }
    (make,) = chosen.choices(list(makers), list(makers.values()))
    return make(chosen)


def _writes(chosen: random.Random) -> Writes:
    lane = chosen.randrange(LANES)
    many = chosen.choice((1, 1, 2, 5, 12))
    drafts = tuple(_draft(chosen, lane) for _ in range(many))
    return Writes(f"writer {lane}", _slot(chosen), drafts)


def _draft(chosen: random.Random, lane: int) -> Draft:
    keep = chosen.random() < 0.2
    same = keep and chosen.random() < 0.8
    return Draft(
        document=_document(chosen, lane),
        content=None if same else chosen.randrange(CONTENTS),
        metadata=chosen.randrange(10_000),
        keep=keep,
        condition=_condition(chosen),
        lifetime_seconds=_lifetime(chosen),
    )


def _updates(chosen: random.Random) -> Updates:
    lane = chosen.randrange(LANES)
    drafts = tuple(_patch(chosen, lane) for _ in range(chosen.choice((1, 1, 3, 10))))
    return Updates(f"writer {lane}", _slot(chosen), drafts)


def _patch(chosen: random.Random, lane: int) -> PatchDraft:
    return PatchDraft(
        document=_document(chosen, lane),
        metadata=_with_fields(chosen),
        condition=_condition(chosen),
        lifetime_seconds=_lifetime(chosen),
        forever=chosen.random() < 0.1,
    )


def _with_fields(chosen: random.Random) -> int:
    """Metadata that is not empty."""
    while True:
        seed = chosen.randrange(10_000)
        if metadata(seed):
            return seed


def _condition(chosen: random.Random) -> Condition:
    return chosen.choices((Condition.NONE, Condition.RIGHT, Condition.WRONG), (80, 15, 5))[0]


def _lifetime(chosen: random.Random) -> float | None:
    """Few expire, some of them before their write has come."""
    return chosen.choice((-1.0, 0.0, 0.3, 1.0, 3600.0)) if chosen.random() < 0.08 else None


def _deletes(chosen: random.Random) -> Deletes:
    lane = chosen.randrange(LANES)
    many = chosen.choice((1, 2, 8))
    documents = tuple(_document(chosen, lane) for _ in range(many))
    return Deletes(f"writer {lane}", _slot(chosen), documents)


def _sweep(chosen: random.Random) -> Sweep:
    return Sweep("sweeper", _slot(chosen), condition(chosen), count_only=chosen.random() < 0.5)


def _snapshot(chosen: random.Random) -> Snapshot:
    return Snapshot("snapshots", _slot(chosen))


def _search(chosen: random.Random) -> Search:
    queries = chosen.choice((1, 1, 3, 8))
    words = chosen.random() < 0.4
    dense = not words or chosen.random() < 0.5
    return Search(
        lane=chosen.choice(_READERS),
        slot=_slot(chosen),
        vectors=tuple(chosen.randrange(10_000) for _ in range(queries)) if dense else (),
        words=tuple(" ".join(chosen.choices(WORDS, k=chosen.randint(1, 3))) for _ in range(queries))
        if words
        else (),
        candidates=chosen.choice((1, 10, 10, 100, 1000)),
        exact=chosen.random() < 0.7,
        consistency=chosen.choice((EVENTUAL, SESSION, STRONG, STRONG)),
        documents_with_text=chosen.choice((None, None, 0, 3)),
        shard=chosen.choice((None, None, None, chosen.randrange(8))),
        condition=condition(chosen) if chosen.random() < 0.4 else None,
    )


def _get(chosen: random.Random) -> Get:
    document = _document(chosen, chosen.randrange(LANES))
    return Get(chosen.choice(_READERS), _slot(chosen), document)


def _check(chosen: random.Random) -> Check:
    documents = tuple(dict.fromkeys(_document(chosen, chosen.randrange(LANES)) for _ in range(20)))
    return Check(chosen.choice(_READERS), _slot(chosen), documents)


def _list(chosen: random.Random) -> ListAll:
    return ListAll(chosen.choice(_READERS), _slot(chosen), chosen.choice((7, 50, 1000)))


def _create_any(chosen: random.Random) -> Create:
    return _create(chosen, _slot(chosen))


def _create(chosen: random.Random, slot: int) -> Create:
    return Create(
        lane="keeper",
        slot=slot,
        definition=Definition(
            shards=chosen.choice((1, 2, 3)),
            index_kind=chosen.choice(_INDEX_KINDS),
            similarity=chosen.choice(_SIMILARITIES),
            lexical=chosen.random() < 0.8,
            language=chosen.choice(("none", "en", "de")),
            schema=chosen.random() < 0.8,
        ),
    )


def _drop(chosen: random.Random) -> Drop:
    return Drop("keeper", _slot(chosen))


def _kill(chosen: random.Random) -> End:
    aims: Sequence[Aim] = list(Aim)
    return End(
        kill=True,
        aim=chosen.choices(aims, (35, 18, 20, 15, 5, 7))[0],
        delay_seconds=chosen.random() * 0.3,
        damage=_damage(chosen),
        number=chosen.randrange(2**32),
    )


def _stop(chosen: random.Random) -> End:
    return End(False, Aim.SOON, 0.0, _damage(chosen), chosen.randrange(2**32))


def _damage(chosen: random.Random) -> Damage:
    kinds: Sequence[Damage] = list(Damage)
    return chosen.choices(kinds, (34, 25, 10, 5, 5, 4, 4, 5, 4, 4))[0]


def _slot(chosen: random.Random) -> int:
    return chosen.choices(range(len(SLOTS)), (5, 3, 2, 1))[0]


def _document(chosen: random.Random, lane: int) -> str:
    """A document belongs to a lane, so that it is known which of its writes was last."""
    return f"w{lane}-{chosen.randrange(_DOCUMENTS)}"
