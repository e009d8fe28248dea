"""What happens to files while nothing runs: all of it must be noticed, and mended."""

import random
import shutil
from enum import Enum
from pathlib import Path

_TORN_BYTES = 5000


class Damage(Enum):
    NONE = "nothing"
    FLIPPED_BIT = "a flipped bit"
    CUT = "a file cut short"
    LOST = "a lost file"
    LOST_SHARD = "a lost folder of a shard"
    LOST_ALL = "all derived files lost"
    SPOILED_SNAPSHOT = "all derived files lost and a flipped bit in a snapshot"
    EXCHANGED = "a file of another shard"
    LEFT_OVER = "half-written files"
    TORN_LOG = "a torn end of the database's log"


def damage(folder: Path, snapshots: Path, kind: Damage, number: int) -> str:
    """Damages files of a data folder and its snapshots; says which. `number` chooses."""
    chosen = random.Random(number)
    if kind is Damage.NONE:
        return ""
    if kind is Damage.TORN_LOG:
        return _tear(folder / "store.sqlite3-wal", chosen)
    # The store itself is the truth, and no part of this; the rest is derived from it.
    if kind in (Damage.LOST_ALL, Damage.SPOILED_SNAPSHOT):
        spoiled = snapshots if kind is Damage.SPOILED_SNAPSHOT else None
        return _lose_all(folder / "segments", spoiled, chosen)
    files = sorted(path for path in (folder / "segments").rglob("*") if path.is_file())
    if not files:
        return "no files"
    file = chosen.choice(files)
    if kind is Damage.FLIPPED_BIT:
        _flip(file, chosen)
    elif kind is Damage.CUT:
        with file.open("r+b") as opened:
            opened.truncate(chosen.randrange(max(1, file.stat().st_size)))
    elif kind is Damage.LOST:
        file.unlink()
    elif kind is Damage.LOST_SHARD:
        shutil.rmtree(file.parent)
    elif kind is Damage.EXCHANGED:
        _exchange(file, files, chosen)
    else:
        (file.parent / "left.building").mkdir(exist_ok=True)
        (file.parent / "left.building" / "vectors.npy").write_bytes(chosen.randbytes(100))
        (file.parent / "manifest.json.tmp").write_bytes(b'{"format": 1, "gener')
    return str(file.relative_to(folder))


def _lose_all(segments: Path, spoiled: Path | None, chosen: random.Random) -> str:
    """What is left is the store, and snapshots, of which one file may be damaged."""
    shutil.rmtree(segments, ignore_errors=True)
    kept = sorted(path for path in spoiled.rglob("*") if path.is_file()) if spoiled else []
    if kept:
        _flip(chosen.choice(kept), chosen)
    return segments.name


def _flip(file: Path, chosen: random.Random) -> None:
    content = bytearray(file.read_bytes())
    if content:
        content[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)
        file.write_bytes(content)


def _exchange(file: Path, files: list[Path], chosen: random.Random) -> None:
    """Puts a file of the same kind in its place; of words sometimes all of them."""
    other = chosen.choice([other for other in files if other.suffix == file.suffix])
    words = file.parent.name == other.parent.name == "lexical"
    if words and file.parent != other.parent and chosen.random() < 0.3:
        shutil.rmtree(file.parent)
        shutil.copytree(other.parent, file.parent)
    elif file != other:
        shutil.copyfile(other, file)


def _tear(log: Path, chosen: random.Random) -> str:
    """What a crash leaves of pages that were on their way: bytes that no commit vouches for."""
    if not log.exists():
        return "no log"
    with log.open("ab") as opened:
        opened.write(chosen.randbytes(chosen.randrange(_TORN_BYTES)))
    return log.name
