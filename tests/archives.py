"""Archives that tests unpack."""

import tarfile
from pathlib import Path
from typing import IO


def unpack(archive: Path | IO[bytes], folder: Path) -> None:
    """Into a folder, as plain data where Python can tell: 3.11.2, which is Debian's, cannot."""
    name, file = (archive, None) if isinstance(archive, Path) else (None, archive)
    with tarfile.open(name, fileobj=file) as opened:
        opened.extraction_filter = getattr(tarfile, "data_filter", None)
        opened.extractall(folder)
