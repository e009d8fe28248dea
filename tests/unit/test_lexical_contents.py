"""What a lexical index consists of: no file of another one is taken for its own."""

import shutil
from pathlib import Path

import pytest

from services.retriever.lexical.index import LexicalIndex
from services.retriever.store.records import TextChange
from sirdar.errors import DataLoss


def write(index: LexicalIndex, first: int, count: int, word: str) -> None:
    changes = [
        TextChange(key, key, (key,), "", f"{word} {word}", ((0, 2 * len(word) + 1),))
        for key in range(first, first + count)
    ]
    index.add(changes)
    index.commit()


def index_of(folder: Path, word: str) -> LexicalIndex:
    """One that is closed again; those of other words have files of the same sizes."""
    index = LexicalIndex(folder, 1, 0, "none")
    index.open_writer()
    write(index, 1, 3, word)
    index.add([TextChange(1, 1, (), "", "", ())])
    index.commit()
    index.record(3)
    index.close_writer(merge=True)
    return index


def again(index: LexicalIndex) -> LexicalIndex:
    """As the next process finds it."""
    return LexicalIndex(index.path, 1, 0, "none")


@pytest.mark.parametrize("ending", ["term", "idx", "fast", "fieldnorm", "store", "del"])
def test_a_file_of_another_index_is_not_served(tmp_path: Path, ending: str) -> None:
    mine = index_of(tmp_path / "mine", "apple")
    other = LexicalIndex(tmp_path / "other", 1, 0, "none")
    other.open_writer()
    write(other, 4, 5, "berry")
    other.add([TextChange(4, 5, (), "", "", ())])
    other.commit()
    other.close_writer(merge=True)
    assert again(mine).is_whole()
    assert again(mine).open() is not None
    (file,) = mine.path.glob(f"*.{ending}")
    (source,) = other.path.glob(f"*.{ending}")
    # Not in its place: what reads it still has it mapped.
    shutil.copyfile(source, tmp_path / "copy").rename(file)
    assert not again(mine).is_whole()
    with pytest.raises(DataLoss):
        again(mine).open()
    with pytest.raises(DataLoss):
        again(mine).open_writer()


def test_what_merges_made_counts_once_it_is_vouched_for(tmp_path: Path) -> None:
    index = LexicalIndex(tmp_path, 1, 0, "none")
    index.open_writer()
    write(index, 1, 1, "apple")
    index.record(1)
    for key in range(2, 21):
        write(index, key, 1, "apple")
    index.close_writer(merge=True)
    assert len(list(tmp_path.glob("*.term"))) < 20
    assert not again(index).is_whole()
    index.vouch()
    assert again(index).is_whole()
    assert again(index).covered_seq(20) == 1
    assert again(index).open() is not None


def test_a_manifest_without_its_index_says_nothing(tmp_path: Path) -> None:
    index = index_of(tmp_path, "apple")
    (tmp_path / "meta.json").unlink()
    assert again(index).covered_seq(3) == 0
